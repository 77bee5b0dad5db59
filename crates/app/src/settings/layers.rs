//! The layers settings come from, in order: defaults, profile, file, environment, flags. The later wins.
//!
//! Owns which key comes from where, and that every key is one there is. What a value means is not its matter. Nothing
//! that is wrong in one layer keeps another from being looked at.
//!
//! A setting whose default is a table is open: whoever sets it names what is in it. Each of its entries is a value with an
//! origin of its own, under the setting's key and its name; a later layer's replaces an earlier one's of the same name.

use std::collections::BTreeMap;

use secrecy::SecretString;
use toml::Value;
use zeroize::Zeroizing;

use super::{
    DEFAULTS, Flags, LogFormat, Origin, Place, Problem, Problems, Profile, Settings, SettingsFile, environment,
    file::{self, Contents},
    resolve,
    secret::{HIDDEN, Input, SECRETS},
};

/// How alike a mistyped key must be to the one it is taken for, from 0 to 1.
const SIMILAR_ENOUGH: f64 = 0.75;

/// All layers, merged; every key in them is one there is.
#[derive(Debug)]
pub struct Layers {
    defaults: BTreeMap<String, Value>,
    values: BTreeMap<String, (Value, Origin)>,
    secrets: BTreeMap<&'static str, SecretString>,
    profile: Profile,
    file_was_there: bool,
    input: Input,
    problems: Vec<Problem>,
}

/// A value that one layer has.
struct Given {
    key: String,
    value: Value,
    origin: Origin,
}

impl Layers {
    /// Reads every layer. What is wrong is kept for [`Layers::settings`] to tell.
    pub fn read(place: &Place, flags: &Flags) -> Self {
        let mut layers = Self::of_defaults(flags.input);
        let contents = layers.read_file(&place.file);
        let path = place.file.path();
        let in_file: Vec<Given> = contents
            .values
            .into_iter()
            .map(|line| {
                let origin = Origin::File { path: path.to_owned(), line: Some(line.line) };
                Given { key: line.key, value: line.value, origin }
            })
            .collect();
        let in_environment = layers.environment();
        let in_flags = flag_values(flags);
        layers.choose_profile([&in_file, &in_environment, &in_flags]);
        for given in in_file.into_iter().chain(in_environment).chain(in_flags) {
            layers.take(given);
        }
        layers
    }

    fn of_defaults(input: Input) -> Self {
        let contents = file::parse(DEFAULTS);
        let problems = contents.faults.into_iter().map(|fault| Problem {
            key: fault.key,
            origin: Origin::Default,
            what: fault.what,
            remedy: "this is a defect of the program; please report it".to_owned(),
        });
        Self {
            defaults: contents.values.into_iter().map(|line| (line.key, line.value)).collect(),
            values: BTreeMap::new(),
            secrets: BTreeMap::new(),
            profile: Profile::None,
            file_was_there: false,
            input,
            problems: problems.collect(),
        }
    }

    fn read_file(&mut self, file: &SettingsFile) -> Contents {
        let path = file.path();
        let fault = match (file::text(path), file) {
            (Ok(text), _) => {
                self.file_was_there = true;
                let mut contents = file::parse_with(&text, &|key| self.is_open(key));
                let faults = std::mem::take(&mut contents.faults);
                self.problems.extend(faults.into_iter().map(|fault| in_file(fault, file)));
                return contents;
            }
            // What is wrong with the data directory itself is for whoever takes it to say.
            (Err(None), SettingsFile::Usual(_)) => return Contents::default(),
            (Err(None), SettingsFile::Named(_)) => file::Fault {
                key: None,
                line: None,
                what: "cannot be read: there is no such file".to_owned(),
                remedy: "give a readable file with --config",
            },
            (Err(Some(fault)), _) => fault,
        };
        self.problems.push(in_file(fault, file));
        Contents::default()
    }

    /// The settings in the environment, and what only looks like one.
    fn environment(&mut self) -> Vec<Given> {
        let mut given = Vec::new();
        if let Some(address) = environment::variable(environment::HUB_ENDPOINT) {
            let origin = Origin::Environment(environment::HUB_ENDPOINT.to_owned());
            given.push(Given { key: "models.hub_endpoint".to_owned(), value: Value::String(address), origin });
        }
        let outside: Vec<&str> = self.defaults.keys().map(String::as_str).filter(|key| !key.contains('.')).collect();
        for (name, value) in environment::ours() {
            let origin = Origin::Environment(name.clone());
            let entry = environment::key_of(&name, &outside);
            if let Some(whole) = entry.as_deref().and_then(|key| self.open_above(key)).map(str::to_owned) {
                self.problems.push(Problem {
                    key: entry,
                    origin,
                    what: "is not a setting".to_owned(),
                    remedy: format!("give all of {whole} as one table in {}", environment::name_of(&whole)),
                });
                continue;
            }
            let Some(key) = environment::key_of(&name, &outside) else {
                self.problems.extend(misspelt(&name, &self.defaults));
                continue;
            };
            let Ok(text) = value.into_string() else {
                self.problems.push(Problem {
                    key: Some(key),
                    origin,
                    what: "is not UTF-8".to_owned(),
                    remedy: "set the variable to text".to_owned(),
                });
                continue;
            };
            if let Some(secret) = SECRETS.into_iter().find(|secret| *secret == key) {
                self.secrets.extend(secret_of(&Zeroizing::new(text)).map(|value| (secret, value)));
                continue;
            }
            // An unknown one is told as such, whatever its value.
            let like = self.defaults.get(&key).cloned().unwrap_or(Value::Boolean(false));
            match environment::value(&text, &like) {
                Value::Table(entries) if self.is_open(&key) => {
                    given.extend(entries.into_iter().map(|(name, value)| Given {
                        key: format!("{key}.{}", file::quoted(&name)),
                        value,
                        origin: origin.clone(),
                    }))
                }
                value => given.push(Given { key, value, origin }),
            }
        }
        given
    }

    /// Whether a setting is a table whose entries are named by whoever sets it.
    fn is_open(&self, key: &str) -> bool {
        self.defaults.get(key).is_some_and(Value::is_table)
    }

    /// The open setting that a key is an entry of.
    fn open_above(&self, key: &str) -> Option<&str> {
        let is_above = |open: &&str| key.strip_prefix(*open).is_some_and(|rest| rest.starts_with('.'));
        self.defaults.iter().filter(|(_, value)| value.is_table()).map(|(open, _)| open.as_str()).find(is_above)
    }

    /// The profile that the last of the layers names, and its values below all of theirs.
    fn choose_profile(&mut self, layers: [&Vec<Given>; 3]) {
        let named = layers.iter().flat_map(|layer| layer.iter()).rev().find(|given| given.key == "profile");
        let word = named.and_then(|given| given.value.as_str());
        // A word that is none is told when the settings are checked.
        self.profile = word.and_then(Profile::from_word).unwrap_or_default();
        let contents = file::parse_with(self.profile.text(), &|key| self.is_open(key));
        for line in contents.values {
            self.take(Given { key: line.key, value: line.value, origin: Origin::Profile(self.profile) });
        }
    }

    fn take(&mut self, given: Given) {
        match self.refused(&given) {
            Some(problem) => self.problems.push(problem),
            // A section with nothing in it.
            None if !self.is_known(&given.key) || (self.is_open(&given.key) && given.value.is_table()) => {}
            None => {
                self.values.insert(given.key, (given.value, given.origin));
            }
        }
    }

    /// Whether a key is one there is, or an entry of an open one.
    fn is_known(&self, key: &str) -> bool {
        self.defaults.contains_key(key) || self.open_above(key).is_some()
    }

    /// Why a key is not one that can be given there.
    fn refused(&self, Given { key, value, origin }: &Given) -> Option<Problem> {
        if self.is_known(key) {
            return None;
        }
        let is_empty_section = value.as_table().is_some_and(toml::Table::is_empty);
        let is_section = self.defaults.keys().any(|known| known.starts_with(&format!("{key}.")));
        let (what, remedy) = if SECRETS.contains(&key.as_str()) {
            let remedy = format!(
                "remove it here; put it into a file of mode 0600 that {key}_file names, or into {}",
                environment::name_of(key)
            );
            ("is a secret, which does not belong into a settings file", remedy)
        } else if is_section && is_empty_section {
            return None;
        } else {
            let what = if is_section { "is a section, not a value" } else { "is not a setting" };
            let remedy = match nearest(key, self.defaults.keys()) {
                Some(nearest) => format!("did you mean {nearest}? `holdfast config show` lists every setting"),
                None => "remove it; `holdfast config show` lists every setting".to_owned(),
            };
            (what, remedy)
        };
        Some(Problem { key: Some(key.clone()), origin: origin.clone(), what: what.to_owned(), remedy })
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Problems`] for everything that is wrong with a layer, and every value that cannot be used, alone or beside
    /// another.
    pub fn settings(&self) -> Result<Settings, Problems> {
        resolve::resolve(self)
    }

    /// What is wrong with the layers themselves, whatever the values mean.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Every setting, with its value as it may be shown and where that comes from, by key.
    pub fn entries(&self) -> Vec<(String, Value, Origin)> {
        let shown = |key: &str| Some((key.to_owned(), self.shown(key)?, self.origin(key)));
        let mut entries: Vec<_> = self.keys().filter_map(shown).collect();
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        entries
    }

    /// The keys of all settings, and of the secrets that are given. In the place of an open setting stand its entries, where
    /// it has any.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let entries = self.values.keys().map(String::as_str).filter(move |key| self.open_above(key).is_some());
        let settings =
            self.defaults.keys().map(String::as_str).filter(move |key| self.entries_of(key).next().is_none());
        settings.chain(entries).chain(self.secrets.keys().copied())
    }

    /// What is in an open setting: the key, the name and the value of each entry.
    pub fn entries_of(&self, open: &str) -> impl Iterator<Item = (&str, String, &Value)> {
        let begins = format!("{open}.");
        let is_open = self.is_open(open);
        self.values.iter().filter(move |_| is_open).filter_map(move |(key, (value, _))| {
            let name = key.strip_prefix(&begins)?;
            Some((key.as_str(), file::unquoted(name), value))
        })
    }

    /// The value of a setting as it may be shown.
    pub fn shown(&self, key: &str) -> Option<Value> {
        if self.secrets.contains_key(key) {
            return Some(Value::String(HIDDEN.to_owned()));
        }
        match self.value(key).or_else(|| self.default_value(key))? {
            Value::String(text) => Some(Value::String(without_credentials(&text))),
            value => Some(value),
        }
    }

    /// Where the value of a setting comes from.
    pub fn origin(&self, key: &str) -> Origin {
        match self.values.get(key) {
            Some((_, origin)) => origin.clone(),
            None if self.secrets.contains_key(key) => Origin::Environment(environment::name_of(key)),
            None => Origin::Default,
        }
    }

    /// The value of a setting, in the last layer that has it.
    pub fn value(&self, key: &str) -> Option<Value> {
        self.values.get(key).map(|(value, _)| value.clone()).or_else(|| self.default_value(key))
    }

    /// The value of a setting in the first layer.
    pub fn default_value(&self, key: &str) -> Option<Value> {
        self.defaults.get(key).cloned()
    }

    /// Takes these settings over from another reading.
    pub fn take_over(&mut self, other: &Self, which: impl Fn(&str) -> bool) {
        let keys = self.defaults.keys().chain(self.values.keys()).chain(other.values.keys());
        let keys: Vec<String> = keys.filter(|key| which(key)).cloned().collect();
        for key in keys {
            match other.values.get(&key) {
                Some(given) => drop(self.values.insert(key, given.clone())),
                None => drop(self.values.remove(&key)),
            }
        }
        self.profile = other.profile;
        self.file_was_there = other.file_was_there;
    }

    /// A secret that the environment has.
    pub fn secret(&self, key: &str) -> Option<&SecretString> {
        self.secrets.get(key)
    }

    /// The profile in force.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Whether there was a settings file.
    pub fn file_was_there(&self) -> bool {
        self.file_was_there
    }

    /// What standard input is to whoever asked.
    pub fn input(&self) -> Input {
        self.input
    }
}

/// The secret in a variable's text, which is wiped from memory after this. Nothing where it is blank.
fn secret_of(text: &Zeroizing<String>) -> Option<SecretString> {
    Some(text.trim()).filter(|text| !text.is_empty()).map(SecretString::from)
}

fn in_file(fault: file::Fault, file: &SettingsFile) -> Problem {
    let file::Fault { key, line, what, remedy } = fault;
    let origin = Origin::File { path: file.path().to_owned(), line };
    Problem { key, origin, what, remedy: remedy.to_owned() }
}

/// An address without the name and password that may stand in it: `https://user:password@host`.
fn without_credentials(text: &str) -> String {
    let cut = || {
        let (scheme, rest) = text.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let (credentials, _) = authority.rsplit_once('@')?;
        Some(format!("{scheme}://{HIDDEN}{}", &rest[credentials.len()..]))
    };
    cut().unwrap_or_else(|| text.to_owned())
}

fn flag_values(flags: &Flags) -> Vec<Given> {
    let format = flags.log_format.map(|format| match format {
        LogFormat::Auto => "auto",
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    });
    let given = [
        ("--profile", "profile", flags.profile.map(|profile| profile.as_str().to_owned())),
        ("--listen", "server.listen", flags.listen.clone()),
        ("--listen-tls", "server.listen_tls", flags.listen_tls.clone()),
        ("--log-format", "log.format", format.map(str::to_owned)),
    ];
    let taken = given.into_iter().filter_map(|(flag, key, value)| {
        Some(Given { key: key.to_owned(), value: Value::String(value?), origin: Origin::Flag(flag) })
    });
    taken.collect()
}

fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a String>) -> Option<&'a str> {
    known
        .map(|known| (strsim::jaro_winkler(key, known), known.as_str()))
        .filter(|(likeness, _)| *likeness >= SIMILAR_ENOUGH)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, known)| known)
}

/// A variable that would be a setting if it had two underscores where it has one.
fn misspelt(name: &str, known: &BTreeMap<String, Value>) -> Option<Problem> {
    let with_one = |key: &&str| format!("{}{}", environment::PREFIX, key.to_uppercase().replace('.', "_")) == name;
    let key = known.keys().map(String::as_str).chain(SECRETS).find(with_one)?;
    Some(Problem {
        key: None,
        origin: Origin::Environment(name.to_owned()),
        what: "is not a setting".to_owned(),
        remedy: format!("write {}, with two underscores", environment::name_of(key)),
    })
}

/// What a test gives instead of a file.
#[cfg(test)]
pub fn from_text(text: &str, flags: &Flags) -> Layers {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("holdfast.toml");
    std::fs::write(&path, text).unwrap();
    let place = Place { data_dir: folder.path().to_owned(), file: SettingsFile::Named(path) };
    Layers::read(&place, flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_password_in_an_address_are_not_shown() {
        let check = |text: &str, expected: &str| assert_eq!(without_credentials(text), expected);
        check("https://me:pw@host/a@b", "https://(secret)@host/a@b");
        check("https://host/a@b", "https://host/a@b");
        check("info", "info");
        let layers = from_text("[models]\nhub_endpoint = 'https://me:password@host'", &Flags::default());
        let shown = format!("{:?}", layers.entries());
        assert!(shown.contains("(secret)") && !shown.contains("password"), "{shown}");
    }

    #[test]
    fn a_secret_is_taken_without_the_blanks_around_it() {
        use secrecy::ExposeSecret;
        let of = |text: &str| secret_of(&Zeroizing::new(text.to_owned()));
        assert_eq!(of(" hf_abc\n").unwrap().expose_secret(), "hf_abc");
        assert!(of(" \n").is_none());
    }

    #[test]
    fn a_secret_in_a_settings_file_is_refused_and_not_repeated() {
        let layers = from_text("[models]\nhub_token = 'hf_abc'", &Flags::default());
        let told = layers.settings().unwrap_err().to_string();
        assert!(told.contains("models.hub_token_file names") && told.contains("HOLDFAST_MODELS__HUB_TOKEN"), "{told}");
        assert!(!format!("{told}{layers:?}").contains("hf_abc"));
    }

    #[test]
    fn entries_of_an_open_setting_have_places_of_their_own() {
        let text =
            "[llm.prices.'openai/gpt-4.1']\ninput = 2\noutput = 8\n[llm.prices]\nlocal = { input = 0, output = 0 }";
        let layers = from_text(text, &Flags::default());
        let entries: Vec<_> = layers.entries_of("llm.prices").map(|(key, name, _)| (key.to_owned(), name)).collect();
        let expected = [("llm.prices.\"openai/gpt-4.1\"", "openai/gpt-4.1"), ("llm.prices.local", "local")];
        assert_eq!(entries, expected.map(|(key, name)| (key.to_owned(), name.to_owned())));
        let lines: Vec<_> = expected.iter().map(|(key, _)| layers.origin(key)).collect();
        assert!(
            matches!(lines[..], [Origin::File { line: Some(1), .. }, Origin::File { line: Some(5), .. }]),
            "{lines:?}"
        );
        let keys: Vec<_> = layers.keys().filter(|key| key.starts_with("llm.prices")).collect();
        assert_eq!(keys, expected.map(|(key, _)| key));
        assert_eq!(from_text("", &Flags::default()).keys().filter(|key| key.starts_with("llm.prices")).count(), 1);
        assert_eq!(layers.entries_of("llm.policy").count(), 0);
    }

    #[test]
    fn an_empty_section_is_nothing_and_an_unknown_one_a_mistake() {
        let layers = from_text("[log]\n[logs]\n", &Flags::default());
        let problems = layers.settings().unwrap_err().0;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].key.as_deref(), Some("logs"));
    }
}
