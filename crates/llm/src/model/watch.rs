//! Looks whether a model that could not be reached can be reached again.

use std::{sync::PoisonError, time::Duration};

use holdfast_resilience::breaker::State;
use tokio::time::sleep;

use super::Model;
use crate::{CallError, Deadlines, ErrorKind};

/// How often it is looked, and how long that may take. Asking for the list of models costs nothing, at home or elsewhere.
const LOOKED_EVERY: Duration = Duration::from_secs(1);
const LOOKED_WITHIN: Duration = Duration::from_secs(2);

impl Model {
    /// Whenever the breaker opens because there was no connection to be had: looks each second whether the server answers
    /// again, and closes the breaker then, instead of after the pause. Never ends; its owner drops it at shutdown.
    ///
    /// Other failures are left to the pause: a server that answers is no sign that they are over.
    pub async fn watch(&self) {
        let deadlines =
            Deadlines { connect: LOOKED_WITHIN, first_byte: LOOKED_WITHIN, gap: LOOKED_WITHIN, total: LOOKED_WITHIN };
        loop {
            self.shared.opened.notified().await;
            while self.shared.breaker.state() == State::Open && self.is_unreached() {
                sleep(LOOKED_EVERY).await;
                if is_reached(self.shared.provider.models(&deadlines).await.err()) {
                    let name = &self.spec().name;
                    tracing::info!(model = name, "the model {name} can be reached again");
                    self.revived();
                }
            }
        }
    }

    /// Whether the last failure was that there was nobody.
    fn is_unreached(&self) -> bool {
        let last = *self.shared.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(last, Some(ErrorKind::Dns | ErrorKind::Refused))
    }
}

/// Whether somebody answered. A list of models is not everywhere to be had, and what stands in its place is an answer too;
/// a server that starts up says 503.
fn is_reached(error: Option<CallError>) -> bool {
    use ErrorKind::{Malformed, ModelNotFound, RateLimited, Rejected, Unauthorized};
    let is_answer = |kind| matches!(kind, Malformed | ModelNotFound | RateLimited | Rejected | Unauthorized);
    error.is_none_or(|error| is_answer(error.kind))
}
