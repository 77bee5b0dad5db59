//! Where the encoder's time goes, and what the machine could do: for benchmarks.
//!
//! The clock is read some fifty times a batch, which costs a microsecond or two.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::encoder::vnni_peak_of_one_thread;

/// What a batch is made of.
#[derive(Clone, Copy)]
pub(crate) enum Stage {
    /// Rows of tokens and positions.
    Lookup,
    /// The linear layers' products, quantising included.
    Linear,
    /// Scores, softmax and the mix of values.
    Attention,
    /// GELU.
    Activation,
    /// Residuals and layer normalisation.
    Normalise,
    /// One vector a text.
    Pool,
}

const NAMES: [&str; 6] = ["lookup", "linear", "attention", "activation", "normalise", "pool"];

static NANOSECONDS: [AtomicU64; NAMES.len()] = [const { AtomicU64::new(0) }; NAMES.len()];

/// Runs a stage and adds its time to the stage's sum.
pub(crate) fn timed<T>(stage: Stage, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    NANOSECONDS[stage as usize].fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
    result
}

/// The time spent in each stage since the program began, over all models and threads.
pub fn stages() -> Vec<(&'static str, Duration)> {
    let spent = NANOSECONDS.iter().map(|sum| Duration::from_nanos(sum.load(Ordering::Relaxed)));
    NAMES.into_iter().zip(spent).collect()
}

/// Operations (a multiplication and an addition are two) a second that all cores together can do on bytes in registers
/// with AVX-512 VNNI, measured now, or nothing where the machine has none.
pub fn vnni_peak() -> Option<f64> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(vnni_peak_of_one_thread)).collect();
        threads.into_iter().map(|thread| thread.join().ok().flatten()).sum()
    })
}
