//! Rules about `deploy/`: what runs there is pinned, has no more rights than it needs, and holds no secret.
//!
//! Owns the reading of compose files, Kubernetes manifests, container files and systemd units. YAML and JSON become one
//! kind of value, and rules go by what a value says and not by what its file is called. What a chart's templates would
//! become is not known here: a file of YAML that cannot be read is a finding.

use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

use crate::repository::TrackedFile;

use super::{Finding, settings};

const FOLDER: &str = "deploy/";
/// Ports that only ever speak TLS.
const TLS_PORTS: [&str; 2] = ["8443", "443"];
/// What the name of a variable or field with a secret ends with.
const SECRETS: [&str; 6] = ["password", "passphrase", "secret", "token", "api_key", "apikey"];
/// What a unit of systemd has to say, and why.
const UNIT_SETTINGS: [(&str, &str); 4] = [
    ("NoNewPrivileges=yes", "may gain rights"),
    ("ProtectSystem=strict", "may write anywhere"),
    ("PrivateTmp=yes", "shares temporary files with others"),
    ("MemoryMax=", "has no limit of memory"),
];

/// Findings in everything below `deploy/`, and how many files there are.
pub fn check(files: &[TrackedFile]) -> (Vec<Finding>, usize) {
    let mut findings = Vec::new();
    let mut count = 0;
    for file in files.iter().filter(|file| file.path.starts_with(FOLDER)) {
        count += 1;
        findings.extend(check_file(&file.path, file.text().unwrap_or_default()));
    }
    (findings, count)
}

fn check_file(path: &str, text: &str) -> Vec<Finding> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let ending = name.rsplit('.').next().unwrap_or_default();
    match ending {
        "yml" | "yaml" => match YamlLoader::load_from_str(text) {
            Ok(documents) => documents.iter().flat_map(|document| check_document(path, &json_of(document))).collect(),
            Err(error) => vec![unreadable(path, &error)],
        },
        "json" => match serde_json::from_str(text) {
            Ok(document) => check_document(path, &document),
            Err(error) => vec![unreadable(path, &error)],
        },
        "service" => check_unit(path, text),
        _ if name.contains("Dockerfile") || name.contains("Containerfile") => check_container_file(path, text),
        _ => Vec::new(),
    }
}

fn unreadable(path: &str, error: &dyn std::fmt::Display) -> Finding {
    Finding::new("deploy.unreadable", path, format!("cannot be read: {error}"), "correct it, or leave it out")
}

/// The same value without what JSON does not have. Keys become text, as every reader of these files takes them.
fn json_of(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Real(text) | Yaml::String(text) => Value::from(text.as_str()),
        Yaml::Integer(number) => Value::from(*number),
        Yaml::Boolean(truth) => Value::from(*truth),
        Yaml::Array(list) => list.iter().map(json_of).collect(),
        Yaml::Hash(map) => {
            let text = |key: &Yaml| match json_of(key) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            Value::Object(map.iter().map(|(key, value)| (text(key), json_of(value))).collect())
        }
        Yaml::Alias(_) | Yaml::Null | Yaml::BadValue => Value::Null,
    }
}

fn check_document(path: &str, document: &Value) -> Vec<Finding> {
    let mut review = Review { path, findings: Vec::new() };
    review.visit("", document);
    if let Some(services) = document["services"].as_object() {
        for (name, service) in services.iter().filter(|(_, service)| is_container(service)) {
            review.compose_service(&format!("services.{name}"), service);
        }
    }
    if document["kind"] == "Secret" && ["data", "stringData"].iter().any(|field| has_entries(&document[*field])) {
        let message = "is a secret in plain text";
        review.add("deploy.secret", "kind", message, "keep it in the cluster's store, and name it here");
    }
    review.findings
}

fn is_container(service: &Value) -> bool {
    service.get("image").is_some() || service.get("build").is_some()
}

fn has_entries(value: &Value) -> bool {
    value.as_object().is_some_and(|entries| !entries.is_empty())
}

/// One document and what was found in it.
struct Review<'a> {
    path: &'a str,
    findings: Vec<Finding>,
}

impl Review<'_> {
    fn add(&mut self, rule: &'static str, key: &str, message: impl Into<String>, remedy: &str) {
        self.findings.push(Finding::new(rule, format!("{}#{key}", self.path), message, remedy));
    }

    /// What holds wherever it stands.
    fn visit(&mut self, key: &str, value: &Value) {
        match value {
            Value::Object(map) => {
                for (name, inner) in map {
                    let below = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                    self.member(&below, name, inner);
                    self.visit(&below, inner);
                }
                for list in ["containers", "initContainers"] {
                    for container in map.get(list).and_then(Value::as_array).into_iter().flatten() {
                        self.pod_container(&format!("{key}.{list}"), container);
                    }
                }
                self.named_variable(key, map);
            }
            Value::Array(list) => {
                for (at, inner) in list.iter().enumerate() {
                    if let Value::String(text) = inner {
                        self.word(&format!("{key}[{at}]"), text, list.get(at + 1).and_then(Value::as_str));
                    }
                    self.visit(&format!("{key}[{at}]"), inner);
                }
            }
            _ => {}
        }
    }

    fn member(&mut self, key: &str, name: &str, value: &Value) {
        if name == "image"
            && let Some(image) = value.as_str()
            && !is_pinned(image)
        {
            let message = format!("takes {image}, which is another one tomorrow");
            self.add("deploy.unpinned-image", key, message, "name a version, or better a digest");
        }
        if name == "privileged" && value == true {
            self.add(
                "deploy.privileged",
                key,
                "has every right on the machine",
                "remove it, and add single capabilities",
            );
        }
        if ["hostNetwork", "hostPID", "hostIPC"].contains(&name) && value == true
            || ["network_mode", "pid", "ipc"].contains(&name) && value == "host"
        {
            self.add("deploy.host-namespace", key, "shares the machine's own namespace", "remove it");
        }
        if name == "allowPrivilegeEscalation" && value == true {
            self.add("deploy.privileged", key, "may gain rights", "set it to false");
        }
        if let Some(text) = value.as_str() {
            self.variable(key, name, text);
        }
    }

    /// `KEY=value`, or a flag and what follows it.
    fn word(&mut self, key: &str, text: &str, next: Option<&str>) {
        if let Some((name, value)) = text.split_once('=') {
            self.variable(key, name.trim_start_matches('-'), value);
        } else if let (Some(name), Some(value)) = (text.strip_prefix("--"), next) {
            self.variable(key, name, value);
        }
    }

    /// `name: KEY` beside `value: …`, as Kubernetes has it.
    fn named_variable(&mut self, key: &str, map: &Map<String, Value>) {
        if let (Some(name), Some(value)) =
            (map.get("name").and_then(Value::as_str), map.get("value").and_then(Value::as_str))
        {
            self.variable(key, name, value);
        }
    }

    fn variable(&mut self, key: &str, name: &str, value: &str) {
        let name = name.to_lowercase().replace('-', "_");
        let given_elsewhere = value.is_empty() || value.starts_with(['$', '<', '{', '/']);
        if (SECRETS.iter().any(|secret| name.ends_with(secret)) && !given_elsewhere) || settings::has_password(value) {
            self.add(
                "deploy.secret",
                key,
                "holds a secret in plain text",
                "give it by file or from the platform's store",
            );
        }
        let listens = name == "listen" || name.ends_with("__listen");
        if listens && !settings::is_private(value) && !value.starts_with('$') {
            let message = format!("listens on {value} without TLS");
            self.add("deploy.open-listener", key, message, "use --listen-tls, or listen on 127.0.0.1");
        }
    }

    fn compose_service(&mut self, key: &str, service: &Value) {
        if service["read_only"] != true {
            self.add(
                "deploy.writable-root",
                key,
                "may write its own root",
                "read_only: true, and a volume for its data",
            );
        }
        let limits = &service["deploy"]["resources"]["limits"];
        if service.get("mem_limit").is_none() && limits.get("memory").is_none() {
            self.add("deploy.no-limit", key, "has no limit of memory", "deploy.resources.limits.memory");
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            let shown = port.as_str().map_or_else(|| port.to_string(), str::to_owned);
            if !is_published_safely(port) {
                let message = format!("publishes {shown} to every network without TLS");
                self.add(
                    "deploy.open-listener",
                    &format!("{key}.ports"),
                    message,
                    "publish to 127.0.0.1, or the TLS port",
                );
            }
        }
    }

    fn pod_container(&mut self, key: &str, container: &Value) {
        let name = container["name"].as_str().unwrap_or("unnamed");
        let key = format!("{key}.{name}");
        if container["securityContext"]["readOnlyRootFilesystem"] != true {
            let remedy = "securityContext.readOnlyRootFilesystem: true";
            self.add("deploy.writable-root", &key, "may write its own root", remedy);
        }
        if container["resources"]["limits"].get("memory").is_none() {
            self.add("deploy.no-limit", &key, "has no limit of memory", "resources.limits.memory");
        }
    }
}

/// Whether an image is the same tomorrow: by digest, or by a tag that is no moving one. What a variable holds is asked
/// of its default.
fn is_pinned(image: &str) -> bool {
    let image = match image.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        Some(variable) => variable.split_once(":-").map_or("", |(_, default)| default),
        None => image,
    };
    if image.contains("@sha256:") || image == "scratch" {
        return true;
    }
    let name = image.rsplit('/').next().unwrap_or_default();
    name.split_once(':')
        .is_some_and(|(_, tag)| !["latest", "", "main", "master", "edge", "nightly", "stable"].contains(&tag))
}

/// Whether a published port can be reached from this machine only, or speaks TLS.
fn is_published_safely(port: &Value) -> bool {
    if let Some(map) = port.as_object() {
        let target = map.get("target").map(|target| target.to_string().replace('"', "")).unwrap_or_default();
        let host = map.get("host_ip").and_then(Value::as_str).unwrap_or_default();
        return TLS_PORTS.contains(&target.as_str()) || (!host.is_empty() && settings::is_private(host));
    }
    let text = port.as_str().map_or_else(|| port.to_string(), str::to_owned);
    let (rest, target) = text.rsplit_once(':').unwrap_or(("", &text));
    let target = target.split('/').next().unwrap_or_default();
    let host = rest.rsplit_once(':').map_or("", |(host, _)| host);
    TLS_PORTS.contains(&target) || (!host.is_empty() && settings::is_private(host))
}

fn check_unit(path: &str, text: &str) -> Vec<Finding> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])).collect();
    let missing = UNIT_SETTINGS.iter().filter(|(setting, _)| !lines.iter().any(|line| line.starts_with(setting)));
    let mut findings: Vec<Finding> = missing
        .map(|(setting, message)| {
            let key = setting.split('=').next().unwrap_or_default();
            Finding::new("deploy.loose-unit", format!("{path}#{key}"), *message, format!("add {setting} to [Service]"))
        })
        .collect();
    let mut review = Review { path, findings: Vec::new() };
    for line in lines {
        if let Some(assignment) = line.strip_prefix("Environment=") {
            review.word("Environment", assignment.trim_matches('"'), None);
        }
        if let Some(command) = line.strip_prefix("ExecStart=") {
            let words: Vec<&str> = command.split_whitespace().collect();
            for (at, word) in words.iter().enumerate() {
                review.word("ExecStart", word, words.get(at + 1).copied());
            }
        }
    }
    findings.extend(review.findings);
    findings
}

fn check_container_file(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut stages: Vec<&str> = Vec::new();
    let mut user = None;
    let mut review = Review { path, findings: Vec::new() };
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().filter(|word| !word.starts_with("--")).collect();
        match words.first().map(|word| word.to_uppercase()).as_deref() {
            Some("FROM") => {
                let image = words.get(1).copied().unwrap_or_default();
                if !stages.contains(&image) && !is_pinned(image) {
                    let message = format!("builds on {image}, which is another one tomorrow");
                    let remedy = "name a version, or better a digest";
                    findings.push(Finding::new("deploy.unpinned-image", path, message, remedy).at(index + 1));
                }
                stages.extend(words.get(3));
                user = None;
            }
            Some("USER") => user = words.get(1).copied(),
            Some("ENV" | "ARG") => words[1..].iter().for_each(|word| review.word("ENV", word, None)),
            _ => {}
        }
    }
    if user.is_none_or(|user| user == "root" || user.starts_with("0")) {
        findings.push(Finding::new("deploy.root-user", path, "runs as root", "end with `USER` and a number above 0"));
    }
    findings.extend(review.findings);
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(name: &str, text: &str) -> Vec<&'static str> {
        let mut rules: Vec<_> = check_file(&format!("deploy/{name}"), text).iter().map(|found| found.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    const COMPOSE: &str = "services:\n  holdfast:\n    image: example.org:5000/holdfast:0.1.0\n    read_only: true\n    \
        ports: ['8443:8443', '127.0.0.1:8088:8088']\n    environment:\n      HOLDFAST_HUB__TOKEN_FILE: /run/secrets/hub\n    \
        deploy:\n      resources:\n        limits:\n          memory: 1g\n";

    /// The good compose file with one thing changed.
    fn compose(from: &str, to: &str) -> Vec<&'static str> {
        assert!(COMPOSE.contains(from), "{from}");
        rules("compose.yaml", &COMPOSE.replace(from, to))
    }

    #[test]
    fn a_compose_file_that_is_well_has_no_finding() {
        assert!(rules("compose.yaml", COMPOSE).is_empty());
    }

    #[test]
    fn each_fault_of_a_compose_file_is_found() {
        assert_eq!(compose("holdfast:0.1.0", "holdfast:latest"), ["deploy.unpinned-image"]);
        assert_eq!(compose("holdfast:0.1.0", "holdfast"), ["deploy.unpinned-image"]);
        assert_eq!(compose("read_only: true", "read_only: true\n    privileged: true"), ["deploy.privileged"]);
        assert_eq!(compose("read_only: true", "read_only: true\n    network_mode: host"), ["deploy.host-namespace"]);
        assert_eq!(compose("read_only: true", "read_only: false"), ["deploy.writable-root"]);
        assert_eq!(compose("memory: 1g", "cpus: '1'"), ["deploy.no-limit"]);
        assert_eq!(compose("127.0.0.1:8088:8088", "8088:8088"), ["deploy.open-listener"]);
        assert_eq!(compose("TOKEN_FILE: /run/secrets/hub", "TOKEN: abc"), ["deploy.secret"]);
        assert_eq!(
            compose("HOLDFAST_HUB__TOKEN_FILE: /run/secrets/hub", "HOLDFAST_SERVER__LISTEN: 0.0.0.0:8088"),
            ["deploy.open-listener"]
        );
        assert_eq!(rules("compose.yaml", "services: ["), ["deploy.unreadable"]);
    }

    const POD: &str = "kind: Pod\nspec:\n  containers:\n  - name: holdfast\n    image: holdfast@sha256:ab\n    \
        args: [up, --listen-tls, '0.0.0.0:8443']\n    env:\n    - name: HUB_TOKEN\n      valueFrom: {secretKeyRef: {name: a, key: b}}\n    \
        resources: {limits: {memory: 1Gi}}\n    securityContext: {readOnlyRootFilesystem: true}\n";

    #[test]
    fn a_pod_is_judged_by_its_containers() {
        assert!(rules("pod.yaml", POD).is_empty());
        let pod = |from: &str, to: &str| {
            assert!(POD.contains(from), "{from}");
            rules("pod.yaml", &POD.replace(from, to))
        };
        assert_eq!(
            pod("readOnlyRootFilesystem: true", "privileged: true"),
            ["deploy.privileged", "deploy.writable-root"]
        );
        assert_eq!(pod("memory: 1Gi", "cpu: 1"), ["deploy.no-limit"]);
        assert_eq!(pod("--listen-tls", "--listen"), ["deploy.open-listener"]);
        assert_eq!(pod("valueFrom: {secretKeyRef: {name: a, key: b}}", "value: abc"), ["deploy.secret"]);
        assert_eq!(pod("spec:", "spec:\n  hostNetwork: true"), ["deploy.host-namespace"]);
        assert_eq!(rules("secret.yaml", "kind: Secret\nstringData: {key: abc}\n"), ["deploy.secret"]);
        assert!(rules("map.yaml", "kind: ConfigMap\ndata: {level: info}\n").is_empty());
    }

    #[test]
    fn a_unit_says_what_it_may() {
        let good = "[Service]\nNoNewPrivileges=yes\nProtectSystem=strict\nPrivateTmp=yes\nMemoryMax=2G\n\
                    ExecStart=/usr/bin/holdfast up --listen 127.0.0.1:8088\n";
        assert!(rules("holdfast.service", good).is_empty());
        for line in ["NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes", "MemoryMax=2G"] {
            assert_eq!(rules("holdfast.service", &good.replace(line, "")), ["deploy.loose-unit"], "{line}");
        }
        assert_eq!(rules("holdfast.service", &good.replace("127.0.0.1", "0.0.0.0")), ["deploy.open-listener"]);
        let secret = good.replace("[Service]", "[Service]\nEnvironment=\"HUB_TOKEN=abc\"");
        assert_eq!(rules("holdfast.service", &secret), ["deploy.secret"]);
    }

    #[test]
    fn a_container_file_is_pinned_and_not_roots() {
        let good = "FROM debian:12.5 AS build\nRUN make\nFROM build\nFROM scratch\nCOPY --from=build a b\nUSER 65532\n";
        assert!(rules("Dockerfile", good).is_empty());
        assert_eq!(rules("Dockerfile", &good.replace("debian:12.5", "debian")), ["deploy.unpinned-image"]);
        assert_eq!(rules("Containerfile", &good.replace("65532", "root")), ["deploy.root-user"]);
        assert_eq!(rules("Dockerfile", &good.replace("USER 65532\n", "")), ["deploy.root-user"]);
        assert_eq!(rules("Dockerfile", &good.replace("RUN make", "ENV API_TOKEN=abc")), ["deploy.secret"]);
    }

    #[test]
    fn dashboards_and_rules_are_read_and_have_nothing_wrong() {
        assert!(
            rules("grafana/dashboard.json", r#"{"panels":[{"targets":[{"expr":"rate(holdfast_x[5m])"}]}]}"#).is_empty()
        );
        assert!(
            rules("prometheus/rules.yml", "groups:\n- name: a\n  rules:\n  - alert: Down\n    expr: up == 0\n")
                .is_empty()
        );
        assert_eq!(rules("grafana/dashboard.json", "{"), ["deploy.unreadable"]);
    }
}
