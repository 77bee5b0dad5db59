//! `GET /metrics`: what every crate counted, and what is looked up when asked, as Prometheus text.
//!
//! Crates record through the `metrics` façade under names that begin with `holdfast_`; this module owns the recorder
//! behind it and the help texts. A label's values are bounded, so a metric is never named or labelled by what a client
//! sent. [`upkeep`] is woken by a timer and ends at shutdown: without it, what is recorded would pile up until somebody
//! asks.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use holdfast_resilience::health::Status;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    Server, ServerError,
    error::{Code, Failure, SHED},
    limits,
};

/// The content type of the text format, version 0.0.4.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// From a cached search to a large ingestion request.
const SECONDS: [f64; 16] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Texts or tokens of a batch.
const COUNTS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
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
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Prefix("holdfast_embedding_batch_t".to_owned()), &COUNTS)
        })
        .map_err(|error| failed(error.to_string()))?
        .build_recorder();
    let handle = recorder.handle();
    ::metrics::set_global_recorder(recorder).map_err(|error| failed(error.to_string()))?;
    describe();
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

pub(crate) async fn show(State(server): State<Server>) -> Result<Response, Failure> {
    let handle = HANDLE.get().ok_or_else(|| Failure::new(Code::Internal, "this process records no metrics"))?;
    server.blocking(look_up).await??;
    let mut response = handle.render().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT));
    Ok(response)
}

/// Sets the gauges that nobody keeps up to date in between.
fn look_up(server: &Server) -> Result<(), Failure> {
    server.knowledge().observe_gauges();
    server.limits().observe_gauges();
    for index in ["vectors", "lexical"] {
        let statuses = server.storage().projections().status()?;
        let failing = statuses.iter().filter(|status| status.index == index && status.failure.is_some()).count();
        gauge!("holdfast_index_failing", "index" => index).set(failing as f64);
    }
    gauge!("holdfast_http_connections").set(server.active_connections() as f64);
    gauge!("holdfast_uptime_seconds").set(server.uptime().as_secs_f64());
    for component in server.knowledge().health().components {
        let value = match component.status {
            Status::Ready => 0.0,
            Status::Degraded => 1.0,
            Status::Down => 2.0,
        };
        gauge!("holdfast_component_status", "component" => component.name).set(value);
    }
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(server.uptime());
    gauge!("process_start_time_seconds").set(started.as_secs_f64());
    if let Some(bytes) = resident_bytes() {
        gauge!("process_resident_memory_bytes").set(bytes as f64);
    }
    Ok(())
}

/// Memory of this process that is in RAM, where the system tells.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

fn describe() {
    describe_counter!("holdfast_http_requests_total", "Requests answered, by route, method and class of status");
    describe_histogram!("holdfast_http_request_duration_seconds", Unit::Seconds, "Time to the answer, by route");
    describe_gauge!("holdfast_http_requests_in_flight", "Requests being worked on");
    describe_gauge!("holdfast_http_connections", "Connections open, MCP sessions included");
    describe_counter!("holdfast_errors_total", "Failures told to callers, by code");
    describe_counter!("holdfast_authentication_failures_total", "Requests without a valid key, by reason");
    describe_counter!("holdfast_rate_limited_total", "Requests refused over a limit, by limit");
    describe_gauge!(
        "holdfast_rate_limit_buckets",
        "Keys or addresses of which it is remembered what they did, by limit"
    );
    describe_counter!("holdfast_mcp_calls_total", "MCP tool calls, by tool and outcome");
    describe_gauge!("holdfast_index_chunks", "Chunks in the indexes, all generations together");
    describe_gauge!("holdfast_index_backlog", "Changes the indexes have yet to apply");
    describe_gauge!("holdfast_index_failing", "Generations whose index does not get on");
    describe_gauge!("holdfast_vectors_bytes", Unit::Bytes, "Memory of the vector indexes");
    describe_gauge!("holdfast_database_bytes", Unit::Bytes, "Bytes of the database and its log on disk");
    describe_gauge!("holdfast_database_queued_writes", "Writes that wait for the database's writer");
    describe_gauge!("holdfast_ingest_queued", "Documents and files that wait in the pipeline");
    describe_gauge!("holdfast_jobs_running", "Jobs that are not finished");
    describe_counter!("holdfast_documents_written_total", "Documents that came out of the pipeline, by change");
    describe_gauge!("holdfast_search_cache_bytes", Unit::Bytes, "Memory of kept answers");
    describe_counter!("holdfast_search_cache_total", "Searches answered from the cache, or not");
    describe_counter!("holdfast_embedding_tokens_total", "Tokens embedded");
    describe_histogram!("holdfast_embedding_batch_seconds", Unit::Seconds, "Time to embed a batch");
    describe_histogram!("holdfast_embedding_batch_texts", "Texts of a batch");
    describe_histogram!("holdfast_embedding_batch_tokens", "Tokens of a batch");
    describe_histogram!("holdfast_embedding_wait_seconds", Unit::Seconds, "Time a text waited for a thread");
    describe_gauge!("holdfast_embedding_queue_texts", "Texts accepted and not answered, by priority");
    describe_counter!("holdfast_embedding_refused_total", "Requests refused because too much waits, by priority");
    describe_counter!("holdfast_embedding_shared_total", "Texts that were under way already for another request");
    describe_gauge!("holdfast_embedding_breaker_state", "Of a remote model: 0 closed, 1 half-open, 2 open");
    describe_gauge!("holdfast_embedding_threads", "Threads that embed; batch seconds over them are the utilisation");
    describe_counter!("holdfast_embedding_cache_total", "Texts looked up among kept vectors, by outcome");
    describe_counter!("holdfast_embedding_cache_evictions_total", "Vectors given up for others");
    describe_gauge!("holdfast_embedding_cache_bytes", Unit::Bytes, "Memory of kept vectors");
    describe_gauge!("holdfast_component_status", "0 ready, 1 degraded, 2 down");
    describe_gauge!("holdfast_uptime_seconds", Unit::Seconds, "Time since the server was built");
    describe_gauge!("process_start_time_seconds", Unit::Seconds, "Start of the server, Unix time");
    describe_gauge!("process_resident_memory_bytes", Unit::Bytes, "Memory of the process that is in RAM");
}
