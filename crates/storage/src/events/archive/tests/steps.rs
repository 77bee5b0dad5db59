//! Ends the process, as a power failure does for it, at a step that the test names.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

use super::super::steps::Step;

/// Tells the re-executed test binary at which step it ends, and the how manieth time: `SegmentNamed:2`.
pub(super) const END_AT: &str = "HOLDFAST_TEST_END_AT";

static TIMES: AtomicU64 = AtomicU64::new(0);

pub(in super::super) fn reached(step: Step) {
    let Some(end_at) = end_at() else { return };
    let (name, time) = end_at.split_once(':').unwrap();
    if name == format!("{step:?}") && TIMES.fetch_add(1, Ordering::Relaxed) + 1 == time.parse::<u64>().unwrap() {
        kill_process(getpid(), Signal::KILL).unwrap();
        loop {
            std::thread::park();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "set by the parent test for its child alone")]
fn end_at() -> Option<String> {
    std::env::var(END_AT).ok()
}
