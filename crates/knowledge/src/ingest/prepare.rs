//! A text becomes a document ready to be embedded: split, named, hashed.
//!
//! Pure but for the tokenizer. Names are derived from content: the same text in the same place
//! has the same document id, chunk keys and embedding hashes on every machine.

use std::{collections::HashMap, path::Path};

use holdfast_embedding::{EmbedError, Tokens};
use holdfast_storage::{
    ChunkKey,
    documents::{ChunkWrite, DocumentWrite, EmbedHash},
    jobs::JobItem,
    sources::SourceFile,
};
use serde_json::Value;

use crate::{
    NewDocument,
    split::{self, ContentKind, Split, SplitConfig, SplitError, TokenCounter},
};

/// Tokens of a title that are embedded with every chunk of its document, at most.
const TITLE_TOKENS_MAX: usize = 48;

/// A document on its way in.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    pub public_id: String,
    pub path: Option<String>,
    /// The title it was given, if any.
    pub title: Option<String>,
    /// What it is called where neither it nor its giver says.
    pub fallback_title: String,
    pub content_type: Option<String>,
    pub content_hash: [u8; 32],
    pub metadata: Value,
    pub text: String,
    /// Whether the text is what a former splitting made of the content.
    pub text_is_split: bool,
    pub source_id: Option<i64>,
    pub file: Option<SourceFile>,
    pub job_item: Option<JobItem>,
    pub made_from: Option<i64>,
}

/// A document that only lacks its vectors.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub write: DocumentWrite,
    /// What to embed for each distinct hash, in order of first appearance.
    pub texts: Vec<(EmbedHash, String)>,
}

/// Where prepared documents go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination {
    pub collection_id: i64,
    pub generation_id: i64,
}

impl Incoming {
    /// A document handed over by a caller.
    pub(crate) fn from_request(collection: &str, document: NewDocument, item: JobItem) -> Self {
        let content_hash = content_hash(&document);
        let public_id = match (&document.id, &document.path) {
            (Some(id), _) => id.clone(),
            (None, Some(path)) => document_id(&["path", collection, path]),
            (None, None) => {
                let hash = blake3::Hash::from_bytes(content_hash).to_hex();
                document_id(&["content", collection, &hash])
            }
        };
        let fallback_title =
            document.path.as_deref().and_then(|path| path.rsplit('/').next()).unwrap_or(&public_id).to_owned();
        Self {
            public_id,
            path: document.path,
            title: document.title,
            fallback_title,
            content_type: document.content_type,
            content_hash,
            metadata: document.metadata,
            text: document.content,
            text_is_split: false,
            source_id: None,
            file: None,
            job_item: Some(item),
            made_from: None,
        }
    }
}

/// The id of the document that a file is.
pub(crate) fn file_document_id(collection: &str, path: &str) -> String {
    document_id(&["file", collection, path])
}

fn document_id(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("holdfast document id 2026");
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    format!("doc_{}", &hasher.finalize().to_hex()[..24])
}

fn content_hash(document: &NewDocument) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in [document.title.as_deref(), document.content_type.as_deref()] {
        let part = part.unwrap_or_default();
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    *hasher.update(document.content.as_bytes()).finalize().as_bytes()
}

/// Splits a document and names its parts.
pub(crate) fn prepare(
    incoming: Incoming,
    destination: Destination,
    tokens: &Tokens,
    config: &SplitConfig,
) -> Result<Prepared, SplitError> {
    let counter = Counter(tokens);
    let path = incoming.path.as_deref().map(Path::new);
    let content_type = incoming.content_type.as_deref();
    let detected = ContentKind::detect(path, content_type, &incoming.text);
    // What is stored of an HTML page is the Markdown made of it.
    let kind = match detected {
        ContentKind::Html if incoming.text_is_split => ContentKind::Markdown,
        kind => kind,
    };
    let prefix = title_prefix(&incoming, &counter, TITLE_TOKENS_MAX.min(config.max_tokens / 4))?;
    let config = SplitConfig {
        max_tokens: config.max_tokens - prefix.tokens,
        target_tokens: config.target_tokens.min(config.max_tokens - prefix.tokens),
        ..config.clone()
    };
    let split = split::split(kind, &incoming.text, &counter, &config)?;
    let (chunks, texts) = name_chunks(&incoming.public_id, &prefix.text, &split);
    let title = incoming.title.or_else(|| split.title.clone());
    Ok(Prepared {
        write: DocumentWrite {
            generation_id: destination.generation_id,
            collection_id: destination.collection_id,
            public_id: incoming.public_id,
            source_id: incoming.source_id,
            path: incoming.path,
            title: title.unwrap_or(incoming.fallback_title),
            content_type: incoming.content_type.unwrap_or_else(|| detected.media_type().to_owned()),
            content_hash: incoming.content_hash,
            metadata: incoming.metadata,
            text: split.text,
            chunks,
            vectors: Vec::new(),
            made_from: incoming.made_from,
            file: incoming.file,
            job_item: incoming.job_item,
        },
        texts,
    })
}

/// What is embedded before every chunk of a document.
struct Prefix {
    text: String,
    tokens: usize,
}

/// A title that was given with the document says what its chunks are about, unless the text
/// begins with it anyway. A title that only is the file's name says little, and would have every
/// renamed file embedded again.
fn title_prefix(incoming: &Incoming, counter: &Counter<'_>, tokens_max: usize) -> Result<Prefix, SplitError> {
    let none = Prefix { text: String::new(), tokens: 0 };
    let Some(title) = incoming.title.as_deref().map(str::trim) else { return Ok(none) };
    let text = incoming.text.trim_start().trim_start_matches(['#', ' ']);
    if title.is_empty() || text.starts_with(title) {
        return Ok(none);
    }
    let offsets = counter.token_offsets(title)?;
    let tokens = offsets.len().min(tokens_max);
    let end = match offsets.get(tokens.saturating_sub(1)) {
        Some((_, end)) if tokens < offsets.len() => *end,
        _ => title.len(),
    };
    let title = title.get(..end).unwrap_or(title);
    Ok(Prefix { text: format!("{title}\n"), tokens })
}

fn name_chunks(public_id: &str, prefix: &str, split: &Split) -> (Vec<ChunkWrite>, Vec<(EmbedHash, String)>) {
    let mut occurrences: HashMap<EmbedHash, u32> = HashMap::new();
    let mut chunks = Vec::with_capacity(split.chunks.len());
    let mut texts = Vec::new();
    for chunk in &split.chunks {
        let text = format!("{prefix}{}", split.embedding_text(chunk));
        let embed_hash = embed_hash(&text);
        let occurrence = occurrences.entry(embed_hash).or_default();
        chunks.push(ChunkWrite {
            key: chunk_key(public_id, embed_hash, *occurrence),
            start_byte: chunk.range.start,
            end_byte: chunk.range.end,
            token_count: chunk.token_count,
            heading: chunk.heading.clone(),
            embed_hash,
        });
        if *occurrence == 0 {
            texts.push((embed_hash, text));
        }
        *occurrence += 1;
    }
    (chunks, texts)
}

fn embed_hash(text: &str) -> EmbedHash {
    let mut hash = EmbedHash::default();
    let length = hash.len();
    hash.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..length]);
    hash
}

fn chunk_key(public_id: &str, embed_hash: EmbedHash, occurrence: u32) -> ChunkKey {
    let mut hasher = blake3::Hasher::new_derive_key("holdfast chunk key 2026");
    hasher.update(public_id.as_bytes()).update(&embed_hash).update(&occurrence.to_le_bytes());
    let mut bits = [0; 8];
    bits.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    ChunkKey::new(u64::from_le_bytes(bits))
}

/// The model's tokenizer as the splitter wants it.
struct Counter<'a>(&'a Tokens);

impl TokenCounter for Counter<'_> {
    fn token_offsets(&self, text: &str) -> Result<Vec<(usize, usize)>, SplitError> {
        self.0
            .offsets(text)
            .map_err(|source: EmbedError| SplitError::Tokenize { text_bytes: text.len(), source: source.into() })
    }
}

/// Chunk sizes for a model: a model with a smaller window gets smaller chunks.
pub(crate) fn split_config(configured: &SplitConfig, tokens: &Tokens) -> SplitConfig {
    // Two of the window's tokens are the special ones around every text.
    let room = tokens.window().saturating_sub(2);
    let max_tokens = configured.max_tokens.min(room);
    SplitConfig {
        max_tokens,
        target_tokens: configured.target_tokens.min(max_tokens),
        overlap_tokens: configured.overlap_tokens.min(max_tokens / 8),
        max_heading_tokens: configured.max_heading_tokens.min(max_tokens / 4),
    }
}
