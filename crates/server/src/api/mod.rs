//! Our own routes: one file a resource, each with its wire types and its handlers.
//!
//! A handler converts, makes one façade call and converts back. Requests refuse fields they do not know; answers may
//! gain fields, and never lose one.

pub(crate) mod search;

pub(crate) mod documents;

pub(crate) mod collections;

pub(crate) mod sources;

pub(crate) mod jobs;

pub(crate) mod status;

pub(crate) mod keys;

pub(crate) mod models;

pub(crate) mod augment;

pub(crate) mod providers;

pub(crate) mod budgets;

pub(crate) mod sessions;

pub(crate) mod interactions;

pub(crate) mod learning;

pub(crate) mod events;

pub(crate) mod lessons;

pub(crate) mod archive;

pub(crate) mod datasets;

pub(crate) mod doctor;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The collection that is meant where none is named.
pub(crate) const DEFAULT_COLLECTION: &str = "default";
/// The items of a page where no limit is given.
const PAGE_DEFAULT: usize = 100;
/// The most items a page may have.
const PAGE_MAX: usize = 1_000;

/// Which part of a list is asked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageParams {
    /// `next_cursor` of the page before; the first page where absent
    cursor: Option<String>,
    /// The most items of the page; 100 where absent
    #[schemars(range(min = 1, max = PAGE_MAX))]
    limit: Option<i64>,
}

/// A stable word and a sentence, for what went wrong in the past.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Trouble {
    /// A stable word
    code: String,
    /// A sentence for people
    detail: String,
}

impl From<(String, String)> for Trouble {
    fn from((code, detail): (String, String)) -> Self {
        Self { code, detail }
    }
}
