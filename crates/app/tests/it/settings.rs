//! Settings: where they come from, and what happens when they cannot be used.

use std::{
    ffi::OsStr,
    fs::{self, Permissions},
    io::Write,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    process::Stdio,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::home::{Home, finished, wait_with_output};

#[test]
fn everything_that_is_wrong_is_told_at_once() -> Result<()> {
    let home = Home::bare()?;
    fs::write(home.settings(), "[server]\nlistn = 'x'\n[log]\nlevel = 'loud'\n[knowledge]\nmax_file_bytes = 0\n")?;
    insta::assert_snapshot!(home.transcript(&["up"])?, @r#"
    exit 1
    -- stdout
    -- stderr
    error: 3 settings cannot be used
      server.listn (file [home]/settings.toml:2) is not a setting
        hint: did you mean server.listen? `holdfast config show` lists every setting
      log.level (file [home]/settings.toml:4) is "loud"
        hint: give one of error, warn, info, debug, trace
      knowledge.max_file_bytes (file [home]/settings.toml:6) is 0
        hint: give a whole number from 1 to 1073741824
    "#);
    assert!(!home.data_dir().exists(), "nothing was begun");
    Ok(())
}

/// Twenty mistakes of every kind, and what says which they are.
const TWENTY: [(&str, &str); 20] = [
    ("profile = 'production'", "profile"),
    ("[server]\nlisten = '0.0.0.0:80'", "server.listen"),
    ("max_body_bytes = '16 MB'", "server.max_body_bytes"),
    ("request_timeout_s = 0", "server.request_timeout_s"),
    ("max_concurent_requests = 8", "server.max_concurent_requests"),
    ("[models]\ndefault = ''", "models.default"),
    ("sources = ['hub', 'ftp']", "models.sources"),
    ("hub_endpoint = 'huggingface.co'", "models.hub_endpoint"),
    ("hub_token = 'hf_abcdefghijkl'", "models.hub_token"),
    ("precision = 8", "models.precision"),
    ("threads = -1", "models.threads"),
    ("batch_tokens = 1.5", "models.batch_tokens"),
    ("deadline_s = ", ""),
    ("cache_bytes = 99999999999999999999", "models.cache_bytes"),
    ("[knowledge]\nwatch = 'yes'", "knowledge.watch"),
    ("chunk_target_tokens = 300", "knowledge.chunk_target_tokens"),
    ("[log]\nlevel = 'info'\nlevel = 'debug'", "log.level"),
    ("levels = ['holdfast_storage']", "log.levels"),
    ("format = \"text", ""),
    ("[network]\nport = 8088", "network.port"),
];

#[test]
fn twenty_mistakes_are_twenty_problems_each_with_its_line() -> Result<()> {
    let home = Home::bare()?;
    let text = TWENTY.map(|(text, _)| text).join("\n");
    fs::write(home.settings(), &text)?;
    let output = home.run(&["config", "check", "--json"])?;
    assert_eq!(output.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let problems = told["problems"].as_array().context("no problems")?;
    let found: Vec<_> = problems.iter().map(|problem| (&problem["key"], &problem["origin"])).collect();
    assert_eq!((problems.len(), &told["count"]), (20, &20.into()), "{found:#?}");
    for (mistake, key) in TWENTY {
        let lines_above = text[..text.find(mistake).context("it is there")?].lines().count();
        let line = lines_above + mistake.lines().count();
        let origin = format!("file {}:{line}", home.settings().display());
        let is_it =
            |problem: &&Value| problem["origin"] == *origin && problem["key"].as_str().unwrap_or_default() == key;
        let problem = problems.iter().find(is_it).with_context(|| format!("{key} at line {line} of {found:#?}"))?;
        assert!(problem["what"].is_string() && problem["remedy"].as_str().is_some_and(|remedy| remedy.len() > 5));
    }
    assert!(!told.to_string().contains("hf_abc"), "a secret in the wrong place is not repeated");
    let said = home.transcript(&["up"])?;
    assert!(said.contains("20 settings cannot be used") && said.matches("hint: ").count() == 20, "{said}");
    assert!(!said.contains("hf_abc"), "{said}");
    Ok(())
}

#[test]
fn a_file_a_variable_and_a_flag_are_wrong_at_once() -> Result<()> {
    let home = Home::bare()?;
    fs::write(home.settings(), "[log]\nlevel = 'loud'\n")?;
    let mut command = home.command(&["--listen", "example.org:80", "config", "check"]);
    command.env("HOLDFAST_SERVER__MAX_BODY_BYTES", "lots").env("HOLDFAST_PROFILE", "test");
    command.env("HOLDFAST_MODELS__SOURCES", "hub,ftp").env("HOLDFAST_KNOWLEDGE__WATCH", OsStr::from_bytes(b"\xff"));
    insta::assert_snapshot!(home.told(&finished(command)?), @r#"
    exit 1
    -- stdout
    -- stderr
    error: 6 settings cannot be used
      log.level (file [home]/settings.toml:2) is "loud"
        hint: give one of error, warn, info, debug, trace
      knowledge.watch (environment HOLDFAST_KNOWLEDGE__WATCH) is not UTF-8
        hint: set the variable to text
      profile (environment HOLDFAST_PROFILE) is "test"
        hint: give one of none, dev, staging, prod
      server.max_body_bytes (environment HOLDFAST_SERVER__MAX_BODY_BYTES) is text where a whole number belongs
        hint: give a whole number, for example 16777216
      models.sources (environment HOLDFAST_MODELS__SOURCES) is "ftp"
        hint: give one of hub, pip, folder:PATH
      server.listen (flag --listen) is "example.org:80"
        hint: give an address and a port, for example 127.0.0.1:8088
    "#);
    Ok(())
}

#[test]
fn a_settings_file_that_is_none_is_told_for_what_it_is() -> Result<()> {
    let home = Home::bare()?;
    let check = |expected: &str| -> Result<()> {
        let told = home.transcript(&["config", "check"])?;
        assert!(told.starts_with("exit 1") && told.contains(expected) && told.len() < 1_000, "{told}");
        Ok(())
    };
    fs::write(home.settings(), vec![b'#'; 2 << 20])?;
    check("has more than 1048576 bytes")?;
    fs::write(home.settings(), b"\x7fELF\0\0\0")?;
    check("it has zero bytes")?;
    fs::write(home.settings(), b"[log]\nlevel = '\xe4'")?;
    check("settings.toml:2 is not UTF-8")?;
    fs::remove_file(home.settings())?;
    fs::create_dir(home.settings())?;
    check("is a folder")?;
    Ok(())
}

#[test]
fn a_file_of_something_else_is_not_told_in_full() -> Result<()> {
    let home = Home::bare()?;
    fs::write(home.settings(), "this is no setting\n".repeat(5_000))?;
    let told = home.transcript(&["config", "check"])?;
    assert!(told.contains("5000 settings cannot be used") && told.contains("and 4900 more"), "{}", told.len());
    Ok(())
}

#[test]
fn a_profile_stands_between_the_defaults_and_the_file() -> Result<()> {
    let home = Home::bare()?;
    fs::write(home.settings(), "profile = 'staging'\n[log]\nlevel = 'warn'\n")?;
    let lines = |arguments: &[&str]| -> Result<Vec<String>> {
        let shown = home.succeed(&[&["config", "show", "--origin"], arguments].concat())?;
        let of_interest = ["profile", "log.format", "log.level ", "server.request_timeout_s"];
        let lines = shown.replace(&*home.settings().to_string_lossy(), "[settings]");
        Ok(lines
            .lines()
            .filter(|line| of_interest.iter().any(|key| line.starts_with(key)))
            .map(str::to_owned)
            .collect())
    };
    insta::assert_debug_snapshot!(lines(&[])?, @r#"
    [
        "log.format = \"json\"  # profile staging",
        "log.level = \"warn\"  # file [settings]:3",
        "profile = \"staging\"  # file [settings]:1",
        "server.request_timeout_s = 30  # profile staging",
    ]
    "#);
    insta::assert_debug_snapshot!(lines(&["--profile", "dev"])?, @r#"
    [
        "log.format = \"auto\"  # default",
        "log.level = \"warn\"  # file [settings]:3",
        "profile = \"dev\"  # flag --profile",
        "server.request_timeout_s = 60  # default",
    ]
    "#);
    let mut command = home.command(&["config", "check", "--json"]);
    command.env("HOLDFAST_PROFILE", "prod");
    let told: Value = serde_json::from_slice(&finished(command)?.stdout)?;
    assert_eq!((&told["ok"], &told["profile"]), (&true.into(), &"prod".into()));
    assert_eq!(told["file"], *home.settings().to_string_lossy());
    assert_eq!(home.run(&["--profile", "test", "config", "check"])?.status.code(), Some(2));
    Ok(())
}

#[test]
fn a_secret_comes_by_a_private_file_or_the_environment_and_is_never_shown() -> Result<()> {
    let home = Home::bare()?;
    let token = home.path("token");
    fs::write(&token, "hf_abcdefghijkl\n")?;
    let with_file = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.env("HOLDFAST_MODELS__HUB_TOKEN_FILE", &token);
        finished(command)
    };
    fs::set_permissions(&token, Permissions::from_mode(0o640))?;
    insta::assert_snapshot!(home.told(&with_file(&["config", "check"])?), @r#"
    exit 1
    -- stdout
    -- stderr
    error: a setting cannot be used
      models.hub_token_file (environment HOLDFAST_MODELS__HUB_TOKEN_FILE) names [home]/token, which has mode 0640: others on this machine can get at it
        hint: run `chmod 600` on it (Kubernetes: `defaultMode: 0400` on the volume)
    "#);
    fs::set_permissions(&token, Permissions::from_mode(0o600))?;
    insta::assert_snapshot!(home.told(&with_file(&["config", "check"])?), @r#"
    exit 0
    -- stdout
    the settings can be used: 71 settings, 5 of them set by you
    profile none
    file [home]/settings.toml
    secret models.hub_token from file [home]/token, mode 0600
    -- stderr
    "#);

    let mut command = home.command(&["config", "check"]);
    command.env("HOLDFAST_MODELS__HUB_TOKEN_FILE", &token).env("HOLDFAST_MODELS__HUB_TOKEN", "hf_abcdefghijkl");
    insta::assert_snapshot!(home.told(&finished(command)?), @r#"
    exit 1
    -- stdout
    -- stderr
    error: a setting cannot be used
      models.hub_token_file (environment HOLDFAST_MODELS__HUB_TOKEN_FILE) is set, and HOLDFAST_MODELS__HUB_TOKEN is too
        hint: remove one of the two
    "#);

    for arguments in [&["config", "show", "--origin"][..], &["config", "check", "--json"], &["search", "x", "--json"]] {
        let mut command = home.command(arguments);
        command.env("HOLDFAST_MODELS__HUB_TOKEN", "hf_abcdefghijkl").env("HOLDFAST_LOG__LEVEL", "trace");
        let told = home.told(&finished(command)?);
        assert!(!told.contains("hf_abc"), "{told}");
        assert!(arguments[0] != "config" || told.contains("HOLDFAST_MODELS__HUB_TOKEN"), "{told}");
    }
    Ok(())
}

#[test]
fn a_server_takes_a_secret_from_standard_input() -> Result<()> {
    let home = Home::bare()?;
    let run = |said: &str| -> Result<String> {
        let mut command = home.command(&["up", "--listen", "127.0.0.1:0"]);
        command.env("HOLDFAST_MODELS__HUB_TOKEN_FILE", "-").env("HOLDFAST_MODELS__HUB_ENDPOINT", "http://example.org");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("no input")?.write_all(said.as_bytes())?;
        Ok(home.told(&wait_with_output(child)?))
    };
    // That it would be sent in the clear is found out only where it was read.
    insta::assert_snapshot!(run("hf_abcdefghijkl\n")?, @r#"
    exit 1
    -- stdout
    -- stderr
    error: a setting cannot be used
      models.hub_endpoint (environment HOLDFAST_MODELS__HUB_ENDPOINT) would be sent the token where others can read it on the way
        hint: use https://
    "#);
    insta::assert_snapshot!(run("")?, @r#"
    exit 1
    -- stdout
    -- stderr
    error: a setting cannot be used
      models.hub_token_file (environment HOLDFAST_MODELS__HUB_TOKEN_FILE) on standard input is empty
        hint: pipe the secret into this command, or name a file
    "#);
    let mut command = home.command(&["config", "check"]);
    command.env("HOLDFAST_MODELS__HUB_TOKEN_FILE", "-");
    let told = home.told(&finished(command)?);
    assert!(told.contains("secret models.hub_token from standard input"), "{told}");
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
      server.listen (flag --listen) is 0.0.0.0:8088, which other machines can reach without encryption
        hint: listen on 127.0.0.1 here and set server.listen_tls for other machines; with server.redirect_http = true this address only sends them there
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
    events.keep_days = 0  # default
    events.max_bytes = 8589934592  # default
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
    llm.aliases = {}  # default
    llm.cache = "when-asked"  # default
    llm.cache_bytes = 33554432  # default
    llm.connect_timeout_s = 5  # default
    llm.discover = true  # default
    llm.first_byte_timeout_s = 120  # default
    llm.gap_timeout_s = 60  # default
    llm.policy = "local-first"  # default
    llm.prices = {}  # default
    llm.provider_concurrency = 64  # default
    llm.provider_waiting = 256  # default
    llm.rules = []  # default
    llm.texts = "full"  # default
    llm.total_timeout_s = 600  # default
    log.file = true  # default
    log.format = "auto"  # default
    log.level = "debug"  # environment HOLDFAST_LOG__LEVEL
    log.levels = []  # default
    log.max_age_days = 30  # default
    log.max_file_bytes = 16777216  # default
    log.max_files = 20  # default
    log.max_total_bytes = 134217728  # default
    models.batch_tokens = 0  # default
    models.cache_bytes = 33554432  # default
    models.cache_disk_bytes = 0  # default
    models.deadline_s = 30  # default
    models.default = "tiny"  # file [home]/settings.toml:2
    models.hub_endpoint = "https://mirror.example/"  # environment HF_ENDPOINT
    models.hub_token_file = ""  # default
    models.max_memory_mb = 0  # default
    models.max_queued_texts = 4096  # default
    models.precision = "int8"  # default
    models.sources = []  # file [home]/settings.toml:3
    models.threads = 1  # file [home]/settings.toml:4
    profile = "none"  # default
    server.allowed_hosts = []  # default
    server.allowed_origins = []  # default
    server.client_timeout_s = 20  # default
    server.listen = "127.0.0.1:0"  # flag --listen
    server.listen_tls = ""  # default
    server.max_body_bytes = 16777216  # default
    server.max_concurrent_requests = 256  # default
    server.max_connections = 1024  # default
    server.proxy_header = "x-forwarded-for"  # default
    server.redirect_http = false  # default
    server.request_timeout_s = 60  # default
    server.trusted_proxies = []  # default
    telemetry.metrics_listen = ""  # default
    telemetry.otlp_endpoint = ""  # default
    telemetry.trace_ratio = 1.0  # default
    tls.certificate_file = ""  # default
    tls.key_file = ""  # default
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
      environment HOLDFAST_LOG_LEVEL is not a setting
        hint: write HOLDFAST_LOG__LEVEL, with two underscores
      log.colour (environment HOLDFAST_LOG__COLOUR) is not a setting
        hint: did you mean log.format? `holdfast config show` lists every setting
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
      file [home]/settings.toml cannot be read: there is no such file
        hint: give a readable file with --config
    "#);
    Ok(())
}

#[test]
fn what_is_named_by_whoever_sets_it_is_shown_and_checked_like_the_rest() -> Result<()> {
    let home = Home::bare()?;
    let prices =
        "[llm.prices]\nlocal = { input = 0, output = 0 }\n[llm.prices.'openai/gpt-4.1']\ninput = 2\noutput = 8\n";
    fs::write(home.settings(), prices)?;
    let mut command = home.command(&["config", "show", "--origin"]);
    command.env("HOLDFAST_LLM__ALIASES", "{ careful = { of = ['openai'], continues = true } }");
    let told = home.told(&finished(command)?);
    let lines: Vec<&str> =
        told.lines().filter(|line| line.starts_with("llm.prices") || line.starts_with("llm.al")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    llm.aliases.careful = {"continues":true,"of":["openai"]}  # environment HOLDFAST_LLM__ALIASES
    llm.prices."openai/gpt-4.1" = {"input":2,"output":8}  # file [home]/settings.toml:3
    llm.prices.local = {"input":0,"output":0}  # file [home]/settings.toml:2
    "#);
    fs::write(home.settings(), prices.replace("input = 2", "input = 'two'"))?;
    let mut command = home.command(&["config", "check"]);
    command.env("HOLDFAST_LLM__PRICES__X", "1");
    insta::assert_snapshot!(home.told(&finished(command)?), @r#"
    exit 1
    -- stdout
    -- stderr
    error: 2 settings cannot be used
      llm.prices."openai/gpt-4.1" (file [home]/settings.toml:3) has input = "two"
        hint: give a number of dollars from 0 to 1000000 with at most six decimals
      llm.prices.x (environment HOLDFAST_LLM__PRICES__X) is not a setting
        hint: give all of llm.prices as one table in HOLDFAST_LLM__PRICES
    "#);
    Ok(())
}
