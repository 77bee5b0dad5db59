//! Fetching over HTTP from a server that misbehaves on demand.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use holdfast_embedding::{EmbedError, KnownModel, ModelFile, ModelSource, ModelState};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::rig::{Rig, TINY, within};

/// What the server does with one request for the weights. Other files it always serves.
#[derive(Clone, Copy)]
enum Act {
    Serve,
    /// Serves from the start although a range is asked for.
    ServeWhole,
    /// Closes the connection after so many bytes of the body.
    BreakAfter(usize),
    /// Sends so many bytes and then nothing more.
    StallAfter(usize),
    /// Sends the right number of wrong bytes.
    Garble,
    /// Sends more than there is.
    TooMuch,
    Status(u16),
}

/// What a request showed to be let in.
type Shown = Arc<Mutex<Vec<Option<String>>>>;

/// A hub with one model.
struct Hub {
    address: String,
    /// Range of each request for the weights, in order of arrival.
    ranges: Arc<Mutex<Vec<Option<usize>>>>,
    /// What each request showed.
    shown: Shown,
    _stop: DropGuard,
}

impl Hub {
    /// Serves a folder; the script says what happens to requests for the weights, which are served when it has run out.
    async fn start(folder: &Path, script: &[Act]) -> anyhow::Result<Hub> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(script.iter().copied().collect::<VecDeque<Act>>()));
        let stop = CancellationToken::new();
        let shown = Shown::default();
        let shown_here = Arc::clone(&shown);
        let (seen, stopped, folder) = (Arc::clone(&ranges), stop.clone(), folder.to_owned());
        let mut connections = tokio::task::JoinSet::new();
        let serve = async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer(
                    stream,
                    folder.clone(),
                    Arc::clone(&script),
                    (Arc::clone(&seen), Arc::clone(&shown_here)),
                ));
            }
        };
        let mut server = tokio::task::JoinSet::new();
        server.spawn(stopped.run_until_cancelled_owned(serve));
        server.detach_all();
        Ok(Hub { address, ranges, shown, _stop: stop.drop_guard() })
    }

    fn ranges(&self) -> Vec<Option<usize>> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(
    mut stream: TcpStream,
    folder: PathBuf,
    script: Arc<Mutex<VecDeque<Act>>>,
    (ranges, shown): (Arc<Mutex<Vec<Option<usize>>>>, Shown),
) -> anyhow::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    let Some((_, file)) = head.split(' ').nth(1).and_then(|path| path.split_once("/owner/tiny/resolve/abc/")) else {
        anyhow::bail!("asked for something else: {head}");
    };
    let authorization =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("authorization: ").map(str::to_owned));
    shown.lock().unwrap_or_else(PoisonError::into_inner).push(authorization);
    let range = head.lines().find_map(|line| {
        line.to_ascii_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
    });
    let act = if file == "model.safetensors" {
        ranges.lock().unwrap_or_else(PoisonError::into_inner).push(range);
        script.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(Act::Serve)
    } else {
        Act::Serve
    };
    let mut content = fs::read(folder.join(file))?;
    let total = content.len();
    let start = if matches!(act, Act::ServeWhole) { 0 } else { range.unwrap_or(0) };
    let mut body = content.split_off(start);
    let status = match act {
        Act::Status(status) => {
            body.clear();
            status
        }
        _ if start > 0 => 206,
        _ => 200,
    };
    match act {
        Act::Garble => body.fill(b'x'),
        Act::TooMuch => body.extend(vec![b'x'; 1000]),
        _ => {}
    }
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{total}\r\nConnection: close\r\n\r\n",
        body.len(),
        total - 1
    );
    stream.write_all(head.as_bytes()).await?;
    match act {
        Act::BreakAfter(bytes) => stream.write_all(&body[..bytes]).await?,
        Act::StallAfter(bytes) => {
            stream.write_all(&body[..bytes]).await?;
            stream.flush().await?;
            // Until the client gives up.
            stream.read_u8().await?;
        }
        _ => stream.write_all(&body).await?,
    }
    stream.shutdown().await?;
    Ok(())
}

/// The tiny model as one that can be fetched, and the folder with its files.
async fn known_tiny() -> anyhow::Result<(KnownModel, PathBuf, tempfile::TempDir)> {
    let (rig, _) = Rig::with_tiny(|_| Ok(())).await?;
    let files: Vec<ModelFile> = rig.models.verify(TINY)?.files;
    let directory = rig.stop().await?;
    let known = KnownModel {
        name: TINY.to_owned(),
        repository: "owner/tiny".to_owned(),
        commit: "abc".to_owned(),
        package: None,
        files,
    };
    let folder = directory.path().join("source");
    Ok((known, folder, directory))
}

/// Pulls from a hub with the given script, with another folder as the second source where asked for.
async fn pull(script: &[Act], second: Option<PathBuf>) -> anyhow::Result<(Rig, Result<(), EmbedError>, Hub)> {
    let (known, folder, keep) = known_tiny().await?;
    let hub = Hub::start(&folder, script).await?;
    let address = hub.address.clone();
    let rig = Rig::start(|config| {
        config.default_model = "another".to_owned();
        config.known_models = vec![known];
        config.hub_endpoint = format!("{address}/");
        config.sources = vec![ModelSource::Hub];
        config.sources.extend(second.map(ModelSource::Folder));
        config.fetch.idle_timeout = Duration::from_millis(500);
    })?;
    let pulled = within("the pull", rig.models.pull(TINY, None, |_| {})).await?.map(|_| ());
    drop(keep);
    Ok((rig, pulled, hub))
}

fn no_leftovers(rig: &Rig) -> anyhow::Result<()> {
    for entry in fs::read_dir(rig.file(TINY, ""))? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        anyhow::ensure!(!name.ends_with(".partial"), "{name} is left over");
    }
    Ok(())
}

/// A pull that succeeds, with the ranges of its requests for the weights.
async fn check(script: &[Act], ranges: &[Option<usize>]) -> anyhow::Result<()> {
    let (rig, pulled, hub) = pull(script, None).await?;
    pulled?;
    assert_eq!(hub.ranges(), ranges);
    rig.models.verify(TINY)?;
    no_leftovers(&rig)?;
    let embedder = rig.models.get(TINY)?;
    within("the model", embedder.ready()).await??;
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_plain_transfer() -> anyhow::Result<()> {
    check(&[], &[None]).await
}

#[tokio::test]
async fn a_broken_transfer_is_resumed() -> anyhow::Result<()> {
    check(&[Act::BreakAfter(1000), Act::BreakAfter(500)], &[None, Some(1000), Some(1500)]).await
}

#[tokio::test]
async fn a_stalled_transfer_is_resumed() -> anyhow::Result<()> {
    check(&[Act::StallAfter(1000)], &[None, Some(1000)]).await
}

#[tokio::test]
async fn a_server_that_cannot_resume_starts_over() -> anyhow::Result<()> {
    check(&[Act::BreakAfter(1000), Act::ServeWhole], &[None, Some(1000)]).await?;
    check(&[Act::BreakAfter(1000), Act::Status(416)], &[None, Some(1000), None]).await
}

#[tokio::test]
async fn server_errors_are_tried_again() -> anyhow::Result<()> {
    check(&[Act::Status(503), Act::Status(429)], &[None, None, None]).await
}

#[tokio::test]
async fn wrong_bytes_are_thrown_away_and_fetched_again() -> anyhow::Result<()> {
    check(&[Act::Garble], &[None, None]).await
}

#[tokio::test]
async fn wrong_bytes_to_the_end_install_nothing() -> anyhow::Result<()> {
    let (rig, pulled, hub) = pull(&[Act::Garble; 3], None).await?;
    let Err(EmbedError::FetchFailed { tried, .. }) = pulled else { anyhow::bail!("{pulled:?}") };
    assert!(tried.len() == 1 && tried[0].reason.contains("SHA-256"), "{tried:?}");
    assert_eq!(hub.ranges(), [None; 3]);
    assert!(!rig.file(TINY, "model.safetensors").exists());
    no_leftovers(&rig)?;
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_not_asked_for_twice() -> anyhow::Result<()> {
    for act in [Act::Status(404), Act::Status(401), Act::TooMuch] {
        let (_known, folder, _keep) = known_tiny().await?;
        let (rig, pulled, hub) = pull(&[act], Some(folder)).await?;
        pulled?;
        assert_eq!(hub.ranges(), [None], "the folder has the rest");
        rig.models.verify(TINY)?;
        rig.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_refused_connection_goes_to_the_next_source_at_once() -> anyhow::Result<()> {
    let (known, folder, _keep) = known_tiny().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    drop(listener);
    for endpoint in [format!("http://{address}"), "http://no-such-host.invalid".to_owned()] {
        let rig = Rig::start(|config| {
            config.default_model = "another".to_owned();
            config.known_models = vec![known.clone()];
            config.hub_endpoint = endpoint;
            config.sources = vec![ModelSource::Hub, ModelSource::Folder(folder.clone())];
            // A second attempt at the hub would have to wait for this, and the test with it.
            config.fetch.backoff_min = Duration::from_secs(3600);
            config.fetch.backoff_max = Duration::from_secs(3600);
        })?;
        let sources = Mutex::new(Vec::new());
        let note = |progress: holdfast_embedding::PullProgress| {
            sources.lock().unwrap_or_else(PoisonError::into_inner).push(progress.source);
        };
        within("the pull", rig.models.pull(TINY, None, note)).await??;
        let mut sources = sources.into_inner()?;
        sources.dedup();
        assert_eq!(sources.len(), 2, "{sources:?}");
        rig.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn every_source_is_named_when_all_fail() -> anyhow::Result<()> {
    let (rig, pulled, _hub) = pull(&[Act::Status(500); 3], Some(PathBuf::from("/no/such/folder"))).await?;
    let Err(error) = pulled else { anyhow::bail!("pulled") };
    assert!(error.is_transient());
    let told = error.to_string();
    assert!(told.contains("500") && told.contains("/no/such/folder"), "{told}");
    assert!(error.hint().is_some_and(|hint| hint.contains("--from FOLDER")));
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_pull_that_was_given_up_is_resumed() -> anyhow::Result<()> {
    let (known, folder, _keep) = known_tiny().await?;
    let hub = Hub::start(&folder, &[Act::StallAfter(2000)]).await?;
    let rig = Rig::start(|config| {
        config.default_model = "another".to_owned();
        config.known_models = vec![known];
        config.hub_endpoint = hub.address.clone();
        config.sources = vec![ModelSource::Hub];
    })?;
    let partial = rig.file(TINY, "model.safetensors.partial");
    let arrived = CancellationToken::new();
    let note = |_| {
        if fs::metadata(&partial).is_ok_and(|found| found.len() == 2000) {
            arrived.cancel();
        }
    };
    let pull = rig.models.pull(TINY, None, note);
    let given_up = arrived.run_until_cancelled(pull);
    assert!(within("the transfer to stall", given_up).await?.is_none());
    within("the second pull", rig.models.pull(TINY, None, |_| {})).await??;
    assert_eq!(hub.ranges(), [None, Some(2000)]);
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_background_load_fetches_fails_and_recovers_by_itself() -> anyhow::Result<()> {
    let (known, folder, _keep) = known_tiny().await?;
    let hub = Hub::start(&folder, &[Act::Status(500); 6]).await?;
    let rig = Rig::start(|config| {
        config.known_models = vec![known];
        config.hub_endpoint = hub.address.clone();
        config.sources = vec![ModelSource::Hub];
    })?;
    let embedder = rig.models.get(TINY)?;
    let mut state = embedder.watch();
    let failed =
        within("a failure", state.wait_for(|state| matches!(state, ModelState::Failed { .. }))).await??.clone();
    let ModelState::Failed { reason, hint, .. } = failed else { anyhow::bail!("not failed") };
    assert!(reason.contains("500") && hint.is_some(), "{reason}");
    within("the model", embedder.ready()).await??;
    assert_eq!(hub.ranges().len(), 7, "two loads of three attempts, then one that succeeds");
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_damaged_known_model_repairs_itself_at_start() -> anyhow::Result<()> {
    let (known, folder, _keep) = known_tiny().await?;
    let hub = Hub::start(&folder, &[]).await?;
    let configure = |config: &mut holdfast_embedding::Config| {
        config.known_models = vec![known.clone()];
        config.hub_endpoint = hub.address.clone();
        config.sources = vec![ModelSource::Hub];
    };
    let rig = Rig::start(configure)?;
    within("the model", rig.models.get(TINY)?.ready()).await??;
    fs::File::options().write(true).open(rig.file(TINY, "model.safetensors"))?.set_len(100)?;
    let rig = Rig::start_in(rig.stop().await?, configure)?;
    within("the repaired model", rig.models.get(TINY)?.ready()).await??;
    rig.models.verify(TINY)?;
    assert_eq!(hub.ranges().len(), 2);
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_pull_wakes_a_load_that_waits() -> anyhow::Result<()> {
    let (known, folder, _keep) = known_tiny().await?;
    let rig = Rig::start(|config| {
        config.known_models = vec![known];
        config.fetch.backoff_min = Duration::from_secs(3600);
        config.fetch.backoff_max = Duration::from_secs(3600);
    })?;
    let embedder = rig.models.get(TINY)?;
    let mut state = embedder.watch();
    within("a failure", state.wait_for(|state| matches!(state, ModelState::Failed { .. }))).await??;
    rig.models.pull(TINY, Some(ModelSource::Folder(folder)), |_| {}).await?;
    within("the model", embedder.ready()).await??;
    rig.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_at_the_same_time_fetch_once() -> anyhow::Result<()> {
    let (known, folder, _keep) = known_tiny().await?;
    let hub = Hub::start(&folder, &[]).await?;
    let shared = tempfile::tempdir()?;
    let configure = |config: &mut holdfast_embedding::Config| {
        config.models_dir = shared.path().to_owned();
        config.default_model = "another".to_owned();
        config.known_models = vec![known.clone()];
        config.hub_endpoint = hub.address.clone();
        config.sources = vec![ModelSource::Hub];
    };
    let rigs = [Rig::start(configure)?, Rig::start(configure)?];
    let (first, second) = within("both pulls", async {
        tokio::join!(rigs[0].models.pull(TINY, None, |_| {}), rigs[1].models.pull(TINY, None, |_| {}))
    })
    .await?;
    assert_eq!(first?, second?);
    assert_eq!(hub.ranges(), [None], "the second found everything there");
    for rig in rigs {
        rig.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_is_shown_its_token_and_nobody_sees_it_in_print() -> anyhow::Result<()> {
    let (known, folder, _keep) = known_tiny().await?;
    for (token, shown) in [(None, None), (Some("hf_Token"), Some("bearer hf_token".to_owned()))] {
        let hub = Hub::start(&folder, &[]).await?;
        let rig = Rig::start(|config| {
            config.default_model = "another".to_owned();
            config.known_models = vec![known.clone()];
            config.hub_endpoint = hub.address.clone();
            config.hub_token = token.map(Into::into);
            config.sources = vec![ModelSource::Hub];
            assert!(!format!("{config:?}").contains("hf_Token"));
        })?;
        within("the pull", rig.models.pull(TINY, None, |_| {})).await??;
        let seen = hub.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert!(!seen.is_empty() && seen.iter().all(|seen| *seen == shown), "{seen:?}");
        rig.stop().await?;
    }
    Ok(())
}
