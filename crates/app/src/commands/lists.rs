//! What listing commands have in common: asking for a page, and printing rows and fields.

use serde_json::Value;

use crate::{
    arguments::Paging,
    output::{clean_line, table as columns},
    transport::Request,
};

/// Asks for a page of a list.
pub fn page(target: &str, paging: &Paging) -> Request {
    Request::get(target).with("limit", Some(&paging.limit.to_string())).with("cursor", paging.cursor.as_deref())
}

/// The items of an answer as rows, with a word on how to get more of them.
pub fn table(answer: &Value, items: &str, columns_of: &[(&str, &str)]) -> String {
    let items = self::items(&answer[items]);
    if items.is_empty() {
        return "none".to_owned();
    }
    let header: Vec<&str> = columns_of.iter().map(|(title, _)| *title).collect();
    let row = |item: &Value| columns_of.iter().map(|(_, path)| word(find(item, path))).collect();
    let rows: Vec<Vec<String>> = items.iter().map(row).collect();
    let mut text = columns(&header, &rows);
    if let Some(cursor) = answer["next_cursor"].as_str() {
        text.push_str(&format!("\nmore: --cursor {cursor}"));
    }
    text
}

/// Fields of an object, one a line; those that are absent are left out.
pub fn fields(object: &Value, names: &[&str]) -> String {
    let lines = names
        .iter()
        .filter(|name| !find(object, name).is_null())
        .map(|name| format!("{name:<13} {}", word(find(object, name))));
    lines.collect::<Vec<_>>().join("\n")
}

/// The field of that name, or of that name below another.
fn find<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(object, |value, name| &value[name])
}

/// The items of a list; none of what is no list.
pub fn items(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A value in one line, as people read it.
pub fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => clean_line(text),
        Value::Array(items) => items.iter().map(word).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_come_from_paths_of_fields() {
        let answer = json!({ "jobs": [{ "id": "j", "progress": { "done": 3 }, "error": null }], "next_cursor": "c" });
        let columns = [("ID", "id"), ("DONE", "progress.done"), ("ERROR", "error")];
        assert_eq!(table(&answer, "jobs", &columns), "ID  DONE  ERROR\nj   3     -\nmore: --cursor c");
        assert_eq!(table(&json!({}), "jobs", &columns), "none");
        assert_eq!(fields(&answer["jobs"][0], &["id", "error"]), "id            j");
    }
}
