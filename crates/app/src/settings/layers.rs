//! The layers settings come from, in order: defaults, file, environment, flags. The later wins.
//!
//! Owns which key comes from where, and that every key is one there is. What a value means is not its matter.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind},
};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Env, Format, Toml},
    value::{Dict, Map, Value},
};

use super::{
    DEFAULTS, Flags, LogFormat, Origin, Place, Problem, Problems, Settings, SettingsFile, environment, resolve,
};

/// How alike a mistyped key must be to the one it is taken for, from 0 to 1.
const SIMILAR_ENOUGH: f64 = 0.75;

/// All layers, merged; every key in them is one there is.
pub struct Layers {
    figment: Figment,
    defaults: Figment,
    origins: BTreeMap<String, Origin>,
}

/// One layer.
struct Layer {
    origin: &'static str,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

impl Layers {
    /// Reads every layer.
    ///
    /// # Errors
    /// [`Problems`] where a file cannot be read or is not TOML, and for every key that is no setting.
    pub fn read(place: &Place, flags: &Flags) -> Result<Self, Problems> {
        let parsed = Toml::from_str::<Dict>(DEFAULTS).map_err(|error| broken_defaults(&error))?;
        let known: Vec<String> = leaves(&parsed).into_iter().map(|(key, _)| key).collect();
        let mut problems = Vec::new();
        let file = read_file(&place.file).unwrap_or_else(|problem| {
            problems.push(problem);
            Dict::new()
        });
        let layers = [
            (Origin::Default, parsed.clone()),
            (Origin::File(place.file.path().to_owned()), file),
            (Origin::Environment(environment::HUB_ENDPOINT.to_owned()), hub_variable()),
            (Origin::Environment(String::new()), variables()),
            (Origin::Flag(""), flag_values(flags)),
        ];
        let mut figment = Figment::new();
        let mut origins = BTreeMap::new();
        for (origin, values) in layers {
            for (key, value) in leaves(&values) {
                let origin = exact(&origin, &key);
                if let Some(problem) = unknown(&key, value, &origin, &known) {
                    problems.push(problem);
                } else {
                    origins.insert(key, origin);
                }
            }
            figment = figment.merge(Layer { origin: "settings", values });
        }
        problems.extend(misspelt_variables(&known));
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        let defaults = Figment::from(Layer { origin: "defaults", values: parsed });
        Ok(Self { figment, defaults, origins })
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Problems`] for every value that cannot be used, alone or beside another.
    pub fn settings(&self) -> Result<Settings, Problems> {
        resolve::resolve(self)
    }

    /// Every setting, with its value and where that comes from, by key.
    pub fn entries(&self) -> Vec<(String, Value, Origin)> {
        let merged = self.figment.extract::<Dict>().unwrap_or_default();
        leaves(&merged).into_iter().map(|(key, value)| (key.clone(), value.clone(), self.origin(&key))).collect()
    }

    /// Where the value of a setting comes from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// The value of a setting, in the last layer that has it.
    pub fn value(&self, key: &str) -> Option<Value> {
        self.figment.find_value(key).ok()
    }

    /// The value of a setting in the first layer.
    pub fn default_value(&self, key: &str) -> Option<Value> {
        self.defaults.find_value(key).ok()
    }
}

fn read_file(file: &SettingsFile) -> Result<Dict, Problem> {
    let path = file.path();
    let problem = |what: String, remedy: &str| Problem {
        key: None,
        origin: Origin::File(path.to_owned()),
        what,
        remedy: remedy.to_owned(),
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        // What is wrong with the data directory itself is for whoever takes it to say.
        Err(error) if is_absent(&error) && matches!(file, SettingsFile::Usual(_)) => return Ok(Dict::new()),
        Err(error) => {
            let what = format!("cannot be read: {error}");
            return Err(problem(what, "give a readable file with --config"));
        }
    };
    Toml::from_str(&text).map_err(|error| {
        let what = format!("is not TOML: {}", error.to_string().trim_end().replace('\n', "\n    "));
        problem(what, "correct it there; docs/CONFIG.md shows every setting")
    })
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Only names with two underscores are settings: others may be meant for something else.
fn variables() -> Dict {
    Env::prefixed(environment::PREFIX)
        .filter(|name| name.as_str().contains("__"))
        .split("__")
        .data()
        .ok()
        .and_then(|mut data| data.remove(&Profile::Default))
        .unwrap_or_default()
}

fn hub_variable() -> Dict {
    environment::variable(environment::HUB_ENDPOINT)
        .map(|address| section("models", "hub_endpoint", address))
        .unwrap_or_default()
}

fn flag_values(flags: &Flags) -> Dict {
    let mut values = Dict::new();
    let listeners = [("listen", &flags.listen), ("listen_tls", &flags.listen_tls)];
    let server: Dict = listeners
        .into_iter()
        .filter_map(|(key, listen)| Some((key.to_owned(), Value::from(listen.clone()?))))
        .collect();
    if !server.is_empty() {
        values.insert("server".to_owned(), Value::from(server));
    }
    if let Some(format) = flags.log_format {
        let word = match format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        values.extend(section("log", "format", word.to_owned()));
    }
    values
}

fn section(name: &str, key: &str, value: String) -> Dict {
    let inner = Dict::from([(key.to_owned(), Value::from(value))]);
    Dict::from([(name.to_owned(), Value::from(inner))])
}

/// Every value that is no table, under its dotted key.
fn leaves(values: &Dict) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (key, value) in values {
        match value {
            Value::Dict(_, inner) => {
                found.extend(leaves(inner).into_iter().map(|(below, value)| (format!("{key}.{below}"), value)));
            }
            _ => found.push((key.clone(), value)),
        }
    }
    found
}

/// The variable or flag that a key of this layer comes from.
fn exact(origin: &Origin, key: &str) -> Origin {
    match origin {
        Origin::Environment(name) if name.is_empty() => Origin::Environment(variable_name(key)),
        Origin::Flag(_) if key == "server.listen" => Origin::Flag("--listen"),
        Origin::Flag(_) if key == "server.listen_tls" => Origin::Flag("--listen-tls"),
        Origin::Flag(_) => Origin::Flag("--log-format"),
        other => other.clone(),
    }
}

fn variable_name(key: &str) -> String {
    format!("{}{}", environment::PREFIX, key.to_uppercase().replace('.', "__"))
}

fn unknown(key: &str, value: &Value, origin: &Origin, known: &[String]) -> Option<Problem> {
    if known.iter().any(|known| known == key) {
        return None;
    }
    let is_section = known.iter().any(|known| known.starts_with(&format!("{key}.")));
    let what = match (is_section, value) {
        (true, _) => "is a section, not a value".to_owned(),
        (false, _) => "is not a setting".to_owned(),
    };
    let remedy = match nearest(key, known) {
        Some(nearest) => format!("did you mean {nearest}? `holdfast config show` lists every setting"),
        None => "remove it; `holdfast config show` lists every setting".to_owned(),
    };
    Some(Problem { key: Some(key.to_owned()), origin: origin.clone(), what, remedy })
}

fn nearest<'a>(key: &str, known: &'a [String]) -> Option<&'a str> {
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(key, known), known.as_str()))
        .filter(|(likeness, _)| *likeness >= SIMILAR_ENOUGH)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, known)| known)
}

/// Variables that would be settings if they had two underscores where they have one.
fn misspelt_variables(known: &[String]) -> Vec<Problem> {
    let with_one = |key: &str| format!("{}{}", environment::PREFIX, key.to_uppercase().replace('.', "_"));
    let wrong: BTreeMap<String, &String> = known.iter().map(|key| (with_one(key), key)).collect();
    environment::our_names()
        .into_iter()
        .filter_map(|name| {
            let key = wrong.get(&name)?;
            Some(Problem {
                key: None,
                origin: Origin::Environment(name),
                what: "is not a setting".to_owned(),
                remedy: format!("write {}, with two underscores", variable_name(key)),
            })
        })
        .collect()
}

fn broken_defaults(error: &dyn std::fmt::Display) -> Problems {
    Problems(vec![Problem {
        key: None,
        origin: Origin::Default,
        what: format!("is not TOML: {error}"),
        remedy: "this is a defect of the program; please report it".to_owned(),
    }])
}

/// What a test gives instead of a file.
#[cfg(test)]
pub fn from_text(text: &str, flags: &Flags) -> Result<Layers, Problems> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("holdfast.toml");
    fs::write(&path, text).unwrap();
    let place = Place { data_dir: folder.path().to_owned(), file: SettingsFile::Named(path) };
    Layers::read(&place, flags)
}
