//! `holdfast bench load`: requests at a rate that does not depend on the answers, and what became of them.
//!
//! Each user is a task that takes the next request of the plan, waits until it is due and sends it. Where all users are
//! still waiting for answers, a request goes out late and its wait counts: times run from when it was due, so a server
//! that stalls cannot hide it. The tasks are woken by the clock and by answers; they end with the plan, or a few seconds
//! after it, and this command waits for them.

use std::{
    fs, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};
use zeroize::Zeroizing;

use super::{
    client::{Answer, Client, Target},
    payload::{Kind, Mix, Plan, Planned, Wanted, text},
    report::{self, Outcome, Tallies},
};
use crate::{
    arguments::Load, commands::Session, control, hint::Advice, output::say, settings::environment, transport::encode,
};

/// How long answers are waited for after the last request was due.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a request that prepares a run may take; storing documents waits for their embeddings.
const PREPARE_PATIENCE: Duration = Duration::from_secs(60);
/// Between two rates of a sweep, so that one does not pay for the queue of the other.
const REST: Duration = Duration::from_millis(500);
/// By how much a sweep raises the rate, and how often it halves the gap it ended in.
const SWEEP_FACTOR: f64 = 1.5;
const SWEEP_BISECTIONS: usize = 3;
/// A sweep that comes here measures the generator and not the server.
const RATE_MAX: f64 = 50_000.0;
/// The share of requests that may fail at a rate the server bears.
const FAILURES_MAX: f64 = 0.01;
/// The variable with the key, for where no file should hold it.
const KEY_VARIABLE: &str = "HOLDFAST_KEY";
const WORDS_OF_DOCUMENT: usize = 60;

/// Measures one rate, or raises it until the server no longer bears it.
pub async fn run(session: &Session, arguments: &Load) -> Result<()> {
    let mix = Mix::parse(&arguments.mix).map_err(|error| {
        Advice::new(format!("the mix makes no sense: {error}"), "for example --mix embed=4,search=8,add=1")
    })?;
    let target = target(session, arguments).await?;
    let rate = arguments.rate.unwrap_or(f64::from(arguments.users) / 2.0);
    if !(0.01..=RATE_MAX).contains(&rate) || !(0.1..=86_400.0).contains(&arguments.duration) {
        let what = format!("a rate is from 0.01 to {RATE_MAX} a second, a duration from 0.1 seconds to a day");
        bail!(Advice::new(what, "give others with --rate and --duration"));
    }
    let mut wanted = Wanted {
        mix,
        rate,
        arrivals: arguments.arrivals,
        duration: Duration::from_secs_f64(arguments.duration),
        collection: arguments.collection.clone(),
        documents: Vec::new(),
        seed: arguments.seed,
    };
    prepare(&target, &mut wanted, arguments.documents).await?;
    let bench = Bench { target, users: arguments.users };
    if !arguments.sweep {
        let (run, _) = bench.measure(wanted).await?;
        session.output.value(&run, report::text)?;
        return Ok(());
    }
    let told = sweep(&bench, wanted, arguments.max_p95_ms).await?;
    session.output.value(&told, sweep_text)?;
    Ok(())
}

/// The server that was named, or the one that holds the data directory.
async fn target(session: &Session, arguments: &Load) -> Result<Target> {
    if let Some(url) = &arguments.url {
        return Target::at(url, key(arguments)?.as_ref());
    }
    let data_dir = session.place.data_dir.clone();
    if let Err(error) = control::connect(&data_dir).await {
        let advice =
            Advice::new("no server runs in this data directory", "start one with `holdfast up`, or give --url");
        return Err(anyhow::Error::new(error).context(advice));
    }
    Ok(Target::Socket(data_dir))
}

/// The key, from a file, standard input or the environment: an argument could be read by everybody on the machine.
fn key(arguments: &Load) -> Result<Option<SecretString>> {
    let given = match &arguments.key_file {
        Some(file) if file.as_os_str() == "-" => {
            Some(io::read_to_string(io::stdin().lock()).context("failed to read the key from standard input")?)
        }
        Some(file) => {
            Some(fs::read_to_string(file).with_context(|| format!("failed to read the key from {}", file.display()))?)
        }
        None => environment::variable(KEY_VARIABLE),
    };
    let given = given.map(Zeroizing::new);
    Ok(given.map(|key| SecretString::from(key.trim())).filter(|key| !key.expose_secret().is_empty()))
}

/// Makes the collection and stores what can be found and fetched, if the mix asks for that.
async fn prepare(target: &Target, wanted: &mut Wanted, documents: u32) -> Result<()> {
    let mut client = Client::new(target.clone());
    if ![Kind::Search, Kind::Add, Kind::Fetch].into_iter().any(|kind| wanted.mix.has(kind)) {
        // Nothing is needed, but whether somebody is there is better said now than a minute later.
        ask(&mut client, "/health/live", None).await?;
        return Ok(());
    }
    let name = &wanted.collection;
    let there = ask(&mut client, &format!("/api/v1/collections/{}", encode(name)), None).await?;
    if there.status.as_u16() == 404 {
        expect(ask(&mut client, "/api/v1/collections", Some(json!({ "name": name }))).await?)?;
    } else {
        expect(there)?;
    }
    let mut random = fastrand::Rng::with_seed(wanted.seed);
    let batch: Vec<Value> = (0..documents)
        .map(|number| {
            let content = text(&mut random, WORDS_OF_DOCUMENT, wanted.seed, u64::from(number));
            json!({ "id": format!("bench-{}-{number}", wanted.seed), "content": content })
        })
        .collect();
    wanted.documents = (0..documents).map(|number| format!("bench-{}-{number}", wanted.seed)).collect();
    if !batch.is_empty() {
        let body = json!({ "collection": name, "documents": batch, "wait": true });
        expect(ask(&mut client, "/api/v1/documents", Some(body)).await?)?;
    }
    Ok(())
}

async fn ask(client: &mut Client, target: &str, body: Option<Value>) -> Result<Answer> {
    let body = body.map(|body| body.to_string().into_bytes());
    let planned = Planned { due: Duration::ZERO, kind: Kind::Health, target: target.to_owned(), body };
    let answer = tokio::time::timeout(PREPARE_PATIENCE, client.ask(&planned)).await;
    let advice = Advice::new("the server does not answer", "see that it runs, and give its address with --url");
    answer.map_err(anyhow::Error::new).and_then(|answer| Ok(answer?)).context(advice)
}

fn expect(answer: Answer) -> Result<()> {
    if answer.status.is_success() {
        return Ok(());
    }
    let code = code(&answer);
    bail!(Advice::new(
        format!("the server refused to prepare the run: {} {code}", answer.status.as_u16()),
        format!("docs/ERRORS.md says what {code} means; a key is given with --key-file or {KEY_VARIABLE}"),
    ))
}

/// The stable word of an answer that is no success, in any of the shapes there are.
fn code(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let found = [&body["code"], &body["error"]["code"]].into_iter().find_map(Value::as_str);
    // A stranger's server may say anything; what is kept of it is short and plain.
    let plain = |code: &&str| code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    found.filter(plain).map_or_else(|| format!("http_{}", answer.status.as_u16()), str::to_owned)
}

fn outcome(answer: &Answer) -> Outcome {
    match answer.status.as_u16() {
        200..=299 => Outcome::Ok,
        429 | 503 => Outcome::Refused(code(answer)),
        _ => Outcome::Failed(code(answer)),
    }
}

/// A server and the users that ask it.
struct Bench {
    target: Target,
    users: u32,
}

impl Bench {
    /// Carries a plan out, and gives what came of it as told and as counted.
    async fn measure(&self, wanted: Wanted) -> Result<(Value, Tallies)> {
        let (rate, duration) = (wanted.rate, wanted.duration);
        let plan = Arc::new(Mutex::new(Plan::new(wanted)));
        let cpu_before = cpu_seconds();
        let started = Instant::now();
        let mut users: JoinSet<Tallies> = (0..self.users)
            .map(|_| user(Client::new(self.target.clone()), Arc::clone(&plan), started, started + duration))
            .collect();
        let mut tallies = Tallies::default();
        while let Some(seen) = users.join_next().await {
            tallies.add(&seen.context("a user of the load generator panicked")?);
        }
        let left = plan.lock().unwrap_or_else(PoisonError::into_inner).drain();
        for (kind, count) in left.into_iter().filter(|(_, count)| *count > 0) {
            tallies.of(kind).unsent += count;
        }
        let cpu = cpu_seconds().zip(cpu_before).map(|(after, before)| after - before);
        Ok((tallies.to_json(rate, duration, cpu), tallies))
    }
}

async fn user(mut client: Client, plan: Arc<Mutex<Plan>>, started: Instant, end: Instant) -> Tallies {
    let give_up = end + PATIENCE;
    let mut seen = Tallies::default();
    while Instant::now() < give_up {
        let Some(planned) = plan.lock().unwrap_or_else(PoisonError::into_inner).next() else { break };
        let due = started + planned.due;
        sleep_until(due).await;
        seen.behind.record(due.elapsed());
        let outcome = match timeout_at(give_up, client.ask(&planned)).await {
            Ok(Ok(answer)) => outcome(&answer),
            Ok(Err(error)) => Outcome::Failed(broken(&error).to_owned()),
            Err(_) => {
                // Its connection still waits for that answer.
                client = Client::new(client.into_target());
                Outcome::Failed("no_answer".to_owned())
            }
        };
        seen.count(planned.kind, outcome, due.elapsed(), Instant::now() < end);
    }
    seen
}

/// Why there is no answer, in one of a few words.
fn broken(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection_refused",
        io::ErrorKind::NotFound => "no_socket",
        _ => "connection_lost",
    }
}

/// User and system time of this process: fields 14 and 15 of proc(5), in units of a hundredth of a second. Nothing where
/// the system does not tell.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    Some((times.next()?.ok()? + times.next()?.ok()?) / 100.0)
}

/// Raises the rate until the server no longer bears it, and halves the gap between the last two.
async fn sweep(bench: &Bench, wanted: Wanted, max_p95_ms: f64) -> Result<Value> {
    let (mut steps, mut good, mut bad) = (Vec::new(), None::<(f64, Value)>, None::<(f64, &'static str)>);
    let mut rate = wanted.rate;
    let mut bisections = 0;
    for number in 1_u64.. {
        // Another seed, so that no text was asked about before.
        let seed = wanted.seed.wrapping_add(number << 32);
        let (run, tallies) = bench.measure(Wanted { rate, seed, ..wanted.clone() }).await?;
        let reason = unbearable(&tallies, max_p95_ms);
        say(&format!("{rate:.1} requests/s: {}", reason.unwrap_or("borne")));
        let mut step = run.clone();
        step["borne"] = reason.is_none().into();
        step["reason"] = reason.into();
        steps.push(step);
        match reason {
            None => good = Some((rate, run)),
            Some(reason) => bad = Some((rate, reason)),
        }
        rate = match (&good, bad) {
            (Some((good, _)), Some((bad, _))) if bisections < SWEEP_BISECTIONS => {
                bisections += 1;
                f64::midpoint(*good, bad)
            }
            (Some(_), None) if rate * SWEEP_FACTOR <= RATE_MAX => rate * SWEEP_FACTOR,
            _ => break,
        };
        tokio::time::sleep(REST).await;
    }
    let saturation = good.map(|(rate, run)| {
        json!({
            "rate_per_second": rate,
            "goodput_per_second": run["goodput_per_second"],
            "ended_by": bad.map(|(_, reason)| reason),
            "not_borne_rate_per_second": bad.map(|(rate, _)| rate),
        })
    });
    Ok(json!({ "max_p95_ms": max_p95_ms, "steps": steps, "saturation": saturation }))
}

/// Why a rate was too much.
fn unbearable(tallies: &Tallies, max_p95_ms: f64) -> Option<&'static str> {
    if tallies.failures_share() > FAILURES_MAX {
        return Some("too many requests failed, were refused or could not be sent");
    }
    (tallies.worst_p95_ms() > max_p95_ms).then_some("the 95th percentile is over its bound")
}

fn sweep_text(told: &Value) -> String {
    let steps = told["steps"].as_array().into_iter().flatten();
    let mut lines: Vec<String> = steps.map(report::text).collect();
    lines.push(match told["saturation"]["rate_per_second"].as_f64() {
        Some(rate) => format!(
            "saturation: {rate:.1} requests/s are borne, {:.1} answered well",
            told["saturation"]["goodput_per_second"].as_f64().unwrap_or_default()
        ),
        None => "saturation: below the first rate; begin with a lower one (--rate)".to_owned(),
    });
    lines.join("\n\n")
}
