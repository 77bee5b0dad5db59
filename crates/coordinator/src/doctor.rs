//! Looks whether the record of turns is sound.

use holdfast_knowledge::{Finding, FindingCode};

use crate::{Coordinator, TurnError, session::blocking};

impl Coordinator {
    /// What the check of the event log's file complains of. It cannot be put right: the file comes from a copy.
    ///
    /// # Errors
    /// [`TurnError::Storage`] where it cannot be read.
    pub async fn doctor(&self) -> Result<Vec<Finding>, TurnError> {
        let log = self.shared.log.clone();
        let complaints = blocking(move || log.integrity()).await??;
        let finding = |detail| Finding { code: FindingCode::EventsDamaged.as_str(), detail, fixed: false };
        Ok(complaints.into_iter().map(finding).collect())
    }
}
