//! A tiny BERT model with made-up weights, for tests that need an embedding model but not a good one.
//!
//! Two layers, 32 numbers a vector, a vocabulary of a few hundred pieces; the same bytes every time. Word vectors weigh
//! more than what the layers add, so texts that share words come out closer than texts that do not. It writes files and
//! knows nothing of how they are read.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// Numbers in a vector.
pub const DIMENSIONS: usize = 32;
/// Tokens read of a text, the two special ones included.
pub const WINDOW: usize = 64;
/// The same of the model that reads longer ones.
const WIDE_WINDOW: usize = 256;
/// Layers of the network.
pub const LAYERS: usize = 2;
/// Attention heads.
pub const HEADS: usize = 4;
/// Width of the inner layer.
pub const INTERMEDIATE: usize = 64;
/// Positions the weights have, more than the window.
pub const POSITIONS: usize = 80;

/// Whole words of the vocabulary; everything else is spelled.
const WORDS: &str = "a about account add after all also an and answer api app are as at attribute backup be because \
    bird boat book branch brew bridge build but by cache can car cat change channel chunk city clean cloud code \
    collection color command commit compile config container cook core create crypto data database day declare default \
    delete deploy disk do document dog down each embed enable engine error event every example fail fast field file \
    find fire first fish fix flake flower food for forest from function garden get git go grow guide has have health \
    heart help home host house how if in index install is it item java key lake language large light like line link \
    linux list load local lock log long look machine make manage many map market memory mode model money moon \
    mountain music name need network new night nix no nod note number of old on one open option or order other out \
    package page paint part path people pin place plan plant play port power process program protein proxy python \
    query queue question rain read release remove river road rollback rule run rust safe science score script sea \
    search see server service session set shell ship short show sky small snow so song source space speed star start \
    state stone stop store story street string sun switch system table task team test text that the their then they \
    this time to token tool train tree true type up update upgrade use user value vector version view voice walk was \
    water web what when where which who why will wind window with word work world write you your";

/// Writes the model's files into a folder, which is created, laid out as on the model hub.
pub fn write(folder: &Path) -> anyhow::Result<()> {
    write_seeded(folder, 1)
}

/// As [`write`], with weights that depend on a seed: another seed is another embedding space.
pub fn write_seeded(folder: &Path, seed: u64) -> anyhow::Result<()> {
    write_shaped(folder, seed, WINDOW, POSITIONS)
}

/// As [`write`], for texts as long as those that a remote model is probed with.
pub fn write_wide(folder: &Path) -> anyhow::Result<()> {
    write_shaped(folder, 1, WIDE_WINDOW, WIDE_WINDOW)
}

fn write_shaped(folder: &Path, seed: u64, window: usize, positions: usize) -> anyhow::Result<()> {
    let vocabulary = vocabulary();
    fs::create_dir_all(folder.join("1_Pooling"))?;
    fs::write(folder.join("model.safetensors"), weights(vocabulary.len(), seed, positions)?)?;
    fs::write(folder.join("tokenizer.json"), tokenizer(&vocabulary)?)?;
    fs::write(
        folder.join("config.json"),
        format!(
            r#"{{"model_type": "bert", "hidden_act": "gelu", "hidden_size": {DIMENSIONS},
"num_attention_heads": {HEADS}, "num_hidden_layers": {LAYERS}, "intermediate_size": {INTERMEDIATE},
"vocab_size": {}, "max_position_embeddings": {positions}, "type_vocab_size": 2, "layer_norm_eps": 1e-12}}
"#,
            vocabulary.len()
        ),
    )?;
    fs::write(folder.join("sentence_bert_config.json"), format!("{{\"max_seq_length\": {window}}}\n"))?;
    fs::write(
        folder.join("modules.json"),
        r#"[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
{"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
{"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]
"#,
    )?;
    fs::write(
        folder.join("1_Pooling/config.json"),
        format!("{{\"word_embedding_dimension\": {DIMENSIONS}, \"pooling_mode_mean_tokens\": true}}\n"),
    )?;
    Ok(())
}

/// Writes the model where the program looks for it: as the folder of that name in a models directory.
pub fn write_into(models_dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let folder = models_dir.join(name);
    write(&folder)?;
    Ok(folder)
}

/// The vocabulary, in the order of token numbers: special tokens, characters, continuations, words.
pub fn vocabulary() -> Vec<String> {
    let mut pieces: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned).to_vec();
    let lower = |c: &char| !c.is_ascii_uppercase();
    pieces.extend(('!'..='~').filter(lower).map(String::from));
    pieces.extend(('!'..='~').filter(lower).filter(char::is_ascii_alphanumeric).map(|c| format!("##{c}")));
    pieces.extend(["##ing", "##ed", "##er", "##ly", "##ion"].map(str::to_owned));
    pieces.extend(WORDS.split_whitespace().filter(|word| word.len() > 1).map(str::to_owned));
    pieces
}

/// A tokenizer that, like the real model's, asks for padding and truncation that the encoder must switch off.
fn tokenizer(vocabulary: &[String]) -> anyhow::Result<String> {
    let mut vocab = String::new();
    for (id, piece) in vocabulary.iter().enumerate() {
        let comma = if id == 0 { "" } else { ", " };
        let escaped = piece.replace('\\', "\\\\").replace('"', "\\\"");
        write!(vocab, "{comma}\"{escaped}\": {id}")?;
    }
    let special = |id: usize| {
        format!(
            r#"{{"id": {id}, "content": "{}", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}}"#,
            vocabulary[id]
        )
    };
    let added: Vec<String> = (0..5).map(special).collect();
    Ok(format!(
        r###"{{"version": "1.0",
"truncation": {{"max_length": 16, "strategy": "LongestFirst", "stride": 0}},
"padding": {{"strategy": {{"Fixed": 16}}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}},
"added_tokens": [{}],
"normalizer": {{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true}},
"pre_tokenizer": {{"type": "BertPreTokenizer"}},
"post_processor": {{"type": "TemplateProcessing",
"single": [{{"SpecialToken": {{"id": "[CLS]", "type_id": 0}}}}, {{"Sequence": {{"id": "A", "type_id": 0}}}}, {{"SpecialToken": {{"id": "[SEP]", "type_id": 0}}}}],
"pair": [{{"Sequence": {{"id": "A", "type_id": 0}}}}, {{"Sequence": {{"id": "B", "type_id": 1}}}}],
"special_tokens": {{"[CLS]": {{"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}}, "[SEP]": {{"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}}}}},
"decoder": {{"type": "WordPiece", "prefix": "##", "cleanup": true}},
"model": {{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": {{{vocab}}}}}}}
"###,
        added.join(", ")
    ))
}

/// The tensors of a BERT in the safetensors format: length of the header, header, numbers.
fn weights(vocabulary: usize, seed: u64, positions: usize) -> anyhow::Result<Vec<u8>> {
    let mut tensors = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![vocabulary, DIMENSIONS], 1.0),
        ("embeddings.position_embeddings.weight".to_owned(), vec![positions, DIMENSIONS], 0.02),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, DIMENSIONS], 0.02),
    ];
    norm(&mut tensors, "embeddings.LayerNorm");
    for layer in 0..LAYERS {
        let part = |name: &str| format!("encoder.layer.{layer}.{name}");
        for name in ["query", "key", "value"] {
            linear(&mut tensors, &part(&format!("attention.self.{name}")), DIMENSIONS, DIMENSIONS);
        }
        linear(&mut tensors, &part("attention.output.dense"), DIMENSIONS, DIMENSIONS);
        norm(&mut tensors, &part("attention.output.LayerNorm"));
        linear(&mut tensors, &part("intermediate.dense"), DIMENSIONS, INTERMEDIATE);
        linear(&mut tensors, &part("output.dense"), INTERMEDIATE, DIMENSIONS);
        norm(&mut tensors, &part("output.LayerNorm"));
    }
    let mut random = SplitMix(seed);
    let mut header = String::from("{\"__metadata__\": {\"format\": \"pt\"}");
    let mut data = Vec::new();
    for (name, shape, scale) in tensors {
        let start = data.len();
        let gain = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
        for _ in 0..shape.iter().product::<usize>() {
            data.extend((gain + scale * random.next()).to_le_bytes());
        }
        write!(
            header,
            ", \"{name}\": {{\"dtype\": \"F32\", \"shape\": {shape:?}, \"data_offsets\": [{start}, {}]}}",
            data.len()
        )?;
    }
    header.push('}');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.into_bytes());
    file.extend(data);
    Ok(file)
}

type Tensors = Vec<(String, Vec<usize>, f32)>;

fn linear(tensors: &mut Tensors, name: &str, from: usize, to: usize) {
    tensors.push((format!("{name}.weight"), vec![to, from], 0.1));
    tensors.push((format!("{name}.bias"), vec![to], 0.01));
}

fn norm(tensors: &mut Tensors, name: &str) {
    tensors.push((format!("{name}.weight"), vec![DIMENSIONS], 0.1));
    tensors.push((format!("{name}.bias"), vec![DIMENSIONS], 0.01));
}

/// Numbers in -1..1 from Steele, Lea and Flood's SplitMix64 (2014), which is the same everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The upper 24 bits are exact in an f32.
        (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}
