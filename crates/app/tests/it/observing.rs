//! What the program tells of itself by metrics, and whether what is in `deploy/` asks for nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::home::{Home, MODEL, http, until};

/// What Prometheus adds to every series it reads.
const ADDED: [&str; 2] = ["instance", "job"];

/// A metric of the table.
struct Metric {
    kind: String,
    /// With the values they may have, where those are known.
    labels: BTreeMap<String, Option<BTreeSet<String>>>,
}

/// The table as the program prints it.
fn table(home: &Home) -> Result<BTreeMap<String, Metric>> {
    let told = home.json(&["metrics"])?;
    let metrics = told["metrics"].as_array().context("no metrics")?;
    let word = |value: &Value| value.as_str().map(str::to_owned).context("no text");
    metrics
        .iter()
        .map(|metric| {
            let labels = metric["labels"].as_array().into_iter().flatten().map(|label| {
                let values = label["values"].as_array().map(|values| values.iter().flat_map(word).collect());
                Ok((word(&label["name"])?, values))
            });
            Ok((
                word(&metric["name"])?,
                Metric { kind: word(&metric["kind"])?, labels: labels.collect::<Result<_>>()? },
            ))
        })
        .collect()
}

fn repository(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(below)
}

#[test]
fn the_reference_of_metrics_is_what_the_program_prints() -> Result<()> {
    let printed = Home::bare()?.succeed(&["metrics"])?;
    let written = fs::read_to_string(repository("docs/METRICS.md"))?;
    ensure!(printed.trim_end() == written.trim_end(), "holdfast metrics > docs/METRICS.md brings it up to date");
    Ok(())
}

/// A server that has done a little of everything, and what it says of it; the second server is its remote model.
fn busy() -> Result<(Home, String)> {
    let (elsewhere, home) = (Home::remote()?, Home::with_documents()?);
    let (far, mut near) = (elsewhere.up(&[])?, home.up(&["docs"])?);
    near.event("indexed")?;
    let key_of = |server: &crate::home::Server| server.listening["admin_key"].as_str().map(str::to_owned);
    let (far_key, key) = (key_of(&far).context("no key")?, key_of(&near).context("no key")?);
    let key_file = home.path("far.key");
    fs::write(&key_file, far_key)?;
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600))?;
    let url = format!("http://{}/v1", far.address()?);
    let key_path = key_file.to_str().context("a path that is not UTF-8")?;
    home.succeed(&["models", "connect", "far", "--url", &url, "--model", MODEL, "--key-file", key_path])?;
    let ask = |method: &str, path: &str, body: &str| {
        let head = format!("{method} {path} HTTP/1.1\nHost: localhost\nConnection: close\nX-API-Key: {key}\n");
        http(
            near.address()?,
            &format!("{head}Content-Type: application/json\nContent-Length: {}\n\n{body}", body.len()),
        )
    };
    let embed = r#"{"model":"far","input":["a text for elsewhere"]}"#;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    // The first request makes it load; it answers a moment later.
    while ask("POST", "/v1/embeddings", embed)?.0 != 200 {
        ensure!(std::time::Instant::now() < deadline, "the remote model never answered");
    }
    // A language model that is run here.
    let (parrot, model) = (home.path("parrot.py"), home.path("model.gguf"));
    fs::write(&parrot, include_str!("parrot.py"))?;
    fs::write(&model, "GGUF and so on")?;
    let (parrot, model) = (parrot.to_str().context("not UTF-8")?, model.to_str().context("not UTF-8")?);
    let run =
        ["providers", "add", "local", "--gguf", model, "--command", "/usr/bin/python3", parrot, "{port}", "{gguf}"];
    home.succeed(&run)?;
    for stream in [false, true] {
        let body = serde_json::json!({
            "model": "local", "messages": [{ "role": "user", "content": "hello" }], "stream": stream,
        });
        let (status, text) = ask("POST", "/v1/chat/completions", &body.to_string())?;
        ensure!(status == 200, "{text}");
    }
    ensure!(ask("POST", "/api/v1/search", r#"{"query":"flowers in spring"}"#)?.0 == 200);
    ensure!(ask("GET", "/nowhere", "")?.0 == 404);
    let (status, text) = ask("GET", "/metrics", "")?;
    ensure!(status == 200, "{text}");
    Ok((home, text))
}

/// Labels of one series.
type Labels = BTreeMap<String, String>;

/// Families with their kinds, and the label sets of their series.
fn exposition(text: &str) -> Result<BTreeMap<String, (String, Vec<Labels>)>> {
    let mut families: BTreeMap<String, (String, Vec<Labels>)> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# HELP")) {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').context("no kind")?;
            ensure!(families.insert(name.to_owned(), (kind.to_owned(), Vec::new())).is_none(), "{name} twice");
            continue;
        }
        // Chunks of an HTTP answer have their sizes between the lines.
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        ensure!(value.parse::<f64>().is_ok(), "{line}");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let family =
            [name, stem(name)].into_iter().find(|name| families.contains_key(*name)).context(line.to_owned())?;
        let labels = labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty());
        let labels = labels.filter_map(|label| label.split_once("=\""));
        let labels = labels.map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned()));
        families.get_mut(family).context("no family")?.1.push(labels.filter(|(name, _)| name != "le").collect());
    }
    Ok(families)
}

/// A histogram's name without what its series add.
fn stem(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

#[test]
fn a_busy_server_emits_what_the_table_has_and_nothing_else() -> Result<()> {
    let (home, text) = busy()?;
    let (table, emitted) = (table(&home)?, exposition(&text)?);
    let (known, seen): (BTreeSet<_>, BTreeSet<_>) = (table.keys().collect(), emitted.keys().collect());
    ensure!(known == seen, "not emitted: {:?}; not in the table: {:?}", &known - &seen, &seen - &known);
    for (name, (kind, series)) in &emitted {
        let metric = &table[name];
        ensure!(&metric.kind == kind, "{name} is a {kind}");
        ensure!(!series.is_empty(), "{name} has no series");
        for labels in series {
            ensure!(labels.keys().eq(metric.labels.keys()), "{name}: {labels:?}");
            for (label, value) in labels {
                let known = metric.labels[label].as_ref().is_none_or(|known| known.contains(value));
                ensure!(known, "{name}: {label} is {value:?}");
            }
        }
    }
    Ok(())
}

/// That a series is there tells nothing of a counter that was shown before there was anything to count.
#[test]
fn every_metric_of_the_table_is_recorded_somewhere() -> Result<()> {
    let mut sources = String::new();
    let mut folders = vec![repository("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("tests") {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("metrics/table.rs") {
                sources.push_str(&fs::read_to_string(path)?);
            }
        }
    }
    let written: String = sources.split_whitespace().collect();
    let home = Home::bare()?;
    for (name, metric) in table(&home)? {
        // Those of the process are written down and not recorded.
        let is_recorded = name.starts_with("process_") || written.contains(&format!("{}!(\"{name}\"", metric.kind));
        ensure!(is_recorded, "{} {name} is recorded nowhere", metric.kind);
    }
    Ok(())
}

#[test]
fn metrics_have_a_door_of_their_own_where_it_is_asked_for() -> Result<()> {
    let home = Home::bare()?;
    home.set("[telemetry]\nmetrics_listen = '127.0.0.1:0'")?;
    let server = home.up(&[])?;
    let url = server.listening["metrics_url"].as_str().context("no address")?;
    let address = url.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/metrics")).context(url.to_owned())?;
    let (status, text) = http(address, "GET /metrics HTTP/1.1\nHost: localhost\nConnection: close\n\n")?;
    ensure!(status == 200 && text.contains("holdfast_build_info"), "{text}");
    let (status, _) = http(address, "GET /api/v1/status HTTP/1.1\nHost: localhost\nConnection: close\n\n")?;
    ensure!(status == 404, "{status}");
    Ok(())
}

/// Bytes of all files below a folder.
fn size_of(folder: &Path) -> Result<u64> {
    fs::read_dir(folder)?
        .map(|entry| {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() { size_of(&entry.path()) } else { Ok(metadata.len()) }
        })
        .sum()
}

#[test]
fn what_grows_on_the_disk_tells_its_size() -> Result<()> {
    let home = Home::with_documents()?;
    home.set("[log]\nlevel = 'debug'")?;
    let mut command = home.command(&["up", "--listen", "127.0.0.1:0", "--json", "docs"]);
    command.env("HOLDFAST_MODELS__CACHE_DISK_BYTES", "100000000");
    let mut server = home.server(command)?;
    server.event("indexed")?;
    let key = server.listening["admin_key"].as_str().context("no key")?;
    let ask = |method: &str, path: &str, body: &str| {
        let head = format!("{method} {path} HTTP/1.1\nHost: localhost\nConnection: close\nX-API-Key: {key}\n");
        let rest = format!("Content-Type: application/json\nContent-Length: {}\n\n{body}", body.len());
        http(server.address()?, &(head + &rest))
    };
    ensure!(ask("POST", "/v1/embeddings", r#"{"input":"to be kept"}"#)?.0 == 200);
    let measured = |series: &str| -> Result<f64> {
        let (_, text) = ask("GET", "/metrics", "")?;
        let value = text.lines().find_map(|line| line.strip_prefix(series)).with_context(|| format!("no {series}"))?;
        Ok(value.trim().parse()?)
    };
    let generation = fs::read_dir(home.data_dir().join("index"))?.next().context("no index")??.path();
    for (series, folder) in [
        ("holdfast_index_bytes{index=\"lexical\"}", generation.join("lexical")),
        ("holdfast_index_bytes{index=\"vectors\"}", generation.join("vectors")),
    ] {
        // An index writes its files when it likes to.
        until(series, || {
            let size = size_of(&folder).unwrap_or_default();
            Ok((size > 0 && (measured(series)? - size as f64).abs() < 1.0).then_some(()))
        })?;
    }
    let cache = home.data_dir().join("cache/embeddings.db");
    until("the vectors on disk", || {
        let size = measured("holdfast_embedding_cache_disk_bytes ")?;
        Ok((size > 0.0 && size >= fs::metadata(&cache)?.len() as f64).then_some(()))
    })?;
    // Each look at it is a line more.
    until("the log", || {
        let size = measured("holdfast_log_files_bytes ")?;
        let there = size_of(&home.data_dir().join("logs"))? as f64;
        Ok((size > 0.0 && size <= there && size > there / 2.0).then_some(()))
    })
}

#[test]
fn promtool_finds_nothing_to_complain_of_in_the_metrics() -> Result<()> {
    let (_home, text) = busy()?;
    // What is between the lines of a chunked answer is none of Prometheus' business.
    let lines = text.lines().filter(|line| line.starts_with('#') || line.contains(' '));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    promtool(&["check", "metrics"], &text)
}

#[test]
fn rules_and_alerts_are_sound_and_each_alert_is_tested_both_ways() -> Result<()> {
    let folder = repository("deploy/prometheus");
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    promtool(&["check", "rules", &path("holdfast.rules.yml"), &path("holdfast.alerts.yml")], "")?;
    promtool(&["check", "config", "--syntax-only", &path("prometheus.yml")], "")?;
    promtool(&["test", "rules", &path("tests/holdfast.test.yml")], "")?;
    let tests = fs::read_to_string(path("tests/holdfast.test.yml"))?;
    let advice = fs::read_to_string(repository("docs/TROUBLESHOOTING.md"))?;
    let sections: BTreeSet<String> = advice
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')))
        .map(|title| title.to_lowercase().replace(' ', "-"))
        .collect();
    let alerts = fs::read_to_string(path("holdfast.alerts.yml"))?;
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    ensure!(names.len() > 20, "{names:?}");
    for name in names {
        ensure!(tests.contains(&format!("name: {name} fires\n")), "{name} is not shown to fire");
        let is_quiet = tests.contains(&format!("name: {name} does not fire\n")) || name == "HoldfastWatchdog";
        ensure!(is_quiet, "{name} is not shown not to fire");
        let anchor = name.to_lowercase();
        ensure!(alerts.contains(&format!("runbook_url: docs/TROUBLESHOOTING.md#{anchor}\n")), "{name} has no runbook");
        ensure!(sections.contains(&anchor), "docs/TROUBLESHOOTING.md has no section {name}");
    }
    Ok(())
}

#[test]
fn what_deploy_asks_for_is_emitted() -> Result<()> {
    let table = table(&Home::bare()?)?;
    let mut asked: Vec<String> = Vec::new();
    let mut recorded: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in ["holdfast.rules.yml", "holdfast.alerts.yml"] {
        let text = fs::read_to_string(repository("deploy/prometheus").join(file))?;
        let mut record = None;
        for line in text.lines().map(str::trim) {
            record = line.strip_prefix("- record: ").or(record);
            let Some(quoted) = line.strip_prefix("expr: ") else { continue };
            let query = quoted.trim_matches('\'').replace("''", "'");
            if let Some(name) = record.take() {
                recorded.insert(name.to_owned(), Query::of(&query).grouped);
            }
            asked.push(query);
        }
    }
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(repository("deploy/grafana/holdfast.json"))?)?;
    let panels = dashboard["panels"].as_array().context("no panels")?.iter();
    asked.extend(
        panels
            .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
            .filter_map(|target| target["expr"].as_str().map(str::to_owned)),
    );
    ensure!(asked.len() > 70, "{} queries", asked.len());
    for query in &asked {
        answerable(query, &table, &recorded)?;
    }
    // What cannot be answered is seen.
    for wrong in [
        "holdfast_nothing",
        "holdfast_uptime_seconds{route=\"x\"}",
        "sum by (nobody) (holdfast_uptime_seconds)",
        "holdfast_errors_total{code=\"unauthorised\"}",
        "holdfast_errors_total{instance=~\"$instance\",code!=\"nothing\"}",
        "holdfast_embedding_cache_total{outcome=~\"hit|keptt\"}",
        "instance_route:holdfast_http_request_duration_seconds:p95_5m{route=\"/api/v1/serch\"}",
    ] {
        ensure!(answerable(wrong, &table, &recorded).is_err(), "{wrong}");
    }
    for right in ["holdfast_embedding_cache_total{outcome=~\"hit|kept\"}", "up{job=\"anything\"}"] {
        answerable(right, &table, &recorded)?;
    }
    Ok(())
}

/// Checks that every series that a query names is there, and every label of it, and that each has the values it is selected
/// by.
fn answerable(
    query: &str,
    table: &BTreeMap<String, Metric>,
    recorded: &BTreeMap<String, BTreeSet<String>>,
) -> Result<()> {
    let Query { selected, grouped } = Query::of(query);
    let mut available: BTreeSet<String> = ADDED.map(str::to_owned).into();
    for (name, labels) in &selected {
        let mut known: BTreeSet<String> = ADDED.map(str::to_owned).into();
        if let Some(labels) = recorded.get(name) {
            known.extend(labels.iter().cloned());
        } else if name != "up" {
            let (metric, is_part) = match table.get(name) {
                Some(metric) => (metric, false),
                None => (table.get(stem(name)).with_context(|| format!("{name} is not emitted: {query}"))?, true),
            };
            ensure!(is_part == (metric.kind == "histogram"), "{name} is a {}: {query}", metric.kind);
            known.extend(metric.labels.keys().cloned());
            known.extend(name.ends_with("_bucket").then(|| "le".to_owned()));
        }
        for (label, value) in labels {
            ensure!(known.contains(label), "{name} has no {label}: {query}");
            ensure!(is_possible(table, name, label, value), "{name} has no {label} {value:?}: {query}");
        }
        available.extend(known);
    }
    ensure!(grouped.is_subset(&available), "nothing has {:?}: {query}", &grouped - &available);
    Ok(())
}

/// Whether a label of a series can have a value. Of what a rule records it is asked whether any metric's label of that
/// name can: it has them from one of them. What Prometheus adds, and what the dashboard fills in, can be anything.
fn is_possible(table: &BTreeMap<String, Metric>, name: &str, label: &str, value: &str) -> bool {
    let mut metrics: Vec<&Metric> = table.get(name).or_else(|| table.get(stem(name))).into_iter().collect();
    if metrics.is_empty() {
        metrics.extend(table.values());
    }
    let mut values = metrics.iter().filter_map(|metric| metric.labels.get(label)).peekable();
    let is_free = values.peek().is_none() || value.starts_with('$');
    is_free || values.any(|known| known.as_ref().is_none_or(|known| known.contains(value)))
}

/// What a PromQL query names.
#[derive(Debug, Default)]
struct Query {
    /// Series, with the labels and the values they are selected by.
    selected: Vec<(String, Vec<(String, String)>)>,
    /// Labels that results are grouped by.
    grouped: BTreeSet<String>,
}

impl Query {
    /// Reads a query as far as that is needed here: names, braces, and the brackets after `by`.
    fn of(query: &str) -> Self {
        let mut found = Self::default();
        let mut rest = query;
        while let Some(first) = rest.chars().next() {
            if first == '"' {
                rest = rest[1..].split_once('"').map_or("", |(_, rest)| rest);
            } else if first == '[' {
                rest = rest.split_once(']').map_or("", |(_, rest)| rest);
            } else if first.is_ascii_alphabetic() || first == '_' {
                let is_in_name = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
                let end = rest.find(|c| !is_in_name(c)).unwrap_or(rest.len());
                let name = &rest[..end];
                rest = rest[end..].trim_start();
                rest = found.take(name, rest);
            } else if first.is_ascii_digit() {
                // Of `1e9`, or `95` in a name that cannot begin so.
                rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
            } else {
                rest = &rest[first.len_utf8()..];
            }
        }
        found
    }

    /// Takes in a name and what belongs to it; gives what comes after.
    fn take<'a>(&mut self, name: &str, rest: &'a str) -> &'a str {
        const WORDS: [&str; 6] = ["and", "or", "unless", "bool", "group_left", "offset"];
        if ["by", "on", "without", "ignoring"].contains(&name) {
            let (labels, rest) = rest.trim_start_matches('(').split_once(')').unwrap_or((rest, ""));
            self.grouped.extend(labels.split(',').map(|label| label.trim().to_owned()));
            return rest;
        }
        let is_aggregation = ["sum", "max", "min", "avg", "count"].contains(&name);
        if rest.starts_with('(') || is_aggregation || WORDS.contains(&name) {
            return rest;
        }
        let Some(braces) = rest.strip_prefix('{') else {
            self.selected.push((name.to_owned(), Vec::new()));
            return rest;
        };
        let (matchers, rest) = braces.split_once('}').unwrap_or((braces, ""));
        let matchers =
            matchers.split("\",").filter_map(|matcher| matcher.split_once('"')).flat_map(|(label, values)| {
                let label = label.trim_end_matches(['=', '!', '~']).trim();
                // A pattern is several values, or what the dashboard fills in.
                values.trim_end_matches('"').split('|').map(move |value| (label.to_owned(), value.to_owned()))
            });
        self.selected.push((name.to_owned(), matchers.collect()));
        rest
    }
}

/// Runs Prometheus' own tool.
fn promtool(arguments: &[&str], input: &str) -> Result<()> {
    let mut child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("promtool is needed: apt-get install prometheus")?;
    child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let told = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "promtool {arguments:?}: {}\n{}", output.status, String::from_utf8_lossy(&told));
    Ok(())
}
