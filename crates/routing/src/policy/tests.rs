use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::tests::candidate;

const QUESTION: Features = Features {
    input_tokens: 1_000,
    output_tokens: None,
    has_tools: false,
    has_images: false,
    has_format: false,
    messages: 3,
};

fn local(name: &str) -> Candidate {
    candidate(name, Location::Local)
}

fn remote(name: &str, price: Option<(u64, u64)>) -> Candidate {
    Candidate { price, ..candidate(name, Location::Remote) }
}

fn names(policy: &dyn Policy, features: Features, candidates: &[Candidate]) -> Vec<String> {
    let given: Vec<&Candidate> = candidates.iter().collect();
    let ranking = policy.rank(&features, &given, 0.5);
    ranking.iter().map(|ranked| candidates[ranked.index].name.clone()).collect()
}

fn four() -> Vec<Candidate> {
    vec![remote("west", Some((1_000_000, 4_000_000))), local("tiny"), remote("east", None), local("big")]
}

#[test]
fn here_or_elsewhere_first_and_then_by_name() {
    assert_eq!(names(&LocalFirst, QUESTION, &four()), ["big", "tiny", "east", "west"]);
    assert_eq!(names(&RemoteFirst, QUESTION, &four()), ["east", "west", "big", "tiny"]);
    let ranking = LocalFirst.rank(&QUESTION, &four().iter().collect::<Vec<_>>(), 0.0);
    let figures: Vec<(usize, f64, f64)> =
        ranking.iter().map(|ranked| (ranked.index, ranked.score, ranked.propensity)).collect();
    assert_eq!(figures, [(3, 1.0, 1.0), (1, 1.0, 0.0), (2, 0.0, 0.0), (0, 0.0, 0.0)]);
    assert_eq!((LocalFirst.name(), RemoteFirst.name(), Cheapest.name()), ("local-first", "remote-first", "cheapest"));
    assert!(names(&LocalFirst, QUESTION, &[]).is_empty());
}

#[test]
fn the_cheapest_is_reckoned_by_question_and_expected_answer() {
    let candidates = vec![
        remote("unpriced", None),
        remote("dear answers", Some((1_000_000, 20_000_000))),
        remote("dear questions", Some((9_000_000, 1_000_000))),
        local("priced here"),
        Candidate { price: Some((50_000_000, 50_000_000)), ..local("dear here") },
    ];
    // 1 000 and 512 tokens: 11 240 and 9 512 millionths.
    let order = names(&Cheapest, QUESTION, &candidates);
    assert_eq!(order, ["priced here", "dear questions", "dear answers", "dear here", "unpriced"]);
    let ranking = Cheapest.rank(&QUESTION, &candidates.iter().collect::<Vec<_>>(), 0.0);
    let scores: Vec<f64> = ranking.iter().map(|ranked| ranked.score).collect();
    assert_eq!(scores, [0.0, -9_512.0, -11_240.0, -75_600.0, f64::MIN]);
    // A short answer makes the price of questions count; a long one that is allowed is not one that is expected.
    let short = Features { output_tokens: Some(10), ..QUESTION };
    assert_eq!(names(&Cheapest, short, &candidates)[1], "dear answers");
    let long = Features { output_tokens: Some(100_000), ..QUESTION };
    assert_eq!(names(&Cheapest, long, &candidates), order);
}

#[test]
fn at_the_same_price_what_runs_here_comes_first_and_then_names_decide() {
    let same = vec![remote("a", Some((0, 0))), local("c"), local("b"), remote("d", Some((0, 0)))];
    assert_eq!(names(&Cheapest, QUESTION, &same), ["b", "c", "a", "d"]);
    // Less than what a floating-point number tells apart.
    let huge = u64::MAX - 1;
    let close = vec![remote("a", Some((u64::MAX, 0))), remote("b", Some((huge, 0)))];
    assert_eq!(names(&Cheapest, QUESTION, &close), ["b", "a"]);
    let most = Features { input_tokens: u64::MAX, ..QUESTION };
    names(&Cheapest, most, &[remote("a", Some((u64::MAX, u64::MAX)))]);
}

/// Rules as settings have them.
fn rules(text: &str) -> Rules {
    #[derive(Deserialize)]
    struct Settings {
        rules: Rules,
    }
    use serde::Deserialize;
    toml::from_str::<Settings>(&format!("rules = {text}")).unwrap().rules
}

#[test]
fn rules_are_read_from_settings() {
    let read = rules(
        r#"[
            { when = { input_tokens_over = 4000 }, use = ["remote"] },
            { when = { all = [{ has_tools = true }, { not = { messages_over = 20 } }] }, use = ["coder", "local"] },
            { when = { any = [{ has_images = true }, { has_format = false }, "always"] }, use = [] },
            { when = { input_tokens_under = 10 }, use = ["tiny"] },
            { use = ["local"] },
        ]"#,
    );
    let rule = |when, then: &[Target]| Rule { when, then: then.to_vec() };
    let model = |name: &str| Target::Model(name.to_owned());
    let short = When::Not(Box::new(When::MessagesOver(20)));
    let expected = Rules(vec![
        rule(When::InputTokensOver(4_000), &[Target::Remote]),
        rule(When::All(vec![When::HasTools(true), short]), &[model("coder"), Target::Local]),
        rule(When::Any(vec![When::HasImages(true), When::HasFormat(false), When::Always]), &[]),
        rule(When::InputTokensUnder(10), &[model("tiny")]),
        rule(When::Always, &[Target::Local]),
    ]);
    assert_eq!(read, expected);
    let written = toml::to_string(&BTreeMap::from([("rules", &read)])).unwrap();
    assert_eq!(toml::from_str::<BTreeMap<String, Rules>>(&written).unwrap()["rules"], read);
}

#[test]
fn what_is_no_rule_is_refused() {
    for wrong in [
        r#"[{ when = { input_tokens_above = 1 }, use = [] }]"#,
        r#"[{ when = { input_tokens_over = -1 }, use = [] }]"#,
        r#"[{ when = { has_tools = "yes" }, use = [] }]"#,
        r#"[{ when = { has_tools = true, has_images = true }, use = [] }]"#,
        r#"[{ when = "never", use = [] }]"#,
        r#"[{ when = "always" }]"#,
        r#"[{ use = ["local"], else = ["remote"] }]"#,
        r#"[{ use = "local" }]"#,
    ] {
        let refused = toml::from_str::<BTreeMap<String, Rules>>(&format!("rules = {wrong}"));
        assert!(refused.is_err(), "{wrong}");
    }
}

#[test]
fn each_condition_is_asked_of_the_request() {
    let check = |when: When, features: Features, expected| assert_eq!(when.matches(&features), expected, "{when:?}");
    for (tokens, over, under) in [(9, false, true), (10, false, false), (11, true, false)] {
        let features = Features { input_tokens: tokens, ..QUESTION };
        check(When::InputTokensOver(10), features, over);
        check(When::InputTokensUnder(10), features, under);
    }
    for (messages, over) in [(2, false), (3, true)] {
        check(When::MessagesOver(2), Features { messages, ..QUESTION }, over);
    }
    for (wanted, has) in [(true, true), (true, false), (false, true), (false, false)] {
        check(When::HasTools(wanted), Features { has_tools: has, ..QUESTION }, wanted == has);
        check(When::HasImages(wanted), Features { has_images: has, ..QUESTION }, wanted == has);
        check(When::HasFormat(wanted), Features { has_format: has, ..QUESTION }, wanted == has);
    }
    let (yes, no) = (When::Always, When::Not(Box::new(When::Always)));
    check(When::All(vec![]), QUESTION, true);
    check(When::Any(vec![]), QUESTION, false);
    check(When::All(vec![yes.clone(), no.clone()]), QUESTION, false);
    check(When::Any(vec![no.clone(), yes.clone()]), QUESTION, true);
    check(When::Any(vec![no.clone(), no]), QUESTION, false);
    check(When::All(vec![yes.clone(), yes]), QUESTION, true);
}

#[test]
fn every_matching_rule_has_its_say_in_order_and_the_unnamed_come_last() {
    let policy = rules(
        r#"[
            { when = { input_tokens_over = 4000 }, use = ["west", "no such model"] },
            { when = { has_tools = true }, use = ["tiny"] },
            { when = { has_images = true }, use = ["remote"] },
            { use = ["east", "tiny"] },
        ]"#,
    );
    assert_eq!(names(&policy, QUESTION, &four()), ["east", "tiny", "big", "west"]);
    let long = Features { input_tokens: 4_001, ..QUESTION };
    assert_eq!(names(&policy, long, &four()), ["west", "east", "tiny", "big"]);
    let tools = Features { has_tools: true, ..long };
    assert_eq!(names(&policy, tools, &four()), ["west", "tiny", "east", "big"]);
    let pictures = Features { has_images: true, ..QUESTION };
    assert_eq!(names(&policy, pictures, &four()), ["east", "west", "tiny", "big"]);
    let ranking = policy.rank(&long, &four().iter().collect::<Vec<_>>(), 0.0);
    let scores: Vec<f64> = ranking.iter().map(|ranked| ranked.score).collect();
    assert_eq!(scores, [4.0, 2.0, 1.0, 0.0]);
    assert_eq!(names(&Rules::default(), QUESTION, &four()), names(&LocalFirst, QUESTION, &four()));
}

/// What a learnt policy will be like: a score for each candidate, and chance in proportion to its exponential.
#[derive(Debug)]
struct Softmax;

impl Policy for Softmax {
    fn name(&self) -> &str {
        "softmax"
    }

    fn rank(&self, features: &Features, candidates: &[&Candidate], random: f64) -> Ranking {
        let mut by_name: Vec<(usize, &&Candidate)> = candidates.iter().enumerate().collect();
        by_name.sort_by_key(|(_, candidate)| &candidate.name);
        let score = |candidate: &Candidate| (candidate.name.len() as f64 + features.messages as f64) % 3.0;
        let weights: Vec<f64> = by_name.iter().map(|(_, candidate)| score(candidate).exp()).collect();
        let all: f64 = weights.iter().sum();
        let mut ranking: Ranking = by_name
            .iter()
            .zip(&weights)
            .map(|((index, candidate), weight)| Ranked {
                index: *index,
                score: score(candidate),
                propensity: weight / all,
            })
            .collect();
        let mut left = random * all;
        let drawn = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        let place = drawn.unwrap_or(ranking.len().saturating_sub(1));
        if place < ranking.len() {
            ranking[..=place].rotate_right(1);
        }
        ranking
    }
}

/// The value that chi-square with so many degrees of freedom exceeds once in a million cases (Wilson and Hilferty 1931).
fn chi_square_bound(degrees: f64) -> f64 {
    let share = 2.0 / (9.0 * degrees);
    degrees * (1.0 - share + 4.75 * share.sqrt()).powi(3)
}

fn check_propensities(policy: &dyn Policy, candidates: &[Candidate], random: &mut fastrand::Rng) {
    const DRAWS: u32 = 40_000;
    let given: Vec<&Candidate> = candidates.iter().collect();
    let stated: BTreeMap<usize, f64> =
        policy.rank(&QUESTION, &given, 0.0).iter().map(|ranked| (ranked.index, ranked.propensity)).collect();
    let mut first = BTreeMap::<usize, u32>::new();
    for _ in 0..DRAWS {
        let ranking = policy.rank(&QUESTION, &given, random.f64());
        *first.entry(ranking[0].index).or_default() += 1;
    }
    let (mut chi_square, mut cells) = (0.0, 0.0);
    for (index, propensity) in &stated {
        let observed = f64::from(first.get(index).copied().unwrap_or(0));
        let expected = propensity * f64::from(DRAWS);
        if expected == 0.0 {
            assert_eq!(observed, 0.0, "{}: {index} came first, which was said to be impossible", policy.name());
            continue;
        }
        assert!(expected > 20.0, "{}: too few draws to judge", policy.name());
        chi_square += (observed - expected).powi(2) / expected;
        cells += 1.0;
    }
    if cells > 1.0 {
        let bound = chi_square_bound(cells - 1.0);
        assert!(chi_square < bound, "{}: {chi_square} of {bound}; {first:?} for {stated:?}", policy.name());
    } else {
        assert_eq!(first.len(), 1);
    }
}

#[test]
fn candidates_come_first_as_often_as_their_propensities_say() {
    let mut random = fastrand::Rng::with_seed(23);
    let mut many = four();
    many.extend((0..9).map(|number| local(&"x".repeat(number + 1))));
    for candidates in [&four()[..1], &four()[..2], &four(), &many] {
        check_propensities(&LocalFirst, candidates, &mut random);
        check_propensities(&Cheapest, candidates, &mut random);
        check_propensities(&Softmax, candidates, &mut random);
        for epsilon in [0.0, 0.05, 0.5, 1.0] {
            check_propensities(&Explore::new(epsilon, LocalFirst), candidates, &mut random);
            check_propensities(&Explore::new(epsilon, RemoteFirst), candidates, &mut random);
            check_propensities(&Explore::new(epsilon, Softmax), candidates, &mut random);
            check_propensities(&Explore::new(epsilon, Explore::new(0.3, Softmax)), candidates, &mut random);
        }
    }
}

#[test]
fn exploring_moves_one_to_the_front_and_leaves_the_rest() {
    let chosen: Box<dyn Policy> = Box::new(LocalFirst);
    let policy = Explore::new(0.5, chosen);
    assert_eq!(policy.name(), "explore local-first");
    let candidates = four();
    let given: Vec<&Candidate> = candidates.iter().collect();
    let order = |random| {
        let ranking = policy.rank(&QUESTION, &given, random);
        ranking.iter().map(|ranked| candidates[ranked.index].name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(order(0.7), ["big", "tiny", "east", "west"]);
    assert_eq!(order(0.5), ["big", "tiny", "east", "west"]);
    assert_eq!(order(0.01), ["big", "tiny", "east", "west"]);
    assert_eq!(order(0.13), ["tiny", "big", "east", "west"]);
    assert_eq!(order(0.26), ["east", "big", "tiny", "west"]);
    assert_eq!(order(0.499), ["west", "big", "tiny", "east"]);
    let always = Explore::new(1.0, LocalFirst).rank(&QUESTION, &given, 1.0);
    assert_eq!(candidates[always[0].index].name, "west", "a number that is too high is taken for the highest");
    let propensities: Vec<f64> = policy.rank(&QUESTION, &given, 0.26).iter().map(|ranked| ranked.propensity).collect();
    assert_eq!(propensities, [0.125, 0.625, 0.125, 0.125]);
}

#[test]
fn numbers_out_of_bounds_break_nothing() {
    let candidates = four();
    let given: Vec<&Candidate> = candidates.iter().collect();
    for epsilon in [-1.0, 0.0, 1e-300, 0.3, 1.0, 7.0, f64::NAN, f64::INFINITY] {
        for random in [-1.0, 0.0, 0.3, 1.0_f64.next_down(), 1.0, 9.0, f64::NAN, f64::NEG_INFINITY] {
            let policy = Explore::new(epsilon, Softmax);
            check_ranking(&policy, &QUESTION, &given, random);
            check_ranking(&policy, &QUESTION, &[], random);
            Explore::new(epsilon, InBounds).rank(&QUESTION, &given, random);
        }
    }
}

/// Fails if it is given a random number that the interface rules out.
#[derive(Debug)]
struct InBounds;

impl Policy for InBounds {
    fn name(&self) -> &str {
        "in bounds"
    }

    fn rank(&self, features: &Features, candidates: &[&Candidate], random: f64) -> Ranking {
        assert!((0.0..1.0).contains(&random), "{random}");
        LocalFirst.rank(features, candidates, random)
    }
}

/// What holds for every ranking of every policy.
fn check_ranking(policy: &dyn Policy, features: &Features, given: &[&Candidate], random: f64) {
    let ranking = policy.rank(features, given, random);
    let places: BTreeSet<usize> = ranking.iter().map(|ranked| ranked.index).collect();
    assert_eq!((ranking.len(), places), (given.len(), (0..given.len()).collect()), "each once: {policy:?}");
    let all: f64 = ranking.iter().map(|ranked| ranked.propensity).sum();
    assert!(given.is_empty() || (all - 1.0).abs() < 1e-12, "{all}: {policy:?}");
    assert!(ranking.iter().all(|ranked| ranked.score.is_finite() && (0.0..=1.0).contains(&ranked.propensity)));
    assert!(ranking.first().is_none_or(|first| first.propensity > 0.0), "what is impossible came first");
    assert_eq!(ranking, policy.rank(features, given, random), "twice the same: {policy:?}");
    let repeated = policy.rank(features, given, 0.123);
    for ranked in &ranking {
        let same = repeated.iter().find(|other| other.index == ranked.index);
        assert_eq!(same, Some(ranked), "it depends on chance: {policy:?}");
    }
    // In the other direction the same names come in the same order.
    let turned: Vec<&Candidate> = given.iter().rev().copied().collect();
    let named = |given: &[&Candidate], ranking: Ranking| -> Vec<(String, f64, f64)> {
        ranking.iter().map(|it| (given[it.index].name.clone(), it.score, it.propensity)).collect()
    };
    let close = |(one, other): (&(String, f64, f64), &(String, f64, f64))| {
        one.0 == other.0 && one.1 == other.1 && (one.2 - other.2).abs() < 1e-12
    };
    let (one, other) = (named(given, ranking), named(&turned, policy.rank(features, &turned, random)));
    assert!(one.iter().zip(&other).all(close), "{one:?} {other:?}: {policy:?}");
}

fn a_when() -> impl Strategy<Value = When> {
    let leaf = prop_oneof![
        Just(When::Always),
        (0..10_000_u64).prop_map(When::InputTokensOver),
        (0..10_000_u64).prop_map(When::InputTokensUnder),
        (0..10_usize).prop_map(When::MessagesOver),
        any::<bool>().prop_map(When::HasTools),
        any::<bool>().prop_map(When::HasImages),
        any::<bool>().prop_map(When::HasFormat),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(When::All),
            prop::collection::vec(inner.clone(), 0..3).prop_map(When::Any),
            inner.prop_map(|when| When::Not(Box::new(when))),
        ]
    })
}

fn some_rules() -> impl Strategy<Value = Rules> {
    let target = prop_oneof![Just(Target::Local), Just(Target::Remote), "[a-d]{1,2}".prop_map(Target::Model),];
    let rule = (a_when(), prop::collection::vec(target, 0..4)).prop_map(|(when, then)| Rule { when, then });
    prop::collection::vec(rule, 0..5).prop_map(Rules)
}

fn some_features() -> impl Strategy<Value = Features> {
    let counts = (0..10_000_u64, prop::option::of(any::<u64>()), 0..10_usize);
    (counts, any::<[bool; 3]>()).prop_map(|((input_tokens, output_tokens, messages), has)| Features {
        input_tokens,
        output_tokens,
        has_tools: has[0],
        has_images: has[1],
        has_format: has[2],
        messages,
    })
}

fn some_candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let location = prop_oneof![Just(Location::Local), Just(Location::Remote)];
    // Few prices, so that some are the same.
    let price = prop::option::of((0..4_u64, 0..4_u64).prop_map(|(input, output)| (input * 500_000, output * 500_000)));
    prop::collection::btree_map("[a-d]{1,2}", (location, price), 0..12).prop_map(|all| {
        let made = |(name, (location, price)): (String, _)| Candidate { price, ..candidate(&name, location) };
        all.into_iter().map(made).collect()
    })
}

proptest! {
    #[test]
    fn every_policy_is_pure_and_gives_everybody_one_place(
        (features, candidates) in (some_features(), some_candidates()),
        rules in some_rules(),
        (epsilon, random) in (0.0..=1.0_f64, 0.0..1.0_f64),
    ) {
        let given: Vec<&Candidate> = candidates.iter().collect();
        let policies: [&dyn Policy; 5] = [&LocalFirst, &RemoteFirst, &Cheapest, &rules, &Softmax];
        for policy in policies {
            check_ranking(policy, &features, &given, random);
        }
        check_ranking(&Explore::new(epsilon, rules.clone()), &features, &given, random);
        check_ranking(&Explore::new(epsilon, Softmax), &features, &given, random);
        // Who is named by no rule is behind everybody who is.
        let scores: Vec<f64> = rules.rank(&features, &given, random).iter().map(|ranked| ranked.score).collect();
        prop_assert!(scores.is_sorted_by(|one, other| one >= other));
    }

    #[test]
    fn rules_survive_being_written_and_read(rules in some_rules()) {
        let written = toml::to_string(&BTreeMap::from([("rules", &rules)])).unwrap();
        let read: BTreeMap<String, Rules> = toml::from_str(&written).unwrap();
        prop_assert_eq!(&read["rules"], &rules);
    }
}
