//! Turns that are over, newest first, in short: what the log says, read page by page.

use holdfast_storage::{
    Caller, Scope,
    events::{Event, EventFilter},
};
use uuid::Uuid;

use crate::{
    Coordinator, TurnError,
    record::{Finished, TURN_FINISHED, VERSION},
    session::blocking,
};

/// Stretches of the log that are looked at for one page. One caller's turns may lie far apart: a page can have fewer than
/// were asked for, and say where the next one begins.
const LOOKS_MAX: usize = 8;

/// A part of the list.
#[derive(Clone, Debug, Default)]
pub struct InteractionPage {
    /// The turns.
    pub items: Vec<InteractionSummary>,
    /// Where the next page begins; nothing after the oldest.
    pub next: Option<u64>,
}

/// A turn that is over.
#[derive(Clone, Debug)]
pub struct InteractionSummary {
    /// The turn.
    pub interaction: Uuid,
    /// Whose it is.
    pub caller: String,
    /// The session it belongs to.
    pub session: Option<String>,
    /// When it was over; Unix milliseconds.
    pub at_ms: i64,
    /// What happened.
    pub finished: Finished,
}

impl Coordinator {
    /// Turns of the caller's that are over, newest first, from where a page before ended; everybody's for who may read all.
    ///
    /// # Errors
    /// [`TurnError::Storage`].
    pub async fn interactions(
        &self,
        caller: &Caller,
        before: Option<u64>,
        limit: usize,
    ) -> Result<InteractionPage, TurnError> {
        let log = self.shared.log.clone();
        self.written_down().await?;
        let filter = EventFilter {
            kinds: vec![TURN_FINISHED.to_owned()],
            caller: (!caller.may(Scope::InteractionsRead)).then(|| caller.id().to_owned()),
            ..EventFilter::default()
        };
        let read = move || {
            let (mut page, mut before) = (InteractionPage::default(), before);
            for _ in 0..LOOKS_MAX {
                let found = log.read_before(before, limit - page.items.len(), &filter)?;
                page.items.extend(found.events.iter().filter_map(summary));
                page.next = Some(found.through).filter(|through| *through > 0);
                before = page.next;
                if page.next.is_none() || page.items.len() == limit {
                    break;
                }
            }
            Ok(page)
        };
        blocking(read).await?
    }
}

/// Nothing for what a newer program may have written.
fn summary(event: &Event) -> Option<InteractionSummary> {
    let finished = serde_json::from_slice(&event.body).ok().filter(|_| event.version == VERSION)?;
    Some(InteractionSummary {
        interaction: event.interaction?,
        caller: event.caller.to_string(),
        session: event.session.as_deref().map(str::to_owned),
        at_ms: event.at_ms,
        finished,
    })
}
