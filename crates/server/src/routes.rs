//! The route table: which paths there are, with which methods, what scope each asks for, and how long each may take.
//!
//! The router is built from this table and the tests walk it, so a route cannot exist without being tested for a key.

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::Method,
    routing::{MethodRouter, delete, get, post},
};

use holdfast_storage::Scope::{
    self, BudgetsManage, Chat, CollectionsManage, CollectionsRead, DocumentsDelete, DocumentsRead, DocumentsWrite,
    Embed, InteractionsRead, InteractionsWrite, JobsRead, KeysManage, LearningRead, Mcp, MetricsRead, ModelsManage,
    ModelsRead, ProvidersManage, ProvidersRead, Search, SourcesManage, SourcesRead, StatusRead, SystemRepair,
};

use crate::{
    Server, api, chat,
    description::pages,
    embeddings,
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
    /// A listener on loopback for metrics alone, which the operator asked for: nothing is needed, and nothing else is
    /// there.
    Metrics,
}

/// The probes.
pub(crate) const PROBES: [&str; 4] = ["/health/live", "/health/ready", "/health/startup", "/health"];

/// What is answered also when there is no place for another request: it takes next to nothing, and tells of just that.
pub(crate) const NEED_NO_PLACE: [&str; 5] = [PROBES[0], PROBES[1], PROBES[2], PROBES[3], "/metrics"];

/// The only paths that answer without a key: the probes, and the description of the interface with its page. A browser
/// sends no key with a navigation, and neither tells anything of what is stored or which version runs.
pub(crate) const WITHOUT_KEY: [&str; 10] = [
    PROBES[0],
    PROBES[1],
    PROBES[2],
    PROBES[3],
    "/api/openapi.json",
    "/api/docs",
    "/api/docs/start.js",
    "/api/docs/swagger-ui.js",
    "/api/docs/swagger-ui.css",
    "/api/docs/icon.png",
];

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

/// The methods that routes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Delete,
}

impl Verb {
    /// What a method asks to be done. `HEAD` is `GET` without the body.
    fn of(method: &Method) -> Option<Self> {
        match *method {
            Method::GET | Method::HEAD => Some(Self::Get),
            Method::POST => Some(Self::Post),
            Method::DELETE => Some(Self::Delete),
            _ => None,
        }
    }

    /// The method as it is written.
    pub(crate) const fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post => Method::POST,
            Self::Delete => Method::DELETE,
        }
    }
}

/// A method and the scope that it asks for; nothing for what anybody may do.
pub(crate) type Action = (Verb, Option<Scope>);

/// A path and what can be done with it.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) methods: &'static [Action],
    pub(crate) patience: Patience,
    pub(crate) audience: Audience,
    pub(crate) face: Face,
    handlers: fn() -> MethodRouter<Server>,
}

impl Route {
    const fn new(path: &'static str, methods: &'static [Action], handlers: fn() -> MethodRouter<Server>) -> Self {
        Self { path, methods, patience: Patience::Usual, audience: Audience::All, face: Face::Own, handlers }
    }

    /// What a method asks for, if the route has it.
    pub(crate) fn action(&self, method: &Method) -> Option<Option<Scope>> {
        let verb = Verb::of(method)?;
        self.methods.iter().find(|(known, _)| *known == verb).map(|(_, scope)| *scope)
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

/// What is asked of those who need no key.
const OPEN: &[Action] = &[(Verb::Get, None)];

const fn get_with(scope: Scope) -> Action {
    (Verb::Get, Some(scope))
}

const fn post_with(scope: Scope) -> Action {
    (Verb::Post, Some(scope))
}

const fn delete_with(scope: Scope) -> Action {
    (Verb::Delete, Some(scope))
}

/// Every route there is.
pub(crate) const ROUTES: &[Route] = &[
    Route::new("/api/v1/search", &[post_with(Search)], || post(api::search::search)),
    Route::new("/api/v1/documents", &[get_with(DocumentsRead), post_with(DocumentsWrite)], || {
        get(api::documents::list).post(api::documents::put)
    }),
    Route::new("/api/v1/documents/{id}", &[get_with(DocumentsRead), delete_with(DocumentsDelete)], || {
        get(api::documents::show).delete(api::documents::remove)
    }),
    Route::new("/api/v1/collections", &[get_with(CollectionsRead), post_with(CollectionsManage)], || {
        get(api::collections::list).post(api::collections::create)
    }),
    Route::new("/api/v1/collections/{name}", &[get_with(CollectionsRead), delete_with(CollectionsManage)], || {
        get(api::collections::show).delete(api::collections::remove)
    }),
    Route::new("/api/v1/collections/{name}/reembed", &[post_with(CollectionsManage)], || {
        post(api::collections::reembed)
    }),
    Route::new("/api/v1/sources", &[get_with(SourcesRead), post_with(SourcesManage)], || {
        get(api::sources::list).post(api::sources::add)
    }),
    Route::new("/api/v1/sources/{id}", &[get_with(SourcesRead), delete_with(SourcesManage)], || {
        get(api::sources::show).delete(api::sources::remove)
    }),
    Route::new("/api/v1/sources/{id}/sync", &[post_with(SourcesManage)], || post(api::sources::sync)),
    Route::new("/api/v1/sources/{id}/skipped", &[get_with(SourcesRead)], || get(api::sources::skipped)),
    Route::new("/api/v1/jobs", &[get_with(JobsRead)], || get(api::jobs::list)),
    Route::new("/api/v1/jobs/{id}", &[get_with(JobsRead)], || get(api::jobs::show)),
    Route::new("/api/v1/status", &[get_with(StatusRead)], || get(api::status::show)),
    Route::new("/api/v1/keys", &[get_with(KeysManage), post_with(KeysManage)], || {
        get(api::keys::list).post(api::keys::create)
    }),
    Route::new("/api/v1/keys/{id}", &[delete_with(KeysManage)], || delete(api::keys::revoke)),
    Route::new("/api/v1/keys/{id}/rotate", &[post_with(KeysManage)], || post(api::keys::rotate)),
    Route::new("/api/v1/models", &[get_with(ModelsRead)], || get(api::models::list)),
    Route::new("/api/v1/models/{name}/pull", &[post_with(ModelsManage)], || post(api::models::pull)).long(),
    Route::new("/api/v1/models/{name}/connect", &[post_with(ModelsManage)], || post(api::models::connect)),
    Route::new("/api/v1/models/{name}/verify", &[post_with(ModelsManage)], || post(api::models::verify)).long(),
    Route::new("/api/v1/augment", &[post_with(Chat)], || post(api::augment::augment)),
    Route::new("/api/v1/providers", &[get_with(ProvidersRead), post_with(ProvidersManage)], || {
        get(api::providers::list).post(api::providers::add)
    }),
    Route::new("/api/v1/providers/{name}", &[get_with(ProvidersRead), delete_with(ProvidersManage)], || {
        get(api::providers::show).delete(api::providers::remove)
    }),
    Route::new("/api/v1/providers/{name}/test", &[post_with(ProvidersManage)], || post(api::providers::test)).long(),
    Route::new("/api/v1/budgets", &[get_with(BudgetsManage), post_with(BudgetsManage)], || {
        get(api::budgets::list).post(api::budgets::set)
    }),
    Route::new("/api/v1/budgets/{id}", &[delete_with(BudgetsManage)], || delete(api::budgets::remove)),
    Route::new("/api/v1/sessions", &[get_with(Chat)], || get(api::sessions::list)),
    Route::new("/api/v1/sessions/{id}", &[get_with(Chat), delete_with(Chat)], || {
        get(api::sessions::show).delete(api::sessions::remove)
    }),
    Route::new("/api/v1/interactions", &[get_with(Chat), post_with(InteractionsWrite)], || {
        get(api::interactions::list).post(api::learning::tell)
    }),
    Route::new("/api/v1/interactions/{id}", &[get_with(Chat)], || get(api::learning::show)),
    Route::new("/api/v1/interactions/{id}/why", &[get_with(Chat)], || get(api::interactions::why)),
    Route::new("/api/v1/interactions/{id}/outcome", &[post_with(Chat)], || post(api::learning::went)),
    Route::new("/api/v1/events", &[post_with(InteractionsWrite)], || post(api::events::record)),
    Route::new("/api/v1/events/archive", &[get_with(InteractionsRead), post_with(InteractionsRead)], || {
        get(api::archive::show).post(api::archive::archive)
    })
    .long(),
    Route::new("/api/v1/events/archive/import", &[post_with(InteractionsRead)], || post(api::archive::import)).long(),
    Route::new("/api/v1/learning/patterns", &[get_with(Chat)], || get(api::lessons::patterns)),
    Route::new("/api/v1/learning/errors", &[get_with(Chat)], || get(api::lessons::errors)),
    Route::new("/api/v1/learning/stats", &[get_with(LearningRead)], || get(api::learning::stats)),
    Route::new("/api/v1/learning/evaluations", &[get_with(LearningRead), post_with(InteractionsRead)], || {
        get(api::learning::evaluations).post(api::learning::evaluate)
    })
    .long(),
    Route::new("/api/v1/datasets", &[get_with(InteractionsRead), post_with(InteractionsRead)], || {
        get(api::datasets::list).post(api::datasets::build)
    })
    .long(),
    Route::new("/api/v1/datasets/{id}", &[get_with(InteractionsRead), delete_with(InteractionsRead)], || {
        get(api::datasets::show).delete(api::datasets::remove)
    }),
    Route::new("/api/v1/datasets/{id}/export", &[get_with(InteractionsRead)], || get(api::datasets::export)).long(),
    Route::new("/api/v1/doctor", &[post_with(SystemRepair)], || post(api::doctor::run)).long(),
    Route::new("/v1/embeddings", &[post_with(Embed)], || post(embeddings::openai::embeddings)).face(Face::OpenAi),
    Route::new("/v1/models", &[get_with(ModelsRead)], || get(chat::models::list)).face(Face::OpenAi),
    Route::new("/v1/models/{*name}", &[get_with(ModelsRead)], || get(chat::models::show)).face(Face::OpenAi),
    Route::new("/v1/chat/completions", &[post_with(Chat)], || post(chat::openai::completions))
        .long()
        .face(Face::OpenAi),
    Route::new("/v1/messages", &[post_with(Chat)], || post(chat::anthropic::messages)).long().face(Face::Anthropic),
    Route::new("/v1/messages/count_tokens", &[post_with(Chat)], || post(chat::anthropic::count_tokens))
        .face(Face::Anthropic),
    Route::new("/embed", &[post_with(Embed)], || post(embeddings::tei::embed)).face(Face::Tei),
    Route::new("/embed_all", &[post_with(Embed)], || post(embeddings::tei::embed_all)).face(Face::Tei),
    Route::new("/similarity", &[post_with(Embed)], || post(embeddings::tei::similarity)).face(Face::Tei),
    Route::new("/tokenize", &[post_with(Embed)], || post(embeddings::tei::tokenize)).face(Face::Tei),
    Route::new("/info", &[get_with(ModelsRead)], || get(embeddings::tei::info)).face(Face::Tei),
    Route::new("/health", OPEN, || get(health::summary)),
    Route::new("/health/live", OPEN, || get(health::live)),
    Route::new("/health/ready", OPEN, || get(health::ready)),
    Route::new("/health/startup", OPEN, || get(health::startup)),
    Route::new("/api/openapi.json", OPEN, || get(pages::document)),
    Route::new("/api/docs", OPEN, || get(pages::page)),
    Route::new("/api/docs/start.js", OPEN, || get(pages::start)),
    Route::new("/api/docs/swagger-ui.js", OPEN, || get(pages::program)),
    Route::new("/api/docs/swagger-ui.css", OPEN, || get(pages::style)),
    Route::new("/api/docs/icon.png", OPEN, || get(pages::icon)),
    Route::new("/metrics", &[get_with(MetricsRead)], || get(metrics::show)),
    Route::new("/mcp", &[post_with(Mcp)], || post(mcp::http::call)).face(Face::Mcp),
    Route::new("/mcp/stdio", &[get_with(Mcp)], || get(mcp::stream::upgrade)).owner_only(),
];

/// Where a request leads that matches no route, in logs and metrics.
pub(crate) static NOWHERE: Route = Route::new("none", &[], MethodRouter::new);

/// The route of a path as the router matched it.
pub(crate) fn find(path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.path == path)
}

/// The whole of the server, behind its gate.
pub(crate) fn router(server: &Server, entry: Entry) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let is_there = match entry {
            Entry::Network => route.audience == Audience::All,
            Entry::Owner => true,
            Entry::Metrics => route.path == "/metrics",
        };
        if is_there {
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
            assert_eq!(find(path).map(|route| route.methods), Some(OPEN), "{path}");
        }
        for route in ROUTES {
            let is_open = route.methods.iter().any(|(_, scope)| scope.is_none());
            assert_eq!(is_open, WITHOUT_KEY.contains(&route.path), "{}", route.path);
        }
    }
}
