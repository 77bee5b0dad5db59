//! Sessions: what is remembered, for whom, and what is not sent twice.

use anyhow::Result;
use holdfast_coordinator::{Place, ProviderSettings, TurnError};
use holdfast_storage::{Grants, Role, Scope, keys::KeyTerms};
use holdfast_testkit::upstream::{Script, Step, Upstream};
use serde_json::Value;

use crate::house::{House, provider, turn};

fn said(asked: &Value) -> Vec<String> {
    let messages = asked["messages"].as_array().cloned().unwrap_or_default();
    messages
        .iter()
        .filter(|message| message["role"] != "system")
        .map(|message| message["content"].to_string())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_remembers_what_was_said_and_answered() -> Result<()> {
    let house = House::new().await?;
    let upstream = Upstream::start().await?;
    house.add("a", &upstream.url()).await?;
    upstream.push(Script::openai("I am the keeper."));
    upstream.push(Script::openai_stream(&["Forty ", "ships."]));
    upstream.always(Script::openai("At dusk."));
    let ask = |question: &str| {
        let mut turn = turn("a", question);
        turn.session = Some("watch".to_owned());
        turn
    };
    house.text(ask("Who are you?")).await?;
    house.hear(ask("How many ships?")).await?;
    house.text(ask("When?")).await?;
    let asked = upstream.received()[2].json();
    let wanted = ["\"Who are you?\"", "\"I am the keeper.\"", "\"How many ships?\"", "\"Forty ships.\"", "\"When?\""];
    assert_eq!(said(&asked), wanted, "{asked}");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_everything_each_time_is_not_told_twice() -> Result<()> {
    let house = House::new().await?;
    let upstream = Upstream::start().await?;
    house.add("a", &upstream.url()).await?;
    upstream.push(Script::openai("I am the keeper."));
    upstream.always(Script::openai("Forty."));
    let mut first = turn("a", "Who are you?");
    first.session = Some("watch".to_owned());
    house.text(first).await?;
    let mut second = turn("a", "How many ships?");
    second.session = Some("watch".to_owned());
    second.request.original = None;
    let said_before = [
        holdfast_llm::Message::text(holdfast_llm::Role::User, "Who are you?"),
        holdfast_llm::Message::text(holdfast_llm::Role::Assistant, "I am the keeper."),
    ];
    second.request.messages.splice(0..0, said_before);
    house.text(second).await?;
    let asked = upstream.received()[1].json();
    assert_eq!(said(&asked), ["\"Who are you?\"", "\"I am the keeper.\"", "\"How many ships?\""]);
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_session_goes_on_from_a_summary_by_the_model_that_answered() -> Result<()> {
    let house = House::new().await?;
    let (near, far) = (Upstream::start().await?, Upstream::start().await?);
    house.add("near", &near.url()).await?;
    let elsewhere = ProviderSettings { location: Some(Place::Remote), ..provider("far", &far.url()) };
    house.add_as(elsewhere).await?;
    let ask = |question: &str| {
        let mut turn = turn("near", question);
        turn.session = Some("long".to_owned());
        turn
    };
    near.always(Script::openai("The keeper said so."));
    let long = "Forty ships passed the lighthouse before dusk. ".repeat(300);
    for _ in 0..3 {
        house.text(ask(&long)).await?;
    }
    let summarised = async {
        loop {
            house.log.flush().await?;
            if house.text(ask("And then?")).await.is_ok() {
                let last = near.received().last().map(|request| request.json().to_string()).unwrap_or_default();
                if last.contains("Summary of the conversation so far") {
                    return anyhow::Ok(last);
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let last = tokio::time::timeout(crate::house::PATIENCE, summarised).await??;
    let whole = serde_json::from_str::<serde_json::Value>(&last)?;
    let roles: Vec<&str> =
        whole["messages"].as_array().into_iter().flatten().filter_map(|m| m["role"].as_str()).collect();
    assert_eq!(roles.iter().filter(|role| **role == "system").count(), 1, "{roles:?}");
    assert!(far.received().is_empty(), "the conversation was told to somebody else");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_kept_is_remembered_too() -> Result<()> {
    let house = House::new().await?;
    let upstream = Upstream::start().await?;
    house.add("a", &upstream.url()).await?;
    upstream.push(Script::openai("Forty."));
    upstream.always(Script::openai("At dusk."));
    let ask = |session: &str, question: &str| {
        let mut turn = turn("a", question);
        turn.session = Some(session.to_owned());
        turn.cache.max_age_s = Some(60);
        turn
    };
    house.text(ask("one", "How many?")).await?;
    let kept = house.complete(ask("two", "How many?")).await?;
    assert!(kept.about.is_cached);
    house.text(ask("two", "When?")).await?;
    let asked = upstream.received()[1].json();
    assert_eq!(said(&asked), ["\"How many?\"", "\"Forty.\"", "\"When?\""], "{asked}");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_too_large_for_the_record_is_there_without_its_texts() -> Result<()> {
    let house = House::new().await?;
    let upstream = Upstream::start().await?;
    house.add("a", &upstream.url()).await?;
    upstream.always(Script::openai("long"));
    let completed = house.complete(turn("a", &"word ".repeat(300_000))).await?;
    let why = house.coordinator.why(&house.caller, completed.about.interaction).await?;
    assert!(matches!(
        why.started.messages[0].text,
        Some(holdfast_coordinator::record::Text::Hash { bytes: 1_500_000, .. })
    ));
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_turns_at_once_in_a_session_are_one_and_a_refusal() -> Result<()> {
    let house = House::new().await?;
    let upstream = Upstream::start().await?;
    house.add("a", &upstream.url()).await?;
    let slow = Script::openai_stream(&["One, ", "two."]).then_after(2, [Step::Hang]);
    upstream.push(slow);
    upstream.always(Script::openai("later"));
    let ask = || {
        let mut turn = turn("a", "hello");
        turn.session = Some("one".to_owned());
        turn
    };
    let streaming = house.coordinator.stream(&house.caller, ask()).await?;
    assert!(matches!(house.text(ask()).await, Err(TurnError::SessionBusy)));
    drop(streaming);
    assert_eq!(house.text(ask()).await?, "later");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_the_session_or_the_turn_of_another() -> Result<()> {
    let house = House::new().await?;
    let upstream = Upstream::start().await?;
    house.add("a", &upstream.url()).await?;
    upstream.always(Script::openai("noted"));
    let mut mine = turn("a", "my secret");
    mine.session = Some("same-name".to_owned());
    let completed = house.complete(mine.clone()).await?;
    let other = house.key(KeyTerms::of("other", Role::Reader)).await?;
    assert!(other.may(Scope::Chat) && other.grants().cover(&Grants::All));
    let why = house.coordinator.why(&other, completed.about.interaction).await;
    assert!(matches!(why, Err(TurnError::InteractionNotFound)), "{why:?}");
    let mut theirs = turn("a", "what was said here?");
    theirs.session = Some("same-name".to_owned());
    house.coordinator.complete(&other, theirs).await?;
    let asked = upstream.received()[1].json().to_string();
    assert!(!asked.contains("my secret"), "{asked}");
    house.close().await
}
