//! `POST /mcp`: MCP over streamable HTTP, one request one JSON answer.
//!
//! No sessions are kept, in either generation of the protocol: nothing here needs them, and so any replica can answer
//! any request. Limits and checks of this server come first; what the protocol library refuses as plain text becomes a
//! coded answer, in the shape that `face` gives to all failures of this route.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};

use crate::{
    Server,
    error::{Code, Failure, SOMETHING_WENT_WRONG},
    input,
    listen::life::Turn,
    mcp::{self, Tools},
};

pub(crate) async fn call(State(server): State<Server>, request: Request) -> Response {
    let request = match checked(&server, request).await {
        Ok(request) => request,
        Err(response) => return *response,
    };
    let response = service(&server).handle(request).await;
    if response.status().is_success() || is_json(&response) {
        return response.map(Body::new);
    }
    let (parts, body) = response.into_parts();
    let told = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    refused(parts.status, &String::from_utf8_lossy(&told))
}

/// The request with its body read, bounded and known to be JSON.
async fn checked(server: &Server, request: Request) -> Result<Request<http_body_util::Full<Bytes>>, Box<Response>> {
    if !input::is_json(request.headers()) {
        let failure = Failure::new(Code::UnsupportedMediaType, "the body has to be application/json");
        return Err(Box::new(failure.into_response()));
    }
    let (parts, body) = request.into_parts();
    // The limit travels in the extensions, which the new request has to have as well.
    let mut whole = Request::new(body);
    whole.extensions_mut().clone_from(&parts.extensions);
    let bytes = input::bounded(whole, server).await.map_err(|failure| Box::new(failure.into_response()))?;
    let (read, values) = mcp::read(&bytes, server.config().max_json_depth);
    let turn = parts.extensions.get::<Turn>();
    input::take_room(turn, values).and(read.map(drop)).map_err(|failure| Box::new(failure.into_response()))?;
    Ok(Request::from_parts(parts, http_body_util::Full::new(bytes)))
}

/// The protocol, for one request. It is made anew each time, since it holds the server and the server must not hold it.
fn service(server: &Server) -> StreamableHttpService<Tools, NeverSessionManager> {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(server.config().max_body_bytes)
        // The gate has looked at both.
        .disable_allowed_hosts()
        .disable_allowed_origins()
        .with_cancellation_token(server.cut_off().clone());
    let tools = Tools::of_request(server.clone());
    StreamableHttpService::new(move || Ok(tools.clone()), Arc::new(NeverSessionManager::default()), config)
}

fn is_json<B>(response: &axum::http::Response<B>) -> bool {
    response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
}

/// What the library said in plain text, as this server says it.
fn refused(status: StatusCode, told: &str) -> Response {
    match status {
        StatusCode::FORBIDDEN => Failure::new(Code::ForbiddenHost, told).into_response(),
        StatusCode::NOT_ACCEPTABLE => Failure::new(Code::NotAcceptable, told).into_response(),
        // The content type was right: the JSON is no message.
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Failure::new(Code::InvalidRequest, "the body is not a JSON-RPC message of MCP").cause(told).into_response()
        }
        status if status.is_client_error() => Failure::new(Code::InvalidRequest, told).into_response(),
        _ => Failure::new(Code::Internal, SOMETHING_WENT_WRONG).cause(told).into_response(),
    }
}
