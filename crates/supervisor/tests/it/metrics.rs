//! What services record.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::rig::{PATIENCE, Rig, exists, never, until, until_failed};

/// Keeps counters and gauges by their name and labels.
#[derive(Default)]
struct Kept(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Kept {
    #[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    fn series(&self, key: &Key) -> Arc<AtomicU64> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{} {}", key.name(), labels.join(","));
        Arc::clone(self.0.lock().unwrap().entry(name).or_default())
    }

    #[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    fn value(&self, name: &str) -> u64 {
        self.0.lock().unwrap()[name].load(Ordering::SeqCst)
    }

    fn state(&self) -> f64 {
        f64::from_bits(self.value("holdfast_service_state service=s"))
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.series(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn the_state_and_the_restarts_are_recorded() {
    let kept = Kept::default();
    let _recorder = metrics::set_default_local_recorder(&kept);
    let rig = Rig::new();
    let mut spec = rig.spec("s", "test -e good || exit 1; exec sleep 1000");
    spec.ready = never();
    let restarts = "holdfast_service_restarts_total service=s";
    let failing = rig.supervisor.add(spec.clone()).unwrap();
    assert_eq!((kept.state(), kept.value(restarts)), (1.0, 0));
    until_failed(&failing, 3).await;
    assert!(kept.value(restarts) >= 2);
    rig.supervisor.remove("s").await;
    assert_eq!(kept.state(), 4.0);
    // Another one of the name goes on counting.
    let counted = kept.value(restarts);
    (spec.restart.first, spec.restart.longest) = (PATIENCE, PATIENCE);
    spec.ready = exists(rig.path("good"));
    let service = rig.supervisor.add(spec).unwrap();
    until_failed(&service, 1).await;
    assert_eq!(kept.state(), 2.0);
    std::fs::write(rig.path("good"), "").unwrap();
    service.restart();
    service.until_ready(PATIENCE).await.unwrap();
    assert_eq!((kept.state(), kept.value(restarts)), (0.0, counted + 1));
    service.stop().await;
    until(&service, |now| now.state.as_str() == "stopped").await;
    assert_eq!(kept.state(), 4.0);
    rig.end().await;
}
