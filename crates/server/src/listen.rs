//! Where requests come in: the TCP and Unix listeners and the life of a connection.
//!
//! A listener's loop is woken by a new connection and ends at shutdown. Then nothing new is accepted, idle connections
//! are closed, and what was accepted is finished, for as long as the grace of shutdown lasts. What a request means is
//! not known here.

use std::{
    io,
    pin::{Pin, pin},
    time::Duration,
};

use axum::Router;
use holdfast_resilience::admission::{Admission, Permit};
use hyper::server::conn::http1::{self, UpgradeableConnection};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Server, edge::{Edge, Peer}};

/// The most headers a request may have.
const HEADERS_MAX: usize = 100;
/// The pause after a failure to accept that will not pass at once, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a full house is looked at again.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// Something that connections come from.
trait Door {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection and who is at its other end, or nothing where the one that came is not welcome.
    async fn accept(&self) -> io::Result<Option<(Self::Stream, Option<Peer>)>>;
}

impl Door for TcpListener {
    type Stream = tokio::net::TcpStream;

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

impl Server {
    /// Serves the network routes on a listener until shutdown.
    ///
    /// # Errors
    ///
    /// None for now: what fails on a connection is logged and ends that connection.
    pub async fn serve(&self, listener: TcpListener) -> io::Result<()> {
        self.run(listener, self.network()).await
    }

    /// Serves the owner's routes on the control socket until shutdown. Only the user this process runs as, and root,
    /// are let in.
    ///
    /// # Errors
    ///
    /// As [`Server::serve`].
    pub async fn serve_control(&self, listener: UnixListener) -> io::Result<()> {
        self.run(listener, self.owner()).await
    }

    async fn run<D: Door>(&self, door: D, router: Router) -> io::Result<()> {
        let places = Admission::new(self.config().max_connections);
        // Counts this listener's connections; they run on the tracker of the whole server.
        let connections = TaskTracker::new();
        let (http, edge) = (self.http(), Edge::new(router, self.clone()));
        loop {
            let accepted = tokio::select! {
                accepted = self.next(&door, &places) => accepted,
                () = self.shutdown().cancelled() => break,
            };
            let Some(((stream, peer), place)) = accepted else { continue };
            let connection = http.serve_connection(TokioIo::new(stream), edge.of_peer(peer)).with_upgrades();
            let (shutdown, cut_off) = (self.shutdown().clone(), self.cut_off().clone());
            let while_it_lives = (place, self.connection(), connections.token());
            self.tasks().spawn(async move {
                let mut connection = pin!(connection);
                tokio::select! {
                    ended = until_idle_after(shutdown, connection.as_mut()) => if let Err(error) = ended {
                        // Clients that go away or speak no HTTP are everyday.
                        tracing::debug!(%error, "a connection ended early: {error}");
                    },
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
        Ok(())
    }

    /// The next connection and its place, or nothing where there was none to be had.
    async fn next<D: Door>(&self, door: &D, places: &Admission) -> Option<((D::Stream, Option<Peer>), Permit)> {
        let place = loop {
            match places.try_enter() {
                Ok(place) => break place,
                Err(_) => tokio::time::sleep(FULL_PAUSE).await,
            }
        };
        match door.accept().await {
            Ok(accepted) => accepted.map(|accepted| (accepted, place)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => None,
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }

    fn http(&self) -> http1::Builder {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.config().header_timeout)
            .max_headers(HEADERS_MAX)
            .max_buf_size(self.config().max_header_bytes);
        http
    }
}

/// Serves a connection; after shutdown, to the end of the request under way.
async fn until_idle_after<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    shutdown: CancellationToken,
    mut connection: Pin<&mut UpgradeableConnection<TokioIo<S>, Edge>>,
) -> hyper::Result<()> {
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
