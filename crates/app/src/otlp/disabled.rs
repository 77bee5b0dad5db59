//! In the place of what exports, in a program that was built without it.

use anyhow::{Result, bail};
use holdfast_resilience::health::Queue;
use tracing::{Span, Subscriber};
use tracing_subscriber::registry::LookupSpan;

use super::BoxedLayer;

/// There is none.
#[derive(Debug)]
pub(super) enum Exporter {}

impl Exporter {
    pub(super) fn start(_endpoint: &str, _ratio: f64) -> Result<Self> {
        bail!("telemetry.otlp_endpoint is set, and this program was built without the feature `otlp`")
    }

    pub(super) fn layer<S>(&self) -> BoxedLayer<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        match *self {}
    }

    pub(super) async fn stop(&self) {
        match *self {}
    }

    pub(super) fn join(&self, _: &Span, _: Option<&str>, _: Option<&str>) -> Option<String> {
        match *self {}
    }

    pub(super) fn headers(&self, _: &Span) -> Vec<(&'static str, String)> {
        match *self {}
    }

    pub(super) fn queues(&self) -> Vec<Queue> {
        match *self {}
    }
}
