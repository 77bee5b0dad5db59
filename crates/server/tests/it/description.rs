//! The description of the API against what the server does: every answer that any test of this crate gets is held
//! against it, and here what no single answer can show.

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use anyhow::{Context, Result, anyhow, ensure};
use axum::{
    body::Body,
    http::{Method, Request, header},
};
use boon::{Compiler, SchemaIndex, Schemas};
use holdfast_storage::{Role, Scope};
use serde_json::{Value, json};

use crate::house::{House, Reply};

const ADDRESS: &str = "http://localhost/openapi.json";
/// The page that says what each role may do.
const SECURING: &str = include_str!("../../../../docs/SECURING.md");

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&holdfast_server::openapi()).unwrap_or_default());
static COMPILED: LazyLock<Mutex<Compiled>> = LazyLock::new(Mutex::default);

/// Schemas that were compiled, by where they stand.
#[derive(Default)]
struct Compiled {
    schemas: Schemas,
    known: BTreeMap<String, SchemaIndex>,
}

impl Compiled {
    fn check(&mut self, place: &str, value: &Value) -> Result<()> {
        let index = match self.known.get(place) {
            Some(index) => *index,
            None => {
                let mut compiler = Compiler::new();
                compiler.add_resource(ADDRESS, DOCUMENT.clone()).map_err(|error| anyhow!("{error}"))?;
                let index = compiler
                    .compile(&format!("{ADDRESS}#{place}"), &mut self.schemas)
                    .map_err(|error| anyhow!("{error:#}"))?;
                self.known.insert(place.to_owned(), index);
                index
            }
        };
        self.schemas.validate(value, index).map_err(|error| anyhow!("{error:#}"))
    }
}

/// A value against the schema that stands somewhere in the description.
fn conforms(place: &str, value: &Value) -> Result<()> {
    COMPILED.lock().unwrap_or_else(PoisonError::into_inner).check(place, value)
}

/// A key of an object as a part of a JSON pointer within an address: RFC 6901, section 6.
fn part(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1").replace('{', "%7B").replace('}', "%7D")
}

/// The template of the route that a path belongs to. Literal segments come before variable ones.
fn template(path: &str) -> Option<&'static str> {
    let paths = DOCUMENT["paths"].as_object()?;
    let fits = |template: &str| {
        let (mut wanted, mut given) = (template.split('/'), path.split('/'));
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some(wanted), Some(given)) if wanted == given => {}
                (Some(wanted), Some(given)) if wanted.starts_with('{') && !given.is_empty() => {}
                _ => return false,
            }
        }
    };
    paths.keys().map(String::as_str).filter(|template| fits(template)).min_by_key(|template| template.contains('{'))
}

/// Refuses an answer that the description does not have.
pub fn check(method: &Method, path: &str, reply: &Reply) -> Result<()> {
    let Some(template) = template(path) else { return Ok(()) };
    let operation = &DOCUMENT["paths"][template][method.as_str().to_ascii_lowercase()];
    if operation.is_null() {
        return Ok(());
    }
    let told = || format!("{method} {template} answered {}: {}", reply.status, reply.text());
    let status = reply.status.to_string();
    let response = &operation["responses"][&status];
    ensure!(!response.is_null(), "the description lacks the status: {}", told());
    for name in reply.headers.keys().filter(|name| ["retry-after", "www-authenticate"].contains(&name.as_str())) {
        let known = response["headers"].as_object().into_iter().flatten();
        ensure!(
            known.map(|(known, _)| known).any(|known| known.eq_ignore_ascii_case(name.as_str())),
            "{name}: {}",
            told()
        );
    }
    let Some(content) = response["content"].as_object() else {
        ensure!(reply.body.is_empty(), "the description has no body: {}", told());
        return Ok(());
    };
    let given = reply.header("content-type").unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default();
    ensure!(content.contains_key(essence), "the description lacks {essence}: {}", told());
    if essence.ends_with("json") {
        let method = method.as_str().to_ascii_lowercase();
        let place = format!("/paths/{}/{method}/responses/{status}/content/{}/schema", part(template), part(essence));
        conforms(&place, &reply.json()?).with_context(told)?;
    }
    Ok(())
}

#[test]
fn examples_are_what_their_schemas_say() -> Result<()> {
    let mut checked = 0;
    for (path, item) in DOCUMENT["paths"].as_object().context("no paths")? {
        for (method, operation) in item.as_object().context("no operations")? {
            let at = format!("/paths/{}/{method}", part(path));
            let mut places = vec![(format!("{at}/requestBody/content"), &operation["requestBody"]["content"])];
            for (status, response) in operation["responses"].as_object().context("no responses")? {
                places.push((format!("{at}/responses/{status}/content"), &response["content"]));
            }
            for (place, content) in places {
                for (media_type, content) in content.as_object().into_iter().flatten() {
                    for (_, example) in content["examples"].as_object().into_iter().flatten() {
                        let place = format!("{place}/{}/schema", part(media_type));
                        conforms(&place, &example["value"]).with_context(|| place.clone())?;
                        checked += 1;
                    }
                }
            }
        }
    }
    ensure!(checked > 50, "only {checked} examples");
    Ok(())
}

/// A description under which everything is right would find nothing wrong.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_described_is_noticed() -> Result<()> {
    let house = House::new().await?;
    house.furnish().await?;
    let reply = house.get("/api/v1/collections").await?;
    let spoilt = |change: &dyn Fn(&mut Value), status: u16| -> Result<String> {
        let mut body = reply.json()?;
        change(&mut body);
        let spoilt = Reply { status, headers: reply.headers.clone(), body: body.to_string().into() };
        let told = check(&Method::GET, "/api/v1/collections", &spoilt).err().context("nothing was noticed")?;
        Ok(format!("{told:#}"))
    };
    let missing = |body: &mut Value| drop(body["collections"][0].as_object_mut().map(|it| it.remove("documents")));
    ensure!(spoilt(&missing, 200)?.contains("documents"));
    let wrong = |body: &mut Value| body["collections"][0]["name"] = json!(1);
    ensure!(spoilt(&wrong, 200)?.contains("string"));
    ensure!(spoilt(&|_| {}, 418)?.contains("lacks the status"));
    ensure!(spoilt(&|body| *body = json!({ "code": "document_not_found" }), 404).is_ok());
    house.close().await
}

/// Requests that are taken are taken as described: the examples, sent as they are.
#[tokio::test(flavor = "multi_thread")]
async fn requests_like_the_examples_are_understood() -> Result<()> {
    let house = House::new().await?;
    house.furnish().await?;
    // What another server, or a folder of this machine, would have to be there for.
    let elsewhere = [
        "add_provider",
        "add_source",
        "connect_model",
        "pull_model",
        "reembed_collection",
        "verify_model",
        "create_chat_completion",
        "create_message",
        "count_message_tokens",
    ];
    let mut sent = 0;
    for (path, item) in DOCUMENT["paths"].as_object().context("no paths")? {
        let operation = &item["post"];
        let Some(examples) = operation["requestBody"]["content"]["application/json"]["examples"].as_object() else {
            continue;
        };
        let id = operation["operationId"].as_str().context("no id")?;
        if elsewhere.contains(&id) || path.contains('{') {
            continue;
        }
        for example in examples.values() {
            let request = house
                .request(Method::POST, path)
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::ACCEPT, "application/json, text/event-stream");
            let reply = house.send(request.body(Body::from(example["value"].to_string()))?).await?;
            ensure!((200..300).contains(&reply.status), "{id}: {}", reply.text());
            sent += 1;
        }
    }
    ensure!(sent >= 10, "only {sent} were sent");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_the_description_are_for_everybody() -> Result<()> {
    let house = House::new().await?;
    let open = |path: &str| Request::builder().uri(path).body(Body::empty());
    let page = house.send(open("/api/docs")?).await?;
    let policy = page.header("content-security-policy").context("no policy")?;
    ensure!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let given: Value = house.send(open("/api/openapi.json")?).await?.expect(200)?;
    ensure!(given == *DOCUMENT);
    ensure!(!given.to_string().contains("1.2.3"), "it tells which version runs");
    // What may enter without a key must not push out what needs one: only probes are answered when there is no place.
    for path in ["/api/docs/nothing", "/api/docs/", "/api/docs/../v1/keys", "/api"] {
        let reply = house.send(open(path)?).await?;
        ensure!(reply.status == 401, "{path}: {}", reply.status);
    }
    house.close().await
}

#[test]
fn the_page_about_roles_says_what_each_may_do() -> Result<()> {
    let table: Vec<&str> =
        SECURING.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() == 8).collect();
    ensure!(table.len() == Scope::ALL.len(), "{} rows for {} scopes", table.len(), Scope::ALL.len());
    for (scope, row) in Scope::ALL.iter().zip(table) {
        let cells = Role::ALL.map(|role| if role.scopes().contains(*scope) { " yes |" } else { " |" });
        let expected = format!("| `{scope}` |{}", cells.concat());
        ensure!(row == expected, "docs/SECURING.md has\n{row}\ninstead of\n{expected}");
    }
    let header: Vec<String> = Role::ALL.iter().map(|role| format!("`{role}`")).collect();
    ensure!(SECURING.contains(&format!("| scope | {} |", header.join(" | "))));
    Ok(())
}
