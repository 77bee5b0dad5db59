//! The vectors themselves.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
};

use anyhow::Context;
use holdfast_embedding::{EmbedError, Embedder, ModelSource, Pooling, Precision, Priority, Purpose};
use holdfast_testkit::tiny_model::{DIMENSIONS, WINDOW, vocabulary};

use crate::{
    reference::{Reference, unit},
    rig::{Rig, TINY, within},
};

async fn embed(embedder: &Embedder, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
    embedder.embed(texts.to_vec(), Purpose::Document, Priority::Bulk).await
}

/// ASCII texts of 0 to 120 words: words of the vocabulary, made-up ones, punctuation. A failure shows the text itself.
fn texts(seed: u64, count: usize) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let vocabulary: Vec<String> =
        vocabulary().into_iter().filter(|piece| piece.chars().all(|c| c.is_ascii_lowercase())).collect();
    let word = |random: &mut fastrand::Rng| match random.u8(0..10) {
        0..7 => vocabulary[random.usize(..vocabulary.len())].clone(),
        7..9 => (0..random.usize(1..15)).map(|_| random.lowercase()).collect(),
        _ => (0..random.usize(1..4)).map(|_| random.char('!'..='/')).collect(),
    };
    (0..count)
        .map(|_| {
            let count = random.usize(0..120);
            let words: Vec<String> = (0..count).map(|_| word(&mut random)).collect();
            words.join(" ")
        })
        .collect()
}

fn assert_close(found: &[f32], expected: &[f64], text: &str) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} instead of {expected} for {text:?}");
    }
}

#[tokio::test]
async fn bytes_give_almost_the_vectors_of_the_reference() -> anyhow::Result<()> {
    let (rig, embedder) = Rig::with_tiny_in(Precision::Int8, |_| Ok(())).await?;
    assert_eq!(embedder.space()?.precision, Some(Precision::Int8));
    let reference = Reference::load(&rig.directory.path().join("source"))?;
    let texts = texts(7, 100);
    for (text, vector) in texts.iter().zip(embed(&embedder, &texts).await?) {
        let expected = reference.vector(text)?;
        let cosine: f64 = vector.iter().zip(&expected).map(|(found, expected)| f64::from(*found) * expected).sum();
        assert!(cosine > 0.999, "{cosine} for {text:?}");
        assert!(cosine < 0.999_999_9, "{cosine} is no product of bytes, for {text:?}");
    }
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn vectors_are_those_of_the_reference() -> anyhow::Result<()> {
    let (rig, embedder) = Rig::with_tiny_in(Precision::F32, |_| Ok(())).await?;
    let reference = Reference::load(&rig.directory.path().join("source"))?;
    let texts = texts(7, 100);
    let vectors = embed(&embedder, &texts).await?;
    for (text, vector) in texts.iter().zip(&vectors) {
        assert_close(vector, &reference.vector(text)?, text);
    }
    let space = embedder.space()?;
    assert_eq!((space.dimensions, space.window, space.pooling), (DIMENSIONS, WINDOW, Some(Pooling::Mean)));
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_first_token_is_the_vector_where_the_model_says_so() -> anyhow::Result<()> {
    let (rig, embedder) = Rig::with_tiny_in(Precision::F32, |folder| {
        fs::write(folder.join("1_Pooling/config.json"), r#"{"pooling_mode_cls_token": true}"#)?;
        let modules = fs::read_to_string(folder.join("modules.json"))?;
        let (kept, _) = modules.split_once(",\n{\"idx\": 2").context("no third stage")?;
        fs::write(folder.join("modules.json"), format!("{kept}]"))?;
        Ok(())
    })
    .await?;
    let space = embedder.space()?;
    assert_eq!((space.pooling, space.normalised), (Some(Pooling::Cls), false));
    let reference = Reference::load(&rig.directory.path().join("source"))?;
    let texts = texts(8, 10);
    for (text, vector) in texts.iter().zip(embed(&embedder, &texts).await?) {
        assert_close(&vector, &reference.rows(text)?[0], text);
    }
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_vector_does_not_depend_on_its_batch_to_the_last_bit() -> anyhow::Result<()> {
    for precision in [Precision::Int8, Precision::F32] {
        let (rig, embedder) = Rig::with_tiny_in(precision, |_| Ok(())).await?;
        let texts = texts(9, 60);
        let together = embed(&embedder, &texts).await?;
        for (text, vector) in texts.iter().zip(&together) {
            let alone = embed(&embedder, std::slice::from_ref(text)).await?;
            assert_eq!(&alone[0], vector, "{precision:?}, {text:?}");
        }
        rig.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn strange_texts_have_vectors_too() -> anyhow::Result<()> {
    let (rig, embedder) = Rig::with_tiny(|_| Ok(())).await?;
    let texts: Vec<String> = [
        "",
        " ",
        "\0",
        "a\0b",
        "\u{301}",
        "\u{feff}",
        "\u{fffd}",
        "[SEP] [CLS]",
        "日本語",
        "한국어",
        "👩‍👩‍👧",
        "\u{202e}rtl",
        "\r\n\t\u{85}\u{b}",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(["x".repeat(1 << 20), "word ".repeat(1 << 18), "日".repeat(1 << 18), "\u{301}".repeat(1 << 18)])
    .collect();
    let vectors = embed(&embedder, &texts).await?;
    for (text, vector) in texts.iter().zip(&vectors) {
        let length: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length} for {:?}", text.chars().take(20).collect::<String>());
    }
    // What NUL, a lone mark or nothing leaves is nothing.
    assert_eq!(vectors[0], vectors[2]);
    assert_eq!(vectors[0], vectors[4]);
    assert!(embed(&embedder, &[]).await?.is_empty());
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn only_the_window_is_read() -> anyhow::Result<()> {
    let (rig, embedder) = Rig::with_tiny(|_| Ok(())).await?;
    let full = vec!["moon"; WINDOW - 2].join(" ");
    let vectors =
        embed(&embedder, &[full.clone(), format!("{full} stone river"), full.replacen("moon ", "", 1)]).await?;
    assert_eq!(vectors[0], vectors[1]);
    assert_ne!(vectors[0], vectors[2]);
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn prefixes_belong_to_the_purpose() -> anyhow::Result<()> {
    let (rig, embedder) = Rig::with_tiny_in(Precision::F32, |folder| {
        let prompts = r#"{"prompts": {"query": "search query: ", "passage": "search document: "}}"#;
        Ok(fs::write(folder.join("config_sentence_transformers.json"), prompts)?)
    })
    .await?;
    let one = |text: &str, purpose| embedder.embed(vec![text.to_owned()], purpose, Priority::Interactive);
    let query = one("river", Purpose::Query).await?;
    let document = one("river", Purpose::Document).await?;
    assert_ne!(query, document);
    assert_eq!(embedder.space()?.query_prefix, "search query: ");
    let reference = Reference::load(&rig.directory.path().join("source"))?;
    assert_close(&query[0], &reference.vector("search query: river")?, "river");
    assert_close(&document[0], &reference.vector("search document: river")?, "river");
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn texts_that_share_words_are_closer() -> anyhow::Result<()> {
    let (rig, embedder) = Rig::with_tiny(|_| Ok(())).await?;
    let texts = ["cat bird fish river", "fish river boat cat", "deploy cloud server config"].map(str::to_owned);
    let vectors = embed(&embedder, &texts).await?;
    let cosine = |a: usize, b: usize| vectors[a].iter().zip(&vectors[b]).map(|(a, b)| a * b).sum::<f32>();
    assert!(cosine(0, 1) > cosine(0, 2) + 0.1, "{} {}", cosine(0, 1), cosine(0, 2));
    rig.stop().await?;
    Ok(())
}

/// Overwrites numbers of a tensor in a weights file.
fn patch(folder: &Path, tensor: &str, at: usize, values: &[f32]) -> anyhow::Result<()> {
    let path = folder.join("model.safetensors");
    let mut size = [0; 8];
    let mut file = File::open(&path)?;
    file.read_exact(&mut size)?;
    let mut header = vec![0; u64::from_le_bytes(size) as usize];
    file.read_exact(&mut header)?;
    let header: serde_json::Value = serde_json::from_slice(&header)?;
    let offset = header[tensor]["data_offsets"][0].as_u64().context("no such tensor")?;
    let mut file = OpenOptions::new().write(true).open(&path)?;
    file.seek(SeekFrom::Start(8 + u64::from_le_bytes(size) + offset + 4 * at as u64))?;
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    file.write_all(&bytes)?;
    Ok(())
}

#[tokio::test]
async fn scores_beyond_all_numbers_make_a_vector_unusable() -> anyhow::Result<()> {
    // The keys alone are absurd: the values they would weigh are finite.
    for precision in [Precision::Int8, Precision::F32] {
        let (rig, embedder) = Rig::with_tiny_in(precision, |folder| {
            patch(folder, "encoder.layer.0.attention.self.key.bias", 0, &[3e38; 8])
        })
        .await?;
        let answer = embed(&embedder, &["river stone".to_owned()]).await;
        assert!(matches!(answer, Err(EmbedError::UnusableVector { index: 0, .. })), "{precision:?}: {answer:?}");
        rig.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_number_that_is_not_finite_never_leaves() -> anyhow::Result<()> {
    let moon = vocabulary().iter().position(|piece| piece == "moon").context("no moon")?;
    let (rig, embedder) =
        Rig::with_tiny(|folder| patch(folder, "embeddings.word_embeddings.weight", moon * DIMENSIONS, &[3e38; 8]))
            .await?;
    let texts = ["river", "moon", "stone"].map(str::to_owned);
    let (bad, good) = tokio::join!(embed(&embedder, &texts), embed(&embedder, &texts[..1]));
    assert!(matches!(bad, Err(EmbedError::UnusableVector { index: 1, .. })), "{bad:?}");
    assert_eq!(good?.len(), 1, "a request in the same batch is not harmed");
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_zero_vector_never_leaves() -> anyhow::Result<()> {
    let (rig, embedder) = Rig::with_tiny(|folder| {
        patch(folder, "encoder.layer.1.output.LayerNorm.weight", 0, &[0.0; DIMENSIONS])?;
        patch(folder, "encoder.layer.1.output.LayerNorm.bias", 0, &[0.0; DIMENSIONS])
    })
    .await?;
    let answer = embed(&embedder, &["river".to_owned()]).await;
    assert!(matches!(answer, Err(EmbedError::UnusableVector { index: 0, .. })), "{answer:?}");
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn models_that_would_be_computed_wrongly_are_refused() -> anyhow::Result<()> {
    let config = |from: &'static str, to: &'static str| (("config.json", from, to), from);
    let cases = [
        config("\"bert\"", "\"roberta\""),
        config("\"gelu\"", "\"relu\""),
        config("\"num_attention_heads\": 4", "\"num_attention_heads\": 5"),
        config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"),
        config("\"intermediate_size\": 64", "\"intermediate_size\": 63"),
        config("\"hidden_size\": 32", "\"hidden_size\": 4611686018427387904"),
        (("1_Pooling/config.json", "mean_tokens", "max_tokens"), "pooling"),
        (("modules.json", "models.Normalize", "models.Dense"), "stages"),
        (("sentence_bert_config.json", "64", "2"), "window"),
        (("tokenizer.json", "\"[CLS]\", \"type_id\"", "\"[SEP\", \"type_id\""), "tokenizer"),
    ];
    let rig = Rig::start(|_| {})?;
    for ((file, from, to), what) in cases {
        let folder = rig.directory.path().join("source");
        holdfast_testkit::tiny_model::write(&folder)?;
        let text = fs::read_to_string(folder.join(file))?;
        assert!(text.contains(from), "{what}");
        fs::write(folder.join(file), text.replacen(from, to, 1))?;
        let pulled = rig.models.pull(TINY, Some(ModelSource::Folder(folder)), |_| {}).await;
        assert!(matches!(pulled, Err(EmbedError::InvalidModel { .. })), "{what}: {pulled:?}");
        assert!(rig.models.local().is_empty(), "{what}");
    }
    rig.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_at_once_each_get_their_own_vectors() -> anyhow::Result<()> {
    let (rig, embedder) = Rig::with_tiny(|_| Ok(())).await?;
    let texts = texts(10, 64);
    let expected = embed(&embedder, &texts).await?;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..32 {
        let (embedder, texts) = (embedder.clone(), texts.clone());
        let priority = if caller % 2 == 0 { Priority::Interactive } else { Priority::Bulk };
        callers.spawn(async move {
            let mine = caller..(caller + 1 + caller % 5).min(texts.len());
            let vectors = embedder.embed(texts[mine.clone()].to_vec(), Purpose::Document, priority).await;
            (mine, vectors)
        });
    }
    while let Some(answer) = within("an answer", callers.join_next()).await? {
        let (mine, vectors) = answer?;
        assert_eq!(vectors?, expected[mine]);
    }
    rig.stop().await?;
    Ok(())
}

#[test]
fn the_reference_scales_to_length_one() {
    assert_eq!(unit(&[3.0, 4.0]), [0.6, 0.8]);
}
