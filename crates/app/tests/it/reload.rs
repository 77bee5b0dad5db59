//! Settings that change while the server runs.

use std::fs;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::Value;

use crate::home::{Home, Server, http, until};

/// The status of a request whose body has that many bytes.
fn status_of(server: &Server, bytes: usize) -> Result<u16> {
    let address = server.address()?;
    let key = server.listening["admin_key"].as_str().context("no key")?;
    let body = format!("{{\"query\":\"{}\"}}", "x".repeat(bytes.saturating_sub(12)));
    let head = format!(
        "POST /api/v1/search HTTP/1.1\nhost: localhost\nconnection: close\nauthorization: Bearer {key}\n\
         content-type: application/json\ncontent-length: {}\n\n",
        body.len()
    );
    Ok(http(address, &format!("{head}{body}"))?.0)
}

fn settings_component(home: &Home) -> Result<Value> {
    let status = home.json(&["status"])?;
    let components = status["components"].as_array().context("no components")?;
    components.iter().find(|part| part["name"] == "settings").cloned().context("the settings are no part")
}

fn logged(home: &Home, words: &str) -> Result<Option<Value>> {
    let is_it = |line: &Value| line["message"].as_str().is_some_and(|message| message.contains(words));
    Ok(home.log()?.into_iter().find(is_it))
}

#[test]
fn a_limit_changes_while_the_server_runs() -> Result<()> {
    let home = Home::new()?;
    home.set("[server]\nmax_body_bytes = 2048")?;
    let server = home.up(&[])?;
    assert_eq!(status_of(&server, 3_000)?, 413);
    home.set("[server]\nmax_body_bytes = 100_000")?;
    until("the larger limit", || Ok((status_of(&server, 3_000)? != 413).then_some(())))?;
    assert_eq!(status_of(&server, 200_000)?, 413);
    // Where nothing looks at files, a signal does the same.
    home.set("[server]\nmax_body_bytes = 2048")?;
    server.signal(Signal::HUP)?;
    until("the smaller limit", || Ok((status_of(&server, 3_000)? == 413).then_some(())))?;
    let line = until("the line", || logged(&home, "server.max_body_bytes in force"))?;
    assert_eq!(line["level"], "INFO");
    assert_eq!(server.stop(Signal::TERM)?, Some(0));
    Ok(())
}

#[test]
fn a_bad_file_changes_nothing_and_is_told_until_it_is_put_right() -> Result<()> {
    let home = Home::new()?;
    home.set("[server]\nmax_body_bytes = 2048")?;
    let server = home.up(&[])?;
    assert_eq!(settings_component(&home)?["status"], "ready");
    // The first of these alone would be fine.
    home.set("[server]\nmax_body_bytes = 100_000\nrequest_timeout_s = 0\n[log]\nlevel = 'loud'\nlevle = 'info'")?;
    let refused = until("the refusal", || logged(&home, "the settings were not taken over: 3 problems"))?;
    assert_eq!(refused["level"], "ERROR");
    for key in ["server.request_timeout_s", "log.level", "log.levle"] {
        let line = logged(&home, &format!("{key} (file "))?.with_context(|| format!("nothing about {key}"))?;
        assert_eq!(line["key"], key);
        assert!(line["hint"].is_string() && line["origin"].as_str().is_some_and(|origin| origin.contains(".toml:")));
    }
    assert_eq!(status_of(&server, 3_000)?, 413, "the limit from before is in force");
    let part = settings_component(&home)?;
    assert_eq!(part["status"], "degraded");
    assert!(part["reason"].as_str().is_some_and(|reason| reason.contains("3 problems")), "{part}");
    let (status, ready) =
        http(server.address()?, "GET /health/ready HTTP/1.1\nhost: localhost\nconnection: close\n\n")?;
    assert!(status == 200 || ready.contains("model"), "work can still be sent here: {ready}");

    fs::remove_file(home.settings())?;
    until("the loss", || logged(&home, "there is no such file"))?;
    home.set("[server]\nmax_body_bytes = 100_000")?;
    until("the recovery", || Ok((settings_component(&home)?["status"] == "ready").then_some(())))?;
    assert_ne!(status_of(&server, 3_000)?, 413);
    drop(server);
    Ok(())
}

#[test]
fn what_waits_for_the_next_start_is_named() -> Result<()> {
    let home = Home::new()?;
    home.set("[log]\nlevel = 'info'")?;
    let server = home.up(&[])?;
    home.set("[log]\nlevel = 'debug'\n[knowledge]\nsearch_cache_bytes = 0")?;
    let line = until("the line", || logged(&home, "takes effect at the next start"))?;
    assert_eq!((&line["level"], &line["settings"]), (&"WARN".into(), &"knowledge.search_cache_bytes".into()));
    until("what is in force", || logged(&home, "log.level in force"))?;
    drop(server);
    Ok(())
}

#[test]
fn levels_of_single_modules_change_while_the_server_runs() -> Result<()> {
    let home = Home::new()?;
    home.set("[log]\nlevel = 'warn'")?;
    let server = home.up(&[])?;
    let of_gate = |line: &Value| line["target"] == "holdfast_server::gate" && line["level"] == "DEBUG";
    let live = |id: &str| {
        http(
            server.address()?,
            &format!("GET /health/live HTTP/1.1\nhost: localhost\nx-request-id: {id}\nconnection: close\n\n"),
        )
    };
    let has =
        |id: &str| -> Result<bool> { Ok(home.log()?.iter().any(|line| of_gate(line) && line["request_id"] == id)) };
    home.set("[log]\nlevel = 'warn'\nlevels = ['holdfast_server::gate=debug', 'holdfast::reload=info']")?;
    until("a line of the module", || {
        live("after")?;
        Ok(has("after")?.then_some(()))
    })?;
    assert!(home.log()?.iter().all(|line| of_gate(line) || line["level"] != "DEBUG"), "of others nothing more");
    home.set("[log]\nlevel = 'warn'\nlevels = ['holdfast::reload=info']")?;
    until("the change", || Ok(home.log()?.iter().filter(|line| line["target"] == "holdfast::reload").nth(1).cloned()))?;
    let before = home.log()?.len();
    live("later")?;
    server.stop(Signal::TERM)?;
    assert!(!has("later")?, "{:?}", &home.log()?[before..]);
    Ok(())
}
