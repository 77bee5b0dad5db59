//! Budgets as their callers see them: never overdrawn, and books that say what the events say, whatever happens.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
};

use serde_json::{Value, json};
use tokio::{runtime::Runtime, task::JoinSet};

use super::*;
use crate::events::{
    Event,
    tests::{all, child, directory_given, occupy},
};

/// The last millisecond of a month. Far from now, since the ledger takes no moment for one that is past.
const NOW_MS: i64 = 4_864_924_799_999;

fn open(folder: &Path) -> EventLog {
    EventLog::open_at(&folder.join("events.db")).unwrap()
}

fn budget(id: &str, cost: u64) -> Budget {
    Budget {
        id: id.into(),
        subject: Subject::Everyone,
        model: None,
        limits: Limits { cost: Some(cost), tokens: None },
        period: Period::Total,
    }
}

fn reservation(caller: &str, model: &str, cost: u64, tokens: u64) -> Reservation {
    Reservation {
        tenant: "default".into(),
        caller: caller.into(),
        session: None,
        interaction: Uuid::now_v7(),
        models: vec![model.into()],
        cost: Some(cost),
        tokens,
        now_ms: NOW_MS,
    }
}

fn charge(model: &str, cost: u64, tokens: u64) -> Charge {
    Charge { cost, tokens, models: vec![model.into()] }
}

/// The event that tells of a settlement.
fn settled(caller: &str, charge: &Charge) -> NewEvent {
    let body = json!({ "cost": charge.cost, "tokens": charge.tokens, "models": charge.models });
    NewEvent {
        id: Uuid::now_v7(),
        kind: "turn_settled".into(),
        version: 1,
        tenant: "default".into(),
        interaction: None,
        session: None,
        caller: caller.into(),
        at_ms: NOW_MS,
        body: body.to_string().into_bytes(),
    }
}

/// What the events say was spent under each budget.
fn spent_by_events(budgets: &[Budget], events: &[Event]) -> BTreeMap<String, Amount> {
    let mut spent: BTreeMap<_, _> = budgets.iter().map(|budget| (budget.id.clone(), Amount::default())).collect();
    for event in events {
        let body: Value = serde_json::from_slice(&event.body).unwrap();
        let number = |field: &str| body[field].as_u64().unwrap();
        let amount = Amount { cost: number("cost"), tokens: number("tokens") };
        let has = |field: &str, word: &str| body[field].as_array().unwrap().iter().any(|value| value == word);
        for budget in budgets {
            let counts = match &*event.kind {
                FORFEITED => has("budgets", &budget.id),
                "turn_settled" => {
                    budget.model.as_ref().is_none_or(|model| has("models", model))
                        && match &budget.subject {
                            Subject::Key(id) => **id == *event.caller,
                            Subject::Everyone => true,
                        }
                }
                other => panic!("{other}"),
            };
            if counts {
                let sum = spent.get_mut(&budget.id).unwrap();
                *sum = sum.plus(amount);
            }
        }
    }
    spent
}

/// What the books say, all periods together, after a look that nothing is set aside.
fn spent_by_books(ledger: &Ledger) -> BTreeMap<String, Amount> {
    let mut spent: BTreeMap<_, _> = ledger.budgets().into_iter().map(|budget| (budget.id, Amount::default())).collect();
    for sums in ledger.sums().unwrap() {
        assert_eq!(sums.reserved, Amount::default(), "{}", sums.budget);
        let sum = spent.get_mut(&sums.budget).unwrap();
        *sum = sum.plus(sums.spent);
    }
    spent
}

fn over(refused: Result<Reserved, ReserveError>) -> OverBudget {
    match refused {
        Err(ReserveError::Over(over)) => over,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_budget_applies_nothing_is_written_and_nothing_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let ledger = log.ledger();
    ledger.put_budget(Budget { subject: Subject::Key("key_2".into()), ..budget("other", 1) }).await.unwrap();
    ledger.put_budget(Budget { model: Some("large".into()), ..budget("large", 1) }).await.unwrap();
    let busy = occupy(&log);
    let free = reservation("key_1", "small", 1_000, 1_000);
    ledger.allows(&free).unwrap();
    let reserved = ledger.reserve(free).await.unwrap();
    assert!(!reserved.is_counted());
    ledger.settle(reserved, vec![charge("small", 1, 1)], vec![settled("key_1", &charge("small", 1, 1))]).await.unwrap();
    drop(ledger.reserve(reservation("key_1", "small", 1_000, 1_000)).await.unwrap());
    drop(busy);
    log.flush().await.unwrap();
    assert_eq!(all(&log).len(), 1);
    assert_eq!(ledger.sums().unwrap(), []);
    // A budget that is put holds for the very next call.
    ledger.put_budget(budget("all", 999)).await.unwrap();
    let refused = over(ledger.reserve(reservation("key_1", "small", 1_000, 1_000)).await);
    assert_eq!((refused.budget.as_str(), refused.limit, refused.wanted), ("all", 999, 1_000));
    ledger.remove_budget("all".into()).await.unwrap();
    assert!(!ledger.reserve(reservation("key_1", "small", 1_000, 1_000)).await.unwrap().is_counted());
    tokio::task::block_in_place(|| log.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_while_a_budget_is_put_has_put_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let ledger = log.ledger();
    let busy = occupy(&log);
    {
        let putting = std::pin::pin!(ledger.put_budget(budget("all", 1)));
        assert!(futures::poll!(putting).is_pending());
    }
    drop(busy);
    log.flush().await.unwrap();
    // Writes are done in order.
    log.probe().await.unwrap();
    assert_eq!(over(ledger.reserve(reservation("key_1", "m", 2, 2)).await).limit, 1);
    tokio::task::block_in_place(|| log.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_brings_no_period_back() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let ledger = log.ledger();
    ledger.put_budget(Budget { period: Period::Day, ..budget("day", 10) }).await.unwrap();
    let at = |now_ms| Reservation { now_ms, ..reservation("key_1", "m", 10, 1) };
    let reserved = ledger.reserve(at(crate::keys::present_ms())).await.unwrap();
    ledger.settle(reserved, vec![charge("m", 10, 1)], vec![]).await.unwrap();
    let yesterday = crate::keys::present_ms() - 48 * 60 * 60 * 1_000;
    assert!(ledger.allows(&at(yesterday)).is_err());
    assert_eq!(over(ledger.reserve(at(yesterday)).await).spent, 10);
    tokio::task::block_in_place(|| log.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_too_large_is_cut_and_not_left_out_where_it_tells_of_a_charge() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let ledger = log.ledger();
    ledger.put_budget(budget("all", 1_000)).await.unwrap();
    let charge = charge("m", 7, 9);
    let long = "x".repeat(crate::events::EVENT_BYTES_MAX + 1);
    let body = json!({ "cost": 7, "tokens": 9, "models": ["m"], "answer": long }).to_string();
    // Keys are not cut, so that this one only says what was charged.
    let keys: serde_json::Map<_, _> = (0..200_000).map(|key| (key.to_string(), Value::Null)).collect();
    for body in [body, Value::Object(keys).to_string(), long] {
        let reserved = ledger.reserve(reservation("key_1", "m", 10, 10)).await.unwrap();
        let event = NewEvent { body: body.into_bytes(), ..settled("key_1", &charge) };
        ledger.settle(reserved, vec![charge.clone()], vec![event]).await.unwrap();
    }
    assert_eq!(log.lost(), 0);
    let events = all(&log);
    assert_eq!(events.len(), 3);
    for event in &events {
        let body: Value = serde_json::from_slice(&event.body).unwrap();
        assert_eq!((&body["cost"], &body["tokens"], &body["is_cut"]), (&json!(7), &json!(9), &json!(true)));
    }
    assert_eq!(spent_by_events(&ledger.budgets(), &events), spent_by_books(&ledger));
    tokio::task::block_in_place(|| log.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_counts_what_is_set_aside_and_then_what_was_spent() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let ledger = log.ledger();
    let limits = Limits { cost: Some(100), tokens: Some(1_000) };
    ledger.put_budget(Budget { limits, period: Period::Day, ..budget("day", 0) }).await.unwrap();
    let first = ledger.reserve(reservation("key_1", "m", 60, 100)).await.unwrap();
    assert_eq!(ledger.reservations(), 1);
    let refused = over(ledger.reserve(reservation("key_1", "m", 41, 100)).await);
    assert_eq!((refused.unit, refused.spent, refused.reserved), (Unit::Cost, 0, 60));
    assert_eq!(refused.resets_at_ms, Some(NOW_MS + 1));
    let refused = over(ledger.reserve(reservation("key_1", "m", 1, 901)).await);
    assert_eq!((refused.unit, refused.reserved, refused.limit), (Unit::Tokens, 100, 1_000));
    let unpriced = Reservation { cost: None, ..reservation("key_1", "m", 0, 1) };
    assert!(matches!(ledger.allows(&unpriced), Err(ReserveError::NoPrice { budget }) if budget == "day"));
    assert_eq!(ledger.reservations(), 1, "what is refused is not under way");

    ledger.settle(first, vec![charge("m", 10, 950)], vec![]).await.unwrap();
    let sums = &ledger.sums_at(NOW_MS).unwrap()[0];
    assert_eq!((sums.spent, sums.reserved), (Amount { cost: 10, tokens: 950 }, Amount::default()));
    assert_eq!(over(ledger.reserve(reservation("key_1", "m", 1, 51)).await).spent, 950);
    ledger.allows(&reservation("key_1", "m", 90, 50)).unwrap();
    // The next day is another account; what was begun yesterday counts for yesterday.
    let late = ledger.reserve(reservation("key_1", "m", 90, 50)).await.unwrap();
    let tomorrow = |cost| Reservation { now_ms: NOW_MS + 1, ..reservation("key_1", "m", cost, 0) };
    let early = ledger.reserve(tomorrow(100)).await.unwrap();
    ledger.settle(late, vec![charge("m", 90, 50)], vec![]).await.unwrap();
    ledger.settle(early, vec![charge("m", 70, 0)], vec![]).await.unwrap();
    let spent: Vec<_> = ledger.sums().unwrap().into_iter().map(|sums| sums.spent.cost).collect();
    assert_eq!(spent, [100, 70]);
    // Other limits hold at once, and what was spent stays spent.
    ledger
        .put_budget(Budget { limits: Limits { cost: Some(75), tokens: None }, period: Period::Day, ..budget("day", 0) })
        .await
        .unwrap();
    assert_eq!(over(ledger.reserve(tomorrow(6)).await).limit, 75);
    ledger.allows(&tomorrow(5)).unwrap();
    tokio::task::block_in_place(|| log.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_charged_where_it_belongs_and_set_aside_everywhere_or_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let ledger = log.ledger();
    for (id, model, limit) in
        [("a", Some("a"), 100), ("alias", Some("auto"), 100), ("b", Some("b"), 50), ("all", None, 100)]
    {
        ledger.put_budget(Budget { model: model.map(Into::into), ..budget(id, limit) }).await.unwrap();
    }
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let both = Reservation { models: names(&["auto", "a", "b"]), ..reservation("key_1", "", 60, 0) };
    assert_eq!(over(ledger.reserve(both.clone()).await).budget, "b");
    assert_eq!(ledger.sums().unwrap(), [], "nothing is set aside where one budget refuses");
    let reserved = ledger.reserve(Reservation { cost: Some(50), ..both }).await.unwrap();
    // The first model failed half way, the other one answered.
    let charges = vec![
        Charge { cost: 5, tokens: 1, models: names(&["auto", "a"]) },
        Charge { cost: 30, tokens: 2, models: names(&["auto", "b"]) },
    ];
    ledger.settle(reserved, charges, vec![]).await.unwrap();
    let cost = |id: &str| spent_by_books(&ledger)[id].cost;
    assert_eq!([cost("a"), cost("alias"), cost("b"), cost("all")], [5, 35, 30, 35]);
    tokio::task::block_in_place(|| log.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_are_checked_counted_and_keep_what_they_count() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let ledger = log.ledger();
    for invalid in [
        Budget { id: String::new(), ..budget("x", 1) },
        Budget { id: "a\nb".into(), ..budget("x", 1) },
        Budget { limits: Limits::default(), ..budget("x", 1) },
        Budget { subject: Subject::Key(String::new()), ..budget("x", 1) },
        Budget { model: Some("m".repeat(MODEL_BYTES_MAX + 1)), ..budget("x", 1) },
        budget("x", u64::MAX),
    ] {
        assert!(matches!(ledger.put_budget(invalid).await, Err(PutError::Invalid { .. })));
    }
    ledger.put_budget(budget("x", 1)).await.unwrap();
    let other = Budget { period: Period::Month, ..budget("x", 1) };
    let refused = ledger.put_budget(other).await.unwrap_err();
    assert!(matches!(refused, PutError::Storage(StorageError::Exists { what: "budget", .. })), "{refused}");
    let missing = ledger.remove_budget("y".into()).await.unwrap_err();
    assert!(matches!(missing, StorageError::NotFound { what: "budget", .. }), "{missing}");

    // What was set aside under a budget that is gone does not meet the next one of that id.
    let held = ledger.reserve(reservation("key_1", "m", 1, 0)).await.unwrap();
    ledger.remove_budget("x".into()).await.unwrap();
    ledger.put_budget(budget("x", 10)).await.unwrap();
    let new = ledger.reserve(reservation("key_1", "m", 7, 0)).await.unwrap();
    ledger.settle(held, vec![charge("m", 1, 0)], vec![]).await.unwrap();
    assert_eq!(ledger.sums().unwrap()[0].reserved.cost, 7);
    ledger.settle(new, vec![], vec![]).await.unwrap();
    tokio::task::block_in_place(|| log.close());
    drop(ledger);
    let log = open(folder.path());
    assert_eq!(log.ledger().budgets(), [budget("x", 10)]);
    for number in 1..BUDGETS_MAX {
        log.ledger().put_budget(budget(&format!("n{number}"), 1)).await.unwrap();
    }
    let refused = log.ledger().put_budget(budget("one too many", 1)).await.unwrap_err();
    assert!(matches!(refused, PutError::TooMany { limit: BUDGETS_MAX, .. }), "{refused}");
    log.ledger().put_budget(budget("x", 11)).await.unwrap();
    tokio::task::block_in_place(|| log.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn old_periods_are_forgotten_and_those_with_calls_under_way_are_not() {
    const DAY_MS: i64 = 86_400_000;
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let ledger = log.ledger();
    ledger.put_budget(Budget { period: Period::Day, ..budget("day", 10) }).await.unwrap();
    let first = NOW_MS / DAY_MS;
    let on = |day: i64| Reservation { now_ms: (first + day) * DAY_MS, ..reservation("key_1", "m", 1, 0) };
    let held = ledger.reserve(on(0)).await.unwrap();
    for day in 1..450 {
        let reserved = ledger.reserve(on(day)).await.unwrap();
        ledger.settle_later(reserved, vec![charge("m", 1, 0)], vec![]);
    }
    log.flush().await.unwrap();
    let sums = ledger.sums().unwrap();
    let days: Vec<_> = sums.into_iter().map(|sums| sums.period_start_ms / DAY_MS - first).collect();
    assert_eq!((days[0], days[1], days.len()), (0, 50, 401));
    drop(held);
    log.flush().await.unwrap();
    assert_eq!(ledger.sums().unwrap()[0].spent.cost, 1);
    tokio::task::block_in_place(|| log.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_let_go_of_is_charged_in_full_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let ledger = log.ledger();
    ledger.put_budget(budget("all", 100)).await.unwrap();
    let held = Reservation { session: Some("ses_1".into()), ..reservation("key_1", "m", 30, 3) };
    let interaction = held.interaction;
    drop(ledger.reserve(held).await.unwrap());
    log.flush().await.unwrap();
    let events = all(&log);
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!((&*event.kind, &*event.caller, event.session.as_deref()), (FORFEITED, "key_1", Some("ses_1")));
    assert_eq!(event.interaction, Some(interaction));
    let body: Value = serde_json::from_slice(&event.body).unwrap();
    assert_eq!(body, json!({ "reason": "dropped", "cost": 30, "tokens": 3, "budgets": ["all"] }));
    assert_eq!(spent_by_books(&ledger)["all"], Amount { cost: 30, tokens: 3 });
    assert_eq!(ledger.reservations(), 0);

    // Who leaves before the answer has set nothing aside.
    let busy = occupy(&log);
    let impatient = ledger.reserve(reservation("key_1", "m", 50, 0));
    assert!(futures::FutureExt::now_or_never(impatient).is_none());
    drop(busy);
    log.flush().await.unwrap();
    assert_eq!(spent_by_books(&ledger)["all"].cost, 30);
    assert_eq!((all(&log).len(), ledger.reservations()), (1, 0));

    // Who comes after the end is told so, and what was held is found at the next start.
    let held = ledger.reserve(reservation("key_1", "m", 20, 0)).await.unwrap();
    tokio::task::block_in_place(|| log.close());
    assert!(matches!(
        ledger.reserve(reservation("key_1", "m", 1, 0)).await,
        Err(ReserveError::Storage(StorageError::Closed))
    ));
    ledger.settle_later(held, vec![], vec![]);
    let log = open(folder.path());
    let body: Value = serde_json::from_slice(&all(&log)[1].body).unwrap();
    assert_eq!(body, json!({ "reason": "restart", "cost": 20, "tokens": 0, "budgets": ["all"] }));
    assert_eq!(spent_by_books(&log.ledger())["all"].cost, 50);
    tokio::task::block_in_place(|| log.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_callers_at_once_never_spend_more_than_there_is() {
    const CALLERS: usize = 64;
    let seed = fastrand::u64(..);
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let ledger = log.ledger();
    let limit = 50_000;
    ledger.put_budget(budget("all", limit)).await.unwrap();
    ledger.put_budget(Budget { subject: Subject::Key("key_7".into()), ..budget("seven", 500) }).await.unwrap();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let ledger = ledger.clone();
        let mut random = fastrand::Rng::with_seed(seed.wrapping_add(caller as u64));
        callers.spawn(async move {
            let name = format!("key_{caller}");
            let mut refused = 0;
            while refused < 3 {
                let wanted = random.u64(1..=100);
                let reserved = match ledger.reserve(reservation(&name, "m", wanted, wanted)).await {
                    Ok(reserved) => reserved,
                    Err(ReserveError::Over(over)) => {
                        assert!(over.spent + over.reserved <= over.limit, "{over}");
                        refused += 1;
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                };
                let charge = charge("m", random.u64(0..=wanted), wanted);
                let events = vec![settled(&name, &charge)];
                match random.u8(0..4) {
                    0 => drop(reserved),
                    1 => ledger.settle_later(reserved, vec![charge], events),
                    _ => ledger.settle(reserved, vec![charge], events).await.unwrap(),
                }
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    log.flush().await.unwrap();
    let books = spent_by_books(&ledger);
    assert_eq!(books, spent_by_events(&ledger.budgets(), &all(&log)), "seed {seed}");
    assert!(books["all"].cost <= limit && books["all"].cost > limit - 100, "seed {seed}: {:?}", books["all"]);
    assert!(books["seven"].cost <= 500, "seed {seed}");
    assert_eq!(ledger.reservations(), 0);
    tokio::task::block_in_place(|| log.close());
}

#[test]
fn after_a_kill_at_any_moment_the_books_say_what_the_events_say() {
    const KILLS: usize = 20;
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    let mut forfeited = 0;
    for kill in 0..KILLS {
        let mut process = child("ledger::tests::killed_child", directory.path(), &[]).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let is_settled =
            |line: &str| line.strip_prefix("settled ").and_then(|rest| rest.strip_suffix(" ."))?.parse().ok();
        let mut left = random.usize(1..300);
        while left > 0 {
            let cost: Option<u64> = is_settled(&lines.next().expect("it ended early").unwrap());
            left -= usize::from(cost.is_some());
            acknowledged += cost.unwrap_or(0);
        }
        for _ in 0..random.u32(0..2_000_000) {
            std::hint::spin_loop();
        }
        process.kill().unwrap();
        process.wait().unwrap();
        acknowledged += lines.filter_map(|line| is_settled(&line.unwrap())).sum::<u64>();
        let log = open(directory.path());
        let events = all(&log);
        let books = spent_by_books(&log.ledger());
        assert_eq!(books, spent_by_events(&log.ledger().budgets(), &events), "seed {seed}, kill {kill}");
        assert!(books["all"].cost >= acknowledged, "seed {seed}, kill {kill}: {acknowledged} were acknowledged");
        forfeited = events.iter().filter(|event| &*event.kind == FORFEITED).count();
        log.close();
    }
    assert!(forfeited > 0, "no kill came between a reservation and its settlement");
}

#[test]
fn killed_child() {
    let Some(directory) = directory_given() else { return };
    let log = open(&directory);
    let ledger = log.ledger();
    Runtime::new().unwrap().block_on(async {
        let plenty = 1 << 50;
        ledger.put_budget(budget("all", plenty)).await.unwrap();
        ledger.put_budget(Budget { model: Some("a".into()), ..budget("a", plenty) }).await.unwrap();
        ledger.put_budget(Budget { subject: Subject::Key("key_1".into()), ..budget("one", plenty) }).await.unwrap();
        let mut callers = JoinSet::new();
        for caller in 0..8 {
            let ledger = ledger.clone();
            callers.spawn(async move {
                let name = format!("key_{caller}");
                loop {
                    let model = if fastrand::bool() { "a" } else { "b" };
                    let wanted = fastrand::u64(1..=1_000);
                    let reserved = ledger.reserve(reservation(&name, model, wanted, wanted)).await.unwrap();
                    let charge = charge(model, fastrand::u64(0..=wanted), wanted / 2);
                    let (cost, events) = (charge.cost, vec![settled(&name, &charge)]);
                    match fastrand::u8(0..8) {
                        0 => drop(reserved),
                        1 => ledger.settle_later(reserved, vec![charge], events),
                        _ => {
                            ledger.settle(reserved, vec![charge], events).await.unwrap();
                            // Ends with the kill, or where nobody listens any more.
                            let mut stdout = std::io::stdout().lock();
                            writeln!(stdout, "settled {cost} .").unwrap();
                            stdout.flush().unwrap();
                        }
                    }
                }
            });
        }
        callers.join_next().await.unwrap().unwrap();
    });
}
