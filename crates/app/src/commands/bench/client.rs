//! A client of the load generator: one connection, kept between requests, over TCP or the control socket.
//!
//! The connection is driven by whoever waits for an answer, so a client is one task. A connection that the server has
//! closed while nobody used it is replaced, which is no error.

use std::{
    future::{Future, poll_fn},
    io,
    path::PathBuf,
    pin::Pin,
    task::Poll,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, StatusCode,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::payload::Planned;
use crate::{control, hint::Advice};

/// The server that is measured.
#[derive(Clone, Debug)]
pub enum Target {
    /// By the network, with a key if one was given.
    Address {
        /// `host:port`
        authority: String,
        /// The value of `Authorization`.
        key: Option<header::HeaderValue>,
    },
    /// By the control socket of its data directory, which needs no key.
    Socket(PathBuf),
}

impl Target {
    /// Reads `http://host:port`.
    pub fn at(url: &str, key: Option<&SecretString>) -> Result<Self> {
        let advice = |what: &str| Advice::new(what, "give the server's address as --url http://127.0.0.1:8088");
        let Some(rest) = url.strip_prefix("http://") else {
            bail!(advice("the load generator speaks plain HTTP"));
        };
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() || authority.contains(['/', '?', '#', '@']) || authority.contains(char::is_whitespace) {
            bail!(advice("the address of a server is a host and a port"));
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let key = key.map(|key| {
            let text = Zeroizing::new(format!("Bearer {}", key.expose_secret()));
            let mut value = header::HeaderValue::from_str(&text).with_context(|| {
                Advice::new("the key has characters that no key has", "give the key as it was printed")
            })?;
            value.set_sensitive(true);
            anyhow::Ok(value)
        });
        Ok(Self::Address { authority, key: key.transpose()? })
    }

    async fn connect(&self) -> io::Result<Connection> {
        match self {
            Self::Address { authority, .. } => {
                let stream = TcpStream::connect(authority).await?;
                stream.set_nodelay(true)?;
                Connection::over(stream).await
            }
            Self::Socket(data_dir) => Connection::over(control::connect(data_dir).await?).await,
        }
    }

    fn request(&self, planned: &Planned) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let mut request = Request::builder().uri(&planned.target);
        match self {
            Self::Address { authority, key } => {
                request = request.header(header::HOST, authority);
                if let Some(key) = key {
                    request = request.header(header::AUTHORIZATION, key);
                }
            }
            Self::Socket(_) => request = request.header(header::HOST, "localhost"),
        }
        match &planned.body {
            Some(body) => {
                let request = request.method("POST").header(header::CONTENT_TYPE, "application/json");
                request.body(Full::new(Bytes::from(body.clone())))
            }
            None => request.body(Full::default()),
        }
    }
}

/// An answer, read to its end.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

/// One user of the server.
pub struct Client {
    target: Target,
    kept: Option<Connection>,
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(target: Target) -> Self {
        Self { target, kept: None }
    }

    /// Whom it asks.
    pub fn into_target(self) -> Target {
        self.target
    }

    /// Sends a request and reads its answer.
    pub async fn ask(&mut self, planned: &Planned) -> io::Result<Answer> {
        let request = self.target.request(planned).map_err(io::Error::other)?;
        let mut kept = self.kept.take();
        if let Some(connection) = &mut kept
            && !connection.stands().await
        {
            kept = None;
        }
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.target.connect().await?,
        };
        let answer = connection.exchange(request).await?;
        self.kept = Some(connection);
        Ok(answer)
    }
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
}

impl Connection {
    async fn over<S>(stream: S) -> io::Result<Self>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        Ok(Self { sender, driver: Box::pin(connection) })
    }

    /// Whether the server has kept it too: a look at what has arrived, without waiting.
    async fn stands(&mut self) -> bool {
        poll_fn(|context| Poll::Ready(self.driver.as_mut().poll(context).is_pending())).await && self.sender.is_ready()
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> io::Result<Answer> {
        let Self { sender, driver } = self;
        let mut asked = Box::pin(async {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let status = response.status();
            Ok::<_, hyper::Error>(Answer { status, body: response.into_body().collect().await?.to_bytes() })
        });
        let answer = tokio::select! {
            answer = &mut asked => answer,
            // What the connection has read before it ended is still to be had.
            ended = driver => match ended {
                Ok(()) => asked.await,
                Err(error) => Err(error),
            },
        };
        answer.map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let key = SecretString::from("hf_x");
        let of = |url: &str| match Target::at(url, Some(&key)) {
            Ok(Target::Address { authority, .. }) => Some(authority),
            _ => None,
        };
        assert_eq!(of("http://127.0.0.1:8088/").as_deref(), Some("127.0.0.1:8088"));
        assert_eq!(of("http://[::1]:1").as_deref(), Some("[::1]:1"));
        assert_eq!(of("http://localhost").as_deref(), Some("localhost:80"));
        for url in ["https://localhost", "localhost:1", "http://", "http://a/b", "http://u@h:1"] {
            assert_eq!(of(url), None, "{url}");
        }
        assert!(Target::at("http://localhost", Some(&SecretString::from("a\nb"))).is_err());
    }
}
