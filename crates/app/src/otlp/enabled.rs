//! What exports: the SDK's tracer and logger, fed by layers, emptied by two pumps.

use std::{collections::HashMap, fmt, pin::Pin, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use holdfast_resilience::health::Queue;
use opentelemetry::{
    InstrumentationScope, KeyValue,
    logs::LoggerProvider,
    propagation::TextMapPropagator,
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{LogExporter, Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogBatch, LogExporter as _, LogProcessor, SdkLogRecord, SdkLoggerProvider},
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider, Span as SdkSpan, SpanData, SpanExporter as _, SpanProcessor},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Level, Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use super::{
    BoxedLayer, names,
    outbox::{Export, Outbox},
    records::Records,
};

/// How long one export may take.
const EXPORT_WITHIN: Duration = Duration::from_secs(5);
/// The longest answer of a collector that is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Attributes, events and links of a span, at most.
const PER_SPAN_MAX: u32 = 32;
/// The scope of all that is exported.
const SCOPE: &str = "holdfast";

/// What exports for this process.
pub(super) struct Exporter {
    tracer: SdkTracerProvider,
    logger: SdkLoggerProvider,
    spans: Outbox<SpanData>,
    records: Outbox<LogItem>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A log record on its way.
type LogItem = (SdkLogRecord, InstrumentationScope);

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

impl Exporter {
    /// Starts the pumps to a collector.
    pub(super) fn start(endpoint: &str, ratio: f64) -> Result<Self> {
        // What is exported and what is not is counted from the first item on.
        holdfast_server::metrics::install()?;
        let client = Client::new()?;
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", "holdfast"),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            ])
            .build();
        let mut span_exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client.clone())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{endpoint}/v1/traces"))
            .with_timeout(EXPORT_WITHIN)
            // Its own would put a thread of the runtime to sleep; the pump tries again itself.
            .with_retry_policy(RetryPolicy::disabled())
            .build()
            .context("traces cannot be exported")?;
        let mut log_exporter = LogExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{endpoint}/v1/logs"))
            .with_timeout(EXPORT_WITHIN)
            .with_retry_policy(RetryPolicy::disabled())
            .build()
            .context("logs cannot be exported")?;
        span_exporter.set_resource(&resource);
        log_exporter.set_resource(&resource);
        let (spans, span_pump) = Outbox::new("telemetry_spans", "traces", Spans(span_exporter));
        let (records, record_pump) = Outbox::new("telemetry_logs", "logs", Logs(log_exporter));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(span_pump.run(stop.clone()));
        tasks.spawn(record_pump.run(stop.clone()));
        let tracer = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
            .with_max_attributes_per_span(PER_SPAN_MAX)
            .with_max_events_per_span(PER_SPAN_MAX)
            .with_max_links_per_span(PER_SPAN_MAX)
            .with_resource(resource.clone())
            .with_span_processor(EndedSpans(spans.clone()))
            .build();
        let logger = SdkLoggerProvider::builder()
            .with_resource(resource)
            .with_log_processor(EmittedRecords(records.clone()))
            .build();
        Ok(Self { tracer, logger, spans, records, stop, tasks })
    }

    /// What sees the spans and the log lines of this process.
    pub(super) fn layer<S>(&self) -> BoxedLayer<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let ours =
            |metadata: &Metadata<'_>| metadata.target().starts_with("holdfast") && *metadata.level() <= Level::INFO;
        let spans = tracing_opentelemetry::layer()
            .with_tracer(self.tracer.tracer(SCOPE))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            // Log lines are exported as such, not as events of spans.
            .with_filter(filter_fn(move |metadata| {
                metadata.is_span() && ours(metadata) && names::is_exported(metadata.name())
            }));
        let records = Records { logger: self.logger.logger(SCOPE) }.with_filter(filter_fn(ours));
        Box::new(spans.and_then(records))
    }

    /// Sends what is left.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// See [`holdfast_server::Tracing::join`].
    pub(super) fn join(&self, span: &Span, traceparent: Option<&str>, tracestate: Option<&str>) -> Option<String> {
        if let Some(traceparent) = traceparent {
            let state = tracestate.map(|state| ("tracestate".to_owned(), state.to_owned()));
            let headers: HashMap<String, String> =
                [("traceparent".to_owned(), traceparent.to_owned())].into_iter().chain(state).collect();
            let parent = TraceContextPropagator::new().extract(&headers);
            if parent.span().span_context().is_valid()
                && let Err(error) = span.set_parent(parent)
            {
                tracing::debug!(%error, "a request did not join the trace it came with");
            }
        }
        let context = span.context();
        let context = context.span();
        let context = context.span_context();
        context.is_sampled().then(|| context.trace_id().to_string())
    }

    /// See [`holdfast_embedding::Propagate::headers`].
    pub(super) fn headers(&self, span: &Span) -> Vec<(&'static str, String)> {
        let mut headers = HashMap::new();
        TraceContextPropagator::new().inject_context(&span.context(), &mut headers);
        let take =
            |name: &'static str| headers.get(name).filter(|value| !value.is_empty()).map(|value| (name, value.clone()));
        ["traceparent", "tracestate"].into_iter().filter_map(take).collect()
    }

    pub(super) fn queues(&self) -> Vec<Queue> {
        vec![self.spans.queue(), self.records.queue()]
    }
}

/// Puts spans that have ended into the outbox.
#[derive(Debug)]
struct EndedSpans(Outbox<SpanData>);

impl SpanProcessor for EndedSpans {
    fn on_start(&self, _span: &mut SdkSpan, _context: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.0.put(names::translate(span));
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Puts log records into the outbox.
#[derive(Debug)]
struct EmittedRecords(Outbox<LogItem>);

impl LogProcessor for EmittedRecords {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.0.put((record.clone(), scope.clone()));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

struct Spans(SpanExporter);

impl Export<SpanData> for Spans {
    async fn export(&self, batch: &[SpanData]) -> Result<(), String> {
        self.0.export(batch.to_vec()).await.map_err(|error| error.to_string())
    }
}

struct Logs(LogExporter);

impl Export<LogItem> for Logs {
    async fn export(&self, batch: &[LogItem]) -> Result<(), String> {
        let borrowed: Vec<_> = batch.iter().map(|(record, scope)| (record, scope)).collect();
        self.0.export(LogBatch::new(&borrowed)).await.map_err(|error| error.to_string())
    }
}

/// The way to the collector.
#[derive(Clone, Debug)]
struct Client(Arc<reqwest::Client>);

impl Client {
    fn new() -> Result<Self> {
        // Fails only where one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
            .timeout(EXPORT_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("no HTTP client could be set up for the collector")?;
        Ok(Self(Arc::new(client)))
    }
}

impl HttpClient for Client {
    fn send_bytes<'this, 'future>(
        &'this self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'this: 'future,
    {
        Box::pin(self.send(request))
    }
}

impl Client {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut response = self.0.execute(request.try_into()?).await?;
        let mut body = Vec::new();
        while let Some(block) = response.chunk().await? {
            if body.len() + block.len() > ANSWER_BYTES_MAX {
                return Err("the collector's answer is too long".into());
            }
            body.extend_from_slice(&block);
        }
        let mut answer = Response::builder().status(response.status());
        if let Some(headers) = answer.headers_mut() {
            *headers = std::mem::take(response.headers_mut());
        }
        Ok(answer.body(Bytes::from(body))?)
    }
}
