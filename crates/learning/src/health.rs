//! How learning is, as a part of the whole. Nothing waits for it, so it is never down.

use std::{
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use holdfast_resilience::health::{Component, Queue, Report, Since, Status};

use crate::Learning;

/// Failures in a row after which it is told; a model that is being loaded makes a few.
const IN_A_ROW: u32 = 5;

/// Since when it is as it is.
pub(crate) struct Watch(Mutex<Since>);

impl Default for Watch {
    fn default() -> Self {
        Self(Mutex::new(Since::new(SystemTime::now())))
    }
}

impl Report for Learning {
    fn components(&self) -> Vec<Component> {
        let failing = self.status().stages.into_iter().find(|(_, status)| status.in_a_row >= IN_A_ROW);
        let of_folder = || self.drop_folder.as_ref().and_then(|folder| folder.status().last_error);
        let reason = match (self.store.failure(), failing) {
            (Some(failure), _) => Some(format!("what is learned is not kept: {failure}")),
            (None, Some((stage, status))) => {
                Some(format!("the stage {stage} fails: {}", status.error.unwrap_or_default()))
            }
            (None, None) => of_folder()
                .map(|error| format!("the drop folder is not read: {error}"))
                .or_else(|| Some(format!("old events are not archived: {}", self.keeper.as_ref()?.failure()?))),
        };
        let status = if reason.is_some() { Status::Degraded } else { Status::Ready };
        let mut since = self.health.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.observe(status, reason, SystemTime::now());
        vec![since.component("learning")]
    }

    fn queues(&self) -> Vec<Queue> {
        vec![self.store.queue()]
    }
}
