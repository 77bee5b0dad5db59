//! The section `llm`: how turns go, which words stand for models, and what tokens cost.

use std::{collections::BTreeMap, time::Duration};

use holdfast_coordinator::{Alias, CacheMode, PolicyName, TextPolicy, is_name};
use holdfast_llm::{Deadlines, Price};
use holdfast_routing::Rules;
use holdfast_storage::events::archive::Retention;
use serde::Deserialize;
use toml::Value;

use super::{GIBIBYTE, Reader, Wrong, one_of, size};
use crate::settings::Origin;

/// More than any model costs, in dollars for a million tokens.
const PRICE_MAX: u64 = 1_000_000;
/// Millionths of a dollar in one.
const MILLIONTHS: u64 = 1_000_000;
/// Entries of a table that whoever writes it names.
const ENTRIES_MAX: usize = 1_000;

/// The words for texts in the record.
const TEXTS: [(&str, TextPolicy); 3] =
    [("full", TextPolicy::Full), ("hashes", TextPolicy::Hashes), ("none", TextPolicy::None)];
/// The words for when answers are kept.
const CACHES: [(&str, CacheMode); 3] =
    [("when-asked", CacheMode::WhenAsked), ("always", CacheMode::Always), ("never", CacheMode::Never)];

/// An alias as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with `of`, `policy` and `continues`")]
struct WrittenAlias {
    #[serde(default)]
    of: Vec<String>,
    policy: Option<String>,
    #[serde(default)]
    continues: bool,
}

/// A price as it is written, in dollars for a million tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with `input` and `output`")]
struct WrittenPrice {
    input: Value,
    output: Value,
    cached_input: Option<Value>,
    cache_write: Option<Value>,
}

impl Reader<'_> {
    pub(super) fn turns(&mut self) -> Option<holdfast_coordinator::Config> {
        let policy = self.get("llm.policy", &|word: String| policy(&word));
        let rules = self.get("llm.rules", &Ok::<Rules, Wrong>);
        let has_rules =
            self.layers.value("llm.rules").is_some_and(|rules| rules.as_array().is_some_and(|it| !it.is_empty()));
        self.clash("llm.policy", policy == Some(PolicyName::Rules) && !has_rules, no_rules);
        let aliases = self.aliases(has_rules);
        let prices = self.entries("llm.prices", price);
        let deadlines = self.deadlines();
        let concurrency = self.number("llm.provider_concurrency", 1..=4_096);
        let waiting = self.number("llm.provider_waiting", 0..=65_536);
        let texts = self.get("llm.texts", &|text: String| word(&text, &TEXTS));
        let cache = self.get("llm.cache", &|text: String| word(&text, &CACHES));
        let cache_bytes = self.number("llm.cache_bytes", 0..=64 * GIBIBYTE);
        Some(holdfast_coordinator::Config {
            policy: policy?,
            rules: rules?,
            aliases,
            prices,
            deadlines: deadlines?,
            concurrency: size(concurrency?),
            waiting: size(waiting?),
            texts: texts?,
            cache: cache?,
            cache_bytes: cache_bytes?,
        })
    }

    /// How long events stay in the log.
    pub(super) fn events(&mut self) -> Option<Retention> {
        const DAY_MS: u64 = 86_400_000;
        let (days, bytes) =
            (self.number("events.keep_days", 0..=36_500)?, self.number("events.max_bytes", 0..=1 << 50)?);
        Some(Retention {
            age_ms: (days > 0).then_some(days * DAY_MS),
            size_bytes: (bytes > 0).then_some(bytes),
            ..Retention::default()
        })
    }

    pub(super) fn discover_providers(&mut self) -> Option<bool> {
        self.get("llm.discover", &Ok::<bool, Wrong>)
    }

    /// Words for models. One that stands for another one would stand for nothing.
    fn aliases(&mut self, has_rules: bool) -> BTreeMap<String, Alias> {
        let aliases = self.entries("llm.aliases", alias);
        let keys: Vec<(String, String)> =
            self.layers.entries_of("llm.aliases").map(|(key, name, _)| (key.to_owned(), name)).collect();
        for (key, name) in keys {
            let Some(alias) = aliases.get(&name) else { continue };
            if let Some(other) = alias.of.iter().find(|other| aliases.contains_key(*other)) {
                let what = format!("has {other:?} in `of`, which is an alias too");
                self.problem(&key, Wrong::new(what, "name models, providers, local or remote"));
            }
            if alias.policy == Some(PolicyName::Rules) && !has_rules {
                self.problem(&key, no_rules());
            }
        }
        aliases
    }

    fn deadlines(&mut self) -> Option<Deadlines> {
        let connect = self.number("llm.connect_timeout_s", 1..=60);
        let first_byte = self.number("llm.first_byte_timeout_s", 1..=3_600);
        let gap = self.number("llm.gap_timeout_s", 1..=3_600);
        let total = self.number("llm.total_timeout_s", 1..=86_400);
        let (connect, first_byte, gap, total) = (connect?, first_byte?, gap?, total?);
        for (key, seconds) in
            [("llm.connect_timeout_s", connect), ("llm.first_byte_timeout_s", first_byte), ("llm.gap_timeout_s", gap)]
        {
            // A default is cut to what the whole may take.
            self.clash(key, seconds > total && !matches!(self.layers.origin(key), Origin::Default), || {
                Wrong::new(
                    format!("is {seconds}, more than llm.total_timeout_s, {total}"),
                    "lower it, or raise llm.total_timeout_s",
                )
            });
        }
        let seconds = |seconds: u64| Duration::from_secs(seconds.min(total));
        Some(Deadlines {
            connect: seconds(connect),
            first_byte: seconds(first_byte),
            gap: seconds(gap),
            total: seconds(total),
        })
    }

    /// What is in an open setting, by its name. An entry that cannot be used is noted under its own key, and left out.
    fn entries<T>(
        &mut self,
        open: &'static str,
        read: impl Fn(&str, Value) -> Result<T, Wrong>,
    ) -> BTreeMap<String, T> {
        // What was given in place of a table is told here.
        self.get(open, &Ok::<toml::Table, Wrong>);
        let given: Vec<(String, String, Value)> =
            self.layers.entries_of(open).map(|(key, name, value)| (key.to_owned(), name, value.clone())).collect();
        self.clash(open, given.len() > ENTRIES_MAX, || {
            Wrong::new(format!("has {} entries", given.len()), format!("give at most {ENTRIES_MAX}"))
        });
        let mut entries = BTreeMap::new();
        for (key, name, value) in given {
            match read(&name, value) {
                Ok(entry) => drop(entries.insert(name, entry)),
                Err(wrong) => self.problem(&key, wrong),
            }
        }
        entries
    }
}

fn no_rules() -> Wrong {
    Wrong::new("asks for the policy \"rules\", and there are none", "give some with llm.rules, or name another policy")
}

fn policy(text: &str) -> Result<PolicyName, Wrong> {
    word(text, &PolicyName::ALL)
}

/// What one of some words stands for.
fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
    let found = words.iter().find(|(word, _)| *word == text);
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    found.map(|(_, meaning)| *meaning).ok_or_else(|| one_of(text, &known))
}

fn alias(name: &str, value: Value) -> Result<Alias, Wrong> {
    const EXAMPLE: &str = "give a table, for example { of = [\"remote\"], policy = \"cheapest\", continues = true }";
    if !is_name(name) {
        return Err(Wrong::new(
            "has a name that cannot be asked for",
            "give 1 to 64 of the characters A-Z, a-z, 0-9, -, _ and ., beginning with a letter or a digit",
        ));
    }
    let written: WrittenAlias = value.try_into().map_err(|error: toml::de::Error| Wrong::new(told(&error), EXAMPLE))?;
    let policy = written.policy.as_deref().map(policy).transpose()?;
    if written.of.iter().any(String::is_empty) {
        return Err(Wrong::new("has an empty name in `of`", "name models, providers, local or remote"));
    }
    Ok(Alias { of: written.of, policy, continues: written.continues })
}

fn price(name: &str, value: Value) -> Result<Price, Wrong> {
    const EXAMPLE: &str = "give a table, for example { input = 2.5, output = 10, cached_input = 1.25 }";
    if name.is_empty() {
        return Err(Wrong::new("names no model", "give \"PROVIDER/MODEL\" or a model's name"));
    }
    let written: WrittenPrice = value.try_into().map_err(|error: toml::de::Error| Wrong::new(told(&error), EXAMPLE))?;
    let optional = |value: Option<Value>, field| value.map(|value| millionths(field, &value)).transpose();
    Ok(Price {
        input: millionths("input", &written.input)?,
        output: millionths("output", &written.output)?,
        cached_input: optional(written.cached_input, "cached_input")?,
        cache_write: optional(written.cache_write, "cache_write")?,
    })
}

/// What the reader of an entry says of it, as the rest of a sentence.
fn told(error: &toml::de::Error) -> String {
    format!("is not what belongs there: {}", error.message())
}

/// Dollars as millionths of one, exactly.
fn millionths(field: &str, value: &Value) -> Result<u64, Wrong> {
    let remedy = format!("give a number of dollars from 0 to {PRICE_MAX} with at most six decimals");
    let wrong = || Wrong::new(format!("has {field} = {value}"), remedy.clone());
    let written = match value {
        Value::Integer(number) => number.to_string(),
        // The shortest decimal that stands for this number, which is the one that was written.
        Value::Float(number) if number.is_finite() => number.to_string(),
        _ => return Err(wrong()),
    };
    let (whole, decimals) = written.split_once('.').unwrap_or((&written, ""));
    let (Ok(whole), true) = (whole.parse::<u64>(), decimals.len() <= 6) else { return Err(wrong()) };
    let decimals: u64 = format!("{decimals:0<6}").parse().map_err(|_| wrong())?;
    let sum = whole.checked_mul(MILLIONTHS).and_then(|whole| whole.checked_add(decimals));
    sum.filter(|sum| *sum <= PRICE_MAX * MILLIONTHS).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::check, *};
    use crate::settings::{Flags, layers::from_text};

    fn turns(text: &str) -> holdfast_coordinator::Config {
        from_text(text, &Flags::default()).settings().unwrap().turns
    }

    #[test]
    fn the_defaults_are_the_coordinators_own() {
        let (ours, theirs) = (turns(""), holdfast_coordinator::Config::default());
        assert_eq!((ours.policy, ours.texts, ours.cache), (theirs.policy, theirs.texts, theirs.cache));
        assert_eq!((ours.deadlines, ours.concurrency), (theirs.deadlines, theirs.concurrency));
        assert_eq!((ours.waiting, ours.cache_bytes), (theirs.waiting, theirs.cache_bytes));
        assert!(ours.aliases.is_empty() && ours.prices.is_empty());
    }

    #[test]
    fn prices_are_exact_to_the_millionth() {
        let of = |value: Value| millionths("input", &value).ok();
        for (dollars, expected) in [
            (0.0, 0),
            (0.1, 100_000),
            (0.075, 75_000),
            (3.000_001, 3_000_001),
            (1e-6, 1),
            (0.29, 290_000),
            (1e6, 10_u64.pow(12)),
        ] {
            assert_eq!(of(dollars.into()), Some(expected), "{dollars}");
        }
        assert_eq!(of(Value::Integer(15)), Some(15_000_000));
        for wrong in [-0.1, 0.000_000_1, 0.123_456_7, 1_000_000.1, f64::NAN, f64::INFINITY] {
            assert_eq!(of(wrong.into()), None, "{wrong}");
        }
        assert_eq!((of(Value::Integer(-1)), of(Value::Integer(i64::MAX)), of("3".into())), (None, None, None));
    }

    #[test]
    fn prices_and_aliases_have_names_of_their_own() {
        let turns = turns(
            "[llm.prices]\nlocal = { input = 0, output = 0 }\n[llm.prices.'openai/gpt-4.1']\ninput = 2.0\noutput = 8\n\
             cached_input = 0.5\n[llm.aliases.careful]\nof = ['openai', 'local']\npolicy = 'cheapest'\ncontinues = true\n\
             [llm.aliases.auto]\npolicy = 'remote-first'\n",
        );
        let price = Price { input: 2_000_000, output: 8_000_000, cached_input: Some(500_000), cache_write: None };
        assert_eq!(turns.prices.get("openai/gpt-4.1"), Some(&price));
        assert_eq!(turns.prices.len(), 2);
        let careful =
            Alias { of: vec!["openai".into(), "local".into()], policy: Some(PolicyName::Cheapest), continues: true };
        assert_eq!(turns.aliases.get("careful"), Some(&careful));
        let auto = Alias { of: Vec::new(), policy: Some(PolicyName::RemoteFirst), continues: false };
        assert_eq!(turns.aliases.get("auto"), Some(&auto));
    }

    #[test]
    fn each_mistake_is_told_where_it_stands() {
        check("[llm]\npolicy = 'first'", "llm.policy", "\"first\"", "local-first, remote-first, cheapest, rules");
        check("[llm]\npolicy = 'rules'", "llm.policy", "there are none", "llm.rules");
        check("[llm]\nrules = [{ nonsense = 1 }]", "llm.rules", "nonsense", "CONFIG.md");
        check("[llm]\nrules = 'x'", "llm.rules", "expected a sequence", "CONFIG.md");
        check("[llm]\nconnect_timeout_s = 0", "llm.connect_timeout_s", "is 0", "from 1 to 60");
        let both = "[llm]\ntotal_timeout_s = 60\nfirst_byte_timeout_s = 61";
        check(both, "llm.first_byte_timeout_s", "more than llm.total_timeout_s", "raise");
        check("[llm]\nprovider_concurrency = 0", "llm.provider_concurrency", "is 0", "from 1 to 4096");
        check("[llm]\nprovider_waiting = -1", "llm.provider_waiting", "is -1", "from 0");
        check("[llm]\ntexts = 'some'", "llm.texts", "\"some\"", "full, hashes, none");
        check("[llm]\ncache = 'yes'", "llm.cache", "\"yes\"", "when-asked, always, never");
        check("[llm]\ndiscover = 'yes'", "llm.discover", "is text", "true");
        check("[llm]\nprices = 3", "llm.prices", "is a whole number where a table belongs", "a table");
        check("[llm.prices]\nx = 3", "llm.prices.x", "is not what belongs there", "input = 2.5");
        check("[llm.prices]\nx = { input = 1 }", "llm.prices.x", "missing field `output`", "input = 2.5");
        check(
            "[llm.prices.'a.b/c']\ninput = 1\noutput = 1\nin = 2",
            "llm.prices.\"a.b/c\"",
            "unknown field `in`",
            "input",
        );
        check("[llm.prices]\nx = { input = -1, output = 1 }", "llm.prices.x", "has input = -1", "six decimals");
        check("[llm.prices]\nx = { input = 1, output = '1' }", "llm.prices.x", "has output = \"1\"", "six decimals");
        check("[llm.aliases]\nx = 3", "llm.aliases.x", "is not what belongs there", "a table");
        check("[llm.aliases]\n'a b' = {}", "llm.aliases.\"a b\"", "a name that cannot be asked for", "A-Z");
        check("[llm.aliases]\nx = { policy = 'best' }", "llm.aliases.x", "\"best\"", "cheapest");
        check("[llm.aliases]\nx = { policy = 'rules' }", "llm.aliases.x", "there are none", "llm.rules");
        check("[llm.aliases]\nx = { of = ['y'] }\ny = { of = ['remote'] }", "llm.aliases.x", "\"y\"", "name models");
        check("[llm]\nprice = {}", "llm.price", "is not a setting", "llm.prices");
    }

    #[test]
    fn several_mistakes_in_one_table_are_several_problems() {
        let layers = from_text("[llm.prices]\na = 1\nb = 2\nc = { input = 1, output = 2 }", &Flags::default());
        let problems = layers.settings().unwrap_err().0;
        let keys: Vec<_> = problems.iter().filter_map(|problem| problem.key.as_deref()).collect();
        assert_eq!(keys, ["llm.prices.a", "llm.prices.b"]);
        assert!(problems[1].origin.to_string().ends_with(":3"), "{problems:?}");
    }
}
