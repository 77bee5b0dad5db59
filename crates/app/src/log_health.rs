//! Whether log lines get where they are to go.
//!
//! Whoever writes them notes here how that went, for each way they go; a line that is lost is told by the part `log` of
//! the status, since there is no log to tell it. While nothing is logged nothing is known, so the last line counts until
//! the next.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use holdfast_resilience::health::{Component, Report, Since, Status};

static WAYS: Mutex<Ways> = Mutex::new(Ways { failing: BTreeMap::new(), since: None });

struct Ways {
    /// Why the last line did not get through, by the name of the way.
    failing: BTreeMap<&'static str, io::ErrorKind>,
    since: Option<Since>,
}

/// Notes how the writing of lines went.
pub fn note<T>(way: &'static str, written: &io::Result<T>) {
    let mut ways = WAYS.lock().unwrap_or_else(PoisonError::into_inner);
    match written {
        Ok(_) => ways.failing.remove(way),
        Err(error) => ways.failing.insert(way, error.kind()),
    };
    ways.observe();
}

impl Ways {
    fn observe(&mut self) -> Component {
        let now = SystemTime::now();
        let reasons: Vec<String> =
            self.failing.iter().map(|(way, kind)| format!("lines for {way} are lost: {kind}")).collect();
        let status = if reasons.is_empty() { Status::Ready } else { Status::Degraded };
        let since = self.since.get_or_insert_with(|| Since::new(now));
        since.observe(status, (!reasons.is_empty()).then(|| reasons.join("; ")), now);
        since.component("log")
    }
}

/// The part `log`.
pub struct LogHealth;

impl Report for LogHealth {
    fn components(&self) -> Vec<Component> {
        vec![WAYS.lock().unwrap_or_else(PoisonError::into_inner).observe()]
    }
}
