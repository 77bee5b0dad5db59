//! Whether a request is meant for this server, and which pages may read its answers: `Host`, `Origin` and CORS.
//!
//! A page in a browser on the same machine can send requests here, and by a name of its own that it lets point here (DNS
//! rebinding) even read the answers. So a request has to name the server as it is known: by an address, by `localhost`
//! or by a name of [`crate::Config::allowed_hosts`]. An address cannot be rebound. Where a browser says which page a
//! request comes from, that has to be this server's own or one of [`crate::Config::allowed_origins`].
//!
//! The probes answer whoever asks, under any name: balancers ask by names of their own, and what they are told is no
//! secret. Requests of the owner come through no network.

use std::net::IpAddr;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::Response,
};

use crate::{
    Server,
    edge::Peer,
    error::{Code, Failure},
    routes::{Entry, PROBES, Route},
};

/// The longest name of a host, RFC 1035, section 2.3.4.
const NAME_BYTES_MAX: usize = 255;
/// How long a browser may remember what a page may do, in seconds.
const PREFLIGHT_MAX_AGE: &str = "600";
/// The headers that a page may send.
const REQUEST_HEADERS: [&str; 8] = [
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "mcp-protocol-version",
    "traceparent",
    "x-api-key",
    "x-request-id",
];
/// The headers that a page may read.
const ANSWER_HEADERS: &str = "allow, ratelimit, ratelimit-policy, retry-after, www-authenticate, x-holdfast-truncated, \
                              x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, \
                              x-request-id";

/// Refuses requests that are meant for somebody else. Gives the page that may read the answer, though it is not ours.
pub(crate) fn check(server: &Server, entry: Entry, route: &Route, request: &Request) -> Result<Reader, Failure> {
    if entry == Entry::Owner || PROBES.contains(&route.path) {
        return Ok(Reader(None));
    }
    let config = server.config();
    let host = host(request.uri(), request.headers())?;
    // A name that our certificate has is one of ours too.
    let is_certified = matches!(host.name, Name::Word(word) if server.is_certified(word));
    if !is_certified && !is_ours(host, &config.allowed_hosts) {
        return Err(Failure::new(Code::ForbiddenHost, "the server is not known by the host that the request names"));
    }
    let is_tls = request.extensions().get::<Peer>().is_some_and(|peer| peer.is_tls);
    Ok(Reader(match page(request.headers(), host, is_tls, &config.allowed_origins)? {
        Page::None | Page::Own => None,
        Page::Allowed(origin) => Some(origin.clone()),
    }))
}

/// The origin of a page elsewhere that may read an answer, if there is one.
pub(crate) struct Reader(Option<HeaderValue>);

impl Reader {
    /// What the page may do at a route, where its browser asks that before the request itself.
    pub(crate) fn preflight(&self, route: &Route, request: &Request) -> Option<Response> {
        self.0.as_ref().and_then(|_| preflight(route, request))
    }

    /// Has its browser let it read the answer.
    pub(crate) fn put(self, response: &mut Response) {
        let Some(origin) = self.0 else { return };
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(ANSWER_HEADERS));
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
}

/// Who is meant by a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Host<'a> {
    /// A name as it was written, or an address.
    name: Name<'a>,
    port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name<'a> {
    Address(IpAddr),
    Word(&'a str),
}

impl<'a> Host<'a> {
    /// A name or address and perhaps a port (RFC 3986, section 3.2), and nothing else.
    fn parse(text: &'a str) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                (Name::Address(IpAddr::V6(address.parse().ok()?)), port)
            }
            None => {
                let (name, port) = text.find(':').map_or((text, ""), |at| text.split_at(at));
                (Name::parse(name)?, port)
            }
        };
        let port = match port.strip_prefix(':') {
            // RFC 3986 allows the port to be empty.
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
            None if port.is_empty() => None,
            None => return None,
        };
        Some(Self { name, port })
    }

    fn is(&self, other: &Self, default_port: u16) -> bool {
        let same_name = match (self.name, other.name) {
            (Name::Address(one), Name::Address(other)) => one == other,
            (Name::Word(one), Name::Word(other)) => one.eq_ignore_ascii_case(other),
            _ => false,
        };
        same_name && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

impl<'a> Name<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Self::Address(IpAddr::V4(address)));
        }
        // With a dot at its end a name is the same name.
        let name = text.strip_suffix('.').unwrap_or(text);
        let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        (fits && is_name).then_some(Self::Word(name))
    }
}

/// The host that a request names, in one place or in several that agree.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<Host<'a>, Failure> {
    let refused = |detail: &str| Failure::new(Code::InvalidRequest, detail);
    let mut all = headers.get_all(header::HOST).iter();
    let (given, another) = (all.next(), all.next());
    if another.is_some() {
        return Err(refused("more than one Host was given"));
    }
    // An absolute target, or `:authority` of HTTP/2.
    let target = uri.authority().map(|authority| authority.as_str());
    let header = given.map(|value| value.to_str().unwrap_or("?"));
    let text = match (target, header) {
        (Some(target), Some(header)) if !target.eq_ignore_ascii_case(header) => {
            return Err(refused("the target of the request names another host than its Host header"));
        }
        (Some(text), _) | (None, Some(text)) => text,
        (None, None) => return Err(refused("no Host was given")),
    };
    Host::parse(text).ok_or_else(|| refused("the Host is not a name or an address"))
}

fn is_ours(host: Host<'_>, allowed: &[String]) -> bool {
    match host.name {
        Name::Address(_) => true,
        Name::Word(word) => {
            word.eq_ignore_ascii_case("localhost") || allowed.iter().any(|name| word.eq_ignore_ascii_case(name))
        }
    }
}

/// The page that a request comes from, as a browser says.
enum Page<'a> {
    /// None, or the browser sees no reason to say.
    None,
    /// The server's own.
    Own,
    /// One that was allowed.
    Allowed(&'a HeaderValue),
}

fn page<'a>(headers: &'a HeaderMap, host: Host<'_>, is_tls: bool, allowed: &[String]) -> Result<Page<'a>, Failure> {
    let mut all = headers.get_all(header::ORIGIN).iter();
    let Some(value) = all.next() else { return Ok(Page::None) };
    let refused = || Failure::new(Code::ForbiddenHost, "pages of this Origin may not call the server");
    if all.next().is_some() {
        return Err(refused());
    }
    // `null` stands for a page that has no origin, or does not want to say; anybody can make such a page.
    let origin = value.to_str().ok().filter(|origin| *origin != "null").ok_or_else(refused)?;
    if allowed.iter().any(|allowed| origin.eq_ignore_ascii_case(allowed)) {
        return Ok(Page::Allowed(value));
    }
    let (default_port, authority) = match origin.split_once("://") {
        Some(("https", authority)) => (443, authority),
        // What comes encrypted does not come from a page that did not. The other way round it may: a proxy decrypts.
        Some(("http", authority)) if !is_tls => (80, authority),
        _ => return Err(refused()),
    };
    let own = Host::parse(authority).is_some_and(|page| page.is(&host, default_port));
    own.then_some(Page::Own).ok_or_else(refused)
}

fn preflight(route: &Route, request: &Request) -> Option<Response> {
    let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD);
    if request.method() != Method::OPTIONS || asked.is_none() || route.methods.is_empty() {
        return None;
    }
    let methods: Vec<_> = route.methods.iter().map(|(verb, _)| verb.method().to_string()).collect();
    let wanted = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).and_then(|value| value.to_str().ok());
    let wanted = wanted.unwrap_or_default().split(',').map(str::trim);
    let granted: Vec<_> = wanted
        .filter_map(|name| REQUEST_HEADERS.iter().find(|known| name.eq_ignore_ascii_case(known)))
        .copied()
        .collect();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let mut put = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    put(header::ACCESS_CONTROL_ALLOW_METHODS, &methods.join(", "));
    if !granted.is_empty() {
        put(header::ACCESS_CONTROL_ALLOW_HEADERS, &granted.join(", "));
    }
    put(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(String, Option<u16>)> {
        let host = Host::parse(text)?;
        let name = match host.name {
            Name::Address(address) => address.to_string(),
            Name::Word(word) => format!("name {word}"),
        };
        Some((name, host.port))
    }

    #[test]
    fn hosts_are_names_or_addresses_with_or_without_a_port() {
        let check = |text, name: &str, port| assert_eq!(parsed(text), Some((name.to_owned(), port)), "{text}");
        check("localhost", "name localhost", None);
        check("localhost.", "name localhost", None);
        check("LocalHost:8088", "name LocalHost", Some(8088));
        check("localhost:", "name localhost", None);
        check("127.0.0.1:1", "127.0.0.1", Some(1));
        check("[::1]", "::1", None);
        check("[::1]:65535", "::1", Some(65_535));
        // No browser sends this for an address.
        check("127.1", "name 127.1", None);
        let long = "x".repeat(256);
        for wrong in [
            "",
            " ",
            ":80",
            "[",
            "[]",
            "[::1",
            "[::1]x",
            "[127.0.0.1]",
            "::1",
            "a:b",
            "a:1:2",
            "a:65536",
            "a:-1",
            "a:+1",
            "user@localhost",
            "localhost/x",
            "localhost?x",
            "local host",
            "ä",
            "a,b",
            "%6c",
            "a:１",
            &long,
        ] {
            assert_eq!(parsed(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let named = |uri: &str, hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
            }
            host(&uri.parse().unwrap(), &headers)
                .map(|host| format!("{:?}", host.name))
                .map_err(|refused| refused.report().code)
        };
        // The last two are how HTTP/2 says it.
        for (uri, hosts) in [
            ("/x", &["localhost"][..]),
            ("http://localhost/x", &["localhost"]),
            ("https://localhost/x", &["LOCALHOST"]),
            ("https://localhost/x", &[]),
        ] {
            assert_eq!(named(uri, hosts).unwrap(), "Word(\"localhost\")", "{uri} {hosts:?}");
        }
        for (uri, hosts) in [
            ("/x", &[][..]),
            ("/x", &["localhost", "localhost"]),
            ("/x", &["localhost", "evil"]),
            ("/x", &["a b"]),
            ("https://localhost/x", &["evil"]),
            ("https://evil/x", &["localhost"]),
            ("https://localhost:1/x", &["localhost"]),
            ("https://user@localhost/x", &[]),
        ] {
            assert_eq!(named(uri, hosts).unwrap_err(), "invalid_request", "{uri} {hosts:?}");
        }
    }

    fn verdict(host: &str, origin: &str, is_tls: bool) -> &'static str {
        let host = Host::parse(host).unwrap();
        if !is_ours(host, &["kb.example".to_owned()]) {
            return "host";
        }
        let mut headers = HeaderMap::new();
        if !origin.is_empty() {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        match page(&headers, host, is_tls, &["https://app.example".to_owned(), "tauri://localhost".to_owned()]) {
            Ok(Page::None) => "none",
            Ok(Page::Own) => "own",
            Ok(Page::Allowed(_)) => "allowed",
            Err(_) => "origin",
        }
    }

    #[test]
    fn names_that_anybody_can_point_here_are_refused() {
        for host in
            ["localhost", "localhost:1", "127.0.0.1", "127.9.9.9:8088", "[::1]:8088", "10.1.2.3", "KB.Example:443"]
        {
            assert_eq!(verdict(host, "", false), "none", "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "xkb.example", "0x7f000001", "kb"] {
            assert_eq!(verdict(host, "", false), "host", "{host}");
        }
    }

    #[test]
    fn pages_are_the_servers_own_or_allowed() {
        for (host, origin, is_tls, expected) in [
            ("localhost:8088", "http://localhost:8088", false, "own"),
            ("localhost:8088", "http://LOCALHOST:8088", false, "own"),
            ("127.0.0.1:8088", "http://127.0.0.1:8088", false, "own"),
            ("[::1]:8088", "http://[::1]:8088", false, "own"),
            ("kb.example", "https://kb.example", false, "own"),
            ("kb.example:443", "https://kb.example", true, "own"),
            ("kb.example", "http://kb.example", false, "own"),
            ("kb.example", "http://kb.example", true, "origin"),
            ("kb.example", "https://kb.example:8443", true, "origin"),
            ("localhost:8088", "http://localhost:3000", false, "origin"),
            ("localhost:8088", "http://127.0.0.1:8088", false, "origin"),
            ("localhost:8088", "null", false, "origin"),
            ("localhost:8088", "https://evil.example", false, "origin"),
            ("localhost:8088", "http://localhost:8088.evil.example", false, "origin"),
            ("localhost:8088", "http://evil@localhost:8088", false, "origin"),
            ("localhost:8088", "localhost:8088", false, "origin"),
            ("localhost:8088", "file://", false, "origin"),
            ("localhost:8088", "https://app.example", false, "allowed"),
            ("localhost:8088", "https://app.example.evil", false, "origin"),
            ("localhost:8088", "http://app.example", false, "origin"),
            ("localhost:8088", "tauri://localhost", false, "allowed"),
        ] {
            assert_eq!(verdict(host, origin, is_tls), expected, "{origin} at {host}");
        }
    }
}
