//! `holdfast bench load` against the real program, against one that refuses, and against none.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    thread,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::home::Home;

const ALL: [&str; 9] = ["bench", "load", "--duration", "2", "--rate", "40", "--users", "8", "--mix"];

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// Checks that every request is counted once, as one thing.
fn adds_up(run: &Value) -> Result<()> {
    let sum = |codes: &Value| codes.as_object().map_or(0, |codes| codes.values().map(number).sum::<u64>());
    let mut sent = 0;
    for (name, route) in run["routes"].as_object().context("no routes")? {
        let counted = number(&route["ok"]) + sum(&route["refused"]) + sum(&route["errors"]);
        ensure!(number(&route["sent"]) == counted, "{name}: {route}");
        sent += counted;
    }
    let whole = number(&run["ok"]) + number(&run["refused"]) + number(&run["errors"]);
    ensure!(number(&run["sent"]) == sent && sent == whole, "{run}");
    Ok(())
}

#[test]
fn every_kind_of_request_is_sent_and_counted() -> Result<()> {
    let home = Home::new()?;
    let server = home.up(&[])?;
    let by_socket =
        home.json(&[&ALL[..], &["health=1,embed=1,search=1,add=1,fetch=1", "--documents", "20"]].concat())?;
    adds_up(&by_socket)?;
    assert_eq!(by_socket["ok"], by_socket["sent"], "{by_socket}");
    assert!((40..=130).contains(&number(&by_socket["sent"])), "80 are meant: {by_socket}");
    for kind in ["health", "embed", "search", "add", "fetch"] {
        let route = &by_socket["routes"][kind];
        assert!(
            number(&route["ok"]) > 0 && route["ok_ms"]["p95"].as_f64() >= route["ok_ms"]["p50"].as_f64(),
            "{route}"
        );
    }

    let key = server.listening["admin_key"].as_str().context("no admin key")?;
    fs::write(home.path("key"), format!("{key}\n"))?;
    let url = format!("http://{}", server.address()?);
    let key_file = home.path("key");
    let by_key = ["--url", &url, "--key-file", key_file.to_str().context("a path that is not UTF-8")?];
    let by_network = home.json(&[&ALL[..], &["embed=1,search=1"], &by_key[..]].concat())?;
    adds_up(&by_network)?;
    assert_eq!(by_network["ok"], by_network["sent"], "{by_network}");

    // Without a key nothing but the probe is answered, and each refusal is counted under its code; who goes on without
    // one is soon told to wait.
    let without = home.json(&[&ALL[..], &["embed=1", "--url", &url]].concat())?;
    adds_up(&without)?;
    let unauthorized = number(&without["routes"]["embed"]["errors"]["unauthorized"]);
    assert_eq!(unauthorized + number(&without["refused"]), number(&without["sent"]), "{without}");
    assert!(unauthorized > 0 && number(&without["ok"]) == 0, "{without}");
    assert_eq!(without["routes"]["embed"]["ok_ms"]["p50"], Value::Null);
    Ok(())
}

#[test]
fn a_sweep_ends_where_the_bound_is_passed() -> Result<()> {
    let home = Home::new()?;
    let _server = home.up(&[])?;
    // No request takes a hundredth of a microsecond: the first rate is too much already.
    let sweep = ["bench", "load", "--sweep", "--duration", "0.5", "--rate", "20", "--mix", "embed=1"];
    let told = home.json(&[&sweep[..], &["--max-p95-ms", "0.00001"]].concat())?;
    assert_eq!(told["saturation"], Value::Null, "{told}");
    assert_eq!(told["steps"][0]["borne"], false);
    Ok(())
}

/// A server that has no place for anybody.
fn full_server() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || refuse(stream));
        }
    });
    Ok(address)
}

fn refuse(stream: std::net::TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let mut body_bytes = 0;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(length) = line.to_lowercase().strip_prefix("content-length:") {
                body_bytes = length.trim().parse().ok()?;
            }
        }
        reader.read_exact(&mut vec![0; body_bytes]).ok()?;
        let body = r#"{"code":"overloaded"}"#;
        write!(stream, "HTTP/1.1 503 Full\r\ncontent-length: {}\r\n\r\n{body}", body.len()).ok()?;
    }
}

#[test]
fn a_refusal_is_counted_as_one() -> Result<()> {
    let home = Home::bare()?;
    let run = home.json(&[&ALL[..], &["embed=1", "--url", &full_server()?]].concat())?;
    adds_up(&run)?;
    assert!(number(&run["sent"]) > 0 && run["refused"] == run["sent"], "{run}");
    assert_eq!(run["routes"]["embed"]["refused"]["overloaded"], run["sent"]);
    assert_eq!(run["goodput_per_second"], 0.0);
    Ok(())
}

#[test]
fn a_server_that_is_not_there_is_said_at_once() -> Result<()> {
    let home = Home::bare()?;
    let output = home.transcript(&["bench", "load"])?;
    assert!(output.starts_with("exit 1\n") && output.contains("no server runs in this data directory"), "{output}");
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let output =
        home.transcript(&["bench", "load", "--mix", "embed=1", "--url", &format!("http://127.0.0.1:{port}")])?;
    assert!(output.starts_with("exit 1\n") && output.contains("the server does not answer"), "{output}");
    assert!(output.contains("hint: see that it runs"), "{output}");
    let output = home.transcript(&["bench", "load", "--mix", "embed"])?;
    assert!(output.contains("the mix makes no sense"), "{output}");
    Ok(())
}
