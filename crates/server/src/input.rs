//! What handlers take from a request, checked before they see it.
//!
//! Each extractor turns what is wrong into a coded [`Failure`] that names the field, and none hands on anything that
//! breaks a limit: bodies are bounded in bytes before they are read and in nesting before they are parsed, since a
//! parser that recurses, or the destructor of what it made, would overflow the stack. No meaning is checked here.

use std::{borrow::Cow, error::Error, ops::RangeInclusive};

use axum::{
    body::{Bytes, HttpBody},
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use holdfast_knowledge::IdempotencyKey;
use holdfast_resilience::budget::UsedUp;
use holdfast_storage::Caller;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::{
    Server,
    distinct::{VALUE_BYTES, counting},
    error::{Code, Failure},
    listen::life::{TooSlow, Turn},
};

/// The longest `Idempotency-Key`, in bytes.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// A JSON body.
pub(crate) struct Body<T> {
    /// What it says.
    pub(crate) value: T,
    /// How long it was as it came.
    pub(crate) bytes: usize,
}

/// One with the BLAKE3 hash of it as it came.
pub(crate) struct Hashed<T> {
    pub(crate) body: Body<T>,
    pub(crate) hash: [u8; 32],
}

/// A query string.
pub(crate) struct Params<T>(pub(crate) T);

/// The one variable segment of the route, decoded.
pub(crate) struct Segment(pub(crate) String);

/// Who asks, as the gate found out.
pub(crate) struct Authenticated(pub(crate) Caller);

/// The caller's key for the request, if one came.
pub(crate) struct Idempotency(Option<String>);

impl<T: DeserializeOwned> FromRequest<Server> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, server: &Server) -> Result<Self, Failure> {
        read(request, server).await.map(|(body, _)| body)
    }
}

impl<T: DeserializeOwned> FromRequest<Server> for Hashed<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, server: &Server) -> Result<Self, Failure> {
        let (body, bytes) = read(request, server).await?;
        Ok(Self { body, hash: *blake3::hash(&bytes).as_bytes() })
    }
}

/// A body, and the bytes of it.
async fn read<T: DeserializeOwned>(request: Request, server: &Server) -> Result<(Body<T>, Bytes), Failure> {
    if !is_json(request.headers()) {
        return Err(Failure::new(Code::UnsupportedMediaType, "the body has to be application/json"));
    }
    let turn = request.extensions().get::<Turn>().cloned();
    let bytes = bounded(request, server).await?;
    check_depth(&bytes, server.config().max_json_depth)?;
    let (value, values) = counting(|| parse(&bytes));
    take_room(turn.as_ref(), values)?;
    Ok((Body { value: value?, bytes: bytes.len() }, bytes))
}

impl<T: DeserializeOwned> FromRequestParts<Server> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Server) -> Result<Self, Failure> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => {
                let told = rejection.body_text();
                let problem = told.split_once(": ").map_or(told.as_str(), |(_, problem)| problem);
                Err(Failure::new(Code::InvalidField, format!("in the query string: {problem}")))
            }
        }
    }
}

impl FromRequestParts<Server> for Segment {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, server: &Server) -> Result<Self, Failure> {
        match Path::<String>::from_request_parts(parts, server).await {
            Ok(Path(segment)) => Ok(Self(segment)),
            Err(_) => Err(Failure::new(Code::InvalidRequest, "the path is not percent-encoded UTF-8")),
        }
    }
}

impl FromRequestParts<Server> for Authenticated {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Server) -> Result<Self, Failure> {
        match parts.extensions.get::<Caller>() {
            Some(caller) => Ok(Self(caller.clone())),
            // A handler that asks for a caller on a route without authentication would be a defect; it lets nobody in.
            None => Err(Failure::new(Code::Unauthorized, "no key was given")),
        }
    }
}

impl FromRequestParts<Server> for Idempotency {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Server) -> Result<Self, Failure> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        let fits = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&value.len());
        match value.to_str() {
            Ok(key) if fits => Ok(Self(Some(key.to_owned()))),
            _ => Err(Failure::field(
                "Idempotency-Key",
                format_args!("must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} printable ASCII characters"),
            )),
        }
    }
}

impl Idempotency {
    /// The key as it came.
    pub(crate) fn key(self) -> Option<String> {
        self.0
    }

    /// The key together with what it stands for.
    pub(crate) fn of(self, route: &'static str, body_hash: [u8; 32]) -> Option<IdempotencyKey> {
        self.0.map(|key| IdempotencyKey { route, key, body_hash })
    }
}

/// The whole body, unless it is too large or does not arrive.
pub(crate) async fn bounded(mut request: Request, server: &Server) -> Result<Bytes, Failure> {
    let limit = server.config().max_body_bytes;
    let too_large = || Failure::new(Code::BodyTooLarge, format!("the body has more than {limit} bytes"));
    // A length that is announced need not be waited for.
    if request.body().size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    // The router's own limit is the one it was built with.
    DefaultBodyLimit::max(limit).apply(&mut request);
    Bytes::from_request(request, server).await.map_err(|rejection: BytesRejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ if is_because::<TooSlow>(&rejection) => {
            Failure::new(Code::BodyTooSlow, "the body did not arrive at 1 KiB a second").cause(rejection)
        }
        _ if is_because::<UsedUp>(&rejection) => no_room(),
        _ => Failure::new(Code::InvalidBody, "the body did not arrive in full").cause(rejection),
    })
}

/// Notes what the values of any shape in a body take, for as long as the request lives.
pub(crate) fn take_room(turn: Option<&Turn>, values: usize) -> Result<(), Failure> {
    take_bytes(turn, values * VALUE_BYTES)
}

/// Notes what a request takes besides, for as long as it lives.
pub(crate) fn take_bytes(turn: Option<&Turn>, bytes: usize) -> Result<(), Failure> {
    let Some(turn) = turn else { return Ok(()) };
    turn.take(bytes).map_err(|_| no_room())
}

fn no_room() -> Failure {
    Failure::new(Code::Overloaded, "the bodies of all requests take as much memory as they may")
}

/// Whether it was this server that did not want to read on, for a reason of its own.
fn is_because<E: Error + 'static>(rejection: &BytesRejection) -> bool {
    let mut cause = rejection.source();
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Refuses JSON that nests too deep, by counting brackets outside of strings. What is not JSON is left to the parser.
pub(crate) fn check_depth(json: &[u8], limit: usize) -> Result<(), Failure> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return Err(Failure::new(
                        Code::JsonTooDeep,
                        format!("arrays and objects nest deeper than {limit} levels"),
                    ));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// JSON that is what it should be, or what is wrong with it and where.
pub(crate) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Failure> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        describe(&error.into_inner(), &path)
    })?;
    deserializer.end().map_err(|error| describe(&error, "."))?;
    Ok(value)
}

fn describe(error: &serde_json::Error, path: &str) -> Failure {
    let told = error.to_string();
    match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => Failure::new(Code::InvalidJson, told),
        Category::Data => {
            // The line and column say nothing that the path does not say better.
            let problem = told.rsplit_once(" at line ").map_or(told.as_str(), |(problem, _)| problem);
            if path == "." {
                Failure::new(Code::InvalidField, problem)
            } else {
                Failure::new(Code::InvalidField, format!("{path}: {problem}")).at(path)
            }
        }
    }
}

/// Whether a request says that its body is JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let essence = value.split_once(';').map_or(value, |(essence, _)| essence).trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// A number from a request that has to lie in a range.
pub(crate) fn within(
    field: &'static str,
    given: Option<i64>,
    default: usize,
    range: RangeInclusive<usize>,
) -> Result<usize, Failure> {
    let Some(given) = given else { return Ok(default) };
    usize::try_from(given)
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| Failure::field(field, format_args!("must be {} to {}", range.start(), range.end())))
}

/// A list from a request that may be only so long.
pub(crate) fn at_most<T>(field: &'static str, list: &[T], limit: usize) -> Result<(), Failure> {
    if list.len() > limit {
        return Err(Failure::field(field, format_args!("has {} entries, at most {limit} are taken", list.len())));
    }
    Ok(())
}

/// One of a few words from a request.
pub(crate) fn one_of<T: Copy>(
    field: &'static str,
    given: Option<&str>,
    default: T,
    words: &[(&'static str, T)],
) -> Result<T, Failure> {
    let Some(given) = given else { return Ok(default) };
    words.iter().find(|(word, _)| *word == given).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<Cow<'_, str>> = words.iter().map(|(word, _)| (*word).into()).collect();
        Failure::field(field, format_args!("must be one of {}", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert!(check_depth(br#"[{"a":"[[[[\"[["}]"#, 2).is_ok());
        assert!(check_depth(br#"[{"a":[]}]"#, 2).is_err());
        assert!(check_depth(&b"[".repeat(100_000), 64).is_err());
        assert!(check_depth(&b"[]".repeat(100_000), 1).is_ok());
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shape {
        #[expect(dead_code, reason = "only the parse matters")]
        list: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only the parse matters")]
        number: u8,
    }

    fn check(json: &str, code: Code, expected: &str) {
        let told = parse::<Shape>(json.as_bytes()).unwrap_err().report().text();
        assert!(told.starts_with(code.as_str()) && told.contains(expected), "{json}: {told}");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        check("{", Code::InvalidJson, "line 1 column 1");
        check("{\"list\":[]} x", Code::InvalidJson, "trailing characters at line 1 column 13");
        check("{\"list\":[{\"number\":-1}]}", Code::InvalidField, "list[0].number: invalid value: integer `-1`");
        check("{\"list\":[{\"nummer\":1}]}", Code::InvalidField, "unknown field `nummer`, expected `number`");
        check("{}", Code::InvalidField, "missing field `list`");
        check("\u{feff}{\"list\":[]}", Code::InvalidJson, "line 1 column 1");
    }

    #[test]
    fn numbers_out_of_range_are_refused_with_the_range() {
        for given in [0, -1, 1_000_000_000, i64::MIN] {
            let told = within("limit", Some(given), 10, 1..=100).unwrap_err().report().text();
            assert!(told.contains("limit must be 1 to 100"), "{told}");
        }
        assert_eq!(within("limit", None, 10, 1..=100).unwrap(), 10);
        assert_eq!(within("limit", Some(100), 10, 1..=100).unwrap(), 100);
    }
}
