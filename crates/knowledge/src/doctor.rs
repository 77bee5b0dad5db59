//! Looks whether everything persisted agrees, and puts right what can be.

use std::time::Duration;

use holdfast_storage::{Caller, Grants};

use crate::{Finding, FindingCode, Fix, Knowledge, KnowledgeError};

/// How long the indexes may take to catch up before they are compared.
const CATCH_UP: Duration = Duration::from_secs(60);

impl Knowledge {
    /// Checks the database file, compares the indexes with it, verifies the model's files. With
    /// [`Fix::Yes`], an index that differs is built anew. It looks at everything, so everything has to be granted.
    pub async fn doctor(&self, caller: &Caller, fix: Fix) -> Result<Vec<Finding>, KnowledgeError> {
        if !caller.grants().cover(&Grants::All) {
            return Err(KnowledgeError::NotGranted { what: "every collection".to_owned() });
        }
        let mut findings = self
            .blocking(|inner| {
                let complaints = inner.storage.integrity()?;
                Ok(complaints
                    .into_iter()
                    .map(|detail| Finding { code: FindingCode::DatabaseDamaged.as_str(), detail, fixed: false })
                    .collect::<Vec<_>>())
            })
            .await?;
        self.catch_up().await?;
        let differences = self.blocking(|inner| Ok(inner.storage.projections().compare()?)).await?;
        for difference in differences {
            let fixed = fix == Fix::Yes;
            if fixed {
                let (id, index) = (difference.generation_id, difference.index);
                self.blocking(move |inner| Ok(inner.storage.projections().rebuild(id, index)?)).await?;
            }
            findings.push(Finding {
                code: FindingCode::IndexDiffers.as_str(),
                detail: format!(
                    "the {} index lacks {} chunks and has {} too many",
                    difference.index, difference.missing, difference.surplus
                ),
                fixed,
            });
        }
        findings.extend(self.check_index_files(fix).await?);
        findings.extend(self.check_model().await?);
        Ok(findings)
    }

    async fn catch_up(&self) -> Result<(), KnowledgeError> {
        for collection in self.inner.storage.collections(&Grants::All)? {
            for generation in [collection.active, collection.building].into_iter().flatten() {
                self.inner.storage.projections().wait_current(generation.id, CATCH_UP).await?;
            }
        }
        Ok(())
    }

    /// Looks whether the files of the indexes are there; those that were built anew a moment ago are.
    async fn check_index_files(&self, fix: Fix) -> Result<Vec<Finding>, KnowledgeError> {
        self.blocking(move |inner| {
            let projections = inner.storage.projections();
            let mut findings = Vec::new();
            for index in ["vectors", "lexical"] {
                let Some((generation_id, error)) = projections.examine(index) else { continue };
                if fix == Fix::Yes {
                    projections.rebuild(generation_id, index)?;
                }
                findings.push(Finding {
                    code: FindingCode::IndexDamaged.as_str(),
                    detail: error.to_string(),
                    fixed: fix == Fix::Yes,
                });
            }
            Ok(findings)
        })
        .await
    }

    async fn check_model(&self) -> Result<Option<Finding>, KnowledgeError> {
        self.blocking(|inner| {
            let model = inner.models.default_model();
            Ok(match inner.models.verify(model) {
                Ok(_) => None,
                Err(error) => Some(Finding {
                    code: FindingCode::ModelDamaged.as_str(),
                    detail: format!("{error}; holdfast models pull {model} repairs it"),
                    fixed: false,
                }),
            })
        })
        .await
    }
}
