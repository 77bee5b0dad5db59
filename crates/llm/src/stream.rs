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

use crate::{CallError, Delta, ErrorKind, Event, http::Body, sse};

/// How long the end of a body is waited for once its last event has come, so that the connection can be used again.
const LINGER: Duration = Duration::from_millis(20);

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
}

enum State {
    Running,
    /// The last event has come, the end of the body has not.
    Lingering(Event, Pin<Box<Sleep>>),
    Done,
}

impl<D: Decode> Events<D> {
    pub(crate) fn new(body: Body, decoder: D) -> Self {
        Self { body, parser: sse::Parser::default(), decoder, state: State::Running }
    }

    /// The next event of what has come.
    fn parsed(&mut self) -> Result<Option<Event>, CallError> {
        let too_long = |error: sse::TooLong| CallError::new(ErrorKind::Malformed, error.to_string());
        while let Some(message) = self.parser.next().map_err(too_long)? {
            if let Some(event) = self.decoder.message(&message)? {
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
                Some(piece) => self.parser.push(piece?),
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
