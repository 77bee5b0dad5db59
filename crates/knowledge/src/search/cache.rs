//! What is kept of searches, bounded in bytes: answers, rankings for their next pages, and the
//! sets that filters select.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use holdfast_storage::{Caller, vectors::AllowedSet};
use moka::{policy::EvictionPolicy, sync::Cache};

use super::{Place, Ranking};
use crate::{SearchRequest, SearchResponse};

/// How long a ranking is kept for its next page.
const RANKING_KEPT: Duration = Duration::from_secs(15 * 60);
/// Bytes of a result beside its texts, about.
const RESULT_BYTES: usize = 256;

/// Names a search: what was asked, by whom, and what the indexes held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Digest {
    question: [u8; 16],
    state: [u8; 8],
}

/// A filter at a position of a generation's indexes.
pub(super) type FilterName = (i64, (u64, u64), String);

impl Digest {
    /// Everything that can change the answer, except the cursor.
    pub(super) fn of(caller: &Caller, request: &SearchRequest, places: &[Place], learned: u64) -> Self {
        let mut question = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            question.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        };
        part(caller.id().as_bytes());
        part(request.query.as_bytes());
        part(&[request.mode as u8, request.group as u8, request.explain as u8, request.learned as u8]);
        part(&request.limit.to_le_bytes());
        part(&request.min_score.map_or([0xff; 4], f32::to_le_bytes));
        part(request.filter.as_ref().map(|f| f.canonical()).unwrap_or_default().as_bytes());
        let mut state = blake3::Hasher::new();
        state.update(&learned.to_le_bytes());
        for place in places {
            part(place.name.as_bytes());
            part(place.model.as_bytes());
            if let Some(indexes) = &place.indexes {
                let (vectors, lexical) = indexes.version();
                let generation = indexes.generation.id.to_le_bytes();
                state.update(&generation);
                state.update(&vectors.to_le_bytes()).update(&lexical.to_le_bytes());
            }
        }
        Self { question: first(&question), state: first(&state) }
    }

    /// Whether both ask the same, whatever the indexes held.
    pub(super) fn same_question(&self, other: &Self) -> bool {
        self.question == other.question
    }
}

fn first<const N: usize>(hasher: &blake3::Hasher) -> [u8; N] {
    let mut bytes = [0; N];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.question.iter().chain(&self.state) {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Digest {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.as_bytes().as_chunks::<2>();
        if !digits.1.is_empty() || digits.0.len() != 24 {
            return Err(());
        }
        let mut bytes = [0; 24];
        for (byte, pair) in bytes.iter_mut().zip(digits.0) {
            let pair = std::str::from_utf8(pair).map_err(|_| ())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ())?;
        }
        let mut digest = Self { question: [0; 16], state: [0; 8] };
        digest.question.copy_from_slice(&bytes[..16]);
        digest.state.copy_from_slice(&bytes[16..]);
        Ok(digest)
    }
}

/// An answer by what it depends on: the search and the indexes, the page, and what SQL held.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct AnswerName {
    pub digest: Digest,
    pub cursor: Option<String>,
    /// [`holdfast_storage::projection::Projections::changes`] before the first look: a write is
    /// seen in SQL before the indexes follow it.
    pub changes: u64,
}

/// The caches of searching; cloning is shallow.
#[derive(Clone)]
pub(super) struct Caches {
    answers: Cache<AnswerName, Arc<SearchResponse>>,
    rankings: Cache<Digest, Arc<Ranking>>,
    allowed: Cache<FilterName, Arc<AllowedSet>>,
}

impl Caches {
    /// Half of `bytes` for answers, a quarter each for rankings and filters. What is new is always kept, and what was
    /// used longest ago is dropped for it: a cursor that was just given out must work.
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            answers: Cache::builder()
                .eviction_policy(EvictionPolicy::lru())
                .max_capacity(bytes / 2)
                .weigher(|_, response: &Arc<SearchResponse>| weight(size_of_answer(response)))
                .build(),
            rankings: Cache::builder()
                .eviction_policy(EvictionPolicy::lru())
                .max_capacity(bytes / 4)
                .time_to_live(RANKING_KEPT)
                .weigher(|_, ranking: &Arc<Ranking>| weight(ranking.entries.len() * size_of::<(usize, super::Fused)>()))
                .build(),
            allowed: Cache::builder()
                .eviction_policy(EvictionPolicy::lru())
                .max_capacity(bytes / 4)
                .weigher(|_, set: &Arc<AllowedSet>| weight(set.len() * 24))
                .build(),
        }
    }

    pub(super) fn answer(&self, name: &AnswerName) -> Option<Arc<SearchResponse>> {
        self.answers.get(name)
    }

    pub(super) fn keep_answer(&self, name: AnswerName, response: &SearchResponse) {
        self.answers.insert(name, Arc::new(response.clone()));
    }

    pub(super) fn ranking(&self, digest: &Digest) -> Option<Arc<Ranking>> {
        self.rankings.get(digest)
    }

    pub(super) fn keep_ranking(&self, digest: Digest, ranking: &Arc<Ranking>) {
        // A degraded ranking would outlast its cause.
        if ranking.degraded.is_none() {
            self.rankings.insert(digest, Arc::clone(ranking));
        }
    }

    pub(super) fn allowed(&self, name: &FilterName) -> Option<Arc<AllowedSet>> {
        self.allowed.get(name)
    }

    pub(super) fn keep_allowed(&self, name: FilterName, set: &Arc<AllowedSet>) {
        self.allowed.insert(name, Arc::clone(set));
    }

    pub(super) fn bytes(&self) -> u64 {
        self.answers.weighted_size() + self.rankings.weighted_size() + self.allowed.weighted_size()
    }
}

fn size_of_answer(response: &SearchResponse) -> usize {
    response
        .results
        .iter()
        .map(|result| {
            RESULT_BYTES
                + result.snippet.len()
                + result.title.len()
                + result.heading.len()
                + result.path.as_ref().map_or(0, String::len)
                + result.metadata.to_string().len()
        })
        .sum::<usize>()
        + RESULT_BYTES
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
