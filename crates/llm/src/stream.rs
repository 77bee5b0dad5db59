//! A body of server-sent events as a stream of what they say.
//!
//! It is polled by whoever reads the answer and has no task of its own; dropped, it closes the connection.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use tokio::time::{Sleep, sleep};

use crate::{
    CallError, Delta, ErrorKind, Event,
    http::{ANSWER_BYTES_MAX, Body},
    sse,
};

/// How long the end of a body is waited for once its last event has come, so that the connection can be used again.
const LINGER: Duration = Duration::from_millis(20);

/// The longest body: as much as the longest answer, in frames that have up to eight times as many bytes as they say.
const BODY_BYTES_MAX: usize = 8 * ANSWER_BYTES_MAX;

/// What makes events of one shape out of messages.
pub(crate) trait Decode: Send + Unpin {
    /// What a message says; nothing where nobody has to know. What has [`Delta::End`] is the last.
    fn message(&mut self, message: &sse::Message) -> Result<Option<Event>, CallError>;

    /// What it means that no more comes.
    fn ended(&mut self) -> Result<Event, CallError>;
}

/// The events of a body.
pub(crate) struct Events<D> {
    body: Body,
    parser: sse::Parser,
    decoder: D,
    state: State,
    /// Bytes that came,
    came_bytes: usize,
    /// and those of what they said.
    said_bytes: usize,
}

enum State {
    Running,
    /// The last event has come, the end of the body has not.
    Lingering(Event, Pin<Box<Sleep>>),
    Done,
}

impl<D: Decode> Events<D> {
    pub(crate) fn new(mut body: Body, decoder: D) -> Self {
        body.expect_events();
        Self { body, parser: sse::Parser::default(), decoder, state: State::Running, came_bytes: 0, said_bytes: 0 }
    }

    /// The next event of what has come.
    fn parsed(&mut self) -> Result<Option<Event>, CallError> {
        let too_long = |error: sse::TooLong| CallError::new(ErrorKind::Malformed, error.to_string());
        while let Some(message) = self.parser.next().map_err(too_long)? {
            if let Some(event) = self.decoder.message(&message)? {
                if !event.deltas.is_empty() {
                    self.body.told();
                }
                self.said_bytes += event.deltas.iter().map(Delta::size_bytes).sum::<usize>();
                within(self.said_bytes, ANSWER_BYTES_MAX)?;
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn poll_running(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, CallError>> {
        loop {
            if let Some(event) = self.parsed()? {
                return Poll::Ready(Ok(event));
            }
            match ready!(self.body.poll_piece(cx)) {
                Some(piece) => {
                    let piece = piece?;
                    self.came_bytes += piece.len();
                    within(self.came_bytes, BODY_BYTES_MAX)?;
                    self.parser.push(piece);
                }
                None => return Poll::Ready(self.decoder.ended()),
            }
        }
    }

    /// Whether the end of the body has come, or was waited for long enough.
    fn poll_lingered(body: &mut Body, alarm: &mut Pin<Box<Sleep>>, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(piece) = body.poll_piece(cx) {
            if !matches!(piece, Some(Ok(_))) {
                return Poll::Ready(());
            }
        }
        alarm.as_mut().poll(cx)
    }
}

/// Refuses what is longer than an answer may be.
fn within(bytes: usize, bytes_max: usize) -> Result<(), CallError> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(CallError::new(ErrorKind::Malformed, format!("its answer has more than {bytes_max} bytes")))
}

impl<D: Decode> Stream for Events<D> {
    type Item = Result<Event, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let State::Running = this.state {
            let event = match ready!(this.poll_running(cx)) {
                Ok(event) => event,
                Err(error) => {
                    this.state = State::Done;
                    return Poll::Ready(Some(Err(error)));
                }
            };
            if !event.deltas.contains(&Delta::End) {
                return Poll::Ready(Some(Ok(event)));
            }
            this.state = State::Lingering(event, Box::pin(sleep(LINGER)));
        }
        if let State::Lingering(_, alarm) = &mut this.state {
            ready!(Self::poll_lingered(&mut this.body, alarm, cx));
        }
        match std::mem::replace(&mut this.state, State::Done) {
            State::Lingering(event, _) => Poll::Ready(Some(Ok(event))),
            State::Running | State::Done => Poll::Ready(None),
        }
    }
}
