//! A body as it comes, and the clocks it runs against.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, Sleep, sleep_until};

use super::of_transport;
use crate::{CallError, Deadlines, ErrorKind};

/// The moments by which something has to have come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    first_byte_at: Instant,
    gap: Duration,
    total_at: Instant,
}

impl Clocks {
    /// They run from now on.
    pub(super) fn start(deadlines: &Deadlines) -> Self {
        let now = Instant::now();
        Self { first_byte_at: now + deadlines.first_byte, gap: deadlines.gap, total_at: now + deadlines.total }
    }

    /// By when there has to be something, where nothing has come yet.
    pub(super) fn first_due(&self) -> Instant {
        self.first_byte_at.min(self.total_at)
    }

    /// What it means that nothing had come by then.
    pub(super) fn nothing_came(&self) -> CallError {
        if self.total_at <= self.first_byte_at { took_too_long() } else { late(ErrorKind::FirstByteTimeout) }
    }
}

/// What did not come in time.
#[derive(Clone, Copy, Debug)]
enum Late {
    /// Anything at all.
    First,
    /// What had to follow.
    Gap,
}

fn late(kind: ErrorKind) -> CallError {
    CallError::new(kind, "nothing came for as long as may be")
}

fn took_too_long() -> CallError {
    CallError::new(ErrorKind::TotalTimeout, "the answer took longer than it may")
}

/// A body. Dropped before its end, it closes the connection (HTTP/1) or resets the stream (HTTP/2).
#[derive(Debug)]
pub(crate) struct Body {
    incoming: Incoming,
    clocks: Clocks,
    /// Something has come.
    is_begun: bool,
    /// Since when the next piece is waited for; nothing while it is not. The time that somebody takes to read what has come
    /// is not the provider's.
    waiting_since: Option<Instant>,
    /// The same for events, where those are what has to come: bytes that say nothing keep a connection alive, not an answer.
    events: Option<EventWait>,
    /// Armed for the time that was due when it was last looked at. Setting it anew with every piece would cost more than
    /// finding now and then that it rang too early.
    alarm: Pin<Box<Sleep>>,
}

/// How events are waited for.
#[derive(Clone, Copy, Debug, Default)]
struct EventWait {
    /// One has come.
    is_begun: bool,
    /// Since when the next one is waited for, once one has come.
    since: Option<Instant>,
}

impl Body {
    pub(super) fn new(incoming: Incoming, clocks: Clocks) -> Self {
        let alarm = Box::pin(sleep_until(clocks.first_due()));
        Self { incoming, clocks, is_begun: false, waiting_since: None, events: None, alarm }
    }

    /// From now on events have to come in time, not only bytes. [`Body::told`] says when one has.
    pub(crate) fn expect_events(&mut self) {
        self.events = Some(EventWait::default());
    }

    /// What came so far says something.
    pub(crate) fn told(&mut self) {
        self.events = self.events.map(|_| EventWait { is_begun: true, since: None });
    }

    /// The next piece; nothing at the end.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CallError>>> {
        loop {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(of_transport(&error)))),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Poll::Ready(Some(self.came(data))),
                    // Trailers say nothing that is needed.
                    _ => (),
                },
                Poll::Pending => return self.poll_alarm(cx).map(|error| Some(Err(error))),
            }
        }
    }

    /// The next piece; nothing at the end.
    pub(crate) async fn piece(&mut self) -> Option<Result<Bytes, CallError>> {
        poll_fn(|cx| self.poll_piece(cx)).await
    }

    /// All of it, if that is no more than so many bytes.
    pub(crate) async fn whole(mut self, bytes_max: usize) -> Result<Bytes, CallError> {
        let Some(first) = self.piece().await.transpose()? else { return Ok(Bytes::new()) };
        let too_long = || CallError::new(ErrorKind::Malformed, format!("its answer has more than {bytes_max} bytes"));
        let Some(second) = self.piece().await.transpose()? else {
            return if first.len() > bytes_max { Err(too_long()) } else { Ok(first) };
        };
        let mut body = BytesMut::from(first);
        let mut next = Some(second);
        while let Some(piece) = next {
            if body.len() + piece.len() > bytes_max {
                return Err(too_long());
            }
            body.extend_from_slice(&piece);
            next = self.piece().await.transpose()?;
        }
        Ok(body.freeze())
    }

    fn came(&mut self, data: Bytes) -> Result<Bytes, CallError> {
        // A stream that never lets itself be waited for is bounded as well.
        if Instant::now() >= self.clocks.total_at {
            return Err(took_too_long());
        }
        self.is_begun = true;
        self.waiting_since = None;
        Ok(data)
    }

    /// By when there has to be something, and what it means that there is not.
    fn due(&self) -> (Instant, Late) {
        let gap_end = |since: Instant| ((since + self.clocks.gap).min(self.clocks.total_at), Late::Gap);
        let first_due = (self.clocks.first_due(), Late::First);
        let bytes = self.waiting_since.map_or(first_due, gap_end);
        let events = match self.events {
            Some(EventWait { is_begun: false, .. }) => first_due,
            Some(EventWait { since: Some(since), .. }) => gap_end(since),
            _ => bytes,
        };
        if events.0 < bytes.0 { events } else { bytes }
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<CallError> {
        if self.is_begun && self.waiting_since.is_none() {
            let now = Instant::now();
            self.waiting_since = Some(now);
            if let Some(EventWait { is_begun: true, since: since @ None }) = &mut self.events {
                *since = Some(now);
            }
            // It rings too early at most, but for the first wait: the first byte may have had more time than a gap has.
            let (due, _) = self.due();
            if self.alarm.deadline() > due {
                self.alarm.as_mut().reset(due);
            }
        }
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let (due, what) = self.due();
            if Instant::now() < due {
                self.alarm.as_mut().reset(due);
                continue;
            }
            return Poll::Ready(match what {
                Late::First => self.clocks.nothing_came(),
                Late::Gap if due == self.clocks.total_at => took_too_long(),
                Late::Gap => late(ErrorKind::GapTimeout),
            });
        }
    }
}
