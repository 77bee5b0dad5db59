//! Who is asking. A [`Caller`] exists only where somebody was authenticated, and every façade
//! method that reads or changes a person's data demands one.

use std::sync::Arc;

/// Proof that a request was authenticated, and as whom.
///
/// There is one kind of key for now: it may do everything, so a caller carries no grants yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    id: Arc<str>,
}

/// No key's id is like it: those begin with `key_`.
const OWNER: &str = "owner";

impl Caller {
    /// The owner of the data directory, at the control socket or in this very process.
    pub fn owner() -> Self {
        Self { id: OWNER.into() }
    }

    /// Whether this is the owner, and not somebody with a key.
    pub fn is_owner(&self) -> bool {
        &*self.id == OWNER
    }

    /// A key that [`crate::Storage::authenticate`] found valid.
    pub(crate) fn key(id: &str) -> Self {
        Self { id: id.into() }
    }

    /// A stable name for records: the key's id, or `owner`.
    pub fn id(&self) -> &str {
        &self.id
    }
}
