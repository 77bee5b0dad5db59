//! Providers put in the place of others, and the servers that run for them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Result;
use futures::future::BoxFuture;
use holdfast_coordinator::{CannotRun, ProviderSettings, RunSettings, Runner, Served, TurnError};
use holdfast_testkit::upstream::{Script, Step, Upstream};
use tokio::sync::Semaphore;

use crate::house::{House, STEP, config, provider, turn, word};

/// Runs nothing, and knows what it would run.
#[derive(Debug)]
struct Notes {
    running: Mutex<BTreeMap<String, String>>,
    url: String,
    is_refusing: AtomicBool,
    /// One was asked to start.
    is_asked: AtomicBool,
    /// As many may start.
    starts: Semaphore,
}

impl Notes {
    fn new(url: &str, starts: usize) -> Arc<Self> {
        let (running, starts) = (Mutex::default(), Semaphore::new(starts));
        Arc::new(Self {
            running,
            url: url.to_owned(),
            is_refusing: AtomicBool::new(false),
            is_asked: AtomicBool::new(false),
            starts,
        })
    }

    fn running(&self) -> BTreeMap<String, String> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Runner for Notes {
    fn check<'a>(&'a self, _: &'a RunSettings) -> BoxFuture<'a, Result<(), CannotRun>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn start<'a>(&'a self, name: &'a str, settings: &'a RunSettings) -> BoxFuture<'a, Result<Served, String>> {
        Box::pin(async move {
            if self.is_refusing.load(Ordering::SeqCst) {
                return Err("cannot be run today".to_owned());
            }
            self.is_asked.store(true, Ordering::SeqCst);
            self.starts.acquire().await.map_err(|_| "it is over".to_owned())?.forget();
            let file = settings.gguf.display().to_string();
            self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), file);
            Ok(Served { url: self.url.clone(), context_tokens: Some(2_048) })
        })
    }

    fn until_ready<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(std::future::ready(self.state(name)))
    }

    fn stop<'a>(&'a self, name: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        })
    }

    fn state(&self, name: &str) -> Result<(), String> {
        self.running().contains_key(name).then_some(()).ok_or_else(|| "it is not run".to_owned())
    }
}

fn run(name: &str, gguf: &str) -> ProviderSettings {
    let run = Some(RunSettings { gguf: gguf.into(), command: Vec::new() });
    ProviderSettings { url: None, run, ..provider(name, "") }
}

fn running(file: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("own".to_owned(), file.to_owned())])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_for_a_provider_ends_with_it_and_not_before() -> Result<()> {
    let upstream = Upstream::start().await?;
    upstream.always(Script::openai("here"));
    let notes = Notes::new(&upstream.url(), 100);
    let house = House::running(config(), Some(notes.clone())).await?;
    house.add_as(run("own", "/one.gguf")).await?;
    assert_eq!(notes.running(), running("/one.gguf"));
    // What cannot be used changes nothing, whether that is found before its server starts or then.
    let keyless = ProviderSettings { key_file: Some("/no/such/key".into()), ..run("own", "/two.gguf") };
    assert!(matches!(house.add_as(keyless).await, Err(error) if error.to_string().contains("key_file")));
    notes.is_refusing.store(true, Ordering::SeqCst);
    assert!(house.add_as(run("own", "/two.gguf")).await.is_err());
    assert!(house.add_as(run("other", "/two.gguf")).await.is_err());
    notes.is_refusing.store(false, Ordering::SeqCst);
    assert_eq!(notes.running(), running("/one.gguf"));
    assert_eq!(house.text(turn("own", "hello")).await?, "here");
    // It was told how much to read, so what is longer is refused before it is asked.
    match house.text(turn("own", &"word ".repeat(3_000))).await {
        Err(TurnError::ContextTooLong { tokens, limit: 2_048 }) if tokens > 3_000 => {}
        other => panic!("{other:?}"),
    }
    let recorded = house.providers_on_record()?;
    assert!(recorded.len() == 1 && recorded[0].contains("/one.gguf"), "{recorded:?}");
    house.add_as(ProviderSettings { models: Vec::new(), ..run("own", "/two.gguf") }).await?;
    assert_eq!(notes.running(), running("/two.gguf"));
    // Until it told its models, it is its server that is asked why.
    notes.running.lock().unwrap_or_else(PoisonError::into_inner).clear();
    house.add_as(ProviderSettings { models: Vec::new(), ..run("other", "/two.gguf") }).await?;
    notes.running.lock().unwrap_or_else(PoisonError::into_inner).clear();
    match house.text(turn("other", "hello")).await {
        Err(TurnError::Failed { last, .. }) if last.reason.contains("does not run: it is not run") => {}
        other => panic!("{other:?}"),
    }
    assert!(house.coordinator.remove_provider("other").await?);
    house.add("own", &upstream.url()).await?;
    assert_eq!(notes.running(), BTreeMap::new());
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_client_leaves_is_carried_out() -> Result<()> {
    let upstream = Upstream::start().await?;
    let notes = Notes::new(&upstream.url(), 0);
    let house = House::running(config(), Some(notes.clone())).await?;
    let mut adding = Box::pin(house.coordinator.add_provider(run("own", "/one.gguf")));
    assert!(futures::poll!(&mut adding).is_pending());
    drop(adding);
    while !notes.is_asked.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    notes.starts.add_permits(1);
    // It waits for its turn.
    assert!(house.coordinator.remove_provider("own").await?);
    assert_eq!(notes.running(), BTreeMap::new());
    assert!(house.coordinator.provider("own").is_none());
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_was_removed_while_it_told_its_models_stays_away() -> Result<()> {
    let upstream = Upstream::start().await?;
    let house = House::new().await?;
    let listed = Script::json(200, r#"{"object":"list","data":[{"id":"m","object":"model"}]}"#);
    upstream.always(listed.first(Step::Wait(STEP)));
    let open = ProviderSettings { models: Vec::new(), ..provider("a", &upstream.url()) };
    let (added, removed) = futures::join!(house.coordinator.add_provider(open), async {
        upstream.wait_for(0, |_| true).await;
        house.coordinator.remove_provider("a").await
    });
    assert!(removed?);
    assert!(matches!(added, Err(TurnError::UnknownModel { .. })), "{added:?}");
    assert!(house.coordinator.provider("a").is_none());
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_local_stays_here_whatever_others_are_called() -> Result<()> {
    let upstream = Upstream::start().await?;
    upstream.always(Script::openai("from afar"));
    let house = House::new().await?;
    let mut far = provider("local", &upstream.url());
    far.location = Some(holdfast_coordinator::Place::Remote);
    far.models[0].name = "local".to_owned();
    house.add_as(far).await?;
    let refused = house.text(turn("local", "my secret")).await.unwrap_err();
    assert_eq!(word(&refused), "UnknownModel");
    assert_eq!(house.text(turn("local/local", "hello")).await?, "from afar");
    house.close().await
}
