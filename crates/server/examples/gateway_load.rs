//! Measures what a gateway adds: an upstream whose answers tell when they were sent, and clients that call it directly and
//! through the gateway in turns.
//!
//! It runs on the cores of what it measures. Each client is a thread with blocking sockets: a thread that sleeps until a
//! request is due wakes within some microseconds, where an asynchronous timer ticks once a millisecond.
//!
//! - `gateway_load upstream` listens on a free port, prints it, and answers until standard input ends. A whole answer comes at
//!   once; a stream has as many events as the request's `max_tokens`, one each `seed` microseconds. Each event's text is the
//!   nanoseconds of the monotonic clock at which it was due and was sent.
//! - `gateway_load latency` reads `{"direct", "gateway", "key", "rate", "seconds", "clients", "prompt_bytes", "pid"}` from
//!   standard input: `rate` requests a second go to each of the two, in turns, however long answers take.
//! - `gateway_load stream` reads the same with `streams`, `events` and `gap_us` instead of `rate`: so many streams run at
//!   once, half of them directly unless `alone`, each followed by another until the time is over.
//!
//! It prints a line of JSON: percentiles in microseconds for both ways, and the gateway's processor time a request or an event.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use serde_json::{Value, json};

/// `USER_HZ`, the unit of processor time in proc(5), is 100 on every architecture this runs on.
const TICKS_PER_SECOND: f64 = 100.0;
/// An answer takes longer only where something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
/// A thread needs little.
const STACK_BYTES: usize = 128 << 10;

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("upstream") => upstream(),
        Some("latency") => print(latency(serde_json::from_reader(std::io::stdin())?)?),
        Some("stream") => print(stream(serde_json::from_reader(std::io::stdin())?)?),
        _ => bail!("usage: gateway_load upstream | latency | stream"),
    }
}

fn print(result: Value) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{result}")?;
    Ok(())
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

// The upstream.

fn upstream() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    print(json!({ "address": listener.local_addr()?.to_string() }))?;
    spawn(move || {
        for connection in listener.incoming().flatten() {
            spawn(move || {
                // A client that leaves is no matter.
                let _ = serve(connection);
            });
        }
    });
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn spawn(work: impl FnOnce() + Send + 'static) {
    if thread::Builder::new().stack_size(STACK_BYTES).spawn(work).is_err() {
        // Told by the connections that are missing.
    }
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    stream: bool,
    max_tokens: Option<u64>,
    seed: Option<u64>,
    stream_options: Option<StreamOptions>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

fn serve(connection: TcpStream) -> Result<()> {
    connection.set_nodelay(true)?;
    let (mut reader, mut writer) = (BufReader::new(connection.try_clone()?), connection);
    loop {
        let Some((first, body)) = read_message(&mut reader)? else { return Ok(()) };
        if first.starts_with("GET") {
            let models = r#"{"object":"list","data":[{"id":"mock","object":"model"}]}"#;
            write_json(&mut writer, models)?;
            continue;
        }
        let asked: Asked = serde_json::from_slice(&body)?;
        if asked.stream {
            let wants_usage = asked.stream_options.is_some_and(|options| options.include_usage);
            write_stream(&mut writer, asked.max_tokens.unwrap_or(16), asked.seed.unwrap_or(20_000), wants_usage)?;
        } else {
            write_json(&mut writer, &whole())?;
        }
    }
}

fn whole() -> String {
    format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"mock","choices":[{{"index":0,"message":{{"role":"assistant","content":"It was sent at {}."}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":250,"completion_tokens":8,"total_tokens":258}}}}"#,
        now_ns()
    )
}

fn write_json(writer: &mut TcpStream, body: &str) -> Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    writer.write_all(format!("{head}{body}").as_bytes())?;
    Ok(())
}

fn write_stream(writer: &mut TcpStream, events: u64, gap_us: u64, wants_usage: bool) -> Result<()> {
    writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")?;
    let began = now_ns();
    let frame = |choices: &str, rest: &str| {
        let data = format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"mock\",\"choices\":[{choices}]{rest}}}\n\n"
        );
        format!("{:x}\r\n{data}\r\n", data.len())
    };
    let chunk =
        |delta: &str, finish: &str| frame(&format!("{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}"), "");
    for event in 0..events {
        let due = began + event * gap_us * 1_000;
        sleep_until(due);
        let delta = format!("{{\"role\":\"assistant\",\"content\":\"{due} {} \"}}", now_ns());
        writer.write_all(chunk(&delta, "null").as_bytes())?;
    }
    let end = "data: [DONE]\n\n";
    // As every server does that knows the wish.
    let total = events + 250;
    let counts =
        format!(",\"usage\":{{\"prompt_tokens\":250,\"completion_tokens\":{events},\"total_tokens\":{total}}}");
    let usage = if wants_usage { frame("", &counts) } else { String::new() };
    let last = format!("{}{usage}{:x}\r\n{end}\r\n0\r\n\r\n", chunk("{}", "\"stop\""), end.len());
    writer.write_all(last.as_bytes())?;
    Ok(())
}

fn sleep_until(due_ns: u64) {
    if let Some(left) = due_ns.checked_sub(now_ns()) {
        thread::sleep(Duration::from_nanos(left));
    }
}

/// The first line and the body of a message, whose length its head tells; nothing at the end of a connection.
fn read_message(reader: &mut impl BufRead) -> Result<Option<(String, Vec<u8>)>> {
    let (mut first, mut length) = (String::new(), 0);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let text = line.trim_end();
        if first.is_empty() {
            first = text.to_owned();
        } else if text.is_empty() {
            break;
        } else if let Some((name, value)) = text.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((first, body)))
}

// The clients.

#[derive(Deserialize)]
struct Ways {
    direct: SocketAddr,
    gateway: SocketAddr,
    key: String,
    /// The gateway's process.
    pid: u32,
    seconds: f64,
    #[serde(default = "usual_prompt")]
    prompt_bytes: usize,
    #[serde(default = "usual_model")]
    model: String,
}

fn usual_prompt() -> usize {
    1_024
}

fn usual_model() -> String {
    "mock".to_owned()
}

#[derive(Deserialize)]
struct Latency {
    #[serde(flatten)]
    ways: Ways,
    rate: f64,
    clients: usize,
}

#[derive(Deserialize)]
struct Streams {
    #[serde(flatten)]
    ways: Ways,
    streams: usize,
    events: u64,
    gap_us: u64,
    #[serde(default)]
    alone: bool,
}

/// One of the two ways, and what was measured on it, in nanoseconds.
#[derive(Default)]
struct Measured {
    took: Vec<u64>,
    /// Between two events of a stream, beyond what lay between their sending.
    gaps: Vec<u64>,
    /// From an event's sending to its arrival.
    late: Vec<u64>,
    failed: u64,
    first_failure: Option<String>,
}

impl Measured {
    fn add(&mut self, other: Self) {
        self.took.extend(other.took);
        self.gaps.extend(other.gaps);
        self.late.extend(other.late);
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }

    fn fail(&mut self, error: &anyhow::Error) {
        self.failed += 1;
        self.first_failure.get_or_insert_with(|| format!("{error:#}"));
    }

    fn summary(mut self) -> Value {
        json!({
            "count": self.took.len(), "failed": self.failed, "first_failure": self.first_failure,
            "took_us": percentiles(&mut self.took), "gap_us": percentiles(&mut self.gaps),
            "late_us": percentiles(&mut self.late),
        })
    }
}

fn percentiles(values: &mut [u64]) -> Value {
    values.sort_unstable();
    let at = |share: f64| {
        let rank = (values.len() as f64 * share).ceil() as usize;
        values.get(rank.saturating_sub(1)).map(|nanoseconds| *nanoseconds as f64 / 1e3)
    };
    json!({ "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1.0) })
}

fn request(ways: &Ways, extra: Value) -> Vec<u8> {
    let words = "The keeper of the lighthouse counted the ships at dusk. ";
    let prompt: String = words.chars().cycle().take(ways.prompt_bytes).collect();
    let mut body = json!({ "model": ways.model, "messages": [{ "role": "user", "content": prompt }] });
    for (name, value) in extra.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    let body = body.to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        ways.key,
        body.len()
    );
    format!("{head}{body}").into_bytes()
}

fn connect(to: SocketAddr) -> Result<BufReader<TcpStream>> {
    let connection = TcpStream::connect(to).with_context(|| format!("failed to connect to {to}"))?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(connection))
}

/// Runs clients until they are done, and gives the processor time of the gateway meanwhile.
fn run<F>(clients: usize, pid: u32, client: F) -> Result<(Vec<[Measured; 2]>, f64)>
where
    F: Fn(usize) -> Result<[Measured; 2]> + Send + Sync + 'static,
{
    let before = processor_seconds(pid)?;
    let (client, results) = (Arc::new(client), Arc::new(Mutex::new(Vec::new())));
    let mut threads = Vec::new();
    for number in 0..clients {
        let (client, results) = (Arc::clone(&client), Arc::clone(&results));
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            let result = client(number);
            results.lock().map(|mut results| results.push(result)).ok();
        });
        threads.push(thread.context("a thread is missing")?);
    }
    for thread in threads {
        ensure!(thread.join().is_ok(), "a client panicked");
    }
    let spent = processor_seconds(pid)? - before;
    let results = std::mem::take(&mut *results.lock().ok().context("a client panicked")?);
    Ok((results.into_iter().collect::<Result<_>>()?, spent))
}

fn processor_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the gateway's process is gone")?;
    let after_name = stat.rsplit_once(')').context("an odd /proc/PID/stat")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / TICKS_PER_SECOND)
}

fn summed(results: Vec<[Measured; 2]>) -> [Measured; 2] {
    let mut sum: [Measured; 2] = Default::default();
    for [direct, gateway] in results {
        sum[0].add(direct);
        sum[1].add(gateway);
    }
    sum
}

fn latency(asked: Latency) -> Result<Value> {
    let Latency { ways, rate, clients } = asked;
    ensure!(rate > 0.0 && clients > 0, "rate and clients have to be above 0");
    // To each of the two, in turns.
    let total = (2.0 * rate * ways.seconds) as usize;
    let (pid, began) = (ways.pid, now_ns() + 200_000_000);
    let next = Arc::new(AtomicUsize::new(0));
    let bytes = request(&ways, json!({}));
    let client = move |_| {
        let mut connections = [connect(ways.direct)?, connect(ways.gateway)?];
        let mut measured: [Measured; 2] = Default::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= total {
                return Ok(measured);
            }
            let way = number % 2;
            let due = began + (number as f64 * 1e9 / (2.0 * rate)) as u64;
            sleep_until(due);
            match exchange(&mut connections[way], &bytes) {
                // From when it was due: a generator that is late for want of a client cannot hide a stall.
                Ok(()) => measured[way].took.push(now_ns() - due),
                Err(error) => {
                    measured[way].fail(&error);
                    connections[way] = connect(if way == 0 { ways.direct } else { ways.gateway })?;
                }
            }
        }
    };
    let (results, spent) = run(clients, pid, client)?;
    let [direct, gateway] = summed(results);
    let count = gateway.took.len().max(1) as f64;
    Ok(json!({
        "rate": rate, "direct": direct.summary(), "gateway": gateway.summary(), "processor_us": spent * 1e6 / count,
    }))
}

fn exchange(connection: &mut BufReader<TcpStream>, bytes: &[u8]) -> Result<()> {
    connection.get_mut().write_all(bytes)?;
    let (first, body) = read_message(connection)?.context("the connection was closed")?;
    ensure!(first.contains(" 200 "), "{first}: {}", String::from_utf8_lossy(&body));
    Ok(())
}

fn stream(asked: Streams) -> Result<Value> {
    let Streams { ways, streams, events, gap_us, alone } = asked;
    let (pid, seconds) = (ways.pid, ways.seconds);
    let bytes = request(&ways, json!({ "stream": true, "max_tokens": events, "seed": gap_us }));
    let over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&over);
    spawn(move || {
        thread::sleep(Duration::from_secs_f64(seconds));
        stop.store(true, Ordering::Relaxed);
    });
    let memory_before = resident_bytes(pid)?;
    let highest = Arc::new(AtomicUsize::new(0));
    let (watched, ended) = (Arc::clone(&highest), Arc::clone(&over));
    spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            watched.fetch_max(resident_bytes(pid).unwrap_or(0), Ordering::Relaxed);
            thread::sleep(Duration::from_millis(200));
        }
    });
    let spread = Duration::from_micros(gap_us * 7 / streams.max(1) as u64);
    let client = move |number: usize| {
        let way = if alone { 1 } else { number % 2 };
        let to = if way == 0 { ways.direct } else { ways.gateway };
        let mut measured: [Measured; 2] = Default::default();
        // Not all at once: their events would come in step.
        thread::sleep(spread * number as u32);
        while !over.load(Ordering::Relaxed) {
            if let Err(error) = one_stream(to, &bytes, events, &mut measured[way]) {
                measured[way].fail(&error);
            }
        }
        Ok(measured)
    };
    let began = Instant::now();
    let (results, spent) = run(streams, pid, client)?;
    let [direct, gateway] = summed(results);
    let relayed = gateway.late.len().max(1) as f64;
    let memory = highest.load(Ordering::Relaxed).saturating_sub(memory_before);
    Ok(json!({
        "streams": streams, "seconds": began.elapsed().as_secs_f64(),
        "direct": direct.summary(), "gateway": gateway.summary(),
        "processor_us_an_event": spent * 1e6 / relayed, "memory_bytes_a_stream": memory / streams.max(1),
    }))
}

fn resident_bytes(pid: u32) -> Result<usize> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: usize = statm.split_whitespace().nth(1).context("an odd /proc/PID/statm")?.parse()?;
    Ok(pages * 4_096)
}

/// One stream on a connection of its own, from the request to `[DONE]`.
fn one_stream(to: SocketAddr, bytes: &[u8], events: u64, measured: &mut Measured) -> Result<()> {
    let mut connection = connect(to)?;
    let asked = now_ns();
    connection.get_mut().write_all(bytes)?;
    let (mut line, mut seen) = (String::new(), 0);
    let mut before: Option<(u64, u64)> = None;
    loop {
        line.clear();
        ensure!(connection.read_line(&mut line)? > 0, "the stream stopped after {seen} events");
        let arrived = now_ns();
        if line.starts_with("HTTP/1.1 ") {
            ensure!(line.contains(" 200 "), "{line}");
        }
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data.starts_with("[DONE]") {
            break;
        }
        let chunk: Value = serde_json::from_str(data)?;
        let Some(text) = chunk["choices"][0]["delta"]["content"].as_str() else { continue };
        let sent: u64 = text.split_whitespace().nth(1).context("an event that tells no time")?.parse()?;
        measured.late.push(arrived.saturating_sub(sent));
        match before {
            None => measured.took.push(arrived - asked),
            Some((sent_before, arrived_before)) => {
                let (gap, sent_gap) = (arrived - arrived_before, sent - sent_before);
                measured.gaps.push(gap.saturating_sub(sent_gap));
            }
        }
        before = Some((sent, arrived));
        seen += 1;
    }
    ensure!(seen == events, "{seen} events of {events}");
    // The rest of the body says only that it is over.
    let _ = connection.get_ref().shutdown(Shutdown::Both);
    Ok(())
}
