//! What goes in comes out.

use std::io::Read;

use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;

use super::{
    super::line::{self, Line, Names},
    *,
};
use crate::events::EVENT_BYTES_MAX;

/// A body: JSON, nearly JSON, or anything.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        Just("null".to_owned()),
        Just("{}".to_owned()),
        "[ \t\r\n]{0,2}\\{\"a\":[ \n]?[0-9]{1,30}(\\.[0-9]{1,5})?\\}[ \n]{0,2}",
        "\"(\\\\u[0-9a-fA-F]{4}|\\\\n|[a-z\u{80}-\u{10ffff}])*\"",
        any::<String>().prop_map(|text| Value::String(text).to_string()),
        any::<String>(),
    ];
    prop_oneof![text.prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..200)]
}

fn any_event() -> impl Strategy<Value = Event> {
    let names = (any::<String>(), any::<String>(), any::<Option<String>>());
    let numbers = (1..=u64::MAX, any::<u128>(), any::<Option<u128>>(), any::<u16>(), any::<i64>());
    ("[a-z0-9_]{1,64}", names, numbers, body()).prop_map(|(kind, (tenant, caller, session), numbers, body)| Event {
        position: numbers.0,
        id: Uuid::from_u128(numbers.1),
        kind: kind.into(),
        version: numbers.3,
        tenant: tenant.into(),
        interaction: numbers.2.map(Uuid::from_u128),
        session: session.map(Into::into),
        caller: caller.into(),
        at_ms: numbers.4,
        body,
    })
}

proptest! {
    #[test]
    fn a_line_is_one_line_of_json_and_gives_the_event_back(event in any_event()) {
        let mut lines = Vec::new();
        line::write(&event, &mut lines).unwrap();
        prop_assert_eq!(lines.pop(), Some(b'\n'));
        prop_assert!(!lines.contains(&b'\n') && !lines.contains(&b'\r'));
        let line = Line::parse(&lines).unwrap();
        prop_assert_eq!(line.check(), Ok(()));
        prop_assert_eq!(line.event(&mut Names::default()).unwrap(), event);
    }

    #[test]
    fn no_line_is_a_panic(line in prop_oneof![prop::collection::vec(any::<u8>(), 0..300), "\\{\"position\":[0-9]{1,25},\"id\":\"[0-9a-f-]{30,40}\".{0,50}\\}".prop_map(String::into_bytes)]) {
        if let Ok(line) = Line::parse(&line) && line.check().is_ok() {
            line.event(&mut Names::default()).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn events_go_through_the_archive_and_back_into_a_log_unchanged(
        bodies in prop::collection::vec(body(), 2..60), events in 1_u64..20,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (log, archive) = open(folder.path(), events);
        let given: Vec<NewEvent> = (0..).zip(&bodies).map(|(n, body)| NewEvent { body: body.clone(), ..varied(n) }).collect();
        Runtime::new().unwrap().block_on(log.append(given)).unwrap();
        let before = in_log(&log);
        archive_all(&log, &archive);
        prop_assert_eq!(&in_both(&log, &archive), &before);
        prop_assert_eq!(in_log(&log).len(), 1);
        let imported = log.import(&archive).unwrap();
        prop_assert_eq!(imported.events + 1, bodies.len() as u64);
        prop_assert_eq!(&in_log(&log), &before);
        log.close();
    }
}

#[test]
fn a_person_reads_it_with_any_tool() {
    let house = House::archived(250);
    let segment = house.segment(1);
    assert_eq!(segment.name, "events-00000000000000000101-00000000000000000200.1.jsonl.zst");
    let mut lines = String::new();
    let file = std::fs::File::open(house.path(&segment.name)).unwrap();
    zstd::Decoder::new(file).unwrap().read_to_string(&mut lines).unwrap();
    assert_eq!((lines.lines().count(), lines.len() as u64), (100, segment.raw_bytes));
    for (line, number) in lines.lines().zip(100..) {
        let told: Value = match serde_json::from_str(line) {
            Ok(told) => told,
            // A lone surrogate is JSON and no text, and not every number is one here.
            Err(_) if [6, 7].contains(&(number % 10)) => continue,
            Err(error) => panic!("{line}: {error}"),
        };
        assert_eq!(told["position"], number + 1);
        assert_eq!(told["id"], varied(number).id.to_string());
        let body = &varied(number).body;
        match serde_json::from_slice::<Value>(body) {
            Ok(body) if told.get("body").is_some() => assert_eq!(told["body"], body),
            _ => assert!(told["body_base64"].is_string(), "{line}"),
        }
    }
    assert_eq!(segment.kinds["turn_started"] + segment.kinds["turn_finished"], 100);
    assert_eq!((segment.earliest_at_ms, segment.latest_at_ms), (Some(100), Some(199)));
}

#[test]
fn the_largest_event_there_can_be_is_a_line_that_can_be_read() {
    let house = House::new();
    let name: Arc<str> = "\u{1}".repeat(crate::events::NAME_BYTES_MAX).into();
    let worst = |body: Vec<u8>| NewEvent {
        kind: "k".repeat(crate::events::KIND_BYTES_MAX).into(),
        tenant: Arc::clone(&name),
        caller: Arc::clone(&name),
        session: Some(Arc::clone(&name)),
        interaction: Some(Uuid::max()),
        version: u16::MAX,
        at_ms: i64::MIN,
        body,
        ..event(1)
    };
    let deep = [b"[".repeat(EVENT_BYTES_MAX / 2), b"]".repeat(EVENT_BYTES_MAX / 2)].concat();
    let events = vec![worst(vec![0xff; EVENT_BYTES_MAX]), worst(deep), worst(vec![b'\n'; EVENT_BYTES_MAX]), event(9)];
    Runtime::new().unwrap().block_on(house.log.append(events)).unwrap();
    let before = in_log(&house.log);
    assert_eq!(archive_all(&house.log, &house.archive), 3);
    assert_eq!(in_both(&house.log, &house.archive), before);
}

#[test]
fn what_is_wanted_is_read_and_nothing_else() {
    let house = House::archived(1_001);
    let all: Vec<Event> = in_archive(&house.archive).into_values().collect();
    assert!(all.iter().zip(0..).all(|(event, number)| is_of(event, number)) && all.len() == 1_000);
    let check = |filter: ArchiveFilter, is_wanted: &dyn Fn(&Event) -> bool| {
        let found: Vec<Event> = house.archive.read(filter.clone()).map(Result::unwrap).collect();
        let wanted: Vec<Event> = all.iter().filter(|event| is_wanted(event)).cloned().collect();
        assert_eq!(found, wanted, "{filter:?}");
        wanted.len()
    };
    let by = |events: EventFilter| ArchiveFilter { events, ..ArchiveFilter::default() };
    let session = all[501].session.as_deref().unwrap().to_owned();
    let started = EventFilter { kinds: vec!["turn_started".into(), "nothing".into()], ..EventFilter::default() };
    assert!(check(by(started), &|event| &*event.kind == "turn_started") > 0);
    let of = EventFilter { session: Some(session.clone()), ..EventFilter::default() };
    assert!(check(by(of), &|event| event.session.as_deref() == Some(&session)) > 0);
    let of = EventFilter { caller: Some("key_1".into()), tenant: Some("default".into()), ..EventFilter::default() };
    assert!(check(by(of), &|event| &*event.caller == "key_1") > 0);
    let of = EventFilter { tenant: Some("other".into()), ..EventFilter::default() };
    assert_eq!(check(by(of), &|_| false), 0);
    let interaction = all[3].interaction;
    let count =
        check(ArchiveFilter { interaction, ..ArchiveFilter::default() }, &|event| event.interaction == interaction);
    assert!(count > 0);
    let positions = ArchiveFilter { after: 150, through: Some(320), ..ArchiveFilter::default() };
    assert_eq!(check(positions, &|event| (151..=320).contains(&event.position)), 170);
    let times = ArchiveFilter { from_ms: Some(99), until_ms: Some(101), ..ArchiveFilter::default() };
    assert_eq!(check(times, &|event| (99..101).contains(&event.at_ms)), 2);
    assert_eq!(check(ArchiveFilter { after: u64::MAX, ..ArchiveFilter::default() }, &|_| false), 0);
}

#[test]
fn a_manifest_names_only_so_many_kinds() {
    let house = House::new();
    let events = |kinds: std::ops::Range<u64>| kinds.map(|n| NewEvent { kind: format!("kind_{n}").into(), ..event(n) });
    let given: Vec<NewEvent> = events(0..300).chain(events(200..300)).chain([event(0)]).collect();
    Runtime::new().unwrap().block_on(house.log.append(given)).unwrap();
    archive_all(&house.log, &small(house.archive.folder.path(), 1_000));
    let segment = house.segment(0);
    assert_eq!((segment.kinds.len(), segment.other_kinds, segment.kinds["kind_299"]), (256, 44, 2));
    let rare = EventFilter { kinds: vec!["kind_99".into()], ..EventFilter::default() };
    assert!(!segment.kinds.contains_key("kind_99"));
    assert_eq!(house.archive.read(ArchiveFilter { events: rare, ..ArchiveFilter::default() }).count(), 1);
}
