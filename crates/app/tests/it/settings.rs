//! Settings: where they come from, and what happens when they cannot be used.

use std::fs;

use anyhow::Result;

use crate::home::{Home, finished};

#[test]
fn everything_that_is_wrong_is_told_at_once() -> Result<()> {
    let home = Home::bare()?;
    fs::write(home.settings(), "[server]\nlistn = 'x'\n[log]\nlevel = 'loud'\n[knowledge]\nmax_file_bytes = 0\n")?;
    insta::assert_snapshot!(home.transcript(&["up"])?, @r#"
    exit 1
    -- stdout
    -- stderr
    error: a setting cannot be used
      server.listn (file [home]/settings.toml) is not a setting
        hint: did you mean server.listen? `holdfast config show` lists every setting
    "#);
    fs::write(home.settings(), "[log]\nlevel = 'loud'\n[knowledge]\nmax_file_bytes = 0\n")?;
    insta::assert_snapshot!(home.transcript(&["config", "check"])?, @r#"
    exit 1
    -- stdout
    -- stderr
    error: 2 settings cannot be used
      knowledge.max_file_bytes (file [home]/settings.toml) is 0
        hint: give a whole number from 1 to 1073741824
      log.level (file [home]/settings.toml) is "loud"
        hint: give one of error, warn, info, debug, trace
    "#);
    assert!(!home.data_dir().exists(), "nothing was begun");
    Ok(())
}

#[test]
fn only_loopback_is_listened_on() -> Result<()> {
    let home = Home::bare()?;
    insta::assert_snapshot!(home.transcript(&["up", "--listen", "0.0.0.0:8088"])?, @r#"
    exit 1
    -- stdout
    -- stderr
    error: a setting cannot be used
      server.listen (flag --listen) is 0.0.0.0:8088, which other machines can reach; that needs TLS, which this version does not have
        hint: listen on 127.0.0.1 and let a reverse proxy with TLS stand in front
    "#);
    Ok(())
}

#[test]
fn each_value_says_where_it_comes_from() -> Result<()> {
    let home = Home::bare()?;
    let mut command = home.command(&["config", "show", "--origin", "--listen", "127.0.0.1:0"]);
    command.env("HOLDFAST_LOG__LEVEL", "debug").env("HF_ENDPOINT", "https://mirror.example/");
    insta::assert_snapshot!(home.told(&finished(command)?), @r#"
    exit 0
    -- stdout
    knowledge.chunk_max_tokens = 254  # default
    knowledge.chunk_overlap_tokens = 32  # default
    knowledge.chunk_target_tokens = 200  # default
    knowledge.max_file_bytes = 16777216  # default
    knowledge.search_cache_bytes = 33554432  # default
    knowledge.watch = true  # default
    limits.address_requests_burst = 100000  # default
    limits.address_requests_per_second = 20000  # default
    limits.address_texts_burst = 2000000  # default
    limits.address_texts_per_second = 200000  # default
    limits.enabled = true  # default
    limits.failed_keys_per_minute = 60  # default
    limits.key_concurrent_requests = 192  # default
    limits.key_requests_burst = 50000  # default
    limits.key_requests_per_second = 10000  # default
    limits.key_texts_burst = 1000000  # default
    limits.key_texts_per_second = 100000  # default
    log.format = "text"  # default
    log.level = "debug"  # environment HOLDFAST_LOG__LEVEL
    models.batch_tokens = 0  # default
    models.cache_bytes = 33554432  # default
    models.cache_disk_bytes = 0  # default
    models.deadline_s = 30  # default
    models.default = "tiny"  # file [home]/settings.toml
    models.hub_endpoint = "https://mirror.example/"  # environment HF_ENDPOINT
    models.max_memory_mb = 0  # default
    models.max_queued_texts = 4096  # default
    models.precision = "int8"  # default
    models.sources = []  # file [home]/settings.toml
    models.threads = 1  # file [home]/settings.toml
    server.allowed_hosts = []  # default
    server.allowed_origins = []  # default
    server.listen = "127.0.0.1:0"  # flag --listen
    server.max_body_bytes = 16777216  # default
    server.max_concurrent_requests = 256  # default
    server.proxy_header = "x-forwarded-for"  # default
    server.request_timeout_s = 60  # default
    server.trusted_proxies = []  # default
    -- stderr
    "#);
    Ok(())
}

#[test]
fn a_variable_that_is_almost_a_setting_is_told() -> Result<()> {
    let home = Home::bare()?;
    let mut command = home.command(&["config", "check"]);
    command.env("HOLDFAST_LOG_LEVEL", "debug").env("HOLDFAST_LOG__COLOUR", "red").env("HOLDFAST_TEST_BINARY", "x");
    insta::assert_snapshot!(home.told(&finished(command)?), @r#"
    exit 1
    -- stdout
    -- stderr
    error: 2 settings cannot be used
      log.colour (environment HOLDFAST_LOG__COLOUR) is not a setting
        hint: did you mean log.format? `holdfast config show` lists every setting
      environment HOLDFAST_LOG_LEVEL is not a setting
        hint: write HOLDFAST_LOG__LEVEL, with two underscores
    "#);
    Ok(())
}

#[test]
fn a_file_that_is_asked_for_has_to_be_there() -> Result<()> {
    let home = Home::bare()?;
    fs::remove_file(home.settings())?;
    insta::assert_snapshot!(home.transcript(&["config", "check"])?, @r#"
    exit 1
    -- stdout
    -- stderr
    error: a setting cannot be used
      file [home]/settings.toml cannot be read: No such file or directory (os error 2)
        hint: give a readable file with --config
    "#);
    Ok(())
}
