//! Language models: providers, budgets, sessions, what was asked, and passages for those who ask elsewhere.

use serde_json::{Value, json};

use super::{NEEDS_MODEL, WRITES};
use crate::{
    api::{
        PageParams,
        archive::{ArchiveAnswer, ArchiveParams, ImportedAnswer, MovedAnswer},
        augment::{AugmentAnswer, AugmentBody},
        budgets::{self, BudgetAnswer, SetBody},
        datasets::{self, BuildBody, DatasetAnswer, ExportParams},
        events::{AppendedAnswer, EventsBody},
        interactions::{self, WhyAnswer},
        learning::{
            EvaluateBody, EvaluationAnswer, EvaluationsAnswer, KnownAnswer, OutcomeBody, RecordedAnswer, StatsAnswer,
            TellBody,
        },
        lessons::{KnownErrorsAnswer, PatternsAnswer},
        providers::{self, NewBody, ProviderAnswer, TestAnswer, TestBody},
        sessions::{self, ContentAnswer},
    },
    description::{Tag, operation::Operation, schema::Schemas},
    error::Code,
    routes::Verb::{Delete, Get, Post},
};

const PROVIDER: &str = "Its name";
const BUDGET: &str = "Its id, as listed";
const SESSION: &str = "Its id";
const INTERACTION: &str = "Its id; the header `X-Holdfast-Interaction` of an answer has it";
const BUDGET_ID: &str = "bud_3f9a1c0b7d2e4f68";
const INTERACTION_ID: &str = "0198c1f7-f0b9-7c2e-8f0e-5d5f0d6a1c11";

/// What asking a provider can fail with.
const ASKS: &[Code] = &[
    Code::ModelNotFound,
    Code::ProviderFailed,
    Code::ProviderTimeout,
    Code::ProviderOverloaded,
    Code::ProviderRateLimited,
    Code::ProviderRejected,
    Code::ContextTooLong,
    Code::ContentFiltered,
    Code::NotExpressible,
];

pub(super) fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    let mut all = Vec::from(providers(schemas));
    all.extend(budgets(schemas));
    all.extend(sessions(schemas));
    all.extend(interactions(schemas));
    all.extend(learning(schemas));
    all.extend(archive(schemas));
    all.extend(datasets(schemas));
    all
}

fn providers(schemas: &mut Schemas) -> [Operation; 5] {
    const TAG: Tag = Tag::LanguageModels;
    let new = json!({
        "name": "openai", "api": "openai", "url": "https://api.openai.com/v1",
        "models": [{ "name": "gpt-4.1", "context_tokens": 1_047_576 }],
    });
    [
        Operation::new(Get, "/api/v1/providers", "list_providers", TAG, "List the servers of language models")
            .answer::<providers::ListAnswer>(
                schemas,
                200,
                "All of them",
                json!({ "providers": [provider()], "next_cursor": null }),
            ),
        Operation::new(Post, "/api/v1/providers", "add_provider", TAG, "Add a server of language models")
            .about(
                "One of the same name is replaced. With a key, the address has to be out in the world, and a name there with \
                 https; what lies on the server's machine, as files with keys and models, addresses that only it can \
                 reach, and the place of a provider that was added there are for `holdfast providers add`.",
            )
            .body::<NewBody>(schemas, new)
            .answer::<ProviderAnswer>(schemas, 201, "It can be asked from now on", provider())
            .fails(WRITES)
            .fails(&[Code::TooMany, Code::ModelFileUnusable, Code::ModelServerMissing]),
        Operation::new(Get, "/api/v1/providers/{name}", "show_provider", TAG, "Show a server of language models")
            .segment("name", PROVIDER, "openai")
            .answer::<ProviderAnswer>(schemas, 200, "The provider, and the models it has", provider())
            .fails(&[Code::ProviderNotFound]),
        Operation::new(Delete, "/api/v1/providers/{name}", "remove_provider", TAG, "Remove a server of language models")
            .about("Answers that are under way are finished. With a key, one that was added with a key is removed and no other.")
            .segment("name", PROVIDER, "openai")
            .empty(204, "It is not asked any more")
            .fails(WRITES)
            .fails(&[Code::ProviderNotFound]),
        Operation::new(Post, "/api/v1/providers/{name}/test", "test_provider", TAG, "Ask a provider for a few tokens")
            .about("A model that begins to run here is waited for, which can take minutes. It is not on record, and no budget is charged.")
            .segment("name", PROVIDER, "openai")
            .body::<TestBody>(schemas, json!({}))
            .answer::<TestAnswer>(
                schemas,
                200,
                "It answered",
                json!({ "model": "openai/gpt-4.1", "took_ms": 412.7, "answer": "Yes." }),
            )
            .fails(&[Code::ProviderNotFound])
            .fails(ASKS),
    ]
}

fn budgets(schemas: &mut Schemas) -> [Operation; 3] {
    const TAG: Tag = Tag::LanguageModels;
    [
        Operation::new(Get, "/api/v1/budgets", "list_budgets", TAG, "List the budgets, with what was spent")
            .answer::<budgets::ListAnswer>(
                schemas,
                200,
                "All of them",
                json!({ "budgets": [budget()], "next_cursor": null }),
            ),
        Operation::new(Post, "/api/v1/budgets", "set_budget", TAG, "Set what may be spent on language models")
            .about(
                "In money, in tokens or both. A budget for the same key, model and period gets these limits; what was spent \
                 stays spent. Where money counts, only models with a price answer (`llm.prices` in the settings).",
            )
            .body::<SetBody>(schemas, json!({ "model": "openai", "cost": 20.5, "period": "month" }))
            .answer::<BudgetAnswer>(schemas, 201, "It holds from the next call on", budget())
            .fails(WRITES)
            .fails(&[Code::TooMany]),
        Operation::new(Delete, "/api/v1/budgets/{id}", "remove_budget", TAG, "Remove a budget, with what was spent")
            .segment("id", BUDGET, BUDGET_ID)
            .empty(204, "It holds no longer")
            .fails(WRITES)
            .fails(&[Code::BudgetNotFound]),
    ]
}

fn sessions(schemas: &mut Schemas) -> [Operation; 3] {
    const TAG: Tag = Tag::LanguageModels;
    let session = json!({
        "id": "trip", "turns": 2, "created_at": "2026-01-31T22:59:59.123Z", "used_at": "2026-01-31T23:59:59.123Z",
        "expires_at": "2026-02-07T23:59:59.123Z",
    });
    let mut content = session.clone();
    content["summary"] = Value::Null;
    content["summarised_up_to"] = json!(0);
    content["messages"] = json!([
        { "number": 1, "role": "user", "text": "Where were we?", "tokens": 5 },
        { "number": 2, "role": "assistant", "text": "At the beginning.", "tokens": 4 },
    ]);
    [
        Operation::new(Get, "/api/v1/sessions", "list_sessions", TAG, "List your conversations that are remembered")
            .query::<PageParams>(schemas)
            .answer::<sessions::ListAnswer>(
                schemas,
                200,
                "One page, newest first",
                json!({ "sessions": [session], "next_cursor": null }),
            ),
        Operation::new(Get, "/api/v1/sessions/{id}", "show_session", TAG, "Show a conversation of yours")
            .segment("id", SESSION, "trip")
            .answer::<ContentAnswer>(schemas, 200, "What was said, as far as it is kept", content)
            .fails(&[Code::SessionNotFound]),
        Operation::new(Delete, "/api/v1/sessions/{id}", "remove_session", TAG, "Forget a conversation of yours")
            .segment("id", SESSION, "trip")
            .empty(204, "It is forgotten; turns on record stay")
            .fails(WRITES)
            .fails(&[Code::SessionNotFound]),
    ]
}

fn interactions(schemas: &mut Schemas) -> [Operation; 3] {
    const TAG: Tag = Tag::LanguageModels;
    let citation = json!({
        "number": 1, "collection": "default", "document_id": "doc_7b", "chunk_id": "9f2c1b7d3e4f5a60",
        "title": "Pinning", "path": "/srv/notes/pinning.md", "heading": "Pinning › Flakes", "score": 0.87,
        "tokens": 96,
    });
    let refused = json!({ "chunk_id": "0a1b2c3d4e5f6071", "score": 0.81, "reason": "near_duplicate" });
    [
        Operation::new(Post, "/api/v1/augment", "augment", TAG, "Passages for a model to read, within a budget of tokens")
            .about(
                "The best passages of a search that say different things, numbered for citations and fenced as data. Only \
                 collections that the key may see are looked in.",
            )
            .body::<AugmentBody>(
                schemas,
                json!({ "query": "how do I pin nixpkgs", "collections": ["default"], "budget_tokens": 1_500, "passages": 5 }),
            )
            .answer::<AugmentAnswer>(
                schemas,
                200,
                "What was found; nothing where the budget is too small for anything",
                json!({
                    "context": "The following passages were found …", "citations": [citation], "refused": [refused],
                    "tokens": 180, "degraded": null,
                }),
            )
            .fails(NEEDS_MODEL)
            .fails(&[Code::CollectionNotFound, Code::EmbeddingSpaceMismatch, Code::IndexUnavailable]),
        Operation::new(Get, "/api/v1/interactions", "list_interactions", TAG, "List turns that are over, newest first")
            .about("Your own; everybody's for keys with the scope `interactions:read`.")
            .query::<PageParams>(schemas)
            .answer::<interactions::ListAnswer>(
                schemas,
                200,
                "One page; it can have fewer turns than were asked for, and be followed by more",
                json!({ "interactions": [interaction()], "next_cursor": "4711" }),
            ),
        Operation::new(Get, "/api/v1/interactions/{id}/why", "why", TAG, "Why a turn went as it did")
            .about(
                "Who could have answered and what ruled each of the others out, what was looked up, every call with its \
                 outcome, tokens and cost. Texts are as `llm.texts` in the settings has them recorded.",
            )
            .segment("id", INTERACTION, INTERACTION_ID)
            .answer::<WhyAnswer>(schemas, 200, "The record of the turn", why())
            .fails(&[Code::InteractionNotFound]),
    ]
}

fn learning(schemas: &mut Schemas) -> [Operation; 9] {
    const TAG: Tag = Tag::LanguageModels;
    let recorded = json!({ "id": INTERACTION_ID });
    [
        Operation::new(Post, "/api/v1/interactions", "tell_interaction", TAG, "Put an interaction on record that went on elsewhere")
            .about(
                "For agents that ask models by themselves. It is on disk when this answers; what is derived from it comes a \
                 moment later.",
            )
            .body::<TellBody>(
                schemas,
                json!({
                    "question": "how do I pin nixpkgs", "answer": "In flake.nix …", "model": "openai/gpt-4.1",
                    "context": ["doc_7b"], "outcome": "success",
                }),
            )
            .answer::<RecordedAnswer>(schemas, 201, "It is on record", recorded.clone())
            .fails(&[Code::AlreadyExists])
            .fails(WRITES),
        Operation::new(Post, "/api/v1/events", "append_events", TAG, "Put events on record")
            .about(
                "Up to 1000 at once: all of them are on disk when this answers, or none is there. Those of interactions and \
                 outcomes are learned from; events of any other kind are kept and counted.",
            )
            .idempotent()
            .body::<EventsBody>(
                schemas,
                json!({ "events": [
                    { "kind": "interaction_told", "interaction": INTERACTION_ID, "question": "how do I pin nixpkgs" },
                    { "kind": "outcome_told", "interaction": INTERACTION_ID, "outcome": "success", "source": "ci" },
                    { "kind": "deployed", "at": "2026-01-31T23:59:59Z", "body": { "host": "amber" } },
                ] }),
            )
            .answer::<AppendedAnswer>(schemas, 201, "They are on record", json!({
                "events": 3, "first_position": 4_711, "is_repeat": false,
            }))
            .fails(WRITES),
        Operation::new(Get, "/api/v1/interactions/{id}", "show_interaction", TAG, "What is known of an interaction")
            .about("What it is worth and what that is made of, what it is like, and who said what about it, as far as that was derived.")
            .segment("id", INTERACTION, INTERACTION_ID)
            .answer::<KnownAnswer>(schemas, 200, "What was derived", known())
            .fails(&[Code::InteractionNotFound]),
        Operation::new(Post, "/api/v1/interactions/{id}/outcome", "tell_outcome", TAG, "Say how an interaction went")
            .about(
                "It may be said late, twice, and corrected: of each part what was said last counts. It is on disk when this \
                 answers.",
            )
            .segment("id", INTERACTION, INTERACTION_ID)
            .body::<OutcomeBody>(
                schemas,
                json!({ "outcome": "success", "feedback": 1.0, "useful": ["doc_7b"], "source": "editor" }),
            )
            .answer::<RecordedAnswer>(schemas, 200, "It is on record", recorded)
            .fails(&[Code::InteractionNotFound])
            .fails(WRITES),
        Operation::new(Get, "/api/v1/learning/patterns", "list_patterns", TAG, "List problems that came again, with what worked")
            .about("Of your own interactions; of everybody's for keys with the scope `interactions:read`. Search finds them too.")
            .query::<PageParams>(schemas)
            .answer::<PatternsAnswer>(
                schemas,
                200,
                "One page, worth most first",
                json!({ "patterns": [pattern()], "next_cursor": null }),
            ),
        Operation::new(Get, "/api/v1/learning/errors", "list_known_errors", TAG, "List failures that interactions told of")
            .about("Of your own interactions; of everybody's for keys with the scope `interactions:read`. Search finds them too.")
            .query::<PageParams>(schemas)
            .answer::<KnownErrorsAnswer>(
                schemas,
                200,
                "One page, seen most first",
                json!({ "errors": [known_error()], "next_cursor": null }),
            ),
        Operation::new(Get, "/api/v1/learning/stats", "learning_stats", TAG, "How far learning is")
            .answer::<StatsAnswer>(schemas, 200, "Each stage, and what it has folded", stats()),
        Operation::new(Get, "/api/v1/learning/evaluations", "list_evaluations", TAG, "How well searches found what was wanted, over time")
            .answer::<EvaluationsAnswer>(
                schemas,
                200,
                "The newest hundred",
                json!({ "evaluations": [evaluation()], "next_cursor": null }),
            ),
        Operation::new(Post, "/api/v1/learning/evaluations", "evaluate", TAG, "Measure how well searches find what is wanted")
            .about(
                "Asks questions whose documents are known, with what was learned of documents and without it, and keeps the figures. Without \
                 questions it takes those of interactions of which somebody said which documents were of use.",
            )
            .body::<EvaluateBody>(
                schemas,
                json!({ "questions": [{ "query": "how do I pin nixpkgs", "relevant": ["doc_7b"] }] }),
            )
            .answer::<EvaluationAnswer>(schemas, 200, "The figures", evaluation()),
    ]
}

fn archive(schemas: &mut Schemas) -> [Operation; 3] {
    const TAG: Tag = Tag::LanguageModels;
    const PATH: &str = "/api/v1/events/archive";
    let segment = json!({
        "name": "events-1-20000-1.jsonl.zst", "first_position": 1, "last_position": 20_000, "events": 20_000, "erased": 0,
        "raw_bytes": 41_943_040, "file_bytes": 5_662_310,
        "blake3": "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "archived_at": "2026-01-31T23:59:59.123Z", "damage": null,
    });
    [
        Operation::new(Get, PATH, "show_archive", TAG, "What is in the archive of the event log")
            .query::<ArchiveParams>(schemas)
            .answer::<ArchiveAnswer>(
                schemas,
                200,
                "Its files, in the order of their events",
                json!({ "segments": [segment], "verified": true }),
            )
            .fails(&[Code::StorageDamaged]),
        Operation::new(Post, PATH, "archive_events", TAG, "Move events to the archive that are due there")
            .about("The server does it by itself every ten minutes, by `events.keep_days` and `events.max_bytes` of the settings.")
            .answer::<MovedAnswer>(schemas, 200, "What was moved", json!({ "events": 20_000, "segments": 1 }))
            .fails(&[Code::StorageDamaged, Code::InProgress])
            .fails(WRITES),
        Operation::new(Post, "/api/v1/events/archive/import", "import_archive", TAG, "Put the events of the archive back into the log")
            .about("Those that the log does not have. They are due again by the same settings.")
            .answer::<ImportedAnswer>(
                schemas,
                200,
                "What was put back",
                json!({ "events": 20_000, "present": 0, "damaged": [] }),
            )
            .fails(&[Code::StorageDamaged, Code::InProgress])
            .fails(WRITES),
    ]
}

fn datasets(schemas: &mut Schemas) -> [Operation; 5] {
    const TAG: Tag = Tag::LanguageModels;
    const ID: &str = "Its name and version";
    const EXAMPLE: &str = "support@3";
    [
        Operation::new(Get, "/api/v1/datasets", "list_datasets", TAG, "List datasets")
            .answer::<datasets::ListAnswer>(
                schemas,
                200,
                "All versions of all of them",
                json!({ "datasets": [dataset()], "next_cursor": null }),
            ),
        Operation::new(Post, "/api/v1/datasets", "build_dataset", TAG, "Build a version of a dataset")
            .about(
                "From interactions that were worth it: one conversation a line, pairs of answers of which one was better, near-duplicates \
                 left out, split without near-duplicates across parts, and without secrets and personal data. The same rows and \
                 settings make the same bytes, and no second version.",
            )
            .body::<BuildBody>(schemas, json!({ "name": "support", "value_min": 0.6, "needs_consent": true }))
            .answer::<DatasetAnswer>(schemas, 201, "It was built", dataset())
            .answer::<DatasetAnswer>(schemas, 200, "The newest version is the same", dataset())
            .fails(&[Code::InProgress])
            .fails(WRITES),
        Operation::new(Get, "/api/v1/datasets/{id}", "show_dataset", TAG, "How a dataset was made")
            .segment("id", ID, EXAMPLE)
            .answer::<DatasetAnswer>(schemas, 200, "Its manifest", dataset())
            .fails(&[Code::DatasetNotFound]),
        Operation::new(Delete, "/api/v1/datasets/{id}", "remove_dataset", TAG, "Remove a version of a dataset")
            .about("Its number is not given again.")
            .segment("id", ID, EXAMPLE)
            .empty(204, "It is gone")
            .fails(&[Code::DatasetNotFound]),
        Operation::new(Get, "/api/v1/datasets/{id}/export", "export_dataset", TAG, "A file of a dataset")
            .segment("id", ID, EXAMPLE)
            .query::<ExportParams>(schemas)
            .content(
                200,
                "The file: lines of JSON, or the manifest",
                &json!({
                    "application/jsonl": { "schema": { "type": "string" } }, "application/json": { "schema": {} },
                }),
            )
            .fails(&[Code::DatasetNotFound]),
    ]
}

fn dataset() -> Value {
    json!({
        "id": "support@3", "name": "support", "version": 3,
        "manifest": {
            "format": 1,
            "recipe": { "value_min": 0.6, "needs_consent": true, "caller": null, "shares": [0.9, 0.05, 0.05], "seed": 0 },
            "log_position": 4_711, "looked_at": 2_350, "left_out": { "near_duplicate": 12 },
            "judged": { "space": "all-MiniLM-L6-v2", "pairs": 40, "same": 3, "unsure": 2, "problem": null },
            "redacted": { "email": 3 },
            "files": { "train.jsonl": { "rows": 310, "bytes": 412_000, "blake3": "9f2c…" } },
        },
    })
}

fn evaluation() -> Value {
    json!({
        "at": "2026-01-31T23:59:59.123Z", "settings": "hybrid, 0.008 a point of BM25, all-MiniLM-L6-v2", "questions": 120,
        "failed": 0, "learned": { "ndcg": 0.71, "recall": 0.83 }, "plain": { "ndcg": 0.68, "recall": 0.81 }, "warning": null,
    })
}

fn known() -> Value {
    json!({
        "id": INTERACTION_ID, "caller": "owner", "session": null, "at": "2026-01-31T23:59:59.123Z", "origin": "turn",
        "model": "openai/gpt-4.1", "question": "how do I pin nixpkgs", "answer": "In flake.nix …", "outcome": "success",
        "feedback": 1.0, "value": 0.71,
        "value_parts": { "outcome": 1.0, "feedback": 1.0, "reusability": 0.25, "complexity": 0.2, "novelty": 0.4 },
        "nearest": 0.8, "nearest_id": null, "similar": 1,
        "evidence": [{
            "at": "2026-01-31T23:59:59.123Z", "word": "success", "feedback": 1.0, "source": "editor", "note": null,
        }],
    })
}

fn pattern() -> Value {
    json!({
        "id": "7d0f1a52-6c0e-86f4-9b1d-0a5c9be0d3a7", "tenant": "owner", "problem": "how do I pin nixpkgs",
        "approach": "Name a revision in the URL of the input …", "value": 0.71, "interactions": 12,
        "evidence": [INTERACTION_ID], "against": 1, "contradicts": null, "cohesion": 0.83, "is_junk": false,
        "first_at": "2026-01-12T08:00:00.000Z", "last_at": "2026-01-31T23:59:59.123Z",
    })
}

fn known_error() -> Value {
    json!({
        "id": "9f2c41d07be65a13", "tenant": "owner", "class": "EADDRINUSE",
        "message": "listen EADDRINUSE: address already in use", "excerpt": "Error: listen EADDRINUSE: address already in use",
        "seen": 7, "first_at": "2026-01-12T08:00:00.000Z", "last_at": "2026-01-31T23:59:59.123Z",
        "solved_by": INTERACTION_ID,
    })
}

fn stats() -> Value {
    json!({
        "role": "worker", "log_position": 4_711,
        "stages": [{
            "name": "interactions", "position": 4_711, "lag": 0, "folded": 4_700, "skipped": 11, "unreadable": 0,
            "error": null, "failures": 0,
        }],
        "interactions": 2_350, "vectors_due": 0, "values_due": 0,
        "kinds": [{ "kind": "turn_started", "version": 1, "is_known": true, "events": 2_350 }], "size_bytes": 9_437_184,
        "lessons": {
            "patterns": 41, "junk": 1, "interactions": 1_960, "alone": 552, "errors": 87, "solved": 31, "findable": 127,
        },
        "drop_folder": {
            "files": 3, "unread_bytes": 0, "passed_over": 0, "events": 71_204, "dead_letters": 1, "gaps": 0, "gap_bytes": 0,
            "begun_anew": 0, "error": null,
        },
    })
}

fn provider() -> Value {
    json!({
        "name": "openai", "api": "openai", "url": "https://api.openai.com/v1", "location": "remote", "has_key": true,
        "models": [{
            "name": "openai/gpt-4.1", "breaker": "closed", "context_tokens": 1_047_576,
            "price": { "input": 2.0, "output": 8.0, "cached_input": 0.5, "cache_write": null },
        }],
        "trouble": null, "runs_here": false, "concurrency": null, "files": null,
        "created_at": "2026-01-31T23:59:59.123Z",
    })
}

fn budget() -> Value {
    json!({
        "id": BUDGET_ID, "key": null, "model": "openai", "cost": 20.5, "tokens": null, "period": "month",
        "spent": { "cost": 3.271, "tokens": 812_004 }, "reserved": { "cost": 0.032, "tokens": 4_220 },
        "resets_at": "2026-02-01T00:00:00.000Z",
    })
}

fn interaction() -> Value {
    json!({
        "id": INTERACTION_ID, "caller": "owner", "session": null, "at": "2026-01-31T23:59:59.123Z",
        "outcome": "answered", "model": "openai/gpt-4.1", "attempts": 1, "input_tokens": 212, "output_tokens": 40,
        "cost": 0.000744, "duration_ms": 1_204.5,
    })
}

fn why() -> Value {
    json!({
        "id": INTERACTION_ID, "caller": "owner", "session": null, "at": "2026-01-31T23:59:58.123Z",
        "request_id": "0198c1f7f0b97c2e8f0e5d5f0d6a1c11", "asked": "auto",
        "messages": [{ "role": "user", "text": "How do I pin nixpkgs?" }],
        "features": {
            "input_tokens": 212, "is_counted": true, "output_tokens": 500, "has_tools": false, "has_images": false,
            "has_format": false, "messages": 1,
        },
        "policy": "local-first",
        "candidates": [
            {
                "model": "local/tiny", "location": "local", "obstacles": ["breaker_open"], "rank": null, "score": null,
                "propensity": null, "breaker": "open", "price": null,
            },
            {
                "model": "openai/gpt-4.1", "location": "remote", "obstacles": [], "rank": 0, "score": 1.0,
                "propensity": 1.0, "breaker": "closed", "price": { "input": 2.0, "output": 8.0 },
            },
        ],
        "context": {
            "budget_tokens": 1_500, "tokens": 180, "degraded": null,
            "taken": [{
                "chunk_id": "9f2c1b7d3e4f5a60", "document_id": "doc_7b", "collection": "default", "score": 0.87,
                "reason": null,
            }],
            "refused": [{
                "chunk_id": "0a1b2c3d4e5f6071", "document_id": null, "collection": null, "score": 0.81,
                "reason": "near_duplicate",
            }],
        },
        "cache": "not_used",
        "result": {
            "outcome": "answered", "model": "openai/gpt-4.1",
            "attempts": [{
                "model": "openai/gpt-4.1", "started_ms": 12.4, "waited_ms": 0.0, "duration_ms": 1_190.2, "outcome": "ok", "status": null,
                "reason": null,
            }],
            "finish": "stop",
            "usage": { "input_tokens": 212, "output_tokens": 40, "cached_input_tokens": null, "is_estimated": false },
            "cost": 0.000744, "first_visible_ms": 640.1, "duration_ms": 1_204.5,
            "answer": "Lock it in a flake [1].", "continued": [],
        },
    })
}
