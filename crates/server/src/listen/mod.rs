//! Where requests come in: the TCP and Unix listeners and the life of a connection.
//!
//! A listener's loop is woken by a new connection and ends at shutdown. Then nothing new is accepted, idle connections
//! are closed, and what was accepted is finished, for as long as the grace of shutdown lasts. Encryption is agreed on in
//! the connection's own task, so that a client who takes its time over that holds up nobody. What a connection may cost
//! while its client does nothing is the matter of [`life`] and [`places`]; what a request means is not known here.

pub(crate) mod life;

mod places;

pub(crate) mod redirect;

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use hyper::{
    rt::Executor,
    server::conn::{
        http1::{self, UpgradeableConnection},
        http2,
    },
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::task::TaskTracker;

use self::{
    life::{Counted, Life},
    places::{Bounds, Place, Places},
    redirect::Doorman,
};
use crate::{
    Server,
    edge::{Edge, Peer},
    routes::{self, Entry},
    tls::{HTTP_2, Tls},
};

/// The most headers a request may have; HTTP/2 counts their bytes alone.
const HEADERS_MAX: usize = 100;
/// The pause after a failure to accept that will not pass at once, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a full house is looked at again in which every connection is being worked for.
const FULL_PAUSE: Duration = Duration::from_millis(10);
/// How long a connection that is closed, for standing still or at shutdown, may take to say so.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a client may send on one HTTP/2 stream, and on all of a connection, before it is read.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// What is kept of an answer for a client who is slow to read it, by HTTP/2 and by TLS.
const SEND_BUFFER_BYTES: usize = 64 << 10;
const TLS_BUFFER_BYTES: usize = 16 << 10;
/// Streams that a client opened and took back before they were looked at; more end the connection. The attack is
/// CVE-2023-44487, the bound that of the protocol library.
const PENDING_RESETS_MAX: usize = 20;
/// Streams that were ended because the client broke the rules; more end the connection.
const LOCAL_RESETS_MAX: usize = 64;
/// How often a client that speaks HTTP/2 has to show that it is there, and how soon.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_PATIENCE: Duration = Duration::from_secs(15);

/// The first byte of a TLS connection: a handshake record (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Counts a connection that this side ended before its client did.
fn count_ended(reason: &'static str) {
    metrics::counter!("holdfast_http_connections_ended_total", "reason" => reason).increment(1);
}

fn count_handshake(outcome: &'static str) {
    metrics::counter!("holdfast_tls_handshakes_total", "outcome" => outcome).increment(1);
}

/// Something that connections come from.
trait Door {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection and who is at its other end, or nothing where the one that came is not welcome.
    async fn accept(&self) -> io::Result<Option<(Self::Stream, Option<Peer>)>>;
}

impl Door for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<Option<(Self::Stream, Option<Peer>)>> {
        let (stream, address) = TcpListener::accept(self).await?;
        // Answers are short; waiting to fill a packet only delays them.
        stream.set_nodelay(true)?;
        Ok(Some((stream, Some(Peer { address, is_tls: false }))))
    }
}

impl Door for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept(&self) -> io::Result<Option<(Self::Stream, Option<Peer>)>> {
        let (stream, _) = UnixListener::accept(self).await?;
        let (peer, own) = (stream.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
        if peer == own || peer == 0 {
            return Ok(Some((stream, None)));
        }
        tracing::warn!(peer_uid = peer, "refused user {peer} at the control socket");
        Ok(None)
    }
}

/// A connection that was let in.
struct Guest<S> {
    stream: S,
    peer: Option<Peer>,
    life: Arc<Life>,
}

/// Where connections to the TLS listener lead.
#[derive(Clone)]
struct Ways {
    encrypted: Edge,
    /// Those that are not.
    plain: Edge,
}

/// What a connection goes through before HTTP is spoken on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reception {
    /// Nothing.
    Plain,
    /// TLS.
    Encrypted,
}

impl Server {
    /// Serves the network routes on a listener until shutdown, without encryption. What goes wrong with a connection is
    /// logged and ends that connection only.
    pub async fn serve(&self, listener: TcpListener) {
        let edge = Edge::new(self.network(), self.clone());
        self.run(listener, Reception::Plain, |server, guest| server.plain(guest, edge.clone())).await;
    }

    /// The same with TLS 1.2 or 1.3, HTTP/2 or HTTP/1.1 as the client likes. A client that speaks plain HTTP is told so.
    pub async fn serve_tls(&self, listener: TcpListener, tls: Tls) {
        let ways = Ways {
            encrypted: Edge::new(self.network(), self.clone()),
            plain: Edge::guarded(self.clone(), Doorman::Refuses),
        };
        self.watch_tls(&tls);
        self.run(listener, Reception::Encrypted, |server, guest| server.encrypted(guest, ways.clone(), tls.clone()))
            .await;
    }

    /// Sends whoever speaks plain HTTP to the port where TLS is spoken, and refuses those that sent a credential in the
    /// clear. Nothing of the API is served.
    pub async fn serve_redirect(&self, listener: TcpListener, tls: Tls, port: u16) {
        let edge = Edge::guarded(self.clone(), Doorman::Redirects { tls, port });
        self.run(listener, Reception::Plain, |server, guest| server.plain(guest, edge.clone())).await;
    }

    /// Serves the owner's routes on the control socket until shutdown. Only the user this process runs as, and root,
    /// are let in.
    pub async fn serve_control(&self, listener: UnixListener) {
        let edge = Edge::new(self.owner(), self.clone());
        self.run(listener, Reception::Plain, |server, guest| server.plain(guest, edge.clone())).await;
    }

    /// Serves the metrics, and nothing else, to whoever reaches the listener; for one on loopback.
    pub async fn serve_metrics(&self, listener: TcpListener) {
        let edge = Edge::new(routes::router(self, Entry::Metrics), self.clone());
        self.run(listener, Reception::Plain, |server, guest| server.plain(guest, edge.clone())).await;
    }

    async fn run<D, F>(&self, door: D, reception: Reception, serve: impl Fn(Self, Guest<D::Stream>) -> F)
    where
        D: Door,
        F: Future<Output = ()> + Send + 'static,
    {
        let places = Places::default();
        // Counts this listener's connections; they run on the tracker of the whole server.
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.next(&door, &places, reception) => accepted,
                () = self.shutdown().cancelled() => break,
            };
            let Some((guest, place)) = accepted else { continue };
            let while_it_lives = (place, self.connection(), connections.token());
            let (life, cut_off) = (Arc::clone(&guest.life), self.cut_off().clone());
            let served = serve(self.clone(), guest);
            self.tasks().spawn(async move {
                tokio::select! {
                    () = served => {}
                    () = life.ended() => tracing::debug!("a connection gave way to another"),
                    () = cut_off.cancelled() => tracing::warn!("a connection was cut off by shutdown"),
                }
                drop(while_it_lives);
            });
        }
        drop(door);
        connections.close();
        if tokio::time::timeout(self.config().shutdown_grace, connections.wait()).await.is_err() {
            tracing::warn!("requests are still running after the grace of shutdown and are cut off");
            self.cut_off().cancel();
        }
    }

    /// The next connection and its place, or nothing where there was none to be had.
    async fn next<D: Door>(
        &self,
        door: &D,
        places: &Places,
        reception: Reception,
    ) -> Option<(Guest<D::Stream>, Place)> {
        let (stream, peer) = match door.accept().await {
            Ok(accepted) => accepted?,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return None,
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection: {error}");
                // Most often there are too many open files, which one connection less helps against.
                places.make_way();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                return None;
            }
        };
        let life = Life::new(peer.map(|peer| peer.address.ip()), reception == Reception::Encrypted);
        loop {
            let config = self.config();
            let bounds = Bounds { connections: config.max_connections, handshakes: config.max_handshakes };
            if let Some(place) = places.enter(&life, bounds) {
                return Some((Guest { stream, peer, life }, place));
            }
            tokio::time::sleep(FULL_PAUSE).await;
        }
    }

    /// HTTP/1.1 on a stream as it is.
    async fn plain<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(self, guest: Guest<S>, edge: Edge) {
        let Guest { stream, peer, life } = guest;
        let edge = edge.of_connection(peer, Arc::clone(&life));
        let connection = self.http1().serve_connection(TokioIo::new(Counted::new(stream, Arc::clone(&life))), edge);
        note(self.until_over(&life, pin!(connection.with_upgrades())).await);
    }

    /// TLS on a stream, and what the client chose to speak on that.
    async fn encrypted(self, guest: Guest<TcpStream>, ways: Ways, tls: Tls) {
        let Guest { stream, peer, life } = guest;
        let agreed = tokio::select! {
            agreed = tokio::time::timeout(self.config().handshake_timeout, agree(stream, &life, &tls)) => agreed,
            () = self.shutdown().cancelled() => return,
        };
        let stream = match agreed {
            Ok(Ok(Agreed::Encrypted(stream))) => stream,
            Ok(Ok(Agreed::Plain(stream))) => {
                count_handshake("plain");
                return Box::pin(self.plain(Guest { stream, peer, life }, ways.plain)).await;
            }
            Ok(Err(error)) => {
                count_handshake("failed");
                // Scanners and clients that do not trust the certificate are everyday.
                return tracing::debug!(%error, "a TLS handshake failed: {error}");
            }
            Err(_) => return count_handshake("timed_out"),
        };
        count_handshake("done");
        life.handshake_done();
        let peer = peer.map(|peer| Peer { is_tls: true, ..peer });
        let edge = ways.encrypted.of_connection(peer, Arc::clone(&life));
        let is_http_2 = stream.get_ref().1.alpn_protocol() == Some(HTTP_2);
        // Boxed apart: a connection has the memory of what it speaks, not of the larger of the two.
        if is_http_2 {
            let connection = self.http2().serve_connection(TokioIo::new(stream), edge);
            Box::pin(async move { note(self.until_over(&life, pin!(connection)).await) }).await;
        } else {
            let connection = self.http1().serve_connection(TokioIo::new(stream), edge);
            Box::pin(async move { note(self.until_over(&life, pin!(connection)).await) }).await;
        }
    }

    fn http1(&self) -> http1::Builder {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.config().header_timeout)
            .max_headers(HEADERS_MAX)
            .max_buf_size(self.config().max_header_bytes);
        http
    }

    fn http2(&self) -> http2::Builder<Tracked> {
        let mut http = http2::Builder::new(Tracked(self.tasks().clone()));
        http.timer(TokioTimer::new())
            .max_concurrent_streams(self.config().max_streams)
            .max_header_list_size(u32::try_from(self.config().max_header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
            .max_local_error_reset_streams(LOCAL_RESETS_MAX)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_PATIENCE);
        http
    }

    /// Serves a connection until it ends, stands still for too long, or shutdown has let it finish.
    async fn until_over<C: Connection>(&self, life: &Life, mut connection: Pin<&mut C>) -> hyper::Result<()> {
        let patience = self.config().stall_timeout;
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = life.until_stalled(patience) => {
                count_ended("stalled");
                connection.as_mut().finish();
                // The client may hear of it and may not; the connection ends either way.
                return tokio::time::timeout(FAREWELL, connection).await.unwrap_or(Ok(()));
            }
            () = self.shutdown().cancelled() => {
                life.hurry();
                connection.as_mut().finish();
            }
        }
        // What has not become a request by now need not any more.
        tokio::select! {
            ended = connection => ended,
            () = life.until_stalled(patience) => Ok(()),
            () = life.until_quiet(FAREWELL) => Ok(()),
        }
    }
}

/// What came of the first bytes of a connection to the TLS listener.
enum Agreed {
    Encrypted(Box<TlsStream<Counted<TcpStream>>>),
    /// The client speaks something else, plain HTTP by its looks.
    Plain(TcpStream),
}

async fn agree(stream: TcpStream, life: &Arc<Life>, tls: &Tls) -> io::Result<Agreed> {
    let mut first = [0; 1];
    stream.peek(&mut first).await?;
    // A method begins with a letter; anything else is for the TLS library to refuse in its own way.
    if first[0] != TLS_HANDSHAKE && first[0].is_ascii_alphabetic() {
        return Ok(Agreed::Plain(stream));
    }
    let stream = Counted::new(stream, Arc::clone(life));
    let acceptor = TlsAcceptor::from(tls.config());
    let stream = acceptor.accept_with(stream, |session| session.set_buffer_limit(Some(TLS_BUFFER_BYTES))).await?;
    Ok(Agreed::Encrypted(Box::new(stream)))
}

/// Clients that go away or speak no HTTP are everyday. What is no request, or too large for one, the protocol library
/// answers by itself, so nobody else knows of it.
fn note(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        if error.is_parse_too_large() {
            count_ended("too_large");
        } else if error.is_parse() {
            count_ended("malformed");
        }
        tracing::debug!(%error, "a connection ended early: {error}");
    }
}

/// A connection that can be told to end after what is under way.
trait Connection: Future<Output = hyper::Result<()>> {
    fn finish(self: Pin<&mut Self>);
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for UpgradeableConnection<TokioIo<S>, Edge> {
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for http1::Connection<TokioIo<S>, Edge> {
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for http2::Connection<TokioIo<S>, Edge, Tracked> {
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Runs the streams of HTTP/2 as tasks of the server.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event of a stream is a small packet, and the next one may be long in coming.
    #[tokio::test]
    async fn small_packets_are_sent_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, _client) = tokio::join!(Door::accept(&listener), TcpStream::connect(address));
        let (stream, peer) = accepted.unwrap().unwrap();
        assert!(stream.nodelay().unwrap() && peer.is_some());
    }
}
