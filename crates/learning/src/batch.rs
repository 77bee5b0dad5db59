//! Events that a caller with a key tells of, many at once: all of them are durable, or none is there.

use std::collections::HashMap;

use holdfast_storage::{
    Caller, StorageError,
    events::{APPEND_EVENTS_MAX, AppendError, Appended, EventFilter, NewEvent},
};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    AHEAD_MAX_MS, LearnError, Learning, line,
    line::{RESERVED_KINDS, Rules},
    may_see, now_ms,
    similar::blocking,
    told::{BadTold, INTERACTION_TOLD, OUTCOME_TOLD, OutcomeTold, TOLD_VERSION, Told},
};

/// Events of one batch.
pub const BATCH_EVENTS_MAX: usize = APPEND_EVENTS_MAX;

/// Which batch it is, so that telling it again writes nothing.
#[derive(Clone, Debug)]
pub struct BatchKey {
    /// By the caller's word.
    pub key: String,
    /// The hash of the whole batch as it came.
    pub body_hash: [u8; 32],
}

impl Learning {
    /// Puts events on record, durably, each an object as a line of the drop folder is. Those of interactions and of how
    /// they went have to make sense, as [`Learning::tell`] and [`Learning::outcome`] have it; all others are kept as they
    /// are.
    ///
    /// # Errors
    /// [`LearnError::BadEvent`] names the first that cannot be put on record, [`LearnError::KeyReused`] that the key came
    /// with another batch. Then nothing is.
    pub async fn record(
        &self,
        caller: &Caller,
        key: Option<BatchKey>,
        events: &[Box<RawValue>],
    ) -> Result<Appended, LearnError> {
        if events.is_empty() || events.len() > BATCH_EVENTS_MAX {
            let problem = format!("has {} events; 1 to {BATCH_EVENTS_MAX} are taken at once", events.len());
            return Err(BadTold { field: "events", problem: problem.into() }.into());
        }
        let now_ms = now_ms();
        let rules = Rules {
            // A key's data is its own, as the coordinator has it.
            tenant: caller.id().into(),
            caller: caller.id().into(),
            is_known_whose: true,
            ahead_max_ms: AHEAD_MAX_MS,
            reserved_kinds: RESERVED_KINDS.map(str::to_owned).to_vec(),
        };
        let (mut read, mut told, mut size_bytes) = (Vec::with_capacity(events.len()), Interactions::default(), 0);
        for (index, event) in events.iter().enumerate() {
            let bad = |problem: String| LearnError::BadEvent { index, problem };
            let event = line::event(event.get().as_bytes(), &rules, now_ms, Uuid::now_v7)
                .map_err(|error| bad(error.detail))?
                .ok_or_else(|| bad("is empty".to_owned()))?;
            size_bytes += event.body.len();
            told.check(index, &event).map_err(bad)?;
            read.push(event);
        }
        if let Some((index, problem)) = self.not_theirs(caller, told).await? {
            return Err(LearnError::BadEvent { index, problem: problem.to_owned() });
        }
        let appended = match key {
            Some(BatchKey { key, body_hash }) => self.log.append_once(caller.id(), &key, body_hash, read, now_ms).await,
            None => self.log.append(read).await.map(|positions| Appended {
                positions: positions.first().map_or(0..0, |first| *first..first + positions.len() as u64),
                is_repeat: false,
            }),
        };
        appended.map_err(|error| match error {
            AppendError::Storage(error) => error.into(),
            AppendError::KeyReused => LearnError::KeyReused,
            AppendError::TooMany { .. } => LearnError::TooLarge { size_bytes },
            other => BadTold { field: "events", problem: other.to_string().into() }.into(),
        })
    }

    /// The first event of a batch that tells of an interaction which is somebody else's, or says how one went that is not
    /// there.
    async fn not_theirs(
        &self,
        caller: &Caller,
        told: Interactions,
    ) -> Result<Option<(usize, &'static str)>, LearnError> {
        if told.own.is_empty() && told.others.is_empty() {
            return Ok(None);
        }
        self.log.flush().await?;
        let (log, store, caller) = (self.log.clone(), self.store.clone(), caller.clone());
        let look = move || {
            let owner = |id| match log.of_interaction(id, &EventFilter::default())?.into_iter().next() {
                Some(event) => Ok(Some(event.caller.to_string())),
                None => Ok::<_, StorageError>(store.read(|fold| fold.interaction(id))?.map(|row| row.caller)),
            };
            for (id, index) in told.own {
                if owner(id)?.is_some_and(|owner| !may_see(&caller, &owner)) {
                    return Ok(Some((index, "tells of an interaction whose id is taken")));
                }
            }
            for (index, id) in told.others {
                if !owner(id)?.is_some_and(|owner| may_see(&caller, &owner)) {
                    return Ok(Some((index, "tells of an interaction that is not there")));
                }
            }
            Ok(None)
        };
        blocking(look).await.map_err(|_| StorageError::Closed)?
    }
}

/// What a batch tells of interactions.
#[derive(Default)]
struct Interactions {
    /// Those that it tells of itself, each with the event that does so.
    own: HashMap<Uuid, usize>,
    /// Events that say how others went, and which.
    others: Vec<(usize, Uuid)>,
}

impl Interactions {
    fn check(&mut self, index: usize, event: &NewEvent) -> Result<(), String> {
        let is_told = matches!(&*event.kind, INTERACTION_TOLD | OUTCOME_TOLD) && event.version == TOLD_VERSION;
        if !is_told {
            return Ok(());
        }
        let interaction = event.interaction.ok_or("`interaction` is missing")?;
        if *event.kind == *INTERACTION_TOLD {
            body::<Told>(event)?.check().map_err(|bad| bad.to_string())?;
            self.own.entry(interaction).or_insert(index);
            return Ok(());
        }
        let outcome: OutcomeTold = body(event)?;
        outcome.check().map_err(|bad| bad.to_string())?;
        if outcome.is_empty() {
            return Err("says nothing of how it went".to_owned());
        }
        if !self.own.contains_key(&interaction) {
            self.others.push((index, interaction));
        }
        Ok(())
    }
}

fn body<T: DeserializeOwned>(event: &NewEvent) -> Result<T, String> {
    serde_json::from_slice(&event.body).map_err(|error| error.to_string())
}
