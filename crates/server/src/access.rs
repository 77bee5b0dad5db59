//! Who a request comes from, and whether they may do what it asks for.
//!
//! Everything is denied that is not allowed: a request without a valid key gets no further than here unless its path is
//! among [`routes::WITHOUT_KEY`], and one whose key lacks the scope that the route table names for its method is refused
//! before its handler sees it. Which data a caller may see is decided in the queries of `storage`, not here.
//! [`upkeep`] is woken by a timer and by shutdown, with which it ends: it has written down which keys were used.

use std::{net::IpAddr, time::Duration};

use axum::{
    extract::Request,
    http::{Extensions, HeaderMap, HeaderName, Method, Uri, header},
    response::{IntoResponse, Response},
};
use holdfast_storage::{
    Caller, Role, Scope,
    keys::{Authentication, Refusal, is_well_formed},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Server,
    edge::Peer,
    error::{Code, Failure},
    face::Face,
    forwarded,
    limits::Meter,
    routes::{Entry, Route, WITHOUT_KEY},
};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// What is looked up where no key was given, so that it takes as long as a wrong one. No key is like it.
const NO_KEY: &str = "hf_none";
/// Parameters that people put keys in, though no key is taken from there.
const KEY_PARAMETERS: [&str; 5] = ["key", "api_key", "apikey", "token", "access_token"];
/// How a key begins, and how many letters and digits follow at least in one of which some may be missing. A collection
/// may be called `hf_notes`.
const KEY_PREFIX: &str = "hf_";
const KEY_CHARS_MIN: usize = 20;
/// How often it is written down which keys were used.
const NOTED_EVERY: Duration = Duration::from_secs(30);

/// Lets in whoever may come in to do what they may do, and notes who that is.
pub(crate) async fn check(
    (server, entry): (&Server, Entry),
    route: &'static Route,
    mut request: Request,
    next: impl AsyncFnOnce(Request) -> Result<Response, Failure>,
) -> Result<Response, Failure> {
    let address = client_address(server, request.headers(), request.extensions());
    let caller = match entry {
        Entry::Owner => Caller::owner(),
        Entry::Network if WITHOUT_KEY.contains(&route.path) => return next(request).await,
        Entry::Metrics => return next(request).await,
        Entry::Network => {
            let credential = Credential::of(request.headers(), request.uri());
            match authenticate(server, credential, address, route.face).await? {
                Ok(caller) => caller,
                Err(refused) => return Ok(*refused),
            }
        }
    };
    let meter = match server.limits().admit(&caller, address, route.face) {
        Ok(meter) => meter,
        Err(refused) => return Ok(*refused),
    };
    authorise(&caller, route, request.method())?;
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert::<Meter>(meter.clone());
    let mut response = next(request).await.unwrap_or_else(IntoResponse::into_response);
    meter.put(&mut response, route.face);
    Ok(response)
}

/// Whom the key of a request belongs to. A missing key goes the same way as a wrong one, and is told apart in the detail
/// only. Who is not let in is answered in this shape.
async fn authenticate(
    server: &Server,
    given: Credential<'_>,
    address: Option<IpAddr>,
    face: Face,
) -> Result<Result<Caller, Box<Response>>, Failure> {
    let key = given.looked_up();
    let found = match server.storage().authenticate_at_once(key, address) {
        Some(found) => found,
        None => {
            let key = key.to_owned();
            server.blocking(move |server| server.storage().authenticate(&key, address)).await??
        }
    };
    match found {
        Authentication::Granted(caller) => Ok(Ok(caller)),
        Authentication::Refused(refusal) => {
            let (reason, detail) = why(given, refusal);
            metrics::counter!("holdfast_authentication_failures_total", "reason" => reason).increment(1);
            let (too_many, standings) = server.limits().failed(address, reason);
            let failure = too_many.unwrap_or_else(|| Failure::new(Code::Unauthorized, detail));
            let mut response = failure.into_response();
            standings.put(&mut response, face);
            Ok(Err(Box::new(response)))
        }
    }
}

/// What a request brings to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Credential<'a> {
    Nothing,
    Key(&'a str),
    /// Several keys: whose request it is would depend on who reads it.
    Several,
    /// A key in the address, where logs and histories keep it.
    InQuery,
}

impl<'a> Credential<'a> {
    /// `Authorization: Bearer …`, RFC 6750 section 2.1, or `X-API-Key`. A key in the address is refused beside these too:
    /// it stands in the same logs, and who sends it has to hear of it.
    fn of(headers: &'a HeaderMap, uri: &Uri) -> Self {
        if uri.query().is_some_and(has_key) {
            return Self::InQuery;
        }
        let mut keys = headers.get_all(header::AUTHORIZATION).iter().map(|value| {
            let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        });
        let (bearer, another) = (keys.next(), keys.next());
        let mut others = headers.get_all(&API_KEY).iter().map(|value| value.to_str().ok());
        let (plain, another_plain) = (others.next(), others.next());
        let both = bearer.flatten().zip(plain.flatten());
        if another.is_some() || another_plain.is_some() || both.is_some_and(|(one, other)| one != other) {
            return Self::Several;
        }
        bearer.flatten().or(plain.flatten()).filter(|key| !key.is_empty()).map_or(Self::Nothing, Self::Key)
    }

    /// What is looked up for it. Something is for each of them, so that all refusals take the same work.
    fn looked_up(self) -> &'a str {
        match self {
            Self::Key(key) => key,
            Self::Nothing | Self::Several | Self::InQuery => NO_KEY,
        }
    }
}

/// Whether a query string has what looks like one of our keys, or a name that others use for theirs.
pub(crate) fn has_key(query: &str) -> bool {
    query.split(['&', ';']).any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        KEY_PARAMETERS.iter().any(|known| name.eq_ignore_ascii_case(known)) || looks_like_a_key(pair)
    })
}

fn looks_like_a_key(text: &str) -> bool {
    text.split(KEY_PREFIX)
        .skip(1)
        .any(|rest| rest.bytes().take_while(u8::is_ascii_alphanumeric).count() >= KEY_CHARS_MIN)
}

/// Why somebody is not let in: a word for metrics, and a sentence that tells nothing to those who hold no key.
fn why(given: Credential<'_>, refusal: Refusal) -> (&'static str, &'static str) {
    match (given, refusal) {
        (Credential::Nothing, _) => ("missing", "no key was given"),
        (Credential::Several, _) => ("several", "more than one key was given"),
        (Credential::InQuery, _) => {
            ("in_query", "a key in the address is not taken, since logs keep it; send it in a header, and rotate it")
        }
        (Credential::Key(key), Refusal::Unknown) if !is_well_formed(key) => {
            ("malformed", "the key is mistyped or cut off: its check does not fit")
        }
        (Credential::Key(_), Refusal::Unknown) => ("unknown", "the key is unknown"),
        (Credential::Key(_), Refusal::Revoked) => ("revoked", "the key was revoked"),
        (Credential::Key(_), Refusal::Expired) => ("expired", "the key has expired"),
        (Credential::Key(_), Refusal::ElsewhereOnly) => ("address", "the key may not be used from this address"),
    }
}

/// Where a request comes from: the other end of the connection, or what a trusted proxy there says. Nowhere, where it
/// came over the control socket or from this very process.
pub(crate) fn client_address(server: &Server, headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
    let peer = extensions.get::<Peer>()?.address.ip();
    let config = server.config();
    Some(forwarded::client(peer, headers, config.proxy_header, &config.trusted_proxies))
}

/// Refuses what the caller's scopes do not allow. What the table does not know is left to the router, which answers that
/// there is no such route or method; no handler is behind that.
fn authorise(caller: &Caller, route: &Route, method: &Method) -> Result<(), Failure> {
    match route.action(method) {
        None => Ok(()),
        Some(Some(scope)) => permit(caller, scope),
        // Only the paths without a key ask for nothing.
        Some(None) if WITHOUT_KEY.contains(&route.path) => Ok(()),
        Some(None) => Err(Failure::new(Code::Forbidden, "nobody may do this")),
    }
}

/// Refuses what takes a scope that the caller does not have.
pub(crate) fn permit(caller: &Caller, scope: Scope) -> Result<(), Failure> {
    if caller.may(scope) {
        return Ok(());
    }
    let roles: Vec<_> = Role::with(scope).map(Role::as_str).collect();
    Err(Failure::new(Code::Forbidden, format!("this key lacks the scope {scope}"))
        .hint(Some(format!("use a key with one of the roles {}", roles.join(", ")))))
}

/// Writes down which keys were used.
pub(crate) async fn upkeep(server: Server, shutdown: CancellationToken) {
    loop {
        let is_over = tokio::select! {
            () = tokio::time::sleep(NOTED_EVERY) => false,
            () = shutdown.cancelled() => true,
        };
        if let Err(error) = server.storage().note_used_keys().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "failed to note when keys were used: {error}");
        }
        if is_over {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn credential<'a>(headers: &'a HeaderMap, uri: &str) -> Credential<'a> {
        Credential::of(headers, &uri.parse().unwrap())
    }

    #[test]
    fn keys_come_in_two_headers() {
        for (name, value) in
            [("authorization", "Bearer hf_1"), ("authorization", "bearer  hf_1 "), ("x-api-key", "hf_1")]
        {
            assert_eq!(credential(&headers(&[(name, value)]), "/"), Credential::Key("hf_1"), "{name}: {value}");
        }
        for (name, value) in [("authorization", "Basic aGY6MQ=="), ("authorization", "Bearer "), ("x-api-key", "")] {
            assert_eq!(credential(&headers(&[(name, value)]), "/"), Credential::Nothing, "{name}: {value}");
        }
    }

    #[test]
    fn several_keys_are_none() {
        let several = [
            [("authorization", "Bearer hf_1"), ("authorization", "Bearer hf_1")],
            [("authorization", "Bearer hf_1"), ("authorization", "Basic aGY6MQ==")],
            [("x-api-key", "hf_1"), ("x-api-key", "hf_2")],
            [("authorization", "Bearer hf_1"), ("x-api-key", "hf_2")],
        ];
        for all in several {
            assert_eq!(credential(&append(&all), "/"), Credential::Several, "{all:?}");
        }
        let same = append(&[("authorization", "Bearer hf_1"), ("x-api-key", "hf_1")]);
        assert_eq!(credential(&same, "/"), Credential::Key("hf_1"));
    }

    fn append(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_key_in_the_address_is_noticed() {
        let (none, valid) = (HeaderMap::new(), headers(&[("x-api-key", "hf_1")]));
        let whole = format!("/?q=hf_{}", "x".repeat(49));
        let cut = format!("/?a;q=x%20hf_{}&b", "x".repeat(20));
        for uri in ["/?api_key=x", "/a?b=c&key=hf_1", "/?access_token", "/?Token=", &whole, &cut] {
            assert_eq!(credential(&none, uri), Credential::InQuery, "{uri}");
            assert_eq!(credential(&valid, uri), Credential::InQuery, "{uri} beside a key in its place");
        }
        for uri in ["/", "/?q=keys", "/?monkey=1", "/?collection=hf_notes", "/?q=hf_models_of_the_whole_world"] {
            assert_eq!(credential(&none, uri), Credential::Nothing, "{uri}");
            assert_eq!(credential(&valid, uri), Credential::Key("hf_1"), "{uri}");
        }
    }

    /// Whoever measures how long a refusal takes learns nothing: whatever is brought, one text is hashed and looked up,
    /// and each of them is a single block of the hash, of 64 bytes, as a key is.
    #[test]
    fn every_refusal_looks_something_up_that_takes_as_long() {
        let key = format!("hf_{}", "x".repeat(49));
        let all = [Credential::Nothing, Credential::Several, Credential::InQuery, Credential::Key(&key)];
        for given in all {
            let looked_up = given.looked_up();
            assert!((1..=64).contains(&looked_up.len()), "{given:?}: {looked_up:?}");
            let is_key = matches!(given, Credential::Key(_));
            assert_eq!(looked_up == NO_KEY, !is_key, "{given:?}");
        }
        assert!(!is_well_formed(NO_KEY), "nobody can have it");
    }
}
