//! Measures the archive of the event log: how small it is, how fast events go there, are checked, read and put back, whether
//! they are the same, what turns wait meanwhile, and what becomes of the database file.
//!
//! ```text
//! cargo run --release -p holdfast-storage --example archive_speed -- [DIRECTORY] [events=N] [texts=drawn|once|hashed] [data=FOLDER] [seed=N] [keep=FOLDER]
//! ```
//!
//! Works in a folder of its own in the directory (the system's temporary one by default) and removes it afterwards. Events
//! are those of turns, two each, with claims and sentences of SciFact for questions and answers (`../shared/data/scifact`).
//! With `drawn` the sentences come again and again, as many events as are asked for; with `once` each comes once, which is
//! as many events as there are sentences for; with `hashed` hashes stand in their place. `keep` names a folder that the
//! archive is left in. It fails where an event is not what it was.

#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use holdfast_storage::{
    EventLog,
    events::{
        Event, EventFilter, NewEvent,
        archive::{Archive, ArchiveFilter, Retention, Segment},
    },
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use uuid::Uuid;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const BEGAN_MS: i64 = 1_700_000_000_000;
const PACED: &str = "paced";

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |name: &str| arguments.iter().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='));
    let events: usize = given("events").map_or(Ok(1_000_000), str::parse)?;
    let seed: u64 = given("seed").map_or_else(|| Ok(fastrand::u64(..)), str::parse)?;
    let texts = given("texts").unwrap_or("drawn");
    let data = PathBuf::from(given("data").unwrap_or("../shared/data")).join("scifact");
    let folder = match arguments.iter().find(|argument| !argument.contains('=')) {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    println!("{events} events, texts {texts}, seed {seed}");
    let mut maker = Maker::new(Sentences::load(&data)?, texts, seed)?;
    let log = EventLog::open_at(&folder.path().join("events.db"))?;
    let digest = fill(&log, &mut maker, events)?;
    let archive = Archive::at(given("keep").map_or_else(|| folder.path().join("archive"), PathBuf::from));
    archived(&log, &archive)?;
    checked(&archive, &digest)?;
    imported(&archive, &folder.path().join("other.db"), &digest)?;
    again(&log, &mut maker, folder.path())?;
    println!("peak memory: {} MB", peak_memory()? / 1_000_000);
    thread::spawn(move || log.close()).join().map_err(|_| "closing panicked".into())
}

/// What all events hash to, positions included, and how many they are.
#[derive(Debug, Default, PartialEq, Eq)]
struct Digest {
    hash: [u8; 32],
    events: u64,
}

/// Makes a [`Digest`].
#[derive(Default)]
struct Digester {
    hasher: blake3::Hasher,
    events: u64,
    bytes: u64,
}

impl Digester {
    fn add(&mut self, event: &Event) {
        if &*event.kind == PACED {
            return;
        }
        let told = format!(
            "{} {} {} {} {} {} {:?} {:?} {} {} ",
            event.position,
            event.id,
            event.kind,
            event.version,
            event.tenant,
            event.caller,
            event.session,
            event.interaction,
            event.at_ms,
            event.body.len(),
        );
        self.hasher.update(told.as_bytes());
        self.hasher.update(&event.body);
        self.events += 1;
        self.bytes += event.body.len() as u64;
    }

    fn finish(&self) -> Digest {
        Digest { hash: *self.hasher.finalize().as_bytes(), events: self.events }
    }
}

/// How long something takes, and how much of the processor: on a busy machine only the second says what it costs.
struct Watch {
    began: Instant,
    cpu: Duration,
}

impl Watch {
    fn start() -> Outcome<Self> {
        Ok(Self { began: Instant::now(), cpu: cpu()? })
    }

    /// So much of something in a second, by the clock and of processor time.
    fn rates(&self, amount: f64, unit: &str) -> Outcome<String> {
        let (took, used) = (self.began.elapsed().as_secs_f64(), (cpu()? - self.cpu).as_secs_f64().max(0.01));
        let (by_clock, by_cpu) = (amount / took, amount / used);
        Ok(format!("{by_clock:.0} {unit}/s in {took:.1} s, {by_cpu:.0} {unit} a second of processor time"))
    }
}

/// Processor time of this process so far.
fn cpu() -> Outcome<Duration> {
    // Fields 14 and 15 of proc_pid_stat(5), in ticks of a hundredth of a second; the second field may have spaces.
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields.iter().skip(11).take(2).map(|field| field.parse::<u64>()).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

fn fill(log: &EventLog, maker: &mut Maker, events: usize) -> Outcome<Digest> {
    let runtime = Runtime::new()?;
    let mut left = events;
    let mut digester = Digester::default();
    let watch = Watch::start()?;
    while left > 0 {
        let batch: Vec<NewEvent> = std::iter::from_fn(|| maker.event()).take(left.min(1_000)).collect();
        if batch.is_empty() {
            break;
        }
        left -= batch.len();
        runtime.block_on(log.append(batch))?;
    }
    let mut position = 0;
    while position < log.last_position() {
        let page = log.read_after(position, 1_000, &EventFilter::default())?;
        page.events.iter().for_each(|event| digester.add(event));
        position = page.through;
    }
    let count = digester.events;
    println!(
        "log: {count} events of {} bytes of body, {}; {} bytes on disk an event",
        digester.bytes / count.max(1),
        watch.rates(count as f64, "events")?,
        log.size_bytes() / count.max(1),
    );
    // The newest event stays, and must not be one of those that are looked for in the archive.
    runtime.block_on(log.append(vec![paced()]))?;
    Ok(digester.finish())
}

fn paced() -> NewEvent {
    NewEvent {
        id: Uuid::now_v7(),
        kind: PACED.into(),
        version: 1,
        tenant: "default".into(),
        interaction: None,
        session: None,
        caller: "key_paced".into(),
        at_ms: BEGAN_MS,
        body: b"{}".to_vec(),
    }
}

fn archived(log: &EventLog, archive: &Archive) -> Outcome<()> {
    println!("append of one event, nothing else going on: {}", spread(paced_appends(log, |count| count < 400)?));
    let (last, before) = (log.last_position(), (log.used_bytes()?, log.size_bytes()));
    let is_done = Arc::new(AtomicBool::new(false));
    let (appended, until) = (log.clone(), Arc::clone(&is_done));
    let paced = thread::spawn(move || paced_appends(&appended, |_| !until.load(Ordering::Relaxed)));
    let retention = Retention { age_ms: Some(0), events_min: 1, ..Retention::default() };
    let watch = Watch::start()?;
    while log.archive_oldest(archive, &retention, last - 1, BEGAN_MS * 2)?.is_some() {}
    let manifest = archive.manifest()?;
    let sum = |of: fn(&Segment) -> u64| manifest.segments().iter().map(of).sum::<u64>();
    let (raw, file, events) = (sum(|s| s.raw_bytes), sum(|s| s.file_bytes), sum(|s| s.count));
    let rates = watch.rates(raw as f64 / 1e6, "MB")?;
    is_done.store(true, Ordering::Relaxed);
    let waits = paced.join().map_err(|_| "the appending thread panicked")??;
    println!(
        "archive: {events} events, {raw} bytes of lines -> {file} bytes in {} segments: {:.2} %, {} bytes an event",
        manifest.segments().len(),
        file as f64 * 100.0 / raw as f64,
        file / events.max(1),
    );
    println!("  written, synced, read back and let go of: {rates}");
    println!("append of one event meanwhile: {}", spread(waits));
    println!(
        "database: {} of {} bytes in use before, {} of {} after",
        before.0,
        before.1,
        log.used_bytes()?,
        log.size_bytes(),
    );
    println!("archive folder: {} bytes", archive.size_bytes());
    Ok(())
}

/// One event every few milliseconds, and how long each took to be durable.
fn paced_appends(log: &EventLog, goes_on: impl Fn(usize) -> bool) -> Outcome<Vec<Duration>> {
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        let mut times = Vec::new();
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while goes_on(times.len()) {
            ticks.tick().await;
            let began = Instant::now();
            log.append(vec![paced()]).await?;
            times.push(began.elapsed());
        }
        Ok(times)
    })
}

fn checked(archive: &Archive, digest: &Digest) -> Outcome<()> {
    let watch = Watch::start()?;
    let report = archive.verify()?;
    if !report.is_whole() {
        return Err(format!("the archive is damaged: {:?}", report.damaged).into());
    }
    let megabytes = report.raw_bytes as f64 / 1e6;
    println!("verified, every hash right: {}", watch.rates(megabytes, "MB")?);
    let watch = Watch::start()?;
    let mut digester = Digester::default();
    for event in archive.read(ArchiveFilter::default()) {
        digester.add(&event?);
    }
    println!("read: {}", watch.rates(megabytes, "MB")?);
    same(&digester, digest)
}

fn same(found: &Digester, expected: &Digest) -> Outcome<()> {
    if found.finish() != *expected {
        return Err(
            format!("{} events came back, {} went, or they are not the same", found.events, expected.events).into()
        );
    }
    println!("  all {} events are the same", found.events);
    Ok(())
}

fn imported(archive: &Archive, path: &Path, digest: &Digest) -> Outcome<()> {
    let log = EventLog::open_at(path)?;
    let watch = Watch::start()?;
    let imported = log.import(archive)?;
    println!("imported into an empty log: {}", watch.rates(imported.events as f64, "events")?);
    let mut digester = Digester::default();
    let mut position = 0;
    while position < log.last_position() {
        let page = log.read_after(position, 1_000, &EventFilter::default())?;
        page.events.iter().for_each(|event| digester.add(event));
        position = page.through;
    }
    same(&digester, digest)?;
    thread::spawn(move || log.close()).join().map_err(|_| "closing panicked".into())
}

/// What becomes of the room that was made.
fn again(log: &EventLog, maker: &mut Maker, folder: &Path) -> Outcome<()> {
    let Some(_) = maker.event() else { return Ok(()) };
    let size = |name: &str| fs::metadata(folder.join(name)).map_or(0, |metadata| metadata.len());
    let before = size("events.db");
    let runtime = Runtime::new()?;
    for _ in 0..100 {
        let batch = std::iter::from_fn(|| maker.event()).take(1_000).collect();
        runtime.block_on(log.append(batch))?;
    }
    println!("100000 more events: the file had {before} bytes and has {}", size("events.db"));
    Ok(())
}

/// Real text, a sentence at a time.
struct Sentences {
    claims: Vec<String>,
    sentences: Vec<String>,
}

impl Sentences {
    fn load(folder: &Path) -> Outcome<Self> {
        let texts = |name: &str| -> Outcome<Vec<String>> {
            let path = folder.join(name);
            let lines = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let text =
                |line: &str| Ok(serde_json::from_str::<Value>(line)?["text"].as_str().unwrap_or_default().to_owned());
            lines.lines().map(text).collect()
        };
        let sentences = texts("corpus.jsonl")?
            .iter()
            .flat_map(|text| text.split_inclusive(". ").map(|sentence| sentence.trim().to_owned()).collect::<Vec<_>>())
            .filter(|sentence| sentence.len() > 20)
            .collect();
        Ok(Self { claims: texts("queries.jsonl")?, sentences })
    }
}

/// Makes turns: an event when one begins and one when it is over.
struct Maker {
    texts: Sentences,
    kind: Texts,
    random: Rng,
    now_ms: i64,
    sessions: Vec<Session>,
    finished: Option<NewEvent>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Texts {
    Drawn,
    Once,
    Hashed,
}

struct Session {
    id: Arc<str>,
    caller: Arc<str>,
    policy: &'static str,
}

const MODELS: [(&str, &str); 4] = [
    ("local/qwen2.5-7b", "local"),
    ("openai/gpt-4o-mini", "remote"),
    ("anthropic/claude-sonnet", "remote"),
    ("lab/mixtral-8x7b", "remote"),
];

impl Maker {
    fn new(mut texts: Sentences, kind: &str, seed: u64) -> Outcome<Self> {
        let kind = match kind {
            "drawn" => Texts::Drawn,
            "once" => Texts::Once,
            "hashed" => Texts::Hashed,
            other => return Err(format!("texts={other} is none of drawn, once, hashed").into()),
        };
        let mut random = Rng::with_seed(seed);
        random.shuffle(&mut texts.sentences);
        Ok(Self { texts, kind, random, now_ms: BEGAN_MS, sessions: Vec::new(), finished: None })
    }

    fn uuid(&mut self) -> Uuid {
        let time_ms = u128::from(self.now_ms.cast_unsigned());
        let random = self.random.u128(..);
        Uuid::from_u128(time_ms << 80 | 0x7 << 76 | random & 0x0fff_3fff_ffff_ffff_ffff | 0x8000 << 48)
    }

    /// The next sentences; fewer or none once each was used.
    fn sentences(&mut self, count: usize) -> Option<String> {
        let mut some = String::new();
        for _ in 0..count {
            let sentence = match self.kind {
                Texts::Once => self.texts.sentences.pop()?,
                Texts::Drawn | Texts::Hashed => self.random.choice(&self.texts.sentences)?.clone(),
            };
            if !some.is_empty() && some.len() + sentence.len() > 700 {
                break;
            }
            some.push_str(if some.is_empty() { "" } else { " " });
            some.push_str(&sentence);
        }
        Some(some)
    }

    fn question(&mut self) -> Option<String> {
        // Claims are few: most questions are made from a sentence, as people ask about what they read.
        if self.kind != Texts::Once && self.random.u8(0..4) == 0 {
            let year = self.random.u16(1990..2026);
            return Some(format!("{} Is that still so in {year}?", self.random.choice(&self.texts.claims)?));
        }
        let number = self.random.u16(1..400);
        Some(format!("Is this right? {} I have read it on page {number}.", self.sentences(1)?))
    }

    fn recorded(&self, text: String) -> Value {
        match self.kind {
            Texts::Hashed => {
                json!({ "blake3": blake3::hash(text.as_bytes()).to_hex().to_string(), "bytes": text.len() })
            }
            Texts::Drawn | Texts::Once => text.into(),
        }
    }

    fn ms(&mut self, max: f64) -> f64 {
        (self.random.f64() * max * 1e3).round() / 1e3
    }

    /// The session of the next turn: most go on for some turns.
    fn session(&mut self) -> usize {
        if self.sessions.len() < 40 || self.random.u8(0..5) == 0 {
            let id = self.uuid();
            let caller = u128::from(self.random.u8(0..20)) * 0x1234_5678_9abc_def0_1234_5678;
            let policy = if self.random.u8(0..10) == 0 { "cheapest" } else { "auto" };
            let session = Session {
                id: format!("ses_{}", id.simple()).into(),
                caller: format!("key_{caller:032x}").into(),
                policy,
            };
            if self.sessions.len() < 40 {
                self.sessions.push(session);
            } else {
                let at = self.random.usize(..self.sessions.len());
                self.sessions[at] = session;
            }
        }
        self.random.usize(..self.sessions.len())
    }

    fn event(&mut self) -> Option<NewEvent> {
        if let Some(finished) = self.finished.take() {
            return Some(finished);
        }
        self.now_ms += self.random.i64(20..4_000);
        let (question, answer) = (self.question()?, self.random.usize(1..4));
        let answer = self.sentences(answer)?;
        let at = self.session();
        let (session, caller, policy) =
            (Arc::clone(&self.sessions[at].id), Arc::clone(&self.sessions[at].caller), self.sessions[at].policy);
        let interaction = self.uuid();
        let first = self.random.usize(..MODELS.len());
        let candidates: Vec<Value> =
            (0..self.random.usize(1..=3)).map(|rank| self.candidate(first + rank, rank)).collect();
        let (input, output) = (question.len() / 4, answer.len() / 4);
        let started = json!({
            "request_id": self.uuid().to_string(),
            "asked": policy,
            "policy": policy,
            "messages": [{ "role": "user", "text": self.recorded(question) }],
            "input_tokens": input,
            "features": { "output_tokens": 1024, "has_tools": false, "has_images": false, "has_format": false, "messages": 1, "is_counted": true },
            "candidates": candidates,
            "cache": "miss",
        });
        let duration_ms = self.ms(9_000.0);
        let finished = json!({
            "outcome": "answered",
            "model": MODELS[first % MODELS.len()].0,
            "attempts": [{ "model": MODELS[first % MODELS.len()].0, "started_ms": self.ms(4.0), "waited_ms": 0.0, "duration_ms": self.ms(900.0), "outcome": "ok" }],
            "finish": "stop",
            "usage": { "input_tokens": input, "output_tokens": output },
            "cost": input * 3 + output * 15,
            "first_visible_ms": self.ms(900.0),
            "duration_ms": duration_ms,
            "answer": self.recorded(answer),
        });
        let event = |id, kind: &'static str, at_ms, body: Value| NewEvent {
            id,
            kind: kind.into(),
            version: 1,
            tenant: "default".into(),
            interaction: Some(interaction),
            session: Some(Arc::clone(&session)),
            caller: Arc::clone(&caller),
            at_ms,
            body: body.to_string().into_bytes(),
        };
        let ids = (self.uuid(), self.uuid());
        self.finished = Some(event(ids.1, "turn_finished", self.now_ms + duration_ms as i64, finished));
        Some(event(ids.0, "turn_started", self.now_ms, started))
    }

    fn candidate(&mut self, model: usize, rank: usize) -> Value {
        let (model, location) = MODELS[model % MODELS.len()];
        let score = (self.random.f64() * 1e4).round() / 1e4;
        json!({ "model": model, "location": location, "rank": rank, "score": score, "propensity": if rank == 0 { 0.95 } else { 0.025 }, "breaker": "closed", "price": [150_000, 600_000] })
    }
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    format!("{} of them, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", times.len(), at(0.5), at(0.99), at(1.0))
}

/// Bytes of memory that this process had at most (VmHWM of proc_pid_status(5)).
fn peak_memory() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1_024)
}
