//! The headers that tell a browser to be careful with an answer, whatever it is asked to do with it.
//!
//! Every answer has them. What the server sends is data: nothing of it is to be run, shown in another page's frame, kept
//! in a cache or sent on as where somebody came from. [`PAGES`] has what is meant to be looked at.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::Response,
};

use crate::edge::Peer;

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Content-Security-Policy, Level 3, of what is no page.
const DATA: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// That of pages, which load only what this server has. Swagger UI has its icons in its style as `data:` addresses.
const PAGE: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
                    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The routes that are pages, with their policies. A page whose scripts or styles stand within it does not work.
const PAGES: &[(&str, &str)] = &[("/api/docs", PAGE)];

/// How long a browser is to come encrypted only: a year.
const ENCRYPTED_ONLY: &str = "max-age=31536000";

/// What has to be known of a request to shield its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shield {
    policy: &'static str,
    /// Whether the browser is to come encrypted from now on.
    is_encrypted_only: bool,
    /// Whether the connection ends with the answer.
    is_last: bool,
}

impl Shield {
    /// For an answer of which nothing is known but its route.
    pub(crate) fn of_route(route: &str) -> Self {
        let policy = PAGES.iter().find(|(page, _)| *page == route).map_or(DATA, |(_, policy)| policy);
        Self { policy, is_encrypted_only: false, is_last: false }
    }

    /// For the answer to a request.
    pub(crate) fn of(request: &Request, route: &str) -> Self {
        let is_tls = request.extensions().get::<Peer>().is_some_and(|peer| peer.is_tls);
        Self {
            is_encrypted_only: is_tls && has_own_name(request),
            is_last: request.headers().contains_key(header::TRANSFER_ENCODING),
            ..Self::of_route(route)
        }
    }

    /// Puts the headers on an answer.
    pub(crate) fn put(self, response: &mut Response) {
        let headers = response.headers_mut();
        self.put_fixed(headers);
        if self.is_encrypted_only {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(ENCRYPTED_ONLY));
        }
        if self.is_last {
            // RFC 9112, section 6.1: a request may have said its length twice, and whoever stands between may have believed the
            // other one. What comes after it is not taken for another request.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Those that are the same for every request to a route.
    pub(crate) fn put_fixed(self, headers: &mut HeaderMap) {
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(self.policy));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
}

/// Whether a request came by a name that is this server's alone. `localhost` is everybody's on that machine, and other
/// programs there may speak without encryption; of addresses RFC 6797, section 8.1.1, says that they are never bound.
fn has_own_name(request: &Request) -> bool {
    let header = || request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let host = request.uri().authority().map(|authority| authority.as_str()).or_else(header).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_address = host.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok();
    !name.is_empty() && !is_address && !name.trim_end_matches('.').eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn shielded(host: &str, is_tls: bool, route: &str) -> Response {
        let mut request = Request::builder().header(header::HOST, host).body(Body::empty()).unwrap();
        request.extensions_mut().insert(Peer { address: "127.0.0.1:1".parse().unwrap(), is_tls });
        let mut response = Response::new(Body::empty());
        Shield::of(&request, route).put(&mut response);
        response
    }

    #[test]
    fn a_browser_is_bound_to_encryption_by_a_name_of_our_own_only() {
        for (host, is_tls, bound) in [
            ("kb.example", true, true),
            ("kb.example:8443", true, true),
            ("kb.example", false, false),
            ("localhost:8443", true, false),
            ("localhost.", true, false),
            ("192.0.2.1:8443", true, false),
            ("[2001:db8::1]:8443", true, false),
            ("[2001:db8::1]", true, false),
        ] {
            let response = shielded(host, is_tls, "/api/v1/search");
            let told = response.headers().contains_key(header::STRICT_TRANSPORT_SECURITY);
            assert_eq!(told, bound, "{host}");
        }
    }

    #[test]
    fn pages_may_show_what_is_ours_and_data_nothing() {
        let policy = |route| shielded("localhost", false, route).headers()[header::CONTENT_SECURITY_POLICY].clone();
        assert_eq!(policy("/api/docs"), PAGE);
        assert_eq!(policy("/api/v1/search"), DATA);
        for policy in [DATA, PAGE] {
            assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
            assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        }
    }
}
