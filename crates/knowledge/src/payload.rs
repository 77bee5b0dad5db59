//! How an accepted document is written down until it is indexed.

use serde_json::{Value, json};

use crate::NewDocument;

impl NewDocument {
    /// The document as text.
    pub(crate) fn to_payload(&self) -> String {
        json!({
            "id": self.id,
            "path": self.path,
            "title": self.title,
            "content": self.content,
            "content_type": self.content_type,
            "metadata": self.metadata,
        })
        .to_string()
    }

    /// The document again.
    pub(crate) fn from_payload(payload: &str) -> Result<Self, serde_json::Error> {
        let mut value: Value = serde_json::from_str(payload)?;
        let mut text = |field: &str| match value.get_mut(field).map(Value::take) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        Ok(Self {
            id: text("id"),
            path: text("path"),
            title: text("title"),
            content: text("content").unwrap_or_default(),
            content_type: text("content_type"),
            metadata: value.get_mut("metadata").map(Value::take).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_comes_back_as_it_went() {
        let document = NewDocument {
            id: Some("a".into()),
            title: Some("\u{0}\"\u{10ffff}".into()),
            content: "line\nline".into(),
            metadata: json!({"tags": [1, "x", null]}),
            ..NewDocument::default()
        };
        let back = NewDocument::from_payload(&document.to_payload()).unwrap();
        assert_eq!(back, document);
    }
}
