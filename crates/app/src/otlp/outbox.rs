//! The way out: a bounded queue, and the task behind it that exports what is in it in batches.
//!
//! The task is woken by what comes in and by its end; it waits for a batch to fill, but not for long. An export that fails
//! is tried once more after a pause; then its items are given up and counted, so that a collector that is gone costs
//! memory for one queue and no more.

use std::{fmt, time::Duration};

use holdfast_resilience::health::Queue;
use metrics::{Counter, counter};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_util::sync::CancellationToken;

/// Items that wait to be exported.
const QUEUED_MAX: usize = 2_048;
/// Items of one export.
const BATCH_MAX: usize = 512;
/// How long a batch may take to fill.
const FILL_WITHIN: Duration = Duration::from_secs(1);
/// The pause before what the collector did not take is offered once more.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes items and never waits.
pub(super) struct Outbox<T> {
    name: &'static str,
    sender: Sender<T>,
    dropped: Counter,
}

/// Sends a batch to the collector, or says why that failed.
pub(super) trait Export<T>: Send + Sync {
    fn export(&self, batch: &[T]) -> impl Future<Output = Result<(), String>> + Send;
}

/// What goes from an outbox to a collector.
pub(super) struct Pump<T, E> {
    signal: &'static str,
    queue: Receiver<T>,
    exporter: E,
    exported: Counter,
    dropped: Counter,
    failures: Counter,
    /// Whether the last export failed: that is logged when it begins and when it ends.
    is_failing: bool,
}

impl<T> fmt::Debug for Outbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self { name: self.name, sender: self.sender.clone(), dropped: self.dropped.clone() }
    }
}

impl<T: Send> Outbox<T> {
    /// An outbox and its pump, for `traces` or `logs`.
    pub(super) fn new<E: Export<T>>(name: &'static str, signal: &'static str, exporter: E) -> (Self, Pump<T, E>) {
        let (sender, queue) = mpsc::channel(QUEUED_MAX);
        let dropped = counter!("holdfast_telemetry_dropped_total", "signal" => signal);
        let pump = Pump {
            signal,
            queue,
            exporter,
            exported: counter!("holdfast_telemetry_exported_total", "signal" => signal),
            dropped: dropped.clone(),
            failures: counter!("holdfast_telemetry_failures_total", "signal" => signal),
            is_failing: false,
        };
        (Self { name, sender, dropped }, pump)
    }

    /// Takes an item where there is room, and gives it up where there is none.
    pub(super) fn put(&self, item: T) {
        if self.sender.try_send(item).is_err() {
            self.dropped.increment(1);
        }
    }

    pub(super) fn queue(&self) -> Queue {
        Queue { name: self.name, length: QUEUED_MAX - self.sender.capacity(), limit: QUEUED_MAX }
    }
}

impl<T: Send + Sync, E: Export<T>> Pump<T, E> {
    /// Exports until told to stop, and then what is left.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                count = self.queue.recv_many(&mut batch, BATCH_MAX) => if count == 0 {
                    return;
                },
            }
            self.fill(&mut batch, &stop).await;
            self.export(&batch, &stop).await;
            batch.clear();
        }
        self.queue.close();
        while self.queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
            self.export(&batch, &stop).await;
            batch.clear();
        }
    }

    async fn fill(&mut self, batch: &mut Vec<T>, stop: &CancellationToken) {
        let full = async {
            while batch.len() < BATCH_MAX && self.queue.recv_many(batch, BATCH_MAX - batch.len()).await > 0 {}
        };
        tokio::select! {
            () = full => {}
            () = tokio::time::sleep(FILL_WITHIN) => {}
            () = stop.cancelled() => {}
        }
    }

    async fn export(&mut self, batch: &[T], stop: &CancellationToken) {
        let mut outcome = self.exporter.export(batch).await;
        if outcome.is_err() {
            self.failures.increment(1);
            // At the end of the program there is no time to wait for a collector that is gone.
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => outcome = self.exporter.export(batch).await,
                () = stop.cancelled() => {}
            }
        }
        let signal = self.signal;
        match outcome {
            Ok(()) => {
                self.exported.increment(batch.len() as u64);
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!(signal, "the collector takes {signal} again");
                }
            }
            Err(error) => {
                self.failures.increment(1);
                self.dropped.increment(batch.len() as u64);
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(
                        signal,
                        error,
                        "the collector does not take {signal}; they are given up until it does"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A collector that takes what it is told to.
    #[derive(Clone, Default)]
    struct Collector {
        taken: Arc<Mutex<Vec<u32>>>,
        is_gone: Arc<Mutex<bool>>,
    }

    impl Export<u32> for Collector {
        async fn export(&self, batch: &[u32]) -> Result<(), String> {
            if *self.is_gone.lock().unwrap() {
                return Err("connection refused".to_owned());
            }
            self.taken.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_put_in_comes_out_in_order_and_the_rest_at_the_end() {
        let collector = Collector::default();
        let (outbox, pump) = Outbox::new("test", "traces", collector.clone());
        (0..1_000).for_each(|item| outbox.put(item));
        assert_eq!((outbox.queue().length, outbox.queue().limit), (1_000, QUEUED_MAX));
        let stop = CancellationToken::new();
        stop.cancel();
        pump.run(stop).await;
        assert_eq!(*collector.taken.lock().unwrap(), (0..1_000).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_is_gone_fills_the_queue_and_no_more() {
        let collector = Collector::default();
        *collector.is_gone.lock().unwrap() = true;
        let (outbox, pump) = Outbox::new("test", "traces", collector.clone());
        let stop = CancellationToken::new();
        let running = pump.run(stop.clone());
        let putting = async {
            for item in 0..10_000 {
                outbox.put(item);
            }
            assert_eq!(outbox.queue().length, QUEUED_MAX, "putting waits for nobody");
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(outbox.queue().length, 0, "what nobody takes is given up");
            *collector.is_gone.lock().unwrap() = false;
            outbox.put(7);
            tokio::time::sleep(Duration::from_secs(5)).await;
            stop.cancel();
        };
        tokio::join!(running, putting);
        assert_eq!(*collector.taken.lock().unwrap(), [7]);
    }
}
