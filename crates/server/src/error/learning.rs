//! What becomes of what learning cannot do.

use holdfast_learning::LearnError;
use holdfast_storage::events::archive::ArchiveError;

use super::{Code, Failure};

impl From<LearnError> for Failure {
    fn from(error: LearnError) -> Self {
        let told = error.to_string();
        match error {
            LearnError::NotFound => Self::new(Code::InteractionNotFound, told),
            LearnError::NoDataset => Self::new(Code::DatasetNotFound, told),
            LearnError::NotEvaluated { .. } => Self::new(Code::InvalidRequest, told).hint(Some(
                "give questions with the documents that should be found, or say which were of use: `useful` of an outcome".to_owned(),
            )),
            LearnError::BadEvent { index, problem } => Self::field(format!("events.{index}"), problem),
            LearnError::KeyReused => Self::new(Code::IdempotencyKeyReused, told),
            LearnError::Busy => Self::new(Code::InProgress, told),
            LearnError::Exists => Self::new(Code::AlreadyExists, told).at("id"),
            LearnError::Bad(bad) => Self::field(bad.field, bad.problem),
            LearnError::TooLarge { .. } => Self::new(Code::BodyTooLarge, told),
            LearnError::Archive(ArchiveError::Busy) => Self::new(Code::InProgress, told),
            LearnError::Archive(error) => Self::new(Code::StorageDamaged, told).cause(error),
            LearnError::Storage(storage) => storage.into(),
        }
    }
}
