//! Who answers for language models, as it was set. What the settings mean is not known here.

use rusqlite::{Connection, Row};

use crate::{
    Storage,
    error::{PutError, StorageError},
    now_ms,
};

/// Providers there may be.
pub const PROVIDERS_MAX: usize = 100;
const NAME_BYTES_MAX: usize = 64;
const PATH_BYTES_MAX: usize = 4_096;
const JSON_BYTES_MAX: usize = 64 << 10;

/// A provider as it is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderRecord {
    /// What it is called.
    pub name: String,
    /// What it speaks.
    pub api: ProviderApi,
    /// JSON: where it is, or what to start.
    pub endpoint: String,
    /// The file that its key lies in; the key itself is stored nowhere.
    pub key_file: Option<String>,
    /// JSON.
    pub settings: String,
    /// Unix milliseconds. Not taken from who stores it: one that is replaced keeps its own.
    pub created_at_ms: i64,
}

/// What a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProviderApi {
    /// Chat completions as OpenAI has them.
    OpenAi,
    /// Messages as Anthropic has them.
    Anthropic,
}

impl ProviderApi {
    /// Everything that is spoken.
    pub const ALL: [Self; 2] = [Self::OpenAi, Self::Anthropic];

    /// The word it is written as.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }

    /// The one of that name.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|api| api.as_str() == word)
    }
}

impl Storage {
    /// Stores a provider, instead of one of that name.
    ///
    /// # Errors
    /// [`PutError`], where there are too many or a part makes no sense.
    pub async fn put_provider(&self, provider: ProviderRecord) -> Result<ProviderRecord, PutError> {
        check(&provider)?;
        let put = move |connection: &Connection| match put(connection, &provider) {
            Err(PutError::Storage(error)) => Err(error),
            refused_or_done => Ok(refused_or_done),
        };
        self.database.write(put).await?
    }

    /// Every provider, in the order in which they were made.
    pub fn providers(&self) -> Result<Vec<ProviderRecord>, StorageError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(&format!("{PROVIDER} ORDER BY created_at_ms, name"))?;
            let rows = statement.query_map([], provider_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Removes a provider.
    pub async fn remove_provider(&self, name: String) -> Result<(), StorageError> {
        self.database
            .write(move |connection| match connection.execute("DELETE FROM providers WHERE name = ?1", [&name])? {
                0 => Err(StorageError::NotFound { what: "provider", name }),
                _ => Ok(()),
            })
            .await
    }
}

fn check(provider: &ProviderRecord) -> Result<(), PutError> {
    PutError::check_name("name", &provider.name, NAME_BYTES_MAX)?;
    if let Some(path) = &provider.key_file {
        PutError::check_name("key_file", path, PATH_BYTES_MAX)?;
    }
    for (field, json) in [("endpoint", &provider.endpoint), ("settings", &provider.settings)] {
        if json.len() > JSON_BYTES_MAX {
            return Err(PutError::Invalid { field, problem: "is too long" });
        }
    }
    Ok(())
}

fn put(connection: &Connection, provider: &ProviderRecord) -> Result<ProviderRecord, PutError> {
    let others = "SELECT count(*) FROM providers WHERE name <> ?1";
    let count: usize = connection.query_row(others, [&provider.name], |row| row.get(0))?;
    if count >= PROVIDERS_MAX {
        return Err(PutError::TooMany { what: "providers", limit: PROVIDERS_MAX });
    }
    let ProviderRecord { name, api, endpoint, key_file, settings, .. } = provider;
    connection.execute(
        "INSERT INTO providers (name, api, endpoint, key_file, settings, created_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (name) DO UPDATE SET api = ?2, endpoint = ?3, key_file = ?4, settings = ?5",
        (name, api.as_str(), endpoint, key_file, settings, now_ms()),
    )?;
    Ok(connection.query_row(&format!("{PROVIDER} WHERE name = ?1"), [name], provider_row)?)
}

const PROVIDER: &str = "SELECT name, api, endpoint, key_file, settings, created_at_ms FROM providers";

fn provider_row(row: &Row<'_>) -> rusqlite::Result<ProviderRecord> {
    let api: String = row.get(1)?;
    Ok(ProviderRecord {
        name: row.get(0)?,
        api: ProviderApi::parse(&api).ok_or(rusqlite::Error::InvalidQuery)?,
        endpoint: row.get(2)?,
        key_file: row.get(3)?,
        settings: row.get(4)?,
        created_at_ms: row.get(5)?,
    })
}
