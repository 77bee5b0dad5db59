//! Models that another server runs, with a server that misbehaves on demand.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use holdfast_embedding::{
    Cut, EmbedError, Input, ModelState, Overlong, Priority, Purpose, RemoteApi, RemoteModel, Request,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::rig::{Rig, within};

const NAME: &str = "far";

/// What the server does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    /// Answers with vectors of this many numbers, made by a model of this seed.
    Serve(usize, u8),
    Status(u16),
    /// That once, and then vectors.
    Once(u16),
    /// Refuses texts that have this word.
    Refuse(&'static str),
    /// Answers with something else.
    Garbage,
    /// One vector too few.
    TooFew,
    /// A number that JSON can say and a float cannot hold.
    Infinite,
    /// Nothing, for ever.
    Silence,
}

struct Server {
    address: String,
    act: Arc<Mutex<Act>>,
    requests: Arc<AtomicUsize>,
    /// The last request's head and body.
    last: Arc<Mutex<(String, Value)>>,
    _stop: DropGuard,
}

impl Server {
    async fn start() -> anyhow::Result<Server> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = Server {
            address: format!("http://{}", listener.local_addr()?),
            act: Arc::new(Mutex::new(Act::Serve(16, 1))),
            requests: Arc::default(),
            last: Arc::default(),
            _stop: CancellationToken::new().drop_guard(),
        };
        let stop = CancellationToken::new();
        let (act, requests, last) = (Arc::clone(&server.act), Arc::clone(&server.requests), Arc::clone(&server.last));
        let stopped = stop.clone();
        let mut connections = tokio::task::JoinSet::new();
        let serve = async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer(stream, Arc::clone(&act), Arc::clone(&requests), Arc::clone(&last)));
            }
        };
        let mut task = tokio::task::JoinSet::new();
        task.spawn(stopped.run_until_cancelled_owned(serve));
        task.detach_all();
        Ok(Server { _stop: stop.drop_guard(), ..server })
    }

    fn act(&self, act: Act) {
        *self.act.lock().unwrap_or_else(PoisonError::into_inner) = act;
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn last(&self) -> (String, Value) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn model(&self, api: RemoteApi) -> RemoteModel {
        RemoteModel {
            api,
            url: self.address.clone(),
            model: Some("theirs".to_owned()),
            key_file: None,
            window: 64,
            query_prefix: "query: ".to_owned(),
            document_prefix: String::new(),
        }
    }
}

/// Answers one request and closes.
async fn answer(
    mut stream: TcpStream,
    act: Arc<Mutex<Act>>,
    requests: Arc<AtomicUsize>,
    last: Arc<Mutex<(String, Value)>>,
) -> anyhow::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head)?.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
    let mut body = vec![0; length.parse()?];
    stream.read_exact(&mut body).await?;
    let body: Value = serde_json::from_slice(&body)?;
    requests.fetch_add(1, Ordering::SeqCst);
    let is_openai = head.starts_with("post /embeddings ");
    let texts = body[if is_openai { "input" } else { "inputs" }].as_array().context("no texts")?.clone();
    *last.lock().unwrap_or_else(PoisonError::into_inner) = (head, body);
    let act = {
        let mut script = act.lock().unwrap_or_else(PoisonError::into_inner);
        let now = *script;
        if matches!(now, Act::Once(_)) {
            *script = Act::Serve(16, 1);
        }
        now
    };
    let (status, answer) = match act {
        Act::Serve(width, seed) => (200, vectors(is_openai, texts.iter().map(|text| vector(text, width, seed)))),
        Act::Refuse(word) if texts.iter().any(|text| text.to_string().contains(word)) => {
            (413, json!({"error": {"message": "too long"}}))
        }
        Act::Refuse(_) => (200, vectors(is_openai, texts.iter().map(|text| vector(text, 16, 1)))),
        Act::Status(status) | Act::Once(status) => (status, json!({"error": {"message": "the server's\nown words"}})),
        Act::Garbage => (200, json!({"data": "none"})),
        Act::TooFew => (200, vectors(is_openai, texts.iter().skip(1).map(|text| vector(text, 16, 1)))),
        Act::Infinite => (200, vectors(is_openai, texts.iter().map(|_| vec![1e39; 16]))),
        Act::Silence => return std::future::pending().await,
    };
    let answer = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status} Told\r\nContent-Length: {}\r\nConnection: close\r\nRetry-After: 0\r\n\r\n",
        answer.len()
    );
    stream.write_all(head.as_bytes()).await?;
    Ok(stream.write_all(answer.as_bytes()).await?)
}

fn vectors(is_openai: bool, vectors: impl Iterator<Item = Vec<f64>>) -> Value {
    if !is_openai {
        return vectors.collect();
    }
    // In no order: the index says which is which.
    let mut data: Vec<Value> =
        vectors.enumerate().map(|(index, vector)| json!({"index": index, "embedding": vector})).collect();
    data.reverse();
    json!({"data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}})
}

/// A unit vector that depends on the text and the model.
fn vector(text: &Value, width: usize, seed: u8) -> Vec<f64> {
    let mut random = fastrand::Rng::with_seed(
        text.as_str()
            .unwrap_or_default()
            .bytes()
            .fold(u64::from(seed), |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
            | 1,
    );
    let numbers: Vec<f64> = (0..width).map(|_| random.f64() - 0.5).collect();
    let length = numbers.iter().map(|number| number * number).sum::<f64>().sqrt();
    numbers.iter().map(|number| number / length).collect()
}

fn rig() -> anyhow::Result<Rig> {
    Rig::start(|config| {
        config.deadline = Duration::from_secs(2);
        config.remote_pause = Duration::from_millis(300);
    })
}

async fn embed(rig: &Rig, text: &str) -> Result<Vec<f32>, EmbedError> {
    let texts = vec![text.to_owned()];
    let vectors = rig.models.get(NAME)?.embed(texts, Purpose::Document, Priority::Interactive).await?;
    Ok(vectors.into_iter().flatten().collect())
}

fn expected(text: &str) -> Vec<f32> {
    vector(&json!(text), 16, 1).into_iter().map(|number| number as f32).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_embedded_elsewhere_over_either_interface() -> anyhow::Result<()> {
    for api in [RemoteApi::OpenAi, RemoteApi::Tei] {
        let (server, rig) = (Server::start().await?, rig()?);
        let key = rig.directory.path().join("key");
        std::fs::write(&key, "sk-secret\n")?;
        // Others on the machine could read it.
        std::fs::set_permissions(&key, Permissions::from_mode(0o644))?;
        let loose = RemoteModel { key_file: Some(key.clone()), ..server.model(api) };
        let refused = rig.models.connect(NAME, loose).await;
        let told = refused.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(told.contains("mode 0644") && told.contains("chmod 600"), "{told}");
        std::fs::set_permissions(&key, Permissions::from_mode(0o600))?;
        rig.models.connect(NAME, RemoteModel { key_file: Some(key), ..server.model(api) }).await?;
        let embedder = rig.models.get(NAME)?;
        within("the model", embedder.ready()).await??;
        let texts: Vec<String> = (0..100).map(|number| format!("text {number}")).collect();
        let vectors = embedder.embed(texts.clone(), Purpose::Document, Priority::Bulk).await?;
        for (text, vector) in texts.iter().zip(vectors) {
            ensure!(vector == expected(text), "{text}");
        }
        let (head, body) = server.last();
        ensure!(head.contains("authorization: bearer sk-secret"), "{head}");
        ensure!(api == RemoteApi::Tei || body["model"] == "theirs", "{body}");
        embedder.embed(vec!["moon".to_owned()], Purpose::Query, Priority::Interactive).await?;
        ensure!(server.last().1.to_string().contains("query: moon"));
        let space = embedder.space()?;
        ensure!((space.dimensions, space.window, space.normalised) == (16, 64, true), "{space:?}");
        rig.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_before_is_not_sent_again() -> anyhow::Result<()> {
    let (server, rig) = (Server::start().await?, rig()?);
    rig.models.connect(NAME, server.model(RemoteApi::OpenAi)).await?;
    within("the model", rig.models.get(NAME)?.ready()).await??;
    embed(&rig, "moon").await?;
    let before = server.requests();
    ensure!(embed(&rig, "moon").await? == expected("moon"));
    ensure!(server.requests() == before);
    rig.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_too_long_is_cut_or_refused_here() -> anyhow::Result<()> {
    let (server, rig) = (Server::start().await?, rig()?);
    rig.models.connect(NAME, server.model(RemoteApi::Tei)).await?;
    let embedder = rig.models.get(NAME)?;
    within("the model", embedder.ready()).await??;
    let long = format!("first {} last", "moon ".repeat(500));
    for (overlong, kept, lost) in
        [(Overlong::Cut(Cut::End), "first", "last"), (Overlong::Cut(Cut::Start), "last", "first")]
    {
        let texts = Request::of(vec![long.clone()], Purpose::Plain, Priority::Interactive);
        let answer = embedder.answer(Request { overlong, ..texts }).await?;
        ensure!(answer[0].cut && answer[0].tokens == 64, "{answer:?}");
        let sent = server.last().1.to_string();
        ensure!(sent.contains(kept) && !sent.contains(lost) && sent.len() < 400, "{sent}");
    }
    let refused = Request::of(vec![long], Purpose::Plain, Priority::Interactive);
    let refused = embedder.answer(Request { overlong: Overlong::Refuse, ..refused }).await;
    ensure!(matches!(refused, Err(EmbedError::TooLong { .. })), "{refused:?}");
    let ids =
        Request { inputs: vec![Input::Ids(vec![1])], ..Request::of(vec![], Purpose::Plain, Priority::Interactive) };
    ensure!(matches!(embedder.answer(ids).await, Err(EmbedError::OnlyLocal { .. })));
    rig.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_tried_again_and_what_lasts_is_told() -> anyhow::Result<()> {
    let (server, rig) = (Server::start().await?, rig()?);
    rig.models.connect(NAME, server.model(RemoteApi::OpenAi)).await?;
    within("the model", rig.models.get(NAME)?.ready()).await??;
    for (number, status) in [408, 429, 500, 503].into_iter().enumerate() {
        server.act(Act::Once(status));
        let (before, text) = (server.requests(), format!("text {number}"));
        ensure!(embed(&rig, &text).await? == expected(&text), "{status}");
        ensure!(server.requests() == before + 2, "{status}");
    }
    for (act, reason, words) in [
        (Act::Status(401), "401 Unauthorized", "the server'sown words"),
        (Act::Garbage, "not what this interface answers", ""),
        (Act::TooFew, "number of vectors, or of different widths", ""),
    ] {
        server.act(act);
        let before = server.requests();
        let failed = embed(&rig, "two").await.err().context("it was answered")?;
        ensure!(matches!(&failed, EmbedError::RemoteFailed { is_transient: false, .. }), "{failed:?}");
        // What we say of it and what it says itself are two things: only the first may be told to strangers.
        let source = std::error::Error::source(&failed).map_or(String::new(), ToString::to_string);
        ensure!(failed.to_string().ends_with(reason) && source == words, "{act:?}: {failed}: {source}");
        ensure!(server.requests() == before + 1, "{act:?}");
    }
    server.act(Act::Infinite);
    let failed = embed(&rig, "three").await;
    ensure!(matches!(failed, Err(EmbedError::UnusableVector { .. })), "{failed:?}");
    server.act(Act::Silence);
    let failed = embed(&rig, "four").await;
    ensure!(matches!(failed, Err(EmbedError::Expired { .. } | EmbedError::RemoteFailed { .. })), "{failed:?}");
    rig.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_server_is_left_alone_until_it_answers_the_probes() -> anyhow::Result<()> {
    let (server, rig) = (Server::start().await?, rig()?);
    rig.models.connect(NAME, server.model(RemoteApi::OpenAi)).await?;
    let embedder = rig.models.get(NAME)?;
    within("the model", embedder.ready()).await??;
    server.act(Act::Status(500));
    for attempt in 0..5 {
        ensure!(embed(&rig, &format!("text {attempt}")).await.is_err());
    }
    let mut states = embedder.watch();
    within("the breaker", states.wait_for(|state| matches!(state, ModelState::Failed { .. }))).await??;
    let before = server.requests();
    let refused = embed(&rig, "refused").await;
    ensure!(matches!(refused, Err(EmbedError::NotReady { .. })), "{refused:?}");
    ensure!(server.requests() == before, "it was asked nevertheless");
    server.act(Act::Serve(16, 1));
    within("the recovery", embedder.ready()).await??;
    ensure!(embed(&rig, "again").await? == expected("again"));
    rig.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_behind_the_same_name_is_noticed() -> anyhow::Result<()> {
    let (server, rig) = (Server::start().await?, rig()?);
    rig.models.connect(NAME, server.model(RemoteApi::OpenAi)).await?;
    let embedder = rig.models.get(NAME)?;
    within("the model", embedder.ready()).await??;
    let space = embedder.space()?.fingerprint();
    // While it runs, another width gives it away at once, and nothing gets through until it is the old one again.
    server.act(Act::Serve(8, 1));
    let failed = embed(&rig, "narrow").await.err().context("it was answered")?;
    ensure!(failed.to_string().contains("another model"), "{failed}");
    let mut states = embedder.watch();
    within("the breaker", states.wait_for(|state| matches!(state, ModelState::Failed { .. }))).await??;
    server.act(Act::Serve(16, 1));
    within("the recovery", embedder.ready()).await??;
    ensure!(embedder.space()?.fingerprint() == space);

    // At the next start, the probes do.
    let directory = rig.stop().await?;
    server.act(Act::Serve(16, 2));
    let rig = Rig::start_in(directory, |config| config.remote_pause = Duration::from_millis(300))?;
    let embedder = rig.models.get(NAME)?;
    let mut states = embedder.watch();
    let failed = within("the failure", states.wait_for(|state| matches!(state, ModelState::Failed { .. }))).await??;
    ensure!(failed.to_string().contains("another model"), "{:?}", *failed);
    drop(failed);
    // Connected anew, it is another space.
    rig.models.connect(NAME, server.model(RemoteApi::OpenAi)).await?;
    within("the model", embedder.ready()).await??;
    ensure!(embedder.space()?.fingerprint() != space);
    rig.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_refused_there_fails_alone() -> anyhow::Result<()> {
    let (server, rig) = (Server::start().await?, rig()?);
    rig.models.connect(NAME, server.model(RemoteApi::Tei)).await?;
    let embedder = rig.models.get(NAME)?;
    within("the model", embedder.ready()).await??;
    server.act(Act::Refuse("poison"));
    let others: Vec<String> = (0..20).map(|number| format!("text {number}")).collect();
    let asked: Vec<_> = others.iter().map(|text| embed(&rig, text)).collect();
    let texts = vec!["text 1".to_owned(), "poison".to_owned()];
    let (answers, failed) =
        tokio::join!(futures::future::join_all(asked), embedder.embed(texts, Purpose::Plain, Priority::Interactive),);
    for (text, answer) in others.iter().zip(answers) {
        ensure!(answer? == expected(text), "{text}");
    }
    ensure!(matches!(failed, Err(EmbedError::UnusableVector { index: 1, .. })), "{failed:?}");
    // Known by now, the first is not asked for again; the other's place is still told.
    let texts = vec!["text 1".to_owned(), "poison".to_owned()];
    let failed = embedder.embed(texts, Purpose::Document, Priority::Interactive).await;
    ensure!(matches!(failed, Err(EmbedError::UnusableVector { index: 1, .. })), "{failed:?}");
    ensure!(embed(&rig, "").await.is_ok() && embed(&rig, " \n ").await.is_ok(), "a text without tokens");
    rig.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_moves_is_followed_and_keeps_its_space() -> anyhow::Result<()> {
    let (old, new, rig) = (Server::start().await?, Server::start().await?, rig()?);
    rig.models.connect(NAME, old.model(RemoteApi::OpenAi)).await?;
    let embedder = rig.models.get(NAME)?;
    within("the model", embedder.ready()).await??;
    let space = embedder.space()?.fingerprint();
    old.act(Act::Status(500));
    for attempt in 0..5 {
        ensure!(embed(&rig, &format!("text {attempt}")).await.is_err());
    }
    rig.models.connect(NAME, new.model(RemoteApi::Tei)).await?;
    within("the model where it is now", async {
        while embed(&rig, "moved").await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await?;
    ensure!(new.requests() >= 2 && embedder.space()?.fingerprint() == space);

    // Another model is no other place of this one: it waits for the next start, and what is loaded is left alone.
    old.act(Act::Serve(16, 9));
    rig.models.connect(NAME, old.model(RemoteApi::OpenAi)).await?;
    let before = old.requests();
    ensure!(embed(&rig, "still the same").await? == expected("still the same") && old.requests() == before);
    let rig = Rig::start_in(rig.stop().await?, |_| ())?;
    let embedder = rig.models.get(NAME)?;
    within("the other model", embedder.ready()).await??;
    ensure!(embedder.space()?.fingerprint() != space);
    rig.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_never_work_is_not_connected() -> anyhow::Result<()> {
    let (server, rig) = (Server::start().await?, rig()?);
    let model = || server.model(RemoteApi::OpenAi);
    for wrong in [
        RemoteModel { url: "ftp://there".to_owned(), ..model() },
        RemoteModel { url: "http://".to_owned(), ..model() },
        RemoteModel { window: 0, ..model() },
        RemoteModel { key_file: Some("relative".into()), ..model() },
    ] {
        let refused = rig.models.connect(NAME, wrong).await;
        ensure!(matches!(refused, Err(EmbedError::InvalidRemote { .. })), "{refused:?}");
    }
    let refused = rig.models.connect("../far", model()).await;
    ensure!(matches!(refused, Err(EmbedError::InvalidName { .. })), "{refused:?}");
    let keyless = RemoteModel { key_file: Some(rig.directory.path().join("none")), ..model() };
    ensure!(matches!(rig.models.connect(NAME, keyless).await, Err(EmbedError::RemoteFailed { .. })));
    // A server that says the same of every text is no model.
    for act in [Act::Status(404), Act::Garbage, Act::Infinite] {
        server.act(act);
        let refused = rig.models.connect(NAME, model()).await;
        ensure!(matches!(refused, Err(EmbedError::RemoteFailed { .. })), "{refused:?}");
    }
    ensure!(matches!(rig.models.get(NAME), Err(EmbedError::UnknownModel { .. })));
    rig.stop().await?;
    Ok(())
}
