//! Measures how fast a drop folder is read into the event log, durably.
//!
//! ```text
//! cargo run --release -p holdfast-learning --example drop_folder -- [DIRECTORY] [megabytes=N]
//! ```
//!
//! Works in a folder of its own in the directory (the system's temporary one by default) and removes it afterwards. For
//! lines of about 100, 700 and 4 000 bytes, in one file and in twenty, everything is written first and then read in one pass.

#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::{
    error::Error,
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    time::Instant,
};

use holdfast_learning::{DropFolder, Settings};
use holdfast_storage::EventLog;
use tokio::runtime::Runtime;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = arguments.iter().find_map(|argument| argument.strip_prefix("megabytes="));
    let megabytes: usize = given.map(str::parse).transpose()?.unwrap_or(200);
    let folder = match arguments.iter().find(|argument| !argument.contains('=')) {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let runtime = Runtime::new()?;
    for (line_bytes, files) in [(100, 1), (700, 1), (700, 20), (4_000, 1)] {
        let path = folder.path().join(format!("{line_bytes}-{files}"));
        fs::create_dir_all(path.join("drop"))?;
        runtime.block_on(measure(&path, line_bytes, files, megabytes * 1_000_000))?;
        fs::remove_dir_all(&path)?;
    }
    Ok(())
}

async fn measure(path: &Path, line_bytes: usize, files: usize, bytes: usize) -> Outcome<()> {
    let drop = path.join("drop");
    let lines = bytes / line_bytes / files;
    let mut written = 0;
    for number in 0..files {
        let mut file = BufWriter::new(File::create(drop.join(format!("{number}.jsonl")))?);
        for line in 0..lines {
            let begin = format!(
                "{{\"kind\":\"tool_run\",\"at\":1700000000000,\"session\":\"s{}\",\"body\":{{\"line\":{line},\"t\":\"",
                line % 50
            );
            let padding = "lorem ipsum ".repeat(line_bytes.saturating_sub(begin.len() + 4) / 12 + 1);
            let text = format!("{begin}{}\"}}}}\n", &padding[..line_bytes.saturating_sub(begin.len() + 4)]);
            file.write_all(text.as_bytes())?;
            written += text.len();
        }
        file.flush()?;
    }
    let log = EventLog::open_at(&path.join("events.db"))?;
    let folder = DropFolder::new(&drop, log.clone(), Settings::default());
    let began = Instant::now();
    let taken = folder.pass().await?;
    let took = began.elapsed().as_secs_f64();
    println!(
        "lines of {line_bytes} bytes in {files} files: {:.1} MB/s, {:.0} durable events/s ({} events)",
        written as f64 / took / 1e6,
        taken.events as f64 / took,
        taken.events,
    );
    let began = Instant::now();
    let idle = 200;
    for _ in 0..idle {
        folder.pass().await?;
    }
    println!("  a look at it when nothing has come: {:.0} us", began.elapsed().as_secs_f64() * 1e6 / f64::from(idle));
    tokio::task::block_in_place(|| log.close());
    Ok(())
}
