//! Datasets, as everybody else builds and reads them.

use std::path::PathBuf;

use holdfast_storage::{
    StorageError,
    datasets::{DatasetVersion, is_name},
};

use crate::{
    LearnError, Learning,
    dataset::{self, Built, MANIFEST, Manifest, PARTS, PREFERENCES, REDACTIONS, Recipe},
    similar::blocking,
    told::BadTold,
};

/// Every file of a dataset.
pub const FILES: [&str; 6] = [PARTS[0], PARTS[1], PARTS[2], PREFERENCES, REDACTIONS, MANIFEST];

impl Learning {
    /// Builds a version of a dataset from what is derived by now; gives the newest one where that is the same.
    ///
    /// # Errors
    /// [`LearnError::Bad`] for what is no name and no recipe, [`LearnError::Busy`] while one is built.
    pub async fn build_dataset(&self, name: &str, recipe: Recipe) -> Result<Built, LearnError> {
        if !is_name(name) {
            let problem = "must have 1 to 64 letters, digits, '-', '_' and '.', the first one a letter or a digit";
            return Err(BadTold { field: "name", problem: problem.into() }.into());
        }
        check(&recipe)?;
        // It takes a processor for a while, and memory for all rows.
        let building = std::sync::Arc::clone(&self.building).try_lock_owned().map_err(|_| LearnError::Busy)?;
        let (store, datasets, name) = (self.store.clone(), self.datasets.clone(), name.to_owned());
        let position = self.log.last_position();
        let (encode, runtime) = (self.encode.clone(), tokio::runtime::Handle::current());
        let build = move || {
            let _one = building;
            let now = encode.map(|encode| move |texts| runtime.block_on(encode.encode(texts)));
            let now = now.as_ref().map(|now| now as dataset::EncodeNow<'_>);
            dataset::build(&store, &datasets, &name, &recipe, position, now)
        };
        Ok(blocking(build).await.map_err(|_| StorageError::Closed)??)
    }

    /// Every version there is, with how it was made; one whose manifest cannot be read without.
    ///
    /// # Errors
    /// [`LearnError::Storage`].
    pub async fn datasets(&self) -> Result<Vec<(DatasetVersion, Option<Manifest>)>, LearnError> {
        let datasets = self.datasets.clone();
        let list = move || {
            let versions = datasets.list()?;
            let told = versions.into_iter().map(|one| {
                let manifest = dataset::manifest(&datasets, &one.name, one.version).ok();
                (one, manifest)
            });
            Ok(told.collect())
        };
        blocking(list).await.map_err(|_| StorageError::Closed)?
    }

    /// How a version was made.
    ///
    /// # Errors
    /// [`LearnError::NoDataset`] where there is none.
    pub async fn dataset(&self, name: &str, version: u32) -> Result<Manifest, LearnError> {
        let (datasets, name) = (self.datasets.clone(), name.to_owned());
        let read = move || dataset::manifest(&datasets, &name, version);
        match blocking(read).await.map_err(|_| StorageError::Closed)? {
            Err(StorageError::NotFound { .. }) => Err(LearnError::NoDataset),
            read => Ok(read?),
        }
    }

    /// Where a file of a version lies.
    ///
    /// # Errors
    /// [`LearnError::NoDataset`] where there is no such version, [`LearnError::Bad`] for what is none of [`FILES`].
    pub async fn dataset_file(&self, name: &str, version: u32, file: &str) -> Result<PathBuf, LearnError> {
        if !FILES.contains(&file) {
            return Err(
                BadTold { field: "file", problem: format!("must be one of {}", FILES.join(", ")).into() }.into()
            );
        }
        self.dataset(name, version).await?;
        Ok(self.datasets.path(name, version, file)?)
    }

    /// Removes a version; its number is not given again.
    ///
    /// # Errors
    /// [`LearnError::NoDataset`] where there is none.
    pub async fn remove_dataset(&self, name: &str, version: u32) -> Result<(), LearnError> {
        let (datasets, name) = (self.datasets.clone(), name.to_owned());
        let remove = move || datasets.remove(&name, version);
        match blocking(remove).await.map_err(|_| StorageError::Closed)? {
            Err(StorageError::NotFound { .. }) => Err(LearnError::NoDataset),
            removed => Ok(removed?),
        }
    }
}

fn check(recipe: &Recipe) -> Result<(), BadTold> {
    if !(0.0..=1.0).contains(&recipe.value_min) {
        return Err(BadTold { field: "value_min", problem: "is not from 0 to 1".into() });
    }
    let is_share = |share: &f64| share.is_finite() && *share >= 0.0;
    if !recipe.shares.iter().all(is_share) || recipe.shares.iter().sum::<f64>() <= 0.0 {
        return Err(BadTold { field: "shares", problem: "must be three numbers from 0 on, not all 0".into() });
    }
    Ok(())
}
