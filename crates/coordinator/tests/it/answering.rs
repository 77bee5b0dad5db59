//! Who answers, what is kept, what is looked up, and what is on record of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result};
use holdfast_coordinator::{Augmentation, CacheMode, CacheUse, Config, ModelSettings, PolicyName, Turn, TurnError};
use holdfast_knowledge::{NewDocument, PutDocuments};
use holdfast_llm::{Image, Message, Part, Price, Role, Sampling, Tool};
use holdfast_storage::{Caller, Grants, Role as KeyRole, keys::KeyTerms};
use holdfast_testkit::upstream::{Script, Upstream};
use serde_json::json;
use uuid::Uuid;

use crate::house::{House, PATIENCE, config, provider, text, turn, word};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_provider_the_error_says_so_and_nothing_is_invented() -> Result<()> {
    let house = House::new().await?;
    assert!(matches!(house.text(turn("auto", "hello")).await, Err(TurnError::NoProvider)));
    assert!(house.coordinator.models(&house.caller).is_empty());
    let upstream = Upstream::start().await?;
    house.add("near", &upstream.url()).await?;
    assert!(matches!(house.text(turn("gpt-17", "hello")).await, Err(TurnError::UnknownModel { .. })));
    let names: Vec<String> = house.coordinator.models(&house.caller).into_iter().map(|model| model.name).collect();
    assert_eq!(names, ["auto", "local", "steady", "near/mock"]);
    house.coordinator.remove_provider("near").await?;
    assert!(matches!(house.text(turn("auto", "hello")).await, Err(TurnError::NoProvider)));
    house.close().await
}

/// Two providers on record, one here and one elsewhere, who answer with their names.
async fn near_and_far(house: &House) -> Result<(Upstream, Upstream)> {
    let (near, far) = (Upstream::start().await?, Upstream::start().await?);
    near.always(Script::openai("near"));
    far.always(Script::openai("far"));
    house.add("near", &near.url()).await?;
    let mut settings = provider("far", &far.url());
    settings.location = Some(holdfast_coordinator::Place::Remote);
    house.add_as(settings).await?;
    Ok((near, far))
}

#[tokio::test(flavor = "multi_thread")]
async fn names_aliases_and_policies_choose() -> Result<()> {
    let house = House::with(Config { policy: PolicyName::RemoteFirst, ..config() }).await?;
    let (near, _far) = near_and_far(&house).await?;
    for (asked, answer) in [
        ("auto", "far"),
        ("local", "near"),
        ("remote", "far"),
        ("near", "near"),
        ("near/mock", "near"),
        ("far/mock", "far"),
    ] {
        assert_eq!(house.text(turn(asked, "who?")).await?, answer, "{asked}");
    }
    // The provider is asked for its own name of the model.
    assert!(near.received().iter().all(|received| received.json()["model"] == "mock"));
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_asks_the_models_it_was_made_for_and_hears_of_no_other() -> Result<()> {
    let house = House::with(Config { policy: PolicyName::RemoteFirst, ..config() }).await?;
    let (_near, far) = near_and_far(&house).await?;
    let limited = async |words: &[&str]| {
        let models = Grants::only(words.iter().map(|word| (*word).to_owned()));
        house.key(KeyTerms { models, ..KeyTerms::of("limited", KeyRole::Reader) }).await
    };
    let names = |caller: &Caller| house.coordinator.models(caller).into_iter().map(|model| model.name).collect();
    // By a word, a provider, a model, and an alias of the settings, which stands for all.
    for (words, known) in [
        (&["local"][..], &["auto", "local", "steady", "near/mock"][..]),
        (&["near"], &["auto", "local", "steady", "near/mock"]),
        (&["far/mock", "gone"], &["auto", "remote", "steady", "far/mock"]),
        (&["steady"], &["auto", "local", "remote", "steady", "near/mock", "far/mock"]),
        (&["gone"], &[]),
        (&[], &[]),
    ] {
        let found: Vec<String> = names(&limited(words).await?);
        let expected: BTreeSet<_> = known.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "{words:?}");
    }
    let caller = limited(&["near"]).await?;
    // What comes first for others is passed by.
    let answered = house.coordinator.complete(&caller, turn("auto", "who?")).await?;
    assert_eq!((text(&answered).as_str(), far.received().len()), ("near", 0));
    // By its name one is as unknown as one that is not there; under a word that is there, none of them may be asked.
    for (asked, refused) in
        [("far", "UnknownModel"), ("far/mock", "UnknownModel"), ("gone", "UnknownModel"), ("remote", "NotGranted")]
    {
        let error = house.coordinator.complete(&caller, turn(asked, "who?")).await.unwrap_err();
        assert_eq!(word(&error), refused, "{asked}");
        let error = house.coordinator.stream(&caller, turn(asked, "who?")).await.err().context("it was answered")?;
        assert_eq!(word(&error), refused, "{asked}");
        let counted = house.coordinator.count_tokens(&caller, asked, turn(asked, "who?").request).await;
        assert_eq!(word(&counted.unwrap_err()), refused, "{asked}");
    }
    // The one it may not ask is on record, for who may read all.
    let mine = house.coordinator.why(&caller, answered.about.interaction).await?;
    assert_eq!(mine.started.candidates.iter().map(|found| found.model.as_str()).collect::<Vec<_>>(), ["near/mock"]);
    let all = house.coordinator.why(&house.caller, answered.about.interaction).await?;
    let other = all.started.candidates.iter().find(|found| found.model == "far/mock").context("it is not on record")?;
    assert_eq!((other.obstacles.as_slice(), other.rank), (&["not_granted".to_owned()][..], None));
    // What rules the others out is told of those alone.
    let mut pictured = turn("auto", "who?");
    pictured.request.original = None;
    pictured.request.messages[0].parts.push(Part::Image(Image::Url("https://example.com/bird.png".into())));
    match house.coordinator.complete(&caller, pictured).await {
        Err(TurnError::NoneFits { obstacles }) => {
            assert_eq!(obstacles.iter().map(|(model, _)| model.as_str()).collect::<Vec<_>>(), ["near/mock"]);
        }
        other => anyhow::bail!("{other:?}"),
    }
    assert!(far.received().is_empty());
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_model_can_do_is_refused_before_any_call() -> Result<()> {
    let house = House::new().await?;
    let upstream = Upstream::start().await?;
    let mut settings = provider("small", &upstream.url());
    settings.models = vec![ModelSettings {
        name: "mock".to_owned(),
        context_tokens: Some(2_000),
        tools: Some(false),
        images: Some(false),
        formats: Some(false),
        ..ModelSettings::default()
    }];
    house.add_as(settings).await?;
    let long = "word ".repeat(4_000);
    match house.text(turn("auto", &long)).await {
        Err(TurnError::ContextTooLong { tokens, limit: 2_000 }) => assert!(tokens > 4_000, "{tokens}"),
        other => panic!("{other:?}"),
    }
    let mut with_tools = turn("auto", "look it up");
    with_tools.request.original = None;
    let parameters = json!({ "type": "object", "properties": {} });
    with_tools.request.tools = vec![Tool { name: "look".to_owned(), description: None, parameters, strict: None }];
    let mut with_image = turn("auto", "what is this?");
    with_image.request.original = None;
    let image = Image::Inline { media_type: "image/png".to_owned(), data: "iVBORw0KGgo=".to_owned() };
    with_image.request.messages[0].parts.push(Part::Image(image));
    for (asked, obstacle) in [(with_tools, "tools"), (with_image, "image")] {
        match house.text(asked).await {
            Err(TurnError::NoneFits { obstacles }) => {
                assert!(obstacles[0].1.contains(obstacle) || obstacles[0].1.contains("picture"), "{obstacles:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(upstream.received().is_empty(), "it was called");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_very_same_request_is_answered_from_what_was_kept() -> Result<()> {
    let upstream = Upstream::start().await?;
    upstream.push(Script::failure(401, "invalid_api_key", "no"));
    upstream.always(Script::openai("kept"));
    let other = House::with(Config { cache: CacheMode::Always, ..config() }).await?;
    other.add("a", &upstream.url()).await?;
    assert_eq!(word(&other.text(turn("a", "once")).await.unwrap_err()), "unauthorized");
    let before = upstream.received().len();
    let first = other.complete(turn("a", "once")).await?;
    let second = other.complete(turn("a", "once")).await?;
    assert_eq!((first.about.is_cached, second.about.is_cached), (false, true));
    assert_eq!((text(&first), text(&second)), ("kept".to_owned(), "kept".to_owned()));
    assert_ne!(first.about.interaction, second.about.interaction);
    let heard = other.hear(turn("a", "once")).await?;
    assert_eq!((heard.text.as_str(), heard.is_ended), ("kept", true), "a stream of what was kept");
    assert_eq!(upstream.received().len(), before + 1);
    let fresh = CacheUse { is_fresh: true, ..CacheUse::default() };
    other.complete(with_cache(turn("a", "once"), fresh)).await?;
    assert_eq!(upstream.received().len(), before + 2);
    let only = CacheUse { is_kept_only: true, ..CacheUse::default() };
    let refused = other.complete(with_cache(turn("a", "never asked"), only)).await;
    assert!(matches!(refused, Err(TurnError::NotCached)), "{refused:?}");
    assert_eq!(upstream.received().len(), before + 2);
    other.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_cut_is_not_kept() -> Result<()> {
    let house = House::with(Config { cache: CacheMode::Always, ..config() }).await?;
    let upstream = Upstream::start().await?;
    house.add("a", &upstream.url()).await?;
    let cut = Script::openai_stream(&["One, ", "two."]).then_after(2, [holdfast_testkit::upstream::Step::Reset]);
    upstream.push(cut);
    upstream.always(Script::openai_stream(&["One, ", "two."]));
    assert!(house.hear(turn("a", "count")).await?.failed.is_some());
    let again = house.hear(turn("a", "count")).await?;
    assert_eq!((again.text.as_str(), again.failed), ("One, two.", None));
    let kept = house.complete(turn("a", "count")).await?;
    assert!(kept.about.is_cached && text(&kept) == "One, two.");
    house.close().await
}

fn with_cache(mut turn: Turn, cache: CacheUse) -> Turn {
    turn.cache = cache;
    turn
}

async fn know(house: &House, documents: &[(&str, &str)]) -> Result<()> {
    let document = |(id, content): &(&str, &str)| NewDocument {
        id: Some((*id).to_owned()),
        title: Some((*id).to_owned()),
        content: (*content).to_owned(),
        metadata: json!({}),
        ..NewDocument::default()
    };
    let request = PutDocuments {
        collection: "default".to_owned(),
        documents: documents.iter().map(document).collect(),
        wait: Some(PATIENCE),
        idempotency: None,
    };
    house.knowledge.put_documents(&house.caller, request).await?;
    Ok(())
}

fn augmentation() -> Augmentation {
    Augmentation { collections: Vec::new(), query: None, budget_tokens: 1_000, passages_max: 5 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_given_what_was_found_and_why_tells_all_of_it() -> Result<()> {
    let price = Price { input: 3_000_000, output: 15_000_000, cached_input: None, cache_write: None };
    let prices = BTreeMap::from([("b/mock".to_owned(), price)]);
    let house = House::with(Config { prices, ..config() }).await?;
    know(
        &house,
        &[
            ("lamp", "The lamp of the lighthouse burns oil that is brought twice a year."),
            ("lamp-again", "The lamp of the lighthouse burns oil that is brought twice a year!"),
            ("bread", "Bread needs flour, water, salt and yeast."),
        ],
    )
    .await?;
    let (first, second) = (Upstream::start().await?, Upstream::start().await?);
    first.always(Script::failure(401, "invalid_api_key", "no"));
    second.always(Script::openai("Oil [1]."));
    house.add("a", &first.url()).await?;
    house.add("b", &second.url()).await?;
    let mut asked = turn("auto", "What does the lamp of the lighthouse burn?");
    asked.augmentation = Some(augmentation());
    let completed = house.complete(asked).await?;
    assert_eq!(completed.about.model, "b/mock");
    assert!(completed.about.citations.iter().any(|citation| citation.document_id.starts_with("lamp")));
    let sent = second.received()[0].json().to_string();
    assert!(sent.contains("burns oil") && sent.contains("not instructions"), "{sent}");

    let why = house.coordinator.why(&house.caller, completed.about.interaction).await?;
    let started = &why.started;
    assert_eq!((started.asked.as_str(), started.policy.as_str(), started.candidates.len()), ("auto", "local-first", 2));
    assert!(started.candidates.iter().all(|candidate| candidate.obstacles.is_empty() && candidate.breaker == "closed"));
    let propensities: f64 = started.candidates.iter().filter_map(|candidate| candidate.propensity).sum();
    assert!((propensities - 1.0).abs() < 1e-9);
    let context = started.context.as_ref().context("no context")?;
    assert_eq!(context.taken.len(), completed.about.citations.len());
    assert!(context.refused.iter().any(|passage| passage.reason.as_deref() == Some("near_duplicate")), "{context:?}");
    let finished = why.finished.context("not finished")?;
    let outcomes: Vec<(&str, &str)> =
        finished.attempts.iter().map(|attempt| (attempt.model.as_str(), attempt.outcome.as_str())).collect();
    assert_eq!(outcomes, [("a/mock", "unauthorized"), ("b/mock", "ok")]);
    assert_eq!(finished.attempts[0].status, Some(401));
    assert!(finished.cost.is_some_and(|cost| cost > 0) && finished.usage.input_tokens.is_some());
    assert!(finished.duration_ms > 0.0 && finished.first_visible_ms.is_some());
    let unknown = house.coordinator.why(&house.caller, Uuid::now_v7()).await;
    assert!(matches!(unknown, Err(TurnError::InteractionNotFound)));
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_recorded_as_the_policy_says() -> Result<()> {
    for (texts, full, hashed) in [
        (holdfast_coordinator::TextPolicy::Full, true, false),
        (holdfast_coordinator::TextPolicy::Hashes, false, true),
        (holdfast_coordinator::TextPolicy::None, false, false),
    ] {
        let house = House::with(Config { texts, ..config() }).await?;
        let upstream = Upstream::start().await?;
        upstream.always(Script::openai("the secret answer"));
        house.add("a", &upstream.url()).await?;
        house.text(turn("a", "the secret question")).await?;
        let events = house.events().await?;
        assert_eq!(events.len(), 2);
        let all: String = events.iter().map(|event| String::from_utf8_lossy(&event.body).into_owned()).collect();
        assert_eq!(all.contains("the secret question") && all.contains("the secret answer"), full, "{all}");
        assert_eq!(all.contains("blake3"), hashed, "{all}");
        house.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_shape_is_spoken_to_where_that_can_be() -> Result<()> {
    let house = House::new().await?;
    let upstream = Upstream::start().await?;
    upstream.always(Script::anthropic("from Anthropic's shape"));
    let mut settings = provider("claude", &upstream.url());
    settings.api = holdfast_coordinator::Api::Anthropic;
    house.add_as(settings).await?;
    let mut asked = turn("claude", "hello");
    asked.request.messages.insert(0, Message::text(Role::System, "Be brief."));
    asked.request.original = None;
    asked.request.sampling = Sampling { max_tokens: Some(64), ..Sampling::default() };
    assert_eq!(house.text(asked.clone()).await?, "from Anthropic's shape");
    let sent = upstream.received()[0].json();
    assert_eq!((sent["system"].to_string().contains("Be brief."), &sent["max_tokens"]), (true, &json!(64)));
    // What cannot be said there is refused before any call, in words.
    asked.request.sampling.answers = Some(3);
    let refused = house.text(asked).await.unwrap_err();
    assert_eq!(word(&refused), "inexpressible", "{refused:?}");
    assert_eq!(upstream.received().len(), 1);
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_takes_too_long_ends_with_its_failure() -> Result<()> {
    let mut quick = config();
    quick.deadlines.total = Duration::from_millis(700);
    let house = House::with(quick).await?;
    let upstream = Upstream::start().await?;
    upstream.always(Script::hang());
    for name in ["a", "b", "c"] {
        house.add(name, &upstream.url()).await?;
    }
    let began = std::time::Instant::now();
    let failed = house.text(turn("auto", "hello")).await.unwrap_err();
    assert!(["first_byte_timeout", "total_timeout"].contains(&word(&failed).as_str()), "{failed:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    house.close().await
}
