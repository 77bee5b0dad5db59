//! What is sent, and when: requests of a seeded mix at seeded times, no two texts alike.
//!
//! A [`Plan`] is a sequence that depends on its seed alone, so that two runs send the same. It knows nothing of answers:
//! a request is due when it is due, however long the ones before it take.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

/// Words that texts are made of. The number behind them makes a text the only one of its kind.
const WORDS: [&str; 48] = [
    "boot",
    "cache",
    "channel",
    "closure",
    "cluster",
    "column",
    "commit",
    "container",
    "copy",
    "daemon",
    "derivation",
    "disk",
    "driver",
    "erase",
    "export",
    "filter",
    "firewall",
    "flake",
    "garbage",
    "generation",
    "grant",
    "header",
    "image",
    "import",
    "index",
    "journal",
    "kernel",
    "key",
    "lock",
    "mount",
    "network",
    "option",
    "overlay",
    "package",
    "partition",
    "profile",
    "queue",
    "release",
    "replica",
    "rollback",
    "router",
    "service",
    "shell",
    "snapshot",
    "store",
    "token",
    "upgrade",
    "volume",
];
/// Words of a text that is embedded, of a question and of a document.
const EMBED_WORDS: usize = 24;
const QUERY_WORDS: usize = 5;
const DOCUMENT_WORDS: usize = 60;

/// What is asked of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `GET /health`
    Health,
    /// `POST /embed`
    Embed,
    /// `POST /api/v1/search`
    Search,
    /// `POST /api/v1/documents`
    Add,
    /// `GET /api/v1/documents/{id}`
    Fetch,
}

impl Kind {
    /// Every kind, in the order they are told.
    pub const ALL: [Self; 5] = [Self::Health, Self::Embed, Self::Search, Self::Add, Self::Fetch];

    /// Its word in a mix.
    pub fn word(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Embed => "embed",
            Self::Search => "search",
            Self::Add => "add",
            Self::Fetch => "fetch",
        }
    }
}

/// How often each kind is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix(Vec<(Kind, u32)>);

impl Mix {
    /// Reads `embed=4,search=8,add=1`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut weights: Vec<(Kind, u32)> = Vec::new();
        for part in text.split(',') {
            let (word, weight) = part.split_once('=').unwrap_or((part, ""));
            let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.word() == word.trim()) else {
                let known: Vec<_> = Kind::ALL.map(Kind::word).to_vec();
                bail!("{word:?} is no kind of request; there are {}", known.join(", "));
            };
            let Ok(weight) = weight.trim().parse::<u16>() else {
                bail!("{word} needs a whole number up to {}, as in {word}=3", u16::MAX);
            };
            ensure!(weights.iter().all(|(other, _)| *other != kind), "{word} stands twice in the mix");
            weights.push((kind, u32::from(weight)));
        }
        ensure!(weights.iter().any(|(_, weight)| *weight > 0), "a mix without any weight sends nothing");
        Ok(Self(weights))
    }

    /// Whether a kind is ever asked for.
    pub fn has(&self, kind: Kind) -> bool {
        self.0.iter().any(|(other, weight)| *other == kind && *weight > 0)
    }

    fn draw(&self, random: &mut fastrand::Rng) -> Kind {
        let total: u32 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut left = random.u32(..total.max(1));
        for (kind, weight) in &self.0 {
            if left < *weight {
                return *kind;
            }
            left -= weight;
        }
        Kind::Health
    }
}

/// How requests are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// As many independent people would send them
    Poisson,
    /// Evenly
    Constant,
}

/// One request to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// From the beginning of the run.
    pub due: Duration,
    /// What it asks for.
    pub kind: Kind,
    /// Where to.
    pub target: String,
    /// Its body, where it has one.
    pub body: Option<Vec<u8>>,
}

/// What a plan is made from.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The kinds of requests.
    pub mix: Mix,
    /// Requests a second.
    pub rate: f64,
    /// How they are spread.
    pub arrivals: Arrivals,
    /// For how long.
    pub duration: Duration,
    /// Where is searched, stored and fetched.
    pub collection: String,
    /// Documents that can be fetched.
    pub documents: Vec<String>,
    /// Decides times, kinds and texts.
    pub seed: u64,
}

/// The requests of one run, in the order they are due.
#[derive(Debug)]
pub struct Plan {
    wanted: Wanted,
    random: fastrand::Rng,
    elapsed_s: f64,
    made: u64,
}

impl Plan {
    /// A plan from its beginning.
    pub fn new(wanted: Wanted) -> Self {
        let random = fastrand::Rng::with_seed(wanted.seed);
        Self { wanted, random, elapsed_s: 0.0, made: 0 }
    }

    /// When the next request is due, and its kind; nothing once the run is over.
    fn step(&mut self) -> Option<(Duration, Kind)> {
        let mean = 1.0 / self.wanted.rate;
        self.elapsed_s += match self.wanted.arrivals {
            Arrivals::Constant => mean,
            // Times between independent events are exponential; the logarithm is of a number above 0 and up to 1.
            Arrivals::Poisson => -(1.0 - self.random.f64()).ln() * mean,
        };
        let due = Duration::from_secs_f64(self.elapsed_s.min(1e9));
        if due >= self.wanted.duration {
            return None;
        }
        self.made += 1;
        Some((due, self.wanted.mix.draw(&mut self.random)))
    }

    /// How many requests of each kind are left, which are then not sent.
    pub fn drain(&mut self) -> Vec<(Kind, u64)> {
        let mut left: Vec<(Kind, u64)> = Kind::ALL.map(|kind| (kind, 0)).to_vec();
        while let Some((_, kind)) = self.step() {
            left.iter_mut().filter(|(other, _)| *other == kind).for_each(|(_, count)| *count += 1);
        }
        left
    }

    fn request(&mut self, kind: Kind) -> (String, Option<Value>) {
        let collection = self.wanted.collection.clone();
        match kind {
            Kind::Health => ("/health".to_owned(), None),
            Kind::Embed => {
                // A model with a small window reads the beginning, which is work as well.
                let body = json!({ "inputs": self.text(EMBED_WORDS), "truncate": true });
                ("/embed".to_owned(), Some(body))
            }
            Kind::Search => {
                let body = json!({ "query": self.text(QUERY_WORDS), "collections": [collection], "limit": 10 });
                ("/api/v1/search".to_owned(), Some(body))
            }
            Kind::Add => {
                let document = json!({ "title": self.text(3), "content": self.text(DOCUMENT_WORDS) });
                let body = json!({ "collection": collection, "documents": [document], "wait": false });
                ("/api/v1/documents".to_owned(), Some(body))
            }
            Kind::Fetch => {
                let id = self.random.choice(&self.wanted.documents).map_or("none", String::as_str);
                let (id, name) = (crate::transport::encode(id), crate::transport::encode(&collection));
                (format!("/api/v1/documents/{id}?collection={name}"), None)
            }
        }
    }

    fn text(&mut self, words: usize) -> String {
        text(&mut self.random, words, self.wanted.seed, self.made)
    }
}

impl Iterator for Plan {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        let (due, kind) = self.step()?;
        let (target, body) = self.request(kind);
        Some(Planned { due, kind, target, body: body.map(|body| body.to_string().into_bytes()) })
    }
}

/// A text of so many words that no other number has.
pub fn text(random: &mut fastrand::Rng, words: usize, seed: u64, number: u64) -> String {
    let mut text: Vec<&str> = (0..words).map(|_| WORDS[random.usize(..WORDS.len())]).collect();
    let own = format!("{seed:x}x{number}");
    text.push(&own);
    text.join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn plan(arrivals: Arrivals, mix: &str) -> Plan {
        Plan::new(Wanted {
            mix: Mix::parse(mix).unwrap(),
            rate: 500.0,
            arrivals,
            duration: Duration::from_secs(20),
            collection: "bench".to_owned(),
            documents: vec!["a b".to_owned()],
            seed: 7,
        })
    }

    #[test]
    fn a_plan_is_the_same_each_time_and_no_text_comes_twice() {
        let all: Vec<Planned> = plan(Arrivals::Poisson, "embed=2,search=1,add=1").collect();
        let again: Vec<Planned> = plan(Arrivals::Poisson, "embed=2,search=1,add=1").collect();
        assert!(all == again);
        let bodies: HashSet<_> = all.iter().map(|planned| planned.body.clone()).collect();
        assert_eq!(bodies.len(), all.len());
        assert!(all.windows(2).all(|pair| pair[0].due <= pair[1].due));
    }

    #[test]
    fn the_rate_and_the_mix_are_what_was_asked_for() {
        for arrivals in [Arrivals::Poisson, Arrivals::Constant] {
            let all: Vec<Planned> = plan(arrivals, "embed=3,fetch=1,health=0").collect();
            // Ten thousand are meant; the standard deviation of a Poisson process is their root.
            assert!((9_600..=10_400).contains(&all.len()), "{arrivals:?}: {}", all.len());
            let fetched = all.iter().filter(|planned| planned.kind == Kind::Fetch).count();
            assert!((2_200..=2_800).contains(&fetched), "{fetched}");
            assert!(all.iter().all(|planned| planned.kind != Kind::Health));
        }
        let gaps = |arrivals| {
            let all: Vec<Planned> = plan(arrivals, "health=1").collect();
            let gaps: Vec<f64> = all.windows(2).map(|pair| (pair[1].due - pair[0].due).as_secs_f64()).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt() / mean
        };
        assert!((0.9..1.1).contains(&gaps(Arrivals::Poisson)), "an exponential deviates by its mean");
        assert!(gaps(Arrivals::Constant) < 0.01);
    }

    #[test]
    fn what_is_left_of_a_plan_is_counted() {
        let whole = plan(Arrivals::Poisson, "embed=1,health=1").drain().iter().map(|(_, count)| count).sum::<u64>();
        assert!((9_600..=10_400).contains(&whole), "{whole}");
        let mut begun = plan(Arrivals::Constant, "fetch=1");
        let first = begun.next().unwrap();
        assert_eq!(first.target, "/api/v1/documents/a%20b?collection=bench");
        assert_eq!(begun.drain().iter().map(|(_, count)| count).sum::<u64>(), 9_998);
    }

    #[test]
    fn a_mix_that_makes_no_sense_is_refused() {
        for text in ["", "embed", "embed=x", "embed=-1", "embed=0", "embed=1,embed=2", "delete=1", "embed=99999"] {
            assert!(Mix::parse(text).is_err(), "{text:?}");
        }
    }
}
