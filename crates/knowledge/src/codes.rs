//! What programs know failures of documents, files and jobs by, and what a check of everything found. `docs/ERRORS.md` has
//! a row for each, which a test of the program enforces.

holdfast_resilience::words! {
    /// Why a document, a file or a job came to nothing.
    pub enum TroubleCode {
        /// A field of a document is not acceptable.
        InvalidField = "invalid_field",
        /// Something cannot be opened, listed or read.
        Unreadable = "unreadable",
        /// The collection's vectors are of another model.
        OtherModel = "other_model",
        /// The text could not be split.
        NotSplittable = "not_splittable",
        /// The model gave no usable vector.
        EmbeddingFailed = "embedding_failed",
        /// It could not be written.
        StorageFailed = "storage_failed",
        /// The file is not text.
        Binary = "binary",
        /// The file is too large.
        TooLarge = "too_large",
        /// The file is in no encoding that could be told.
        Undecodable = "undecodable",
        /// A symbolic link leads out of the source.
        SymlinkOutside = "symlink_outside",
        /// A symbolic link leads back to where it is.
        SymlinkLoop = "symlink_loop",
        /// A symbolic link leads nowhere.
        SymlinkBroken = "symlink_broken",
        /// Another symbolic link leads to the same directory.
        SymlinkRepeated = "symlink_repeated",
        /// Symbolic links are not followed.
        SymlinkSkipped = "symlink_skipped",
        /// A FIFO, socket or device.
        NotRegular = "not_regular",
        /// The file kept changing.
        ChangedWhileRead = "changed_while_read",
        /// The file was gone before it was read.
        Vanished = "vanished",
        /// The name is not UTF-8.
        NameNotUtf8 = "name_not_utf8",
        /// The folder lies too deep.
        TooDeep = "too_deep",
        /// The source was removed, or is read anew.
        SourceEnded = "source_ended",
        /// The source could not be read.
        SourceFailed = "source_failed",
        /// A collection could not be moved to another model.
        ReembedFailed = "reembed_failed",
        /// The program ended in between.
        Interrupted = "interrupted",
    }
}

holdfast_resilience::words! {
    /// What is wrong with something that is stored.
    pub enum FindingCode {
        /// The database file contradicts itself.
        DatabaseDamaged = "database_damaged",
        /// The file with the record of turns and what was spent contradicts itself.
        EventsDamaged = "events_damaged",
        /// The file with what was learned contradicts itself.
        LearningDamaged = "learning_damaged",
        /// An index has not what the database has.
        IndexDiffers = "index_differs",
        /// An index's files are damaged.
        IndexDamaged = "index_damaged",
        /// A model's files are not what they should be.
        ModelDamaged = "model_damaged",
    }
}
