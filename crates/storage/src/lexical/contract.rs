//! What every lexical index must do, as tests that any backend runs.
//!
//! A backend calls [`lexical_contract`] in its test module with a function that opens the index
//! kept in a directory; opening the same directory again must find what was applied before.

use std::{collections::BTreeSet, path::Path, sync::atomic::AtomicBool, sync::atomic::Ordering};

use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

use super::{LexicalChange, LexicalEntry, LexicalIndex};
use crate::{ChunkKey, Filter, Scored};

/// Opens the index kept in a directory.
pub(super) type Open = fn(&Path) -> Box<dyn LexicalIndex>;

/// Writes one test for each rule of the contract.
macro_rules! lexical_contract {
    ($open:expr; $($rule:ident),+ $(,)?) => {
        $(#[test]
        fn $rule() {
            $crate::lexical::contract::$rule($open);
        })+
    };
    ($open:expr) => {
        $crate::lexical::contract::lexical_contract!(
            $open;
            starts_empty, ranks_by_words, applies_idempotently, replaces_and_removes,
            breaks_ties_by_key, scores_what_is_asked_for, scores_do_not_depend_on_history, filters_before_the_limit,
            filters_as_the_reference_does, takes_queries_as_words, bounds_long_queries,
            keeps_its_position, shows_whole_changes_only, finds_documents_by_title_and_path,
        );
    };
}
pub(super) use lexical_contract;

/// A chunk of a test.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub key: u64,
    pub text: String,
    pub attributes: Value,
}

pub(super) fn chunk(key: u64, text: &str) -> Chunk {
    Chunk { key, text: text.to_owned(), attributes: json!({"metadata": {"key": key}}) }
}

pub(super) fn entry(chunk: &Chunk) -> LexicalEntry<'_> {
    LexicalEntry {
        key: ChunkKey::new(chunk.key),
        title: "",
        heading: "",
        path: "",
        text: &chunk.text,
        attributes: &chunk.attributes,
    }
}

pub(super) fn apply(index: &dyn LexicalIndex, position: u64, removed: &[u64], added: &[Chunk]) {
    let removed: Vec<ChunkKey> = removed.iter().copied().map(ChunkKey::new).collect();
    let added: Vec<LexicalEntry<'_>> = added.iter().map(entry).collect();
    index.apply(&LexicalChange { removed: &removed, added: &added, position }).unwrap();
}

pub(super) fn keys(found: &[Scored]) -> Vec<u64> {
    found.iter().map(|scored| scored.key.get()).collect()
}

fn found(index: &dyn LexicalIndex, query: &str) -> Vec<u64> {
    keys(&index.query(query, 10, None).unwrap())
}

fn present(index: &dyn LexicalIndex) -> BTreeSet<u64> {
    index.keys().unwrap().into_iter().map(ChunkKey::get).collect()
}

pub(super) fn starts_empty(open: Open) {
    let dir = tempfile::tempdir().unwrap();
    let index = open(&dir.path().join("not/yet/there"));
    assert_eq!((index.position(), index.len(), index.is_empty()), (0, 0, true));
    assert!(found(&*index, "anything").is_empty());
    assert!(present(&*index).is_empty());
    let all = Filter::All(Vec::new());
    assert!(index.matching(&all).unwrap().is_empty());
}

/// To the last bit what a query gives, whatever was replaced and removed meanwhile.
pub(super) fn scores_what_is_asked_for(open: Open) {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    let words = ["nix", "store", "garbage", "collection", "profile", "channel", "flake"];
    let text = |seed: u64| {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut word = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            words[(random >> 40) as usize % words.len()]
        };
        (0..seed % 40).map(|_| word()).collect::<Vec<_>>().join(" ")
    };
    for step in 0..6 {
        let added: Vec<Chunk> = (step * 60..step * 60 + 100).map(|key| chunk(key, &text(key + step))).collect();
        apply(&*index, step + 1, &[step * 50 + 3, step * 50 + 4], &added);
    }
    let query = "nix garbage flake, nowhere";
    let mut all = index.query(query, 10_000, None).unwrap();
    let wanted: Vec<ChunkKey> = (0..500).step_by(3).chain([9_999]).map(ChunkKey::new).collect();
    let mut scored = index.scores(query, &wanted).unwrap();
    all.retain(|scored| wanted.contains(&scored.key));
    for list in [&mut all, &mut scored] {
        list.sort_by_key(|scored| scored.key);
    }
    assert!(scored.len() > 50);
    assert_eq!(scored, all);
    assert!(index.scores(query, &[]).unwrap().is_empty());
    assert!(index.scores("", &wanted).unwrap().is_empty());
}

pub(super) fn ranks_by_words(open: Open) {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    apply(
        &*index,
        1,
        &[],
        &[
            chunk(1, "The nix store keeps every package in a directory of its own."),
            chunk(2, "A store sells things. A store is a shop."),
            chunk(3, "Garbage collection frees what nothing refers to."),
            chunk(4, "services.nginx.enable = true;"),
        ],
    );
    assert_eq!(found(&*index, "nix store"), [1, 2]);
    assert_eq!(found(&*index, "collecting garbage"), [3]);
    assert_eq!(found(&*index, "services.nginx.enable"), [4]);
    assert_eq!(found(&*index, "nginx"), [4]);
    assert_eq!(keys(&index.query("nix store", 1, None).unwrap()), [1]);
    assert!(index.query("nix store", 0, None).unwrap().is_empty());
    let scored = index.query("nix store", 10, None).unwrap();
    assert!(scored[0].score > scored[1].score && scored[1].score > 0.0);
}

pub(super) fn applies_idempotently(open: Open) {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    let chunks = [chunk(1, "alpha beta"), chunk(2, "alpha gamma")];
    apply(&*index, 1, &[7], &chunks);
    let before = index.query("alpha beta", 10, None).unwrap();
    apply(&*index, 1, &[7], &chunks);
    assert_eq!(index.query("alpha beta", 10, None).unwrap().len(), before.len());
    assert_eq!(keys(&index.query("alpha beta", 10, None).unwrap()), keys(&before));
    assert_eq!((index.len(), index.position()), (2, 1));
    apply(&*index, 2, &[], &[]);
    assert_eq!((index.len(), index.position()), (2, 2));
}

pub(super) fn replaces_and_removes(open: Open) {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    apply(&*index, 1, &[], &[chunk(1, "old words"), chunk(2, "other words")]);
    apply(&*index, 2, &[], &[chunk(1, "new words")]);
    assert!(found(&*index, "old").is_empty());
    assert_eq!(found(&*index, "new"), [1]);
    // Removed and added in one change: it is there. Added twice: the last one is.
    apply(&*index, 3, &[1, 2], &[chunk(1, "first"), chunk(1, "second")]);
    assert!(found(&*index, "first other").is_empty());
    assert_eq!(found(&*index, "second"), [1]);
    assert_eq!(present(&*index), BTreeSet::from([1]));
    apply(&*index, 4, &[1, 99], &[]);
    assert_eq!((index.len(), index.position()), (0, 4));
}

pub(super) fn breaks_ties_by_key(open: Open) {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    let order = [5u64, 1, 9, 3, 7, 2, 8];
    for (position, key) in (1..).zip(order) {
        apply(&*index, position, &[], &[chunk(key, "same text, same score, many terms here")]);
    }
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    assert_eq!(found(&*index, "many terms of the same score here"), sorted);
    let three = index.query("same score of many terms", 3, None).unwrap();
    assert_eq!(keys(&three), sorted[..3]);
}

pub(super) fn scores_do_not_depend_on_history(open: Open) {
    let (one, many) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let chunks: Vec<Chunk> =
        (0..200).map(|n| chunk(n, &format!("word{} common term{} rare{}", n % 3, n % 7, n % 50))).collect();
    let at_once = open(one.path());
    apply(&*at_once, 1, &[], &chunks);
    let piecemeal = open(many.path());
    apply(&*piecemeal, 1, &[], &[chunk(1000, "common term5 of what is gone"), chunk(3, "word1")]);
    for (position, part) in (2..).zip(chunks.chunks(9)) {
        apply(&*piecemeal, position, &[1000], part);
    }
    for query in ["common word1 term3", "rare7 term0 word2 common", "term5"] {
        let expected = at_once.query(query, 50, None).unwrap();
        assert_eq!(piecemeal.query(query, 50, None).unwrap(), expected, "{query}");
    }
}

pub(super) fn filters_before_the_limit(open: Open) {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    let chunks: Vec<Chunk> = (0..100)
        .map(|n| Chunk {
            key: n,
            text: "alpha ".repeat(if n < 50 { 5 } else { 1 }),
            attributes: json!({"metadata": {"n": n, "side": if n < 50 { "left" } else { "right" }}}),
        })
        .collect();
    apply(&*index, 1, &[], &chunks);
    let filter = Filter::parse(&json!({"field": "metadata.side", "eq": "right"})).unwrap();
    let right = index.query("alpha", 10, Some(&filter)).unwrap();
    assert_eq!(keys(&right), (50..60).collect::<Vec<_>>());
    let everything = index.query("alpha", 100, None).unwrap();
    let unfiltered = everything.iter().find(|scored| scored.key == right[0].key).unwrap();
    assert_eq!(unfiltered.score, right[0].score);
    let few = Filter::parse(&json!({"field": "metadata.n", "gte": 7, "lt": 9})).unwrap();
    assert_eq!(keys(&index.query("alpha", 10, Some(&few)).unwrap()), [7, 8]);
    apply(&*index, 2, &[7], &[]);
    assert_eq!(keys(&index.query("alpha", 10, Some(&few)).unwrap()), [8]);
    assert_eq!(index.matching(&few).unwrap(), [ChunkKey::new(8)]);
}

pub(super) fn takes_queries_as_words(open: Open) {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    apply(&*index, 1, &[], &[chunk(1, "alpha beta"), chunk(2, "gamma")]);
    for query in [
        "+alpha -beta",
        "alpha AND NOT beta",
        "\"beta alpha\"~0",
        "words:alpha",
        "alpha*",
        "alpha^9 (",
        "[alpha TO beta]",
        "\\alpha",
        "alpha && !beta",
        "*:* alpha",
    ] {
        assert_eq!(found(&*index, query).first(), Some(&1), "{query}");
    }
    for query in ["", "  ", "*", "*:*", "()", "\"\"", "\0", "!!!", "🦀"] {
        assert!(found(&*index, query).is_empty(), "{query}");
    }
}

pub(super) fn bounds_long_queries(open: Open) {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    let text = |n: u64| (0..100).map(|m| format!("w{} ", (n * 37 + m * m) % 5000)).collect::<String>();
    let chunks: Vec<Chunk> = (0..500).map(|n| chunk(n, &text(n))).collect();
    apply(&*index, 1, &[], &chunks);
    let many_words: String = (0..5000).map(|n| format!("w{n} ")).collect();
    assert_eq!(index.query(&many_words, 10, None).unwrap().len(), 10);
    let one_word = "x".repeat(1_000_000);
    assert!(found(&*index, &one_word).is_empty());
    // What is rare takes part, however much stands around it.
    apply(&*index, 2, &[], &[chunk(9999, "unmistakable")]);
    let long_words: String = (0..1500).map(|n| format!("w{n} ")).collect();
    let haystack = format!("{long_words} unmistakable");
    let found = index.query(&haystack, 1000, None).unwrap();
    assert!(keys(&found).contains(&9999));
}

pub(super) fn keeps_its_position(open: Open) {
    let dir = tempfile::tempdir().unwrap();
    let expected = {
        let index = open(dir.path());
        apply(&*index, 41, &[], &[chunk(1, "alpha beta"), chunk(2, "alpha")]);
        apply(&*index, 42, &[2], &[chunk(3, "beta")]);
        index.query("alpha beta", 10, None).unwrap()
    };
    for _ in 0..2 {
        let index = open(dir.path());
        assert_eq!((index.position(), index.len()), (42, 2));
        assert_eq!(index.query("alpha beta", 10, None).unwrap(), expected);
        assert_eq!(present(&*index), BTreeSet::from([1, 3]));
    }
}

pub(super) fn shows_whole_changes_only(open: Open) {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    let generation =
        |n: u64| [chunk(1, &format!("stable g{n}")), chunk(2, &format!("stable g{n}")), chunk(10 + n, "new")];
    apply(&*index, 1, &[], &generation(0));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                    assert_eq!(found(&*index, "stable"), [1, 2]);
                    let before = index.position();
                    let new = index.query("new", 100, None).unwrap().len() as u64;
                    let after = index.position();
                    assert!((before..=after + 1).contains(&new), "{before} {new} {after}");
                }
            });
        }
        for n in 1..30 {
            apply(&*index, n + 1, &[], &generation(n));
            // A change is visible as soon as it is applied.
            assert_eq!(found(&*index, &format!("g{n}")), [1, 2]);
        }
        done.store(true, Ordering::Relaxed);
    });
}

pub(super) fn finds_documents_by_title_and_path(open: Open) {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    let attributes = json!({});
    let entry = |key, title, heading, path, text| LexicalEntry {
        key: ChunkKey::new(key),
        title,
        heading,
        path,
        text,
        attributes: &attributes,
    };
    let added = [
        entry(1, "Pinning", "Guide › Flakes", "docs/how-to/pin.md", "Use a lock file."),
        entry(2, "", "", "", "Something on flakes: flakes, again."),
        entry(3, "Unrelated", "", "src/main.rs", "fn main() {}"),
    ];
    index.apply(&LexicalChange { removed: &[], added: &added, position: 1 }).unwrap();
    assert_eq!(found(&*index, "how to pin"), [1]);
    assert_eq!(found(&*index, "flakes guide")[0], 1);
    assert_eq!(found(&*index, "src/main.rs"), [3]);
    assert_eq!(found(&*index, "main.rs"), [3]);
}

/// Random attributes under random filters: the index and [`Filter::matches`] must agree.
pub(super) fn filters_as_the_reference_does(open: Open) {
    let cases = (
        prop::collection::vec(attributes(), 1..40),
        prop::collection::vec(0usize..40, 0..10),
        prop::collection::vec(filter(), 1..40),
    );
    let mut runner = TestRunner::new(ProptestConfig { cases: 40, ..ProptestConfig::default() });
    let result = runner.run(&cases, |(attributes, removed, filters)| {
        let dir = tempfile::tempdir().unwrap();
        let index = open(dir.path());
        let chunks: Vec<Chunk> = (0..)
            .zip(&attributes)
            .map(|(key, attributes)| Chunk { key, text: "word".to_owned(), attributes: attributes.clone() })
            .collect();
        let half = chunks.len() / 2;
        apply(&*index, 1, &[], &chunks[..half]);
        apply(&*index, 2, &[], &chunks[half..]);
        let removed: BTreeSet<u64> = removed.iter().map(|n| *n as u64).collect();
        apply(&*index, 3, &removed.iter().copied().collect::<Vec<_>>(), &[]);
        for filter in &filters {
            let expected: Vec<u64> = chunks
                .iter()
                .filter(|chunk| !removed.contains(&chunk.key) && filter.matches(&chunk.attributes))
                .map(|chunk| chunk.key)
                .collect();
            let mut matching = index.matching(filter).unwrap();
            matching.sort_unstable();
            let matching: Vec<u64> = matching.into_iter().map(ChunkKey::get).collect();
            prop_assert_eq!(&matching, &expected, "matching: {:?}", filter);
            let queried = keys(&index.query("word", 100, Some(filter)).unwrap());
            prop_assert_eq!(&queried, &expected, "query: {:?}", filter);
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Values that engines like to take for something else, few enough to collide.
fn leaf() -> impl Strategy<Value = Value> {
    let texts = [
        "",
        "a",
        "ab",
        "abc",
        "b",
        "ü",
        "\u{10FFFF}",
        "true",
        "1",
        "1.5",
        "2020-01-01T00:00:00Z",
        "127.0.0.1",
        "/a/b",
        "A",
        "a.b",
        "\0",
        "\u{1}",
    ];
    let numbers = [0.0, -0.0, 1.0, 1.5, -1.0, -1e300, 1e300, f64::MIN_POSITIVE, 9.3e18];
    prop_oneof![
        prop::sample::select(texts.to_vec()).prop_map(|text| json!(text)),
        prop::sample::select(numbers.to_vec()).prop_map(|number| json!(number)),
        prop::sample::select(vec![0, 1, -1, 2, i64::MAX, i64::MIN]).prop_map(|n| json!(n)),
        Just(json!(u64::MAX)),
        any::<bool>().prop_map(|value| json!(value)),
        Just(Value::Null),
    ]
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "a.b", "c-d", "%", "$", "é", "\u{1}", "x y", "\\", "A"])
}

fn attributes() -> impl Strategy<Value = Value> {
    let value = leaf().prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(name().prop_map(str::to_owned), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    });
    let metadata = prop::collection::btree_map(name().prop_map(str::to_owned), value, 0..5)
        .prop_map(|fields| Value::Object(fields.into_iter().collect()));
    (metadata, leaf(), leaf())
        .prop_map(|(metadata, path, title)| json!({"metadata": metadata, "path": path, "title": title}))
}

fn filter() -> impl Strategy<Value = Filter> {
    let path = prop_oneof![
        prop::collection::vec(name(), 1..4).prop_map(|names| format!("metadata.{}", names.join("."))),
        prop::sample::select(vec!["path", "title", "source_id"]).prop_map(str::to_owned),
    ];
    let text = prop::sample::select(vec!["", "a", "ab", "1", "2020", "ü", "\u{10FFFF}", "/a"]);
    let scalar = || leaf().prop_filter("a filter compares with values", |value| !value.is_null());
    let ordered = || scalar().prop_filter("truth has no order", |value| !value.is_boolean());
    let condition = prop_oneof![
        scalar().prop_map(|value| ("eq", value)),
        prop::collection::vec(scalar(), 0..8).prop_map(|values| ("in", Value::Array(values))),
        (prop::sample::select(vec!["gt", "gte", "lt", "lte"]), ordered()),
        any::<bool>().prop_map(|wanted| ("exists", json!(wanted))),
        text.prop_map(|prefix| ("prefix", json!(prefix))),
    ];
    let one = (path, condition).prop_map(|(path, (operator, value))| json!({"field": path, operator: value}));
    one.prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|parts| json!({ "all": parts })),
            prop::collection::vec(inner.clone(), 0..3).prop_map(|parts| json!({ "any": parts })),
            inner.prop_map(|part| json!({ "not": part })),
        ]
    })
    .prop_map(|filter| Filter::parse(&filter).unwrap())
}
