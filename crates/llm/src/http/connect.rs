//! Connections to a provider: its name resolved, its addresses tried, TLS where the address asks for it.
//!
//! Which of the three failed is known here and told apart, since each is somebody else's to repair. The time a connection
//! may take comes with the task that asks for one ([`within`]), as the pool between the two hands on an address only.

use std::{
    fs, io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    StreamExt,
    future::{BoxFuture, Either},
    stream::FuturesUnordered,
};
use hyper::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use metrics::Counter;
use rustix::net::sockopt;
use rustls::{
    ClientConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use rustls_platform_verifier::Verifier;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::Service;

use super::EndpointError;
use crate::ErrorKind;

/// How long one address is waited for before the next one is tried beside it (RFC 8305, section 5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// After so long without any sign of the other machine it is taken to be gone: what was sent is not acknowledged (RFC
/// 5482), or neither is a question whether it is still there. The system's own patience is minutes and hours.
const GONE_AFTER: Duration = Duration::from_secs(20);
/// What a connection may take where nobody says.
const CONNECT_DEFAULT: Duration = Duration::from_secs(10);
/// The longest file with certificates of authorities; the system's usual one has a fifth of it.
const CA_BYTES_MAX: u64 = 1 << 20;

tokio::task_local! {
    static CONNECT: Duration;
}

/// What is done in there opens connections within this time.
pub(super) async fn within<F: Future>(time: Duration, what: F) -> F::Output {
    CONNECT.scope(time, what).await
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct ConnectError {
    /// [`ErrorKind::Dns`], [`ErrorKind::Refused`] or [`ErrorKind::Tls`].
    pub(super) kind: ErrorKind,
    /// In words of our own.
    pub(super) reason: &'static str,
    /// In the system's.
    pub(super) words: String,
}

/// Opens connections.
#[derive(Clone)]
pub(super) struct Connector {
    /// Nothing for an address without TLS.
    tls: Option<TlsConnector>,
    opened: Counter,
}

impl Connector {
    /// Trusts whom the system trusts, and the authorities in the file where there is one.
    pub(super) fn new(is_https: bool, ca_file: Option<&Path>, opened: Counter) -> Result<Self, EndpointError> {
        // A machine without any authority can still use models on itself.
        let tls = is_https.then(|| tls(ca_file)).transpose()?;
        Ok(Self { tls, opened })
    }
}

fn tls(ca_file: Option<&Path>) -> Result<TlsConnector, EndpointError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(ca_file, Arc::clone(&provider))?;
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| EndpointError::Tls(error.to_string()))?;
    // It is the verifier of the system, which the builder cannot know.
    let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn verifier(ca_file: Option<&Path>, provider: Arc<CryptoProvider>) -> Result<Verifier, EndpointError> {
    let verifier = match ca_file {
        Some(path) => Verifier::new_with_extra_roots(authorities(path)?, provider),
        None => Verifier::new(provider),
    };
    verifier.map_err(|error| EndpointError::Tls(error.to_string()))
}

fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, EndpointError> {
    let unreadable = |source| EndpointError::CaFile { path: path.to_owned(), source };
    let size_bytes = fs::metadata(path).map_err(unreadable)?.len();
    if size_bytes > CA_BYTES_MAX {
        return Err(unreadable(io::Error::other(format!("it has more than {CA_BYTES_MAX} bytes"))));
    }
    let pem = fs::read(path).map_err(unreadable)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|_| unreadable(io::Error::other("it is not PEM")))?;
    if certificates.is_empty() {
        return Err(unreadable(io::Error::other("there is no certificate in it")));
    }
    Ok(certificates)
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Transport>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<TokioIo<Transport>, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let time = CONNECT.try_with(|time| *time).unwrap_or(CONNECT_DEFAULT);
        self.opened.increment(1);
        let tls = self.tls.clone();
        Box::pin(async move {
            let deadline = Instant::now() + time;
            let host = address.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let port = address.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
            let stream = reach(resolve(&host, port, deadline).await?, deadline).await?;
            let transport = match tls {
                None => Transport::Plain(stream),
                Some(tls) => Transport::Tls(Box::new(secure(&tls, &host, stream, deadline).await?)),
            };
            Ok(TokioIo::new(transport))
        })
    }
}

async fn resolve(host: &str, port: u16, deadline: Instant) -> Result<Vec<SocketAddr>, ConnectError> {
    let failed = |words: String| ConnectError { kind: ErrorKind::Dns, reason: "its name does not resolve", words };
    let found = timeout_at(deadline, tokio::net::lookup_host((host, port))).await;
    let found = found.map_err(|_| failed("no answer in time".to_owned()))?;
    let addresses: Vec<_> = found.map_err(|error| failed(error.to_string()))?.collect();
    if addresses.is_empty() { Err(failed("it has no address".to_owned())) } else { Ok(addresses) }
}

/// Connects to the first of the addresses that answers. The next one is tried when one has failed or let itself be
/// waited for.
async fn reach(addresses: Vec<SocketAddr>, deadline: Instant) -> Result<TcpStream, ConnectError> {
    let failed = |words: String| ConnectError { kind: ErrorKind::Refused, reason: "it takes no connection", words };
    let mut last = failed("no answer in time".to_owned());
    let mut addresses = addresses.into_iter();
    let mut trying = FuturesUnordered::new();
    loop {
        if let Some(address) = addresses.next() {
            trying.push(TcpStream::connect(address));
        }
        // When another address is due; only the deadline, once there is none.
        let due = if addresses.len() > 0 { deadline.min(Instant::now() + NEXT_ADDRESS_AFTER) } else { deadline };
        match timeout_at(due, trying.next()).await {
            Ok(Some(Ok(stream))) => {
                tune(&stream).map_err(|error| failed(error.to_string()))?;
                return Ok(stream);
            }
            Ok(Some(Err(error))) => last = failed(error.to_string()),
            Ok(None) => return Err(last),
            Err(_) if Instant::now() >= deadline => return Err(last),
            Err(_) => (),
        }
    }
}

/// How it is to behave: quick, and with an end where nobody is at the other end any more.
fn tune(stream: &TcpStream) -> io::Result<()> {
    // An event that waits for the acknowledgement of the one before it comes 40 ms late.
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, GONE_AFTER / 2)?;
    sockopt::set_tcp_keepintvl(stream, GONE_AFTER / 4)?;
    sockopt::set_tcp_keepcnt(stream, 2)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(stream, u32::try_from(GONE_AFTER.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}

async fn secure(
    tls: &TlsConnector,
    host: &str,
    stream: TcpStream,
    deadline: Instant,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let failed = |words: String| ConnectError { kind: ErrorKind::Tls, reason: "no TLS session came about", words };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
    let handshake = timeout_at(deadline, tls.connect(name, stream)).await;
    handshake.map_err(|_| failed("no answer in time".to_owned()))?.map_err(|error| failed(error.to_string()))
}

/// A connection.
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    fn either(self: Pin<&mut Self>) -> Either<Pin<&mut TcpStream>, Pin<&mut TlsStream<TcpStream>>> {
        match self.get_mut() {
            Self::Plain(stream) => Either::Left(Pin::new(stream)),
            Self::Tls(stream) => Either::Right(Pin::new(stream.as_mut())),
        }
    }
}

impl Connection for Transport {
    fn connected(&self) -> Connected {
        match self {
            Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => Connected::new().negotiated_h2(),
            _ => Connected::new(),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.either() {
            Either::Left(stream) => stream.poll_read(cx, buffer),
            Either::Right(stream) => stream.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.either() {
            Either::Left(stream) => stream.poll_write(cx, bytes),
            Either::Right(stream) => stream.poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.either() {
            Either::Left(stream) => stream.poll_write_vectored(cx, slices),
            Either::Right(stream) => stream.poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.either() {
            Either::Left(stream) => stream.poll_flush(cx),
            Either::Right(stream) => stream.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.either() {
            Either::Left(stream) => stream.poll_shutdown(cx),
            Either::Right(stream) => stream.poll_shutdown(cx),
        }
    }
}
