//! `GET /metrics`: what every crate counted, and what is looked up when asked, as Prometheus text.
//!
//! Crates record through the `metrics` façade; this module owns the recorder behind it, and [`table`] what there is to
//! record. A label's values are bounded, so a metric is never named or labelled by what a client
//! sent. [`upkeep`] is woken by a timer and ends at shutdown: without it, what is recorded would pile up until somebody
//! asks.

pub mod table;

mod process;

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use axum::{
    Extension,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use holdfast_resilience::health::Status;
use holdfast_storage::{Caller, Grants};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    Server, ServerError,
    error::{Code, Failure, SHED},
    limits, routes,
};
use table::{COMPONENTS, COUNTS, Kind, LONG_SECONDS, Metric, SECONDS};

/// The content type of the text format, version 0.0.4.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
static INSTALLING: Mutex<()> = Mutex::new(());

/// Makes this process record its metrics. Called once, at start; calling it again changes nothing.
///
/// # Errors
///
/// [`ServerError::Metrics`] where the process has another recorder.
pub fn install() -> Result<(), ServerError> {
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if HANDLE.get().is_some() {
        return Ok(());
    }
    let failed = |reason: String| ServerError::Metrics { reason };
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Prefix("holdfast_llm_".to_owned()), &LONG_SECONDS))
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Prefix("holdfast_embedding_batch_t".to_owned()), &COUNTS)
        })
        .map_err(|error| failed(error.to_string()))?
        .build_recorder();
    let handle = recorder.handle();
    ::metrics::set_global_recorder(recorder).map_err(|error| failed(error.to_string()))?;
    for metric in table::all() {
        describe(metric);
        seed(metric);
    }
    HANDLE.get_or_init(|| handle);
    Ok(())
}

/// Folds what was recorded into what is shown, so that it does not grow while nobody asks, and tells what is left to
/// tell of refusals.
pub(crate) async fn upkeep(shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(UPKEEP_EVERY) => {}
            () = shutdown.cancelled() => return,
        }
        if let Some(handle) = HANDLE.get() {
            handle.run_upkeep();
        }
        SHED.tell();
        limits::tell();
    }
}

pub(crate) async fn show(State(server): State<Server>, caller: Option<Extension<Caller>>) -> Result<Response, Failure> {
    if caller.is_some_and(|Extension(caller)| !caller.grants().cover(&Grants::All)) {
        let detail = "the metrics are about every collection, and the key is limited to some";
        return Err(Failure::new(Code::Forbidden, detail));
    }
    let handle = HANDLE.get().ok_or_else(|| Failure::new(Code::Internal, "this process records no metrics"))?;
    look_up(&server);
    let mut text = handle.render();
    text.push_str(&process::exposition());
    let mut response = text.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT));
    Ok(response)
}

/// Sets the gauges that nobody keeps up to date in between. Nothing is waited for: what lies on a disk is looked up in
/// the background, so that this answers also where the disk does not.
fn look_up(server: &Server) {
    server.limits().observe_gauges();
    gauge!("holdfast_http_connections").set(server.active_connections() as f64);
    gauge!("holdfast_uptime_seconds").set(server.uptime().as_secs_f64());
    gauge!("holdfast_answer_cache_bytes").set(server.coordinator().cache_bytes() as f64);
    // Not when it is read: that is before anything is recorded.
    if let Some(tls) = server.tls() {
        tls.measure();
    }
    // Services that are run here are told by whoever runs them.
    let components = server.health().components;
    for component in components.into_iter().filter(|component| COMPONENTS.contains(&component.name.as_str())) {
        let value = match component.status {
            Status::Ready => 0.0,
            Status::Degraded => 1.0,
            Status::Down => 2.0,
        };
        gauge!("holdfast_component_status", "component" => component.name).set(value);
    }
    for queue in server.queues() {
        gauge!("holdfast_queue_length", "queue" => queue.name).set(queue.length as f64);
        gauge!("holdfast_queue_limit", "queue" => queue.name).set(queue.limit as f64);
    }
}

fn describe(metric: &Metric) {
    match metric.kind {
        Kind::Counter => describe_counter!(metric.name, metric.help),
        Kind::Gauge => describe_gauge!(metric.name, metric.help),
        Kind::Histogram => describe_histogram!(metric.name, metric.help),
    }
}

/// Shows what is counted before it happens, where it is known which series there will be.
fn seed(metric: &Metric) {
    if metric.name == "holdfast_http_requests_total" {
        return seed_requests();
    }
    if metric.name == "holdfast_tls_certificate_expiry_timestamp_seconds" {
        return gauge!(metric.name).set(0.0);
    }
    if metric.kind == Kind::Gauge || metric.name.starts_with("process_") {
        return;
    }
    for labels in metric.series().unwrap_or_default() {
        let labels: Vec<::metrics::Label> =
            labels.into_iter().map(|(name, value)| ::metrics::Label::from_static_parts(name, value)).collect();
        match metric.kind {
            Kind::Counter => counter!(metric.name, labels).increment(0),
            Kind::Histogram => drop(histogram!(metric.name, labels)),
            Kind::Gauge => {}
        }
    }
}

/// Of all routes, methods and classes of status, those that are to be expected: what succeeds, and what an alert is for.
fn seed_requests() {
    for route in routes::ROUTES {
        for (verb, _) in route.methods {
            for status in ["2xx", "5xx"] {
                let method = crate::gate::method(&verb.method());
                counter!("holdfast_http_requests_total", "route" => route.path, "method" => method, "status" => status)
                    .increment(0);
            }
        }
    }
}
