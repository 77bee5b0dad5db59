//! A body as it came, with some of it replaced, written without being copied first.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};

use crate::{CallError, ErrorKind};

/// Bytes of most bodies: there is room for them from the beginning.
const BODY_BYTES_USUAL: usize = 4 << 10;

/// What is sent: all of a body but what is replaced or left out.
pub(crate) struct Passed<'a> {
    /// What came, or was made.
    pub(crate) body: &'a Map<String, Value>,
    /// In the place of what has the same name, or beside it.
    pub(crate) replaced: Map<String, Value>,
    /// The same for the messages, where there are others.
    pub(crate) messages: Option<Vec<Cow<'a, Value>>>,
    /// What is not sent.
    pub(crate) without: &'a [&'a str],
}

impl Serialize for Passed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.body {
            let is_messages = name == "messages" && self.messages.is_some();
            if !is_messages && !self.replaced.contains_key(name) && !self.without.contains(&name.as_str()) {
                map.serialize_entry(name, value)?;
            }
        }
        for (name, value) in &self.replaced {
            map.serialize_entry(name, value)?;
        }
        if let Some(messages) = &self.messages {
            map.serialize_entry("messages", messages)?;
        }
        map.end()
    }
}

impl Passed<'_> {
    pub(crate) fn to_bytes(&self) -> Result<Bytes, CallError> {
        // Maps with names that are strings can always be written.
        let unwritable = |_| CallError::new(ErrorKind::Rejected, "the request cannot be written as JSON");
        let mut body = Vec::with_capacity(BODY_BYTES_USUAL);
        serde_json::to_writer(&mut body, self).map_err(unwritable)?;
        Ok(body.into())
    }
}
