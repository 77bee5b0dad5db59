//! What names and sizes are acceptable, checked where a request comes in.

use serde_json::Value;

use crate::KnowledgeError;

/// Bytes of a collection's name.
const COLLECTION_NAME_MAX: usize = 64;
/// Bytes of an id, a path or a title.
const TEXT_FIELD_MAX: usize = 1_024;
/// Bytes of a document's metadata as JSON.
const METADATA_MAX: usize = 16 * 1_024;
/// How deep metadata may nest.
const METADATA_DEPTH_MAX: usize = 8;
/// Characters of a query.
pub(crate) const QUERY_CHARACTERS_MAX: usize = 10_000;

/// A collection's name: letters, digits, `-`, `_` and `.`, not beginning with a dot.
pub(crate) fn collection(name: &str) -> Result<(), KnowledgeError> {
    let fits = (1..=COLLECTION_NAME_MAX).contains(&name.len());
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if fits && plain && !name.starts_with('.') {
        return Ok(());
    }
    Err(KnowledgeError::invalid(
        "collection",
        format!(
            "must be 1 to {COLLECTION_NAME_MAX} ASCII letters, digits, '-', '_' or '.', \
             not beginning with a dot"
        ),
    ))
}

/// An id, path or title: some text without control characters.
pub(crate) fn text_field(field: &'static str, text: &str) -> Result<(), KnowledgeError> {
    if text.is_empty() || text.len() > TEXT_FIELD_MAX {
        return Err(KnowledgeError::invalid(
            field,
            format!("must have 1 to {TEXT_FIELD_MAX} bytes, not {}", text.len()),
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(KnowledgeError::invalid(field, "must not contain control characters"));
    }
    Ok(())
}

/// Where a document lies: like other text, and never upwards.
pub(crate) fn path(path: &str) -> Result<(), KnowledgeError> {
    text_field("path", path)?;
    if path.split(['/', '\\']).any(|part| part == "..") {
        return Err(KnowledgeError::invalid("path", "must not contain '..'"));
    }
    Ok(())
}

/// A document's metadata: a JSON object of bounded size and depth. Absent is empty.
pub(crate) fn metadata(value: Value) -> Result<Value, KnowledgeError> {
    let value = match value {
        Value::Null => Value::Object(serde_json::Map::new()),
        value => value,
    };
    if !value.is_object() {
        return Err(KnowledgeError::invalid("metadata", "must be a JSON object"));
    }
    if depth(&value) > METADATA_DEPTH_MAX {
        return Err(KnowledgeError::invalid("metadata", format!("must not nest deeper than {METADATA_DEPTH_MAX}")));
    }
    let size = value.to_string().len();
    if size > METADATA_MAX {
        return Err(KnowledgeError::invalid(
            "metadata",
            format!("must not be larger than {METADATA_MAX} bytes as JSON, is {size}"),
        ));
    }
    Ok(value)
}

/// How deep a value nests, looked at level by level so that depth costs no stack.
fn depth(value: &Value) -> usize {
    let mut level = vec![value];
    let mut depth = 0;
    while !level.is_empty() && depth <= METADATA_DEPTH_MAX {
        depth += 1;
        level = level
            .into_iter()
            .flat_map(|value| -> Box<dyn Iterator<Item = &Value>> {
                match value {
                    Value::Array(items) => Box::new(items.iter()),
                    Value::Object(fields) => Box::new(fields.values()),
                    _ => Box::new(std::iter::empty()),
                }
            })
            .collect();
    }
    depth
}

/// A query: something to look for, and not a book.
pub(crate) fn query(query: &str) -> Result<(), KnowledgeError> {
    if query.trim().is_empty() {
        return Err(KnowledgeError::invalid("query", "must not be empty"));
    }
    let characters = query.chars().take(QUERY_CHARACTERS_MAX + 1).count();
    if characters > QUERY_CHARACTERS_MAX {
        return Err(KnowledgeError::invalid(
            "query",
            format!("must not be longer than {QUERY_CHARACTERS_MAX} characters"),
        ));
    }
    Ok(())
}

/// How much of a list is asked for.
pub(crate) fn limit(limit: usize, most: usize) -> Result<(), KnowledgeError> {
    if (1..=most).contains(&limit) {
        return Ok(());
    }
    Err(KnowledgeError::invalid("limit", format!("must be 1 to {most}, is {limit}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problem(result: Result<impl std::fmt::Debug, KnowledgeError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn names_that_could_leave_a_folder_are_refused() {
        for name in ["", "..", ".hidden", "a/b", "a\0b", "ä", &"x".repeat(65)] {
            collection(name).unwrap_err();
        }
        for name in ["default", "a", "nix-docs_2.1", &"x".repeat(64)] {
            collection(name).unwrap();
        }
    }

    #[test]
    fn paths_do_not_lead_upwards() {
        path("notes/today.md").unwrap();
        path("a..b/c").unwrap();
        for upward in ["../x", "a/../b", "a\\..\\b", "..", "a\0", "", &"x".repeat(4_096)] {
            assert!(problem(path(upward)).starts_with("path must"), "{upward:?}");
        }
    }

    #[test]
    fn metadata_is_an_object_of_bounded_size_and_depth() {
        assert_eq!(metadata(Value::Null).unwrap(), json!({}));
        metadata(json!({"a": {"b": [1, 2]}})).unwrap();
        assert!(problem(metadata(json!([1]))).contains("object"));
        let deep = (0..20).fold(json!(1), |inner, _| json!({ "a": inner }));
        assert!(problem(metadata(deep)).contains("nest"));
        assert!(problem(metadata(json!({"a": "x".repeat(20_000)}))).contains("larger"));
    }

    #[test]
    fn queries_are_neither_empty_nor_endless() {
        query("ü").unwrap();
        query(&"ü".repeat(QUERY_CHARACTERS_MAX)).unwrap();
        query(" \n").unwrap_err();
        query(&"x".repeat(11_000)).unwrap_err();
    }
}
