//! What is known of a connection while it lives: whose turn it is, and how much has moved.
//!
//! A connection is *awaited* while nothing is being worked on for it and the client has to do something: send a request,
//! the rest of a body, or read an answer. It is the only time in which a client can hold what it has without paying for
//! it, so this is what is measured, by one rule for every protocol: [`RATE_BYTES_PER_SECOND`] have to move, or a new
//! request has to come. Nothing is closed here; [`Life::until_stalled`] returns when it should be.

use std::{
    error::Error,
    fmt, io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::body::{Body, Bytes};
use holdfast_resilience::budget::{Hold, UsedUp};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};
use tokio_util::sync::CancellationToken;

/// Slower than this for long is nobody who wants an answer: a modem of the 1980s had as much.
pub(super) const RATE_BYTES_PER_SECOND: u64 = 1_024;
/// How long and how far a client that has not closed is heard after the last word was said to it, and in what pieces.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 32 << 20;
const LINGER_READ_BYTES: usize = 4 << 10;
/// Looks at a connection within the time it may stall.
const LOOKS: u32 = 4;

/// What times are counted from.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

fn now_ms() -> u64 {
    BEGINNING.elapsed().as_millis() as u64
}

/// A connection, as all who serve it see it.
#[derive(Debug)]
pub(crate) struct Life {
    /// Where the client is, for a connection that came over the network.
    pub(super) address: Option<IpAddr>,
    /// Requests that are being worked on; the client is awaited where there is none.
    working: AtomicUsize,
    /// Requests that have come,
    requests: AtomicU64,
    /// and those that are not done with, whoever's turn it is.
    open: AtomicUsize,
    /// Bytes that the system took to send, and those of bodies that came.
    bytes: AtomicU64,
    /// Since when the client is awaited.
    awaited_since_ms: AtomicU64,
    in_handshake: AtomicBool,
    /// The server stops, and nobody is waited for any more.
    in_haste: AtomicBool,
    end: CancellationToken,
}

/// How much has moved on a connection.
#[derive(Clone, Copy)]
struct Moved {
    requests: u64,
    bytes: u64,
}

impl Life {
    pub(crate) fn new(address: Option<IpAddr>, in_handshake: bool) -> Arc<Self> {
        Arc::new(Self {
            address,
            working: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            awaited_since_ms: AtomicU64::new(now_ms()),
            in_handshake: AtomicBool::new(in_handshake),
            in_haste: AtomicBool::new(false),
            end: CancellationToken::new(),
        })
    }

    /// A request has come; it is worked on until the turn says otherwise. What it has of the memory for bodies is `hold`.
    pub(crate) fn begin(self: &Arc<Self>, hold: Hold) -> Turn {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::SeqCst);
        self.working.fetch_add(1, Ordering::SeqCst);
        Turn(Arc::new(TurnOf { life: Arc::clone(self), is_ours: AtomicBool::new(true), hold }))
    }

    /// Whether nothing is being worked on, and since when.
    pub(super) fn awaited_since(&self) -> Option<u64> {
        let is_awaited = self.working.load(Ordering::SeqCst) == 0;
        is_awaited.then(|| self.awaited_since_ms.load(Ordering::Relaxed))
    }

    /// Whether a request ever came.
    pub(super) fn has_asked(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    pub(super) fn is_in_handshake(&self) -> bool {
        self.in_handshake.load(Ordering::Relaxed)
    }

    pub(super) fn handshake_done(&self) {
        self.in_handshake.store(false, Ordering::Relaxed);
    }

    /// Closes without waiting for what the client may still be sending.
    pub(super) fn hurry(&self) {
        self.in_haste.store(true, Ordering::Relaxed);
    }

    /// Has the connection closed at once.
    pub(super) fn end(&self) {
        self.end.cancel();
    }

    pub(super) async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// Returns once the client has been awaited for that long, and next to nothing has moved.
    pub(super) async fn until_stalled(&self, patience: Duration) {
        let every = patience / LOOKS;
        let enough = (every.as_secs_f64() * RATE_BYTES_PER_SECOND as f64) as u64;
        let (mut looks, mut before) = (0, self.moved());
        while looks < LOOKS {
            tokio::time::sleep(every).await;
            let now = self.moved();
            let stands_still = self.awaited_since().is_some()
                && now.requests == before.requests
                && now.bytes - before.bytes < enough.max(1);
            looks = if stands_still { looks + 1 } else { 0 };
            before = now;
        }
    }

    /// Returns once no request is open, and nothing was sent for that long.
    pub(super) async fn until_quiet(&self, patience: Duration) {
        let every = patience / LOOKS;
        let (mut looks, mut before) = (0, self.moved());
        while looks < LOOKS {
            tokio::time::sleep(every).await;
            let now = self.moved();
            let is_quiet = self.open.load(Ordering::SeqCst) == 0 && now.bytes == before.bytes;
            looks = if is_quiet { looks + 1 } else { 0 };
            before = now;
        }
    }

    fn moved(&self) -> Moved {
        Moved { requests: self.requests.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// Whose turn it is in one exchange of request and answer; cloning is shallow. Dropped, it is the client's.
#[derive(Clone, Debug)]
pub(crate) struct Turn(Arc<TurnOf>);

#[derive(Debug)]
struct TurnOf {
    life: Arc<Life>,
    is_ours: AtomicBool,
    hold: Hold,
}

impl Turn {
    /// Takes memory until the exchange is over.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), UsedUp> {
        self.0.hold.grow(bytes)
    }

    /// Notes bytes of the body.
    fn came(&self, bytes: u64) {
        self.0.life.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn ours(&self) {
        if !self.0.is_ours.swap(true, Ordering::SeqCst) {
            self.0.life.working.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn theirs(&self) {
        self.0.yield_turn();
    }
}

impl TurnOf {
    fn yield_turn(&self) {
        if self.is_ours.swap(false, Ordering::SeqCst) {
            self.life.awaited_since_ms.store(now_ms(), Ordering::Relaxed);
            self.life.working.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for TurnOf {
    fn drop(&mut self) {
        self.yield_turn();
        self.life.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A body came too slowly to be waited for.
#[derive(Debug)]
pub(crate) struct TooSlow;

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the body came at less than {RATE_BYTES_PER_SECOND} bytes a second")
    }
}

impl Error for TooSlow {}

pin_project! {
    /// The body of a request, which fails when it comes too slowly: what has not moved at the least rate is waited for
    /// up to a grace, and what moves faster earns it back.
    pub(crate) struct Paced {
        #[pin]
        body: Incoming,
        turn: Turn,
        grace: Duration,
        // When the grace is used up; nothing before the body was first asked for.
        deadline: Option<tokio::time::Instant>,
        // Only a body that is not there at once needs one.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl Paced {
    pub(crate) fn new(body: Incoming, turn: Turn, grace: Duration) -> Self {
        Self { body, turn, grace, deadline: None, timer: None }
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.project();
        let deadline = this.deadline.get_or_insert_with(|| tokio::time::Instant::now() + *this.grace);
        match this.body.poll_frame(context) {
            Poll::Ready(frame) => {
                this.turn.ours();
                if let Some(Ok(frame)) = &frame {
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    this.turn.came(length as u64);
                    if let Err(used_up) = this.turn.take(length) {
                        return Poll::Ready(Some(Err(used_up.into())));
                    }
                    let earned = Duration::from_secs_f64(length as f64 / RATE_BYTES_PER_SECOND as f64);
                    *deadline = (*deadline + earned).min(tokio::time::Instant::now() + *this.grace);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                this.turn.theirs();
                let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(*deadline)));
                loop {
                    ready!(timer.as_mut().poll(context));
                    if timer.deadline() >= *deadline {
                        this.turn.ours();
                        return Poll::Ready(Some(Err(TooSlow.into())));
                    }
                    // Something was earned since the timer was set.
                    timer.as_mut().reset(*deadline);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pin_project! {
    /// The body of an answer: our turn while it is being made, the client's while what was made is being read.
    pub(crate) struct Answer {
        #[pin]
        body: Body,
        turn: Turn,
    }
}

impl Answer {
    pub(crate) fn new(body: Body, turn: Turn) -> Self {
        turn.theirs();
        Self { body, turn }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.project();
        let polled = this.body.poll_frame(context);
        if polled.is_pending() {
            this.turn.ours();
        } else {
            this.turn.theirs();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream whose writes are counted, and whose end does not take the last words from the client: a system that closes
/// a connection with something unread tells the client that it is broken, and what was sent before is lost there.
pub(super) struct Counted<S> {
    pub(super) stream: S,
    life: Arc<Life>,
    /// Once everything was said: how long, and how much of, what still comes is read and thrown away.
    lingers: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Counted<S> {
    pub(super) fn new(stream: S, life: Arc<Life>) -> Self {
        Self { stream, life, lingers: None }
    }

    fn count(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.life.bytes.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.count(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (over, left) = match &mut this.lingers {
            Some(lingers) => lingers,
            None => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
                this.lingers.insert((Box::pin(tokio::time::sleep(LINGER)), LINGER_BYTES))
            }
        };
        let mut thrown_away = [0; LINGER_READ_BYTES];
        loop {
            if this.life.in_haste.load(Ordering::Relaxed) || over.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut into = ReadBuf::new(&mut thrown_away);
            let read = ready!(Pin::new(&mut this.stream).poll_read(context, &mut into));
            let length = into.filled().len();
            // The client has closed too, is gone, or will not stop.
            if read.is_err() || length == 0 || length > *left {
                return Poll::Ready(Ok(()));
            }
            *left -= length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn nothing() -> Hold {
        holdfast_resilience::budget::Budget::new(0).hold()
    }

    #[test]
    fn a_client_is_awaited_unless_something_is_worked_on() {
        let life = Life::new(None, false);
        assert!(life.awaited_since().is_some());
        let (first, second) = (life.begin(nothing()), life.begin(nothing()));
        first.theirs();
        first.theirs();
        assert!(life.awaited_since().is_none(), "the second is worked on");
        second.theirs();
        assert!(life.awaited_since().is_some());
        second.ours();
        assert!(life.awaited_since().is_none());
        drop((first, second));
        assert!(life.awaited_since().is_some());
    }

    #[tokio::test]
    async fn an_answer_that_is_still_being_made_is_not_awaited() {
        use futures::SinkExt;
        let life = Life::new(None, false);
        let (mut pieces, body) = futures::channel::mpsc::channel::<Result<Bytes, std::convert::Infallible>>(1);
        let mut answer = std::pin::pin!(Answer::new(Body::from_stream(body), life.begin(nothing())));
        let mut next = async || futures::poll!(std::future::poll_fn(|context| answer.as_mut().poll_frame(context)));
        assert!(next().await.is_pending() && life.awaited_since().is_none(), "the piece has to be made");
        pieces.send(Ok(Bytes::from_static(b"data: 1\n\n"))).await.unwrap();
        assert!(next().await.is_ready() && life.awaited_since().is_some(), "it has to be read");
        assert!(next().await.is_pending() && life.awaited_since().is_none(), "the next has to be made");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_stands_still_is_noticed_in_time() {
        let life = Life::new(None, false);
        let began = tokio::time::Instant::now();
        life.until_stalled(PATIENCE).await;
        assert_eq!(began.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_quiet() {
        let life = Life::new(None, false);
        let turn = life.begin(nothing());
        turn.theirs();
        assert!(tokio::time::timeout(10 * PATIENCE, life.until_quiet(PATIENCE)).await.is_err(), "a body is awaited");
        drop(turn);
        life.until_quiet(PATIENCE).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_worked_on_or_moves_does_not_stand_still() {
        let life = Life::new(None, false);
        let turn = life.begin(nothing());
        let slow = RATE_BYTES_PER_SECOND * PATIENCE.as_secs() / u64::from(LOOKS);
        let worked_on = tokio::time::timeout(10 * PATIENCE, life.until_stalled(PATIENCE)).await;
        assert!(worked_on.is_err(), "it is being worked on");
        turn.theirs();
        let stalled = life.until_stalled(PATIENCE);
        let writing = async {
            loop {
                tokio::time::sleep(PATIENCE / LOOKS / 2).await;
                life.bytes.fetch_add(slow, Ordering::Relaxed);
            }
        };
        tokio::select! {
            () = stalled => panic!("it moved"),
            () = writing => {}
            () = tokio::time::sleep(10 * PATIENCE) => {}
        }
    }
}
