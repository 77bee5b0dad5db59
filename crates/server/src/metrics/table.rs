//! Every metric there is: what it is called, what it counts, in which unit, with which labels, and who records it.
//!
//! The recorder takes its descriptions from here, `docs/METRICS.md` is written from here, and tests compare the table
//! with what a busy server emits and with what `deploy/` asks for. It records nothing itself.
//!
//! A metric belongs here before it is recorded. One that only appears when something fails is there from the start with
//! a zero: an alert on its increase would otherwise miss the first time.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{error::Code, mcp, routes};

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Only grows, from 0 at each start.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size, with `_bucket`, `_sum` and `_count`.
    Histogram,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A label, and what it may say.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub values: Values,
}

/// The values of a label. Each set has a bound that no client moves.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// These words.
    Words(&'static [&'static str]),
    /// The templates of the route table, and `none` for a path without one.
    Routes,
    /// The codes of `docs/ERRORS.md`.
    Codes,
    /// The MCP tools.
    Tools,
    /// The names of the models that the operator has pulled or connected, of which somebody asked for one.
    Models,
    /// The models of the providers on record, as clients call them.
    LanguageModels,
    /// The names of the providers on record.
    Providers,
    /// `model-` and the name of a provider whose model is run here.
    Services,
    /// One value for the life of the process.
    Build,
}

impl Values {
    /// Every value, where they are known before the program runs.
    pub fn known(self) -> Option<Vec<&'static str>> {
        match self {
            Self::Words(words) => Some(words.to_vec()),
            Self::Routes => {
                let templates = routes::ROUTES.iter().map(|route| route.path);
                Some(templates.chain([crate::routes::NOWHERE.path]).collect())
            }
            Self::Codes => Some(Code::ALL.iter().map(|code| code.as_str()).collect()),
            Self::Tools => Some(mcp::tools::TOOLS.map(|(name, _)| name).to_vec()),
            Self::Models | Self::LanguageModels | Self::Providers | Self::Services | Self::Build => None,
        }
    }

    fn told(self) -> String {
        match self {
            Self::Words(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
            Self::Routes => "a route's template, or `none`".to_owned(),
            Self::Codes => "a code of [ERRORS.md](ERRORS.md)".to_owned(),
            Self::Tools => "an MCP tool".to_owned(),
            Self::Models => "a model that the operator has pulled or connected".to_owned(),
            Self::LanguageModels => "a model of a provider on record".to_owned(),
            Self::Providers => "a provider on record".to_owned(),
            Self::Services => "`model-` and a provider whose model is run here".to_owned(),
            Self::Build => "one value".to_owned(),
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What one of it is.
    pub unit: &'static str,
    /// Its labels.
    pub labels: &'static [Label],
    /// What it says, in one line.
    pub help: &'static str,
    /// The crate that records it.
    pub source: &'static str,
}

/// Names and values of one series.
pub(super) type LabelValues = Vec<(&'static str, &'static str)>;

/// A metric as `holdfast metrics --json` prints it.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    labels: Vec<RowLabel>,
    help: &'static str,
    source: &'static str,
}

#[derive(Debug, Serialize)]
struct RowLabel {
    name: &'static str,
    /// Nothing where they are named by the operator.
    values: Option<Vec<&'static str>>,
}

/// The upper bounds of histograms that tell seconds: from a cached search to a large ingestion request.
pub(super) const SECONDS: [f64; 16] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// The upper bounds of histograms that tell how long a language model takes: from a kept prompt on a fast one to a long
/// answer on a processor.
pub(super) const LONG_SECONDS: [f64; 15] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// The upper bounds of histograms that tell how many texts or tokens a batch has.
pub(super) const COUNTS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// The queues and rooms that have a bound for the whole process; those of models have metrics of their own.
pub const QUEUES: [&str; 11] = [
    "http_requests",
    "http_body_bytes",
    "mcp_sessions",
    "mcp_calls",
    "whole_texts",
    "ingest",
    "database_writes",
    "learning_writes",
    "events",
    "telemetry_spans",
    "telemetry_logs",
];

/// The parts whose health is told here; services that are run here have a metric of their own.
pub const COMPONENTS: [&str; 15] = [
    "embedding",
    "remote",
    "database",
    "disk",
    "vectors",
    "lexical",
    "ingest",
    "sources",
    "jobs",
    "events",
    "language_models",
    "learning",
    "log",
    "settings",
    "tls",
];

const ROUTE: Label = Label { name: "route", values: Values::Routes };
const METHOD: Label = Label {
    name: "method",
    values: Values::Words(&["GET", "POST", "DELETE", "HEAD", "PUT", "PATCH", "OPTIONS", "other"]),
};
const STATUS: Label = Label { name: "status", values: Values::Words(&["1xx", "2xx", "3xx", "4xx", "5xx"]) };
const MODEL: Label = Label { name: "model", values: Values::Models };
const PRIORITY: Label = Label { name: "priority", values: Values::Words(&["interactive", "bulk"]) };
const INDEX: Label = Label { name: "index", values: Values::Words(&["vectors", "lexical"]) };
const DATABASE: Label = Label { name: "database", values: Values::Words(&["main", "events", "learning"]) };
const OUTCOME: Label = Label { name: "outcome", values: Values::Words(&["ok", "error"]) };
const LANGUAGE_MODEL: Label = Label { name: "model", values: Values::LanguageModels };
const SERVICE: Label = Label { name: "service", values: Values::Services };
const SIGNAL: Label = Label { name: "signal", values: Values::Words(&["traces", "logs"]) };

const fn counter(name: &'static str, unit: &'static str, labels: &'static [Label], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, unit, labels, help, source: "" }
}

const fn gauge(name: &'static str, unit: &'static str, labels: &'static [Label], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, labels, help, source: "" }
}

const fn histogram(name: &'static str, unit: &'static str, labels: &'static [Label], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, unit, labels, help, source: "" }
}

impl Metric {
    const fn of(mut self, source: &'static str) -> Self {
        self.source = source;
        self
    }

    /// Every combination of label values, where all are known.
    pub(super) fn series(&self) -> Option<Vec<LabelValues>> {
        let mut series = vec![Vec::new()];
        for label in self.labels {
            let values = label.values.known()?;
            let longer = |begun: &LabelValues| -> Vec<LabelValues> {
                let with = |value: &&'static str| [begun.as_slice(), &[(label.name, *value)]].concat();
                values.iter().map(with).collect()
            };
            series = series.iter().flat_map(longer).collect();
        }
        Some(series)
    }
}

/// What is asked of the server, and what becomes of it.
const SERVER: &[Metric] = &[
    counter("holdfast_http_requests_total", "requests", &[ROUTE, METHOD, STATUS], "Requests answered").of("server"),
    histogram(
        "holdfast_http_request_duration_seconds",
        "seconds",
        &[ROUTE],
        "Time from a request's head to its answer's",
    )
    .of("server"),
    gauge("holdfast_http_requests_in_flight", "requests", &[], "Requests being worked on, probes included")
        .of("server"),
    gauge("holdfast_http_connections", "connections", &[], "Connections open, those of MCP sessions included")
        .of("server"),
    counter(
        "holdfast_http_connections_ended_total",
        "connections",
        &[Label { name: "reason", values: Values::Words(&["stalled", "gave_way", "malformed", "too_large"]) }],
        "Connections closed before their client did: they stood still, gave way to another in a full house, or sent a head that is no HTTP or too large",
    )
    .of("server"),
    counter(
        "holdfast_tls_handshakes_total",
        "handshakes",
        &[Label { name: "outcome", values: Values::Words(&["done", "failed", "timed_out", "plain"]) }],
        "Connections to the TLS listener, by how they began",
    )
    .of("server"),
    gauge(
        "holdfast_tls_certificate_expiry_timestamp_seconds",
        "seconds",
        &[],
        "When the certificate in use ends, Unix time; 0 where nothing is served over TLS",
    )
    .of("server"),
    counter(
        "holdfast_tls_reloads_total",
        "reloads",
        &[Label { name: "outcome", values: Values::Words(&["changed", "unchanged", "refused"]) }],
        "Times the certificate files changed, by what became of that",
    )
    .of("server"),
    counter(
        "holdfast_rate_limited_total",
        "requests",
        &[Label {
            name: "limit",
            values: Values::Words(&[
                "key_requests",
                "address_requests",
                "key_texts",
                "address_texts",
                "key_concurrency",
                "failed_keys",
            ]),
        }],
        "Requests refused over a limit",
    )
    .of("server"),
    gauge(
        "holdfast_rate_limit_buckets",
        "buckets",
        &[Label {
            name: "limit",
            values: Values::Words(&["key_requests", "address_requests", "key_texts", "address_texts", "failed_keys"]),
        }],
        "Keys or addresses of which it is remembered what they did",
    )
    .of("server"),
    counter(
        "holdfast_authentication_failures_total",
        "failures",
        &[Label {
            name: "reason",
            values: Values::Words(&[
                "missing",
                "several",
                "in_query",
                "malformed",
                "unknown",
                "revoked",
                "expired",
                "address",
            ]),
        }],
        "Requests whose key was not taken",
    )
    .of("server"),
    counter(
        "holdfast_log_lines_dropped_total",
        "lines",
        &[Label { name: "sink", values: Values::Words(&["stderr", "file"]) }],
        "Log lines that were not written, by where to",
    )
    .of("app"),
    gauge("holdfast_log_files_bytes", "bytes", &[], "Bytes of the log files; 0 where none are written").of("app"),
    counter(
        "holdfast_errors_total",
        "failures",
        &[Label { name: "code", values: Values::Codes }],
        "Failures told to callers",
    )
    .of("server"),
    counter(
        "holdfast_mcp_calls_total",
        "calls",
        &[Label { name: "tool", values: Values::Tools }, OUTCOME],
        "MCP tool calls",
    )
    .of("server"),
    gauge(
        "holdfast_queue_length",
        "items",
        &[Label { name: "queue", values: Values::Words(&QUEUES) }],
        "What waits, or is inside, at a place that has a bound",
    )
    .of("server"),
    gauge(
        "holdfast_queue_limit",
        "items",
        &[Label { name: "queue", values: Values::Words(&QUEUES) }],
        "The bound of that place; beyond it work is refused, or waits outside",
    )
    .of("server"),
    gauge(
        "holdfast_component_status",
        "state",
        &[Label { name: "component", values: Values::Words(&COMPONENTS) }],
        "How a part is: 0 ready, 1 degraded, 2 down",
    )
    .of("server"),
    gauge("holdfast_uptime_seconds", "seconds", &[], "Time since the server was built").of("server"),
];

/// The knowledge base.
const KNOWLEDGE: &[Metric] = &[
    gauge("holdfast_index_chunks", "chunks", &[INDEX], "Chunks in the indexes, all generations together")
        .of("knowledge"),
    gauge("holdfast_index_backlog", "changes", &[INDEX], "Changes that the indexes have yet to apply").of("knowledge"),
    gauge("holdfast_index_failing", "generations", &[INDEX], "Generations whose index does not get on").of("knowledge"),
    gauge("holdfast_vectors_bytes", "bytes", &[], "Memory of the vector indexes").of("knowledge"),
    gauge("holdfast_jobs_running", "jobs", &[], "Jobs that are not finished").of("knowledge"),
    gauge(
        "holdfast_sources",
        "sources",
        &[Label { name: "state", values: Values::Words(&["ok", "failing"]) }],
        "Sources, by how the last look at them went",
    )
    .of("knowledge"),
    counter(
        "holdfast_documents_written_total",
        "documents",
        &[Label { name: "change", values: Values::Words(&["created", "updated", "unchanged"]) }],
        "Documents that came out of the pipeline",
    )
    .of("knowledge"),
    counter("holdfast_documents_failed_total", "documents", &[], "Documents that the pipeline gave up").of("knowledge"),
    gauge("holdfast_search_cache_bytes", "bytes", &[], "Memory of kept answers and rankings").of("knowledge"),
    counter(
        "holdfast_search_cache_total",
        "searches",
        &[Label { name: "outcome", values: Values::Words(&["hit", "miss"]) }],
        "Searches, by whether their answer was kept",
    )
    .of("knowledge"),
    counter(
        "holdfast_search_degraded_total",
        "searches",
        &[],
        "Searches that were answered without one of their lists",
    )
    .of("knowledge"),
];

/// The database, its indexes, the disk they lie on.
const STORAGE: &[Metric] = &[
    gauge("holdfast_database_bytes", "bytes", &[], "Bytes of the database and its log on disk").of("knowledge"),
    counter("holdfast_database_commits_total", "commits", &[DATABASE, OUTCOME], "Commits to a database").of("storage"),
    counter("holdfast_database_writes_total", "writes", &[DATABASE], "Writes in those commits").of("storage"),
    histogram(
        "holdfast_database_commit_duration_seconds",
        "seconds",
        &[DATABASE],
        "Time of a commit, its sync included",
    )
    .of("storage"),
    gauge(
        "holdfast_database_readers",
        "connections",
        &[Label { name: "state", values: Values::Words(&["idle", "in_use"]) }],
        "Pooled reading connections",
    )
    .of("knowledge"),
    counter(
        "holdfast_database_reads_total",
        "reads",
        &[DATABASE],
        "Reads, each of which took a connection out of the pool",
    )
    .of("storage"),
    counter("holdfast_database_reader_waits_total", "reads", &[DATABASE], "Reads that found the pool empty and waited")
        .of("storage"),
    gauge("holdfast_index_bytes", "bytes", &[INDEX], "Bytes of the index files on disk, all generations together")
        .of("knowledge"),
    histogram("holdfast_index_apply_duration_seconds", "seconds", &[INDEX], "Time to apply one step of changes")
        .of("storage"),
    gauge("holdfast_disk_free_bytes", "bytes", &[], "Bytes that can still be written to the data directory's disk")
        .of("knowledge"),
    gauge("holdfast_disk_size_bytes", "bytes", &[], "Bytes of the data directory's disk").of("knowledge"),
];

/// Models here, and those that other servers run.
const EMBEDDING: &[Metric] = &[
    counter("holdfast_embedding_tokens_total", "tokens", &[MODEL, PRIORITY], "Tokens embedded").of("embedding"),
    histogram("holdfast_embedding_batch_seconds", "seconds", &[MODEL, PRIORITY], "Time to embed a batch")
        .of("embedding"),
    histogram("holdfast_embedding_batch_texts", "texts", &[MODEL, PRIORITY], "Texts of a batch").of("embedding"),
    histogram("holdfast_embedding_batch_tokens", "tokens", &[MODEL, PRIORITY], "Tokens of a batch").of("embedding"),
    counter("holdfast_embedding_batches_failed_total", "batches", &[MODEL], "Batches that were given up")
        .of("embedding"),
    histogram("holdfast_embedding_wait_seconds", "seconds", &[MODEL, PRIORITY], "Time a text waited for a thread")
        .of("embedding"),
    gauge("holdfast_embedding_queue_texts", "texts", &[MODEL, PRIORITY], "Texts accepted and not answered")
        .of("embedding"),
    gauge(
        "holdfast_embedding_queue_limit_texts",
        "texts",
        &[MODEL, PRIORITY],
        "Texts that may be unanswered at a time",
    )
    .of("embedding"),
    counter(
        "holdfast_embedding_refused_total",
        "requests",
        &[MODEL, PRIORITY],
        "Requests refused because too much waits",
    )
    .of("embedding"),
    counter("holdfast_embedding_shared_total", "texts", &[MODEL], "Texts that were under way for another request")
        .of("embedding"),
    gauge(
        "holdfast_embedding_threads",
        "threads",
        &[MODEL],
        "Threads that embed; batch seconds over them are their use",
    )
    .of("embedding"),
    counter(
        "holdfast_embedding_cache_total",
        "texts",
        &[Label { name: "outcome", values: Values::Words(&["hit", "kept", "miss"]) }],
        "Texts looked up among kept vectors: found in memory, on disk, or not",
    )
    .of("embedding"),
    counter("holdfast_embedding_cache_evictions_total", "vectors", &[], "Vectors given up for others").of("embedding"),
    gauge("holdfast_embedding_cache_bytes", "bytes", &[], "Memory of kept vectors").of("embedding"),
    gauge(
        "holdfast_embedding_cache_disk_bytes",
        "bytes",
        &[],
        "Bytes of the file with vectors kept on disk; 0 where none are kept",
    )
    .of("storage"),
    gauge("holdfast_embedding_breaker_state", "state", &[MODEL], "Of a remote model: 0 closed, 1 half-open, 2 open")
        .of("embedding"),
    counter("holdfast_remote_requests_total", "requests", &[MODEL, OUTCOME], "Requests sent to a remote model")
        .of("embedding"),
    histogram("holdfast_remote_request_duration_seconds", "seconds", &[MODEL], "Time of a request to a remote model")
        .of("embedding"),
    counter(
        "holdfast_remote_connections_opened_total",
        "connections",
        &[MODEL],
        "Connections opened to a remote model; requests beyond them found one open",
    )
    .of("embedding"),
];

/// Language models, those that are run here, and the record of what they were asked.
/// The stages of learning, and who derives.
const LEARNING_STAGES: &[Label] = &[Label {
    name: "stage",
    values: Values::Words(&[
        "interactions",
        "failures",
        "values",
        "vectors",
        "usefulness",
        "patterns",
        "lessons",
        "lease",
    ]),
}];

const LANGUAGE_MODELS: &[Metric] = &[
    counter(
        "holdfast_turns_total",
        "turns",
        &[Label { name: "outcome", values: Values::Words(&["answered", "cached", "failed", "cut", "abandoned"]) }],
        "Turns by how they ended: one is answered by the first model of several that can, or from what was kept",
    )
    .of("coordinator"),
    counter(
        "holdfast_learning_derived_total",
        "rows",
        LEARNING_STAGES,
        "Events and rows that a stage of learning has worked on",
    )
    .of("learning"),
    counter(
        "holdfast_learning_failures_total",
        "failures",
        LEARNING_STAGES,
        "Times that a stage of learning failed; it is tried again",
    )
    .of("learning"),
    counter("holdfast_drop_folder_events_total", "events", &[], "Lines of the drop folder that became events")
        .of("learning"),
    counter("holdfast_drop_folder_dead_letters_total", "lines", &[], "Lines of the drop folder that are no events")
        .of("learning"),
    counter(
        "holdfast_drop_folder_gap_bytes_total",
        "bytes",
        &[],
        "What was seen in the drop folder and gone before it was read",
    )
    .of("learning"),
    counter(
        "holdfast_drop_folder_begun_anew_total",
        "files",
        &[],
        "Times that a file of the drop folder was truncated below what was read of it, or its inode given to another",
    )
    .of("learning"),
    gauge("holdfast_drop_folder_files", "files", &[], "Files of the drop folder that are followed").of("learning"),
    gauge("holdfast_drop_folder_unread_bytes", "bytes", &[], "What was seen in them and is not read").of("learning"),
    counter("holdfast_events_archived_total", "events", &[], "Events that the log has let go of, into the archive")
        .of("learning"),
    gauge("holdfast_archive_bytes", "bytes", &[], "The archive of the event log, on disk").of("learning"),
    gauge("holdfast_learning_lag", "events", &[], "Events of the log that are not folded into what is learned")
        .of("learning"),
    gauge("holdfast_learning_bytes", "bytes", &[], "What is derived from the log, on disk").of("learning"),
    counter(
        "holdfast_llm_calls_total",
        "calls",
        &[
            LANGUAGE_MODEL,
            Label {
                name: "outcome",
                values: Values::Words(&[
                    "ok",
                    "dns",
                    "refused",
                    "tls",
                    "reset",
                    "first_byte_timeout",
                    "gap_timeout",
                    "total_timeout",
                    "rate_limited",
                    "overloaded",
                    "server_error",
                    "malformed",
                    "empty",
                    "cut",
                    "in_stream",
                    "unauthorized",
                    "model_not_found",
                    "context_too_long",
                    "rejected",
                    "content_filter",
                    "inexpressible",
                    "breaker_open",
                    "queue_full",
                    "cancelled",
                ]),
            },
        ],
        "Calls of a model, each attempt for itself, by what became of them",
    )
    .of("llm"),
    counter("holdfast_llm_retries_total", "calls", &[LANGUAGE_MODEL], "Calls that were made again after a failure")
        .of("llm"),
    histogram("holdfast_llm_call_duration_seconds", "seconds", &[LANGUAGE_MODEL], "Time of a call to its end")
        .of("llm"),
    histogram(
        "holdfast_llm_first_event_seconds",
        "seconds",
        &[LANGUAGE_MODEL],
        "Time of a streamed call to its first visible piece",
    )
    .of("llm"),
    counter(
        "holdfast_llm_tokens_total",
        "tokens",
        &[
            LANGUAGE_MODEL,
            Label {
                name: "kind",
                values: Values::Words(&["input", "output", "cached_input", "cache_write", "reasoning"]),
            },
        ],
        "Tokens, as the provider counted them; input and output have the other kinds among them",
    )
    .of("llm"),
    gauge(
        "holdfast_llm_breaker_state",
        "state",
        &[LANGUAGE_MODEL],
        "The breaker around a model: 0 closed, 1 half-open, 2 open",
    )
    .of("llm"),
    counter(
        "holdfast_llm_connections_opened_total",
        "connections",
        &[Label { name: "provider", values: Values::Providers }],
        "Connections opened to a provider; calls beyond them found one open",
    )
    .of("llm"),
    gauge("holdfast_answer_cache_bytes", "bytes", &[], "Memory of kept answers of language models").of("coordinator"),
    gauge(
        "holdfast_service_state",
        "state",
        &[SERVICE],
        "A server that is run here: 0 ready, 1 starting, 2 waiting to be started again, 3 stopping, 4 stopped",
    )
    .of("supervisor"),
    counter("holdfast_service_restarts_total", "starts", &[SERVICE], "Starts of such a server after its first")
        .of("supervisor"),
    gauge("holdfast_events_queued", "events", &[], "Events that are not durable yet").of("storage"),
    gauge("holdfast_events_bytes", "bytes", &[], "Bytes of the event log on disk").of("app"),
    counter("holdfast_events_committed_total", "events", &[], "Events that became durable").of("storage"),
    counter(
        "holdfast_events_lost_total",
        "events",
        &[Label { name: "reason", values: Values::Words(&["full", "bad", "closed"]) }],
        "Events that are not on record: too much waited, they cannot be stored, or the log was closed",
    )
    .of("storage"),
    gauge("holdfast_budget_reservations", "reservations", &[], "Calls under budgets that are under way").of("storage"),
    counter("holdfast_budget_refused_total", "calls", &[], "Calls that a budget had no room for").of("storage"),
    counter(
        "holdfast_budget_forfeited_total",
        "reservations",
        &[Label { name: "reason", values: Values::Words(&["dropped", "restart"]) }],
        "Reservations that were charged in full, since nobody saw their calls end",
    )
    .of("storage"),
];

/// The program and its process. Names that begin with `process_` are those of Prometheus' own clients.
const PROCESS: &[Metric] = &[
    gauge(
        "holdfast_build_info",
        "",
        &[Label { name: "version", values: Values::Build }, Label { name: "rustc", values: Values::Build }],
        "1, with what was built and by which compiler",
    )
    .of("app"),
    counter("holdfast_telemetry_exported_total", "items", &[SIGNAL], "Spans and log records the collector took")
        .of("app"),
    counter("holdfast_telemetry_dropped_total", "items", &[SIGNAL], "Spans and log records given up").of("app"),
    counter("holdfast_telemetry_failures_total", "exports", &[SIGNAL], "Exports that the collector did not take")
        .of("app"),
    counter("process_cpu_seconds_total", "seconds", &[], "Processor time of the process, user and system").of("server"),
    gauge("process_resident_memory_bytes", "bytes", &[], "Memory of the process that is in RAM").of("server"),
    gauge("process_virtual_memory_bytes", "bytes", &[], "Address space of the process").of("server"),
    gauge("process_open_fds", "descriptors", &[], "Open file descriptors").of("server"),
    gauge("process_max_fds", "descriptors", &[], "File descriptors that may be open").of("server"),
    gauge("process_threads", "threads", &[], "Threads of the process").of("server"),
    gauge("process_start_time_seconds", "seconds", &[], "Start of the process, Unix time").of("server"),
];

/// Every metric, in the order of the reference.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    [SERVER, KNOWLEDGE, STORAGE, EMBEDDING, LANGUAGE_MODELS, PROCESS].into_iter().flatten()
}

/// The table as data.
pub fn json() -> serde_json::Value {
    let label = |label: &Label| RowLabel { name: label.name, values: label.values.known() };
    let row = |metric: &Metric| {
        let Metric { name, kind, unit, help, source, .. } = *metric;
        Row { name, kind, unit, labels: metric.labels.iter().map(label).collect(), help, source }
    };
    serde_json::json!({ "metrics": all().map(row).collect::<Vec<_>>() })
}

/// The table as `docs/METRICS.md` has it.
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    let chapters = [
        ("Requests", SERVER),
        ("Knowledge base", KNOWLEDGE),
        ("Database, indexes, disk", STORAGE),
        ("Embedding", EMBEDDING),
        ("Language models", LANGUAGE_MODELS),
        ("Process and program", PROCESS),
    ];
    for (title, metrics) in chapters {
        // Writing to a `String` does not fail.
        let _ = write!(
            text,
            "\n## {title}\n\n| metric | kind | unit | labels | what it says | from |\n|---|---|---|---|---|---|\n"
        );
        for metric in metrics {
            let labels: Vec<String> =
                metric.labels.iter().map(|label| format!("`{}`: {}", label.name, label.values.told())).collect();
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} | {} |",
                metric.name,
                metric.kind.as_str(),
                metric.unit,
                labels.join("; "),
                metric.help,
                metric.source
            );
        }
    }
    text
}

const HEAD: &str = "\
# Metrics

Written by `holdfast metrics > docs/METRICS.md`; a test holds it against the program, and another against what a busy
server emits. `GET /metrics` tells them in Prometheus' text format, to keys with the role `metrics`. How to collect them,
rules, alerts and a dashboard are in [deploy/](../deploy/README.md), what to do when an alert fires in
[TROUBLESHOOTING.md](TROUBLESHOOTING.md).

Every label has a bounded set of values: none comes from a request. Counters whose label values are known beforehand are
there with 0 from the start, so that an alert sees the first event. A histogram has `_bucket`, `_sum` and `_count`.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_named_as_its_kind_and_unit_ask_and_stands_once() {
        let mut seen = std::collections::HashSet::new();
        for metric in all() {
            let name = metric.name;
            assert!(seen.insert(name), "{name} stands twice");
            assert!(name.starts_with("holdfast_") || name.starts_with("process_"), "{name}");
            assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(metric.unit != "seconds" || name.contains("seconds"), "{name}");
            assert!(metric.unit != "bytes" || name.trim_end_matches("_total").ends_with("_bytes"), "{name}");
            assert!(!metric.help.is_empty() && !metric.source.is_empty(), "{name}");
        }
    }

    /// A section of a guide: from its title to the next.
    fn section(guide: &str, title: &str) -> String {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(guide);
        let text = std::fs::read_to_string(path).unwrap();
        let (_, rest) = text.split_once(&format!("# {title}\n")).unwrap_or_else(|| panic!("{guide} has no {title}"));
        rest.split_once("\n#").map_or(rest, |(section, _)| section).to_owned()
    }

    #[test]
    fn every_part_and_every_queue_stands_in_the_guides() {
        let health = section("OBSERVABILITY.md", "Health");
        let [down, degraded] =
            ["HoldfastComponentDown", "HoldfastComponentDegraded"].map(|alert| section("TROUBLESHOOTING.md", alert));
        for component in COMPONENTS {
            let word = format!("`{component}`");
            let row = health.lines().find(|line| line.split('|').nth(1).is_some_and(|cell| cell.contains(&word)));
            assert!(row.is_some(), "OBSERVABILITY.md does not say what {component} is tried by");
            let is_told = down.contains(&word) || degraded.contains(&word);
            assert!(is_told, "TROUBLESHOOTING.md does not say what to do about {component}");
        }
        let filling = section("TROUBLESHOOTING.md", "HoldfastQueueFilling");
        for queue in QUEUES {
            assert!(
                filling.contains(&format!("`{queue}`")),
                "TROUBLESHOOTING.md does not say what to do about {queue}"
            );
        }
    }

    #[test]
    fn series_are_every_combination_of_known_values() {
        let metric = all().find(|metric| metric.name == "holdfast_database_commits_total").unwrap();
        let series = |database, outcome| [("database", database), ("outcome", outcome)];
        let both = |database| [series(database, "ok"), series(database, "error")];
        assert_eq!(metric.series().unwrap(), [both("main"), both("events"), both("learning")].concat());
        let metric = all().find(|metric| metric.name == "holdfast_embedding_threads").unwrap();
        assert_eq!(metric.series(), None, "which models there will be is not known");
    }
}
