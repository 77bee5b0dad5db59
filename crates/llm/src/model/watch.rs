//! Looks whether a model that could not be reached can be reached again.

use std::{sync::PoisonError, time::Duration};

use holdfast_resilience::breaker::State;
use tokio::time::sleep;

use super::Model;
use crate::{Deadlines, ErrorKind};

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
                if self.shared.provider.models(&deadlines).await.is_ok() {
                    let name = &self.spec().name;
                    tracing::info!(model = name, "the model {name} can be reached again");
                    self.revived();
                }
            }
        }
    }

    fn is_unreached(&self) -> bool {
        let last = *self.shared.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(last, Some(ErrorKind::Dns | ErrorKind::Refused))
    }
}
