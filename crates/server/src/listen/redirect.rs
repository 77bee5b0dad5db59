//! What is said to a client that speaks plain HTTP where it must not: where encryption is spoken, or that it has just
//! shown its credential to everybody on the way.
//!
//! Nothing of the API is reached from here. A redirection leads only to names that the certificate has, so that nobody
//! can be led elsewhere by a `Host` that somebody else made up.

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderValue, StatusCode, Uri,
        header::{CACHE_CONTROL, CONNECTION, HOST, LOCATION},
        uri::Authority,
    },
    response::{IntoResponse, Response},
};
use hyper::body::Incoming;

use crate::{
    access::has_key,
    error::{Code, Failure},
    tls::Tls,
};

/// The headers that a credential comes in.
const CREDENTIALS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"];
/// The port that `https` has unless another is named (RFC 9110, section 4.2.2).
const HTTPS_PORT: u16 = 443;

/// What a listener does with every request, in place of serving it.
#[derive(Clone)]
pub(crate) enum Doorman {
    /// Sends it to the port where TLS is spoken.
    Redirects {
        /// Whose names may be redirected to.
        tls: Tls,
        /// The port.
        port: u16,
    },
    /// Says that TLS is spoken here.
    Refuses,
}

impl Doorman {
    /// The answer to a request that came without encryption.
    pub(crate) fn answer(&self, request: &hyper::Request<Incoming>) -> Response {
        let mut response = match self {
            Self::Redirects { tls, port } => redirect(request.headers(), request.uri(), *port, tls),
            Self::Refuses => refusal(request.headers(), request.uri()).into_response(),
        };
        // The next request belongs on another connection.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

fn redirect(headers: &HeaderMap, uri: &Uri, port: u16, tls: &Tls) -> Response {
    if has_credential(headers, uri) {
        return refusal(headers, uri).into_response();
    }
    let Some(location) = location(headers, uri, port, tls) else {
        let detail = "the Host is no name of this server's certificate";
        return Failure::new(Code::ForbiddenHost, detail).into_response();
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, location);
    // A redirection that is kept outlives a change of the port.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refusal(headers: &HeaderMap, uri: &Uri) -> Failure {
    let detail = if has_credential(headers, uri) {
        "the request carried a credential without encryption; take it for known to others"
    } else {
        "the request came without encryption"
    };
    Failure::new(Code::HttpsRequired, detail)
}

fn has_credential(headers: &HeaderMap, uri: &Uri) -> bool {
    CREDENTIALS.iter().any(|name| headers.contains_key(*name)) || uri.query().is_some_and(has_key)
}

fn location(headers: &HeaderMap, uri: &Uri, port: u16, tls: &Tls) -> Option<HeaderValue> {
    let authority: Authority = headers.get(HOST)?.to_str().ok()?.parse().ok()?;
    // The user and password that an authority may have are none of a Host.
    let host = authority.host();
    if authority.as_str().contains('@') || !tls.has_name(host) {
        return None;
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let port = if port == HTTPS_PORT { String::new() } else { format!(":{port}") };
    HeaderValue::from_str(&format!("https://{host}{port}{path}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_seen_wherever_it_is() {
        let none = HeaderMap::new();
        for name in CREDENTIALS {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static("x"))]);
            assert!(has_credential(&headers, &Uri::from_static("/")), "{name}");
        }
        for target in ["/?api_key=x", "/?a=b&Token=x", &format!("/?x=hf_{}", "x".repeat(49))] {
            assert!(has_credential(&none, &target.parse().unwrap()), "{target}");
        }
        for target in ["/", "/key", "/?keys=x&monkey=1"] {
            assert!(!has_credential(&none, &target.parse().unwrap()), "{target}");
        }
    }
}
