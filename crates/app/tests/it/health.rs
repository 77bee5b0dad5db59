//! Parts that are broken for real, and a server that says so within five seconds, and again when they are mended.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
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
        part["status"] == "degraded" && part["reason"].as_str().is_some_and(|told| told.contains("lost")),
        "{part}"
    );
    Ok(())
}

#[test]
fn a_log_folder_in_whose_place_is_something_else() -> Result<()> {
    let home = Home::new()?;
    home.set("[log]\nlevel = 'debug'")?;
    let server = home.up(&[])?;
    let patient = Patient::of(home, server)?;
    let folder = patient.data("logs");
    patient.check(
        "log",
        "lines for file are lost",
        |_| {
            fs::remove_dir_all(&folder)?;
            Ok(fs::write(&folder, "in the way")?)
        },
        |_| Ok(fs::remove_file(&folder)?),
    )
}

#[test]
fn a_disk_that_is_full() -> Result<()> {
    let home = Home::new()?;
    let database = home.data_dir().join("db");
    fs::create_dir_all(&database)?;
    // A disk of its own for the database, in a namespace that whoever runs the tests may make.
    let program = home.command(&["up", "--listen", "127.0.0.1:0", "--json"]);
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["-Urm", "sh", "-c", r#"mount -t tmpfs -o size=24m,mode=0700 none "$0" && exec "$@""#]);
    command.arg(&database).arg(program.get_program()).args(program.get_args());
    command.env_clear().env("HOME", home.path("")).env("PATH", "/usr/bin:/bin").current_dir(home.path(""));
    let server = Server::start(command)?;
    let process = home.holder()?.as_raw_nonzero();
    let filler = PathBuf::from(format!("/proc/{process}/root{}", database.join("filler").display()));
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
            let mut file = fs::File::create(&filler)?;
            let full = loop {
                match file.write_all(&[b'x'; 64 << 10]) {
                    Ok(()) => {}
                    Err(error) => break error,
                }
            };
            ensure!(full.kind() == std::io::ErrorKind::StorageFull, "{full}");
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

#[test]
fn a_settings_file_with_a_mistake() -> Result<()> {
    let patient = Patient::new()?;
    patient.check(
        "settings",
        "1 problem",
        |patient| patient.home.set("[server]\nmax_body_bytes = 1"),
        |patient| patient.home.set("[server]\nmax_body_bytes = 2048"),
    )?;
    // A file that is gone is none that says nothing.
    let file = patient.home.settings();
    let away = patient.home.path("settings-away");
    patient.check("settings", "1 problem", |_| moved(file.clone(), away.clone()), |_| moved(away.clone(), file.clone()))
}

#[test]
fn a_certificate_that_is_exchanged_for_one_that_cannot_be_used() -> Result<()> {
    let home = Home::with_documents()?;
    home.succeed(&["tls", "init"])?;
    let server = home.up(&["--listen-tls", "127.0.0.1:0"])?;
    let patient = Patient::of(home, server)?;
    let certificate = patient.data("tls/server.pem");
    let whole = fs::read(&certificate)?;
    patient.check(
        "tls",
        "tls_certificate_invalid",
        |_| Ok(fs::write(&certificate, "no certificate")?),
        |_| Ok(fs::write(&certificate, &whole)?),
    )?;
    // What cannot be used was never served with: whoever connects meanwhile finds the one before.
    let other = patient.data("tls/ca.key");
    let (key, away) = (patient.data("tls/server.key"), patient.data("tls/server.key.away"));
    patient.check(
        "tls",
        "tls_key_mismatch",
        |_| moved(key.clone(), away.clone()).and_then(|()| Ok(fs::copy(&other, &key).map(drop)?)),
        |_| moved(away.clone(), key.clone()),
    )
}
