//! What a request to another one's API asks of this server: a session, passages to look up, kept answers.
//!
//! It stands in the body, below `holdfast`, or in headers for clients whose bodies cannot be added to; the body counts
//! where both say something. The field goes no further than here. Which collections the caller may see is decided where
//! they are searched.

use std::collections::BTreeSet;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, header, request::Parts},
};
use holdfast_coordinator::{Augmentation, BUDGET_TOKENS_MAX, CacheUse, PASSAGES_MAX};
use holdfast_knowledge::Knowledge;

use super::read::Node;
use crate::{
    Server,
    api::augment::{BUDGET_TOKENS_DEFAULT, COLLECTIONS_MAX, PASSAGES_DEFAULT},
    description,
    error::Failure,
    gate, input,
    limits::{self, Meter},
    listen::life::Turn,
};

/// The field of a body.
pub(super) const FIELD: &str = "holdfast";
/// The headers.
pub(super) const SESSION: HeaderName = HeaderName::from_static("x-holdfast-session");
const AUGMENT: HeaderName = HeaderName::from_static("x-holdfast-augment");
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// An id of a session, which stands in paths; the coordinator reads the same.
pub(crate) const SESSION_ID: &str = "^[A-Za-z0-9_-]{1,64}$";
const SESSION_CHARS_MAX: usize = 64;
const SESSION_PROBLEM: &str = "must be 1 to 64 of the characters A-Z, a-z, 0-9, - and _";
/// Betas that are handed on.
const BETAS_MAX: usize = 32;
const BETA_BYTES_MAX: usize = 128;

/// What this server is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Own {
    /// The session that the turn belongs to.
    pub(super) session: Option<String>,
    /// What to look up for it.
    pub(super) augmentation: Option<Augmentation>,
}

impl Own {
    /// What the body says, and what the headers say where it says nothing.
    pub(super) fn read(body: &Node<'_>, headers: &Headers) -> Result<Self, Failure> {
        let Some(own) = body.field(FIELD) else { return Ok(headers.own.clone()) };
        own.only(&["session", "augment"])?;
        let session = own.optional("session", session)?;
        let augmentation = own.optional("augment", |node| augmentation(&node))?;
        Ok(Self {
            session: session.or_else(|| headers.own.session.clone()),
            augmentation: augmentation.unwrap_or_else(|| headers.own.augmentation.clone()),
        })
    }
}

fn session(node: Node<'_>) -> Result<String, Failure> {
    let id = node.text()?;
    if is_session(id) { Ok(id.to_owned()) } else { Err(node.wrong(SESSION_PROBLEM)) }
}

fn is_session(id: &str) -> bool {
    (1..=SESSION_CHARS_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// What is looked up where nothing more is said.
fn plain() -> Augmentation {
    Augmentation {
        collections: Vec::new(),
        query: None,
        budget_tokens: BUDGET_TOKENS_DEFAULT as u64,
        passages_max: PASSAGES_DEFAULT,
    }
}

fn augmentation(node: &Node<'_>) -> Result<Option<Augmentation>, Failure> {
    if let Some(flag) = node.value().as_bool() {
        return Ok(flag.then(plain));
    }
    if !node.value().is_object() {
        return Err(node.wrong("must be true, false or an object"));
    }
    node.only(&["collections", "query", "budget_tokens", "passages"])?;
    let within = |name: &str, default: usize, most: usize| {
        let given = node.optional(name, |node| node.integer(1..=most as i64))?;
        Ok::<_, Failure>(given.and_then(|number| usize::try_from(number).ok()).unwrap_or(default))
    };
    let query = node.optional("query", |node| {
        let text = node.text()?;
        if text.trim().is_empty() || text.chars().count() > description::QUERY_CHARS_MAX {
            let most = description::QUERY_CHARS_MAX;
            return Err(node.wrong(format_args!("must have 1 to {most} characters that are not all blank")));
        }
        Ok(text.to_owned())
    })?;
    Ok(Some(Augmentation {
        collections: node.optional("collections", |node| collections(&node))?.unwrap_or_default(),
        query,
        budget_tokens: within("budget_tokens", BUDGET_TOKENS_DEFAULT, BUDGET_TOKENS_MAX as usize)? as u64,
        passages_max: within("passages", PASSAGES_DEFAULT, PASSAGES_MAX)?,
    }))
}

fn collections(node: &Node<'_>) -> Result<Vec<String>, Failure> {
    let names = node.items()?;
    if names.len() > COLLECTIONS_MAX {
        return Err(node.wrong(format_args!("has {} entries, at most {COLLECTIONS_MAX} are taken", names.len())));
    }
    names
        .map(|name| {
            let text = name.text()?;
            Knowledge::check_collection_name(text).map_err(|error| Failure::from(error).at(name.place()))?;
            Ok(text.to_owned())
        })
        .collect()
}

/// What the headers of a request say about the turn it asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Headers {
    pub(super) request_id: String,
    /// `traceparent` and `tracestate`, for the provider.
    pub(super) trace: Vec<(&'static str, String)>,
    pub(super) cache: CacheUse,
    pub(super) own: Own,
    /// Betas of Anthropic's interface.
    pub(super) betas: Vec<String>,
    /// What the memory that the request takes is noted at.
    pub(super) turn: Option<Turn>,
}

impl Headers {
    /// Charges a body to whoever sent it, and notes the memory that its texts take a second time: once as they came, once
    /// in the words of the vocabulary.
    pub(super) fn take(&self, meter: &Meter, body_bytes: usize) -> Result<(), Failure> {
        meter.charge(limits::texts([body_bytes]))?;
        input::take_bytes(self.turn.as_ref(), body_bytes)
    }
}

impl FromRequestParts<Server> for Headers {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Server) -> Result<Self, Failure> {
        let headers = &parts.headers;
        Ok(Self {
            request_id: parts.extensions.get::<gate::RequestId>().map(ToString::to_string).unwrap_or_default(),
            trace: gate::trace(headers),
            cache: cache_use(words(headers, &header::CACHE_CONTROL)),
            own: Own { session: session_of(headers)?, augmentation: augmentation_of(headers)? },
            betas: words(headers, &BETA)
                .filter(|beta| beta.len() <= BETA_BYTES_MAX)
                .take(BETAS_MAX)
                .map(str::to_owned)
                .collect(),
            turn: parts.extensions.get::<Turn>().cloned(),
        })
    }
}

/// The members of a list that stands in a header, or in several of that name (RFC 9110, section 5.3).
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

/// RFC 9111, section 5.2.1. What it does not know changes nothing, as section 5.2.3 has it.
fn cache_use<'a>(directives: impl Iterator<Item = &'a str>) -> CacheUse {
    let mut cache = CacheUse::default();
    for directive in directives {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-cache" => cache.is_fresh = true,
            "no-store" => cache.is_unkept = true,
            "only-if-cached" => cache.is_kept_only = true,
            "max-age" => {
                let value = value.trim().trim_matches('"');
                // Section 1.2.2: a number too large to hold stands for the largest there is.
                let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                if is_number {
                    let age_s = value.parse().unwrap_or(u64::MAX);
                    cache.max_age_s = Some(cache.max_age_s.map_or(age_s, |known| known.min(age_s)));
                    cache.is_fresh |= age_s == 0;
                }
            }
            _ => {}
        }
    }
    cache
}

fn session_of(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get(&SESSION) else { return Ok(None) };
    match value.to_str() {
        Ok(id) if is_session(id) => Ok(Some(id.to_owned())),
        _ => Err(Failure::field("X-Holdfast-Session", SESSION_PROBLEM)),
    }
}

/// `true`, `false`, or the collections to look in.
fn augmentation_of(headers: &HeaderMap) -> Result<Option<Augmentation>, Failure> {
    let names: BTreeSet<&str> = words(headers, &AUGMENT).collect();
    let is_alone = |word: &str| names.len() == 1 && names.first().is_some_and(|name| name.eq_ignore_ascii_case(word));
    if names.is_empty() || is_alone("false") {
        return Ok(None);
    }
    if is_alone("true") {
        return Ok(Some(plain()));
    }
    if names.len() > COLLECTIONS_MAX {
        let problem = format!("has {} collections, at most {COLLECTIONS_MAX} are taken", names.len());
        return Err(Failure::field("X-Holdfast-Augment", problem));
    }
    for name in &names {
        Knowledge::check_collection_name(name).map_err(|error| Failure::from(error).at("X-Holdfast-Augment"))?;
    }
    Ok(Some(Augmentation { collections: names.into_iter().map(str::to_owned).collect(), ..plain() }))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde_json::{Value, json};

    use super::*;

    fn read(own: Value, headers: &Headers) -> Result<Own, String> {
        let body = json!({ "holdfast": own });
        Own::read(&Node::body(&body), headers).map_err(|failure| failure.report().detail)
    }

    #[test]
    fn the_body_says_what_is_looked_up_and_in_which_session() {
        let none = Headers::default();
        assert_eq!(read(json!({ "augment": true }), &none).unwrap().augmentation, Some(plain()));
        assert_eq!(read(json!({ "augment": false }), &none).unwrap(), Own::default());
        assert_eq!(read(json!(null), &none).unwrap(), Own::default());
        let terms = json!({ "collections": ["notes"], "query": "q", "budget_tokens": 9, "passages": 2 });
        let own = read(json!({ "session": "s", "augment": terms }), &none).unwrap();
        let wanted = Augmentation {
            collections: vec!["notes".into()],
            query: Some("q".into()),
            budget_tokens: 9,
            passages_max: 2,
        };
        assert_eq!(own, Own { session: Some("s".into()), augmentation: Some(wanted) });
    }

    #[test]
    fn what_it_says_wrongly_is_told_with_its_path() {
        for (own, told) in [
            (json!([]), "holdfast must be an object"),
            (json!({ "sesion": "x" }), "holdfast.sesion is unknown"),
            (json!({ "session": "" }), "holdfast.session must be 1 to 64"),
            (json!({ "session": "a b" }), "holdfast.session must be 1 to 64"),
            (json!({ "session": "a".repeat(65) }), "holdfast.session must be 1 to 64"),
            (json!({ "augment": "yes" }), "holdfast.augment must be true, false or an object"),
            (json!({ "augment": { "limit": 3 } }), "holdfast.augment.limit is unknown"),
            (json!({ "augment": { "passages": 0 } }), "holdfast.augment.passages must be"),
            (json!({ "augment": { "budget_tokens": 1e9 } }), "holdfast.augment.budget_tokens must be"),
            (json!({ "augment": { "query": " " } }), "holdfast.augment.query must have"),
            (json!({ "augment": { "collections": "notes" } }), "holdfast.augment.collections must be a list"),
            (json!({ "augment": { "collections": ["../up"] } }), "must"),
            (json!({ "augment": { "collections": vec!["a"; 33] } }), "has 33 entries"),
        ] {
            let found = read(own.clone(), &Headers::default()).unwrap_err();
            assert!(found.contains(told), "{own}: {found}");
        }
    }

    fn headers(all: &[(&HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append((*name).clone(), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn headers_say_it_where_the_body_does_not() {
        let of_headers = Own { session: Some("h".into()), augmentation: Some(plain()) };
        let headers = Headers { own: of_headers.clone(), ..Headers::default() };
        assert_eq!(read(json!(null), &headers).unwrap(), of_headers);
        assert_eq!(read(json!({ "augment": false }), &headers).unwrap().augmentation, None);
        assert_eq!(read(json!({ "session": "b" }), &headers).unwrap().session.as_deref(), Some("b"));
        assert_eq!(read(json!({ "session": "b" }), &headers).unwrap().augmentation, Some(plain()));
    }

    #[test]
    fn a_header_says_where_to_look() {
        let of = |value| augmentation_of(&headers(&[(&AUGMENT, value)])).map_err(|failure| failure.report().detail);
        assert_eq!(of("True").unwrap(), Some(plain()));
        assert_eq!(of("false").unwrap(), None);
        assert_eq!(of(" ").unwrap(), None);
        assert_eq!(of("notes, code").unwrap().unwrap().collections, ["code", "notes"]);
        assert!(of("a/b").is_err());
    }

    #[test]
    fn cache_control_is_understood_as_rfc_9111_has_it() {
        let of = |value| cache_use(words(&headers(&[(&header::CACHE_CONTROL, value)]), &header::CACHE_CONTROL));
        let none = CacheUse::default();
        assert_eq!(of("min-fresh=3, x, max-stale"), none);
        assert_eq!(of("No-Cache"), CacheUse { is_fresh: true, ..none });
        assert_eq!(of("no-store, only-if-cached"), CacheUse { is_unkept: true, is_kept_only: true, ..none });
        assert_eq!(of("max-age=60, max-age=\"30\""), CacheUse { max_age_s: Some(30), ..none });
        assert_eq!(of("max-age=0"), CacheUse { is_fresh: true, max_age_s: Some(0), ..none });
        assert_eq!(of("max-age=99999999999999999999"), CacheUse { max_age_s: Some(u64::MAX), ..none });
        assert_eq!(of("max-age=-1, max-age="), none);
    }
}
