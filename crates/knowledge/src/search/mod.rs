//! Search: from a question to the chunks that answer it.
//!
//! Each collection is asked by meaning and by words, the two lists are fused into one ranking,
//! and the ranking is read from the top: what is no longer live in SQL, does not pass the filter
//! or stands for a document already shown is passed over. A ranking is kept for its pages, an
//! answer for its repetition; both are named by everything that can change them, the indexes'
//! positions included, so a write makes them unreachable and time removes them.

mod cache;
mod cursor;
pub(crate) mod fuse;
mod page;
mod prior;
mod snippet;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast_embedding::{EmbedError, Models, Priority, Purpose};
use holdfast_storage::{Caller, ChunkKey, Filter, Scored, Storage, projection::Indexes, vectors::AllowedSet};

use self::{
    cache::{AnswerName, Caches, Digest},
    cursor::Cursor,
    fuse::{Fused, List},
    page::Page,
    prior::Priors,
};
use crate::{Explain, KnowledgeError, Learned, Mode, SearchRequest, SearchResponse, SearchResult, names};

/// Chunks taken from each list at first.
const DEPTH_FIRST: usize = 100;
/// Chunks taken from each list when the first do not suffice; paging ends within these.
const DEPTH_MOST: usize = 1_000;
/// Collections searched at once, at most.
const COLLECTIONS_MAX: usize = 32;
/// Results of a page, at most.
const LIMIT_MAX: usize = 100;
/// How long the query's embedding may take.
const EMBED_WITHIN: Duration = Duration::from_secs(10);

/// The handle to searching; cloning is shallow.
#[derive(Clone)]
pub(crate) struct Searcher {
    storage: Storage,
    models: Models,
    caches: Caches,
    default_collection: Arc<str>,
    priors: Priors,
}

/// A collection as this search sees it.
struct Place {
    name: String,
    model: String,
    /// None before the first document.
    indexes: Option<Arc<Indexes>>,
}

/// A search with everything it needs, to be run where blocking is allowed.
struct Prepared {
    request: SearchRequest,
    places: Vec<Place>,
    /// The query's vector by model.
    vectors: BTreeMap<String, Vec<f32>>,
    degraded: Option<String>,
    digest: Digest,
}

/// Whether an answer may be given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worth {
    Keeping,
    Once,
}

/// What was found for a search, to be read page by page.
pub(crate) struct Ranking {
    /// `(place, chunk)`, best first.
    entries: Vec<(usize, Fused)>,
    /// Whether there is no more to take.
    exhausted: bool,
    degraded: Option<String>,
}

impl Searcher {
    pub(crate) fn new(storage: Storage, models: Models, default_collection: &str, cache_bytes: u64) -> Self {
        let caches = Caches::new(cache_bytes);
        Self { storage, models, caches, default_collection: default_collection.into(), priors: Priors::default() }
    }

    /// Bytes that kept answers and rankings take, about.
    pub(crate) fn cache_bytes(&self) -> u64 {
        self.caches.bytes()
    }

    /// See [`crate::Knowledge::rank_by`].
    pub(crate) fn rank_by(&self, boosts: Vec<(String, f32)>) {
        self.priors.set(boosts);
    }

    /// See [`crate::Knowledge::search`].
    pub(crate) async fn search(
        &self,
        caller: &Caller,
        request: SearchRequest,
    ) -> Result<SearchResponse, KnowledgeError> {
        let began = Instant::now();
        validate(&request)?;
        let changes = self.storage.projections().changes();
        let places = self.places(caller, &request)?;
        let digest = Digest::of(caller, &request, &places, self.priors.version());
        let name = AnswerName { digest, cursor: request.cursor.clone(), changes };
        if let Some(kept) = self.caches.answer(&name) {
            metrics::counter!("holdfast_search_cache_total", "outcome" => "hit").increment(1);
            let mut response = kept.as_ref().clone();
            response.took = began.elapsed();
            response.cached = true;
            return Ok(response);
        }
        metrics::counter!("holdfast_search_cache_total", "outcome" => "miss").increment(1);
        let prepared = self.prepare(request, places, digest).await?;
        let (this, span) = (self.clone(), tracing::Span::current());
        let found = tokio::task::spawn_blocking(move || span.in_scope(|| this.run(&prepared)));
        let (mut response, worth) = found.await.map_err(|_| KnowledgeError::ShuttingDown)??;
        if worth == Worth::Keeping {
            self.caches.keep_answer(name, &response);
        }
        if response.degraded.is_some() {
            metrics::counter!("holdfast_search_degraded_total").increment(1);
        }
        response.took = began.elapsed();
        Ok(response)
    }

    /// The collections that are asked, and none that the caller may not see.
    fn places(&self, caller: &Caller, request: &SearchRequest) -> Result<Vec<Place>, KnowledgeError> {
        let default;
        let asked = if request.collections.is_empty() {
            default = self.default_places(caller)?;
            &default
        } else {
            &request.collections[..]
        };
        let names: BTreeSet<&String> = asked.iter().collect();
        if names.len() > COLLECTIONS_MAX {
            return Err(KnowledgeError::invalid(
                "collections",
                format!("must be at most {COLLECTIONS_MAX}, are {}", names.len()),
            ));
        }
        names
            .into_iter()
            .map(|name| {
                names::collection(name)?;
                let (_, model, generation) = self.storage.active_generation(caller.grants(), name)?;
                let indexes = generation.and_then(|g| self.storage.projections().indexes(g.id));
                Ok(Place { name: name.clone(), model, indexes })
            })
            .collect()
    }

    /// Where is searched when nobody says: in the default collection, and in what was learned, as far as the caller may
    /// see it.
    fn default_places(&self, caller: &Caller) -> Result<Vec<String>, KnowledgeError> {
        let mut places = vec![self.default_collection.to_string()];
        places.extend(self.storage.learned_collections(caller.grants(), COLLECTIONS_MAX - 1)?);
        Ok(places)
    }

    /// Embeds the query for every model that the collections need.
    async fn prepare(
        &self,
        request: SearchRequest,
        places: Vec<Place>,
        digest: Digest,
    ) -> Result<Prepared, KnowledgeError> {
        let mut prepared = Prepared { request, places, vectors: BTreeMap::new(), degraded: None, digest };
        if prepared.request.mode == Mode::Lexical {
            return Ok(prepared);
        }
        let models: BTreeSet<String> =
            prepared.places.iter().filter(|place| place.indexes.is_some()).map(|place| place.model.clone()).collect();
        for model in models {
            match self.embed(&model, &prepared.request.query).await {
                Ok((vector, fingerprint)) => {
                    refuse_other_spaces(&prepared.places, &model, &fingerprint)?;
                    prepared.vectors.insert(model, vector);
                }
                // Words can still be searched for; that the answer lacks the rest is said.
                Err(error) if prepared.request.mode == Mode::Hybrid && is_passing(&error) => {
                    prepared.degraded = Some(format!("searched by words only: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(prepared)
    }

    async fn embed(&self, model: &str, query: &str) -> Result<(Vec<f32>, String), KnowledgeError> {
        let embedder = self.models.get(model)?;
        let fingerprint = embedder.space()?.fingerprint();
        let request = embedder.embed(vec![query.to_owned()], Purpose::Query, Priority::Interactive);
        let vectors = tokio::time::timeout(EMBED_WITHIN, request)
            .await
            .map_err(|_| KnowledgeError::Deadline { deadline: EMBED_WITHIN })??;
        let vector = vectors
            .into_iter()
            .next()
            .ok_or(KnowledgeError::Embedding(EmbedError::Overloaded { queued: 0, limit: 0 }))?;
        Ok((vector, fingerprint))
    }

    /// Searches with a vector that was made elsewhere, without any cache; for measurements of
    /// what comes after the embedding.
    pub(crate) fn search_with_vector(
        &self,
        caller: &Caller,
        request: SearchRequest,
        vector: Vec<f32>,
    ) -> Result<SearchResponse, KnowledgeError> {
        let began = Instant::now();
        validate(&request)?;
        let places = self.places(caller, &request)?;
        let digest = Digest::of(caller, &request, &places, self.priors.version());
        let vectors = places.iter().map(|place| (place.model.clone(), vector.clone())).collect();
        let prepared = Prepared { request, places, vectors, degraded: None, digest };
        let ranking = self.rank(&prepared, DEPTH_FIRST)?;
        let page = page::read(&self.storage, &prepared.view(), &ranking, 0)?;
        let mut response = self.respond(&prepared, page, None, ranking.degraded)?;
        response.took = began.elapsed();
        Ok(response)
    }

    /// The part that blocks: indexes and SQL.
    fn run(&self, prepared: &Prepared) -> Result<(SearchResponse, Worth), KnowledgeError> {
        let cursor = prepared.request.cursor.as_deref().map(Cursor::parse).transpose()?;
        let from = cursor.as_ref().map_or(0, |cursor| cursor.position);
        let digest = cursor.as_ref().map_or(prepared.digest, |cursor| cursor.digest);
        let mut ranking = match self.caches.ranking(&digest) {
            Some(kept) if digest.same_question(&prepared.digest) => kept,
            _ if digest == prepared.digest => {
                let ranking = Arc::new(self.rank(prepared, DEPTH_FIRST)?);
                self.caches.keep_ranking(digest, &ranking);
                ranking
            }
            _ => return Err(KnowledgeError::CursorExpired),
        };
        let mut page = page::read(&self.storage, &prepared.view(), &ranking, from)?;
        if !page.full && !ranking.exhausted {
            if digest != prepared.digest {
                // What lies deeper was never looked at, and the index is another by now.
                return Err(KnowledgeError::CursorExpired);
            }
            ranking = Arc::new(self.deepen(prepared, &ranking)?);
            self.caches.keep_ranking(digest, &ranking);
            page = page::read(&self.storage, &prepared.view(), &ranking, from)?;
        }
        let next =
            (page.more || !ranking.exhausted && page.full).then(|| Cursor { digest, position: page.end }.to_string());
        let response = self.respond(prepared, page, next, ranking.degraded.clone())?;
        // What is degraded would outlast its cause, and a page of an older ranking its ranking.
        let worth = if response.degraded.is_none() && digest == prepared.digest { Worth::Keeping } else { Worth::Once };
        Ok((response, worth))
    }

    /// The ranking again from longer lists. What was there keeps its place, since pages of it
    /// may have been given out.
    fn deepen(&self, prepared: &Prepared, known: &Ranking) -> Result<Ranking, KnowledgeError> {
        let mut deeper = self.rank(prepared, DEPTH_MOST)?;
        let given: BTreeSet<(usize, ChunkKey)> =
            known.entries.iter().map(|(place, fused)| (*place, fused.key)).collect();
        let mut entries = known.entries.clone();
        deeper.entries.retain(|(place, fused)| !given.contains(&(*place, fused.key)));
        entries.append(&mut deeper.entries);
        // Beyond this depth nobody pages.
        Ok(Ranking { entries, exhausted: true, ..deeper })
    }

    fn rank(&self, prepared: &Prepared, depth: usize) -> Result<Ranking, KnowledgeError> {
        let mut lists = Vec::with_capacity(prepared.places.len());
        let mut exhausted = true;
        let mut degraded = prepared.degraded.clone();
        for place in &prepared.places {
            let lists_of = match &place.indexes {
                Some(indexes) => self.lists(prepared, place, indexes, depth)?,
                None => Lists::default(),
            };
            exhausted &= lists_of.dense.ranked.len() < depth && lists_of.lexical.ranked.len() < depth;
            degraded = degraded.or(lists_of.degraded);
            lists.push(match prepared.request.mode {
                Mode::Dense => fuse::dense_only(&lists_of.dense.ranked),
                Mode::Lexical => fuse::lexical_only(&lists_of.lexical.ranked),
                Mode::Hybrid => {
                    let mut fused = fuse::hybrid(&lists_of.dense, &lists_of.lexical);
                    if let (Some(indexes), Learned::Used) = (&place.indexes, prepared.request.learned) {
                        fuse::boost(&mut fused, &*self.priors.by_chunk(&self.storage, indexes)?);
                    }
                    fused
                }
            });
        }
        let entries = match lists.len() {
            1 => lists.pop().unwrap_or_default().into_iter().map(|fused| (0, fused)).collect(),
            _ => fuse::across(&lists),
        };
        Ok(Ranking { entries, exhausted, degraded })
    }

    /// What each index says for one collection.
    fn lists(
        &self,
        prepared: &Prepared,
        place: &Place,
        indexes: &Indexes,
        depth: usize,
    ) -> Result<Lists, KnowledgeError> {
        let request = &prepared.request;
        let filter = request.filter.as_ref();
        let mut lists = Lists::default();
        if request.mode != Mode::Dense {
            let words = indexes.lexical().query(&request.query, depth, filter);
            match words {
                Ok(list) => lists.lexical.ranked = list,
                Err(error) if request.mode == Mode::Hybrid => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the lexical index failed; answering by meaning only"
                    );
                    lists.degraded = Some("searched by meaning only: the lexical index failed".to_owned());
                }
                Err(error) => return Err(KnowledgeError::Storage(error.into())),
            }
        }
        if let Some(vector) = prepared.vectors.get(&place.model) {
            let allowed = filter.map(|filter| self.allowed(indexes, filter)).transpose()?;
            let mut list = indexes
                .vectors()
                .nearest(vector, depth, allowed.as_deref())
                .map_err(|error| KnowledgeError::Storage(error.into()))?;
            if let Some(least) = request.min_score {
                list.retain(|scored| scored.score >= least);
            }
            lists.dense.ranked = list;
            if request.mode == Mode::Hybrid {
                complete(&mut lists, indexes, &request.query, vector)?;
            }
        }
        Ok(lists)
    }

    /// The chunks that pass a filter, kept while the index stays as it is.
    fn allowed(&self, indexes: &Indexes, filter: &Filter) -> Result<Arc<AllowedSet>, KnowledgeError> {
        let name = (indexes.generation.id, indexes.version(), filter.canonical());
        if let Some(kept) = self.caches.allowed(&name) {
            return Ok(kept);
        }
        let keys = indexes.lexical().matching(filter).map_err(|error| KnowledgeError::Storage(error.into()))?;
        let set = Arc::new(AllowedSet::new(keys));
        self.caches.keep_allowed(name, &set);
        Ok(set)
    }

    fn respond(
        &self,
        prepared: &Prepared,
        page: Page,
        next_cursor: Option<String>,
        degraded: Option<String>,
    ) -> Result<SearchResponse, KnowledgeError> {
        let highlighter = holdfast_storage::lexical::Highlighter::new(&prepared.request.query);
        let explain = prepared.request.explain;
        let results = page
            .found
            .into_iter()
            .map(|(place, fused, hit)| SearchResult {
                snippet: snippet::snippet(&hit.text, &highlighter.matches(&hit.text)),
                document_id: hit.document_id,
                chunk_id: hit.key,
                collection: prepared.places[place].name.clone(),
                title: hit.title,
                path: hit.path,
                heading: hit.heading,
                score: fused.score,
                metadata: hit.metadata,
                explanation: (explain == Explain::Yes).then_some(fused.standing),
            })
            .collect();
        Ok(SearchResponse { results, next_cursor, took: Duration::ZERO, degraded, cached: false })
    }
}

#[derive(Default)]
struct Lists {
    dense: List,
    lexical: List,
    degraded: Option<String>,
}

/// Asks each index about what only the other has found: a chunk that is missing from a list is
/// not one without a score.
fn complete(lists: &mut Lists, indexes: &Indexes, query: &str, vector: &[f32]) -> Result<(), KnowledgeError> {
    let of_words = lacking(&lists.dense.ranked, &lists.lexical.ranked);
    if !of_words.is_empty() {
        let asked = AllowedSet::new(of_words);
        let scored = indexes.vectors().nearest(vector, asked.len(), Some(&asked));
        lists.dense.besides = scored.map_err(|error| KnowledgeError::Storage(error.into()))?;
    }
    let of_meaning = lacking(&lists.lexical.ranked, &lists.dense.ranked);
    if lists.degraded.is_none() && !of_meaning.is_empty() {
        let scored = indexes.lexical().scores(query, &of_meaning);
        lists.lexical.besides = scored.map_err(|error| KnowledgeError::Storage(error.into()))?;
    }
    Ok(())
}

/// The chunks of `other` that are not in `list`.
fn lacking(list: &[Scored], other: &[Scored]) -> Vec<ChunkKey> {
    let held: HashSet<ChunkKey> = list.iter().map(|scored| scored.key).collect();
    other.iter().map(|scored| scored.key).filter(|key| !held.contains(key)).collect()
}

impl Prepared {
    fn view(&self) -> page::View<'_> {
        page::View {
            generations: self
                .places
                .iter()
                .map(|place| place.indexes.as_ref().map_or(0, |indexes| indexes.generation.id))
                .collect(),
            limit: self.request.limit,
            group: self.request.group,
            filter: self.request.filter.as_ref(),
        }
    }
}

fn validate(request: &SearchRequest) -> Result<(), KnowledgeError> {
    names::query(&request.query)?;
    names::limit(request.limit, LIMIT_MAX)?;
    match request.min_score {
        Some(_) if request.mode != Mode::Dense => {
            Err(KnowledgeError::invalid("min_score", "works with mode \"dense\" only"))
        }
        Some(score) if !(-1.0..=1.0).contains(&score) => {
            Err(KnowledgeError::invalid("min_score", format!("is a cosine similarity: -1 to 1, not {score}")))
        }
        _ => Ok(()),
    }
}

/// A query's vector means nothing in another space than the one it was made in.
fn refuse_other_spaces(places: &[Place], model: &str, fingerprint: &str) -> Result<(), KnowledgeError> {
    for place in places.iter().filter(|place| place.model == model) {
        if let Some(indexes) = &place.indexes
            && indexes.generation.space.fingerprint != fingerprint
        {
            return Err(KnowledgeError::OtherSpace { collection: place.name.clone(), model: model.to_owned() });
        }
    }
    Ok(())
}

/// Whether a failure to embed passes by itself, so that an answer by words alone is better than
/// none.
fn is_passing(error: &KnowledgeError) -> bool {
    matches!(
        error,
        KnowledgeError::ModelNotReady { .. }
            | KnowledgeError::Overloaded
            | KnowledgeError::Deadline { .. }
            | KnowledgeError::Embedding(_)
    )
}

/// For the fuzzer: a cursor as it is written, if it is one.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn check_cursor(text: &str) -> Option<String> {
    cursor::Cursor::parse(text).ok().map(|cursor| cursor.to_string())
}
