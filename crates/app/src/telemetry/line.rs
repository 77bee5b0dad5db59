//! One log line: what happened, in which request, in a form for people or for machines.
//!
//! A line is one line, whatever is in it: what could begin another, or move a terminal's cursor, is written as an escape.
//! A value, and with it a line, has a bound.

use std::fmt::{self, Write};

use serde::Serialize;
use serde_json::Value;
use tracing::{
    Level,
    field::{Field, Visit},
    span::{Attributes, Record},
};
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime, SystemTime},
};

/// The most bytes of one value; what is longer is cut.
const VALUE_BYTES_MAX: usize = 8 << 10;
/// The most fields of one line.
const FIELDS_MAX: usize = 64;
/// What a line has of its own. A field of such a name is told under another.
const OWN: [&str; 6] = ["timestamp", "level", "target", "message", "service", "version"];
/// What ties lines to requests and answers; it stands before other fields.
const IDS: [&str; 3] = ["request_id", "trace_id", "error_id"];
const SERVICE: &str = "holdfast";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Form {
    /// For people.
    Text,
    /// The same on a terminal.
    Coloured,
    /// A JSON object.
    Json,
}

impl Form {
    /// The form of this number.
    pub fn from_number(number: u8) -> Self {
        match number {
            number if number == Self::Json as u8 => Self::Json,
            number if number == Self::Coloured as u8 => Self::Coloured,
            _ => Self::Text,
        }
    }
}

/// Names and values, in the order they came.
#[derive(Debug, Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: Value) {
        if let Some((_, known)) = self.0.iter_mut().find(|(known, _)| *known == name) {
            *known = value;
        } else if self.0.len() < FIELDS_MAX {
            self.0.push((name, value));
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded(String::new());
        // It fails where the bound is reached, which cuts it.
        let _ = write!(text, "{value:?}");
        self.put(field.name(), Value::String(text.0));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut text = Bounded(String::new());
        let _ = text.write_str(value);
        self.put(field.name(), Value::String(text.0));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for what is no number.
        self.put(
            field.name(),
            serde_json::Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number),
        );
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value.into());
    }
}

/// Text that takes no more than [`VALUE_BYTES_MAX`].
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = VALUE_BYTES_MAX.saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        if !self.0.ends_with('…') {
            self.0.push_str(&text[..text.floor_char_boundary(room)]);
            self.0.push('…');
        }
        Err(fmt::Error)
    }
}

/// What a span carries for the lines in it.
#[derive(Debug)]
pub struct SpanFields(Fields);

impl SpanFields {
    /// Those a span begins with.
    pub fn of(attributes: &Attributes<'_>) -> Self {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        Self(fields)
    }

    /// Takes up what came to be known later.
    pub fn record(&mut self, values: &Record<'_>) {
        values.record(&mut self.0);
    }
}

/// Something that happened.
#[derive(Debug)]
pub struct Event<'a> {
    level: Level,
    target: &'a str,
    message: String,
    fields: Fields,
}

impl<'a> Event<'a> {
    /// What a `tracing` event tells, outside of any span.
    pub fn of(event: &tracing::Event<'a>) -> Self {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let mut made = Self { level: *metadata.level(), target: metadata.target(), message: String::new(), fields };
        made.fields.0.retain(|(name, value)| {
            if *name == "message" {
                made.message = plain(value);
            }
            // What comes from the `log` crate has its place in fields of these names.
            *name != "message" && !name.starts_with("log.")
        });
        made
    }

    /// What this program says of its own log.
    pub fn about_the_log(message: String, fields: impl IntoIterator<Item = (&'static str, Value)>) -> Event<'static> {
        let fields = Fields(fields.into_iter().collect());
        Event { level: Level::WARN, target: super::ABOUT_THE_LOG, message, fields }
    }

    /// The event as one in this span. What it tells itself stands.
    pub fn within(&mut self, span: &SpanFields) {
        for (name, value) in &span.0.0 {
            if self.fields.get(name).is_none() {
                self.fields.put(name, value.clone());
            }
        }
    }

    /// The module that tells.
    pub fn target(&self) -> &str {
        self.target
    }

    /// The line, its end included.
    pub fn line(&self, form: Form) -> String {
        let mut line = match form {
            Form::Json => self.json(),
            Form::Text => self.text(|_, text| text.to_owned()),
            Form::Coloured => self.text(|code, text| format!("\x1b[{code}m{text}\x1b[0m")),
        };
        line.push('\n');
        line
    }

    fn json(&self) -> String {
        let mut line = String::with_capacity(256 + self.message.len());
        let timestamp = now();
        let head = [
            ("timestamp", timestamp.as_str()),
            ("level", self.level.as_str()),
            ("target", self.target),
            ("message", &self.message),
            ("service", SERVICE),
            ("version", VERSION),
        ];
        for (name, value) in head {
            json_field(&mut line, name, value);
        }
        for (name, value) in self.ordered() {
            if OWN.contains(&name) {
                json_field(&mut line, &format!("field.{name}"), value);
            } else {
                json_field(&mut line, name, value);
            }
        }
        line.push('}');
        line
    }

    fn text(&self, paint: impl Fn(&str, &str) -> String) -> String {
        let colour = match self.level {
            Level::ERROR => "31",
            Level::WARN => "33",
            Level::INFO => "32",
            _ => "34",
        };
        let level = paint(colour, &format!("{:>5}", self.level));
        let target = paint("2", &one_line(self.target));
        let mut line = format!("{} {level} {target}: {}", paint("2", &now()), one_line(&self.message));
        for (name, value) in self.ordered() {
            let value = plain(value);
            // Many messages have their values in them already, for those who read them alone.
            let is_said = !IDS.contains(&name) && !value.is_empty() && self.message.contains(&value);
            if !is_said {
                line.push(' ');
                line.push_str(&paint("2", &format!("{name}={}", word(&value))));
            }
        }
        line
    }

    /// The fields, with the ids in front.
    fn ordered(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        let ids = IDS.iter().filter_map(|id| Some((*id, self.fields.get(id)?)));
        let others = self.fields.0.iter().filter(|(name, _)| !IDS.contains(name));
        ids.chain(others.map(|(name, value)| (*name, value)))
    }
}

/// The time now in RFC 3339, with microseconds.
fn now() -> String {
    let mut text = String::with_capacity(32);
    // Writing to a string cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

fn json_field(line: &mut String, name: &str, value: &(impl Serialize + ?Sized)) {
    line.push(if line.is_empty() { '{' } else { ',' });
    push_json(line, name);
    line.push(':');
    push_json(line, value);
}

/// JSON leaves some characters as they are that viewers take for the end of a line, or obey.
fn push_json(line: &mut String, value: &(impl Serialize + ?Sized)) {
    // Text, numbers and truth values can always be written.
    let text = serde_json::to_string(value).unwrap_or_default();
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return line.push_str(&text);
    }
    for character in text.chars() {
        if is_disruptive(character) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        } else {
            line.push(character);
        }
    }
}

/// A value without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// A value that ends where it seems to.
fn word(text: &str) -> String {
    let is_plain = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '='));
    let text = one_line(text);
    if is_plain { text } else { format!("\"{}\"", text.replace('"', "\\\"")) }
}

/// The text in one line, without anything that a terminal would obey.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            character if is_disruptive(character) => {
                let _ = write!(line, "\\u{{{:x}}}", u32::from(character));
            }
            character => line.push(character),
        }
    }
    line
}

/// Control characters, separators of lines and paragraphs, and what reverses the direction of writing.
fn is_disruptive(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}')
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::Subscriber;
    use tracing_subscriber::{
        layer::{Context, Layer, SubscriberExt},
        registry::LookupSpan,
    };

    use super::*;

    /// The lines of what `work` logs, in a form.
    fn lines(form: Form, work: impl FnOnce()) -> Vec<String> {
        struct Taken(Arc<Mutex<Vec<String>>>, Form);
        impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Taken {
            fn on_new_span(&self, attributes: &Attributes<'_>, id: &tracing::Id, context: Context<'_, S>) {
                context.span(id).unwrap().extensions_mut().insert(SpanFields::of(attributes));
            }
            fn on_record(&self, id: &tracing::Id, values: &Record<'_>, context: Context<'_, S>) {
                context.span(id).unwrap().extensions_mut().get_mut::<SpanFields>().unwrap().record(values);
            }
            fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
                let mut made = Event::of(event);
                for span in context.event_scope(event).into_iter().flatten() {
                    made.within(span.extensions().get::<SpanFields>().unwrap());
                }
                self.0.lock().unwrap().push(made.line(self.1));
            }
        }
        let taken = Arc::new(Mutex::new(Vec::new()));
        let subscriber = tracing_subscriber::registry().with(Taken(Arc::clone(&taken), form));
        tracing::subscriber::with_default(subscriber, work);
        Arc::try_unwrap(taken).unwrap().into_inner().unwrap()
    }

    fn json(work: impl FnOnce()) -> Value {
        let lines = lines(Form::Json, work);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].matches('\n').count(), 1);
        serde_json::from_str(&lines[0]).unwrap()
    }

    #[test]
    fn a_json_line_is_flat_and_has_the_ids_of_its_request() {
        let line = json(|| {
            let span =
                tracing::info_span!("request", request_id = "r1", trace_id = tracing::field::Empty, route = "/x");
            span.record("trace_id", "t1");
            let _in = span.entered();
            tracing::warn!(target: "holdfast_server", error_id = "e1", status = 503, share = 0.5, "failed: {}", "why");
        });
        let names: Vec<_> = line.as_object().unwrap().keys().cloned().collect();
        for name in OWN.iter().chain(&IDS).chain(&["status", "share", "route"]) {
            assert!(names.iter().any(|known| known == name), "{name}: {line}");
        }
        assert_eq!((&line["level"], &line["message"]), (&"WARN".into(), &"failed: why".into()));
        assert_eq!((&line["service"], &line["version"]), (&"holdfast".into(), &VERSION.into()));
        assert_eq!((&line["status"], &line["share"]), (&503.into(), &0.5.into()));
        assert_eq!(
            (&line["request_id"], &line["trace_id"], &line["error_id"]),
            (&"r1".into(), &"t1".into(), &"e1".into())
        );
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_field_cannot_pass_for_what_a_line_has_of_its_own() {
        let line = json(|| tracing::info!(level = "forged", service = "forged", timestamp = "forged", "said"));
        assert_eq!((&line["level"], &line["service"]), (&"INFO".into(), &"holdfast".into()));
        assert_eq!(line["field.level"], "forged");
        assert_ne!(line["timestamp"], "forged");
    }

    #[test]
    fn the_inner_span_and_the_event_win() {
        let line = json(|| {
            let _outer = tracing::info_span!("outer", a = 1, b = 1, c = 1).entered();
            let _inner = tracing::info_span!("inner", b = 2, c = 2).entered();
            tracing::info!(c = 3, "said");
        });
        assert_eq!((&line["a"], &line["b"], &line["c"]), (&1.into(), &2.into(), &3.into()));
    }

    #[test]
    fn nothing_in_a_value_begins_another_line() {
        let evil = "a\nb\r\n{\"level\":\"ERROR\"}\u{2028}c\u{85}d\x1b[2J\u{202e}e\0\u{1f600}";
        for form in [Form::Json, Form::Text, Form::Coloured] {
            let lines = lines(form, || tracing::info!(value = evil, debug = ?evil, "said {evil}"));
            assert_eq!(lines.len(), 1);
            let line = lines[0].strip_suffix('\n').unwrap();
            let line =
                if form == Form::Coloured { line.replace("\x1b[", "").replace('\u{1b}', "") } else { line.to_owned() };
            assert!(!line.contains(is_disruptive), "{form:?}: {line:?}");
        }
        let line = json(|| tracing::info!(value = evil, "said {evil}"));
        assert_eq!(line["value"], evil, "and nothing is lost");
    }

    #[test]
    fn a_coloured_line_has_no_escape_but_its_own() {
        let lines = lines(Form::Coloured, || tracing::info!(value = "\x1b[2J", "said \x1b]0;title\x07"));
        assert!(!lines[0].contains("\x1b[2J") && !lines[0].contains("\x1b]0"), "{:?}", lines[0]);
        assert!(lines[0].contains("\x1b[32m INFO\x1b[0m"), "{:?}", lines[0]);
    }

    #[test]
    fn a_text_line_does_not_say_things_twice() {
        let error = "no room";
        let lines = lines(Form::Text, || {
            let _in = tracing::info_span!("request", request_id = "r1").entered();
            tracing::warn!(target: "here", error, path = "/a b", empty = "", "failed to write: {error}");
        });
        let (_, line) = lines[0].split_once("  WARN ").unwrap();
        assert_eq!(line, "here: failed to write: no room request_id=r1 path=\"/a b\" empty=\"\"\n");
    }

    #[test]
    fn a_line_has_an_end() {
        let long = "ä".repeat(100_000);
        let line = json(|| tracing::info!(value = long, debug = ?vec![1; 100_000], "said {long}"));
        for name in ["message", "value", "debug"] {
            let text = line[name].as_str().unwrap();
            assert!(text.len() <= VALUE_BYTES_MAX + 3 && text.ends_with('…'), "{name}: {}", text.len());
        }
    }
}
