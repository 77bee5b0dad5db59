//! Providers, budgets, sessions, interactions and passages over the API, with a provider that answers as OpenAI's would.

use anyhow::{Context, Result, ensure};
use axum::{
    Json, Router,
    body::Body,
    http::{Method, Request, header},
    routing::{get, post},
};
use holdfast_coordinator::{Augmentation, CacheUse, Completed, Turn};
use holdfast_llm::{Message, Role as Speaker};
use holdfast_storage::{
    Caller, Grants, Role,
    keys::{Authentication, KeyTerms},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::house::{House, Reply, ask};

/// A server that has one model, which says the same to everybody.
struct Upstream {
    url: String,
    serving: tokio::task::JoinHandle<()>,
}

impl Upstream {
    #[expect(clippy::disallowed_methods, reason = "dropping ends the task")]
    async fn open() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/v1", listener.local_addr()?);
        let models = json!({ "object": "list", "data": [{ "id": "parrot", "object": "model" }] });
        let answer = json!({
            "id": "c1", "object": "chat.completion", "created": 1, "model": "parrot",
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": "Yes." }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9 },
        });
        let router = Router::new()
            .route("/v1/models", get(move || std::future::ready(Json(models))))
            .route("/v1/chat/completions", post(move || std::future::ready(Json(answer))));
        let serving = tokio::spawn(async move {
            let _ended = axum::serve(listener, router).await;
        });
        Ok(Self { url, serving })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A request as the owner of the data directory, who needs no key.
async fn as_owner(house: &House, method: Method, target: &str, body: Option<Value>) -> Result<Reply> {
    let request = Request::builder().method(method).uri(target).header(header::CONTENT_TYPE, "application/json");
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    ask(house.server.owner(), request.body(body)?).await
}

async fn add(house: &House, body: Value) -> Result<Reply> {
    as_owner(house, Method::POST, "/api/v1/providers", Some(body)).await
}

/// A request with some key.
async fn with_key(house: &House, key: &str, method: Method, target: &str) -> Result<Reply> {
    let request = Request::builder().method(method).uri(target).header("x-api-key", key);
    house.send(request.body(Body::empty())?).await
}

/// Who a key belongs to.
fn caller(house: &House, key: &str) -> Result<Caller> {
    match house.storage.authenticate(key, None)? {
        Authentication::Granted(caller) => Ok(caller),
        Authentication::Refused(refusal) => anyhow::bail!("{refusal:?}"),
    }
}

/// Asks as an app would.
async fn turn(house: &House, caller: &Caller, change: impl FnOnce(&mut Turn)) -> Result<Completed> {
    let mut turn = Turn {
        model: "auto".to_owned(),
        request: holdfast_llm::Request {
            messages: vec![Message::text(Speaker::User, "How is a package pinned?")],
            ..holdfast_llm::Request::default()
        },
        session: None,
        augmentation: None,
        cache: CacheUse::default(),
        request_id: "r1".to_owned(),
        trace: Vec::new(),
    };
    change(&mut turn);
    Ok(house.coordinator.complete(caller, turn).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_added_listed_tried_and_removed() -> Result<()> {
    let (house, upstream) = (House::new().await?, Upstream::open().await?);
    ensure!(house.get("/api/v1/providers").await?.expect(200)?["providers"] == json!([]));
    let added = add(&house, json!({ "name": "birds", "url": upstream.url })).await?.expect(201)?;
    ensure!(added["models"][0]["name"] == "birds/parrot" && added["models"][0]["breaker"] == "closed", "{added}");
    ensure!(added["location"] == "local" && added["api"] == "openai" && added["trouble"] == json!(null), "{added}");
    let tested = as_owner(&house, Method::POST, "/api/v1/providers/birds/test", Some(json!({}))).await?.expect(200)?;
    ensure!(tested["answer"] == "Yes." && tested["model"] == "birds/parrot", "{tested}");
    let shown = house.get("/api/v1/providers/birds").await?.expect(200)?;
    // With a key nothing is told of what lies on the machine.
    ensure!(added["files"]["command"] == json!([]) && shown["files"] == json!(null), "{shown}");
    let body = json!({ "model": "sparrow" });
    let unknown = as_owner(&house, Method::POST, "/api/v1/providers/birds/test", Some(body)).await?;
    unknown.problem(404, "model_not_found")?;
    // The same name again replaces it, and what it names counts.
    let models = json!([{ "name": "parrot", "context_tokens": 4_096, "continues": true }]);
    let again =
        json!({ "name": "birds", "url": upstream.url, "models": models, "location": "remote", "concurrency": 3 });
    let again = add(&house, again).await?.expect(201)?;
    ensure!(again["models"][0]["context_tokens"] == 4_096 && again["location"] == "remote", "{again}");
    ensure!(again["concurrency"] == 3, "{again}");
    ensure!(house.get("/api/v1/providers").await?.expect(200)?["providers"].as_array().map(Vec::len) == Some(1));
    ensure!(as_owner(&house, Method::DELETE, "/api/v1/providers/birds", None).await?.status == 204);
    for reply in [house.get("/api/v1/providers/birds").await?, house.delete("/api/v1/providers/birds").await?] {
        reply.problem(404, "provider_not_found")?;
    }
    house.post("/api/v1/providers/birds/test", json!({})).await?.problem(404, "provider_not_found")?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_does_not_answer_says_so_and_stays() -> Result<()> {
    let house = House::new().await?;
    // A port that nobody listens on.
    let url = format!("http://{}/v1", TcpListener::bind("127.0.0.1:0").await?.local_addr()?);
    let added = add(&house, json!({ "name": "gone", "url": url })).await?.expect(201)?;
    ensure!(added["models"] == json!([]) && added["trouble"].is_string(), "{added}");
    let tried = as_owner(&house, Method::POST, "/api/v1/providers/gone/test", Some(json!({}))).await?;
    let problem = tried.problem(502, "provider_failed")?;
    ensure!(!problem.to_string().contains("127.0.0.1"), "{problem}");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_never_work_is_refused_with_its_field() -> Result<()> {
    let house = House::new().await?;
    let url = "http://127.0.0.1:9/v1";
    for (body, field) in [
        (json!({ "name": "a b", "url": url }), "name"),
        (json!({ "name": "auto", "url": url }), "name"),
        (json!({ "name": "a", "url": "ftp://x" }), "url"),
        (json!({ "name": "a", "url": "https://me:secret@x/v1" }), "url"),
        (json!({ "name": "a", "url": url, "gguf": "/m.gguf" }), "url"),
        (json!({ "name": "a", "url": url, "api": "tei" }), "api"),
        (json!({ "name": "a", "url": url, "location": "moon" }), "location"),
        (json!({ "name": "a", "url": url, "key_file": "relative" }), "key_file"),
        (json!({ "name": "a", "url": url, "command": ["x"] }), "command"),
        (json!({ "name": "a", "url": url, "concurrency": 0 }), "concurrency"),
        (json!({ "name": "a", "url": url, "concurrency": 1_000_000_000 }), "concurrency"),
        (json!({ "name": "a", "url": url, "models": [{ "name": "" }] }), "models"),
        (
            json!({ "name": "a", "url": url, "models": [{ "name": "m", "context_tokens": -1 }] }),
            "models[0].context_tokens",
        ),
        (json!({ "name": "a", "url": url, "models": [{ "name": "m", "colour": 1 }] }), "models[0].colour"),
        (json!({ "name": "a", "url": "http://example.org/v1", "key_file": "/k" }), "url"),
        (json!({ "name": "A", "gguf": "/m.gguf" }), "name"),
    ] {
        let problem =
            add(&house, body.clone()).await?.problem(422, "invalid_field").with_context(|| body.to_string())?;
        let told = problem["field"].as_str().unwrap_or_default();
        ensure!(told == field || told.starts_with(&format!("{field}[")), "{body}: {problem}");
        ensure!(!problem.to_string().contains("secret"), "{problem}");
    }
    // What cannot be run here has codes of its own; the runner of this house knows two files.
    let run = |gguf: &str| json!({ "name": "local", "gguf": gguf });
    add(&house, run("/text.gguf")).await?.problem(422, "model_file_unusable")?;
    add(&house, run("/orphan.gguf")).await?.problem(422, "model_server_missing")?;
    ensure!(house.get("/api/v1/providers").await?.expect(200)?["providers"] == json!([]));
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_cannot_have_the_server_call_read_or_run_what_is_here() -> Result<()> {
    let (house, upstream) = (House::new().await?, Upstream::open().await?);
    for (body, field) in [
        (json!({ "name": "a", "url": upstream.url }), "url"),
        (json!({ "name": "a", "url": "http://localhost:1/v1" }), "url"),
        (json!({ "name": "a", "url": "http://169.254.169.254/v1" }), "url"),
        (json!({ "name": "a", "url": "http://name.invalid/v1" }), "url"),
        (json!({ "name": "a", "url": "https://1.1.1.1/v1", "key_file": "/etc/passwd" }), "key_file"),
        (json!({ "name": "a", "url": "https://1.1.1.1/v1", "ca_file": "/etc/passwd" }), "ca_file"),
        // People's questions to `local` are not to leave this network.
        (json!({ "name": "a", "url": "https://1.1.1.1/v1", "location": "local" }), "location"),
        (json!({ "name": "a", "gguf": "/m.gguf" }), "gguf"),
        (json!({ "name": "a", "gguf": "/m.gguf", "command": ["/bin/sh"] }), "gguf"),
    ] {
        let problem = house.post("/api/v1/providers", body.clone()).await?.problem(422, "invalid_field")?;
        ensure!(problem["field"] == field, "{body}: {problem}");
        ensure!(problem["detail"].as_str().is_some_and(|told| told.contains("on this machine")), "{problem}");
    }
    // Nothing is asked of one whose models are named.
    let models = json!([{ "name": "m" }]);
    let body = |name: &str| json!({ "name": name, "url": "https://1.1.1.1/v1", "models": models });
    house.post("/api/v1/providers", body("far")).await?.expect(201)?;
    // What was added on this machine is neither replaced nor removed; what was added with a key is.
    add(&house, json!({ "name": "birds", "url": upstream.url })).await?.expect(201)?;
    let problem = house.post("/api/v1/providers", body("birds")).await?.problem(422, "invalid_field")?;
    ensure!(problem["field"] == "name", "{problem}");
    house.delete("/api/v1/providers/birds").await?.problem(403, "forbidden")?;
    ensure!(house.get("/api/v1/providers/birds").await?.expect(200)?["url"] == json!(upstream.url));
    house.post("/api/v1/providers", body("far")).await?.expect(201)?;
    ensure!(house.delete("/api/v1/providers/far").await?.status == 204);
    // A provider that is called as the word is not what the word means.
    house.post("/api/v1/providers", body("local")).await?.expect(201)?;
    let completed = turn(&house, &Caller::owner(), |turn| turn.model = "local".to_owned()).await?;
    ensure!(completed.about.model == "birds/parrot", "{}", completed.about.model);
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_are_set_changed_charged_and_removed() -> Result<()> {
    let (house, upstream) = (House::new().await?, Upstream::open().await?);
    add(&house, json!({ "name": "birds", "url": upstream.url })).await?.expect(201)?;
    let set = async |body: Value| house.post("/api/v1/budgets", body).await;
    let made = set(json!({ "tokens": 10_000, "period": "day" })).await?.expect(201)?;
    ensure!(made["tokens"] == 10_000 && made["cost"] == json!(null) && made["key"] == json!(null), "{made}");
    ensure!(made["spent"] == json!({ "cost": 0.0, "tokens": 0 }) && made["resets_at"].is_string(), "{made}");
    turn(&house, &Caller::owner(), |_| {}).await?;
    let changed = set(json!({ "tokens": 20_000, "period": "day" })).await?.expect(201)?;
    ensure!(changed["id"] == made["id"] && changed["tokens"] == 20_000, "{changed}");
    let money =
        set(json!({ "key": "owner", "model": "birds", "cost": 0.000_001, "period": "total" })).await?.expect(201)?;
    ensure!(money["cost"] == 0.000_001 && money["resets_at"] == json!(null), "{money}");
    let listed = house.get("/api/v1/budgets").await?.expect(200)?;
    ensure!(listed["budgets"].as_array().map(Vec::len) == Some(2), "{listed}");
    let daily = listed["budgets"].as_array().into_iter().flatten().find(|budget| budget["id"] == made["id"]);
    // Seven asked and two answered, as the provider said.
    ensure!(daily.context("it is gone")?["spent"]["tokens"] == 9, "{listed}");
    let id = made["id"].as_str().context("no id")?;
    ensure!(house.delete(&format!("/api/v1/budgets/{id}")).await?.status == 204);
    house.delete(&format!("/api/v1/budgets/{id}")).await?.problem(404, "budget_not_found")?;
    for (body, field) in [
        (json!({}), "cost"),
        (json!({ "cost": -1 }), "cost"),
        (json!({ "cost": 0.000_000_1 }), "cost"),
        (json!({ "cost": 1e18 }), "cost"),
        (json!({ "tokens": -1 }), "tokens"),
        (json!({ "tokens": 10_000_000_000_000_000_i64 }), "tokens"),
        (json!({ "tokens": 1, "period": "week" }), "period"),
        (json!({ "tokens": 1, "key": "" }), "key"),
        (json!({ "tokens": 1, "model": "a\nb" }), "model"),
    ] {
        let problem = set(body.clone()).await?.problem(422, "invalid_field").with_context(|| body.to_string())?;
        ensure!(problem["field"] == field, "{body}: {problem}");
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn passages_come_with_citations_that_resolve() -> Result<()> {
    let house = House::new().await?;
    house.furnish().await?;
    let found = house.post("/api/v1/augment", json!({ "query": "a flake lock pins packages" })).await?.expect(200)?;
    let citations = found["citations"].as_array().context("no citations")?;
    ensure!(!citations.is_empty(), "{found}");
    for (at, citation) in citations.iter().enumerate() {
        ensure!(citation["number"] == at + 1, "{found}");
        let id = citation["document_id"].as_str().context("no document")?;
        let document = house.get(&format!("/api/v1/documents/{id}")).await?.expect(200)?;
        ensure!(document["title"] == citation["title"], "{citation}");
        let text = document["content"].as_str().context("no text")?.lines().last().context("no line")?;
        ensure!(found["context"].as_str().is_some_and(|context| context.contains(text)), "{found}");
    }
    let one = house.post("/api/v1/augment", json!({ "query": "flake garden", "passages": 1 })).await?.expect(200)?;
    ensure!(one["citations"].as_array().map(Vec::len) == Some(1), "{one}");
    ensure!(one["refused"].as_array().is_some_and(|refused| refused.iter().any(|it| it["reason"] == "count")), "{one}");
    let none = house.post("/api/v1/augment", json!({ "query": "flake", "budget_tokens": 1 })).await?.expect(200)?;
    ensure!(none["context"] == "" && none["tokens"] == 0, "{none}");
    for (body, field) in [
        (json!({ "query": " " }), "query"),
        (json!({ "query": "x".repeat(10_001) }), "query"),
        (json!({ "query": "x", "budget_tokens": 0 }), "budget_tokens"),
        (json!({ "query": "x", "budget_tokens": 32_001 }), "budget_tokens"),
        (json!({ "query": "x", "passages": 51 }), "passages"),
        (json!({ "query": "x", "passages": -1 }), "passages"),
        (json!({ "query": "x", "collections": vec!["a"; 33] }), "collections"),
    ] {
        let problem = house.post("/api/v1/augment", body.clone()).await?.problem(422, "invalid_field")?;
        ensure!(problem["field"] == field, "{body}: {problem}");
    }
    let body = json!({ "query": "x", "collections": ["nowhere"] });
    house.post("/api/v1/augment", body).await?.problem(404, "collection_not_found")?;
    // What a key may not see is not looked in.
    let narrow = KeyTerms { grants: Grants::only(["other".to_owned()]), ..KeyTerms::of("narrow", Role::Reader) };
    let key = house.key_with(narrow).await?;
    let request = Request::post("/api/v1/augment").header("x-api-key", key).header("content-type", "application/json");
    let refused = house.send(request.body(json!({ "query": "flake" }).to_string().into())?).await?;
    refused.problem(404, "collection_not_found")?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_some_models_sees_and_asks_those() -> Result<()> {
    let (house, upstream) = (House::new().await?, Upstream::open().await?);
    for (name, location) in [("birds", "local"), ("fish", "remote")] {
        add(&house, json!({ "name": name, "url": upstream.url, "location": location })).await?.expect(201)?;
    }
    let made = house.post("/api/v1/keys", json!({ "name": "app", "roles": ["reader"], "models": ["birds"] })).await?;
    let made = made.expect(201)?;
    ensure!(made["models"] == json!(["birds"]) && made["collections"].is_null(), "{made}");
    let key = made["key"].as_str().unwrap_or_default();
    let listed = with_key(&house, key, Method::GET, "/v1/models").await?.expect(200)?;
    let names: Vec<_> = listed["data"].as_array().into_iter().flatten().map(|model| model["id"].clone()).collect();
    ensure!(names.contains(&json!("birds/parrot")) && !listed.to_string().contains("fish"), "{listed}");
    with_key(&house, key, Method::GET, "/v1/models/birds/parrot").await?.expect(200)?;
    with_key(&house, key, Method::GET, "/v1/models/fish/parrot").await?.expect(404)?;
    for (model, status, code) in [("birds", 200, ""), ("fish", 404, "model_not_found"), ("remote", 403, "forbidden")] {
        for path in ["/v1/chat/completions", "/v1/messages"] {
            let body = json!({ "model": model, "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] });
            let request = Request::post(path).header("x-api-key", key).header("content-type", "application/json");
            let answer = house.send(request.body(body.to_string().into())?).await?.expect(status)?;
            ensure!(answer.to_string().contains(code), "{model}: {answer}");
        }
    }
    for (models, told) in [
        (json!([""]), "models must be names"),
        (json!(["a\nb"]), "models must be names"),
        (json!(["x".repeat(257)]), "models must be names"),
        (json!(vec!["x"; 257]), "models has 257 entries"),
        (json!("birds"), "models"),
    ] {
        let refused = house.post("/api/v1/keys", json!({ "name": "app", "models": models })).await?;
        let problem = refused.problem(422, "invalid_field")?;
        ensure!(problem["detail"].as_str().is_some_and(|detail| detail.contains(told)), "{models}: {problem}");
    }
    // A key for some models makes none for more.
    let made = house.post("/api/v1/keys", json!({ "name": "narrow", "models": ["birds"] })).await?.expect(201)?;
    let narrow = made["key"].as_str().unwrap_or_default();
    for (models, status) in [(json!(["birds"]), 201), (json!(null), 403), (json!(["birds", "fish"]), 403)] {
        let request =
            Request::post("/api/v1/keys").header("x-api-key", narrow).header("content-type", "application/json");
        let body = json!({ "name": "app", "models": models }).to_string();
        house.send(request.body(body.into())?).await?.expect(status)?;
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_explained_to_whoever_asked_and_to_nobody_else() -> Result<()> {
    let (house, upstream) = (House::new().await?, Upstream::open().await?);
    house.furnish().await?;
    add(&house, json!({ "name": "birds", "url": upstream.url })).await?.expect(201)?;
    let mine = house.key_with(KeyTerms::of("mine", Role::Reader)).await?;
    let other = house.key_with(KeyTerms::of("other", Role::Reader)).await?;
    let look_up = Augmentation { collections: Vec::new(), query: None, budget_tokens: 500, passages_max: 2 };
    let answered = turn(&house, &caller(&house, &mine)?, |turn| turn.augmentation = Some(look_up)).await?;
    let target = format!("/api/v1/interactions/{}/why", answered.about.interaction);

    let why = with_key(&house, &mine, Method::GET, &target).await?.expect(200)?;
    ensure!(why["asked"] == "auto" && why["policy"] == "local-first" && why["request_id"] == "r1", "{why}");
    ensure!(why["messages"][0]["text"] == "How is a package pinned?", "{why}");
    let candidate = &why["candidates"][0];
    ensure!(candidate["model"] == "birds/parrot" && candidate["rank"] == 0 && candidate["propensity"] == 1.0, "{why}");
    ensure!(why["context"]["taken"].as_array().is_some_and(|taken| !taken.is_empty()), "{why}");
    let result = &why["result"];
    ensure!(result["outcome"] == "answered" && result["answer"] == "Yes." && result["finish"] == "stop", "{why}");
    ensure!(result["attempts"][0]["outcome"] == "ok" && result["usage"]["output_tokens"] == 2, "{why}");

    with_key(&house, &other, Method::GET, &target).await?.problem(404, "interaction_not_found")?;
    for nobody in ["0198c1f7-f0b9-7c2e-8f0e-5d5f0d6a1c11", "nonsense", "..%2f.."] {
        let target = format!("/api/v1/interactions/{nobody}/why");
        house.get(&target).await?.problem(404, "interaction_not_found")?;
    }
    // Who may read all, reads all.
    house.get(&target).await?.expect(200)?;
    turn(&house, &Caller::owner(), |_| {}).await?;
    let count = async |key: &str| -> Result<usize> {
        let listed = with_key(&house, key, Method::GET, "/api/v1/interactions").await?.expect(200)?;
        Ok(listed["interactions"].as_array().map_or(0, Vec::len))
    };
    ensure!((count(&mine).await?, count(&other).await?, count(&house.key).await?) == (1, 0, 2));
    let first = house.get("/api/v1/interactions?limit=1").await?.expect(200)?;
    ensure!(first["interactions"][0]["caller"] == "owner" && first["interactions"][0]["input_tokens"] == 7, "{first}");
    let cursor = first["next_cursor"].as_str().context("no cursor")?;
    let second = house.get(&format!("/api/v1/interactions?limit=1&cursor={cursor}")).await?.expect(200)?;
    ensure!(second["interactions"][0]["id"] == answered.about.interaction.to_string(), "{second}");
    house.get("/api/v1/interactions?cursor=x").await?.problem(422, "invalid_field")?;
    house.get("/api/v1/interactions?limit=0").await?.problem(422, "invalid_field")?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_its_owners_and_nobody_elses() -> Result<()> {
    let (house, upstream) = (House::new().await?, Upstream::open().await?);
    add(&house, json!({ "name": "birds", "url": upstream.url })).await?.expect(201)?;
    let mine = house.key_with(KeyTerms::of("mine", Role::Reader)).await?;
    let me = caller(&house, &mine)?;
    for id in ["first", "second"] {
        turn(&house, &me, |turn| turn.session = Some(id.to_owned())).await?;
    }
    let listed = with_key(&house, &mine, Method::GET, "/api/v1/sessions?limit=1").await?.expect(200)?;
    ensure!(listed["sessions"][0]["id"] == "second" && listed["sessions"][0]["turns"] == 1, "{listed}");
    let cursor = listed["next_cursor"].as_str().context("no cursor")?;
    let rest = with_key(&house, &mine, Method::GET, &format!("/api/v1/sessions?limit=1&cursor={cursor}")).await?;
    let rest = rest.expect(200)?;
    ensure!(rest["sessions"][0]["id"] == "first" && rest["next_cursor"] == json!(null), "{rest}");
    let shown = with_key(&house, &mine, Method::GET, "/api/v1/sessions/first").await?.expect(200)?;
    let said: Vec<_> = shown["messages"].as_array().into_iter().flatten().map(|message| &message["text"]).collect();
    ensure!(said == ["How is a package pinned?", "Yes."], "{shown}");
    // Not even who may do everything sees it.
    ensure!(house.get("/api/v1/sessions").await?.expect(200)?["sessions"] == json!([]));
    house.get("/api/v1/sessions/first").await?.problem(404, "session_not_found")?;
    house.delete("/api/v1/sessions/first").await?.problem(404, "session_not_found")?;
    ensure!(with_key(&house, &mine, Method::DELETE, "/api/v1/sessions/first").await?.status == 204);
    with_key(&house, &mine, Method::GET, "/api/v1/sessions/first").await?.problem(404, "session_not_found")?;
    house.get("/api/v1/sessions?cursor=x").await?.problem(422, "invalid_field")?;
    house.close().await
}
