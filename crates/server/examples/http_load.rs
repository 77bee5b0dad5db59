//! Sends JSON to a server on this machine and counts the answers, as it is told on standard input.
//!
//! It runs on the cores of the server it measures, so it must cost little: one thread, requests made before the clock
//! starts and written in one piece, answers of which only the head is read. It speaks as much HTTP/1.1 as that takes.
//!
//! `http_load` without arguments. A line is a command in JSON, answered by a line of JSON:
//!
//! - `{"target": "127.0.0.1:PORT", "path": "/v1/embeddings", "headers": {...}, "bodies": ["...", ...]}` remembers where
//!   and what to send, and says how many bodies there are; all clients together send them in turn, again and again;
//! - `{"closed": CLIENTS, "seconds": S, "warm_up": W}` has clients that each send the next request when the last one is
//!   answered;
//! - `{"open": RATE, "seconds": S, "warm_up": W, "deadline_ms": D, "connections": MAX}` sends RATE requests a second
//!   however long the answers take. `deadline_ms` may be left out; so may `headers` and `warm_up`.
//!
//! The answer to the last two is about the requests due in the S seconds after the first W:
//!
//! - `seconds` that part took, and `cpu_seconds` of this process in it, to 0.01 s;
//! - `sent`, which is the sum of `ok` (2xx), `refused` (429 and 503), `other` (by status) and `errors`: no connection,
//!   closed before the answer, no answer within 5 s of the end, not HTTP as spoken here. `first_error` is the
//!   text of one, if there are any;
//! - `unsent`: due while all MAX connections were waiting for an answer;
//! - `ok_per_second`: good answers that *arrived* in that part, whenever they were due, so that a queue which is
//!   answered after the end does not pass for speed;
//! - `ok_ms`, `refused_ms`: percentiles by nearest rank from due to answered, null where there were none;
//! - `late`, with a deadline: of `ok`, those that took longer;
//! - `behind_ms`, with `open`: from due to sent, which is our own delay and part of `ok_ms`. Tokio's timer ticks once a
//!   millisecond, so one or two are normal; more says that this program was short of processor time.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, ErrorKind, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout_at},
};

/// How long answers are waited for after the last request was due.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a client of the closed loop waits after an error. Without it, a server that is down costs a whole core.
const PAUSE: Duration = Duration::from_millis(10);
/// Read at once; the head of an answer must fit.
const BUFFER_BYTES: usize = 32 * 1024;
/// `USER_HZ`, the unit of processor time in proc(5), is 100 on every architecture this runs on.
const TICKS_PER_SECOND: f64 = 100.0;
const DAY_SECONDS: f64 = 86_400.0;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    ensure!(std::env::args().len() == 1, "usage: http_load, with commands in JSON on standard input");
    let mut load = None;
    for line in io::stdin().lock().lines() {
        let command: Value = serde_json::from_str(&line?).context("a command is a line of JSON")?;
        let answer = if command.get("target").is_some() {
            let given = load.insert(Arc::new(Load::new(read(command)?)?));
            json!({"bodies": given.requests.len()})
        } else {
            let load = load.as_ref().context("the first command names the target and the bodies")?;
            run(load, command).await?
        };
        let mut output = io::stdout().lock();
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

fn read<T: DeserializeOwned>(command: Value) -> Result<T> {
    let shown: String = command.to_string().chars().take(100).collect();
    serde_json::from_value(command).with_context(|| format!("not a command: {shown}"))
}

async fn run(load: &Arc<Load>, command: Value) -> Result<Value> {
    if command.get("closed").is_some() {
        let command: Closed = read(command)?;
        ensure!(command.closed > 0, "closed is the number of clients, at least 1");
        let window = Window::new(command.warm_up, command.seconds)?;
        let (spent, traffic) = tokio::try_join!(watch(window), closed(load, &command, window))?;
        return Ok(summary(window, &spent, &traffic));
    }
    ensure!(command.get("open").is_some(), "a command has one of target, closed and open");
    let command: Open = read(command)?;
    ensure!((0.01..=1e6).contains(&command.open), "open is the requests a second, from 0.01 to a million");
    ensure!(command.connections > 0, "connections is at least 1");
    let window = Window::new(command.warm_up, command.seconds)?;
    let (spent, traffic) = tokio::try_join!(watch(window), open(load, &command, window))?;
    let mut summary = summary(window, &spent, &traffic);
    summary["behind_ms"] = percentiles(
        traffic.due_in(window).map(|answer| answer.sent - answer.due),
        &[("p50", 50), ("p99", 99), ("max", 100)],
    );
    if let Some(deadline_ms) = command.deadline_ms {
        let late = traffic.due_in(window).filter(|answer| answer.is_ok() && milliseconds(answer.took()) > deadline_ms);
        summary["late"] = late.count().into();
    }
    Ok(summary)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    target: String,
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    bodies: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Closed {
    closed: usize,
    seconds: f64,
    #[serde(default)]
    warm_up: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Open {
    open: f64,
    seconds: f64,
    #[serde(default)]
    warm_up: f64,
    deadline_ms: Option<f64>,
    connections: usize,
}

/// Where to send, and the requests as they go over the wire.
struct Load {
    target: SocketAddr,
    requests: Vec<Vec<u8>>,
    taken: AtomicUsize,
}

impl Load {
    fn new(given: Target) -> Result<Self> {
        let target = given.target.parse().context("target is an address such as 127.0.0.1:8080")?;
        ensure!(!given.bodies.is_empty(), "bodies has at least one body");
        ensure!(given.path.starts_with('/'), "path starts with a slash");
        ensure!(!given.path.contains(char::is_whitespace), "path is without white space");
        let mut head =
            format!("POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n", given.path, target);
        for (name, value) in &given.headers {
            let ours = ["host", "content-type", "content-length"].iter().any(|ours| name.eq_ignore_ascii_case(ours));
            ensure!(!ours, "{name} is not among the headers to give: http_load sets it");
            ensure!(!name.contains([':', '\r', '\n']) && !value.contains(['\r', '\n']), "{name:?} is no header");
            head += &format!("{name}: {value}\r\n");
        }
        let request = |body: &String| format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes();
        Ok(Self { target, requests: given.bodies.iter().map(request).collect(), taken: AtomicUsize::new(0) })
    }

    fn next(&self) -> &[u8] {
        &self.requests[self.taken.fetch_add(1, Ordering::Relaxed) % self.requests.len()]
    }
}

/// The measured part of a run, as planned when it starts.
#[derive(Clone, Copy)]
struct Window {
    started: Instant,
    from: Instant,
    until: Instant,
}

impl Window {
    fn new(warm_up: f64, seconds: f64) -> Result<Self> {
        ensure!((0.0..=DAY_SECONDS).contains(&warm_up), "warm_up is from 0 seconds to a day");
        ensure!(seconds > 0.0 && seconds <= DAY_SECONDS, "seconds is more than 0 and at most a day");
        let started = Instant::now();
        let from = started + Duration::from_secs_f64(warm_up);
        Ok(Self { started, from, until: started + Duration::from_secs_f64(warm_up + seconds) })
    }

    fn contains(&self, moment: Instant) -> bool {
        (self.from..self.until).contains(&moment)
    }
}

/// What the measured part took.
struct Spent {
    wall: Duration,
    cpu_seconds: f64,
}

async fn watch(window: Window) -> Result<Spent> {
    sleep_until(window.from).await;
    let (from, cpu_before) = (Instant::now(), cpu_seconds()?);
    sleep_until(window.until).await;
    Ok(Spent { wall: from.elapsed(), cpu_seconds: cpu_seconds()? - cpu_before })
}

/// User and system time of this process so far: fields 14 and 15 of proc(5), counted after the name in parentheses
/// because the name may contain anything.
fn cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat").context("failed to read /proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("/proc/self/stat has no name")?;
    let mut times = fields.split_whitespace().skip(11);
    let mut next = || times.next()?.parse::<f64>().ok();
    let (user, system) = next().zip(next()).context("/proc/self/stat is too short")?;
    Ok((user + system) / TICKS_PER_SECOND)
}

/// What became of one request.
struct Answer {
    due: Instant,
    sent: Instant,
    done: Instant,
    /// The status, or why there is none.
    status: io::Result<u16>,
}

impl Answer {
    fn is_ok(&self) -> bool {
        matches!(self.status, Ok(200..=299))
    }

    /// From the moment the request was due, not sent: while a server stalls, an open loop may have to send late, and
    /// counting from there would leave out the very wait the stall has caused (coordinated omission).
    fn took(&self) -> Duration {
        self.done - self.due
    }
}

/// All requests of a run, with those of the warm-up: some of their answers arrive in the measured part.
#[derive(Default)]
struct Traffic {
    answers: Vec<Answer>,
    unsent: usize,
}

impl Traffic {
    fn due_in(&self, window: Window) -> impl Iterator<Item = &Answer> {
        self.answers.iter().filter(move |answer| window.contains(answer.due))
    }
}

async fn closed(load: &Arc<Load>, command: &Closed, window: Window) -> Result<Traffic> {
    let mut clients: JoinSet<_> = (0..command.closed).map(|_| client(Arc::clone(load), window)).collect();
    let mut traffic = Traffic::default();
    while let Some(answers) = clients.join_next().await {
        traffic.answers.extend(answers?);
    }
    Ok(traffic)
}

async fn client(load: Arc<Load>, window: Window) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut kept = None;
    loop {
        let due = Instant::now();
        if due >= window.until {
            return answers;
        }
        let (answer, connection) = exchange(&load, kept, due, window.until + PATIENCE).await;
        if answer.status.is_err() {
            sleep(PAUSE).await;
        }
        answers.push(answer);
        kept = connection;
    }
}

async fn open(load: &Arc<Load>, command: &Open, window: Window) -> Result<Traffic> {
    let mut traffic = Traffic::default();
    let mut idle = Vec::new();
    let mut running = JoinSet::new();
    let mut sent = 0_u64;
    loop {
        // Connections come back here rather than when they are answered: nothing can be sent between two ticks, and so
        // an answer wakes one task instead of two.
        while let Some(ended) = running.try_join_next() {
            let (answer, connection) = ended?;
            traffic.answers.push(answer);
            idle.extend(connection);
        }
        let now = Instant::now();
        let next = loop {
            let due = window.started + Duration::from_secs_f64(sent as f64 / command.open);
            if due > now || due >= window.until {
                break due;
            }
            sent += 1;
            let kept = idle.pop();
            if kept.is_none() && running.len() >= command.connections {
                traffic.unsent += usize::from(window.contains(due));
                continue;
            }
            let load = Arc::clone(load);
            running.spawn(async move { exchange(&load, kept, due, window.until + PATIENCE).await });
        };
        if next >= window.until {
            break;
        }
        sleep_until(next).await;
    }
    while let Some(ended) = running.join_next().await {
        traffic.answers.push(ended?.0);
    }
    Ok(traffic)
}

/// Sends the next request on the connection kept from the last one, if it still stands, or else on a new one. Gives the
/// connection back if it can be used again.
async fn exchange(
    load: &Load,
    kept: Option<Connection>,
    due: Instant,
    give_up: Instant,
) -> (Answer, Option<Connection>) {
    let sent = Instant::now();
    let asked = timeout_at(give_up, async {
        let mut connection = match kept {
            Some(kept) if kept.stands() => kept,
            _ => Connection::open(load.target).await?,
        };
        let head = connection.ask(load.next()).await?;
        Ok((head.status, head.keeps.then_some(connection)))
    });
    let asked = asked.await.unwrap_or_else(|_| Err(io::Error::new(ErrorKind::TimedOut, "no answer in time")));
    let done = Instant::now();
    match asked {
        Ok((status, connection)) => (Answer { due, sent, done, status: Ok(status) }, connection),
        Err(error) => (Answer { due, sent, done, status: Err(error) }, None),
    }
}

/// A connection that waits for no answer.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(target: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Whether the server has kept it too. A server may close a connection nobody uses; that has cost no request, so it
    /// is no error. As long as nothing has arrived, this asks Tokio and not the system.
    fn stands(&self) -> bool {
        matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends a request and reads its answer to the end of the body.
    async fn ask(&mut self, request: &[u8]) -> io::Result<Head> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        let head = loop {
            filled += self.read_after(filled).await?;
            if let Some(head) = Head::parse(&self.buffer[..filled])? {
                break head;
            }
        };
        let mut arrived = filled - head.size_bytes;
        while arrived < head.body_bytes {
            arrived += self.read_after(0).await?;
        }
        if arrived > head.body_bytes {
            return Err(unreadable("more than one answer to a request"));
        }
        Ok(head)
    }

    async fn read_after(&mut self, filled: usize) -> io::Result<usize> {
        if filled == self.buffer.len() {
            return Err(unreadable("the head of an answer is too long"));
        }
        match self.stream.read(&mut self.buffer[filled..]).await? {
            0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "closed before the end of an answer")),
            size => Ok(size),
        }
    }
}

/// The part of an answer that is read.
struct Head {
    status: u16,
    size_bytes: usize,
    body_bytes: usize,
    keeps: bool,
}

impl Head {
    /// Nothing as long as the end of the head is missing.
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(None);
        };
        let mut lines = bytes[..end].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let first = lines.next().unwrap_or_default();
        let status = first.starts_with(b"HTTP/1.").then(|| number(first.get(9..12)?)).flatten();
        let status = status.ok_or_else(|| unreadable("an answer does not begin with HTTP/1 and a status"))?;
        let mut keeps = first.starts_with(b"HTTP/1.1");
        let mut body_bytes = None;
        for line in lines {
            let mut parts = line.splitn(2, |byte| *byte == b':');
            let name = parts.next().unwrap_or_default();
            let value = parts.next().unwrap_or_default().trim_ascii();
            if name.eq_ignore_ascii_case(b"content-length") {
                body_bytes = number(value);
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                return Err(unreadable("an answer in chunks, of which http_load cannot tell the length"));
            } else if name.eq_ignore_ascii_case(b"connection") {
                keeps &= !value.eq_ignore_ascii_case(b"close");
            }
        }
        let body_bytes = body_bytes.or((status == 204).then_some(0));
        let body_bytes = body_bytes.ok_or_else(|| unreadable("an answer without a content-length"))?;
        let status = u16::try_from(status).map_err(|_| unreadable("a status of more than three digits"))?;
        Ok(Some(Self { status, size_bytes: end + 4, body_bytes, keeps }))
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    str::from_utf8(digits).ok()?.parse().ok()
}

fn unreadable(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

fn summary(window: Window, spent: &Spent, traffic: &Traffic) -> Value {
    let (mut sent, mut errors, mut first_error) = (0, 0, None);
    let (mut ok, mut refused) = (Vec::new(), Vec::new());
    let mut other = BTreeMap::<u16, usize>::new();
    for answer in traffic.due_in(window) {
        sent += 1;
        match &answer.status {
            Ok(200..=299) => ok.push(answer.took()),
            Ok(429 | 503) => refused.push(answer.took()),
            Ok(status) => *other.entry(*status).or_default() += 1,
            Err(error) => {
                errors += 1;
                first_error.get_or_insert(error);
            }
        }
    }
    let arrived = traffic.answers.iter().filter(|answer| answer.is_ok() && window.contains(answer.done)).count();
    let mut summary = json!({
        "seconds": spent.wall.as_secs_f64(),
        "sent": sent,
        "ok": ok.len(),
        "refused": refused.len(),
        "other": other,
        "errors": errors,
        "unsent": traffic.unsent,
        "ok_per_second": arrived as f64 / (window.until - window.from).as_secs_f64(),
        "ok_ms": percentiles(ok, &[("p50", 50), ("p90", 90), ("p99", 99), ("max", 100)]),
        "refused_ms": percentiles(refused, &[("p50", 50), ("p99", 99), ("max", 100)]),
        "cpu_seconds": spent.cpu_seconds,
    });
    if let Some(error) = first_error {
        summary["first_error"] = error.to_string().into();
    }
    summary
}

/// Percentiles by nearest rank, in milliseconds.
fn percentiles(durations: impl IntoIterator<Item = Duration>, wanted: &[(&str, usize)]) -> Value {
    let mut sorted: Vec<Duration> = durations.into_iter().collect();
    sorted.sort_unstable();
    let ranked = |percent: usize| {
        let rank = (sorted.len() * percent).div_ceil(100);
        rank.checked_sub(1).map(|at| milliseconds(sorted[at]))
    };
    wanted.iter().map(|(name, percent)| ((*name).to_owned(), json!(ranked(*percent)))).collect()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
