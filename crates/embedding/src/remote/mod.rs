//! A model that another server runs: what is known of it, and how it is made sure that it is still the same one.
//!
//! A remote model is a folder with one file, [`DESCRIPTION`]: where it is, and the vectors of some probe texts as they were
//! when it was connected. What its vectors mean cannot be read off its files, so their space is named by those vectors,
//! and they are compared with what the server says whenever the model is loaded, and again before it is used after so
//! many failures that the breaker opened. A model of another width is noticed at once; one of the same width that takes
//! its place without the server failing is noticed at the next of these times.

mod client;

use std::{
    fs,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

use holdfast_resilience::breaker::{Breaker, Settings, State};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use tokio::sync::Notify;

pub use client::Words;
pub(crate) use client::{Client, REACHABLE_EVERY, Trouble};

use crate::{
    embedder::{Embedder, ModelState},
    error::EmbedError,
    space::EmbeddingSpace,
};

/// The one file of a remote model's folder.
pub(crate) const DESCRIPTION: &str = "remote.json";
/// Many times what the longest probes need.
const DESCRIPTION_BYTES_MAX: u64 = 4 << 20;
/// What two embeddings of one text by one model have at least; rounding and other batches cost it some 1e-4.
const SAME_COSINE: f64 = 0.995;
/// Texts whose vectors no two models have in common: several languages, code, numbers, one long.
const PROBES: [&str; 6] = [
    "The lighthouse keeper counted the ships at dusk.",
    "fn main() { println!(\"{}\", 6 * 7); }",
    "Wie viele Brücken führen über den Fluss?",
    "3.14159 26535 89793",
    "Quarterly revenue rose by nine percent while costs fell.",
    "A recipe for bread: flour, water, salt and yeast are mixed, kneaded, left to rise for two hours, folded, shaped, \
     left to rise once more, and baked in a very hot oven until the crust is dark.",
];

/// The interface that a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RemoteApi {
    /// `POST URL/embeddings`, as OpenAI has it.
    OpenAi,
    /// `POST URL/embed`, as text-embeddings-inference has it.
    Tei,
}

/// Where a remote model is, and how it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteModel {
    /// The interface.
    pub api: RemoteApi,
    /// The root of it, such as `https://api.openai.com/v1` or `http://127.0.0.1:8080`.
    pub url: String,
    /// The model's name there; its name here unless given. Not sent where the interface has one model only.
    pub model: Option<String>,
    /// A file with the key, if one is needed, that nobody else on the machine can read. Read when the model is loaded.
    pub key_file: Option<PathBuf>,
    /// Tokens of a text that it reads.
    pub window: usize,
    /// Put before a query's text.
    #[serde(default)]
    pub query_prefix: String,
    /// Put before a document's text.
    #[serde(default)]
    pub document_prefix: String,
}

/// What is on record of a remote model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Described {
    pub(crate) remote: RemoteModel,
    /// The probes' vectors, as they came when it was connected.
    probes: Vec<Vec<f32>>,
}

impl RemoteModel {
    /// Refuses what could never work.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let address = self.url.strip_prefix("http://").or_else(|| self.url.strip_prefix("https://"));
        if address.is_none_or(|rest| rest.is_empty() || rest.starts_with('/')) {
            return Err("its address must begin with http:// or https://");
        }
        if !(8..=1 << 20).contains(&self.window) {
            return Err("its window must be 8 to 1048576 tokens");
        }
        if self.key_file.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err("the path of its key must be absolute");
        }
        Ok(())
    }
}

impl Described {
    /// Reads a model's description; nothing where its folder has none.
    pub(crate) fn read(folder: &Path) -> Result<Option<Described>, EmbedError> {
        let path = folder.join(DESCRIPTION);
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(error) => return Err(EmbedError::io("open", path)(error)),
        };
        let mut bytes = Vec::new();
        file.take(DESCRIPTION_BYTES_MAX).read_to_end(&mut bytes).map_err(EmbedError::io("read", &path))?;
        let described: Option<Described> = serde_json::from_slice(&bytes).ok();
        match described.filter(|it| it.remote.check().is_ok() && is_usable(&it.probes)) {
            Some(described) => Ok(Some(described)),
            None => {
                let reason = "it does not describe a remote model".to_owned();
                Err(EmbedError::CorruptFile { path, reason })
            }
        }
    }

    /// Asks a server for the probes' vectors.
    pub(crate) async fn probe(client: &Client, remote: RemoteModel) -> Result<Described, Trouble> {
        let probes = client.embed(&PROBES.map(str::to_owned)).await?;
        if !is_usable(&probes) {
            return Err(Trouble::lasting("it gives vectors that cannot be used"));
        }
        Ok(Described { remote, probes })
    }

    /// Compares what a server says now with what is on record.
    pub(crate) async fn verify(&self, client: &Client) -> Result<(), Trouble> {
        let now = client.embed(&PROBES.map(str::to_owned)).await?;
        if self.is_same(&now) {
            return Ok(());
        }
        Err(Trouble::lasting(
            "it is another model than the one that was connected: its vectors of the probe texts differ",
        ))
    }

    /// The same model as one that was on record before, where it is: then its space is, too.
    pub(crate) fn known_as(mut self, before: Option<Described>) -> Described {
        if let Some(before) = before.filter(|before| before.is_same(&self.probes)) {
            self.probes = before.probes;
        }
        self
    }

    fn is_same(&self, probes: &[Vec<f32>]) -> bool {
        let alike = |(now, then): (&Vec<f32>, &Vec<f32>)| now.len() == then.len() && cosine(now, then) >= SAME_COSINE;
        probes.len() == self.probes.len() && probes.iter().zip(&self.probes).all(alike)
    }

    /// The space of its vectors, named by what it made of the probes.
    pub(crate) fn space(&self, name: &str) -> EmbeddingSpace {
        let mut hasher = Sha256::new();
        self.probes.iter().flatten().for_each(|value| hasher.update(value.to_le_bytes()));
        let revision = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        EmbeddingSpace {
            model: name.to_owned(),
            revision,
            tokenizer: "remote".to_owned(),
            window: self.remote.window,
            precision: None,
            dimensions: self.probes.first().map_or(0, Vec::len),
            pooling: None,
            normalised: self.probes.iter().all(|probe| (length(probe) - 1.0).abs() < 1e-3),
            query_prefix: self.remote.query_prefix.clone(),
            document_prefix: self.remote.document_prefix.clone(),
        }
    }
}

/// How a remote model fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteReport {
    /// Its name here.
    pub model: String,
    /// What its breaker lets through.
    pub breaker: State,
    /// What was wrong with the last request, if anything was.
    pub trouble: Option<String>,
}

/// A loaded remote model.
pub(crate) struct Remote {
    name: String,
    client: RwLock<Arc<Client>>,
    described: Described,
    breaker: Breaker,
    /// The breaker opened.
    opened: Notify,
    /// What was wrong with the last request.
    trouble: Mutex<Option<Trouble>>,
}

impl Remote {
    pub(crate) fn new(name: &str, client: Client, described: Described, pause: Duration) -> Remote {
        let breaker = Breaker::new(Settings { pause, ..Settings::STORE });
        let remote = Remote {
            name: name.to_owned(),
            client: RwLock::new(Arc::new(client)),
            described,
            breaker,
            opened: Notify::new(),
            trouble: Mutex::default(),
        };
        remote.show();
        remote
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The host and port that it is at.
    pub(crate) fn peer(&self) -> String {
        self.client().peer().to_owned()
    }

    pub(crate) fn report(&self) -> RemoteReport {
        let trouble = self.trouble().as_ref().map(|trouble| trouble.reason.clone());
        RemoteReport { model: self.name.clone(), breaker: self.breaker.state(), trouble }
    }

    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        // Assigned as a whole.
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One vector for each text, in order, in the model's space as far as their width tells; none for one that the
    /// server refuses, which is found by asking for fewer and fewer at a time.
    pub(crate) async fn embed(&self, texts: &[String]) -> Result<Vec<Option<Vec<f32>>>, EmbedError> {
        let trouble = match self.ask(texts).await {
            Ok(vectors) => return Ok(vectors.into_iter().map(Some).collect()),
            Err(trouble) => trouble,
        };
        if !trouble.is_about_texts || texts.is_empty() {
            return Err(trouble.into_error(&self.name));
        }
        if texts.len() == 1 {
            // Its own words may repeat the text, and no text belongs into a log.
            tracing::warn!(model = self.name, "the remote model {} refused a text: {}", self.name, trouble.reason);
            return Ok(vec![None]);
        }
        let (some, others) = texts.split_at(texts.len() / 2);
        let mut vectors = Box::pin(self.embed(some)).await?;
        vectors.append(&mut Box::pin(self.embed(others)).await?);
        Ok(vectors)
    }

    async fn ask(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Trouble> {
        let width = self.described.probes.first().map_or(0, Vec::len);
        let Some(attempt) = self.breaker.enter() else {
            return Err(Trouble::passing("it is not asked for a while, since it failed"));
        };
        let trouble = match self.client().embed(texts).await {
            Ok(vectors) if vectors.iter().all(|vector| vector.len() == width) => {
                attempt.succeeded(Instant::now());
                *self.trouble() = None;
                return Ok(vectors);
            }
            Ok(_) => {
                if attempt.open(Instant::now()) {
                    self.opened.notify_one();
                }
                Trouble::lasting("it is another model than the one that was connected: its vectors have another width")
            }
            Err(trouble) => {
                if trouble.is_transient && attempt.failed(Instant::now()) {
                    self.opened.notify_one();
                }
                trouble
            }
        };
        self.show();
        // That it refuses some texts says nothing of how it is.
        if !trouble.is_about_texts {
            *self.trouble() = Some(trouble.clone());
        }
        Err(trouble)
    }

    /// Whenever the breaker opens: lets nothing through until the probes' vectors come, and are the same, again.
    pub(crate) async fn guard(&self, embedder: &Embedder) {
        loop {
            self.opened.notified().await;
            let mut reason = "too many requests to it failed".to_owned();
            while let Some(retry_in) = self.breaker.open_for(Instant::now()) {
                tracing::warn!(model = self.name, reason, "the remote model {} is not asked for a while", self.name);
                self.show();
                let hint = Some("look at that server; it is tried again by itself".to_owned());
                embedder.set_state(ModelState::Failed { reason: reason.clone(), hint, retry_in });
                let attempt = tokio::select! {
                    () = tokio::time::sleep(retry_in) => self.breaker.try_half_open(Instant::now()),
                    () = self.sign_of_life() => self.breaker.try_half_open_early(),
                };
                let Some(attempt) = attempt else { continue };
                self.show();
                match self.described.verify(&self.client()).await {
                    Ok(()) => {
                        *self.trouble() = None;
                        attempt.succeeded(Instant::now());
                    }
                    Err(trouble) => {
                        attempt.failed(Instant::now());
                        *self.trouble() = Some(trouble.clone());
                        let words = trouble.words.as_ref().map(tracing::field::display);
                        tracing::warn!(model = self.name, words, "the remote model {} failed again", self.name);
                        reason = trouble.reason;
                    }
                }
            }
            tracing::info!(model = self.name, "the remote model {} answers again", self.name);
            self.show();
            embedder.set_state(ModelState::Ready);
        }
    }

    /// Comes back as soon as there is reason to believe that it answers again: where it could not be reached, when it
    /// takes connections, which costs nothing to find out; where it said when to ask again, then.
    async fn sign_of_life(&self) {
        let (is_unreached, retry_after) =
            self.trouble().as_ref().map_or((false, None), |trouble| (trouble.is_unreached, trouble.retry_after));
        match retry_after {
            _ if is_unreached => self.client().reachable().await,
            Some(after) => tokio::time::sleep(after.max(REACHABLE_EVERY)).await,
            None => std::future::pending().await,
        }
    }

    /// Until it shuts down: forgets that the server could not be reached when it can be again, though nobody asks it.
    pub(crate) async fn forgive(&self) {
        loop {
            tokio::time::sleep(REACHABLE_EVERY).await;
            let is_unreached = self.trouble().as_ref().is_some_and(|trouble| trouble.is_unreached);
            if is_unreached && self.breaker.state() == State::Closed {
                self.client().reachable().await;
                let mut trouble = self.trouble();
                if trouble.as_ref().is_some_and(|trouble| trouble.is_unreached) {
                    *trouble = None;
                }
            }
        }
    }

    /// Whether that describes this model, wherever it says that it is.
    pub(crate) fn is_the_one_of(&self, described: &Described) -> bool {
        self.described.space(&self.name) == described.space(&self.name)
    }

    /// Asks for it elsewhere, or with another key, from now on.
    pub(crate) fn reach_by(&self, client: Client) {
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(client);
    }

    fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn show(&self) {
        let state = f64::from(self.breaker.state().number());
        metrics::gauge!("holdfast_embedding_breaker_state", "model" => self.name.clone()).set(state);
    }
}

/// Whether vectors are of one width, finite, not zero, and not all the same.
fn is_usable(probes: &[Vec<f32>]) -> bool {
    let width = probes.first().map_or(0, Vec::len);
    let alike = probes.windows(2).all(|pair| pair[0] == pair[1]);
    let usable = |probe: &Vec<f32>| probe.len() == width && length(probe) > 1e-6 && length(probe).is_finite();
    width > 0 && probes.len() == PROBES.len() && !alike && probes.iter().all(usable)
}

fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    dot / (length(a) * length(b))
}
