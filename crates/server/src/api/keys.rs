//! `/api/v1/keys`: API keys made, listed, rotated and revoked. A key's secret is in the answer that makes it and nowhere
//! else.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use holdfast_knowledge::Knowledge;
use holdfast_storage::{
    Grants, Role,
    keys::{ApiKey, KeyTerms, Secret, unix_ms},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Server,
    chat::MODEL_CHARS_MAX,
    description,
    error::Failure,
    input::{Authenticated, Body, Segment, at_most, one_of, within},
    timestamp,
};

/// The longest name of a key, in characters.
const NAME_CHARS_MAX: usize = 100;
/// The most collections a key may be made for, and models.
const COLLECTIONS_MAX: usize = 256;
const MODELS_MAX: usize = 256;
/// The most ranges of addresses a key may be used from.
const ADDRESSES_MAX: usize = 64;
/// How long a key may be made for, and a former secret be taken: ten years and thirty days.
const EXPIRY_S_MAX: usize = 10 * 365 * 86_400;
const GRACE_S_MAX: usize = 30 * 86_400;
/// How long a former secret is taken where nothing is said: a day to bring the new one everywhere.
const GRACE_S_DEFAULT: usize = 86_400;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewKey")]
pub(crate) struct CreateBody {
    #[schemars(length(min = 1, max = NAME_CHARS_MAX), regex(pattern = description::NAME))]
    name: String,
    /// What it is for; `["admin"]` where absent
    #[schemars(with = "Option<Vec<description::RoleName>>", length(min = 1, max = Role::ALL.len()))]
    roles: Option<Vec<String>>,
    /// The collections it may see; all where absent
    #[schemars(length(max = COLLECTIONS_MAX), inner(regex(pattern = description::COLLECTION_NAME)))]
    collections: Option<Vec<String>>,
    /// The language models it may ask: models, providers, aliases, `local` or `remote`; all where absent
    #[schemars(length(max = MODELS_MAX), inner(length(min = 1, max = MODEL_CHARS_MAX)))]
    models: Option<Vec<String>>,
    /// The addresses or ranges it may be used from; anywhere where absent
    #[schemars(length(min = 1, max = ADDRESSES_MAX))]
    addresses: Option<Vec<String>>,
    /// How many seconds it is valid; for good where absent
    #[schemars(range(min = 1, max = EXPIRY_S_MAX))]
    expires_in_s: Option<i64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rotation")]
pub(crate) struct RotateBody {
    /// How many seconds the former secret is still taken; a day where absent
    #[schemars(range(min = 0, max = GRACE_S_MAX))]
    grace_s: Option<i64>,
}

/// A key with its secret, which is shown this once.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "KeyWithSecret")]
pub(crate) struct SecretAnswer<'a> {
    #[serde(flatten)]
    about: KeyAnswer,
    /// The secret, shown this once
    key: &'a str,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "KeyList")]
pub(crate) struct ListAnswer {
    keys: Vec<KeyAnswer>,
    next_cursor: Option<String>,
}

/// A key, without its secret.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Key")]
pub(crate) struct KeyAnswer {
    id: String,
    name: String,
    #[schemars(with = "Vec<description::RoleName>")]
    roles: Vec<&'static str>,
    /// The collections it may see; null for all
    collections: Option<Vec<String>>,
    /// The language models it may ask; null for all
    models: Option<Vec<String>>,
    /// Where it may be used from; null for anywhere
    addresses: Option<Vec<String>>,
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    #[schemars(extend("format" = "date-time"))]
    expires_at: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    revoked_at: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    last_used_at: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    former_secret_until: Option<String>,
}

pub(crate) async fn list(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
) -> Result<Json<ListAnswer>, Failure> {
    let keys = server.blocking(move |server| server.storage().keys(&caller)).await??;
    // There are few keys: they are one page.
    Ok(Json(ListAnswer { keys: keys.into_iter().map(KeyAnswer::from).collect(), next_cursor: None }))
}

pub(crate) async fn create(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    body: Body<CreateBody>,
) -> Result<Response, Failure> {
    let (key, secret) = server.storage().create_key(&caller, body.value.terms()?).await?;
    tracing::info!(key_id = key.id, caller = caller.id(), "made the key {}", key.id);
    Ok(shown_once(StatusCode::CREATED, key, &secret))
}

pub(crate) async fn rotate(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
    body: Body<RotateBody>,
) -> Result<Response, Failure> {
    let grace_s = within("grace_s", body.value.grace_s, GRACE_S_DEFAULT, 0..=GRACE_S_MAX)?;
    let (key, secret) = server.storage().rotate_key(&caller, id, Duration::from_secs(grace_s as u64)).await?;
    tracing::info!(key_id = key.id, caller = caller.id(), grace_s, "rotated the key {}", key.id);
    Ok(shown_once(StatusCode::OK, key, &secret))
}

pub(crate) async fn revoke(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
) -> Result<StatusCode, Failure> {
    server.storage().revoke_key(&caller, id.clone()).await?;
    tracing::info!(key_id = id, caller = caller.id(), "revoked the key {id}");
    Ok(StatusCode::NO_CONTENT)
}

fn shown_once(status: StatusCode, key: ApiKey, secret: &Secret) -> Response {
    let answer = SecretAnswer { about: key.into(), key: secret.reveal() };
    let mut response = (status, Json(answer)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl CreateBody {
    fn terms(self) -> Result<KeyTerms, Failure> {
        let name = self.name.trim();
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
            return Err(Failure::field("name", format_args!("must be 1 to {NAME_CHARS_MAX} printable characters")));
        }
        let expires_at_ms = match self.expires_in_s {
            None => None,
            given => {
                let seconds = within("expires_in_s", given, 0, 1..=EXPIRY_S_MAX)?;
                Some(unix_ms(SystemTime::now() + Duration::from_secs(seconds as u64)))
            }
        };
        Ok(KeyTerms {
            name: name.to_owned(),
            roles: roles(self.roles.as_deref())?,
            grants: grants(self.collections)?,
            models: models(self.models)?,
            addresses: addresses(self.addresses.as_deref())?,
            expires_at_ms,
        })
    }
}

/// A key may do everything where nothing else is said: only who may do everything makes keys.
fn roles(words: Option<&[String]>) -> Result<Vec<Role>, Failure> {
    let Some(words) = words else { return Ok(vec![Role::Admin]) };
    at_most("roles", words, Role::ALL.len())?;
    if words.is_empty() {
        return Err(Failure::field("roles", "must have at least one; without it, the key has the role admin"));
    }
    let known = Role::ALL.map(|role| (role.as_str(), role));
    let roles: Result<BTreeSet<_>, _> =
        words.iter().map(|word| one_of("roles", Some(word), Role::Reader, &known)).collect();
    Ok(roles?.into_iter().collect())
}

fn grants(names: Option<Vec<String>>) -> Result<Grants, Failure> {
    let Some(names) = names else { return Ok(Grants::All) };
    at_most("collections", &names, COLLECTIONS_MAX)?;
    for name in &names {
        Knowledge::check_collection_name(name).map_err(|error| Failure::from(error).at("collections"))?;
    }
    Ok(Grants::only(names))
}

/// A model need not be there yet: its name has only to be one that a model could have.
fn models(names: Option<Vec<String>>) -> Result<Grants, Failure> {
    let Some(names) = names else { return Ok(Grants::All) };
    at_most("models", &names, MODELS_MAX)?;
    let is_name = |name: &String| {
        let fits = !name.trim().is_empty() && name.chars().count() <= MODEL_CHARS_MAX;
        fits && !name.chars().any(char::is_control)
    };
    if !names.iter().all(is_name) {
        return Err(Failure::field(
            "models",
            format_args!("must be names of 1 to {MODEL_CHARS_MAX} printable characters"),
        ));
    }
    Ok(Grants::only(names))
}

/// The names, in order; nothing for all.
fn listed(grants: Grants) -> Option<Vec<String>> {
    match grants {
        Grants::All | Grants::AllBut(_) => None,
        Grants::Only(names) => Some(names.iter().cloned().collect()),
    }
}

fn addresses(ranges: Option<&[String]>) -> Result<Vec<ipnet::IpNet>, Failure> {
    let Some(ranges) = ranges else { return Ok(Vec::new()) };
    at_most("addresses", ranges, ADDRESSES_MAX)?;
    if ranges.is_empty() {
        return Err(Failure::field("addresses", "must have at least one; without it, the key is taken from anywhere"));
    }
    let range = |text: &String| -> Option<ipnet::IpNet> {
        let range: ipnet::IpNet =
            text.parse().ok().or_else(|| text.parse().ok().map(|address: std::net::IpAddr| address.into()))?;
        Some(range.trunc())
    };
    let bad = || Failure::field("addresses", "must be addresses or ranges, such as 192.168.1.0/24 or fd00::/8");
    ranges.iter().map(|text| range(text).ok_or_else(bad)).collect()
}

impl From<ApiKey> for KeyAnswer {
    fn from(key: ApiKey) -> Self {
        let KeyTerms { name, roles, grants, models, addresses, expires_at_ms } = key.terms;
        Self {
            id: key.id,
            name,
            roles: roles.into_iter().map(Role::as_str).collect(),
            collections: listed(grants),
            models: listed(models),
            addresses: (!addresses.is_empty()).then(|| addresses.iter().map(ToString::to_string).collect()),
            created_at: timestamp::from_ms(key.created_at_ms),
            expires_at: expires_at_ms.map(timestamp::from_ms),
            revoked_at: key.revoked_at_ms.map(timestamp::from_ms),
            last_used_at: key.last_used_at_ms.map(timestamp::from_ms),
            former_secret_until: key.former_secret_until_ms.map(timestamp::from_ms),
        }
    }
}
