//! What lies outside a caller's grants does not exist for them: random callers, corpora and questions over every path
//! that reads.
//!
//! Each collection has words, names and paths that no other has, so a leak shows in the bytes of an answer. What a
//! request itself named may be repeated to it, and is not looked for.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use axum::{
    body::Body,
    http::{Method, Request, header},
};
use fastrand::Rng;
use holdfast_storage::{Grants, Role, keys::KeyTerms};
use serde_json::{Value, json};

use crate::house::{House, Reply};

const SEED: u64 = 20_261_121;
const CORPORA: u64 = 4;
const CASES_EACH: usize = 2_500;
const COLLECTIONS: usize = 6;
const CALLERS: usize = 24;
/// Words that documents of every collection have.
const COMMON: [&str; 8] = ["garden", "river", "moon", "stone", "bridge", "music", "forest", "window"];

/// A word that only this collection has: in its name, its documents, their titles, paths, metadata and ids.
fn mark(collection: usize) -> String {
    format!("zq{collection}xk")
}

fn name(collection: usize) -> String {
    format!("vault-{}", mark(collection))
}

struct Someone {
    key: String,
    granted: BTreeSet<usize>,
}

struct Corpus {
    house: House,
    rng: Rng,
    people: Vec<Someone>,
    /// Documents by collection: those handed over.
    documents: Vec<Vec<String>>,
    jobs: Vec<(usize, String)>,
    sources: Vec<(usize, String)>,
    cursors: Vec<(Value, String)>,
}

impl Corpus {
    async fn new(seed: u64) -> Result<Self> {
        let house = House::new().await?;
        let rng = Rng::with_seed(seed);
        let mut corpus = Self {
            house,
            rng,
            people: Vec::new(),
            documents: Vec::new(),
            jobs: Vec::new(),
            sources: Vec::new(),
            cursors: Vec::new(),
        };
        for collection in 0..COLLECTIONS {
            corpus.fill(collection).await?;
        }
        for _ in 0..CALLERS {
            let granted: BTreeSet<usize> = (0..COLLECTIONS).filter(|_| corpus.rng.bool()).collect();
            let terms = KeyTerms {
                grants: Grants::only(granted.iter().map(|n| name(*n))),
                ..KeyTerms::of("someone", Role::Admin)
            };
            corpus.people.push(Someone { key: corpus.house.key_with(terms).await?, granted });
        }
        Ok(corpus)
    }

    async fn fill(&mut self, collection: usize) -> Result<()> {
        let (name, mark) = (name(collection), mark(collection));
        self.house.post("/api/v1/collections", json!({ "name": name })).await?.expect(201)?;
        let count = self.rng.usize(1..8);
        let mut documents = Vec::new();
        for n in 0..count {
            let words: Vec<&str> =
                (0..self.rng.usize(3..40)).map(|_| *self.rng.choice(COMMON.iter()).unwrap_or(&"moon")).collect();
            documents.push(json!({
                "id": format!("{mark}-{n}"), "path": format!("{mark}/{n}.md"), "title": format!("{mark} title {n}"),
                "content": format!("# {mark} heading\n\n{} {mark} {}", words.join(" "), words.concat()),
                "metadata": { "mark": mark, "n": n },
            }));
        }
        let body = json!({ "collection": name, "documents": documents });
        let stored = self.house.post("/api/v1/documents", body).await?.expect(200)?;
        self.jobs.push((collection, stored["job_id"].as_str().context("no job")?.to_owned()));
        self.documents.push((0..count).map(|n| format!("{mark}-{n}")).collect());
        let folder = self.house.path().join(&mark);
        std::fs::create_dir(&folder)?;
        std::fs::write(folder.join(format!("{mark}.md")), format!("garden {mark} river"))?;
        std::fs::write(folder.join(format!("{mark}.bin")), [0, 159, 146, 150])?;
        let added =
            self.house.post("/api/v1/sources", json!({ "collection": name, "path": folder })).await?.expect(202)?;
        let source = added["source"]["id"].as_str().or(added["id"].as_str()).with_context(|| added.to_string())?;
        self.sources.push((collection, source.to_owned()));
        self.jobs.push((collection, added["job_id"].as_str().context("no job")?.to_owned()));
        Ok(())
    }

    async fn ask(&self, who: &Someone, method: Method, target: &str, body: Option<Value>) -> Result<Reply> {
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, "localhost")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header(header::AUTHORIZATION, format!("Bearer {}", who.key));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.house.send(request.body(body)?).await
    }

    /// One random question of a random caller.
    async fn case(&mut self) -> Result<()> {
        let who = self.rng.usize(0..self.people.len());
        let collection = self.rng.usize(0..COLLECTIONS);
        let (method, target, body) = self.question(collection);
        let granted = self.people[who].granted.clone();
        let reply = self.ask(&self.people[who], method.clone(), &target, body.clone()).await?;
        let asked = format!("{target} {}", body.as_ref().map(Value::to_string).unwrap_or_default());
        let about = || format!("{method} {asked}\ngranted {:?}\n{} {}", granted, reply.status, reply.text());
        ensure!(reply.status < 500, "failed: {}", about());
        for other in (0..COLLECTIONS).filter(|other| !granted.contains(other)) {
            let mark = mark(other);
            ensure!(asked.contains(&mark) || !reply.text().contains(&mark), "a leak of {mark}: {}", about());
        }
        self.judge(&granted, &asked, body, &reply).with_context(about)
    }

    /// That an answer has what it should: nothing from a collection that was named and is not granted, and something
    /// from those that are.
    fn judge(&mut self, granted: &BTreeSet<usize>, asked: &str, body: Option<Value>, reply: &Reply) -> Result<()> {
        let named: Vec<usize> = (0..COLLECTIONS).filter(|n| asked.contains(&name(*n))).collect();
        if named.iter().any(|n| !granted.contains(n)) {
            let is_mcp = asked.starts_with("/mcp");
            ensure!(
                if is_mcp { reply.text().contains("collection_not_found") } else { reply.status == 404 },
                "is told of"
            );
            return Ok(());
        }
        if asked.starts_with("/api/v1/search") {
            if reply.status == 410 {
                return Ok(());
            }
            let found = reply.expect(200)?;
            let results = found["results"].as_array().context("no results")?;
            let cursor = found["next_cursor"].as_str();
            if let (Some(cursor), Some(body)) = (cursor, body.clone()) {
                self.cursors.truncate(200);
                self.cursors.insert(0, (body, cursor.to_owned()));
            }
            let narrows = body.is_some_and(|body| body.get("filter").is_some() || body.get("cursor").is_some());
            ensure!(narrows || !results.is_empty(), "nothing was found");
        }
        if asked.starts_with("/api/v1/collections ") {
            let listed = reply.expect(200)?["collections"].as_array().map(Vec::len);
            ensure!(listed == Some(granted.len()), "not all that is granted");
        }
        if asked.starts_with("/api/v1/sources ") {
            ensure!(reply.expect(200)?["sources"].as_array().map(Vec::len) == Some(granted.len()), "not all sources");
        }
        Ok(())
    }

    fn question(&mut self, collection: usize) -> (Method, String, Option<Value>) {
        let document = self.rng.choice(self.documents[collection].iter()).cloned().unwrap_or_default();
        let (_, job) = self.rng.choice(self.jobs.iter()).cloned().unwrap_or_default();
        let (_, source) = self.rng.choice(self.sources.iter()).cloned().unwrap_or_default();
        let here = name(collection);
        match self.rng.u8(0..16) {
            0..6 => (Method::POST, "/api/v1/search".to_owned(), Some(self.search())),
            6 => (Method::GET, format!("/api/v1/documents/{document}?collection={here}"), None),
            // The id alone, in the default collection or another one.
            7 => {
                let other = name(self.rng.usize(0..COLLECTIONS));
                (Method::GET, format!("/api/v1/documents?collection={other}&source={source}"), None)
            }
            8 => (Method::GET, format!("/api/v1/documents?collection={here}&limit=3"), None),
            9 => (Method::GET, "/api/v1/collections".to_owned(), None),
            10 => (Method::GET, format!("/api/v1/collections/{here}"), None),
            11 => (
                Method::GET,
                format!("/api/v1/sources/{source}{}", if self.rng.bool() { "/skipped" } else { "" }),
                None,
            ),
            12 => (Method::GET, "/api/v1/sources".to_owned(), None),
            13 => (Method::GET, format!("/api/v1/jobs/{job}"), None),
            14 => {
                let path = ["/api/v1/jobs", "/api/v1/jobs?limit=2", "/api/v1/status", "/metrics", "/api/v1/keys"];
                (Method::GET, (*self.rng.choice(path.iter()).unwrap_or(&"/metrics")).to_owned(), None)
            }
            _ => (Method::POST, "/mcp".to_owned(), Some(self.tool(collection, &document))),
        }
    }

    /// A search from a small stock of questions, so that many are answered from what was kept for others.
    fn search(&mut self) -> Value {
        if self.rng.u8(0..8) == 0
            && let Some((body, cursor)) = self.rng.choice(self.cursors.iter()).cloned()
        {
            // Somebody else's cursor, for the same question.
            let mut body = body;
            body["cursor"] = json!(cursor);
            return body;
        }
        let names: BTreeSet<String> = (0..self.rng.usize(1..3)).map(|_| name(self.rng.usize(0..COLLECTIONS))).collect();
        let mut body = json!({
            "query": self.rng.choice(COMMON.iter()).unwrap_or(&"moon"),
            "collections": names,
            "mode": self.rng.choice(["hybrid", "dense", "lexical"].iter()).unwrap_or(&"hybrid"),
            "group": if self.rng.bool() { "chunk" } else { "document" },
            "explain": self.rng.bool(),
            "limit": self.rng.usize(1..4),
        });
        if self.rng.u8(0..3) == 0 {
            body["filter"] = json!({ "field": "metadata.n", "gte": self.rng.u8(0..3) });
        }
        if body["mode"] == "lexical" {
            // A word of a document need not be in each.
            body["query"] = json!(COMMON.join(" "));
        }
        body
    }

    fn tool(&mut self, collection: usize, document: &str) -> Value {
        let (name, arguments) = match self.rng.u8(0..4) {
            0 => ("search", json!({ "query": "garden river", "collections": [name(collection)] })),
            1 => ("fetch_document", json!({ "document_id": document, "collection": name(collection) })),
            2 => ("status", json!({})),
            _ => ("list_collections", json!({})),
        };
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": name, "arguments": arguments } })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_questions_leak_nothing() -> Result<()> {
    for corpus in 0..CORPORA {
        let seed = SEED + corpus;
        let mut corpus = Corpus::new(seed).await?;
        for case in 0..CASES_EACH {
            corpus.case().await.with_context(|| format!("seed {seed}, case {case}"))?;
        }
        ensure!(!corpus.cursors.is_empty(), "no cursor was ever given out");
        corpus.house.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_see_a_collection_may_not_change_it_either() -> Result<()> {
    let mut corpus = Corpus::new(SEED).await?;
    let terms = KeyTerms { grants: Grants::only([name(0)]), ..KeyTerms::of("narrow", Role::Admin) };
    let narrow = Someone { key: corpus.house.key_with(terms).await?, granted: BTreeSet::from([0]) };
    let (theirs, document) = (name(1), corpus.documents[1][0].clone());
    let source = corpus.sources.iter().find(|(of, _)| *of == 1).map(|(_, id)| id.clone()).context("no source")?;
    let new = json!({ "collection": theirs, "documents": [{ "content": "x" }] });
    let folder = json!({ "collection": theirs, "path": corpus.house.path() });
    let reembed = json!({ "model": "tiny" });
    for (method, target, body, code) in [
        (Method::POST, "/api/v1/documents".to_owned(), Some(new), "collection_not_found"),
        (Method::DELETE, format!("/api/v1/documents/{document}?collection={theirs}"), None, "collection_not_found"),
        (Method::DELETE, format!("/api/v1/collections/{theirs}"), None, "collection_not_found"),
        (Method::POST, format!("/api/v1/collections/{theirs}/reembed"), Some(reembed), "collection_not_found"),
        (Method::POST, "/api/v1/sources".to_owned(), Some(folder), "collection_not_found"),
        (Method::DELETE, format!("/api/v1/sources/{source}"), None, "source_not_found"),
        (Method::POST, format!("/api/v1/sources/{source}/sync"), None, "source_not_found"),
    ] {
        let reply = corpus.ask(&narrow, method.clone(), &target, body).await?;
        reply.problem(404, code).with_context(|| format!("{method} {target}"))?;
    }
    // Whether there is one of that name already is not told either.
    for name in [theirs.clone(), "nowhere".to_owned()] {
        let reply = corpus.ask(&narrow, Method::POST, "/api/v1/collections", Some(json!({ "name": name }))).await?;
        reply.problem(403, "forbidden")?;
    }
    let tool = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "add_document", "arguments": { "collection": theirs, "content": "x" } } });
    let reply = corpus.ask(&narrow, Method::POST, "/mcp", Some(tool)).await?;
    ensure!(reply.text().contains("collection_not_found"), "{}", reply.text());
    // What is told of all collections together is not for who may see some.
    corpus.ask(&narrow, Method::GET, "/metrics", None).await?.problem(403, "forbidden")?;
    corpus.ask(&narrow, Method::POST, "/api/v1/doctor", Some(json!({}))).await?.problem(403, "forbidden")?;
    let standing = corpus.house.get(&format!("/api/v1/collections/{theirs}")).await?.expect(200)?;
    ensure!(standing["documents"].as_u64() >= Some(corpus.documents[1].len() as u64), "{standing}");
    corpus.people.clear();
    corpus.house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_in_anothers_place_is_another() -> Result<()> {
    let corpus = Corpus::new(SEED).await?;
    let last = name(COLLECTIONS - 1);
    let before = corpus.storage_id(&last)?;
    ensure!(corpus.house.delete(&format!("/api/v1/collections/{last}")).await?.status == 204);
    corpus.house.post("/api/v1/collections", json!({ "name": "new" })).await?.expect(201)?;
    ensure!(corpus.storage_id("new")? > before, "the number of a removed collection was given again");
    corpus.house.close().await
}

impl Corpus {
    fn storage_id(&self, name: &str) -> Result<i64> {
        Ok(self.house.storage.collection(&Grants::All, name)?.id)
    }
}

/// What was learned of one key's interactions is nobody else's, though all collections are.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_learned_of_somebody_is_theirs() -> Result<()> {
    let house = House::new().await?;
    let own = house.key_with(KeyTerms::of("own", Role::Agent)).await?;
    let other = house.key_with(KeyTerms::of("other", Role::Agent)).await?;
    let keys = house.get("/api/v1/keys").await?.expect(200)?;
    let id = |name: &str| {
        let key = keys["keys"].as_array().and_then(|keys| keys.iter().find(|key| key["name"] == name));
        key.and_then(|key| key["id"].as_str()).map(str::to_owned).context("no key")
    };
    let name = holdfast_storage::learned_collection(&id("own")?);
    house.post("/api/v1/collections", json!({ "name": name })).await?.expect(201)?;
    let documents = json!([{ "id": "pattern-1", "content": "restart the amber pump" }]);
    let stored =
        house.post("/api/v1/documents", json!({ "collection": name, "wait": true, "documents": documents })).await?;
    ensure!(stored.status == 200, "{}", stored.text());
    for (key, sees) in [(&own, true), (&other, false), (&house.key, true)] {
        let house = &house;
        let ask = |method: Method, target: String, body: Value| async move {
            let request = Request::builder()
                .method(method)
                .uri(target)
                .header(header::HOST, "localhost")
                .header(header::AUTHORIZATION, format!("Bearer {key}"))
                .header(header::CONTENT_TYPE, "application/json");
            house.send(request.body(body.to_string().into())?).await
        };
        let found = ask(Method::POST, "/api/v1/search".into(), json!({ "query": "amber pump" })).await?.expect(200)?;
        let is_found = found["results"].as_array().is_some_and(|results| !results.is_empty());
        ensure!(is_found == sees, "{key}: {found}");
        let listed = ask(Method::GET, "/api/v1/collections".into(), Value::Null).await?.text();
        ensure!(listed.contains(&name) == sees, "{listed}");
        let status = if sees { 200 } else { 404 };
        let named = json!({ "query": "amber pump", "collections": [name] });
        let reply = ask(Method::POST, "/api/v1/search".into(), named).await?;
        ensure!(reply.status == status, "{}", reply.text());
    }
    house.close().await
}
