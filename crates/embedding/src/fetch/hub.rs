//! The model hub as a source: plain HTTPS requests for `{endpoint}/{owner}/{name}/resolve/{commit}/{file}`.
//!
//! Resumes a broken transfer with a range request. Which files, and how often to try, is decided elsewhere.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::Path,
};

use futures::StreamExt;
use reqwest::{
    Client, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE},
};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{Failure, Pull};
use crate::{
    error::EmbedError,
    manifest::{KnownModel, ModelFile},
    store::private_file,
};

/// A model hub.
pub(super) struct Hub<'a> {
    /// Its root address.
    pub(super) endpoint: &'a str,
    /// What it wants to see from those it knows.
    pub(super) token: Option<&'a SecretString>,
}

/// Downloads files of a known model.
pub(super) async fn download(
    pull: &Pull<'_>,
    hub: Hub<'_>,
    known: &KnownModel,
    files: &[ModelFile],
) -> Result<(), Failure> {
    let client = client(pull, hub.token)?;
    for file in files {
        let partial = pull.store.partial(pull.name, file)?;
        let present = std::fs::metadata(&partial).map_or(0, |found| found.len());
        if present != file.size_bytes {
            let address = format!(
                "{}/{}/resolve/{}/{}",
                hub.endpoint.trim_end_matches('/'),
                known.repository,
                known.commit,
                file.path
            );
            transfer(pull, &client, &address, file, &partial).await?;
        }
        super::blocking(|| pull.install(file))?;
    }
    Ok(())
}

fn client(pull: &Pull<'_>, token: Option<&SecretString>) -> Result<Client, Failure> {
    // Fails when a provider is installed already, which is just as well.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder()
        // The library leaves this one out where a redirect leads to another host.
        .default_headers(credentials(token)?)
        .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(pull.limits.idle_timeout)
        .read_timeout(pull.limits.idle_timeout)
        .build()
        .map_err(|error| Failure::Permanent(format!("no HTTPS client could be set up: {}", chain(&error))))
}

fn credentials(token: Option<&SecretString>) -> Result<HeaderMap, Failure> {
    let Some(token) = token else { return Ok(HeaderMap::new()) };
    let bearer = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
    let mut value = HeaderValue::from_str(&bearer)
        .map_err(|_| Failure::Permanent("the token has something that no header can have".to_owned()))?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

/// Brings the temporary file to its full size, from where it is.
async fn transfer(
    pull: &Pull<'_>,
    client: &Client,
    address: &str,
    file: &ModelFile,
    partial: &Path,
) -> Result<(), Failure> {
    let local = |action| EmbedError::io(action, partial);
    let mut output = private_file(OpenOptions::new().create(true).append(true), partial).map_err(local("open"))?;
    let mut present = output.metadata().map_err(local("read the size of"))?.len();
    if present > file.size_bytes {
        output.set_len(0).map_err(local("empty"))?;
        present = 0;
    }
    let mut request = client.get(address);
    if present > 0 {
        request = request.header(RANGE, format!("bytes={present}-"));
    }
    let response = request.send().await.map_err(|error| unreachable_or_transient(&error))?;
    match response.status() {
        StatusCode::PARTIAL_CONTENT if present > 0 && continues_at(&response, present) => {}
        StatusCode::OK | StatusCode::PARTIAL_CONTENT if present > 0 => {
            // The server begins anew, or answers another range than asked: so do we.
            output.set_len(0).map_err(local("empty"))?;
            if response.status() == StatusCode::PARTIAL_CONTENT {
                return Err(Failure::Transient("it answered another range than asked for".to_owned()));
            }
            present = 0;
        }
        StatusCode::OK => {}
        StatusCode::RANGE_NOT_SATISFIABLE => {
            output.set_len(0).map_err(local("empty"))?;
            return Err(Failure::Transient("it cannot resume the transfer".to_owned()));
        }
        status if worth_another_try(status) => return Err(Failure::Transient(format!("it answered {status}"))),
        status => return Err(Failure::Permanent(format!("it answered {status} for {}", file.path))),
    }
    let mut body = response.bytes_stream();
    while let Some(block) = body.next().await {
        let block = block.map_err(|error| {
            Failure::Transient(format!("the transfer broke off after {present} bytes: {}", chain(&error)))
        })?;
        present += block.len() as u64;
        if present > file.size_bytes {
            output.set_len(0).map_err(local("empty"))?;
            return Err(Failure::Permanent(format!("{} is longer there than {} bytes", file.path, file.size_bytes)));
        }
        output.write_all(&block).map_err(local("write"))?;
        pull.say(present);
    }
    if present < file.size_bytes {
        return Err(Failure::Transient(format!("{} ended after {present} of {} bytes", file.path, file.size_bytes)));
    }
    Ok(())
}

/// Whether the answer to a range request starts where the temporary file ends.
fn continues_at(response: &Response, start: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {start}-")))
}

fn worth_another_try(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// A name that does not resolve, a refused connection or a failed handshake will not be better in a second.
fn unreachable_or_transient(error: &reqwest::Error) -> Failure {
    let reason = chain(error);
    if error.is_builder() || (error.is_connect() && !error.is_timeout()) {
        return Failure::Permanent(format!("it cannot be reached: {reason}"));
    }
    Failure::Transient(reason)
}

/// The innermost cause of an HTTP error, where the reason is; the outer ones repeat the address.
fn chain(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match cause.downcast_ref::<io::Error>() {
        Some(io) => io.to_string(),
        None => cause.to_string(),
    }
}
