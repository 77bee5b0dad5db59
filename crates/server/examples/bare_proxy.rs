//! A bare proxy made of hyper alone: what the path through this machine costs without a gateway on it.
//!
//! `bare_proxy UPSTREAM` listens on a free port, prints it, and hands every request on until it is ended.

use std::{convert::Infallible, io::Write, net::SocketAddr};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Either, Empty, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, header::HOST, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio_util::task::TaskTracker;

#[tokio::main]
async fn main() -> Result<()> {
    let upstream: SocketAddr = std::env::args().nth(1).context("usage: bare_proxy UPSTREAM")?.parse()?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout().lock(), "{}", listener.local_addr()?)?;
    let tasks = TaskTracker::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let client = client.clone();
        tasks.spawn(async move {
            let handed_on = service_fn(move |request: Request<Incoming>| {
                let client = client.clone();
                async move {
                    let (mut parts, body) = request.into_parts();
                    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                    let path = parts.uri.path().to_owned();
                    parts.uri = format!("http://{upstream}{path}").parse().unwrap_or_default();
                    parts.headers.remove(HOST);
                    let answer = client.request(Request::from_parts(parts, Full::new(body))).await;
                    Ok::<_, Infallible>(answer.map_or_else(|_| failed(), |answer| answer.map(Either::Left)))
                }
            });
            let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), handed_on);
            drop(served.await);
        });
    }
}

fn failed() -> Response<Either<Incoming, Empty<Bytes>>> {
    let mut response = Response::new(Either::Right(Empty::new()));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
