//! The threads of a model.
//!
//! As many as the machine may use, each of which takes some texts off the queue, encodes them from beginning to end and
//! takes the next: no thread ever waits for another. They wake when there is work, and end after the queue is closed:
//! what waits with interactive priority is still answered, bulk work is told of the shutdown.
//!
//! What a thread does with a batch is its engine's: the encoder in this process, or a server elsewhere.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use tokio::runtime::Handle;
use tracing::{Instrument, Span, field::Empty};

use crate::{
    encoder::{Encoded, Encoder, Scratch, Shape, TextVector},
    error::EmbedError,
    queue::{Batch, Content, Queue, Text},
    remote::Remote,
    space::Precision,
};

/// A batch is closed when it has this many tokens, and a query waits this long at most behind bulk work. More would not
/// make products of bytes any faster; weights of floats are four times as much to read for each batch.
pub(crate) fn batch_tokens(precision: Precision) -> usize {
    match precision {
        Precision::Int8 => 256,
        Precision::F32 => 512,
    }
}

const REFUSED: &str = "the server that has the model refused it";
pub(crate) const PANICKED: &str = "it panicked; the log has the place";

/// Makes vectors of texts. Each thread has one of its own.
pub(crate) trait Engine: Send {
    /// The vector of each text, in order, or why there are none.
    fn encode(&mut self, texts: &[Text]) -> Result<Vec<TextVector>, EmbedError>;

    /// Gives up what may be in disorder after a panic.
    fn reset(&mut self) {}
}

/// The encoder in this process.
pub(crate) struct Local {
    encoder: Arc<Encoder>,
    scratch: Scratch,
}

impl Local {
    pub(crate) fn new(encoder: Arc<Encoder>) -> Local {
        Local { encoder, scratch: Scratch::default() }
    }
}

impl Engine for Local {
    fn encode(&mut self, texts: &[Text]) -> Result<Vec<TextVector>, EmbedError> {
        let texts: Vec<(&[u32], Shape)> = texts
            .iter()
            .map(|text| match &text.content {
                Content::Ids(ids) => Ok((&**ids, text.shape)),
                Content::Text(..) => Err(EmbedError::Encoder { reason: "a text was not tokenized".to_owned() }),
            })
            .collect::<Result<_, _>>()?;
        self.encoder.encode(&texts, &mut self.scratch)
    }

    fn reset(&mut self) {
        self.scratch = Scratch::default();
    }
}

/// A server elsewhere. The thread waits for its answer.
pub(crate) struct Elsewhere {
    pub(crate) remote: Arc<Remote>,
    pub(crate) runtime: Handle,
}

impl Engine for Elsewhere {
    fn encode(&mut self, texts: &[Text]) -> Result<Vec<TextVector>, EmbedError> {
        let span = self.span(texts);
        let texts: Vec<String> = texts
            .iter()
            .map(|text| match (&text.content, text.shape) {
                (Content::Text(text, _), Shape::Pooled) => Ok(text.clone()),
                _ => Err(EmbedError::Encoder { reason: "a remote model has vectors of texts only".to_owned() }),
            })
            .collect::<Result<_, _>>()?;
        let vectors = self.runtime.block_on(self.remote.embed(&texts).instrument(span))?;
        Ok(vectors.into_iter().map(|vector| vector.map_or(Err(REFUSED), Encoded::of)).collect())
    }
}

impl Elsewhere {
    /// The span of a request for some texts: within that of the first, and a follower of the others'.
    fn span(&self, texts: &[Text]) -> Span {
        let mut asked_in = texts.iter().filter_map(|text| match &text.content {
            Content::Text(_, span) => Some(span),
            Content::Ids(_) => None,
        });
        let parent = asked_in.next().and_then(Span::id);
        let span = tracing::info_span!(
            parent: parent.clone(),
            "call",
            model = self.remote.name(),
            peer = %self.remote.peer(),
            texts = texts.len(),
            status = Empty,
            error = Empty
        );
        let mut linked = parent;
        for other in asked_in.filter_map(Span::id) {
            if linked.as_ref() != Some(&other) {
                span.follows_from(&other);
                linked = Some(other);
            }
        }
        span
    }
}

/// One thread's side of a model.
pub(crate) struct Worker {
    queue: Arc<Queue>,
    engine: Box<dyn Engine>,
}

impl Worker {
    pub(crate) fn new(queue: Arc<Queue>, engine: Box<dyn Engine>) -> Worker {
        Worker { queue, engine }
    }

    /// Works until the queue is closed and answered.
    pub(crate) fn run(mut self) {
        while let Some(batch) = self.queue.wait() {
            self.work(batch);
        }
    }

    /// Answers some texts, or tells their requests why not.
    fn work(&mut self, batch: Batch) {
        let texts = &batch.texts;
        match catch_unwind(AssertUnwindSafe(|| self.encode(&batch))) {
            Ok(Ok(vectors)) => self.queue.finish(texts, vectors),
            Ok(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "an embedding batch failed: {error}");
                self.engine.reset();
                self.queue.give_up(texts, &|| error.again());
            }
            Err(_) => {
                tracing::error!("an embedding batch failed: {PANICKED}");
                self.engine.reset();
                self.queue.give_up(texts, &|| EmbedError::Encoder { reason: PANICKED.to_owned() });
            }
        }
    }

    fn encode(&mut self, batch: &Batch) -> Result<Vec<TextVector>, EmbedError> {
        let started = Instant::now();
        let vectors = self.engine.encode(&batch.texts)?;
        let tokens = batch.texts.iter().map(|text| text.tokens).sum();
        self.queue.encoded(batch.priority, (batch.texts.len(), tokens), started.elapsed());
        Ok(vectors)
    }
}
