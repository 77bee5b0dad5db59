//! The moments at which the end of a process matters most; the tests end one at each of them.

/// What was just done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A segment is written in part.
    SegmentBegun,
    /// A segment is synced and was read back, without its name.
    SegmentWritten,
    /// A segment has its name and is not in the manifest.
    SegmentNamed,
    /// A manifest is written, without its name.
    ManifestWritten,
    /// A manifest names a segment whose events are all in the log, too.
    ManifestNamed,
    /// The log let go of some of a segment's events.
    RowsRemoved,
    /// An erased segment's former file is still there.
    SegmentReplaced,
    /// Some of a segment's events are back in the log.
    RowsImported,
}

#[cfg(not(test))]
pub(super) fn reached(_: Step) {}

#[cfg(test)]
pub(super) use super::tests::steps::reached;
