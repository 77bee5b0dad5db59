//! `GET /mcp/stdio` at the control socket: the connection becomes a raw stream of MCP messages, a line each.
//!
//! `holdfast mcp` copies its standard input and output to it, so any number of MCP clients share one server. A session
//! is a task on the server's tracker: the client's messages wake it; it ends with the stream, or at shutdown once what
//! it accepted is answered.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use rmcp::service::serve_server_with_ct;
use tracing::Instrument;

use crate::{
    Server,
    error::{Code, Failure},
    input::Authenticated,
    mcp::{
        Tools,
        lines::{Bounds, Lines},
    },
};

/// The protocol's name in `Upgrade`.
const PROTOCOL: &str = "holdfast-mcp";
/// How long a client may take from the 101 to the stream.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) async fn upgrade(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    mut request: Request,
) -> Result<Response, Failure> {
    let asked = request.headers().get(header::UPGRADE).is_some_and(|value| value.as_bytes() == PROTOCOL.as_bytes());
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>().filter(|_| asked);
    let Some(on_upgrade) = on_upgrade else {
        return Err(Failure::new(Code::UpgradeRequired, format!("send `Upgrade: {PROTOCOL}`")));
    };
    let full = |_| Failure::new(Code::Overloaded, "as many MCP sessions are open as may be");
    let place = server.mcp_sessions().try_enter().map_err(full)?;

    let (open, tools) = (server.connection(), Tools::of(server.clone(), caller));
    let session = async move {
        match tokio::time::timeout(UPGRADE_TIMEOUT, on_upgrade).await {
            Ok(Ok(upgraded)) => converse(tools, upgraded).await,
            Ok(Err(error)) => tracing::debug!(%error, "an MCP session did not begin: {error}"),
            Err(_) => tracing::debug!("an MCP session did not begin in time"),
        }
        drop((place, open));
    };
    server.tasks().spawn(session.instrument(tracing::info_span!("mcp_session")));

    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    Ok(response)
}

/// Serves the tools on a stream until either side ends it.
async fn converse(tools: Tools, upgraded: Upgraded) {
    let (read, write) = tokio::io::split(TokioIo::new(upgraded));
    let config = tools.server.config();
    let bounds = Bounds { bytes: config.max_body_bytes, depth: config.max_json_depth };
    let transport = Lines::new(read, write, bounds);
    // What was accepted is answered before the session ends: the library waits for it.
    let shutdown = tools.server.shutdown().child_token();
    match Box::pin(serve_server_with_ct(tools, transport, shutdown)).await {
        Ok(running) => {
            if let Err(error) = running.waiting().await {
                tracing::warn!(%error, "an MCP session failed: {error}");
            }
        }
        Err(error) => tracing::debug!(%error, "an MCP session did not begin: {error}"),
    }
}
