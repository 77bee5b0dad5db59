//! An answer as it comes, to a client: one frame of the body an event, none of them held back.
//!
//! Where the model speaks the client's shape, its own words are handed on; otherwise, and from where another model goes on,
//! what they say is written anew. A stream never simply stops: it ends as its shape has it, or with an event that tells
//! the failure. It is polled by the connection and lives no longer than that: once the client is gone it is dropped, and
//! with it the call to the model. It is woken by pieces of the answer, by [`KEEP_ALIVE`] of silence, in which it says that
//! it is still there, and by shutdown, after which it has most of the grace to come to its end.

use std::{convert::Infallible, panic::AssertUnwindSafe, pin::Pin, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use holdfast_coordinator::{Streaming, TurnEvent, TurnStream};
use holdfast_llm::{Delta, Event, Shape};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tracing::Span;

use super::{
    anthropic,
    asked::Counting,
    encode::{Named, Unsayable},
    openai,
};
use crate::{
    error::{Code, Failure, SOMETHING_WENT_WRONG, cut_short},
    face::Face,
    gate::panicked,
    limits::Meter,
};

/// Silence after which something is said that means nothing: proxies and clients give up on a connection after 30 s at
/// the earliest.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A comment, which clients pass over: WHATWG HTML, section 9.2.6.
const COMMENT: &[u8] = b": ping\n\n";

/// Everything a stream needs besides the answer.
pub(super) struct Setting {
    /// What the client speaks.
    pub(super) shape: Shape,
    /// Whether it wants to hear what the answer took.
    pub(super) counting: Counting,
    /// The request's id.
    pub(super) request_id: String,
    /// What the request counts on, for as long as it is answered.
    #[expect(dead_code, reason = "it is held, not looked at")]
    pub(super) meter: Meter,
    /// Ends the server,
    pub(super) shutdown: CancellationToken,
    /// which waits that long.
    pub(super) grace: Duration,
}

/// The body of an answer that is coming.
pub(super) fn body(streaming: Streaming, setting: Setting) -> Body {
    let Streaming { about, shape, events } = streaming;
    let named = Named::new(prefix(setting.shape), about.interaction, &about.model);
    let words = match setting.shape {
        Shape::OpenAi => Words::OpenAi(openai::answer::Events::new(named, setting.counting)),
        Shape::Anthropic => Words::Anthropic(anthropic::answer::Events::new(named)),
    };
    let manner = if shape == Some(setting.shape) { Manner::HandedOn } else { Manner::Anew };
    let relay = Box::new(Relay {
        events,
        words,
        manner,
        ready: Vec::new(),
        said: 0,
        phase: Phase::Telling,
        silent_since: Instant::now(),
        timer: Box::pin(tokio::time::sleep(KEEP_ALIVE)),
        ending: Ending::Awaited(Box::pin(setting.shutdown.clone().cancelled_owned())),
        span: Span::current(),
        setting,
    });
    let frames = stream::unfold(relay, |mut relay| async move {
        let frame = relay.next().await?;
        Some((Ok::<_, Infallible>(frame), relay))
    });
    Body::from_stream(frames)
}

/// What ids of answers begin with.
pub(super) const fn prefix(shape: Shape) -> &'static str {
    match shape {
        Shape::OpenAi => "chatcmpl-",
        Shape::Anthropic => "msg_",
    }
}

/// The face of those who speak a shape.
pub(super) const fn face(shape: Shape) -> Face {
    match shape {
        Shape::OpenAi => Face::OpenAi,
        Shape::Anthropic => Face::Anthropic,
    }
}

/// How pieces become what the client reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// The model speaks the client's shape: its own words are handed on.
    HandedOn,
    /// What they say is written anew.
    Anew,
}

/// What writes a shape.
enum Words {
    OpenAi(openai::answer::Events),
    Anthropic(anthropic::answer::Events),
}

impl Words {
    fn observe(&mut self, event: &Event) {
        match self {
            Self::OpenAi(events) => event.deltas.iter().for_each(|delta| events.observe(delta)),
            Self::Anthropic(events) => {
                event.deltas.iter().for_each(|delta| events.observe(delta));
                if let Some(frame) = &event.frame {
                    events.observe_frame(frame);
                }
            }
        }
    }

    fn continued(&mut self) {
        match self {
            Self::OpenAi(events) => events.continued(),
            Self::Anthropic(events) => events.continued(),
        }
    }

    fn write(&mut self, delta: &Delta, into: &mut Vec<Bytes>) -> Result<(), Unsayable> {
        match self {
            Self::OpenAi(events) => events.write(delta, into),
            Self::Anthropic(events) => events.write(delta, into),
        }
    }
}

/// How far a stream is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is more to tell.
    Telling,
    /// The client was told all; whoever made it may have something to do yet.
    Told,
    /// Nothing comes any more.
    Over,
}

/// The end of the server, as a stream sees it.
enum Ending {
    /// It may come.
    Awaited(Pin<Box<WaitForCancellationFutureOwned>>),
    /// It has, and the stream has that long.
    Near(Pin<Box<Sleep>>),
}

/// What wakes a stream.
enum Woken {
    /// A piece, or the end of pieces.
    Came(Option<TurnEvent>),
    /// Making it failed: a defect.
    Broke(Failure),
    /// Nothing came for a while.
    Silence,
    /// The server ends.
    Shutdown,
    /// And will not wait any longer.
    Closing,
}

/// A stream on its way from a model to a client.
struct Relay {
    events: TurnStream,
    words: Words,
    manner: Manner,
    /// What was made of the last piece,
    ready: Vec<Bytes>,
    /// and how much of that the client was told.
    said: usize,
    phase: Phase,
    silent_since: Instant,
    /// Goes off at the end of a silence that began at some time before.
    timer: Pin<Box<Sleep>>,
    ending: Ending,
    span: Span,
    setting: Setting,
}

impl Relay {
    /// The next frame, or nothing after the last one.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.ready.get_mut(self.said) {
                self.said += 1;
                return Some(std::mem::take(frame));
            }
            self.ready.clear();
            self.said = 0;
            if self.phase == Phase::Told {
                self.rest().await;
            }
            if self.phase == Phase::Over {
                return None;
            }
            match self.woken().await {
                Woken::Came(Some(TurnEvent::Piece(event))) => self.piece(&event),
                Woken::Came(Some(TurnEvent::Continued { .. })) => {
                    self.manner = Manner::Anew;
                    self.words.continued();
                }
                Woken::Came(Some(TurnEvent::Failed(error))) => self.fail(cut_short(error)),
                Woken::Came(None) => {
                    let cause = "the answer's stream ended without an end";
                    self.fail(Failure::new(Code::Internal, SOMETHING_WENT_WRONG).cause(cause));
                }
                Woken::Broke(failure) => self.fail(failure),
                Woken::Silence => self.silence(),
                Woken::Shutdown => {
                    // The rest of the grace is for the client to read what it was told.
                    self.ending = Ending::Near(Box::pin(tokio::time::sleep(self.setting.grace.mul_f64(0.75))));
                }
                Woken::Closing => self.fail(Failure::new(Code::ShuttingDown, "the server is shutting down")),
            }
        }
    }

    async fn woken(&mut self) -> Woken {
        let Self { events, timer, ending, .. } = self;
        let ended = async {
            match ending {
                Ending::Awaited(shutdown) => {
                    shutdown.await;
                    Woken::Shutdown
                }
                Ending::Near(grace) => {
                    grace.await;
                    Woken::Closing
                }
            }
        };
        tokio::select! {
            biased;
            // A defect in what makes the pieces must not end the connection without a word.
            came = AssertUnwindSafe(events.next()).catch_unwind() => match came {
                Ok(event) => Woken::Came(event),
                Err(panic) => Woken::Broke(panicked(panic.as_ref())),
            },
            woken = ended => woken,
            () = timer.as_mut() => Woken::Silence,
        }
    }

    /// Lets whoever made the answer come to their own end, which is not the client's matter.
    async fn rest(&mut self) {
        let rest = async { while self.events.next().await.is_some() {} };
        let _ended = tokio::time::timeout(KEEP_ALIVE, AssertUnwindSafe(rest).catch_unwind()).await;
        self.phase = Phase::Over;
    }

    /// A piece of the answer, in the client's words.
    fn piece(&mut self, event: &Event) {
        self.silent_since = Instant::now();
        if event.deltas.contains(&Delta::End) {
            self.phase = Phase::Told;
        }
        if self.manner == Manner::Anew {
            return self.write(event);
        }
        self.words.observe(event);
        match &event.frame {
            Some(frame) => self.ready.push(frame.clone()),
            // The end has to be told to those who were not told what it came with.
            None if self.phase == Phase::Told && self.setting.shape == Shape::OpenAi => {
                self.ready.push(Bytes::from_static(openai::answer::DONE));
            }
            None => {}
        }
    }

    fn write(&mut self, event: &Event) {
        for delta in &event.deltas {
            if let Err(unsayable) = self.words.write(delta, &mut self.ready) {
                return self.fail(Failure::new(Code::ProviderFailed, unsayable.as_str()));
            }
        }
    }

    /// Ends the stream with an event that says why.
    fn fail(&mut self, failure: Failure) {
        let face = face(self.setting.shape);
        let problem = self.span.in_scope(|| failure.report());
        let (_, written) = face.written(problem, &self.setting.request_id);
        let name: &[u8] = match self.setting.shape {
            Shape::OpenAi => b"data: ",
            Shape::Anthropic => b"event: error\ndata: ",
        };
        self.ready.push([name, &written, b"\n\n"].concat().into());
        self.phase = Phase::Over;
    }

    /// Says that it is still there, if the silence did not begin after the timer was set.
    fn silence(&mut self) {
        if self.silent_since.elapsed() >= KEEP_ALIVE {
            self.silent_since = Instant::now();
            self.ready.push(Bytes::from_static(match self.setting.shape {
                Shape::OpenAi => COMMENT,
                Shape::Anthropic => anthropic::answer::PING,
            }));
        }
        self.timer.as_mut().reset(self.silent_since + KEEP_ALIVE);
    }
}

#[cfg(test)]
mod tests;
