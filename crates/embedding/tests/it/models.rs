//! Folders, names and damaged files.

use std::{fs, os::unix::fs::MetadataExt, os::unix::fs::PermissionsExt};

use anyhow::{Context, ensure};
use holdfast_embedding::{EmbedError, Installation, ModelSource, ModelState, Priority, Purpose};
use holdfast_testkit::tiny_model;

use crate::rig::{Rig, TINY, within};

async fn pull_source(rig: &Rig, name: &str) -> Result<holdfast_embedding::ModelInfo, EmbedError> {
    let folder = rig.directory.path().join("source");
    rig.models.pull(name, Some(ModelSource::Folder(folder)), |_| {}).await
}

#[tokio::test]
async fn a_model_is_imported_listed_verified_and_used() -> anyhow::Result<()> {
    let (rig, embedder) = Rig::with_tiny(|_| Ok(())).await?;
    let local = rig.models.local();
    assert_eq!(local.len(), 1);
    assert_eq!((local[0].name.as_str(), &local[0].installation), (TINY, &Installation::Complete));
    assert_eq!(rig.models.verify(TINY)?, local[0]);
    assert_eq!(embedder.space()?.revision, local[0].revision);
    assert_eq!(embedder.state(), ModelState::Ready);
    let mode = |path: &str| Ok::<u32, std::io::Error>(fs::metadata(rig.file(TINY, path))?.permissions().mode() & 0o777);
    assert_eq!((mode("")?, mode("1_Pooling")?, mode("model.safetensors")?), (0o700, 0o700, 0o600));
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn unknown_and_unsafe_names_are_told_apart() -> anyhow::Result<()> {
    let (rig, _) = Rig::with_tiny(|_| Ok(())).await?;
    let unknown = rig.models.get("no-such-model");
    assert!(matches!(&unknown, Err(EmbedError::UnknownModel { known, .. }) if known == &[TINY]), "{unknown:?}");
    assert!(matches!(rig.models.pull("no-such-model", None, |_| {}).await, Err(EmbedError::UnknownModel { .. })));
    for name in ["", "..", "../source", "a/b", "\0", ".lock"] {
        assert!(matches!(rig.models.get(name), Err(EmbedError::InvalidName { .. })), "{name:?}");
        assert!(matches!(rig.models.verify(name), Err(EmbedError::InvalidName { .. })), "{name:?}");
        assert!(matches!(pull_source(&rig, name).await, Err(EmbedError::InvalidName { .. })), "{name:?}");
    }
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_damaged_file_is_found_never_loaded_and_repaired_alone() -> anyhow::Result<()> {
    let (rig, _) = Rig::with_tiny(|_| Ok(())).await?;
    let weights = rig.file(TINY, "model.safetensors");
    // One bit, in the middle, with the time put back: neither size nor time gives it away.
    let modified = fs::metadata(&weights)?.modified()?;
    let mut bytes = fs::read(&weights)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&weights, &bytes)?;
    fs::File::options().write(true).open(&weights)?.set_modified(modified)?;
    assert!(matches!(rig.models.verify(TINY), Err(EmbedError::CorruptFile { .. })));

    let directory = rig.stop().await?;
    let rig = Rig::start_in(directory, |_| {})?;
    let embedder = rig.models.get(TINY)?;
    let mut state = embedder.watch();
    within("the load to fail", state.wait_for(|state| matches!(state, ModelState::Failed { .. }))).await??;
    let refused = embedder.embed(vec!["river".to_owned()], Purpose::Query, Priority::Interactive).await;
    assert!(matches!(refused, Err(EmbedError::NotReady { .. })), "{refused:?}");

    let untouched = fs::metadata(rig.file(TINY, "tokenizer.json"))?.ino();
    pull_source(&rig, TINY).await?;
    within("the repaired model", embedder.ready()).await??;
    assert_eq!(fs::metadata(rig.file(TINY, "tokenizer.json"))?.ino(), untouched);
    rig.models.verify(TINY)?;
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn missing_and_cut_off_files_are_listed() -> anyhow::Result<()> {
    let (rig, _) = Rig::with_tiny(|_| Ok(())).await?;
    fs::remove_file(rig.file(TINY, "modules.json"))?;
    fs::File::options().write(true).open(rig.file(TINY, "tokenizer.json"))?.set_len(10)?;
    let Installation::Incomplete { files } = &rig.models.local()[0].installation else { anyhow::bail!("complete") };
    assert_eq!(files, &["tokenizer.json", "modules.json"]);
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_manifest_that_names_other_files_is_refused() -> anyhow::Result<()> {
    let (rig, _) = Rig::with_tiny(|_| Ok(())).await?;
    let path = rig.file(TINY, "manifest.json");
    let manifest = fs::read_to_string(&path)?;
    for broken in [manifest.replace("modules.json", "../../source/config.json"), "{".to_owned(), String::new()] {
        fs::write(&path, broken)?;
        assert!(matches!(rig.models.verify(TINY), Err(EmbedError::CorruptFile { .. })));
        assert!(rig.models.local().is_empty());
    }
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_folder_without_a_model_is_refused() -> anyhow::Result<()> {
    let rig = Rig::start(|_| {})?;
    assert!(matches!(pull_source(&rig, TINY).await, Err(EmbedError::InvalidModel { .. })), "no folder");
    tiny_model::write(&rig.directory.path().join("source"))?;
    fs::write(rig.directory.path().join("source/model.safetensors"), [0xff; 64])?;
    assert!(matches!(pull_source(&rig, TINY).await, Err(EmbedError::CorruptFile { .. })), "garbage");
    assert!(rig.models.local().is_empty());
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn shutting_down_refuses_and_ends_everything() -> anyhow::Result<()> {
    let (rig, embedder) = Rig::with_tiny(|_| Ok(())).await?;
    rig.shutdown();
    let directory = rig.stop().await?;
    let refused = embedder.embed(vec!["river".to_owned()], Purpose::Query, Priority::Interactive).await;
    assert!(matches!(refused, Err(EmbedError::ShutDown)), "{refused:?}");
    drop(directory);
    Ok(())
}

#[tokio::test]
async fn a_request_larger_than_the_queue_is_refused_for_good() -> anyhow::Result<()> {
    let rig = Rig::start(|config| config.max_queued_texts = 3)?;
    tiny_model::write(&rig.directory.path().join("source"))?;
    pull_source(&rig, TINY).await?;
    let embedder = rig.models.get(TINY)?;
    within("the model", embedder.ready()).await??;
    let texts = |count: usize| vec!["river".to_owned(); count];
    let refused = embedder.embed(texts(4), Purpose::Document, Priority::Bulk).await;
    assert!(matches!(refused, Err(EmbedError::TooManyTexts { count: 4, limit: 3 })), "{refused:?}");
    assert_eq!(embedder.embed(texts(3), Purpose::Document, Priority::Bulk).await?.len(), 3);
    rig.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_would_not_fit_is_refused_with_the_arithmetic() -> anyhow::Result<()> {
    let (rig, embedder) = Rig::with_tiny(|_| Ok(())).await?;
    let (_, tiny_bytes) = rig.models.asked(TINY).context("it was asked for")?;
    ensure!((100_000..2_000_000).contains(&tiny_bytes), "{tiny_bytes}");
    let source = rig.directory.path().join("source");
    rig.models.pull("second", Some(ModelSource::Folder(source.clone())), |_| {}).await?;
    drop(embedder);
    let directory = rig.stop().await?;
    let rig = Rig::start_in(directory, |config| config.max_memory_bytes = tiny_bytes * 3 / 2)?;
    within("the model to be ready", rig.models.get(TINY)?.ready()).await??;
    let refused = rig.models.get("second").err().context("it was loaded")?;
    let EmbedError::NoRoom { needed, limit, taken, .. } = &refused else { anyhow::bail!("{refused:?}") };
    ensure!((*needed, *limit) == (tiny_bytes, tiny_bytes * 3 / 2), "{refused:?}");
    ensure!(*taken == [(TINY.to_owned(), tiny_bytes)], "{taken:?}");
    ensure!(refused.to_string().contains("of 2 MB for models 1 MB are taken: tiny 1 MB"), "{refused}");
    ensure!(refused.hint().is_some_and(|hint| hint.contains("models.max_memory_mb")));
    rig.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_for_at_once_a_model_answers_everybody() -> anyhow::Result<()> {
    let (rig, _) = Rig::with_tiny(|_| Ok(())).await?;
    let source = rig.directory.path().join("source");
    rig.models.pull("second", Some(ModelSource::Folder(source)), |_| {}).await?;
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..16 {
        let models = rig.models.clone();
        asking.spawn(async move {
            let embedder = models.get("second")?;
            embedder.ready().await?;
            embedder.embed(vec![format!("moon {}", number % 4)], Purpose::Query, Priority::Interactive).await
        });
    }
    let vectors = within("all of them", asking.join_all()).await?;
    ensure!(vectors.len() == 16);
    for vector in vectors {
        vector?;
    }
    rig.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_cut_off_under_a_running_model_change_nothing_until_it_is_loaded_again() -> anyhow::Result<()> {
    let (rig, embedder) = Rig::with_tiny(|_| Ok(())).await?;
    let embed = async |text: &str| embedder.embed(texts_of(text), Purpose::Document, Priority::Bulk).await;
    let before = embed("a river").await?;
    fs::OpenOptions::new().write(true).open(rig.file(TINY, "model.safetensors"))?.set_len(1_000)?;
    fs::write(rig.file(TINY, "tokenizer.json"), "{")?;
    ensure!(embed("a river").await? == before);
    let models = rig.models.clone();
    let verified = tokio::task::spawn_blocking(move || models.verify(TINY)).await?;
    ensure!(matches!(verified, Err(EmbedError::CorruptFile { .. })), "{verified:?}");
    rig.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_after_the_other_fits_a_queue_of_one() -> anyhow::Result<()> {
    let directory = Rig::with_tiny(|_| Ok(())).await?.0.stop().await?;
    let rig = Rig::start_in(directory, |config| config.max_queued_texts = 1)?;
    let embedder = rig.models.get(TINY)?;
    within("the model to be ready", embedder.ready()).await??;
    for number in 0..500 {
        for priority in [Priority::Interactive, Priority::Bulk] {
            embedder.embed(texts_of(&format!("moon {number}")), Purpose::Document, priority).await?;
        }
    }
    rig.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_cannot_be_tokenized_fails_its_own_request() -> anyhow::Result<()> {
    // Whole words only, and nothing to stand for an unknown one.
    let (rig, embedder) = Rig::with_tiny(|folder| {
        let path = folder.join("tokenizer.json");
        let mut tokenizer: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
        let vocabulary = tokenizer["model"]["vocab"].take();
        tokenizer["model"] = serde_json::json!({"type": "WordLevel", "vocab": vocabulary, "unk_token": "none"});
        Ok(fs::write(path, serde_json::to_vec(&tokenizer)?)?)
    })
    .await?;
    let embed = |text: &str| embedder.embed(texts_of(text), Purpose::Document, Priority::Interactive);
    let (good, bad, other) = tokio::join!(embed("moon river"), embed("moon xylophone"), embed("river"));
    ensure!(good?.len() == 1 && other?.len() == 1);
    ensure!(matches!(bad, Err(EmbedError::Encoder { .. })), "{bad:?}");
    rig.stop().await?;
    Ok(())
}

fn texts_of(text: &str) -> Vec<String> {
    vec![text.to_owned()]
}
