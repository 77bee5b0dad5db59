//! Measures the event log and the ledger: durable events a second, what recording costs its caller, reservations a second,
//! and beside them what the disk itself takes to sync.
//!
//! ```text
//! cargo run --release -p holdfast-storage --example event_speed -- [DIRECTORY] [events=N] [reservations=N]
//! ```
//!
//! Works in a folder of its own in the directory (the system's temporary one by default) and removes it afterwards. Events
//! have about 600 bytes of JSON, a session and one of twenty callers, and five make an interaction. Whoever records is told
//! when too much waits, and waits then: what is counted is on disk.

#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::{
    error::Error,
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use holdfast_storage::{
    EventLog,
    events::{Before, Mark, NewEvent, NotRecorded},
    ledger::{Budget, Charge, Limits, Period, Reservation, Subject},
};
use tokio::{runtime::Runtime, task::JoinSet};
use uuid::Uuid;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const TASKS: [usize; 3] = [1, 8, 64];

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: usize| -> Outcome<usize> {
        let given = arguments.iter().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='));
        Ok(given.map(str::parse).transpose()?.unwrap_or(default))
    };
    let (events, reservations) = (number("events", 300_000)?, number("reservations", 100_000)?);
    let plain = arguments.iter().find(|argument| !argument.contains('='));
    let folder = match plain {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let runtime = Runtime::new()?;
    fsync(folder.path())?;
    for tasks in TASKS {
        runtime.block_on(recorded(folder.path(), tasks, events))?;
    }
    for tasks in TASKS {
        runtime.block_on(appended(folder.path(), tasks, 8, events / 3))?;
    }
    for (tasks, batch) in [(1, 100), (4, 100), (1, 1_000)] {
        runtime.block_on(appended(folder.path(), tasks, batch, events / 3))?;
    }
    runtime.block_on(marked(folder.path(), events / 3))?;
    runtime.block_on(once(folder.path(), events / 3))?;
    runtime.block_on(paced(folder.path()))?;
    read(folder.path(), events)?;
    for tasks in TASKS {
        runtime.block_on(reserved(folder.path(), tasks, if tasks == 1 { reservations / 10 } else { reservations }))?;
    }
    runtime.block_on(unbudgeted(folder.path()))
}

/// What the disk takes, for a page and for as much as a full batch is.
fn fsync(folder: &Path) -> Outcome<()> {
    for size in [4_096, 256 * 800] {
        let mut file = File::create(folder.join("sync"))?;
        file.write_all(&vec![1; 16 << 20])?;
        file.sync_all()?;
        let mut times = Vec::new();
        for at in 0..200 {
            use std::io::{Seek, SeekFrom};
            file.seek(SeekFrom::Start(at * size as u64 % (15 << 20)))?;
            file.write_all(&vec![2; size])?;
            let began = Instant::now();
            file.sync_data()?;
            times.push(began.elapsed());
        }
        println!("fdatasync of {size} bytes: {}", spread(times));
    }
    Ok(())
}

async fn recorded(folder: &Path, tasks: usize, count: usize) -> Outcome<()> {
    let log = fresh(folder)?;
    let began = Instant::now();
    let mut set = JoinSet::new();
    for task in 0..tasks {
        let log = log.clone();
        set.spawn(async move {
            let mut times = Vec::with_capacity(count / tasks);
            let mut maker = Maker::new(task);
            for _ in 0..count / tasks {
                let event = maker.event();
                let again = event.clone();
                let began = Instant::now();
                let mut taken = log.record(event);
                times.push(began.elapsed());
                while taken == Err(NotRecorded::Overflow) {
                    log.flush().await?;
                    taken = log.record(again.clone());
                }
                taken?;
            }
            Outcome::Ok(times)
        });
    }
    let times = gather(set).await?;
    let overflows = log.lost();
    log.flush().await?;
    let took = began.elapsed();
    println!(
        "record, {tasks} tasks: {:.0} durable events/s ({overflows} times told to wait); the call: {}",
        times.len() as f64 / took.as_secs_f64(),
        spread(times),
    );
    close(log)
}

/// Recording at the rate of a busy gateway, which leaves the recorder time to sleep.
async fn paced(folder: &Path) -> Outcome<()> {
    const EVENTS_A_SECOND: usize = 20_000;
    const TASKS: usize = 8;
    let log = fresh(folder)?;
    let mut set = JoinSet::new();
    let began = Instant::now();
    let cpu = cpu()?;
    for task in 0..TASKS {
        let log = log.clone();
        set.spawn(async move {
            let mut times = Vec::new();
            let mut maker = Maker::new(task);
            let mut ticks = tokio::time::interval(Duration::from_millis(2));
            for _ in 0..2_500 {
                ticks.tick().await;
                for _ in 0..EVENTS_A_SECOND / TASKS / 500 {
                    let event = maker.event();
                    let began = Instant::now();
                    log.record(event)?;
                    times.push(began.elapsed());
                }
            }
            Outcome::Ok(times)
        });
    }
    let times = gather(set).await?;
    log.flush().await?;
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    let cpu_us = (cpu_since(cpu)?).as_secs_f64() * 1e6 / times.len() as f64;
    println!(
        "record at {rate:.0} events/s: the call: {}; {cpu_us:.1} us of CPU an event, making it included",
        spread(times)
    );
    close(log)
}

async fn appended(folder: &Path, tasks: usize, batch_size: usize, count: usize) -> Outcome<()> {
    let log = fresh(folder)?;
    let began = Instant::now();
    let mut set = JoinSet::new();
    for task in 0..tasks {
        let log = log.clone();
        set.spawn(async move {
            let mut times = Vec::new();
            let mut maker = Maker::new(task);
            for _ in 0..count / tasks / batch_size {
                let batch = (0..batch_size).map(|_| maker.event()).collect();
                let began = Instant::now();
                log.append(batch).await?;
                times.push(began.elapsed());
            }
            Outcome::Ok(times)
        });
    }
    let times = gather(set).await?;
    println!(
        "append of {batch_size}, {tasks} tasks: {:.0} durable events/s; until durable: {}",
        (times.len() * batch_size) as f64 / began.elapsed().as_secs_f64(),
        spread(times),
    );
    close(log)
}

/// As one writer does that has a mark.
async fn marked(folder: &Path, count: usize) -> Outcome<()> {
    const BATCH: usize = 1_000;
    let log = fresh(folder)?;
    let began = Instant::now();
    let mut maker = Maker::new(0);
    let mut times = Vec::new();
    let mut before = Before::Absent;
    for number in 0..count / BATCH {
        let batch = (0..BATCH).map(|_| maker.event()).collect();
        let value = vec![number as u8; 300];
        let mark = Mark { name: "one/mark".into(), before, value: Some(value.clone()) };
        before = Before::Value(value);
        let began = Instant::now();
        log.append_marked(batch, vec![mark]).await?;
        times.push(began.elapsed());
    }
    println!(
        "append of {BATCH} with a mark, one task: {:.0} durable events/s; until durable: {}",
        (times.len() * BATCH) as f64 / began.elapsed().as_secs_f64(),
        spread(times),
    );
    close(log)
}

/// As batches over HTTP come, each with a key.
async fn once(folder: &Path, count: usize) -> Outcome<()> {
    const BATCH: usize = 100;
    const TASKS: usize = 4;
    let log = fresh(folder)?;
    let began = Instant::now();
    let mut set = JoinSet::new();
    for task in 0..TASKS {
        let log = log.clone();
        set.spawn(async move {
            let mut times = Vec::new();
            let mut maker = Maker::new(task);
            for number in 0..count / TASKS / BATCH {
                let batch = (0..BATCH).map(|_| maker.event()).collect();
                let began = Instant::now();
                log.append_once("key_1", &format!("{task} {number}"), [0; 32], batch, 0).await?;
                times.push(began.elapsed());
            }
            Outcome::Ok(times)
        });
    }
    let times = gather(set).await?;
    println!(
        "append of {BATCH} with a key, {TASKS} tasks: {:.0} durable events/s; until durable: {}",
        (times.len() * BATCH) as f64 / began.elapsed().as_secs_f64(),
        spread(times),
    );
    close(log)
}

/// What a consumer can read, beginning at the start.
fn read(folder: &Path, count: usize) -> Outcome<()> {
    let log = fresh(folder)?;
    let mut maker = Maker::new(0);
    let mut bytes = 0;
    for _ in 0..count.min(60_000) {
        let event = maker.event();
        bytes += event.body.len();
        log.record(event)?;
    }
    log.close();
    let log = EventLog::open_at(&folder.join("events.db"))?;
    let began = Instant::now();
    let (mut position, mut events) = (0, 0);
    while position < log.last_position() {
        let page = log.read_after(position, 1_000, &Default::default())?;
        events += page.events.len();
        position = page.through;
    }
    let took = began.elapsed().as_secs_f64();
    println!(
        "read: {:.0} events/s, {:.0} MB/s of bodies; {} bytes on disk an event of {}",
        events as f64 / took,
        bytes as f64 / took / 1e6,
        log.size_bytes() / events as u64,
        bytes / events,
    );
    close(log)
}

async fn reserved(folder: &Path, tasks: usize, count: usize) -> Outcome<()> {
    let log = fresh(folder)?;
    let ledger = log.ledger();
    for (id, subject) in [("all", Subject::Everyone), ("one", Subject::Key("key_1".into()))] {
        let limits = Limits { cost: Some(1 << 60), tokens: None };
        ledger.put_budget(Budget { id: id.into(), subject, model: None, limits, period: Period::Month }).await?;
    }
    let began = Instant::now();
    let mut set = JoinSet::new();
    for task in 0..tasks {
        let ledger = ledger.clone();
        set.spawn(async move {
            let mut times = Vec::new();
            let mut maker = Maker::new(task);
            for _ in 0..count / tasks {
                let began = Instant::now();
                let reserved = ledger.reserve(reservation(task)).await?;
                times.push(began.elapsed());
                let charge = Charge { cost: 5, tokens: 5, models: vec!["m".into()] };
                ledger.settle(reserved, vec![charge], vec![maker.event()]).await?;
            }
            Outcome::Ok(times)
        });
    }
    let times = gather(set).await?;
    println!(
        "reserve and settle with an event, {tasks} tasks: {:.0} a second; until reserved: {}",
        times.len() as f64 / began.elapsed().as_secs_f64(),
        spread(times),
    );
    close(log)
}

async fn unbudgeted(folder: &Path) -> Outcome<()> {
    let log = fresh(folder)?;
    let ledger = log.ledger();
    let mut times = Vec::new();
    for task in 0..100_000 {
        let reservation = reservation(task);
        let began = Instant::now();
        let reserved = ledger.reserve(reservation).await?;
        times.push(began.elapsed());
        ledger.settle(reserved, Vec::new(), Vec::new()).await?;
    }
    println!("reserve where no budget applies: {}", spread(times));
    close(log)
}

fn reservation(task: usize) -> Reservation {
    Reservation {
        tenant: "default".into(),
        caller: format!("key_{}", task % 20).into(),
        session: None,
        interaction: Uuid::now_v7(),
        models: vec!["m".into(), "auto".into()],
        cost: Some(10),
        tokens: 10,
        now_ms: 1_700_000_000_000,
    }
}

/// Makes events.
struct Maker {
    template: NewEvent,
    made: usize,
}

impl Maker {
    fn new(task: usize) -> Self {
        let body = format!("{{\"model\":\"small\",\"text\":\"{}\",\"tokens\":[12,34]}}", "lorem ipsum ".repeat(46));
        let template = NewEvent {
            id: Uuid::now_v7(),
            kind: "model_call_finished".into(),
            version: 1,
            tenant: "default".into(),
            interaction: None,
            session: Some(format!("ses_{}", Uuid::now_v7().simple()).into()),
            caller: format!("key_{:032x}", task % 20).into(),
            at_ms: 1_700_000_000_000,
            body: body.into_bytes(),
        };
        Self { template, made: 0 }
    }

    fn event(&mut self) -> NewEvent {
        if self.made.is_multiple_of(5) {
            self.template.interaction = Some(Uuid::now_v7());
        }
        self.made += 1;
        NewEvent { id: Uuid::now_v7(), ..self.template.clone() }
    }
}

/// A log without events.
fn fresh(folder: &Path) -> Outcome<EventLog> {
    for file in ["events.db", "events.db-wal", "events.db-shm"] {
        let _ = std::fs::remove_file(folder.join(file));
    }
    Ok(EventLog::open_at(&folder.join("events.db"))?)
}

fn close(log: EventLog) -> Outcome<()> {
    std::thread::spawn(move || log.close()).join().map_err(|_| "closing panicked".into())
}

async fn gather(mut set: JoinSet<Outcome<Vec<Duration>>>) -> Outcome<Vec<Duration>> {
    let mut times = Vec::new();
    while let Some(ended) = set.join_next().await {
        times.extend(ended??);
    }
    Ok(times)
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    format!("p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us, max {:.0} us", at(0.5), at(0.99), at(0.999), at(1.0))
}

/// CPU time of this process so far.
fn cpu() -> Outcome<Duration> {
    // Fields 14 and 15 of proc_pid_stat(5), in ticks of a hundredth of a second; the second field may have spaces.
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields.iter().skip(11).take(2).map(|field| field.parse::<u64>()).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

fn cpu_since(before: Duration) -> Outcome<Duration> {
    Ok(cpu()?.saturating_sub(before))
}
