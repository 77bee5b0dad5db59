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
        let cursor = Self {
            digest: Digest::from_str(digest).map_err(|()| invalid())?,
            position: position.parse().map_err(|_| invalid())?,
        };
        // Numbers can be written in more ways than one (`+7`, `007`), and a search writes them in one.
        if cursor.to_string() == text { Ok(cursor) } else { Err(invalid()) }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.digest, self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_taken_as_it_was_given_and_no_other_way() {
        let given = format!("{}.7", "0f".repeat(24));
        assert_eq!(Cursor::parse(&given).unwrap().to_string(), given);
        for other in [
            given.replace("0f", "+f"),
            given.replace("0f", "0F"),
            given.replace(".7", ".+7"),
            given.replace(".7", ".07"),
            given.replace(".7", ""),
            format!("{given}."),
            String::new(),
        ] {
            assert!(Cursor::parse(&other).is_err(), "{other}");
        }
    }
}
