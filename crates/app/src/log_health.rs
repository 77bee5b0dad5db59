//! Whether log lines get where they are to go.
//!
//! Whoever writes them notes here how that went; a line that is lost is told by the part `log` of the status, since there
//! is no log to tell it. While nothing is logged nothing is known, so the last line counts until the next.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use holdfast_resilience::health::{Component, Report, Since, Status};

/// How the last line fared.
static LAST: Mutex<Option<Since>> = Mutex::new(None);

/// Notes how the writing of a line went.
pub fn note<T>(written: &io::Result<T>) {
    let now = SystemTime::now();
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let since = last.get_or_insert_with(|| Since::new(now));
    match written {
        Ok(_) => since.observe(Status::Ready, None, now),
        Err(error) => since.observe(Status::Degraded, Some(format!("log lines are lost: {}", error.kind())), now),
    }
}

/// The part `log`.
pub struct LogHealth;

impl Report for LogHealth {
    fn components(&self) -> Vec<Component> {
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        vec![last.get_or_insert_with(|| Since::new(SystemTime::now())).component("log")]
    }
}
