//! Processes that run because this one does: started, watched, started again, and ended with it. What they are, they are
//! told by a specification.
//!
//! A [`Spec`] says what to run and how to tell that it works. [`Supervisor::add`] keeps it running from then on, in a task
//! of its own, and gives a [`Supervised`] to look at it, wait for it, restart and stop it. What runs ends with this
//! program whatever ends this program; [`child::run_if_asked`] has its part in that, and must be what `main` does first.
//!
//! Nothing here knows an order among services: whoever has one adds the next when [`Supervised::until_ready`] says so of
//! the one before. Linux only: other systems do not kill a child with its parent.

mod spec;

mod probe;

mod supervisor;

mod supervised;

mod situation;

mod failure;

mod service;

mod orders;

mod backoff;

mod launch;

pub mod child;

mod process;

mod log;

pub mod ports;

mod words;

pub use failure::{Cause, Failure};
pub use probe::{Checking, Probe};
pub use situation::{Situation, State};
pub use spec::{Checks, Jitter, Restart, Spec, SpecError};
pub use supervised::{NotReady, Supervised};
pub use supervisor::{AddError, Config, PASSED_ON, Supervisor};
