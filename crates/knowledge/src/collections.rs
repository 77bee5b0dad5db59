//! The façade's part on collections.

use holdfast_storage::{Caller, collections::Collection};

use crate::{CollectionInfo, Knowledge, KnowledgeError, names};

impl Knowledge {
    /// Whether a collection could have that name.
    ///
    /// # Errors
    /// [`KnowledgeError::Invalid`] where it could not.
    pub fn check_collection_name(name: &str) -> Result<(), KnowledgeError> {
        names::collection(name)
    }

    /// Every collection that the caller may see, by name.
    pub async fn collections(&self, caller: &Caller) -> Result<Vec<CollectionInfo>, KnowledgeError> {
        let caller = caller.clone();
        let collections = self.blocking(move |inner| Ok(inner.storage.collections(caller.grants())?)).await?;
        Ok(collections.into_iter().map(info).collect())
    }

    /// The collection of that name.
    pub async fn collection(&self, caller: &Caller, name: &str) -> Result<CollectionInfo, KnowledgeError> {
        names::collection(name)?;
        let (caller, name) = (caller.clone(), name.to_owned());
        let found = self.blocking(move |inner| Ok(inner.storage.collection(caller.grants(), &name)?)).await?;
        Ok(info(found))
    }

    /// Makes a collection whose vectors are made with `model`, or with the default one.
    pub async fn create_collection(
        &self,
        caller: &Caller,
        name: &str,
        model: Option<&str>,
    ) -> Result<CollectionInfo, KnowledgeError> {
        names::collection(name)?;
        // Whether there is one of that name already is nobody's business who may not see it.
        if !caller.grants().include(name) {
            return Err(KnowledgeError::NotGranted { what: format!("collection {name:?}") });
        }
        let models = &self.inner.models;
        let model = model.unwrap_or_else(|| models.default_model());
        // Refuses a name that no model has; loading it can wait.
        models.get(model)?;
        let made = self.inner.storage.create_collection(name.to_owned(), model.to_owned()).await?;
        Ok(info(made))
    }

    /// Removes a collection with its sources and documents. The default one stays.
    pub async fn remove_collection(&self, caller: &Caller, name: &str) -> Result<(), KnowledgeError> {
        names::collection(name)?;
        if name == self.inner.config.default_collection {
            return Err(KnowledgeError::invalid("collection", "must not be the default one, which is always there"));
        }
        self.inner.storage.remove_collection(caller.grants(), name.to_owned()).await?;
        self.sources_changed();
        Ok(())
    }

    /// Moves a collection to another model: a job builds a whole new set of vectors and indexes
    /// beside the present one, which answers until the new one is complete. The job's id.
    pub async fn reembed(&self, caller: &Caller, name: &str, model: &str) -> Result<String, KnowledgeError> {
        names::collection(name)?;
        self.inner.models.get(model)?;
        let (wanted, caller) = (name.to_owned(), caller.clone());
        let collection = self.blocking(move |inner| Ok(inner.storage.collection(caller.grants(), &wanted)?)).await?;
        if self.inner.reembedding.is_running(collection.id) {
            return Err(KnowledgeError::InProgress { what: format!("re-embedding of collection {name:?}") });
        }
        if collection.building.is_some_and(|building| building.space.model != model) {
            self.inner.storage.abandon_building(collection.id).await?;
        }
        self.inner.reembedding.start(name, collection.id, model).await
    }
}

fn info(collection: Collection) -> CollectionInfo {
    let active = collection.active.as_ref();
    CollectionInfo {
        name: collection.name,
        model: collection.model,
        space: active.map(|generation| generation.space.fingerprint.clone()),
        dimensions: active.map(|generation| generation.space.dimensions),
        documents: collection.documents,
        chunks: collection.chunks,
        building: collection.building.map(|generation| generation.space.model),
        created_at_ms: collection.created_at_ms,
    }
}
