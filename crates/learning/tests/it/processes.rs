//! Writers append under an exclusive lock, some to a file that was renamed under them; files are renamed, truncated, and
//! copied and truncated meanwhile; the reader is killed now and then. In the end every line of every life of every file is
//! accounted for: taken once, or gone before it was read, and then behind everything that was taken of that life. What
//! was told as a gap is compared with that, to the byte.
//!
//! `HOLDFAST_SCALE=full` has 32 processes write 50 000 lines each.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, BufWriter, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use holdfast_learning::{DropFolder, GAP_FOUND, Settings, Taken};
use holdfast_storage::{EventLog, events::EventFilter};
use rustix::{
    fs::{FlockOperation, flock},
    time::{ClockId, clock_gettime},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Tells a child what to do; unset in an ordinary run.
const JOB: &str = "HOLDFAST_TEST_DROP_FOLDER";
/// Asks for the full size.
const SCALE: &str = "HOLDFAST_SCALE";

struct Scale {
    writers: u64,
    lines: u64,
    /// Lines that a writer writes at a word of the test.
    lines_at_a_word: u64,
    files: u64,
}

const UNIT: Scale = Scale { writers: 4, lines: 2_000, lines_at_a_word: 50, files: 2 };
const FULL: Scale = Scale { writers: 32, lines: 50_000, lines_at_a_word: 250, files: 4 };

#[expect(clippy::disallowed_methods, reason = "a size of the test, and what the test tells its own children")]
fn given(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[expect(clippy::disallowed_methods, reason = "the test's own children; killed or awaited by it")]
fn child(job: &Value) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "processes::child_of_the_test", "--nocapture"]).env(JOB, job.to_string());
    Ok(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
}

#[test]
fn child_of_the_test() -> Result<()> {
    let Some(job) = given(JOB) else { return Ok(()) };
    let job: Value = serde_json::from_str(&job)?;
    let house = House(PathBuf::from(job["house"].as_str().context("no house")?));
    match job["role"].as_str() {
        Some("reader") => read(&house),
        _ => write(&house, &job),
    }
}

/// The folders of the test.
#[derive(Clone)]
struct House(PathBuf);

impl House {
    fn drop(&self) -> PathBuf {
        self.0.join("drop")
    }

    fn file(&self, number: u64) -> PathBuf {
        self.drop().join(format!("{number}.jsonl"))
    }

    /// What a writer noted.
    fn book(&self, writer: u64) -> PathBuf {
        self.0.join(format!("writer-{writer}"))
    }

    fn log(&self) -> Result<EventLog> {
        Ok(EventLog::open_at(&self.0.join("events.db"))?)
    }

    fn folder(&self, log: &EventLog) -> DropFolder {
        DropFolder::new(self.drop(), log.clone(), Settings::default())
    }
}

/// Reads until it is killed, and says so after each pass.
fn read(house: &House) -> Result<()> {
    let folder = house.folder(&house.log()?);
    Runtime::new()?.block_on(async {
        loop {
            let told = match folder.pass().await {
                Ok(taken) => format!("took {} .\n", taken.events),
                Err(error) => format!("failed {error} .\n"),
            };
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(told.as_bytes())?;
            stdout.flush()?;
        }
    })
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

fn open(path: &Path) -> Result<File> {
    Ok(OpenOptions::new().append(true).create(true).open(path)?)
}

/// Writes so many lines, some at each word, and notes of each where it stands.
fn write(house: &House, job: &Value) -> Result<()> {
    let number = |name: &str| job[name].as_u64().context("a number is missing");
    let (writer, count, at_a_word) = (number("writer")?, number("lines")?, number("lines_at_a_word")?);
    let mut random = fastrand::Rng::with_seed(number("seed")? ^ writer);
    let path = house.file(number("file")?);
    let mut book = BufWriter::new(File::create(house.book(writer))?);
    let mut file = open(&path)?;
    let (mut written, mut allowed) = (0, 0);
    while written < count {
        if written >= allowed {
            std::io::stdin().read_exact(&mut [0])?;
            allowed += at_a_word;
        }
        flock(&file, FlockOperation::LockExclusive)?;
        let inode = file.metadata()?.ino();
        // Not every time: a program that logs notices a rotation late.
        let is_rotated = || fs::metadata(&path).map_or(true, |now| now.ino() != inode);
        if random.u8(..) < 40 && is_rotated() {
            flock(&file, FlockOperation::Unlock)?;
            file = open(&path)?;
            continue;
        }
        let at = file.metadata()?.len();
        let mut text = String::new();
        for _ in 0..random.u64(1..8).min(count - written) {
            let padding = "x".repeat(random.usize(..300));
            let line = json!({ "kind": "line_written", "body": { "writer": writer, "line": written, "x": padding } });
            let line = format!("{line}\n");
            writeln!(book, "{} {inode} {} {} {written}", now_ns(), at + text.len() as u64, line.len())?;
            text += &line;
            written += 1;
        }
        // Half of it may be there for a while.
        let (half, rest) = text.as_bytes().split_at(random.usize(..text.len()));
        file.write_all(half)?;
        for _ in 0..random.u32(..100_000) * u32::from(random.u8(..) < 20) {
            std::hint::spin_loop();
        }
        file.write_all(rest)?;
        flock(&file, FlockOperation::Unlock)?;
    }
    book.flush()?;
    Ok(())
}

/// A truncation: when, of which inode, how large it was, and whether it was copied before.
#[derive(Clone, Copy, Debug)]
struct Truncation {
    at_ns: u64,
    inode: u64,
    size: u64,
    is_copied: bool,
}

/// A gap that must be told exactly so: nobody was reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Gap {
    inode: u64,
    read_to: u64,
    seen: u64,
    bytes: u64,
}

struct Writer {
    process: Child,
    words: ChildStdin,
}

struct Reader {
    process: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

struct Test {
    house: House,
    random: fastrand::Rng,
    scale: &'static Scale,
    rotations: u64,
    renames: u64,
    truncations: Vec<Truncation>,
    certain: HashSet<Gap>,
    kills: u64,
}

impl Test {
    fn start_reader(&self) -> Result<Reader> {
        let mut process = child(&json!({ "role": "reader", "house": self.house.0 }))?;
        let lines = BufReader::new(process.stdout.take().context("no output")?).lines();
        Ok(Reader { process, lines })
    }

    /// Renames a file, truncates it, or copies and truncates it.
    fn rotate(&mut self) -> Result<()> {
        let path = self.house.file(self.random.u64(..self.scale.files));
        let Ok(file) = OpenOptions::new().write(true).open(&path) else { return Ok(()) };
        self.rotations += 1;
        let rotated = PathBuf::from(format!("{}.{}", path.display(), self.rotations));
        let what = self.random.u8(0..4);
        if what < 2 {
            self.renames += 1;
            return Ok(fs::rename(&path, rotated)?);
        }
        flock(&file, FlockOperation::LockExclusive)?;
        if what == 2 {
            fs::copy(&path, rotated)?;
        }
        self.truncate(&file, what == 2)?;
        Ok(())
    }

    /// Truncates a file whose lock is held.
    fn truncate(&mut self, file: &File, is_copied: bool) -> Result<()> {
        let metadata = file.metadata()?;
        file.set_len(0)?;
        self.truncations.push(Truncation { at_ns: now_ns(), inode: metadata.ino(), size: metadata.len(), is_copied });
        Ok(())
    }

    /// Kills the reader at any moment, and perhaps truncates a file of which it had seen more than it took: that is known
    /// exactly, since nobody looks until the next one starts.
    fn kill(&mut self, reader: Reader) -> Result<Reader> {
        let Reader { mut process, .. } = reader;
        for _ in 0..self.random.u32(..2_000_000) {
            std::hint::spin_loop();
        }
        process.kill()?;
        process.wait()?;
        self.kills += 1;
        let log = self.house.log()?;
        for known in self.house.folder(&log).files()? {
            let path = self.house.drop().join(&known.name);
            let is_base = (0..self.scale.files).any(|number| self.house.file(number) == path);
            // What may stand in a copy is no gap for certain.
            let is_copied = self.truncations.iter().any(|end| end.inode == known.inode && end.is_copied);
            if !is_base || is_copied || known.is_copy || known.position >= known.seen || self.random.bool() {
                continue;
            }
            let Ok(file) = OpenOptions::new().write(true).open(&path) else { continue };
            flock(&file, FlockOperation::LockExclusive)?;
            if file.metadata()?.ino() == known.inode {
                self.truncate(&file, false)?;
                let bytes = known.seen - known.position;
                self.certain.insert(Gap { inode: known.inode, read_to: known.position, seen: known.seen, bytes });
            }
        }
        log.close();
        self.start_reader()
    }

    /// Has everything happen at once until all lines are written.
    fn play(&mut self, seed: u64) -> Result<()> {
        let mut writers = Vec::new();
        for writer in 0..self.scale.writers {
            let mut process = child(&json!({
                "role": "writer", "house": self.house.0, "writer": writer, "file": writer % self.scale.files,
                "lines": self.scale.lines, "lines_at_a_word": self.scale.lines_at_a_word, "seed": seed,
            }))?;
            let words = process.stdin.take().context("no input")?;
            writers.push(Writer { process, words });
        }
        let mut reader = self.start_reader()?;
        let rounds = self.scale.lines.div_ceil(self.scale.lines_at_a_word);
        for round in 0..rounds {
            for writer in &mut writers {
                writer.words.write_all(b".")?;
            }
            for _ in 0..self.random.usize(1..4) {
                self.pass(&mut reader)?;
                if self.random.u8(..) < 100 {
                    self.rotate()?;
                }
            }
            // Once at least.
            if round == rounds / 2 || self.random.u8(..) < 25 {
                reader = self.kill(reader)?;
            }
        }
        for mut writer in writers {
            drop(writer.words);
            ensure!(writer.process.wait()?.success(), "a writer failed");
        }
        reader.process.kill()?;
        reader.process.wait()?;
        Ok(())
    }

    /// Waits for the end of a pass.
    fn pass(&self, reader: &mut Reader) -> Result<()> {
        loop {
            let line = reader.lines.next().context("the reader ended")??;
            if line.starts_with("failed") {
                bail!("{line}");
            }
            if line.starts_with("took") {
                return Ok(());
            }
        }
    }
}

/// A line as its writer noted it.
#[derive(Clone, Copy, Debug)]
struct Noted {
    at_ns: u64,
    offset: u64,
    length: u64,
    /// Whose it is, and which.
    line: (u64, u64),
}

/// What the writers noted, by inode.
fn books(house: &House, scale: &Scale) -> Result<BTreeMap<u64, Vec<Noted>>> {
    let mut noted = BTreeMap::<u64, Vec<Noted>>::new();
    for writer in 0..scale.writers {
        let text = fs::read_to_string(house.book(writer))?;
        ensure!(text.lines().count() as u64 == scale.lines, "a writer's book is not whole");
        for line in text.lines() {
            let numbers = line.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
            let [at_ns, inode, offset, length, number] = numbers[..] else { bail!("a bad line in a book") };
            noted.entry(inode).or_default().push(Noted { at_ns, offset, length, line: (writer, number) });
        }
    }
    Ok(noted)
}

/// One life of a file that a truncation ended.
#[derive(Clone, Copy, Debug)]
struct Life {
    inode: u64,
    /// Where the first line begins that was not taken.
    read_to: u64,
    size: u64,
}

/// Lines, by who wrote them and their number.
type Lines = HashSet<(u64, u64)>;

/// What the log has: lines, and gaps.
fn taken(log: &EventLog) -> Result<(Lines, Vec<Gap>)> {
    let (mut lines, mut gaps, mut position) = (HashSet::new(), Vec::new(), 0);
    loop {
        let page = log.read_after(position, 1_000, &EventFilter::default())?;
        if page.events.is_empty() {
            return Ok((lines, gaps));
        }
        position = page.through;
        for event in page.events {
            let body: Value = serde_json::from_slice(&event.body)?;
            let number = |field: &str| body[field].as_u64().context("a number is missing");
            if &*event.kind == GAP_FOUND {
                ensure!(body["cause"] == "truncated", "{body}");
                let (read_to, seen) = (number("read_to")?, number("seen")?);
                gaps.push(Gap { inode: number("inode")?, read_to, seen, bytes: number("bytes")? });
            } else {
                let line = (number("writer")?, number("line")?);
                ensure!(lines.insert(line), "{line:?} was taken twice");
            }
        }
    }
}

/// Accounts for every line, and returns the lives that lost some.
fn account(
    noted: BTreeMap<u64, Vec<Noted>>,
    truncations: &[Truncation],
    taken: &HashSet<(u64, u64)>,
) -> Result<Vec<Life>> {
    let mut lost = Vec::new();
    for (inode, lines) in noted {
        let mut ends: Vec<_> = truncations.iter().filter(|truncation| truncation.inode == inode).collect();
        ends.sort_by_key(|truncation| truncation.at_ns);
        let mut lives: HashMap<usize, Vec<Noted>> = HashMap::new();
        for line in lines {
            let life = ends.partition_point(|truncation| truncation.at_ns < line.at_ns);
            lives.entry(life).or_default().push(line);
        }
        for (life, mut lines) in lives {
            lines.sort_by_key(|line| line.offset);
            let mut at = 0;
            for line in &lines {
                ensure!(line.offset == at, "the books do not agree");
                at += line.length;
            }
            let missing = lines.iter().position(|line| !taken.contains(&line.line));
            let Some(missing) = missing else { continue };
            let end = ends.get(life).with_context(|| format!("{:?} is missing in {inode}", lines[missing]))?;
            ensure!(!end.is_copied, "{:?} is missing, and was copied", lines[missing]);
            ensure!(end.size == at, "the books do not agree about a truncation");
            let after = lines[missing..].iter().find(|line| taken.contains(&line.line));
            ensure!(after.is_none(), "{after:?} was taken, and one before it was not");
            lost.push(Life { inode, read_to: lines[missing].offset, size: end.size });
        }
    }
    Ok(lost)
}

/// Finds for each gap the life that it is of: it begins where that was read to, and is no longer than that was.
fn match_gaps(mut gaps: Vec<Gap>, mut lost: Vec<Life>) -> Result<()> {
    gaps.sort_by_key(|gap| std::cmp::Reverse(gap.seen));
    lost.sort_by_key(|life| life.size);
    for gap in gaps {
        ensure!(gap.bytes == gap.seen - gap.read_to, "{gap:?}");
        let is_of = |life: &Life| life.inode == gap.inode && life.read_to == gap.read_to && life.size >= gap.seen;
        let found = lost.iter().position(is_of).with_context(|| format!("nothing was lost where {gap:?} was told"))?;
        lost.remove(found);
    }
    Ok(())
}

#[test]
fn every_line_is_taken_once_or_gone_before_it_was_read() -> Result<()> {
    let scale = if given(SCALE).as_deref() == Some("full") { &FULL } else { &UNIT };
    let seed = fastrand::u64(..);
    every_line(scale, seed).with_context(|| format!("seed {seed}"))
}

#[expect(clippy::print_stdout, reason = "figures, for whoever runs it at its full size")]
fn every_line(scale: &'static Scale, seed: u64) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let house = House(directory.path().to_owned());
    fs::create_dir(house.drop())?;
    let random = fastrand::Rng::with_seed(seed);
    let mut test = Test {
        house: house.clone(),
        random,
        scale,
        rotations: 0,
        renames: 0,
        truncations: Vec::new(),
        certain: HashSet::new(),
        kills: 0,
    };
    let began = Instant::now();
    test.play(seed)?;
    let took = began.elapsed();

    let log = house.log()?;
    let folder = house.folder(&log);
    let runtime = Runtime::new()?;
    while runtime.block_on(folder.pass())? != Taken::default() {}
    let (lines, gaps) = taken(&log)?;
    let noted = books(&house, scale)?;
    let lost = account(noted, &test.truncations, &lines)?;
    let lost_bytes: u64 = lost.iter().map(|life| life.size - life.read_to).sum();
    let told: u64 = gaps.iter().map(|gap| gap.bytes).sum();
    let status = folder.status();
    println!(
        "{} lines of {} processes in {:.1} s: {} taken; {} renames, {} truncations ({} copied before), {} kills; gone \
         unread {} bytes in {} lives, told {} bytes in {} gaps, {} of them while nobody read",
        scale.writers * scale.lines,
        scale.writers,
        took.as_secs_f64(),
        lines.len(),
        test.renames,
        test.truncations.len(),
        test.truncations.iter().filter(|truncation| truncation.is_copied).count(),
        test.kills,
        lost_bytes,
        lost.len(),
        told,
        gaps.len(),
        test.certain.len(),
    );
    let found: HashSet<Gap> = gaps.iter().copied().collect();
    for gap in &test.certain {
        ensure!(found.contains(gap), "{gap:?} was certain, and not told");
    }
    match_gaps(gaps, lost)?;
    ensure!(told <= lost_bytes, "more was told than is gone");
    ensure!((status.taken.events, status.taken.gap_bytes) == (lines.len() as u64, told), "{status:?}");
    ensure!((status.taken.dead_letters, status.copies_waiting, status.bytes_unread) == (0, 0, 0), "{status:?}");
    ensure!(!house.drop().join("dead-letters").exists(), "a line was taken for a bad one");
    ensure!(test.kills > 0 && test.renames > 0 && !test.truncations.is_empty(), "nothing happened");
    ensure!(took < Duration::from_secs(3_600), "it took {took:?}");
    log.close();
    Ok(())
}
