//! The route table: which paths there are, with which methods, for whom, and how long each may take.
//!
//! The router is built from this table and the tests walk it, so a route cannot exist without being tested for a key.

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::Method,
    routing::{MethodRouter, delete, get, post},
};

use crate::{
    Server, api, embeddings,
    error::{Code, Failure},
    face::Face,
    gate, health, mcp, metrics,
};

/// Which door a request comes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A network listener: a key is needed.
    Network,
    /// The control socket, or this very process: it is the owner.
    Owner,
}

/// The only paths that answer without a key.
pub(crate) const WITHOUT_KEY: [&str; 4] = ["/health/live", "/health/ready", "/health/startup", "/health"];

/// How long a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// [`crate::Config::request_timeout`].
    Usual,
    /// [`crate::Config::long_request_timeout`].
    Long,
}

/// Whom a route exists for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Everybody who may enter.
    All,
    /// The owner, at the control socket.
    OwnerOnly,
}

/// A path and what can be done with it.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) methods: &'static [Method],
    pub(crate) patience: Patience,
    pub(crate) audience: Audience,
    pub(crate) face: Face,
    handlers: fn() -> MethodRouter<Server>,
}

impl Route {
    const fn new(path: &'static str, methods: &'static [Method], handlers: fn() -> MethodRouter<Server>) -> Self {
        Self { path, methods, patience: Patience::Usual, audience: Audience::All, face: Face::Own, handlers }
    }

    const fn long(mut self) -> Self {
        self.patience = Patience::Long;
        self
    }

    const fn face(mut self, face: Face) -> Self {
        self.face = face;
        self
    }

    const fn owner_only(mut self) -> Self {
        self.audience = Audience::OwnerOnly;
        self
    }
}

const GET: &[Method] = &[Method::GET];
const POST: &[Method] = &[Method::POST];
const DELETE: &[Method] = &[Method::DELETE];
const GET_POST: &[Method] = &[Method::GET, Method::POST];
const GET_DELETE: &[Method] = &[Method::GET, Method::DELETE];

/// Every route there is.
pub(crate) const ROUTES: &[Route] = &[
    Route::new("/api/v1/search", POST, || post(api::search::search)),
    Route::new("/api/v1/documents", GET_POST, || get(api::documents::list).post(api::documents::put)),
    Route::new("/api/v1/documents/{id}", GET_DELETE, || get(api::documents::show).delete(api::documents::remove)),
    Route::new("/api/v1/collections", GET_POST, || get(api::collections::list).post(api::collections::create)),
    Route::new("/api/v1/collections/{name}", GET_DELETE, || {
        get(api::collections::show).delete(api::collections::remove)
    }),
    Route::new("/api/v1/collections/{name}/reembed", POST, || post(api::collections::reembed)),
    Route::new("/api/v1/sources", GET_POST, || get(api::sources::list).post(api::sources::add)),
    Route::new("/api/v1/sources/{id}", GET_DELETE, || get(api::sources::show).delete(api::sources::remove)),
    Route::new("/api/v1/sources/{id}/sync", POST, || post(api::sources::sync)),
    Route::new("/api/v1/sources/{id}/skipped", GET, || get(api::sources::skipped)),
    Route::new("/api/v1/jobs", GET, || get(api::jobs::list)),
    Route::new("/api/v1/jobs/{id}", GET, || get(api::jobs::show)),
    Route::new("/api/v1/status", GET, || get(api::status::show)),
    Route::new("/api/v1/keys", GET_POST, || get(api::keys::list).post(api::keys::create)),
    Route::new("/api/v1/keys/{id}", DELETE, || delete(api::keys::revoke)),
    Route::new("/api/v1/models", GET, || get(api::models::list)),
    Route::new("/api/v1/models/{name}/pull", POST, || post(api::models::pull)).long(),
    Route::new("/api/v1/models/{name}/connect", POST, || post(api::models::connect)),
    Route::new("/api/v1/models/{name}/verify", POST, || post(api::models::verify)).long(),
    Route::new("/api/v1/doctor", POST, || post(api::doctor::run)).long(),
    Route::new("/v1/embeddings", POST, || post(embeddings::openai::embeddings)).face(Face::OpenAi),
    Route::new("/embed", POST, || post(embeddings::tei::embed)).face(Face::Tei),
    Route::new("/embed_all", POST, || post(embeddings::tei::embed_all)).face(Face::Tei),
    Route::new("/similarity", POST, || post(embeddings::tei::similarity)).face(Face::Tei),
    Route::new("/tokenize", POST, || post(embeddings::tei::tokenize)).face(Face::Tei),
    Route::new("/info", GET, || get(embeddings::tei::info)).face(Face::Tei),
    Route::new("/health", GET, || get(health::summary)),
    Route::new("/health/live", GET, || get(health::live)),
    Route::new("/health/ready", GET, || get(health::ready)),
    Route::new("/health/startup", GET, || get(health::startup)),
    Route::new("/metrics", GET, || get(metrics::show)),
    Route::new("/mcp", POST, || post(mcp::http::call)),
    Route::new("/mcp/stdio", GET, || get(mcp::stream::upgrade)).owner_only(),
];

/// The route of a path as the router matched it.
pub(crate) fn find(path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.path == path)
}

/// The whole of the server, behind its gate.
pub(crate) fn router(server: &Server, entry: Entry) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        if route.audience == Audience::All || entry == Entry::Owner {
            router = router.route(route.path, (route.handlers)());
        }
    }
    let router = router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(server.config().max_body_bytes));
    gate::wrap(router, server, entry)
}

async fn no_route() -> Failure {
    Failure::new(Code::RouteNotFound, "there is nothing at this path")
}

async fn no_method(method: Method) -> Failure {
    // An extension method is whatever the client likes to call it; it is not repeated.
    let known = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS, Method::HEAD];
    let detail = if known.contains(&method) {
        format!("{method} is not possible here")
    } else {
        "this method is not possible here".to_owned()
    };
    Failure::new(Code::MethodNotAllowed, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_stands_in_the_table_twice() {
        for (at, route) in ROUTES.iter().enumerate() {
            assert!(ROUTES.iter().skip(at + 1).all(|other| other.path != route.path), "{}", route.path);
        }
    }

    #[test]
    fn every_exception_is_a_route_that_only_reads() {
        for path in WITHOUT_KEY {
            assert_eq!(find(path).map(|route| route.methods), Some(GET), "{path}");
        }
    }
}
