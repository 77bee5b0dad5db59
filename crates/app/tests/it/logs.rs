//! Log lines: what is in them, where they go, and that no request waits for them.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    os::unix::process::CommandExt,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::home::{Home, Server, http, until};

const UP: [&str; 4] = ["up", "--listen", "127.0.0.1:0", "--json"];

fn lines(path: &Path) -> Result<Vec<String>> {
    Ok(fs::read_to_string(path)?.lines().map(str::to_owned).collect())
}

fn live(server: &Server) -> Result<()> {
    let (status, _) = http(server.address()?, "GET /health/live HTTP/1.1\nhost: localhost\nconnection: close\n\n")?;
    ensure!(status == 200, "{status}");
    Ok(())
}

/// A server whose standard error is a file.
fn up_telling(home: &Home, arguments: &[&str]) -> Result<(Server, std::path::PathBuf)> {
    let path = home.path("stderr");
    let server = home.up_as(home.command(&[&UP, arguments].concat()), File::create(&path)?.into())?;
    Ok((server, path))
}

#[test]
fn a_line_of_a_request_has_every_id_in_both_places() -> Result<()> {
    let home = Home::bare()?;
    home.set("[log]\nlevel = 'debug'")?;
    let (server, stderr) = up_telling(&home, &[])?;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = format!(
        "GET /api/v1/status HTTP/1.1\nhost: localhost\nconnection: close\nx-request-id: my-request\n\
         traceparent: 00-{trace}-00f067aa0ba902b7-01\nauthorization: Bearer hf_wrong\n\n"
    );
    let (status, body) = http(server.address()?, &request)?;
    assert_eq!(status, 401);
    let answer: Value = serde_json::from_str(&body)?;
    let error_id = answer["error_id"].as_str().context("no id")?.to_owned();
    assert_eq!(server.stop(Signal::TERM)?, Some(0));

    let told: Result<Vec<Value>> = lines(&stderr)?.iter().map(|line| Ok(serde_json::from_str(line)?)).collect();
    for lines in [home.log()?, told.context("a line on standard error that is no JSON")?] {
        let line = lines.iter().find(|line| line["error_id"] == *error_id).context("no line with the id")?;
        assert_eq!((&line["request_id"], &line["trace_id"]), (&"my-request".into(), &trace.into()), "{line}");
        assert_eq!((&line["service"], &line["version"]), (&"holdfast".into(), &env!("CARGO_PKG_VERSION").into()));
        for name in ["timestamp", "level", "target", "message"] {
            assert!(line[name].is_string(), "{name}: {line}");
        }
        // Who sends keys that are none is told at once, and then in sum.
        let tally = lines.iter().find(|line| line["code"] == "unauthorized" && line["networks"].is_string());
        let tally = tally.context("nothing of where the key came from")?;
        assert_eq!((&tally["networks"], &tally["reasons"]), (&"127.0.0.1 1".into(), &"malformed 1".into()));
        assert!(line.as_object().is_some_and(|line| line.values().all(|value| !value.is_object())), "flat: {line}");
    }
    assert!(!fs::read_to_string(&stderr)?.contains("hf_wrong"));
    Ok(())
}

#[test]
fn the_form_is_what_was_asked_for() -> Result<()> {
    let home = Home::bare()?;
    home.set("[log]\nlevel = 'debug'\nfile = false")?;
    let (server, stderr) = up_telling(&home, &["--log-format", "text"])?;
    live(&server)?;
    server.stop(Signal::TERM)?;
    let lines = lines(&stderr)?;
    assert!(
        lines.iter().any(|line| line.contains("DEBUG holdfast_server::gate: GET /health/live answered 200")),
        "{lines:?}"
    );
    assert!(lines.iter().all(|line| !line.contains('\x1b')), "no colours where no terminal is");
    assert!(!home.data_dir().join("logs").exists(), "no file where none is wanted");
    Ok(())
}

/// Requests go on, standard error says what is wrong, and the file goes on when it can.
fn survives(home: &Home, server: &Server, stderr: &Path, restore: impl FnOnce() -> Result<()>) -> Result<()> {
    let said = |words: &str| -> Result<Option<()>> {
        live(server)?;
        Ok(lines(stderr)?.iter().any(|line| line.contains(words)).then_some(()))
    };
    until("the trouble is told", || said("cannot be written"))?;
    for _ in 0..100 {
        live(server)?;
    }
    let told = lines(stderr)?.iter().filter(|line| line.contains("cannot be written")).count();
    assert_eq!(told, 1, "once, not with every line");
    restore()?;
    until("the end of the trouble is told", || said("are written again"))?;
    until("the loss is told in the file", || {
        live(server)?;
        let lost =
            |line: &&Value| line["message"].as_str().is_some_and(|message| message.contains("were dropped lately"));
        Ok(home.log()?.iter().find(lost).and_then(|line| line["lines"].as_u64()).filter(|lines| *lines > 0))
    })?;
    Ok(())
}

#[test]
fn a_log_folder_in_whose_place_is_something_else_harms_no_request() -> Result<()> {
    let home = Home::bare()?;
    home.set("[log]\nlevel = 'debug'")?;
    let (server, stderr) = up_telling(&home, &[])?;
    let folder = home.data_dir().join("logs");
    fs::remove_dir_all(&folder)?;
    fs::write(&folder, "in the way")?;
    survives(&home, &server, &stderr, || Ok(fs::remove_file(&folder)?))?;
    // One that is only gone is made again, and nothing is lost.
    fs::remove_dir_all(&folder)?;
    until("a new folder", || {
        live(&server)?;
        Ok(folder.join("holdfast.log").exists().then_some(()))
    })?;
    let dropped = dropped(&server, "file")?;
    assert!(dropped > 0.0, "{dropped}");
    assert_eq!(server.stop(Signal::TERM)?, Some(0));
    Ok(())
}

#[test]
fn a_log_file_that_cannot_grow_harms_no_request() -> Result<()> {
    let home = Home::bare()?;
    home.set("[log]\nlevel = 'debug'")?;
    let folder = home.data_dir().join("logs");
    fs::create_dir_all(&folder)?;
    // As large as any file may get below: the next byte fails, as on a disk that is full.
    let file = File::create(folder.join("holdfast.log"))?;
    file.set_len(8 << 20)?;
    let program = home.command(&UP);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 16384; exec \"$@\"", "sh"]).arg(program.get_program());
    command.args(program.get_args()).env_clear().env("HOME", home.path("")).current_dir(home.path("")).process_group(0);
    let stderr = home.path("stderr");
    let server = home.up_as(command, File::create(&stderr)?.into())?;
    survives(&home, &server, &stderr, || Ok(fs::remove_file(folder.join("holdfast.log"))?))?;
    assert_eq!(server.stop(Signal::TERM)?, Some(0));
    Ok(())
}

/// How many lines the metrics say were dropped.
fn dropped(server: &Server, sink: &str) -> Result<f64> {
    let key = server.listening["admin_key"].as_str().context("no key")?;
    let request = format!("GET /metrics HTTP/1.1\nhost: localhost\nconnection: close\nx-api-key: {key}\n\n");
    let (_, text) = http(server.address()?, &request)?;
    let series = format!("holdfast_log_lines_dropped_total{{sink=\"{sink}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&*series)).with_context(|| format!("no {series}"))?;
    Ok(value.parse()?)
}

#[test]
fn a_standard_error_that_nobody_reads_holds_up_nobody() -> Result<()> {
    const REQUESTS: usize = 30_000;
    let home = Home::bare()?;
    home.set("[log]\nlevel = 'debug'\nfile = false")?;
    let (unread, stderr) = std::io::pipe()?;
    let server = home.up_as(home.command(&UP), stderr.into())?;
    assert!(dropped(&server, "stderr")? == 0.0);
    let mut stream = TcpStream::connect(server.address()?)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let request = "GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
    let mut line = String::new();
    for _ in 0..REQUESTS / 100 {
        stream.write_all(request.as_bytes())?;
        let mut answered = 0;
        while answered < 100 {
            line.clear();
            ensure!(answers.read_line(&mut line)? > 0, "the connection ended");
            answered += usize::from(line.contains("HTTP/1.1 200"));
        }
    }
    let dropped = dropped(&server, "stderr")?;
    assert!(dropped > 1_000.0, "{dropped}");
    drop(unread);
    drop(stream);
    assert_eq!(server.stop(Signal::TERM)?, Some(0));
    Ok(())
}

#[test]
fn log_files_stay_within_their_bounds() -> Result<()> {
    let home = Home::bare()?;
    home.set("[log]\nlevel = 'debug'\nmax_file_bytes = 65536\nmax_total_bytes = 200000\nmax_files = 10")?;
    let (server, _) = up_telling(&home, &[])?;
    let folder = home.data_dir().join("logs");
    let mut stream = TcpStream::connect(server.address()?)?;
    let request = "GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(2_000);
    stream.write_all(
        format!("{request}GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes(),
    )?;
    std::io::copy(&mut stream, &mut std::io::sink())?;
    server.stop(Signal::TERM)?;
    let sizes: Result<Vec<u64>> = fs::read_dir(&folder)?.map(|entry| Ok(entry?.metadata()?.len())).collect();
    let sizes = sizes?;
    assert!(sizes.len() >= 3 && sizes.iter().all(|size| *size <= 65_536), "{sizes:?}");
    assert!(sizes.iter().sum::<u64>() <= 200_000, "{sizes:?}");
    Ok(())
}
