//! Budgets under many callers at once, streams that are cut at random, and the books against the events.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Result;
use futures::StreamExt;
use holdfast_coordinator::{Api, Config, Place, ProviderSettings, TurnError};
use holdfast_llm::Price;
use holdfast_storage::ledger::{Budget, Limits, Period, Subject};
use holdfast_testkit::upstream::{Script, Step, Upstream};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::house::{House, STEP, config, provider, turn, word};

const PRICE: Price = Price { input: 1_000_000, output: 2_000_000, cached_input: None, cache_write: None };

fn budget(cost: Option<u64>, tokens: Option<u64>) -> Budget {
    Budget {
        id: "all".to_owned(),
        subject: Subject::Everyone,
        model: None,
        limits: Limits { cost, tokens },
        period: Period::Total,
    }
}

async fn priced() -> Result<(House, Upstream)> {
    let prices = BTreeMap::from([("mock".to_owned(), PRICE)]);
    let house = House::with(Config { prices, ..config() }).await?;
    let upstream = Upstream::start().await?;
    house.add("a", &upstream.url()).await?;
    Ok((house, upstream))
}

/// What the events say was spent.
async fn told(house: &House) -> Result<(u64, u64)> {
    let mut sums = (0, 0);
    for event in house.events().await? {
        let body: Value = serde_json::from_slice(&event.body)?;
        match &*event.kind {
            "turn_finished" => {
                let usage = &body["usage"];
                let tokens = usage["input_tokens"].as_u64().unwrap_or(0) + usage["output_tokens"].as_u64().unwrap_or(0);
                sums = (sums.0 + body["cost"].as_u64().unwrap_or(0), sums.1 + tokens);
            }
            "budget_forfeited" => {
                sums = (sums.0 + body["cost"].as_u64().unwrap_or(0), sums.1 + body["tokens"].as_u64().unwrap_or(0));
            }
            _ => {}
        }
    }
    Ok(sums)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_callers_and_streams_cut_at_random_never_spend_more_than_there_is() -> Result<()> {
    let (house, upstream) = priced().await?;
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..600 {
        let script = match random.u8(0..4) {
            0 => Script::openai_stream(&["One, ", "two, ", "three."]).then_after(3, [Step::Reset]),
            1 => Script::failure(400, "invalid_request_error", "no"),
            _ => Script::openai_stream(&["One, ", "two, ", "three."]),
        };
        upstream.push(script);
    }
    upstream.always(Script::openai_stream(&["end"]));
    // A reservation is some 8 200 millionths: 4 096 tokens of answer, and the question.
    let limit = 60_000;
    let ledger = house.log.ledger();
    ledger.put_budget(budget(Some(limit), None)).await?;
    let house = Arc::new(house);
    let mut callers = JoinSet::new();
    for number in 0..64_u64 {
        let house = Arc::clone(&house);
        callers.spawn(async move {
            let mut random = fastrand::Rng::with_seed(number);
            let (mut answered, mut refused) = (0, 0);
            for _ in 0..8 {
                match house.coordinator.stream(&house.caller, turn("a", "Count.")).await {
                    Ok(mut streaming) => {
                        answered += 1;
                        for _ in 0..random.usize(0..6) {
                            if streaming.events.next().await.is_none() {
                                break;
                            }
                        }
                    }
                    Err(TurnError::BudgetExceeded { .. }) => refused += 1,
                    Err(_) => {}
                }
            }
            (answered, refused)
        });
    }
    let (mut answered, mut refused) = (0, 0);
    while let Some(done) = callers.join_next().await {
        let (some, others) = done?;
        (answered, refused) = (answered + some, refused + others);
    }
    assert!(answered > 0 && refused > 0, "{answered} answered, {refused} refused");
    let (cost, tokens) = told(&house).await?;
    let sums = ledger.sums()?;
    assert_eq!((sums.len(), sums[0].reserved.cost, ledger.reservations()), (1, 0, 0), "{sums:?}");
    assert_eq!((sums[0].spent.cost, sums[0].spent.tokens), (cost, tokens), "the books are not the events");
    // Never exceeded: a call is only made where all it may cost fits.
    assert!(cost <= limit, "{cost} of {limit} were spent");
    Arc::into_inner(house).map_or(Ok(()), |house| {
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(house.close()))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_in_money_wants_a_price_and_one_in_tokens_does_not() -> Result<()> {
    let house = House::new().await?;
    let upstream = Upstream::start().await?;
    upstream.always(Script::openai("yes"));
    house.add("home", &upstream.url()).await?;
    house.add_as(ProviderSettings { location: Some(Place::Remote), ..provider("free", &upstream.url()) }).await?;
    let ledger = house.log.ledger();
    ledger.put_budget(budget(Some(1_000_000), None)).await?;
    assert_eq!(house.text(turn("home", "hello")).await?, "yes", "what runs here costs nothing");
    let refused = house.text(turn("free", "hello")).await;
    assert!(matches!(refused, Err(TurnError::MissingPrice { .. })), "{refused:?}");
    ledger.remove_budget("all".to_owned()).await?;
    ledger.put_budget(budget(None, Some(9_000))).await?;
    assert_eq!(house.text(turn("free", "hello")).await?, "yes");
    house.log.flush().await?;
    let spent = ledger.sums()?[0].spent.tokens;
    assert!(spent > 0 && spent < 4_000, "{spent}: what was set aside and not used is free again");
    ledger.put_budget(budget(None, Some(spent + 100))).await?;
    let refused = house.text(turn("free", "hello")).await.unwrap_err();
    assert_eq!(word(&refused), "budget_exceeded");
    assert_eq!(upstream.received().len(), 2);
    house.close().await
}

/// What the books have, and what the events say, of the only budget.
async fn spent(house: &House) -> Result<(u64, u64)> {
    let told = told(house).await?;
    let sums = house.log.ledger().sums()?;
    let booked = (sums[0].spent.cost, sums[0].spent.tokens);
    assert_eq!((booked, sums[0].reserved.cost), (told, 0));
    Ok(booked)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_before_the_answer_pays_what_was_set_aside() -> Result<()> {
    let (house, upstream) = priced().await?;
    house.log.ledger().put_budget(budget(Some(1_000_000), None)).await?;
    upstream.push(Script::hang());
    let asking = tokio::time::timeout(STEP / 4, house.text(turn("a", "one"))).await;
    assert!(asking.is_err());
    upstream.left(0).await;
    let (cost, tokens) = spent(&house).await?;
    assert!(cost > 8_192 && tokens > 4_096, "{cost}, {tokens}");
    // A provider that fails is not paid.
    upstream.always(Script::failure(500, "server_error", "no"));
    assert!(house.text(turn("a", "two")).await.is_err());
    assert_eq!(spent(&house).await?.0, cost);
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_anthropics_that_is_cut_costs_what_came() -> Result<()> {
    let prices = BTreeMap::from([("mock".to_owned(), PRICE)]);
    let house = House::with(Config { prices, ..config() }).await?;
    let upstream = Upstream::start().await?;
    let url = upstream.url();
    house.add_as(ProviderSettings { api: Api::Anthropic, ..provider("a", url.trim_end_matches("/v1")) }).await?;
    house.log.ledger().put_budget(budget(Some(1_000_000), None)).await?;
    let words = "one two three four five six seven eight nine ten ";
    upstream.always(Script::anthropic_stream(&[words; 20]).then_after(13, [Step::Hang]));
    let mut asked = turn("a", "Count.");
    asked.request.original = None;
    let mut streaming = house.coordinator.stream(&house.caller, asked).await?;
    for _ in 0..8 {
        streaming.events.next().await;
    }
    drop(streaming);
    let (cost, tokens) = spent(&house).await?;
    // It told 11 tokens of the question and 1 of the answer as it began; some fifty came.
    assert!(tokens > 40 && cost > 80, "{cost}, {tokens}");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_models_of_an_answer_are_paid() -> Result<()> {
    let (house, first) = priced().await?;
    let other = Upstream::start().await?;
    house.add("b", &other.url()).await?;
    house.log.ledger().put_budget(budget(Some(1_000_000), None)).await?;
    first.always(Script::openai_stream(&["One, two, ", "three, four, ", "five."]).then_after(3, [Step::Reset]));
    other.always(Script::openai_stream(&["six."]));
    let heard = house.hear(turn("steady", "Count.")).await?;
    assert_eq!((heard.models.len(), heard.is_ended), (2, true), "{heard:?}");
    let (cost, _) = spent(&house).await?;
    let events = house.events().await?;
    let finished: Value = serde_json::from_slice(&events.last().map_or(Vec::new(), |event| event.body.to_vec()))?;
    assert_eq!((finished["model"].as_str(), finished["outcome"].as_str()), (Some("b/mock"), Some("answered")));
    let alone = PRICE.input * 11 / 1_000_000 + PRICE.output * 5 / 1_000_000;
    assert!(cost > alone + 10, "{cost} is what the second alone costs: {finished}");
    house.close().await
}
