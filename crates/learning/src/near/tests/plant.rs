//! Rows of which it is known which say the same: variants are made of given texts, by kind and by seed.
//!
//! Used by the tests and by the example that measures. Knows nothing of how near-duplicates are found: its lists are its own.

use std::collections::{BTreeMap, HashMap, HashSet};

use fastrand::Rng;

/// What was done to a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Nothing.
    Base,
    /// Letters added, left out, replaced or swapped in one word of eight at most.
    Typos,
    /// A few words added.
    Inserted,
    /// A few words left out.
    Removed,
    /// A sentence added that states no number and denies nothing.
    SentenceAdded,
    /// A sentence added that does.
    FactsAdded,
    /// Sentences in another order.
    SentencesSwapped,
    /// Two clauses in another order.
    ClausesSwapped,
    /// Capitals.
    Case,
    /// Spaces, line feeds, words torn apart or run together, characters that nobody sees.
    Spacing,
    /// Marks left out, added or replaced.
    Punctuation,
    /// Two of those.
    Mixed,
    /// Another number.
    Number,
    /// Another unit.
    Unit,
    /// A denial added.
    DenialAdded,
    /// A denial left out.
    DenialRemoved,
    /// A denying prefix added or left out.
    Prefix,
    /// A word for its opposite.
    Opposite,
    /// A name of a program changed by a letter.
    Name,
    /// A template filled with other words.
    Template,
}

/// Kinds that say the same.
pub const NEAR: [Kind; 11] = [
    Kind::Typos,
    Kind::Inserted,
    Kind::Removed,
    Kind::SentenceAdded,
    Kind::FactsAdded,
    Kind::SentencesSwapped,
    Kind::ClausesSwapped,
    Kind::Case,
    Kind::Spacing,
    Kind::Punctuation,
    Kind::Mixed,
];

/// Kinds that do not.
pub const OTHER: [Kind; 7] =
    [Kind::Number, Kind::Unit, Kind::DenialAdded, Kind::DenialRemoved, Kind::Prefix, Kind::Opposite, Kind::Name];

/// Kinds that leave a program as it is.
const NEAR_OF_CODE: [Kind; 3] = [Kind::Spacing, Kind::SentenceAdded, Kind::Case];

/// A row.
#[derive(Clone, Debug)]
pub struct Planted {
    /// What it says.
    pub text: String,
    /// Rows that say the same have the same.
    pub truth: u32,
    /// What was done.
    pub kind: Kind,
    /// The truth of the row that it was made of.
    pub base: u32,
}

/// Texts that rows are made of.
#[derive(Default)]
pub struct Texts {
    /// Sentences and paragraphs, no two of which say the same.
    pub prose: Vec<String>,
    /// Functions.
    pub code: Vec<String>,
    /// Sentences to add that state no facts, and that do.
    pub plain: Vec<String>,
    /// See `plain`.
    pub factual: Vec<String>,
    /// Words to insert.
    pub words: Vec<String>,
}

impl Texts {
    /// Sorts sentences and words that may be added out of sentences.
    pub fn add_sentences(&mut self, sentences: impl Iterator<Item = String>) {
        let mut words = HashSet::new();
        for sentence in sentences {
            for word in sentence.split_whitespace() {
                if word.len() > 3 && word.chars().all(|c| c.is_ascii_lowercase()) && !is_factual(word) {
                    words.insert(word.to_owned());
                }
            }
            let is_plain = !sentence.split_whitespace().any(is_factual);
            (if is_plain { &mut self.plain } else { &mut self.factual }).push(sentence);
        }
        self.words = words.into_iter().collect();
        self.words.sort();
    }
}

/// Makes rows in a random order: each text, on average one and a half variants that say the same and three quarters of one
/// that does not, then fillings of templates.
pub fn plant(texts: &Texts, count: usize, rng: &mut Rng) -> Vec<Planted> {
    let mut planter = Planter { texts, rng, rows: Vec::new(), truths: 0 };
    let templates = count / 10;
    let mut bases: Vec<(&String, bool)> =
        texts.prose.iter().map(|text| (text, false)).chain(texts.code.iter().map(|text| (text, true))).collect();
    planter.rng.shuffle(&mut bases);
    for (text, is_code) in bases {
        if planter.rows.len() >= count - templates {
            break;
        }
        planter.family(text, is_code);
    }
    planter.templates(templates);
    let Planter { mut rows, rng, .. } = planter;
    rng.shuffle(&mut rows);
    rows
}

struct Planter<'a> {
    texts: &'a Texts,
    rng: &'a mut Rng,
    rows: Vec<Planted>,
    truths: u32,
}

impl Planter<'_> {
    fn truth(&mut self) -> u32 {
        self.truths += 1;
        self.truths - 1
    }

    fn family(&mut self, text: &str, is_code: bool) {
        let base = self.truth();
        let mut taken = HashSet::from([squashed(text)]);
        self.rows.push(Planted { text: text.to_owned(), truth: base, kind: Kind::Base, base });
        for _ in 0..self.rng.usize(0..=3) {
            self.near(text, base, is_code, &mut taken);
        }
        for _ in 0..self.rng.usize(0..=3) / 2 {
            let Some((kind, other)) = self.vary_any(&OTHER, text) else { continue };
            if !taken.insert(squashed(&other)) {
                continue;
            }
            let truth = self.truth();
            self.rows.push(Planted { text: other.clone(), truth, kind, base });
            if self.rng.usize(0..4) == 0 {
                self.near(&other, truth, is_code, &mut taken);
            }
        }
    }

    fn near(&mut self, text: &str, base: u32, is_code: bool, taken: &mut HashSet<String>) {
        let kinds = if is_code { &NEAR_OF_CODE[..] } else { &NEAR };
        if let Some((kind, text)) = self.vary_any(kinds, text).filter(|(_, near)| near != text) {
            // Variants that differ from nothing in words are wanted, but no row that says the same as another by chance.
            if taken.insert(squashed(&text)) || matches!(kind, Kind::Case | Kind::Spacing | Kind::Punctuation) {
                self.rows.push(Planted { text, truth: base, kind, base });
            }
        }
    }

    fn templates(&mut self, count: usize) {
        let mut taken = HashSet::new();
        let end = self.rows.len() + count;
        let bases: Vec<u32> = TEMPLATES.iter().map(|_| self.truth()).collect();
        while self.rows.len() < end {
            let at = self.rng.usize(0..TEMPLATES.len());
            let text = self.fill(TEMPLATES[at]);
            if !taken.insert(squashed(&text)) {
                continue;
            }
            let truth = self.truth();
            self.rows.push(Planted { text: text.clone(), truth, kind: Kind::Template, base: bases[at] });
            if self.rng.usize(0..3) == 0 {
                // A word left out could be what fills the template, which would make a row of none of its fillings.
                let kind = [Kind::Case, Kind::Punctuation, Kind::Spacing, Kind::Typos][self.rng.usize(0..4)];
                if let Some(near) = self.vary(kind, &text) {
                    self.rows.push(Planted { text: near, truth, kind, base: truth });
                }
            }
        }
    }

    fn fill(&mut self, template: &str) -> String {
        let mut filled = String::new();
        for (at, part) in template.split('_').enumerate() {
            if at > 0 {
                let filling = match self.rng.usize(0..4) {
                    0 => NAMES[self.rng.usize(0..NAMES.len())],
                    _ => &self.texts.words[self.rng.usize(0..self.texts.words.len())],
                };
                filled.push_str(filling);
            }
            filled.push_str(part);
        }
        filled
    }

    /// A variant of one of some kinds, if the text lends itself to one of those that are tried.
    fn vary_any(&mut self, kinds: &[Kind], text: &str) -> Option<(Kind, String)> {
        const ATTEMPTS: usize = 3;
        (0..ATTEMPTS).find_map(|_| {
            let kind = kinds[self.rng.usize(0..kinds.len())];
            self.vary(kind, text).map(|variant| (kind, variant))
        })
    }

    /// A variant of a text, if it lends itself to one.
    fn vary(&mut self, kind: Kind, text: &str) -> Option<String> {
        match kind {
            Kind::Base | Kind::Template => Some(text.to_owned()),
            Kind::Typos => self.typos(text),
            Kind::Inserted => self.inserted(text),
            Kind::Removed => self.removed(text),
            Kind::SentenceAdded => self.sentence_added(text, &self.texts.plain),
            Kind::FactsAdded => self.sentence_added(text, &self.texts.factual),
            Kind::SentencesSwapped => self.sentences_swapped(text),
            Kind::ClausesSwapped => self.clauses_swapped(text),
            Kind::Case => Some(self.case(text)),
            Kind::Spacing => Some(self.spacing(text)),
            Kind::Punctuation => Some(self.punctuation(text)),
            Kind::Mixed => {
                let kinds = [Kind::Typos, Kind::Inserted, Kind::Case, Kind::Spacing, Kind::Punctuation];
                let first = self.rng.usize(0..kinds.len());
                let second = (first + self.rng.usize(1..kinds.len())) % kinds.len();
                let text = self.vary(kinds[first], text)?;
                self.vary(kinds[second], &text)
            }
            Kind::Number => self.number(text),
            Kind::Unit => self.unit(text),
            Kind::DenialAdded => self.denial_added(text),
            Kind::DenialRemoved => self.denial_removed(text),
            Kind::Prefix => self.replaced(text, &PREFIXED),
            Kind::Opposite => self.replaced(text, &OPPOSITES),
            Kind::Name => self.name(text),
        }
    }

    fn typos(&mut self, text: &str) -> Option<String> {
        let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let mut long: Vec<usize> = (0..words.len())
            .filter(|&at| words[at].len() >= 4 && words[at].chars().all(|c| c.is_ascii_alphabetic()))
            .collect();
        let wanted = self.rng.usize(1..=(words.len() / 8).clamp(1, 4));
        if words.len() < 4 || long.len() < wanted {
            return None;
        }
        self.rng.shuffle(&mut long);
        for &at in &long[..wanted] {
            words[at] = self.typo(&words[at]);
        }
        Some(words.join(" "))
    }

    fn typo(&mut self, word: &str) -> String {
        let mut letters: Vec<char> = word.chars().collect();
        // First letters are rarely wrong.
        let at = self.rng.usize(1..letters.len());
        match self.rng.usize(0..4) {
            0 => {
                letters.remove(at);
            }
            1 => letters.insert(at, self.rng.lowercase()),
            2 => letters[at] = self.rng.lowercase(),
            _ => {
                let neighbour = if at + 1 < letters.len() { at + 1 } else { at - 1 };
                letters.swap(at, neighbour);
            }
        }
        letters.into_iter().collect()
    }

    fn inserted(&mut self, text: &str) -> Option<String> {
        let mut words: Vec<&str> = text.split(' ').collect();
        if words.len() < 5 {
            return None;
        }
        for _ in 0..self.rng.usize(1..=(words.len() / 10).clamp(1, 3)) {
            let word: &str = match self.rng.bool() {
                true => FILLERS[self.rng.usize(0..FILLERS.len())],
                false => &self.texts.words[self.rng.usize(0..self.texts.words.len())],
            };
            words.insert(self.rng.usize(0..=words.len()), word);
        }
        Some(words.join(" "))
    }

    fn removed(&mut self, text: &str) -> Option<String> {
        let mut words: Vec<&str> = text.split(' ').collect();
        if words.len() < 6 {
            return None;
        }
        for _ in 0..self.rng.usize(1..=(words.len() / 10).clamp(1, 3)) {
            let at = self.rng.usize(0..words.len());
            // What stands beside a fact may be what it is a fact of.
            if !is_factual(words[at]) && !words[at].contains(|c: char| !c.is_alphabetic() && c != ',' && c != '.') {
                words.remove(at);
            }
        }
        Some(words.join(" "))
    }

    fn sentence_added(&mut self, text: &str, from: &[String]) -> Option<String> {
        let words = text.split_whitespace().count();
        if words < 8 || from.is_empty() {
            return None;
        }
        let fits = |sentence: &&String| (5..=words.min(25)).contains(&sentence.split_whitespace().count());
        let added = (0..20).map(|_| &from[self.rng.usize(0..from.len())]).find(fits)?;
        let mut sentences = sentences(text);
        sentences.insert(self.rng.usize(0..=sentences.len()), added);
        Some(sentences.join(" "))
    }

    fn sentences_swapped(&mut self, text: &str) -> Option<String> {
        let mut sentences = sentences(text);
        if sentences.len() < 2 {
            return None;
        }
        let (first, second) = (self.rng.usize(0..sentences.len()), self.rng.usize(0..sentences.len() - 1));
        sentences.swap(first, if second >= first { second + 1 } else { second });
        Some(sentences.join(" "))
    }

    fn clauses_swapped(&mut self, text: &str) -> Option<String> {
        let sentences = sentences(text);
        let at = self.rng.usize(0..sentences.len());
        let sentence = sentences[at].trim_end_matches('.');
        let (first, second) = sentence.split_once(", ")?;
        if first.split(' ').count() < 3 || second.split(' ').count() < 3 {
            return None;
        }
        let swapped = format!("{second}, {first}.");
        let mut sentences: Vec<&str> = sentences;
        sentences[at] = &swapped;
        Some(sentences.join(" "))
    }

    fn case(&mut self, text: &str) -> String {
        match self.rng.usize(0..4) {
            0 => text.to_uppercase(),
            1 => text.to_lowercase(),
            2 => {
                let mut is_first = true;
                let title = |c: char| {
                    let title = if is_first { c.to_ascii_uppercase() } else { c };
                    is_first = c == ' ';
                    title
                };
                text.chars().map(title).collect()
            }
            _ => {
                let words =
                    text.split(' ').map(|word| if self.rng.bool() { word.to_uppercase() } else { word.to_owned() });
                words.collect::<Vec<_>>().join(" ")
            }
        }
    }

    fn spacing(&mut self, text: &str) -> String {
        match self.rng.usize(0..5) {
            0 => text.replace(' ', "  "),
            1 => {
                let space = |c| match c {
                    ' ' => [' ', '\n', '\t', '\u{a0}', '\u{2003}'][self.rng.usize(0..5)],
                    c => c,
                };
                format!("\n {} ", text.chars().map(space).collect::<String>())
            }
            2 => text.split(' ').collect::<Vec<_>>().join(" \u{200b}"),
            // A word torn apart, or two run together.
            choice => {
                let words: Vec<&str> = text.split(' ').collect();
                let is_plain = |word: &str| word.len() >= 4 && word.chars().all(|c| c.is_ascii_lowercase());
                let plain = |at: &usize| is_plain(words[*at]) && words.get(at + 1).is_none_or(|next| is_plain(next));
                let Some(at) = (0..10).map(|_| self.rng.usize(0..words.len())).find(plain) else {
                    return text.replace(' ', "   ");
                };
                let torn = format!("{} {}", &words[at][..2], &words[at][2..]);
                let joined = |from: usize| words[from..].join(" ");
                let before = words[..at].join(" ");
                match choice {
                    3 if at + 1 < words.len() => format!("{before} {}{}", words[at], joined(at + 1)),
                    _ => format!("{before} {torn} {}", joined(at + 1)),
                }
            }
        }
    }

    fn punctuation(&mut self, text: &str) -> String {
        let chars: Vec<char> = text.chars().collect();
        let is_in_number = |at: usize| {
            let is_digit = |at: Option<usize>| at.and_then(|at| chars.get(at)).is_some_and(char::is_ascii_digit);
            is_digit(Some(at + 1))
                || is_digit(at.checked_sub(1)) && chars.get(at + 1).is_some_and(|c| !c.is_whitespace())
        };
        let choice = self.rng.usize(0..4);
        let change = |(at, &c): (usize, &char)| -> String {
            match c {
                ',' | '.' | ';' | ':' | '?' | '"' | '(' | ')' if !is_in_number(at) => match choice {
                    0 => String::new(),
                    1 => [", ", "; ", ": ", "… "][self.rng.usize(0..4)].to_owned(),
                    2 if c == '"' => "”".to_owned(),
                    2 if c == '.' => "!".to_owned(),
                    _ => format!("{c}"),
                },
                '-' if choice == 0 && at > 0 && chars[at - 1].is_alphabetic() && !is_in_number(at) => " ".to_owned(),
                '\'' if choice < 2 => String::new(),
                ' ' if choice == 3 && !is_in_number(at) && self.rng.usize(0..8) == 0 => {
                    [", ", " – ", "... ", ") ", " ("][self.rng.usize(0..5)].to_owned()
                }
                c => c.to_string(),
            }
        };
        chars.iter().enumerate().map(change).collect()
    }

    fn number(&mut self, text: &str) -> Option<String> {
        let bytes = text.as_bytes();
        let starts: Vec<usize> = (0..bytes.len())
            .filter(|&at| bytes[at].is_ascii_digit() && (at == 0 || !bytes[at - 1].is_ascii_digit()))
            .collect();
        if starts.is_empty() {
            let (word, other) = NUMBER_WORDS[self.rng.usize(0..NUMBER_WORDS.len())];
            return replace_word(text, word, other);
        }
        let start = starts[self.rng.usize(0..starts.len())];
        let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let at = start + self.rng.usize(0..length);
        let digit = (bytes[at] - b'0' + self.rng.u8(1..10)) % 10 + b'0';
        Some(format!("{}{}{}", &text[..at], char::from(digit), &text[at + 1..]))
    }

    fn unit(&mut self, text: &str) -> Option<String> {
        let words: Vec<&str> = text.split(' ').collect();
        let bare = |word: &str| word.trim_end_matches(['.', ',', ')', ';']).to_owned();
        let class = |word: &str| UNITS.iter().find(|class| class.contains(&bare(word).as_str()));
        let counted: Vec<usize> = (1..words.len())
            .filter(|&at| words[at - 1].ends_with(|c: char| c.is_ascii_digit()) && class(words[at]).is_some())
            .collect();
        let at = *counted.get(self.rng.usize(0..counted.len().max(1)))?;
        let units = class(words[at])?;
        let others: Vec<&&str> = units.iter().filter(|unit| **unit != bare(words[at])).collect();
        let other = words[at].replacen(&bare(words[at]), others[self.rng.usize(0..others.len())], 1);
        let mut words = words;
        words[at] = &other;
        Some(words.join(" "))
    }

    fn denial_added(&mut self, text: &str) -> Option<String> {
        let words: Vec<&str> = text.split(' ').collect();
        let verbs: Vec<usize> = (0..words.len()).filter(|&at| AUXILIARIES.contains(&words[at])).collect();
        if let Some(&at) = verbs.get(self.rng.usize(0..verbs.len().max(1))) {
            let mut words = words;
            words.insert(at + 1, ["not", "never", "hardly"][self.rng.usize(0..3)]);
            return Some(words.join(" "));
        }
        replace_word(text, "with", "without").or_else(|| replace_word(text, "if", "if not"))
    }

    fn denial_removed(&mut self, text: &str) -> Option<String> {
        let (word, other) = DENIALS[self.rng.usize(0..DENIALS.len())];
        replace_word(text, word, other)
            .or_else(|| DENIALS.iter().find_map(|(word, other)| replace_word(text, word, other)))
    }

    fn replaced(&mut self, text: &str, pairs: &[(&str, &str)]) -> Option<String> {
        let start = self.rng.usize(0..pairs.len());
        (0..pairs.len())
            .map(|at| pairs[(start + at) % pairs.len()])
            .find_map(|(one, other)| replace_word(text, one, other).or_else(|| replace_word(text, other, one)))
    }

    fn name(&mut self, text: &str) -> Option<String> {
        let is_name = |word: &&str| word.len() > 5 && word[1..word.len() - 1].contains('_');
        let names: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(is_name).collect();
        let name = *names.get(self.rng.usize(0..names.len().max(1)))?;
        let other = match self.rng.bool() {
            true => format!("{name}s"),
            false => format!("{}{}", &name[..name.len() - 1], self.rng.lowercase()),
        };
        Some(text.replace(name, &other)).filter(|other| other != text)
    }
}

/// Sentences of a text.
pub fn sentences(text: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(". ") {
        let is_end = text[at + 2..].starts_with(|c: char| c.is_uppercase());
        if is_end && text[start..at].split(' ').count() >= 4 {
            sentences.push(&text[start..=at]);
            start = at + 2;
        }
    }
    sentences.push(&text[start..]);
    sentences
}

/// Whether a word states a number, a unit or a denial.
fn is_factual(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    word.contains(|c: char| c.is_ascii_digit() || "<>=+%".contains(c))
        || DENIALS.iter().any(|(denial, _)| bare == *denial)
        || UNITS.iter().any(|class| class.iter().any(|unit| bare == unit.to_lowercase()))
        || FACTUAL.contains(&bare.as_str())
}

fn replace_word(text: &str, word: &str, other: &str) -> Option<String> {
    let mut words: Vec<&str> = text.split(' ').collect();
    let at = words.iter().position(|candidate| *candidate == word)?;
    words[at] = other;
    Some(words.join(" ").trim().to_owned())
}

/// Letters and digits alone.
fn squashed(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric() || "<>=!+-.".contains(*c)).flat_map(char::to_lowercase).collect()
}

/// How well groups that were found are those that were planted.
#[derive(Debug, Default)]
pub struct Score {
    /// Of the pairs of rows found in one group, those that belong there.
    pub precision: f64,
    /// Of the pairs that belong in one group, those found there.
    pub recall: f64,
    /// For each kind how many rows were made, and how many of them are in the group of what they were made of.
    pub by_kind: BTreeMap<Kind, (usize, usize)>,
}

/// Compares groups with the truth.
pub fn score(rows: &[Planted], group_of: &[u32]) -> Score {
    let pairs = |count: &u64| count * (count - 1) / 2;
    let mut both: HashMap<(u32, u32), u64> = HashMap::new();
    let (mut of_truth, mut of_group) = (HashMap::<u32, u64>::new(), HashMap::<u32, u64>::new());
    for (row, &group) in rows.iter().zip(group_of) {
        *both.entry((row.truth, group)).or_default() += 1;
        *of_truth.entry(row.truth).or_default() += 1;
        *of_group.entry(group).or_default() += 1;
    }
    let right = both.values().map(pairs).sum::<u64>() as f64;
    let wanted = of_truth.values().map(pairs).sum::<u64>() as f64;
    let found = of_group.values().map(pairs).sum::<u64>() as f64;
    let mut score = Score { precision: right / found.max(1.0), recall: right / wanted.max(1.0), ..Score::default() };
    let bases: HashMap<u32, u32> = rows
        .iter()
        .zip(group_of)
        .filter(|(row, _)| !NEAR.contains(&row.kind))
        .map(|(row, &group)| (row.truth, group))
        .collect();
    for (row, group) in rows.iter().zip(group_of) {
        let (made, together) = score.by_kind.entry(row.kind).or_default();
        *made += 1;
        *together += usize::from(bases.get(&row.base) == Some(group));
    }
    score
}

const FILLERS: [&str; 16] = [
    "really",
    "basically",
    "also",
    "quite",
    "actually",
    "generally",
    "clearly",
    "indeed",
    "however",
    "simply",
    "just",
    "very",
    "please",
    "often",
    "currently",
    "usually",
];

const AUXILIARIES: [&str; 16] = [
    "is", "are", "was", "were", "can", "could", "does", "did", "has", "have", "will", "should", "may", "might", "must",
    "would",
];

const DENIALS: [(&str, &str); 8] = [
    ("not", ""),
    ("never", ""),
    ("no", ""),
    ("without", "with"),
    ("cannot", "can"),
    ("don't", "do"),
    ("doesn't", "does"),
    ("isn't", "is"),
];

const NUMBER_WORDS: [(&str, &str); 8] = [
    ("two", "three"),
    ("three", "four"),
    ("four", "five"),
    ("five", "six"),
    ("six", "seven"),
    ("one", "two"),
    ("ten", "twelve"),
    ("hundred", "thousand"),
];

/// Words that are factual besides numbers, units and denials.
const FACTUAL: [&str; 40] = [
    "zero", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "twenty",
    "thirty", "hundred", "thousand", "million", "billion", "half", "twice", "double", "third", "nor", "none",
    "neither", "nothing", "hardly", "rarely", "barely", "unless", "except", "lack", "lacks", "lacking", "absent",
    "absence", "fail", "fails", "failed", "unable",
];

const UNITS: [&[&str]; 9] = [
    &["hours", "days", "weeks", "months", "years", "minutes", "seconds"],
    &["hour", "day", "week", "month", "year", "minute"],
    &["mg", "g", "kg", "μg"],
    &["ml", "l", "dl", "μl"],
    &["mm", "cm", "km", "nm"],
    &["mM", "nM", "M", "pM"],
    &["ms", "s", "min"],
    &["KB", "MB", "GB", "TB"],
    &["kb", "bp", "Mb"],
];

const PREFIXED: [(&str, &str); 24] = [
    ("stable", "unstable"),
    ("known", "unknown"),
    ("likely", "unlikely"),
    ("related", "unrelated"),
    ("changed", "unchanged"),
    ("treated", "untreated"),
    ("affected", "unaffected"),
    ("expected", "unexpected"),
    ("clear", "unclear"),
    ("common", "uncommon"),
    ("able", "unable"),
    ("usual", "unusual"),
    ("used", "unused"),
    ("active", "inactive"),
    ("dependent", "independent"),
    ("direct", "indirect"),
    ("sufficient", "insufficient"),
    ("effective", "ineffective"),
    ("complete", "incomplete"),
    ("consistent", "inconsistent"),
    ("regular", "irregular"),
    ("possible", "impossible"),
    ("normal", "abnormal"),
    ("specific", "nonspecific"),
];

const OPPOSITES: [(&str, &str); 18] = [
    ("increase", "decrease"),
    ("increased", "decreased"),
    ("higher", "lower"),
    ("high", "low"),
    ("more", "less"),
    ("before", "after"),
    ("positive", "negative"),
    ("upregulated", "downregulated"),
    ("inside", "outside"),
    ("early", "late"),
    ("gain", "loss"),
    ("True", "False"),
    ("first", "last"),
    ("enable", "disable"),
    ("larger", "smaller"),
    ("strong", "weak"),
    ("and", "or"),
    ("all", "some"),
];

/// Names that fill templates; some are near each other.
const NAMES: [&str; 24] = [
    "Anna", "Anne", "Hanna", "Maria", "Marie", "Mario", "John", "Joan", "Jane", "Jana", "Peter", "Petra", "Paris",
    "London", "Berlin", "Bern", "Rome", "Lima", "Linda", "Oslo", "Madrid", "Martin", "Martina", "Boston",
];

/// Templates; what fills them goes where `_` is.
const TEMPLATES: [&str; 20] = [
    "What is the capital of _?",
    "Write a short poem about _ and _.",
    "Explain the meaning of the word _ to a child.",
    "Translate the following sentence into French: the _ is on the table.",
    "Dear _, thank you for your order of _; it has been sent to your address today and will arrive soon.",
    "How do I use _ together with _ in a web application that has to run on a small server?",
    "Summarise the article about _ in a few sentences and say what its author thinks of _.",
    "The _ of the patient was examined by the doctor, who found that the _ had no effect on the _.",
    "Give me a list of synonyms for _.",
    "Is _ a kind of _?",
    "Open the settings, choose the tab called _, and click on the button next to _ until the light turns green.",
    "You are a helpful assistant that answers questions about _. Be brief, be polite, and never invent sources.",
    "Which country exports the most _?",
    "Our study shows that _ is associated with _ in the population that was observed.",
    "Tell me a joke about a _ who meets a _.",
    "User _ asked for access to _ and was told to wait for an administrator.",
    "The function returns the _ of the given _ or raises an error if there is none.",
    "Compare _ and _ with regard to price, quality and how easy they are to use at home.",
    "Please remove the file named _ from the folder named _ and tell me when you are done.",
    "In the year after the war _ became the leader of _, and everything changed for the people who lived there.",
];
