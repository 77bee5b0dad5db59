//! Where a page ended: which ranking, and how far into it.

use std::{fmt, str::FromStr};

use super::cache::Digest;
use crate::KnowledgeError;

/// A place in a kept ranking, as text for the caller to bring back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub digest: Digest,
    pub position: usize,
}

impl Cursor {
    pub(super) fn parse(text: &str) -> Result<Self, KnowledgeError> {
        let invalid = || KnowledgeError::invalid("cursor", "is not one that a search has given");
        let (digest, position) = text.split_once('.').ok_or_else(invalid)?;
        Ok(Self {
            digest: Digest::from_str(digest).map_err(|()| invalid())?,
            position: position.parse().map_err(|_| invalid())?,
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.digest, self.position)
    }
}
