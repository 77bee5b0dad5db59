//! Folders: what of them is in, what is passed over and why, and how changes are followed.

use std::{fs, os::unix::fs::symlink};

use anyhow::{Context, Result, ensure};
use holdfast_knowledge::Watch;

use crate::house::House;

fn titles(house: &[holdfast_storage::documents::Document]) -> Vec<String> {
    let mut titles: Vec<String> = house.iter().map(|document| document.title.clone()).collect();
    titles.sort();
    titles
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_watched_folder_are_followed() -> Result<()> {
    let house = House::new(Watch::Yes).await?;
    house.write("a.md", "# Apples\n\nAbout orchards.")?;
    house.index().await?;
    house.until_found("orchards", &["Apples"]).await?;
    house.write("sub/b.md", "# Bees\n\nThey like orchards.")?;
    house.until_found("orchards", &["Apples", "Bees"]).await?;
    house.write("a.md", "# Apples\n\nAbout cider.")?;
    house.until_found("orchards", &["Bees"]).await?;
    house.until_found("cider", &["Apples"]).await?;
    fs::rename(house.path("sub"), house.path("moved"))?;
    let moved = |path: &str| path.ends_with("moved/b.md");
    loop {
        let documents = house.documents().await?;
        let paths: Vec<&str> = documents.iter().filter_map(|document| document.path.as_deref()).collect();
        if paths.len() == 2 && paths.iter().any(|path| moved(path)) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    fs::remove_file(house.path("a.md"))?;
    house.until_found("cider", &[]).await?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_again_changes_nothing() -> Result<()> {
    let house = House::new(Watch::No).await?;
    for n in 0..30 {
        house.write(&format!("{n}.txt"), format!("text number {n}"))?;
    }
    let source = house.index().await?;
    let before = house.documents().await?;
    let (_, _, generation) = house.storage.active_generation(&holdfast_storage::Grants::All, "default")?;
    let indexes = house.storage.projections().indexes(generation.context("none")?.id).context("none")?;
    let version = indexes.version();
    let job = house.knowledge.sync_source(&house.caller, &source).await?;
    house.finished(&job).await?;
    ensure!(house.documents().await? == before && indexes.version() == version);
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_nobody_looked_is_found_at_the_next_start() -> Result<()> {
    let house = House::new(Watch::No).await?;
    for name in ["kept", "edited", "removed", "renamed"] {
        house.write(&format!("{name}.md"), format!("# {name}\n\nThe file is {name}."))?;
    }
    house.index().await?;
    let (kept, edited, removed) = (house.path("kept.md"), house.path("edited.md"), house.path("removed.md"));
    let (renamed, other) = (house.path("renamed.md"), house.path("other.md"));
    let house = house.restart(Watch::No).await?;
    fs::write(edited, "# edited\n\nThe file is changed.")?;
    fs::remove_file(removed)?;
    fs::rename(renamed, &other)?;
    let house = house.restart(Watch::No).await?;
    let jobs = house.knowledge.jobs(&house.caller, None, 10).await?.items;
    house.finished(&jobs.first().context("the start makes a job")?.id).await?;
    let documents = house.documents().await?;
    let mut paths: Vec<&str> = documents.iter().filter_map(|document| document.path.as_deref()).collect();
    paths.sort_unstable();
    ensure!(paths.len() == 3 && paths.contains(&other.to_string_lossy().as_ref()), "{paths:?}");
    ensure!(paths.contains(&kept.to_string_lossy().as_ref()));
    ensure!(house.found("changed").await? == ["edited"]);
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_gone_does_not_empty_the_index() -> Result<()> {
    let house = House::new(Watch::No).await?;
    house.write("a.md", "# Anchor\n\nIt stays.")?;
    let source = house.index().await?;
    let root = house.path("").canonicalize()?;
    let away = root.with_file_name("away");
    fs::rename(&root, &away)?;
    let job = house.knowledge.sync_source(&house.caller, &source).await?;
    ensure!(house.finished(&job).await.is_err(), "a missing root was taken for an empty one");
    ensure!(house.found("anchor").await? == ["Anchor"]);
    let seen = house.knowledge.source(&house.caller, &source).await?;
    ensure!(seen.last_error.is_some());
    fs::rename(&away, &root)?;
    let job = house.knowledge.sync_source(&house.caller, &source).await?;
    house.finished(&job).await?;
    ensure!(house.knowledge.source(&house.caller, &source).await?.last_error.is_none());
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_files_are_reported_and_hold_up_nobody() -> Result<()> {
    let house = House::new(Watch::No).await?;
    house.write("good.md", "# Good\n\nReadable.")?;
    house.write("utf16.txt", "\u{feff}wide words".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>())?;
    house.write("bom.txt", b"\xef\xbb\xbf")?;
    house.write("deep.json", "[".repeat(100_000))?;
    house.write("binary.bin", [0, 159, 146, 150, 0, 1, 2, 3].repeat(100))?;
    house.write("broken.txt", [b"fine until here ".as_slice(), &[0xff, 0xfe, 0x81, 0x8d], b" and on"].concat())?;
    fs::File::create(house.path("huge.txt"))?.set_len(2 << 30)?;
    symlink("/etc", house.path("outside"))?;
    symlink(house.path(""), house.path("loop"))?;
    symlink("/dev/zero", house.path("zero"))?;
    let fifo = std::ffi::CString::new(house.path("fifo").to_string_lossy().as_bytes())?;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        fifo.as_c_str(),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )?;
    let source = house.index().await?;
    let indexed = titles(&house.documents().await?);
    for wanted in ["Good", "utf16.txt", "deep.json"] {
        ensure!(indexed.iter().any(|title| title == wanted), "{wanted} is not among {indexed:?}");
    }
    ensure!(house.found("wide words").await? == ["utf16.txt"]);
    let skipped = house.knowledge.skipped_files(&house.caller, &source, None, 100).await?.items;
    let code = |name: &str| {
        let found = skipped.iter().find(|file| file.path.ends_with(name));
        found.map(|file| file.code.as_str()).with_context(|| format!("{name} is not reported: {skipped:?}"))
    };
    ensure!(code("binary.bin")? == "binary" && code("huge.txt")? == "too_large");
    for name in ["outside", "zero", "fifo"] {
        ensure!(!code(name)?.is_empty());
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn many_equal_files_are_each_found() -> Result<()> {
    let house = House::new(Watch::No).await?;
    for n in 0..600 {
        house.write(&format!("{}/{n}.txt", n % 7), "the same few words")?;
    }
    house.index().await?;
    ensure!(house.documents().await?.len() == 600);
    let collection = house.knowledge.collection(&house.caller, "default").await?;
    ensure!(collection.chunks == 600, "{collection:?}");
    house.close().await
}
