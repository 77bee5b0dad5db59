//! `/api/v1/datasets`: what was learned, as files to train models with. They have what others asked, too.

use axum::{
    Json,
    body::{Body as HttpBody, Bytes},
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use holdfast_learning::{
    LearnError,
    dataset::{Built, Manifest, Recipe},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::AsyncReadExt;

use crate::{
    Server,
    error::Failure,
    input::{Authenticated, Body, Params, Segment},
};

/// Bytes of a file that are read at a time.
const PIECE_BYTES: usize = 64 << 10;

/// What is to be in a dataset.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DatasetRequest")]
pub(crate) struct BuildBody {
    /// What it is called
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    name: String,
    /// What an interaction has to be worth at least; 0.5 where absent
    #[schemars(range(min = 0, max = 1))]
    value_min: Option<f64>,
    /// Only interactions of which somebody said that they may be used to train
    needs_consent: Option<bool>,
    /// Only those of this caller: the id of a key, or `owner`
    caller: Option<String>,
    /// Shares of training, validation and test; 0.9, 0.05, 0.05 where absent
    #[schemars(inner(range(min = 0, max = 1_000_000)))]
    shares: Option<[f64; 3]>,
    /// Another one makes another split
    seed: Option<u64>,
}

/// A version of a dataset.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Dataset")]
pub(crate) struct DatasetAnswer {
    /// Its name and version, as `name@version`
    id: String,
    name: String,
    version: u32,
    /// How it was made, with the hash of each file; null where a newer program made it
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    manifest: Option<Manifest>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DatasetList")]
pub(crate) struct ListAnswer {
    /// By name and version
    datasets: Vec<DatasetAnswer>,
    next_cursor: Option<String>,
}

/// Which file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportParams {
    /// `train.jsonl` where absent
    #[schemars(extend("enum" = holdfast_learning::exported::FILES))]
    file: Option<String>,
}

pub(crate) async fn list(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
) -> Result<Json<ListAnswer>, Failure> {
    let datasets = server.learning().datasets().await?;
    let datasets =
        datasets.into_iter().map(|(one, manifest)| DatasetAnswer::new(one.name, one.version, manifest)).collect();
    Ok(Json(ListAnswer { datasets, next_cursor: None }))
}

pub(crate) async fn build(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    body: Body<BuildBody>,
) -> Result<(StatusCode, Json<DatasetAnswer>), Failure> {
    let BuildBody { name, value_min, needs_consent, caller: whose, shares, seed } = body.value;
    let usual = Recipe::default();
    let recipe = Recipe {
        value_min: value_min.unwrap_or(usual.value_min),
        needs_consent: needs_consent.unwrap_or(usual.needs_consent),
        caller: whose,
        shares: shares.unwrap_or(usual.shares),
        seed: seed.unwrap_or(usual.seed),
    };
    let Built { version, is_repeat, manifest } = server.learning().build_dataset(&name, recipe).await?;
    let status = if is_repeat { StatusCode::OK } else { StatusCode::CREATED };
    if !is_repeat {
        tracing::info!(dataset = name, version, caller = caller.id(), "built the dataset {name}, version {version}");
    }
    Ok((status, Json(DatasetAnswer::new(name, version, Some(manifest)))))
}

pub(crate) async fn show(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
    Segment(id): Segment,
) -> Result<Json<DatasetAnswer>, Failure> {
    let (name, version) = parts(&id)?;
    let manifest = server.learning().dataset(name, version).await?;
    Ok(Json(DatasetAnswer::new(name.to_owned(), version, Some(manifest))))
}

pub(crate) async fn remove(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
) -> Result<StatusCode, Failure> {
    let (name, version) = parts(&id)?;
    server.learning().remove_dataset(name, version).await?;
    tracing::info!(dataset = name, version, caller = caller.id(), "removed the dataset {name}, version {version}");
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn export(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
    Segment(id): Segment,
    Params(params): Params<ExportParams>,
) -> Result<Response, Failure> {
    let (name, version) = parts(&id)?;
    let file = params.file.as_deref().unwrap_or("train.jsonl");
    let path = server.learning().dataset_file(name, version, file).await?;
    let opened = tokio::fs::File::open(&path).await.map_err(|_| LearnError::NoDataset)?;
    let pieces = futures::stream::try_unfold(opened, async |mut file| {
        let mut piece = vec![0; PIECE_BYTES];
        let read = file.read(&mut piece).await?;
        piece.truncate(read);
        Ok::<_, std::io::Error>((read > 0).then(|| (Bytes::from(piece), file)))
    });
    let kind = if file.ends_with(".json") { "application/json" } else { "application/jsonl" };
    Ok(([(header::CONTENT_TYPE, kind)], HttpBody::from_stream(pieces)).into_response())
}

/// The name and the version of `name@version`.
fn parts(id: &str) -> Result<(&str, u32), Failure> {
    let parts = id.rsplit_once('@').and_then(|(name, version)| Some((name, version.parse().ok()?)));
    parts.ok_or_else(|| LearnError::NoDataset.into())
}

impl DatasetAnswer {
    fn new(name: String, version: u32, manifest: Option<Manifest>) -> Self {
        Self { id: format!("{name}@{version}"), name, version, manifest }
    }
}
