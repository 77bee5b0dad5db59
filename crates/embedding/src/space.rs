//! The embedding space: everything that decides which vectors may be compared with each other.
//!
//! Owns the description and its fingerprint; it does not store or compare vectors.

use serde::{Deserialize, Serialize};

/// What a vector's numbers mean. Two vectors are comparable exactly when their spaces are equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddingSpace {
    /// Name of the model.
    pub model: String,
    /// SHA-256 of the weights file, in hexadecimal.
    pub revision: String,
    /// SHA-256 of the tokenizer file, in hexadecimal.
    pub tokenizer: String,
    /// Tokens of a text that are read, the two special ones included; the rest is cut off.
    pub window: usize,
    /// The arithmetic of the encoder; unknown of a remote one.
    pub precision: Option<Precision>,
    /// Numbers in a vector.
    pub dimensions: usize,
    /// How token vectors become one; unknown of a remote model.
    pub pooling: Option<Pooling>,
    /// Whether vectors have length 1.
    pub normalised: bool,
    /// Put before a query's text.
    pub query_prefix: String,
    /// Put before a document's text.
    pub document_prefix: String,
}

/// The arithmetic of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floating point throughout.
    F32,
    /// The linear layers multiply bytes: weights with a scale an output, activations with a scale and a zero a token.
    Int8,
}

/// How the vectors of a text's tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean over all tokens, the special ones included.
    Mean,
    /// The vector of the first token.
    Cls,
}

impl EmbeddingSpace {
    /// A name of the space: BLAKE3 over all its fields, 64 hexadecimal digits. Equal spaces have equal fingerprints.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("holdfast 2026 embedding space, version 1");
        let EmbeddingSpace {
            model,
            revision,
            tokenizer,
            window,
            precision,
            dimensions,
            pooling,
            normalised,
            query_prefix,
            document_prefix,
        } = self;
        let precision = match precision {
            None => "remote",
            Some(Precision::F32) => "f32",
            // Inputs are mixed before they become bytes; the vectors of a build that did not are another space.
            Some(Precision::Int8) => "int8 mixed",
        };
        let pooling = match pooling {
            None => "remote",
            Some(Pooling::Mean) => "mean",
            Some(Pooling::Cls) => "cls",
        };
        let fields = [
            model.as_str(),
            revision,
            tokenizer,
            &window.to_string(),
            precision,
            &dimensions.to_string(),
            pooling,
            if *normalised { "normalised" } else { "raw" },
            query_prefix,
            document_prefix,
        ];
        for field in fields {
            // The length in front keeps two neighbouring fields from being read as one.
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> EmbeddingSpace {
        EmbeddingSpace {
            model: "m".to_owned(),
            revision: "r".to_owned(),
            tokenizer: "t".to_owned(),
            window: 256,
            precision: Some(Precision::F32),
            dimensions: 384,
            pooling: Some(Pooling::Mean),
            normalised: true,
            query_prefix: String::new(),
            document_prefix: String::new(),
        }
    }

    #[test]
    fn every_field_changes_the_fingerprint() {
        let mut spaces = vec![space(); 13];
        spaces[1].model = "n".to_owned();
        spaces[2].revision = "s".to_owned();
        spaces[3].tokenizer = "u".to_owned();
        spaces[4].window = 255;
        spaces[5].dimensions = 383;
        spaces[6].pooling = Some(Pooling::Cls);
        spaces[7].normalised = false;
        spaces[8].query_prefix = "x".to_owned();
        spaces[9].document_prefix = "x".to_owned();
        spaces[10].precision = Some(Precision::Int8);
        spaces[11].precision = None;
        spaces[12].pooling = None;
        let mut prints: Vec<String> = spaces.iter().map(EmbeddingSpace::fingerprint).collect();
        prints.sort_unstable();
        prints.dedup();
        assert_eq!(prints.len(), 13);
    }

    #[test]
    fn the_fingerprint_is_pinned_because_it_is_stored() {
        let first = space().fingerprint();
        assert_eq!(first, "cb0b305be0bf379a0ad77aadf4c273f9c0f321f344f5fe9fdf6591e23949887c");
        let json = serde_json::to_string(&space()).unwrap();
        let back: EmbeddingSpace = serde_json::from_str(&json).unwrap();
        assert_eq!(back.fingerprint(), first);
    }
}
