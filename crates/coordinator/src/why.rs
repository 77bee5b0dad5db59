//! Why a turn went as it did: what its two events say, read back.

use holdfast_routing::Obstacle;
use holdfast_storage::{
    Caller, Scope,
    events::{Event, EventFilter},
};
use uuid::Uuid;

use crate::{
    Coordinator, TurnError,
    record::{Finished, Started, TURN_FINISHED, TURN_STARTED, VERSION},
    session::blocking,
};

/// What is on record of a turn.
#[derive(Clone, Debug)]
pub struct Why {
    /// The turn.
    pub interaction: Uuid,
    /// Whose it is.
    pub caller: String,
    /// The session it belongs to.
    pub session: Option<String>,
    /// When it began; Unix milliseconds.
    pub at_ms: i64,
    /// What was known when it began.
    pub started: Started,
    /// What happened; nothing while it is under way, or where the program was ended before it was over.
    pub finished: Option<Finished>,
}

impl Coordinator {
    /// What is on record of a turn of the caller's; of anybody's for who may read all.
    ///
    /// # Errors
    /// [`TurnError::InteractionNotFound`] also for somebody else's turn.
    pub async fn why(&self, caller: &Caller, interaction: Uuid) -> Result<Why, TurnError> {
        let log = self.shared.log.clone();
        self.written_down().await?;
        let owner = (!caller.may(Scope::InteractionsRead)).then(|| caller.id().to_owned());
        let filter = EventFilter { caller: owner, ..EventFilter::default() };
        let events = blocking(move || log.of_interaction(interaction, &filter)).await??;
        let mut why = why(interaction, &events).ok_or(TurnError::InteractionNotFound)?;
        if !caller.may(Scope::InteractionsRead) {
            // For whom a model is not granted, it is not there.
            let is_hidden = |obstacle: &String| obstacle == Obstacle::NotGranted.as_str();
            why.started.candidates.retain(|candidate| !candidate.obstacles.iter().any(is_hidden));
        }
        Ok(why)
    }
}

fn why(interaction: Uuid, events: &[Event]) -> Option<Why> {
    let begun = events.iter().find(|event| &*event.kind == TURN_STARTED && event.version == VERSION)?;
    let over = events.iter().find(|event| &*event.kind == TURN_FINISHED && event.version == VERSION);
    Some(Why {
        interaction,
        caller: begun.caller.to_string(),
        session: begun.session.as_deref().map(str::to_owned),
        at_ms: begun.at_ms,
        started: serde_json::from_slice(&begun.body).ok()?,
        finished: over.and_then(|event| serde_json::from_slice(&event.body).ok()),
    })
}
