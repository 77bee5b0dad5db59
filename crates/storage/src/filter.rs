//! What a search may be narrowed to: the filter language, its limits and its meaning.
//!
//! Owns the shape of a filter, the limits on what a stranger may send, and [`Filter::matches`],
//! the meaning every backend has to reproduce. Does not know how any index evaluates one.
//!
//! A chunk's attributes are one JSON object. Seen by a filter they are a flat list of *leaves*:
//! a path (object keys joined by dots, so that `{"dc.title": …}` and `{"dc": {"title": …}}` are
//! one field) and a text, a number or a truth value. An array gives each of its elements the
//! array's own path, which is why a condition on an array holds when any element satisfies it.
//! `null` is the same as absence.

use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::{Map, Value};

/// How deep `all`, `any` and `not` may nest.
pub const MAX_DEPTH: usize = 16;
/// How many `all`, `any`, `not` and conditions a filter may have altogether.
pub const MAX_NODES: usize = 256;
/// How many values one `in` may list.
pub const MAX_IN_VALUES: usize = 256;
/// The longest text a condition may compare with, in bytes.
pub const MAX_TEXT_BYTES: usize = 4096;
/// The longest field path, in bytes.
pub const MAX_PATH_BYTES: usize = 256;
/// The most segments a field path may have.
pub const MAX_PATH_SEGMENTS: usize = 8;

/// The document fields a condition may name besides `metadata.…`.
pub const DOCUMENT_FIELDS: [&str; 5] = ["path", "title", "content_type", "source_id", "document_id"];

const OPERATORS: [&str; 8] = ["eq", "in", "gt", "gte", "lt", "lte", "exists", "prefix"];

/// Leaves of one chunk beyond this many take no part in filters.
const MAX_LEAVES: usize = 4096;
/// Attributes nested deeper than this take no part in filters; no path could name them.
const MAX_ATTRIBUTE_DEPTH: usize = 32;
/// Longer texts are cut before they are compared. A condition's own text is at most
/// [`MAX_TEXT_BYTES`] long, so the bytes that remain decide every comparison.
const COMPARED_BYTES: usize = MAX_TEXT_BYTES + 1;

/// A condition on a chunk's attributes, or several combined.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Every one holds; none at all holds always.
    All(Vec<Filter>),
    /// At least one holds; none at all holds never.
    Any(Vec<Filter>),
    /// It does not hold. The only one a missing field can satisfy.
    Not(Box<Filter>),
    /// A condition on one field.
    Field {
        /// `metadata.lang`, `path`, …
        path: String,
        /// What must be so.
        condition: Condition,
    },
}

/// What must be true of at least one leaf of a field.
///
/// Types are strict: a text never equals or orders against a number. Texts compare by their
/// UTF-8 bytes, numbers as IEEE doubles (integers beyond 2⁵³ lose their last digits).
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Equal to this.
    Eq(Scalar),
    /// Equal to one of these.
    In(Vec<Scalar>),
    /// Greater than this text or number.
    Gt(Scalar),
    /// Greater than or equal to this text or number.
    Gte(Scalar),
    /// Less than this text or number.
    Lt(Scalar),
    /// Less than or equal to this text or number.
    Lte(Scalar),
    /// The field has a leaf, or is an object that has one; with `false`, the opposite.
    Exists(bool),
    /// A text that starts with this one.
    Prefix(String),
}

/// A value a leaf can have.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// Text.
    Text(String),
    /// A number.
    Number(f64),
    /// A truth value.
    Bool(bool),
}

/// Why a filter was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// `all`, `any` and `not` nest too deep.
    #[error("the filter nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Too many parts.
    #[error("the filter has more than {MAX_NODES} parts")]
    TooLarge,
    /// Something is longer than allowed.
    #[error("{at}: {what} is longer than {limit}")]
    TooLong {
        /// Where in the filter, as `$.all[2].not`.
        at: String,
        /// What is too long.
        what: &'static str,
        /// The limit, with its unit.
        limit: &'static str,
    },
    /// A field that no chunk can have.
    #[error("{at}: unknown field {field:?}")]
    UnknownField {
        /// Where in the filter.
        at: String,
        /// The field as given, cut when long.
        field: String,
    },
    /// An operator that does not exist.
    #[error("{at}: unknown operator {operator:?}")]
    UnknownOperator {
        /// Where in the filter.
        at: String,
        /// The operator as given, cut when long.
        operator: String,
    },
    /// A part that has the wrong shape or type.
    #[error("{at}: expected {expected}")]
    Unexpected {
        /// Where in the filter.
        at: String,
        /// What belongs there.
        expected: &'static str,
    },
}

impl FilterError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::TooDeep | Self::TooLarge => {
                "flatten the filter: {\"field\":…,\"in\":[…]} replaces an any of eq".into()
            }
            Self::TooLong { .. } => "shorten it, or split the search into several".into(),
            Self::UnknownField { .. } => {
                format!("use {} or metadata.NAME", DOCUMENT_FIELDS.join(", "))
            }
            Self::UnknownOperator { .. } => {
                format!("use all, any or not; or field with one or more of {}", OPERATORS.join(", "))
            }
            Self::Unexpected { .. } => "for example {\"all\":[{\"field\":\"metadata.lang\",\"eq\":\"en\"},\
                 {\"not\":{\"field\":\"path\",\"prefix\":\"drafts/\"}}]}"
                .into(),
        }
    }
}

impl Filter {
    /// Reads a filter as it arrives: `{"all":[…]}`, `{"any":[…]}`, `{"not":…}` or
    /// `{"field":"metadata.lang","eq":"en"}`. Several operators on one field must all hold, so
    /// that a range is `{"field":"metadata.year","gte":2020,"lt":2024}`.
    ///
    /// Never recurses deeper than [`MAX_DEPTH`], however deep `value` is. (Dropping such a
    /// `value` does recurse; `serde_json` never parses one beyond 128 levels.)
    ///
    /// # Errors
    /// Whatever breaks a limit or names something that does not exist.
    pub fn parse(value: &Value) -> Result<Self, FilterError> {
        Parser { nodes: 0, at: String::from("$") }.filter(value, 1)
    }

    /// `path` satisfies `condition`; for filters made by the program itself.
    pub fn field(path: impl Into<String>, condition: Condition) -> Self {
        Self::Field { path: path.into(), condition }
    }

    /// Both hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match self {
            Self::All(mut parts) => {
                parts.push(other);
                Self::All(parts)
            }
            first => Self::All(vec![first, other]),
        }
    }

    /// Whether a chunk with these attributes passes. This is what a filter *means*; an index
    /// must agree with it.
    pub fn matches(&self, attributes: &Value) -> bool {
        self.matches_leaves(&leaves(attributes))
    }

    fn matches_leaves(&self, leaves: &[(String, Leaf<'_>)]) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.matches_leaves(leaves)),
            Self::Any(parts) => parts.iter().any(|part| part.matches_leaves(leaves)),
            Self::Not(part) => !part.matches_leaves(leaves),
            Self::Field { path, condition } => {
                let mut values = leaves.iter().filter(|(name, _)| name == path).map(|(_, leaf)| leaf);
                match condition {
                    Condition::Exists(wanted) => values.next().is_some() == *wanted,
                    other => values.any(|leaf| other.holds(leaf)),
                }
            }
        }
    }

    /// One text for all filters that are written differently but say the same in an obvious
    /// way (order, repetition); for cache keys.
    pub fn canonical(&self) -> String {
        let list = |word: &str, parts: &[Self]| {
            let parts: BTreeSet<String> = parts.iter().map(Self::canonical).collect();
            let parts: Vec<String> = parts.into_iter().collect();
            format!("{word}({})", parts.join(","))
        };
        match self {
            Self::All(parts) => list("all", parts),
            Self::Any(parts) => list("any", parts),
            Self::Not(part) => format!("not({})", part.canonical()),
            Self::Field { path, condition } => format!("{path:?} {}", condition.canonical()),
        }
    }
}

impl Condition {
    fn holds(&self, leaf: &Leaf<'_>) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let compared = |with: &Scalar| leaf.compare(with);
        match self {
            Self::Eq(value) => leaf.equals(value),
            Self::In(values) => values.iter().any(|value| leaf.equals(value)),
            Self::Gt(value) => compared(value) == Some(Greater),
            Self::Gte(value) => matches!(compared(value), Some(Greater | Equal)),
            Self::Lt(value) => compared(value) == Some(Less),
            Self::Lte(value) => matches!(compared(value), Some(Less | Equal)),
            Self::Exists(wanted) => *wanted,
            Self::Prefix(prefix) => {
                matches!(leaf, Leaf::Text(text) if text.starts_with(prefix.as_str()))
            }
        }
    }

    fn canonical(&self) -> String {
        match self {
            Self::Eq(value) => format!("eq {}", value.canonical()),
            Self::In(values) => {
                let values: BTreeSet<String> = values.iter().map(Scalar::canonical).collect();
                format!("in {values:?}")
            }
            Self::Gt(value) => format!("gt {}", value.canonical()),
            Self::Gte(value) => format!("gte {}", value.canonical()),
            Self::Lt(value) => format!("lt {}", value.canonical()),
            Self::Lte(value) => format!("lte {}", value.canonical()),
            Self::Exists(wanted) => format!("exists {wanted}"),
            Self::Prefix(prefix) => format!("prefix {prefix:?}"),
        }
    }
}

impl Scalar {
    fn canonical(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Number(number) => format!("{number:?}"),
            Self::Bool(value) => value.to_string(),
        }
    }
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// One value of a chunk as filters see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Leaf<'a> {
    /// Text, cut at the first character boundary from [`COMPARED_BYTES`] on.
    Text(&'a str),
    /// A number; never `-0.0`.
    Number(f64),
    /// A truth value.
    Bool(bool),
    /// This path is an object that holds leaves; only `exists` sees it.
    Object,
}

impl Leaf<'_> {
    fn equals(&self, value: &Scalar) -> bool {
        match (self, value) {
            (Leaf::Text(a), Scalar::Text(b)) => a == b,
            (Leaf::Number(a), Scalar::Number(b)) => a == b,
            (Leaf::Bool(a), Scalar::Bool(b)) => a == b,
            _ => false,
        }
    }

    fn compare(&self, value: &Scalar) -> Option<std::cmp::Ordering> {
        match (self, value) {
            (Leaf::Text(a), Scalar::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
            (Leaf::Number(a), Scalar::Number(b)) => a.partial_cmp(b),
            _ => None,
        }
    }
}

/// The flat list of a chunk's leaves, in no promised order. Bounded in number and depth.
pub(crate) fn leaves(attributes: &Value) -> Vec<(String, Leaf<'_>)> {
    let mut found = Vec::new();
    if let Value::Object(fields) = attributes {
        let mut path = String::new();
        collect_fields(fields, &mut path, 1, &mut found);
    }
    found
}

fn collect_fields<'a>(
    fields: &'a Map<String, Value>,
    path: &mut String,
    depth: usize,
    found: &mut Vec<(String, Leaf<'a>)>,
) -> bool {
    let before = path.len();
    let mut any = false;
    for (name, value) in fields {
        if before > 0 {
            path.push('.');
        }
        path.push_str(name);
        any |= collect(value, path, depth, found);
        path.truncate(before);
    }
    any
}

/// Whether `value` holds at least one leaf.
fn collect<'a>(value: &'a Value, path: &mut String, depth: usize, found: &mut Vec<(String, Leaf<'a>)>) -> bool {
    if depth > MAX_ATTRIBUTE_DEPTH || found.len() >= MAX_LEAVES || path.len() > MAX_PATH_BYTES {
        return false;
    }
    let leaf = match value {
        Value::Null => return false,
        Value::Bool(value) => Leaf::Bool(*value),
        // Adding positive zero turns -0.0 into 0.0, so that equal numbers have equal bits.
        Value::Number(number) => match number.as_f64() {
            Some(number) => Leaf::Number(number + 0.0),
            None => return false,
        },
        Value::String(text) => Leaf::Text(&text[..text.ceil_char_boundary(COMPARED_BYTES)]),
        Value::Array(values) => {
            let mut any = false;
            for value in values {
                any |= collect(value, path, depth + 1, found);
            }
            return any;
        }
        Value::Object(fields) => {
            if !collect_fields(fields, path, depth + 1, found) {
                return false;
            }
            Leaf::Object
        }
    };
    found.push((path.clone(), leaf));
    true
}

/// Reads a filter, counting its parts and knowing where it is.
struct Parser {
    nodes: usize,
    at: String,
}

impl Parser {
    fn filter(&mut self, value: &Value, depth: usize) -> Result<Filter, FilterError> {
        if depth > MAX_DEPTH {
            return Err(FilterError::TooDeep);
        }
        self.count()?;
        let Value::Object(parts) = value else {
            return Err(self.unexpected("an object with all, any, not or field"));
        };
        if parts.contains_key("field") {
            return self.conditions(parts);
        }
        let mut entries = parts.iter();
        let (Some((word, inner)), None) = (entries.next(), entries.next()) else {
            return Err(self.unexpected("exactly one of all, any, not, or a field with operators"));
        };
        match word.as_str() {
            "all" => Ok(Filter::All(self.list(word, inner, depth)?)),
            "any" => Ok(Filter::Any(self.list(word, inner, depth)?)),
            "not" => self.inside(".not", |parser| Ok(Filter::Not(Box::new(parser.filter(inner, depth + 1)?)))),
            other if OPERATORS.contains(&other) => Err(self.unexpected("a field beside the operator")),
            other => Err(FilterError::UnknownOperator { at: self.at.clone(), operator: cut(other) }),
        }
    }

    fn list(&mut self, word: &str, value: &Value, depth: usize) -> Result<Vec<Filter>, FilterError> {
        self.inside(&format!(".{word}"), |parser| {
            let Value::Array(parts) = value else {
                return Err(parser.unexpected("a list of filters"));
            };
            if parts.len() > MAX_NODES {
                return Err(FilterError::TooLarge);
            }
            let part = |(index, part)| parser.inside(&format!("[{index}]"), |parser| parser.filter(part, depth + 1));
            parts.iter().enumerate().map(part).collect()
        })
    }

    fn conditions(&mut self, parts: &Map<String, Value>) -> Result<Filter, FilterError> {
        let path = self.path(parts.get("field"))?;
        let mut conditions = Vec::new();
        for (operator, value) in parts.iter().filter(|(name, _)| *name != "field") {
            self.count()?;
            let at = format!(".{}", cut(operator));
            let condition = self.inside(&at, |parser| parser.condition(operator, value))?;
            conditions.push(Filter::Field { path: path.clone(), condition });
        }
        match (conditions.pop(), conditions.is_empty()) {
            (None, _) => Err(self.unexpected("an operator beside the field")),
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                conditions.push(last);
                Ok(Filter::All(conditions))
            }
        }
    }

    fn path(&self, value: Option<&Value>) -> Result<String, FilterError> {
        let Some(Value::String(path)) = value else {
            return Err(self.unexpected("the field's name as text"));
        };
        if path.len() > MAX_PATH_BYTES || path.split('.').count() > MAX_PATH_SEGMENTS {
            return Err(FilterError::TooLong {
                at: self.at.clone(),
                what: "the field's name",
                limit: "256 bytes or 8 segments",
            });
        }
        let metadata = path.strip_prefix("metadata.").is_some_and(|rest| !rest.is_empty());
        if metadata || DOCUMENT_FIELDS.contains(&path.as_str()) {
            return Ok(path.clone());
        }
        Err(FilterError::UnknownField { at: self.at.clone(), field: cut(path) })
    }

    fn condition(&self, operator: &str, value: &Value) -> Result<Condition, FilterError> {
        Ok(match operator {
            "eq" => Condition::Eq(self.scalar(value)?),
            "in" => Condition::In(self.scalars(value)?),
            "gt" => Condition::Gt(self.ordered(value)?),
            "gte" => Condition::Gte(self.ordered(value)?),
            "lt" => Condition::Lt(self.ordered(value)?),
            "lte" => Condition::Lte(self.ordered(value)?),
            "exists" => match value {
                Value::Bool(wanted) => Condition::Exists(*wanted),
                _ => return Err(self.unexpected("true or false")),
            },
            "prefix" => match self.scalar(value)? {
                Scalar::Text(prefix) => Condition::Prefix(prefix),
                _ => return Err(self.unexpected("text")),
            },
            other => {
                return Err(FilterError::UnknownOperator { at: self.at.clone(), operator: cut(other) });
            }
        })
    }

    fn scalars(&self, value: &Value) -> Result<Vec<Scalar>, FilterError> {
        let Value::Array(values) = value else {
            return Err(self.unexpected("a list of texts, numbers or truth values"));
        };
        if values.len() > MAX_IN_VALUES {
            return Err(FilterError::TooLong { at: self.at.clone(), what: "the list", limit: "256 values" });
        }
        values.iter().map(|value| self.scalar(value)).collect()
    }

    fn scalar(&self, value: &Value) -> Result<Scalar, FilterError> {
        match value {
            Value::String(text) if text.len() > MAX_TEXT_BYTES => {
                Err(FilterError::TooLong { at: self.at.clone(), what: "the text", limit: "4096 bytes" })
            }
            Value::String(text) => Ok(Scalar::Text(text.clone())),
            Value::Bool(value) => Ok(Scalar::Bool(*value)),
            Value::Number(number) => match number.as_f64() {
                Some(number) => Ok(Scalar::Number(number + 0.0)),
                None => Err(self.unexpected("a number within the range of a double")),
            },
            _ => Err(self.unexpected("text, a number, true or false")),
        }
    }

    fn ordered(&self, value: &Value) -> Result<Scalar, FilterError> {
        match self.scalar(value)? {
            Scalar::Bool(_) => Err(self.unexpected("text or a number")),
            scalar => Ok(scalar),
        }
    }

    fn count(&mut self) -> Result<(), FilterError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES { Err(FilterError::TooLarge) } else { Ok(()) }
    }

    fn inside<T>(
        &mut self,
        step: &str,
        read: impl FnOnce(&mut Self) -> Result<T, FilterError>,
    ) -> Result<T, FilterError> {
        let before = self.at.len();
        self.at.push_str(step);
        let result = read(self);
        self.at.truncate(before);
        result
    }

    fn unexpected(&self, expected: &'static str) -> FilterError {
        FilterError::Unexpected { at: self.at.clone(), expected }
    }
}

/// At most 64 bytes of what a stranger sent, for an error message.
fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(64);
    let mut shown = text[..end].to_owned();
    if end < text.len() {
        // Writing to a String cannot fail.
        let _ = write!(shown, "… ({} bytes)", text.len());
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn attributes() -> Value {
        json!({
            "path": "docs/guide/pin.md",
            "title": "Pinning",
            "metadata": {
                "lang": "en", "tags": ["nix", "flake", null], "year": 2021, "ratio": -0.0,
                "draft": false, "author": {"name": "Ada", "born": [1815, 1816]}, "none": null,
                "dc.title": "Dotted", "empty": {}, "list": []
            }
        })
    }

    fn check(filter: Value, expected: bool) {
        let parsed = Filter::parse(&filter).unwrap();
        assert_eq!(parsed.matches(&attributes()), expected, "{filter}");
    }

    #[test]
    fn each_operator_means_what_it_says() {
        for (operator, value, expected) in [
            ("eq", json!("en"), true),
            ("eq", json!("e"), false),
            ("in", json!(["de", "en"]), true),
            ("in", json!([]), false),
            ("prefix", json!("e"), true),
            ("prefix", json!(""), true),
            ("prefix", json!("eng"), false),
            ("gt", json!("em"), true),
            ("gt", json!("en"), false),
            ("gte", json!("en"), true),
            ("lt", json!("en"), false),
            ("lte", json!("en"), true),
            ("exists", json!(true), true),
            ("exists", json!(false), false),
        ] {
            check(json!({"field": "metadata.lang", operator: value}), expected);
        }
    }

    #[test]
    fn types_are_strict_and_numbers_numeric() {
        let year = |operator: &str, value: Value| json!({"field": "metadata.year", operator: value});
        check(year("eq", json!(2021.0)), true);
        check(year("eq", json!("2021")), false);
        check(year("gt", json!("0")), false);
        check(year("prefix", json!("20")), false);
        check(year("gt", json!(2020.5)), true);
        check(year("in", json!([true, "2021", 2021])), true);
        check(json!({"field": "metadata.ratio", "eq": 0}), true);
        check(json!({"field": "metadata.ratio", "gte": 0}), true);
        check(json!({"field": "metadata.draft", "eq": false}), true);
        check(json!({"field": "metadata.draft", "eq": 0}), false);
    }

    #[test]
    fn arrays_match_by_any_element_and_objects_by_path() {
        check(json!({"field": "metadata.tags", "eq": "flake"}), true);
        check(json!({"not": {"field": "metadata.tags", "eq": "flake"}}), false);
        check(json!({"field": "metadata.author.name", "eq": "Ada"}), true);
        check(json!({"field": "metadata.author.born", "gt": 1815}), true);
        check(json!({"field": "metadata.author", "exists": true}), true);
        check(json!({"field": "metadata.author", "eq": "Ada"}), false);
        check(json!({"field": "metadata.dc.title", "eq": "Dotted"}), true);
    }

    #[test]
    fn what_is_missing_only_satisfies_its_negation() {
        for name in ["nothing", "none", "empty", "list", "lang.deeper"] {
            let field = format!("metadata.{name}");
            check(json!({"field": field, "exists": true}), false);
            check(json!({"field": field, "exists": false}), true);
            check(json!({"field": field, "lt": 5}), false);
            check(json!({"not": {"field": field, "eq": 5}}), true);
        }
    }

    #[test]
    fn combinations() {
        let (yes, no) = (json!({"field": "metadata.lang", "eq": "en"}), json!({"field": "metadata.lang", "eq": "de"}));
        check(json!({"all": []}), true);
        check(json!({"any": []}), false);
        check(json!({"all": [yes, no]}), false);
        check(json!({"any": [yes, no]}), true);
        check(json!({"not": {"not": yes}}), true);
        check(json!({"field": "metadata.year", "gte": 2020, "lt": 2022}), true);
        check(json!({"field": "metadata.year", "gte": 2020, "lt": 2021}), false);
    }

    fn refused(filter: Value, message: &str) {
        let error = Filter::parse(&filter).unwrap_err();
        assert_eq!(error.to_string(), message, "{filter}");
        assert!(!error.hint().is_empty());
    }

    #[test]
    fn refusals_name_the_place_and_the_remedy() {
        refused(json!(7), "$: expected an object with all, any, not or field");
        refused(json!({}), "$: expected exactly one of all, any, not, or a field with operators");
        refused(json!({"all": {}}), "$.all: expected a list of filters");
        refused(json!({"any": [{"field": "metadata.a", "like": 1}]}), "$.any[0].like: unknown operator \"like\"");
        refused(json!({"nor": []}), "$: unknown operator \"nor\"");
        refused(json!({"eq": 1}), "$: expected a field beside the operator");
        refused(json!({"field": "path"}), "$: expected an operator beside the field");
        refused(json!({"field": 1, "eq": 1}), "$: expected the field's name as text");
        refused(json!({"field": "text", "eq": "x"}), "$: unknown field \"text\"");
        refused(json!({"field": "metadata", "eq": "x"}), "$: unknown field \"metadata\"");
        refused(json!({"field": "metadata.", "eq": "x"}), "$: unknown field \"metadata.\"");
        refused(json!({"field": "path", "eq": null}), "$.eq: expected text, a number, true or false");
        refused(json!({"field": "path", "gt": true}), "$.gt: expected text or a number");
        refused(json!({"field": "path", "exists": 1}), "$.exists: expected true or false");
        refused(json!({"field": "path", "prefix": 1}), "$.prefix: expected text");
        let long = "x".repeat(1000);
        refused(json!({ long.clone(): [] }), &format!("$: unknown operator \"{}… (1000 bytes)\"", &long[..64]));
        let error = Filter::parse(&json!({"field": "text", "eq": 1})).unwrap_err();
        assert!(error.hint().contains("content_type") && error.hint().contains("metadata.NAME"));
    }

    #[test]
    fn limits_hold_at_their_edge() {
        let leaf = || json!({"field": "path", "eq": "x"});
        let nested = |levels: usize| (1..levels).fold(leaf(), |inner, _| json!({"not": inner}));
        assert!(Filter::parse(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(Filter::parse(&nested(MAX_DEPTH + 1)), Err(FilterError::TooDeep));

        // The outer `all`, and two parts for each condition: itself and its operator.
        let wide = |count: usize| json!({"all": vec![leaf(); count]});
        assert!(Filter::parse(&wide((MAX_NODES - 1) / 2)).is_ok());
        assert_eq!(Filter::parse(&wide(MAX_NODES.div_ceil(2))), Err(FilterError::TooLarge));
        assert_eq!(Filter::parse(&wide(1_000_000)), Err(FilterError::TooLarge));

        let list = |count: usize| json!({"field": "path", "in": vec!["x"; count]});
        assert!(Filter::parse(&list(MAX_IN_VALUES)).is_ok());
        assert!(Filter::parse(&list(MAX_IN_VALUES + 1)).is_err());

        let text = |length: usize| json!({"field": "path", "eq": "x".repeat(length)});
        assert!(Filter::parse(&text(MAX_TEXT_BYTES)).is_ok());
        assert!(Filter::parse(&text(MAX_TEXT_BYTES + 1)).is_err());

        let field = |name: String| json!({"field": format!("metadata.{name}"), "exists": true});
        assert!(Filter::parse(&field("x".repeat(MAX_PATH_BYTES - 9))).is_ok());
        assert!(Filter::parse(&field("x".repeat(MAX_PATH_BYTES - 8))).is_err());
        assert!(Filter::parse(&field(["x"; MAX_PATH_SEGMENTS - 1].join("."))).is_ok());
        assert!(Filter::parse(&field(["x"; MAX_PATH_SEGMENTS].join("."))).is_err());
    }

    #[test]
    fn ten_thousand_levels_are_an_error_and_not_a_crash() {
        let mut filter = json!({"field": "path", "eq": "x"});
        for _ in 0..10_000 {
            filter = Value::Object(Map::from_iter([("not".to_owned(), filter)]));
        }
        assert_eq!(Filter::parse(&filter), Err(FilterError::TooDeep));
        // Attributes as deep are no danger either.
        assert!(!Filter::parse(&json!({"field": "path", "eq": "x"})).unwrap().matches(&filter));
        // Dropping a value this deep by the standard way would recurse, so it is taken apart.
        while let Value::Object(mut fields) = filter {
            filter = fields.remove("not").unwrap_or(Value::Null);
        }
    }

    #[test]
    fn long_values_compare_as_if_they_were_whole() {
        let long = format!("{}é", "x".repeat(MAX_TEXT_BYTES));
        let attributes = json!({ "title": long });
        let title = |operator: &str, value: &str| {
            let filter = json!({"field": "title", operator: value});
            Filter::parse(&filter).unwrap().matches(&attributes)
        };
        let most = "x".repeat(MAX_TEXT_BYTES);
        assert!(title("prefix", &most));
        assert!(title("gt", &most));
        assert!(!title("eq", &most));
        assert!(!title("lte", &most));
    }

    #[test]
    fn canonical_text_ignores_order_and_repetition_only() {
        let canonical = |filter: Value| Filter::parse(&filter).unwrap().canonical();
        let (a, b) = (json!({"field": "path", "eq": "a"}), json!({"field": "path", "eq": "b"}));
        assert_eq!(canonical(json!({"all": [a, b]})), canonical(json!({"all": [b, a, a]})));
        assert_eq!(
            canonical(json!({"field": "path", "in": ["a", "b"]})),
            canonical(json!({"field": "path", "in": ["b", "a"]})),
        );
        assert_ne!(canonical(json!({"all": [a, b]})), canonical(json!({"any": [a, b]})));
        assert_ne!(canonical(a.clone()), canonical(json!({"not": a})));
        assert_ne!(canonical(json!({"field": "path", "eq": "1"})), canonical(json!({"field": "path", "eq": 1})),);
        assert_ne!(
            canonical(json!({"field": "path", "in": ["a\", \"b"]})),
            canonical(json!({"field": "path", "in": ["a", "b"]})),
        );
    }
}
