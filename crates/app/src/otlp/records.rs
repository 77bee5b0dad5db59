//! Log lines as OTLP log records.
//!
//! Owns what of an event and of the request it is about goes into a record. The trace it belongs to is taken from the
//! span that is entered, by the SDK itself.

use std::fmt;

use opentelemetry::{
    Key,
    logs::{AnyValue, LogRecord, Logger, Severity},
};
use opentelemetry_sdk::logs::SdkLogger;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::names;

/// The fields of a span that every record within it has.
const KEPT: [&str; 3] = ["request_id", "method", "route"];

/// Makes records of events.
pub(super) struct Records {
    pub(super) logger: SdkLogger,
}

/// What a span's records have in common.
#[derive(Default)]
struct Kept(Vec<(Key, AnyValue)>);

/// Takes fields in.
struct Fields<'a> {
    attributes: &'a mut Vec<(Key, AnyValue)>,
    /// The sentence of an event.
    message: Option<String>,
    /// Whether only [`KEPT`] fields are of interest.
    only_kept: bool,
}

impl<'a> Fields<'a> {
    fn all(attributes: &'a mut Vec<(Key, AnyValue)>) -> Self {
        Self { attributes, message: None, only_kept: false }
    }

    fn kept(attributes: &'a mut Vec<(Key, AnyValue)>) -> Self {
        Self { attributes, message: None, only_kept: true }
    }

    fn put(&mut self, field: &Field, value: impl Into<AnyValue>) {
        if !self.only_kept || KEPT.contains(&field.name()) {
            self.attributes.push((names::of_record(field.name()), value.into()));
        }
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = Some(format!("{value:?}"));
        } else {
            self.put(field, format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = Some(value.to_owned());
        } else {
            self.put(field, value.to_owned());
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        // What is counted here fits; what does not is as good as endless.
        self.put(field, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}

impl<S> Layer<S> for Records
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut kept = Kept::default();
        attributes.record(&mut Fields::kept(&mut kept.0));
        if let Some(span) = context.span(id).filter(|_| !kept.0.is_empty()) {
            span.extensions_mut().insert(kept);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(kept) = span.extensions_mut().get_mut::<Kept>() {
            values.record(&mut Fields::kept(&mut kept.0));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut attributes = Vec::new();
        let mut fields = Fields::all(&mut attributes);
        event.record(&mut fields);
        let message = fields.message.take();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(kept) = span.extensions().get::<Kept>() {
                attributes.extend(kept.0.iter().cloned());
            }
        }
        let metadata = event.metadata();
        let (number, text) = severity(*metadata.level());
        let mut record = self.logger.create_log_record();
        record.set_target(metadata.target().to_owned());
        record.set_timestamp(std::time::SystemTime::now());
        record.set_severity_number(number);
        record.set_severity_text(text);
        record.set_body(AnyValue::from(message.unwrap_or_default()));
        record.add_attributes(attributes);
        self.logger.emit(record);
    }
}

const fn severity(level: Level) -> (Severity, &'static str) {
    match level {
        Level::ERROR => (Severity::Error, "ERROR"),
        Level::WARN => (Severity::Warn, "WARN"),
        Level::INFO => (Severity::Info, "INFO"),
        Level::DEBUG => (Severity::Debug, "DEBUG"),
        Level::TRACE => (Severity::Trace, "TRACE"),
    }
}
