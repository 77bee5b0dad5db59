//! What is done with a request, step by step.

use std::time::Duration;

use bytes::Bytes;

use super::words;

/// A step of a script.
#[derive(Clone, Debug)]
pub enum Step {
    /// Status and headers; what the body's bytes are framed with follows from them.
    Head {
        /// The status.
        status: u16,
        /// Beside those for the framing.
        headers: Vec<(String, String)>,
        /// How the end of the body is told.
        framing: Framing,
    },
    /// A piece of the body.
    Body(Bytes),
    /// The end of the body.
    End,
    /// Bytes that are nobody's.
    Raw(Bytes),
    /// Nothing, for a while.
    Wait(Duration),
    /// Nothing, until the client goes away.
    Hang,
    /// The connection ends in order (FIN).
    Close,
    /// The connection is torn (RST). Only without TLS.
    Reset,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By its length.
    Length(usize),
    /// In chunks.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// What is done with a request.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub(super) steps: Vec<Step>,
}

impl Script {
    /// These steps.
    pub fn of(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect() }
    }

    /// An answer with a body of JSON.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self::typed(status, "application/json", body)
    }

    /// An answer with a body of some type.
    pub fn typed(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self::of([Step::Head { status, headers, framing: Framing::Length(body.len()) }, Step::Body(body), Step::End])
    }

    /// A stream of frames, each with its empty line.
    pub fn stream<F: Into<Bytes>>(frames: impl IntoIterator<Item = F>) -> Self {
        let headers = vec![("content-type".to_owned(), "text/event-stream; charset=utf-8".to_owned())];
        let mut steps = vec![Step::Head { status: 200, headers, framing: Framing::Chunked }];
        steps.extend(frames.into_iter().map(|frame| Step::Body(frame.into())));
        steps.push(Step::End);
        Self { steps }
    }

    /// A whole answer of OpenAI's shape.
    pub fn openai(text: &str) -> Self {
        Self::json(200, words::openai_answer(text))
    }

    /// An answer of OpenAI's shape that comes in pieces.
    pub fn openai_stream(pieces: &[&str]) -> Self {
        Self::stream(words::openai_frames(pieces))
    }

    /// A whole answer of Anthropic's shape.
    pub fn anthropic(text: &str) -> Self {
        Self::json(200, words::anthropic_answer(text))
    }

    /// An answer of Anthropic's shape that comes in pieces.
    pub fn anthropic_stream(pieces: &[&str]) -> Self {
        Self::stream(words::anthropic_frames(pieces))
    }

    /// A failure as both shapes tell of it.
    pub fn failure(status: u16, kind: &str, message: &str) -> Self {
        let body = serde_json::json!({"type": "error", "error": {"type": kind, "code": kind, "message": message}});
        Self::json(status, body.to_string())
    }

    /// The connection is torn at once.
    pub fn reset() -> Self {
        Self::of([Step::Reset])
    }

    /// Nothing comes.
    pub fn hang() -> Self {
        Self::of([Step::Hang])
    }

    /// With another header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        for step in &mut self.steps {
            if let Step::Head { headers, .. } = step {
                headers.retain(|(known, _)| known != name);
                headers.push((name.to_owned(), value.to_owned()));
            }
        }
        self
    }

    /// With the end of its body told otherwise.
    #[must_use]
    pub fn framed(mut self, other: Framing) -> Self {
        for step in &mut self.steps {
            if let Step::Head { framing, .. } = step {
                *framing = other;
            }
        }
        self
    }

    /// With a step before all others.
    #[must_use]
    pub fn first(mut self, step: Step) -> Self {
        self.steps.insert(0, step);
        self
    }

    /// With nothing after so many pieces of the body but these steps.
    #[must_use]
    pub fn then_after(mut self, pieces: usize, steps: impl IntoIterator<Item = Step>) -> Self {
        let is_body = |(_, step): &(usize, &Step)| matches!(step, Step::Body(_));
        let next = self.steps.iter().enumerate().filter(is_body).nth(pieces).map(|(at, _)| at);
        let end = self.steps.iter().position(|step| matches!(step, Step::End));
        self.steps.truncate(next.or(end).unwrap_or(self.steps.len()));
        self.steps.extend(steps);
        self
    }

    /// With a pause before each piece of the body but the first.
    #[must_use]
    pub fn slowed(self, pause: Duration) -> Self {
        let mut steps = Vec::new();
        let mut is_first = true;
        for step in self.steps {
            let is_body = matches!(step, Step::Body(_));
            if is_body && !std::mem::replace(&mut is_first, false) {
                steps.push(Step::Wait(pause));
            }
            steps.push(step);
        }
        Self { steps }
    }

    /// With the body cut into pieces of so many bytes.
    #[must_use]
    pub fn dripping(self, bytes: usize) -> Self {
        let cut = |step| match step {
            Step::Body(body) => body.chunks(bytes).map(|piece| Step::Body(Bytes::copy_from_slice(piece))).collect(),
            other => vec![other],
        };
        Self { steps: self.steps.into_iter().flat_map(cut).collect() }
    }
}
