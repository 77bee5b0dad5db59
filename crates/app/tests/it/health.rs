//! Parts that are broken for real, and a server that says so within five seconds, and again when they are mended.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::home::{Home, MODEL, Server, http};

/// What issue and design promise.
const WITHIN: Duration = Duration::from_secs(5);
/// Between two looks; a look costs nothing that is measured.
const PAUSE: Duration = Duration::from_millis(25);

/// A server, and what it takes to ask it.
struct Patient {
    home: Home,
    server: Server,
    key: String,
}

impl Patient {
    /// One with documents, all well.
    fn new() -> Result<Self> {
        let home = Home::with_documents()?;
        let server = home.up_with_documents()?;
        Self::of(home, server)
    }

    fn of(home: Home, server: Server) -> Result<Self> {
        let patient = Self::not_yet_well(home, server)?;
        patient.becomes_in("embedding", "ready", Duration::from_secs(60))?;
        Ok(patient)
    }

    fn not_yet_well(home: Home, server: Server) -> Result<Self> {
        let key = server.listening["admin_key"].as_str().context("no key")?.to_owned();
        Ok(Self { home, server, key })
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let head = format!("{method} {path} HTTP/1.1\nHost: localhost\nConnection: close\nX-API-Key: {}\n", self.key);
        let rest = format!("Content-Type: application/json\nContent-Length: {}\n\n{body}", body.len());
        http(self.server.address()?, &(head + &rest))
    }

    /// The part as the status has it, or nothing where it has none.
    fn part(&self, name: &str) -> Result<Option<Value>> {
        let (status, body) = self.ask("GET", "/api/v1/status", "")?;
        ensure!(status == 200, "{body}");
        let told: Value = serde_json::from_str(&body)?;
        Ok(told["components"].as_array().context("no components")?.iter().find(|part| part["name"] == name).cloned())
    }

    /// Waits for a part to have a status other than the ones given, or that one.
    fn becomes_in(&self, name: &str, status: &str, within: Duration) -> Result<Value> {
        let began = Instant::now();
        let mut last = None;
        while began.elapsed() < within {
            let part = self.part(name)?;
            if let Some(part) = part.as_ref().filter(|part| part["status"] == status) {
                return Ok(part.clone());
            }
            last = part;
            std::thread::sleep(PAUSE);
        }
        bail!("{name} did not become {status} within {} s: {last:?}", within.as_secs())
    }

    fn becomes(&self, name: &str, status: &str) -> Result<Value> {
        self.becomes_in(name, status, WITHIN)
    }

    /// Waits for a part to be anything but ready, and gives how it is.
    fn ails(&self, name: &str) -> Result<Value> {
        let began = Instant::now();
        while began.elapsed() < WITHIN {
            if let Some(part) = self.part(name)?.filter(|part| part["status"] != "ready") {
                return Ok(part);
            }
            std::thread::sleep(PAUSE);
        }
        bail!("{name} was ready all the time")
    }

    /// What the breaker of the model `far` lets through, by the status and by the metrics.
    fn breaker(&self) -> Result<(String, f64)> {
        let (_, body) = self.ask("GET", "/api/v1/status", "")?;
        let told: Value = serde_json::from_str(&body)?;
        ensure!(told["breakers"][0]["name"] == "far", "{told}");
        let (_, metrics) = self.ask("GET", "/metrics", "")?;
        let series = "holdfast_embedding_breaker_state{model=\"far\"} ";
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)).context("no such series")?;
        Ok((told["breakers"][0]["state"].as_str().context("no state")?.to_owned(), value.parse()?))
    }

    /// It takes five failures to open a breaker, and each is tried three times before it counts as one.
    fn breaker_becomes(&self, state: &str, number: f64) -> Result<()> {
        let began = Instant::now();
        while self.breaker()? != (state.to_owned(), number) {
            ensure!(began.elapsed() < 12 * WITHIN, "{:?} instead of {state}", self.breaker()?);
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Breaks a part, mends it, and looks whether both are told in time, with a reason that is meant.
    fn check(
        &self,
        name: &str,
        reason: &str,
        break_it: impl FnOnce(&Self) -> Result<()>,
        mend_it: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<()> {
        let before = self.becomes(name, "ready")?;
        break_it(self)?;
        let part = self.ails(name)?;
        ensure!(part["reason"].as_str().is_some_and(|told| told.contains(reason)), "{part} lacks {reason:?}");
        ensure!(part["since"].as_str() > before["since"].as_str(), "{part} is as old as {before}");
        mend_it(self)?;
        let after = self.becomes(name, "ready")?;
        ensure!(after["reason"].is_null() && after["since"].as_str() >= part["since"].as_str(), "{after}");
        Ok(())
    }

    fn data(&self, below: &str) -> PathBuf {
        self.home.data_dir().join(below)
    }
}

/// Renames, or renames back.
fn moved(from: PathBuf, to: PathBuf) -> Result<()> {
    fs::rename(&from, &to).with_context(|| format!("{} to {}", from.display(), to.display()))
}

#[test]
fn a_database_whose_tables_are_gone_and_its_jobs() -> Result<()> {
    let patient = Patient::new()?;
    let database = rusqlite::Connection::open(patient.data("db/holdfast.db"))?;
    let rename = |from: &str, to: &str| Ok(database.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}"))?);
    patient.check("jobs", "", |_| rename("jobs", "jobs_away"), |_| rename("jobs_away", "jobs"))?;
    patient.check("sources", "", |_| rename("sources", "sources_away"), |_| rename("sources_away", "sources"))
}

#[test]
fn a_database_that_somebody_else_holds() -> Result<()> {
    let patient = Patient::new()?;
    let other = rusqlite::Connection::open(patient.data("db/holdfast.db"))?;
    let held = |statement: &'static str| Ok(other.execute_batch(statement)?);
    patient.check("database", "has not answered for", |_| held("BEGIN IMMEDIATE"), |_| held("ROLLBACK"))?;
    // Writes that waited were not lost: the server does what it did before.
    let document = r#"{"documents":[{"id":"late","content":"A late document."}]}"#;
    ensure!(patient.ask("POST", "/api/v1/documents", document)?.0 == 200);
    Ok(())
}

#[test]
fn a_data_directory_that_takes_no_files() -> Result<()> {
    let patient = Patient::new()?;
    let (here, away) = (patient.data("db"), patient.data("db-away"));
    patient.check(
        "disk",
        "cannot be written",
        |_| moved(here.clone(), away.clone()),
        |_| moved(away.clone(), here.clone()),
    )?;
    let (status, _) = patient.ask("GET", "/health/ready", "")?;
    ensure!(status == 200, "{status}");
    Ok(())
}

/// How many seconds after a time a part became what it is.
fn seconds_after(time: SystemTime, part: &Value) -> Result<f64> {
    const DAY: f64 = 86_400.0;
    let since = part["since"].as_str().context("no time")?;
    // As `2026-01-31T23:59:59.123Z`; which day it is says nothing here.
    let clock = since.split_once('T').and_then(|(_, clock)| clock.strip_suffix('Z')).context(since.to_owned())?;
    let numbers = clock.split(':').map(|number| Ok(number.parse::<f64>()?)).collect::<Result<Vec<_>>>()?;
    let told = numbers.iter().fold(0.0, |sum, number| sum * 60.0 + number);
    let expected = time.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64().rem_euclid(DAY);
    Ok((told - expected + DAY / 2.0).rem_euclid(DAY) - DAY / 2.0)
}

/// What nobody asked about was counted from when somebody did, or from an earlier break.
#[test]
fn since_when_a_part_is_as_it_is_when_nobody_asked_in_between() -> Result<()> {
    let patient = Patient::new()?;
    let (here, away) = (patient.data("db"), patient.data("db-away"));
    patient.becomes("disk", "ready")?;
    moved(here.clone(), away.clone())?;
    patient.ails("disk")?;
    moved(away.clone(), here.clone())?;
    // To ask is what must not be done, so there is nothing to wait for but time.
    std::thread::sleep(WITHIN);
    let broken = SystemTime::now();
    moved(here.clone(), away.clone())?;
    std::thread::sleep(2 * WITHIN);
    let part = patient.part("disk")?.context("no disk")?;
    ensure!(part["status"] == "down", "{part}");
    let after = seconds_after(broken, &part)?;
    ensure!((-0.01..=WITHIN.as_secs_f64()).contains(&after), "{part} began {after} s after the break");
    moved(away, here)
}

#[test]
fn an_index_whose_files_are_damaged() -> Result<()> {
    let patient = Patient::new()?;
    // The checkpoint of the vectors is written at the end, and read at the start.
    let Patient { home, server, key } = patient;
    ensure!(server.stop(rustix::process::Signal::TERM)? == Some(0));
    let server = home.up(&[])?;
    let patient = Patient { home, server, key };
    patient.becomes_in("embedding", "ready", Duration::from_secs(60))?;
    let generation = fs::read_dir(patient.data("index"))?.next().context("no index")??.path();
    for (name, file) in [("vectors", "vectors/rows.holdfast"), ("lexical", "lexical/meta.json")] {
        let (path, whole) = (generation.join(file), fs::read(generation.join(file))?);
        patient.check(name, "damaged", |_| Ok(fs::write(&path, b"?")?), |_| Ok(fs::write(&path, &whole)?))?;
        // What is damaged for good is built anew from SQL.
        let build_anew = |patient: &Patient| {
            let found = patient.home.json(&["doctor", "--fix"])?;
            ensure!(found.to_string().contains("index_damaged"), "{found}");
            Ok(())
        };
        patient.check(name, "doctor --fix", |_| Ok(fs::write(&path, b"?")?), build_anew)?;
    }
    let (status, found) = patient.ask("POST", "/api/v1/search", r#"{"query":"flowers in spring"}"#)?;
    ensure!(status == 200 && found.contains("Garden"), "{found}");
    Ok(())
}

#[test]
fn a_folder_that_went_away() -> Result<()> {
    let patient = Patient::new()?;
    let (docs, away) = (patient.home.docs(), patient.home.path("docs-away"));
    let look = |patient: &Patient| {
        let listed = patient.home.json(&["sources", "list"])?;
        let id = listed["sources"][0]["id"].as_str().context("no source")?.to_owned();
        ensure!(patient.ask("POST", &format!("/api/v1/sources/{id}/sync"), "")?.0 < 300);
        Ok(())
    };
    patient.check(
        "sources",
        "sources failed",
        |patient| moved(docs.clone(), away.clone()).and_then(|()| look(patient)),
        |patient| moved(away.clone(), docs.clone()).and_then(|()| look(patient)),
    )
}

/// Connects the model `far`, which another server has.
fn connect(home: &Home, far: &Server) -> Result<()> {
    let key_file = home.path("far.key");
    fs::write(&key_file, far.listening["admin_key"].as_str().context("no key")?)?;
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600))?;
    let (url, key_path) = (format!("http://{}/v1", far.address()?), key_file.to_str().context("not UTF-8")?.to_owned());
    home.succeed(&["models", "connect", "far", "--url", &url, "--model", MODEL, "--key-file", &key_path])?;
    Ok(())
}

#[test]
fn a_model_that_is_not_there_yet() -> Result<()> {
    let home = Home::bare()?;
    let model = home.path("model");
    holdfast_testkit::tiny_model::write(&model)?;
    let server = home.up(&[])?;
    let patient = Patient::not_yet_well(home, server)?;
    let part = patient.becomes("embedding", "down")?;
    ensure!(part["reason"].as_str().is_some_and(|reason| reason.contains("no embedding model")), "{part}");
    patient.home.succeed(&["models", "pull", MODEL, "--from", model.to_str().context("not UTF-8")?])?;
    patient.becomes("embedding", "ready")?;
    Ok(())
}

#[test]
fn a_default_model_on_another_machine_that_is_stopped() -> Result<()> {
    let far_home = Home::remote()?;
    let far = far_home.up(&[])?;
    let far_address = far.address()?.to_owned();
    let home = Home::bare()?;
    connect(&home, &far)?;
    fs::write(home.settings(), "[models]\ndefault = 'far'\nsources = []\n[log]\nlevel = 'warn'\n")?;
    let server = home.up(&[])?;
    let patient = Patient::of(home, server)?;
    let mut again = None;
    let embed = |patient: &Patient| patient.ask("POST", "/v1/embeddings", r#"{"model":"far","input":"new words"}"#);
    patient.check(
        "embedding",
        "cannot be reached",
        |patient| {
            ensure!(far.stop(rustix::process::Signal::TERM)? == Some(0));
            ensure!(embed(patient)?.0 == 502);
            Ok(())
        },
        |_| {
            again = Some(Server::start(far_home.command(&["up", "--listen", &far_address, "--json"]))?);
            Ok(())
        },
    )?;
    ensure!(again.is_some() && embed(&patient)?.0 == 200);
    Ok(())
}

#[test]
fn a_remote_model_that_is_stopped_and_what_waits_for_it() -> Result<()> {
    let far_home = Home::remote()?;
    let far = far_home.up(&[])?;
    let far_address = far.address()?.to_owned();
    let patient = Patient::new()?;
    connect(&patient.home, &far)?;
    patient.home.succeed(&["collections", "create", "there", "--model", "far"])?;
    let store = |patient: &Patient, id: &str| {
        let body =
            format!(r#"{{"collection":"there","wait":false,"documents":[{{"id":"{id}","content":"About {id}."}}]}}"#);
        ensure!(patient.ask("POST", "/api/v1/documents", &body)?.0 < 300);
        Ok(())
    };
    store(&patient, "one")?;
    patient.becomes_in("remote", "ready", Duration::from_secs(60))?;
    ensure!(far.stop(rustix::process::Signal::TERM)? == Some(0));
    // Indexing sends what comes in there; that fails, and is told of both.
    store(&patient, "two")?;
    let remote = patient.ails("remote")?;
    ensure!(remote["reason"].as_str().is_some_and(|reason| reason.contains("cannot be reached")), "{remote}");
    patient.breaker_becomes("open", 2.0)?;
    let shown = patient.home.succeed(&["status"])?;
    let has = |words: [&str; 2]| shown.lines().any(|line| line.split_whitespace().take(2).eq(words));
    ensure!(has(["far", "open"]) && has([MODEL, "interactive"]) && shown.contains("http_requests"), "{shown}");
    let ingest = patient.ails("ingest")?;
    ensure!(ingest["reason"].as_str().is_some_and(|reason| reason.contains("waits for the model")), "{ingest}");
    let _again = Server::start(far_home.command(&["up", "--listen", &far_address, "--json"]))?;
    patient.becomes("remote", "ready")?;
    patient.becomes("ingest", "ready")?;
    patient.breaker_becomes("closed", 0.0)?;
    Ok(())
}

#[test]
fn log_lines_that_go_nowhere() -> Result<()> {
    let home = Home::with_documents()?;
    let mut command = home.command(&["up", "--listen", "127.0.0.1:0", "--json"]);
    command.env("HOLDFAST_LOG__LEVEL", "debug");
    // Whatever is written there meets a disk that is full.
    let patient = Patient::of(home, Server::start_logging_to(command, fs::File::create("/dev/full")?)?)?;
    let part = patient.ails("log")?;
    ensure!(
        part["status"] == "degraded" && part["reason"].as_str().is_some_and(|told| told.contains("for stderr")),
        "{part}"
    );
    Ok(())
}

#[test]
fn a_standard_error_that_nobody_reads() -> Result<()> {
    let home = Home::new()?;
    home.set("[log]\nlevel = 'debug'")?;
    let (mut unread, stderr) = std::io::pipe()?;
    let server = home.up_as(home.command(&["up", "--listen", "127.0.0.1:0", "--json"]), stderr.into())?;
    let patient = Patient::of(home, server)?;
    let fill = |patient: &Patient| {
        // A line each, of more than a hundred bytes; a pipe holds 64 KiB.
        for _ in 0..1_000 {
            ensure!(patient.ask("GET", "/health/live", "")?.0 == 200);
        }
        Ok(())
    };
    let read = |_: &Patient| {
        std::thread::spawn(move || std::io::copy(&mut unread, &mut std::io::sink()));
        Ok(())
    };
    patient.check("log", "lines for stderr have stood still", fill, read)
}

/// Of a server that says little too: what is wrong is found by trying, not by the next line.
#[test]
fn a_log_folder_in_whose_place_is_something_else() -> Result<()> {
    for level in ["debug", "error"] {
        let home = Home::new()?;
        home.set(&format!("[log]\nlevel = '{level}'"))?;
        let server = home.up(&[])?;
        let patient = Patient::of(home, server)?;
        let folder = patient.data("logs");
        let in_the_way = |_: &Patient| {
            fs::remove_dir_all(&folder)?;
            // The folder may be made again in between.
            let put = |()| fs::write(&folder, "in the way");
            Ok(put(()).or_else(|_| fs::remove_dir_all(&folder).and_then(put))?)
        };
        patient
            .check("log", "lines for file do not get through", in_the_way, |_| Ok(fs::remove_file(&folder)?))
            .with_context(|| format!("level {level}"))?;
    }
    Ok(())
}

#[test]
fn a_disk_of_the_log_that_is_full() -> Result<()> {
    // The one way quiet, the other with a line for each request.
    for (way, settings) in [("file", "level = 'error'"), ("stderr", "level = 'debug'\nfile = false")] {
        let home = Home::new()?;
        home.set(&format!("[log]\n{settings}"))?;
        let folder = home.data_dir().join("logs");
        fs::create_dir_all(&folder)?;
        let stderr = if way == "stderr" { folder.join("stderr") } else { PathBuf::from("/dev/null") };
        let (server, below) = up_on_a_small_disk(&home, &folder, 1, &stderr)?;
        let filler = below.join("filler");
        let patient = Patient::of(home, server)?;
        let reason = format!("lines for {way} do not get through");
        patient.check("log", &reason, |_| fill(&filler), |_| Ok(fs::remove_file(&filler)?))?;
    }
    Ok(())
}

/// A server in whose eyes a folder is a disk of its own of so many MiB, and where that folder is in the eyes of others. The
/// disk is in a namespace that whoever runs the tests may make.
fn up_on_a_small_disk(home: &Home, folder: &Path, mebibytes: u32, stderr: &Path) -> Result<(Server, PathBuf)> {
    let program = home.command(&["up", "--listen", "127.0.0.1:0", "--json"]);
    let mut command = Command::new("/usr/bin/unshare");
    let script =
        r#"mount -t tmpfs -o size="$1"m,mode=0700 none "$0" && stderr=$2 && shift 2 && exec "$@" 2>> "$stderr""#;
    command.args(["-Urm", "sh", "-c", script]).arg(folder).arg(mebibytes.to_string()).arg(stderr);
    command.arg(program.get_program()).args(program.get_args());
    command.env_clear().env("HOME", home.path("")).env("PATH", "/usr/bin:/bin").current_dir(home.path(""));
    let server = Server::start(command)?;
    let process = home.holder()?.as_raw_nonzero();
    Ok((server, PathBuf::from(format!("/proc/{process}/root{}", folder.display()))))
}

/// Writes a file until its disk is full.
fn fill(filler: &Path) -> Result<()> {
    let mut file = fs::File::create(filler)?;
    let full = loop {
        match file.write_all(&[b'x'; 64 << 10]) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    ensure!(full.kind() == std::io::ErrorKind::StorageFull, "{full}");
    Ok(())
}

#[test]
fn a_settings_file_that_is_refused() -> Result<()> {
    let home = Home::new()?;
    home.set("[log]\nlevel = 'warn'")?;
    let server = home.up(&[])?;
    let patient = Patient::of(home, server)?;
    patient.check(
        "settings",
        "the settings file has 1 problem",
        |patient| patient.home.set("[log]\nlevel = 'loud'"),
        |patient| patient.home.set("[log]\nlevel = 'warn'"),
    )
}

#[test]
fn a_certificate_in_whose_place_is_one_that_cannot_be_used() -> Result<()> {
    let home = Home::new()?;
    home.succeed(&["tls", "init"])?;
    let server = home.up(&["--listen-tls", "127.0.0.1:0"])?;
    let patient = Patient::of(home, server)?;
    let (key, certificate) = (patient.data("tls/server.key"), patient.data("tls/server.pem"));
    let (good, other) = (fs::read(&key)?, fs::read(patient.data("tls/ca.key"))?);
    patient.check("tls", "tls_key_mismatch", |_| Ok(fs::write(&key, &other)?), |_| Ok(fs::write(&key, &good)?))?;
    let (here, away) = (certificate.clone(), certificate.with_extension("away"));
    patient.check(
        "tls",
        "tls_file_unreadable",
        |_| moved(here.clone(), away.clone()),
        |_| moved(away.clone(), here.clone()),
    )
}

#[test]
fn a_disk_that_is_full() -> Result<()> {
    let home = Home::new()?;
    let database = home.data_dir().join("db");
    fs::create_dir_all(&database)?;
    let (server, below) = up_on_a_small_disk(&home, &database, 24, Path::new("/dev/stderr"))?;
    let filler = below.join("filler");
    let patient = Patient::of(home, server)?;
    let store = |id: &str| {
        let words = "A document of some words. ".repeat(2_000);
        patient.ask("POST", "/api/v1/documents", &format!(r#"{{"documents":[{{"id":"{id}","content":"{words}"}}]}}"#))
    };
    ensure!(store("before")?.0 == 200);
    patient.check(
        "disk",
        "No space left",
        |_| {
            fill(&filler)?;
            // What cannot be kept is refused, and what is there is answered.
            let mut refused = (0, String::new());
            for number in 0..50 {
                refused = store(&format!("during-{number}"))?;
                if refused.0 != 200 {
                    break;
                }
            }
            ensure!(refused.0 == 507 && refused.1.contains("storage_full"), "{refused:?}");
            ensure!(patient.ask("GET", "/api/v1/documents/before", "")?.0 == 200);
            Ok(())
        },
        |_| Ok(fs::remove_file(&filler)?),
    )?;
    let (status, answer) = store("after")?;
    ensure!(status == 200, "{answer}");
    ensure!(patient.ask("GET", "/api/v1/documents/before", "")?.0 == 200);
    Ok(())
}
