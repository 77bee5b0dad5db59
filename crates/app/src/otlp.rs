//! Traces and logs for a collector, by OTLP over HTTP, and how traces go on beyond this process.
//!
//! Owns what is exported and how: [`start`] is called once, where logging starts, and gives the layer to put beside it.
//! A collector that is slow or gone costs no request anything: what is to be exported is put into a queue that has a
//! bound, and given up, counted, where that is full. Two tasks, one for spans and one for log records, send what is in
//! the queues. They are woken by what comes in, and end in [`stop`], which sends what is left for as long as
//! [`STOP_WITHIN`] allows.
//!
//! Without a collector, traces are not kept here; which trace a request belongs to is passed on all the same.

mod carried;

#[cfg(feature = "otlp")]
mod enabled;

#[cfg(feature = "otlp")]
mod names;

#[cfg(feature = "otlp")]
mod outbox;

#[cfg(feature = "otlp")]
mod records;

#[cfg(not(feature = "otlp"))]
#[path = "otlp/disabled.rs"]
mod enabled;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Result;
use holdfast_resilience::health::{Component, Queue, Report};
use tracing::{Span, Subscriber};
use tracing_subscriber::{Layer, registry::LookupSpan};

use crate::settings::OtlpSettings;
use carried::Carried;
use enabled::Exporter;

/// How long the end of the program waits for the collector.
pub const STOP_WITHIN: Duration = Duration::from_secs(3);

/// What exports for this process, once it was started.
static EXPORTER: OnceLock<Exporter> = OnceLock::new();

/// A layer to be put beside others.
pub type BoxedLayer<S> = Box<dyn Layer<S> + Send + Sync>;

/// Starts to export where there is a collector to export to, and gives the layer that sees what is to be exported. To be
/// called within a Tokio runtime; only the first call has an effect.
///
/// # Errors
/// Where a collector is named and cannot be used, whatever it is; one that is not there at the moment can.
pub fn start<S>(settings: &OtlpSettings) -> Result<Option<BoxedLayer<S>>>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let Some(endpoint) = &settings.endpoint else { return Ok(None) };
    if EXPORTER.get().is_some() {
        return Ok(None);
    }
    let exporter = Exporter::start(endpoint, settings.trace_ratio)?;
    Ok(Some(EXPORTER.get_or_init(|| exporter).layer()))
}

/// Sends what is left, and ends the tasks.
pub async fn stop() {
    if let Some(exporter) = EXPORTER.get()
        && tokio::time::timeout(STOP_WITHIN, exporter.stop()).await.is_err()
    {
        tracing::warn!("the collector did not take the last traces and logs within {} s", STOP_WITHIN.as_secs());
    }
}

/// The traces of this process, for the server and for requests that leave it.
pub fn traces() -> Arc<Traces> {
    Arc::new(Traces)
}

/// Joins spans to traces and says which they belong to.
#[derive(Debug)]
pub struct Traces;

impl holdfast_server::Tracing for Traces {
    fn join(&self, span: &Span, traceparent: Option<&str>, tracestate: Option<&str>) -> Option<String> {
        match EXPORTER.get() {
            Some(exporter) => exporter.join(span, traceparent, tracestate),
            None => {
                Carried::put(span, traceparent?, tracestate);
                None
            }
        }
    }
}

impl holdfast_embedding::Propagate for Traces {
    fn headers(&self, span: &Span) -> Vec<(&'static str, String)> {
        match EXPORTER.get() {
            Some(exporter) => exporter.headers(span),
            None => Carried::of(span).map(Carried::into_headers).unwrap_or_default(),
        }
    }
}

impl Report for Traces {
    /// None: what is not exported is missed by nobody who asks this server.
    fn components(&self) -> Vec<Component> {
        Vec::new()
    }

    fn queues(&self) -> Vec<Queue> {
        EXPORTER.get().map_or_else(|| vec![empty("telemetry_spans"), empty("telemetry_logs")], Exporter::queues)
    }
}

/// A queue that nothing ever goes into.
const fn empty(name: &'static str) -> Queue {
    Queue { name, length: 0, limit: 0 }
}
