//! JSON Schema of the wire types, and the words and patterns that their attributes share.
//!
//! A type is described as it is read for requests and as it is written for answers: what has a default may be left out
//! of a request and is always in an answer. Bounds that `knowledge` and `storage` enforce are repeated here, where
//! clients can see them.

use std::borrow::Cow;

use holdfast_storage::{Role, filter};
use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::{Contract, SchemaSettings},
    json_schema,
};
use serde_json::{Map, Value, json};

/// What has something to read in it.
pub(crate) const NOT_BLANK: &str = r"\S";
/// Text on one line.
pub(crate) const NO_CONTROL: &str = r"^[^\u0000-\u001f\u007f-\u009f]+$";
/// Text on one line that is not blank.
pub(crate) const NAME: &str =
    r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$";
/// A collection's name.
pub(crate) const COLLECTION_NAME: &str = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$";
/// Characters of a query.
pub(crate) const QUERY_CHARS_MAX: usize = 10_000;
/// Bytes, and so characters, of an id, a path or a title.
pub(crate) const TEXT_MAX: usize = 1_024;
/// Documents of a request, where the settings do not say otherwise.
pub(crate) const DOCUMENTS_MAX: usize = 1_000;

/// The words a field can have; null stands for the default.
pub(crate) fn words<T>(known: &[(&'static str, T)]) -> Value {
    known.iter().map(|(word, _)| json!(word)).chain([Value::Null]).collect()
}

/// The word for a role.
pub(crate) struct RoleName;

impl JsonSchema for RoleName {
    fn schema_name() -> Cow<'static, str> {
        "RoleName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "What a key is for; `docs/SECURING.md` has the scopes of each",
            "enum": Role::ALL.map(Role::as_str),
        })
    }
}

/// The filter language, which [`filter::Filter::parse`] reads.
pub(crate) struct Filter;

impl JsonSchema for Filter {
    fn schema_name() -> Cow<'static, str> {
        "Filter".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let this = json!({ "$ref": "#/components/schemas/Filter" });
        let several = json!({ "type": "array", "items": this, "maxItems": filter::MAX_NODES });
        let text = json!({ "type": "string", "maxLength": filter::MAX_TEXT_BYTES });
        let ordered = json!({ "anyOf": [text, { "type": "number" }] });
        let scalar = json!({ "anyOf": [text, { "type": "number" }, { "type": "boolean" }] });
        let only = |word: &str, value: &Value| json!({ "type": "object", "properties": { word: value }, "required": [word], "additionalProperties": false });
        let fields = format!("^({}|metadata\\.[^.]+(\\.[^.]+)*)$", filter::DOCUMENT_FIELDS.join("|"));
        json_schema!({
            "description": "All, any or none of several filters, or a field and what must hold of it; several operators \
                must all hold. At most 16 levels and 256 parts.",
            "examples": [{ "all": [
                { "field": "metadata.lang", "eq": "nix" },
                { "not": { "field": "path", "prefix": "drafts/" } },
            ]}],
            "anyOf": [
                only("all", &several),
                only("any", &several),
                only("not", &this),
                {
                    "type": "object",
                    "properties": {
                        "field": { "type": "string", "pattern": fields, "maxLength": filter::MAX_PATH_BYTES },
                        "eq": scalar,
                        "in": { "type": "array", "items": scalar, "maxItems": filter::MAX_IN_VALUES },
                        "gt": ordered,
                        "gte": ordered,
                        "lt": ordered,
                        "lte": ordered,
                        "exists": { "type": "boolean" },
                        "prefix": text,
                    },
                    "required": ["field"],
                    "minProperties": 2,
                    "additionalProperties": false,
                },
            ],
        })
    }
}

/// Makes schemas of types, and keeps those that are referred to.
pub(super) struct Schemas {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let generator = |contract| {
            let mut settings = SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            });
            settings.contract = contract;
            settings.into_generator()
        };
        Self { requests: generator(Contract::Deserialize), answers: generator(Contract::Serialize) }
    }

    /// A type as it is read.
    pub(super) fn request<T: JsonSchema>(&mut self) -> Value {
        self.requests.subschema_for::<T>().to_value()
    }

    /// A type as it is written.
    pub(super) fn answer<T: JsonSchema>(&mut self) -> Value {
        self.answers.subschema_for::<T>().to_value()
    }

    /// The fields of a query string as parameters.
    pub(super) fn query<T: JsonSchema>(&mut self) -> Vec<Value> {
        let schema = T::json_schema(&mut self.requests).to_value();
        let fields = schema["properties"].as_object().cloned().unwrap_or_default();
        let parameter = |(name, mut schema): (String, Value)| {
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            without_null(&mut schema);
            json!({ "name": name, "in": "query", "description": description, "schema": schema })
        };
        fields.into_iter().map(parameter).collect()
    }

    /// Every schema that was referred to, by its name.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        let mut all: Map<String, Value> = self.requests.take_definitions(true).into_iter().collect();
        all.extend(self.answers.take_definitions(true));
        let mut names: Vec<_> = all.into_iter().collect();
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        names.into_iter().collect()
    }
}

/// In an address nothing is null: what is absent is left out.
fn without_null(schema: &mut Value) {
    if let Some(types) = schema["type"].as_array() {
        let kept: Vec<_> = types.iter().filter(|kind| *kind != "null").cloned().collect();
        if let [kind] = kept.as_slice() {
            schema["type"] = kind.clone();
        }
    }
}
