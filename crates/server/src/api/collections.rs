//! `/api/v1/collections`: collections made, listed, shown, removed, and moved to another model.

use axum::{Json, extract::State, http::StatusCode};
use holdfast_knowledge::CollectionInfo;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Server,
    api::{PAGE_DEFAULT, PAGE_MAX, PageParams},
    description,
    error::Failure,
    input::{Authenticated, Body, Params, Segment, within},
    timestamp,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewCollection")]
pub(crate) struct CreateBody {
    #[schemars(regex(pattern = description::COLLECTION_NAME))]
    name: String,
    /// The model its texts are embedded with; the default model where absent
    model: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Reembedding")]
pub(crate) struct ReembedBody {
    model: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CollectionList")]
pub(crate) struct ListAnswer {
    collections: Vec<CollectionAnswer>,
    next_cursor: Option<String>,
}

/// A collection.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Collection")]
pub(crate) struct CollectionAnswer {
    name: String,
    model: String,
    /// The fingerprint of its embedding space; null before the first document
    space: Option<String>,
    /// Numbers of a vector; null before the first document
    dimensions: Option<usize>,
    documents: u64,
    chunks: u64,
    /// The model that it is being moved to
    building: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
}

/// The job that does what was asked for.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct JobStarted {
    pub(crate) job_id: String,
}

pub(crate) async fn list(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Params(page): Params<PageParams>,
) -> Result<Json<ListAnswer>, Failure> {
    let limit = within("limit", page.limit, PAGE_DEFAULT, 1..=PAGE_MAX)?;
    let mut infos = server.knowledge().collections(&caller).await?;
    infos.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    // The name is the cursor: collections may come and go between two pages.
    let begin = page.cursor.map_or(0, |after| infos.partition_point(|info| info.name <= after));
    let mut rest = infos.split_off(begin);
    let more = rest.len() > limit;
    rest.truncate(limit);
    let next_cursor = rest.last().filter(|_| more).map(|info| info.name.clone());
    Ok(Json(ListAnswer { collections: rest.into_iter().map(CollectionAnswer::from).collect(), next_cursor }))
}

pub(crate) async fn create(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    body: Body<CreateBody>,
) -> Result<(StatusCode, Json<CollectionAnswer>), Failure> {
    let CreateBody { name, model } = body.value;
    let made = server.knowledge().create_collection(&caller, &name, model.as_deref()).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

pub(crate) async fn show(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(name): Segment,
) -> Result<Json<CollectionAnswer>, Failure> {
    Ok(Json(server.knowledge().collection(&caller, &name).await?.into()))
}

pub(crate) async fn remove(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(name): Segment,
) -> Result<StatusCode, Failure> {
    server.knowledge().remove_collection(&caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn reembed(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(name): Segment,
    body: Body<ReembedBody>,
) -> Result<(StatusCode, Json<JobStarted>), Failure> {
    let job_id = server.knowledge().reembed(&caller, &name, &body.value.model).await?;
    Ok((StatusCode::ACCEPTED, Json(JobStarted { job_id })))
}

impl From<CollectionInfo> for CollectionAnswer {
    fn from(info: CollectionInfo) -> Self {
        Self {
            name: info.name,
            model: info.model,
            space: info.space,
            dimensions: info.dimensions,
            documents: info.documents,
            chunks: info.chunks,
            building: info.building,
            created_at: timestamp::from_ms(info.created_at_ms),
        }
    }
}
