//! Providers that fail in every way known here, each with a healthy one behind it. What a client gets stands in
//! `docs/FAILOVER.md`, and this holds it.

use std::{fs, path::Path, time::Duration};

use anyhow::{Result, ensure};
use holdfast_testkit::upstream::{Framing, Script, Step, Upstream, refusing_url, words};
use serde_json::json;

use crate::house::{Heard, House, STEP, config, turn, word};

/// What the healthy provider says.
const OTHER: &str = "Answered by the other.";
const PIECES: [&str; 4] = ["One, ", "two, ", "three, ", "four."];
const FIRST: &str = "One, two, three, four.";

/// How the first provider fails.
enum Fault {
    /// It does this for every request.
    Does(Script),
    /// It does this to every connection.
    Greets(Script),
    /// It is not at this address.
    Away(&'static str),
    /// Nobody listens.
    Refuses,
}

/// A way to fail, and what a client gets.
struct Scenario {
    name: &'static str,
    /// For a whole answer and for a stream; nothing where it makes no sense.
    whole: Option<(Fault, Gets)>,
    stream: Option<(Fault, Gets)>,
}

/// What a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gets {
    /// The whole answer of the other provider.
    Other,
    /// The whole answer of the first.
    First,
    /// The failure of that kind, before anything else.
    Refusal(&'static str),
    /// Some of the first's answer, then the failure of that kind.
    Cut(&'static str),
}

impl Gets {
    fn sentence(self) -> String {
        match self {
            Self::Other => "the other's answer".to_owned(),
            Self::First => "its answer".to_owned(),
            Self::Refusal(kind) => format!("`{kind}`"),
            Self::Cut(kind) => format!("what came, then `{kind}`"),
        }
    }
}

fn sse() -> Step {
    let headers = vec![("content-type".to_owned(), "text/event-stream".to_owned())];
    Step::Head { status: 200, headers, framing: Framing::Chunked }
}

fn body(text: impl Into<String>) -> Step {
    Step::Body(text.into().into())
}

/// The first events of a stream: its role, which nobody sees, and so many pieces.
fn begun(pieces: usize) -> Vec<Step> {
    let mut steps = vec![sse(), body(words::openai_chunk(&json!({ "role": "assistant", "content": "" }), None))];
    for piece in &PIECES[..pieces] {
        steps.push(body(words::openai_chunk(&json!({ "content": piece }), None)));
    }
    steps
}

fn after(pieces: usize, steps: impl IntoIterator<Item = Step>) -> Script {
    Script::of(begun(pieces).into_iter().chain(steps))
}

fn half_an_answer(then: Step) -> Script {
    let whole = words::openai_answer(FIRST);
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    let head = Step::Head { status: 200, headers, framing: Framing::Length(whole.len()) };
    Script::of([head, body(&whole[..whole.len() / 2]), then])
}

fn does(script: Script, gets: Gets) -> Option<(Fault, Gets)> {
    Some((Fault::Does(script), gets))
}

/// The same for both.
fn both(name: &'static str, script: Script, gets: Gets) -> Scenario {
    Scenario { name, whole: does(script.clone(), gets), stream: does(script, gets) }
}

fn streamed(name: &'static str, script: Script, gets: Gets) -> Scenario {
    Scenario { name, whole: None, stream: does(script, gets) }
}

fn whole(name: &'static str, script: Script, gets: Gets) -> Scenario {
    Scenario { name, whole: does(script, gets), stream: None }
}

fn error_event() -> Step {
    body(format!("data: {}\n\n", json!({ "error": { "message": "it broke", "type": "server_error" } })))
}

fn scenarios() -> Vec<Scenario> {
    use Gets::{Cut, First, Other, Refusal};
    let away = |name, address| Scenario {
        name,
        whole: Some((Fault::Away(address), Other)),
        stream: Some((Fault::Away(address), Other)),
    };
    let greets = |name, script: Script| Scenario {
        name,
        whole: Some((Fault::Greets(script.clone()), Other)),
        stream: Some((Fault::Greets(script), Other)),
    };
    let status = |status, kind: &str| Script::failure(status, kind, "no");
    let html = |code| Script::typed(code, "text/html", "<html>Bad Gateway</html>");
    let huge = format!("data: {{\"x\":\"{}\"}}\n\n", "x".repeat(3 << 20));
    vec![
        Scenario {
            name: "nobody listens",
            whole: Some((Fault::Refuses, Other)),
            stream: Some((Fault::Refuses, Other)),
        },
        away("its name does not resolve", "http://nobody.invalid/v1"),
        greets(
            "it speaks no TLS where TLS is expected, and no HTTP",
            Script::of([Step::Raw("SSH-2.0-x\r\n".into()), Step::Close]),
        ),
        greets("it closes each connection", Script::of([Step::Close])),
        greets("it resets each connection", Script::reset()),
        both("it hangs before the headers", Script::hang(), Other),
        both("it hangs after the headers", Script::of([sse(), Step::Hang]), Other),
        whole("it hangs in the middle", half_an_answer(Step::Hang), Other),
        streamed("it hangs before the first visible piece", after(0, [Step::Hang]), Other),
        streamed("it hangs after two pieces", after(2, [Step::Hang]), Cut("gap_timeout")),
        both("it resets after the headers", Script::of([sse(), Step::Reset]), Other),
        whole("it resets in the middle", half_an_answer(Step::Reset), Other),
        whole("it closes in the middle", half_an_answer(Step::Close), Other),
        streamed("it resets before the first visible piece", after(0, [Step::Reset]), Other),
        streamed("it resets after three pieces", after(3, [Step::Reset]), Cut("reset")),
        streamed("it closes after two pieces, without the end of the body", after(2, [Step::Close]), Cut("reset")),
        streamed("it ends after two pieces without a reason", after(2, [Step::End]), Cut("cut")),
        streamed("it ends before the first visible piece", after(0, [Step::End]), Other),
        streamed("an empty stream", Script::of([sse(), Step::End]), Other),
        streamed("nothing but `[DONE]`", Script::of([sse(), body("data: [DONE]\n\n"), Step::End]), Other),
        streamed("a malformed event first", Script::of([sse(), body("data: {nonsense\n\n"), Step::End]), Other),
        streamed(
            "a malformed event after two pieces",
            after(2, [body("data: {nonsense\n\n"), Step::End]),
            Cut("malformed"),
        ),
        streamed("an event of three megabytes", Script::of([sse(), body(huge), Step::End]), Other),
        streamed("an error event first", Script::of([sse(), error_event(), Step::End]), Other),
        streamed("an error event after two pieces", after(2, [error_event(), Step::End]), Cut("in_stream")),
        both("429 without `Retry-After`", status(429, "rate_limit_exceeded"), Other),
        both("429 with `Retry-After: 1`", status(429, "rate_limit_exceeded").with_header("retry-after", "1"), Other),
        both(
            "429 with `Retry-After: 3600`",
            status(429, "rate_limit_exceeded").with_header("retry-after", "3600"),
            Other,
        ),
        both("500, again and again", status(500, "server_error"), Other),
        both("502 with a page", html(502), Other),
        both("503", status(503, "overloaded"), Other),
        both("529", status(529, "overloaded_error"), Other),
        both("401", status(401, "invalid_api_key"), Other),
        both("404 for the model", status(404, "model_not_found"), Other),
        both("400 for a context that is too long", status(400, "context_length_exceeded"), Other),
        both("400 for anything else", status(400, "invalid_request_error"), Refusal("rejected")),
        both("a page instead of an answer", html(200), Other),
        both("a redirection", Script::json(302, "{}").with_header("location", "http://127.0.0.1:9/"), Other),
        whole("JSON that is none", Script::json(200, "{\"choices\": [nonsense"), Other),
        whole("JSON of another kind", Script::json(200, "{\"hello\": \"world\"}"), Other),
        whole("an empty body", Script::json(200, ""), Other),
        Scenario {
            name: "slowly, but in time",
            whole: does(Script::openai(FIRST).dripping(20).slowed(Duration::from_millis(20)), First),
            stream: does(Script::openai_stream(&PIECES).slowed(Duration::from_millis(100)), First),
        },
        Scenario {
            name: "byte by byte",
            whole: does(Script::openai(FIRST).dripping(1), First),
            stream: does(Script::openai_stream(&PIECES).dripping(1), First),
        },
    ]
}

/// A house with a first provider that has this fault, and another one that is well.
async fn with_fault(fault: Fault) -> Result<(House, Upstream, Upstream)> {
    let house = House::new().await?;
    let (first, other) = (Upstream::start().await?, Upstream::start().await?);
    let url = match fault {
        Fault::Does(script) => {
            first.always(script);
            first.url()
        }
        Fault::Greets(script) => {
            first.greet(script);
            first.url()
        }
        Fault::Away(address) => address.to_owned(),
        Fault::Refuses => refusing_url().await?,
    };
    // Both count as near, and of equals the first by name comes first.
    let mut settings = crate::house::provider("a", &url);
    settings.location = Some(holdfast_coordinator::Place::Local);
    house.add_as(settings).await?;
    house.add("b", &other.url()).await?;
    Ok((house, first, other))
}

async fn whole_gets(name: &str, fault: Fault, gets: Gets) -> Result<()> {
    let (house, _first, other) = with_fault(fault).await?;
    other.always(Script::openai(OTHER));
    let got = house.text(turn("auto", "How many?")).await;
    match (gets, &got) {
        (Gets::Other, Ok(text)) => ensure!(text == OTHER, "{name}: {text}"),
        (Gets::First, Ok(text)) => ensure!(text == FIRST, "{name}: {text}"),
        (Gets::Refusal(kind), Err(error)) => ensure!(word(error) == kind, "{name}: {error:?}"),
        _ => anyhow::bail!("{name}: {got:?} instead of {gets:?}"),
    }
    house.close().await
}

async fn stream_gets(name: &str, fault: Fault, gets: Gets) -> Result<()> {
    let (house, _first, other) = with_fault(fault).await?;
    other.always(Script::openai_stream(&[OTHER]));
    let got = house.hear(turn("auto", "How many?")).await;
    match (gets, &got) {
        (Gets::Other, Ok(Heard { text, failed: None, is_ended: true, .. })) => ensure!(text == OTHER, "{name}: {text}"),
        (Gets::First, Ok(Heard { text, failed: None, is_ended: true, .. })) => ensure!(text == FIRST, "{name}: {text}"),
        (Gets::Refusal(kind), Err(error)) => ensure!(word(error) == kind, "{name}: {error:?}"),
        (Gets::Cut(kind), Ok(Heard { text, failed: Some(failed), is_ended: false, .. })) => {
            ensure!(failed == kind, "{name}: {failed}");
            ensure!(!text.is_empty() && FIRST.starts_with(text.as_str()), "{name}: {text}");
        }
        _ => anyhow::bail!("{name}: {got:?} instead of {gets:?}"),
    }
    house.close().await
}

fn row(scenario: &Scenario) -> String {
    let cell = |case: &Option<(Fault, Gets)>| case.as_ref().map_or("–".to_owned(), |(_, gets)| gets.sentence());
    format!("| {} | {} | {} |", scenario.name, cell(&scenario.whole), cell(&scenario.stream))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_fail_gets_an_answer_or_its_one_failure() -> Result<()> {
    let scenarios = scenarios();
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/FAILOVER.md"))?;
    let rows: Vec<String> = scenarios.iter().map(row).collect();
    let told = page.lines().filter(|line| line.starts_with("| ") && line.split(" | ").count() == 3).skip(1);
    let told: Vec<&str> = told.filter(|line| !line.starts_with("|--")).collect();
    assert_eq!(told.join("\n"), rows.join("\n"), "docs/FAILOVER.md has other rows");
    let mut cases = tokio::task::JoinSet::new();
    let mut count = 0;
    for Scenario { name, whole, stream } in scenarios {
        if let Some((fault, gets)) = whole {
            count += 1;
            cases.spawn(async move { whole_gets(name, fault, gets).await });
        }
        if let Some((fault, gets)) = stream {
            count += 1;
            cases.spawn(async move { stream_gets(name, fault, gets).await });
        }
        // A few at a time: each has a database and an embedding model.
        while cases.len() >= 4 {
            if let Some(done) = cases.join_next().await {
                done??;
            }
        }
    }
    while let Some(done) = cases.join_next().await {
        done??;
    }
    assert!(count >= 60, "{count}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_failed_three_times_is_left_alone_and_comes_back_when_it_can_be_reached() -> Result<()> {
    let house = House::new().await?;
    let (mut first, other) = (Upstream::start().await?, Upstream::start().await?);
    house.add("a", &first.url()).await?;
    house.add("b", &other.url()).await?;
    other.always(Script::openai(OTHER));
    first.always(Script::openai(FIRST));
    assert_eq!(house.text(turn("auto", "first")).await?, FIRST);
    first.stop().await;
    for _ in 0..3 {
        assert_eq!(house.text(turn("auto", "again")).await?, OTHER);
    }
    // From here on it is not asked: nothing is lost by that.
    let alone = house.text(turn("a", "alone")).await.unwrap_err();
    assert!(["breaker_open", "refused"].contains(&word(&alone).as_str()), "{alone:?}");
    first.resume().await?;
    // It is looked whether it takes connections, each second.
    let back = async {
        while house.text(turn("auto", "back")).await? != FIRST {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(10), back).await??;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_that_is_asked_for_another_model_goes_on_from_what_was_said() -> Result<()> {
    let house = House::new().await?;
    let (first, other) = (Upstream::start().await?, Upstream::start().await?);
    house.add("a", &first.url()).await?;
    house.add("b", &other.url()).await?;
    first.always(after(2, [Step::Reset]));
    other.always(Script::openai_stream(&["three, ", "four."]));
    let heard = house.hear(turn("steady", "Count.")).await?;
    assert_eq!((heard.text.as_str(), heard.failed, heard.is_ended), (FIRST, None, true));
    assert_eq!(heard.models, ["a/mock", "b/mock"]);
    let asked = other.received()[0].json();
    let last = asked["messages"].as_array().and_then(|messages| messages.last()).cloned().unwrap_or_default();
    assert_eq!((last["role"].as_str(), last["content"].as_str()), (Some("assistant"), Some("One, two, ")));
    // The same alias without the wish: what came, and why no more does.
    let heard = house.hear(turn("auto", "Count.")).await?;
    assert_eq!((heard.text.as_str(), heard.failed.as_deref()), ("One, two, ", Some("reset")));
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_the_work_of_the_provider() -> Result<()> {
    let house = House::new().await?;
    let first = Upstream::start().await?;
    house.add("a", &first.url()).await?;
    // Before the headers,
    first.push(Script::hang());
    let left = tokio::time::timeout(STEP / 4, house.text(turn("a", "one"))).await;
    assert!(left.is_err());
    first.left(0).await;
    // and in the middle.
    first.push(after(2, [Step::Hang]));
    let streaming = house.coordinator.stream(&house.caller, turn("a", "two")).await?;
    drop(streaming);
    first.left(1).await;
    let outcomes: Vec<String> = house
        .events()
        .await?
        .iter()
        .filter(|event| &*event.kind == "turn_finished")
        .filter_map(|event| serde_json::from_slice::<serde_json::Value>(&event.body).ok())
        .filter_map(|body| Some(body["outcome"].as_str()?.to_owned()))
        .collect();
    assert_eq!(outcomes, ["abandoned", "abandoned"]);
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_and_no_word_of_a_provider_gets_out() -> Result<()> {
    let secret = "sk-live-0123456789abcdefghijklmnop";
    let house = House::with(config()).await?;
    let first = Upstream::start().await?;
    first.always(Script::failure(401, "invalid_api_key", &format!("Incorrect API key provided: {secret}")));
    house.add("a", &first.url()).await?;
    let error = house.text(turn("a", "x")).await.unwrap_err();
    assert_eq!(word(&error), "unauthorized");
    assert!(!format!("{error:?}").contains(secret), "{error:?}");
    assert!(!error.to_string().contains("Incorrect"));
    for event in house.events().await? {
        let body = String::from_utf8_lossy(&event.body).into_owned();
        assert!(!body.contains(secret) && !body.contains("Incorrect"), "{body}");
    }
    house.close().await
}
