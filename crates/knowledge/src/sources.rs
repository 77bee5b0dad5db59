//! The façade's part on sources.

use std::path::{Path, PathBuf};

use holdfast_storage::{Caller, sources::Source};

use crate::{Knowledge, KnowledgeError, Page, SkippedFile, SourceAdded, files::FilesError, ingest::Scope, names};

/// Skipped files of a page, at most.
const LIMIT_MAX: usize = 1_000;

impl Knowledge {
    /// Makes a folder or file a source of a collection and starts to bring it in. A path inside
    /// a source is covered already; a folder around sources takes them over.
    pub async fn add_source(
        &self,
        caller: &Caller,
        collection: &str,
        path: &Path,
    ) -> Result<SourceAdded, KnowledgeError> {
        names::collection(collection)?;
        let inner = &self.inner;
        let (collection_id, _, _) = inner.storage.active_generation(caller.grants(), collection)?;
        let root = resolve(path.to_owned()).await?;
        let others: Vec<Source> = inner
            .storage
            .sources(caller.grants())?
            .into_iter()
            .filter(|source| source.collection_id == collection_id)
            .collect();
        if let Some(around) = others.iter().find(|other| root.starts_with(&other.root)) {
            let scope = Scope::Changed([root].into());
            let job_id = inner.sources.sync(around, scope).await?;
            return Ok(SourceAdded { source: around.clone(), job_id, covered: true });
        }
        let Some(text) = root.to_str() else {
            return Err(KnowledgeError::invalid("path", "must be UTF-8"));
        };
        let source = inner.storage.add_source(collection_id, text.to_owned()).await?;
        for inside in others.iter().filter(|other| Path::new(&other.root).starts_with(&root)) {
            inner.sources.end(inside.id).await;
            inner.storage.absorb_source(inside.id, source.id).await?;
        }
        self.sources_changed();
        let job_id = inner.sources.sync(&source, Scope::Everything).await?;
        Ok(SourceAdded { source, job_id, covered: false })
    }

    /// Every source, in the order they were added.
    pub async fn sources(&self, caller: &Caller) -> Result<Vec<Source>, KnowledgeError> {
        let caller = caller.clone();
        self.blocking(move |inner| Ok(inner.storage.sources(caller.grants())?)).await
    }

    /// The source of that id.
    pub async fn source(&self, caller: &Caller, id: &str) -> Result<Source, KnowledgeError> {
        let (caller, id) = (caller.clone(), id.to_owned());
        self.blocking(move |inner| Ok(inner.storage.source(caller.grants(), &id)?)).await
    }

    /// Forgets a source and removes the documents it brought; how many.
    pub async fn remove_source(&self, caller: &Caller, id: &str) -> Result<u64, KnowledgeError> {
        let source = self.inner.storage.source(caller.grants(), id)?;
        self.inner.sources.end(source.id).await;
        let removed = self.inner.storage.remove_source(source.id).await?;
        self.sources_changed();
        Ok(removed)
    }

    /// Reads every file of a source again; the job's id.
    pub async fn sync_source(&self, caller: &Caller, id: &str) -> Result<String, KnowledgeError> {
        let source = self.inner.storage.source(caller.grants(), id)?;
        self.inner.sources.sync(&source, Scope::Everything).await
    }

    /// The files of a source that are no documents, and why.
    pub async fn skipped_files(
        &self,
        caller: &Caller,
        source: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<SkippedFile>, KnowledgeError> {
        names::limit(limit, LIMIT_MAX)?;
        let (caller, source) = (caller.clone(), source.to_owned());
        let after = cursor.unwrap_or_default().to_owned();
        self.blocking(move |inner| {
            let source = inner.storage.source(caller.grants(), &source)?;
            let mut files = inner.storage.skipped_files(source.id, &after, limit + 1)?;
            let more = files.len() > limit;
            files.truncate(limit);
            let next_cursor = files.last().filter(|_| more).map(|file| file.path.clone());
            let items = files
                .into_iter()
                .filter_map(|file| {
                    let problem = file.problem?;
                    let path = PathBuf::from(file.path);
                    Some(SkippedFile { path, code: problem.code, detail: problem.detail })
                })
                .collect();
            Ok(Page { items, next_cursor })
        })
        .await
    }

    pub(crate) fn sources_changed(&self) {
        if let Some(watcher) = &self.inner.watcher {
            watcher.sources_changed();
        }
    }
}

/// The path without links and relative parts; it must exist.
async fn resolve(path: PathBuf) -> Result<PathBuf, KnowledgeError> {
    let resolved = tokio::task::spawn_blocking(move || {
        let resolved =
            std::fs::canonicalize(&path).map_err(|source| FilesError::Root { path: path.clone(), source })?;
        let metadata =
            std::fs::metadata(&resolved).map_err(|source| FilesError::Root { path: path.clone(), source })?;
        if metadata.is_dir() || metadata.is_file() { Ok(resolved) } else { Err(FilesError::NotIndexable { path }) }
    });
    Ok(resolved.await.map_err(|_| KnowledgeError::ShuttingDown)??)
}
