//! `holdfast up`: its life from the first run to the last signal, and what stands in its way.

use std::{fs, net::TcpListener};

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::Value;

use crate::home::{Home, http, is_private};

#[test]
fn a_first_run_sets_up_indexes_serves_and_stops() -> Result<()> {
    let home = Home::with_documents()?;
    let mut server = home.up(&["docs"])?;
    let key = server.listening["admin_key"].as_str().context("no admin key")?.to_owned();
    let indexed = server.event("indexed")?;
    insta::assert_json_snapshot!(
        indexed,
        { ".job_id" => "[job]", ".job_ids[]" => "[job]", ".seconds" => "[seconds]" },
        @r#"
        {
          "event": "indexed",
          "job_id": "[job]",
          "job_ids": [
            "[job]"
          ],
          "documents": 3,
          "chunks": 3,
          "skipped": 0,
          "failed": 0,
          "seconds": "[seconds]"
        }
        "#
    );

    for file in ["holdfast.toml", "run/control.sock", "run/lock", "db/holdfast.db"] {
        assert!(is_private(&home.data_dir().join(file))?, "{file} is open to others");
    }
    let from_shell = home.json(&["search", "which version of an input"])?;
    assert_eq!(from_shell["results"][0]["title"], "Pinning");
    let (status, _) = http(server.address()?, "GET /api/v1/status HTTP/1.1\nHost: localhost\nConnection: close\n\n")?;
    assert_eq!(status, 401, "a key is needed");
    let request = format!("GET /api/v1/status HTTP/1.1\nHost: localhost\nConnection: close\nX-API-Key: {key}\n\n");
    let (status, body) = http(server.address()?, &request)?;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&body)?["status"], "ready");

    server.signal(Signal::INT)?;
    server.event("stopped")?;
    assert_eq!(server.ended()?, Some(0));
    assert!(!home.data_dir().join("run/control.sock").exists());
    Ok(())
}

#[test]
fn a_later_run_has_what_the_first_one_left_and_no_new_key() -> Result<()> {
    let home = Home::with_documents()?;
    assert_eq!(home.up_with_documents()?.stop(Signal::TERM)?, Some(0));
    let server = home.up(&[])?;
    assert_eq!(server.listening.get("admin_key"), None);
    let answer = home.json(&["search", "nginx", "--mode", "lexical"])?;
    assert_eq!(answer["results"][0]["title"], "Server");
    Ok(())
}

#[test]
fn a_killed_server_leaves_nothing_in_the_way() -> Result<()> {
    let home = Home::with_documents()?;
    let mut server = home.up_with_documents()?;
    server.signal(Signal::KILL)?;
    server.ended()?;
    assert!(home.data_dir().join("run/control.sock").exists(), "a kill leaves the socket");
    let answer = home.json(&["search", "flowers in spring"])?;
    assert_eq!(answer["results"][0]["title"], "Garden");
    let server = home.up(&[])?;
    assert_eq!(home.json(&["collections", "show", "default"])?["documents"], 3);
    assert_eq!(server.stop(Signal::INT)?, Some(0));
    Ok(())
}

#[test]
fn a_second_server_is_told_who_has_the_directory() -> Result<()> {
    let home = Home::new()?;
    let _first = home.up(&[])?;
    let told = home.transcript(&["up", "--listen", "127.0.0.1:0"])?;
    let told = told.replace(&home.holder()?.as_raw_nonzero().to_string(), "[pid]");
    insta::assert_snapshot!(told, @r#"
    exit 1
    -- stdout
    -- stderr
    error: a server runs here already: [home]/data is in use by process [pid]
    hint: hand it more with `holdfast add PATH…`, stop it, or give another --data-dir
    "#);
    Ok(())
}

#[test]
fn a_taken_port_is_named_and_costs_no_key() -> Result<()> {
    let home = Home::new()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let told = home.transcript(&["up", "--listen", &address])?;
    insta::assert_snapshot!(told.replace(&address, "[address]"), @r#"
    exit 1
    -- stdout
    -- stderr
    error: failed to listen on [address]: Address already in use (os error 98)
    hint: stop what listens there, or give another port: --listen 127.0.0.1:0 takes a free one
    "#);
    let server = home.up(&[])?;
    assert!(server.listening["admin_key"].is_string(), "the key would have been lost");
    Ok(())
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() -> Result<()> {
    let home = Home::new()?;
    let database = home.data_dir().join("db/holdfast.db");
    fs::write(&database, b"SQLite format 3\0but not really")?;
    let before = fs::read(&database)?;
    let output = home.run(&["status"])?;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read(&database)?, before);
    Ok(())
}

#[test]
fn a_path_that_does_not_exist_is_refused_before_anything_begins() -> Result<()> {
    let home = Home::bare()?;
    insta::assert_snapshot!(home.transcript(&["up", "docs", "nowhere"])?, @r#"
    exit 1
    -- stdout
    -- stderr
    error: there is nothing to index at nowhere: No such file or directory (os error 2)
    hint: give folders and files that exist
    "#);
    assert!(!home.data_dir().exists());
    Ok(())
}

#[test]
fn a_server_nobody_uses_ends_by_itself() -> Result<()> {
    let home = Home::new()?;
    let mut server = home.up(&["--idle-exit=1"])?;
    assert_eq!(server.listening.get("admin_key"), None, "nobody would have seen it");
    server.event("stopped")?;
    assert_eq!(server.ended()?, Some(0));
    Ok(())
}
