//! One event as one line of JSON.
//!
//! The body stands in the line as it came, byte for byte, where it is JSON on one line without space around it. Any other
//! stands there in base64, as `body_base64`: what is read back is what was stored, whatever it was.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use uuid::{Uuid, fmt::Hyphenated};

use crate::events::{Event, EventFilter};

/// Bytes that a line may have: a body in base64, and names of which every byte is escaped.
pub(super) const LINE_BYTES_MAX: usize = 2 << 20;
/// Names that are kept to be shared by the events that have them.
const NAMES_KEPT: usize = 4_096;

/// A line, as it stands there.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line<'a> {
    pub position: u64,
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    version: u16,
    #[serde(borrow)]
    tenant: Cow<'a, str>,
    #[serde(borrow)]
    caller: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    session: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    interaction: Option<&'a str>,
    pub at_ms: i64,
    /// Here, since what is before it is mostly that of an event a moment ago, which compresses best in one piece.
    id: &'a str,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default, deserialize_with = "present")]
    body: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    body_base64: Option<Cow<'a, str>>,
}

/// A value that is there, `null` included.
fn present<'a, 'de: 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Adds an event's line, with its end.
///
/// # Errors
/// Where it cannot be told in JSON, which would be a defect.
pub(super) fn write(event: &Event, lines: &mut Vec<u8>) -> serde_json::Result<()> {
    let mut id = Uuid::encode_buffer();
    let mut interaction = Uuid::encode_buffer();
    let body = verbatim(&event.body);
    let line = Line {
        position: event.position,
        kind: Cow::Borrowed(&event.kind),
        version: event.version,
        tenant: Cow::Borrowed(&event.tenant),
        caller: Cow::Borrowed(&event.caller),
        session: event.session.as_deref().map(Cow::Borrowed),
        interaction: event.interaction.map(|id| &*id.hyphenated().encode_lower(&mut interaction)),
        at_ms: event.at_ms,
        id: event.id.hyphenated().encode_lower(&mut id),
        body,
        body_base64: body.is_none().then(|| BASE64_STANDARD.encode(&event.body).into()),
    };
    serde_json::to_writer(&mut *lines, &line)?;
    lines.push(b'\n');
    Ok(())
}

/// A body that can stand in a line as it is.
fn verbatim(body: &[u8]) -> Option<&RawValue> {
    let is_one_line = memchr::memchr2(b'\n', b'\r', body).is_none();
    let raw: &RawValue = is_one_line.then(|| serde_json::from_slice(body).ok()).flatten()?;
    // Space around a value is no part of it.
    (raw.get().len() == body.len()).then_some(raw)
}

impl<'a> Line<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it, without a word of what is in it.
    pub fn parse(line: &'a [u8]) -> Result<Self, &'static str> {
        let line: Self = serde_json::from_slice(line).map_err(|_| "it is not JSON of the right form")?;
        if line.body.is_some() == line.body_base64.is_some() {
            return Err("it has no body, or two");
        }
        Ok(line)
    }

    /// Its event.
    ///
    /// # Errors
    /// As [`Line::parse`].
    pub fn event(&self, names: &mut Names) -> Result<Event, &'static str> {
        Ok(Event {
            position: self.position,
            id: uuid(self.id)?,
            kind: names.shared(&self.kind),
            version: self.version,
            tenant: names.shared(&self.tenant),
            interaction: self.interaction()?,
            session: self.session.as_ref().map(|session| names.shared(session)),
            caller: names.shared(&self.caller),
            at_ms: self.at_ms,
            body: self.body()?,
        })
    }

    /// Whether every part of it can be read.
    ///
    /// # Errors
    /// As [`Line::parse`].
    pub fn check(&self) -> Result<(), &'static str> {
        uuid(self.id)?;
        self.interaction()?;
        if self.body_base64.is_some() {
            self.body()?;
        }
        Ok(())
    }

    /// Whether an event is wanted.
    pub fn is_wanted(&self, filter: &EventFilter) -> bool {
        let is = |name: &str, wanted: &Option<String>| wanted.as_ref().is_none_or(|wanted| wanted == name);
        (filter.kinds.is_empty() || filter.kinds.iter().any(|kind| *kind == self.kind))
            && is(&self.tenant, &filter.tenant)
            && is(&self.caller, &filter.caller)
            && filter.session.as_deref().is_none_or(|wanted| self.session.as_deref() == Some(wanted))
    }

    /// The interaction it belongs to.
    ///
    /// # Errors
    /// As [`Line::parse`].
    pub fn interaction(&self) -> Result<Option<Uuid>, &'static str> {
        self.interaction.map(uuid).transpose()
    }

    fn body(&self) -> Result<Vec<u8>, &'static str> {
        match (self.body, &self.body_base64) {
            (Some(body), _) => Ok(body.get().as_bytes().to_vec()),
            (None, Some(encoded)) => BASE64_STANDARD.decode(encoded.as_bytes()).map_err(|_| "its body is not base64"),
            (None, None) => Err("it has no body"),
        }
    }
}

/// An id, in the one form in which ids are written.
fn uuid(text: &str) -> Result<Uuid, &'static str> {
    if text.len() != Hyphenated::LENGTH {
        return Err("an id in it is none");
    }
    Uuid::try_parse(text).map_err(|_| "an id in it is none")
}

/// Names that were met, shared by the events that have them.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Arc<str>>);

impl Names {
    fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        if self.0.len() >= NAMES_KEPT {
            self.0.clear();
        }
        let name: Arc<str> = name.into();
        self.0.insert(Arc::clone(&name));
        name
    }
}
