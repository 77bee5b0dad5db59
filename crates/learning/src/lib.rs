//! What is learnt from what happened, and how what other programs tell comes into the event log.
//!
//! It reads and writes the event log and nothing of a turn passes through it: it may fall behind, be switched off, or be
//! begun anew, and nobody who asks notices.

mod drop_folder;

pub use drop_folder::{DropFolder, FolderError, FolderStatus, FollowedFile, GAP_FOUND, Settings, Taken};
