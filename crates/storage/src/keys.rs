//! API keys: made here, shown once, kept as hashes.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::{Caller, Storage, error::StorageError, now_ms};

/// What every key begins with, so that scanners and people recognise one.
const PREFIX: &str = "hf_";

/// A key as it is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id; not secret.
    pub id: String,
    /// What its maker called it.
    pub name: String,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// When it was revoked.
    pub revoked_at_ms: Option<i64>,
}

/// A key's secret; printed only on purpose.
pub struct Secret(String);

impl Secret {
    /// The text to give to its owner, once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// 256 random bits from the operating system.
    fn generate() -> Result<Self, StorageError> {
        let mut bits = [0; 32];
        let mut filled = 0;
        while filled < bits.len() {
            filled += rustix::rand::getrandom(&mut bits[filled..], rustix::rand::GetRandomFlags::empty())
                .map_err(|error| crate::error::file_error("read", "the system's randomness")(error.into()))?;
        }
        Ok(Self(format!("{PREFIX}{}", blake3::Hash::from_bytes(bits).to_hex())))
    }

    /// A hash without salt or stretching is enough for 256 random bits, and lets a key be found
    /// by an index: what is compared is the hash, so timing tells nothing of the secret.
    fn hash(text: &str) -> SecretHash {
        blake3::derive_key("holdfast api key 2026", text.as_bytes())
    }
}

type SecretHash = [u8; 32];

/// How long what was read of the keys is kept. A change ends it at once; this bounds how long one holds whose caller went
/// away before the change was done.
const KEPT: Duration = Duration::from_millis(500);

/// The keys that are valid, kept for a moment: every request asks.
#[derive(Default)]
pub(crate) struct ValidKeys(Mutex<Valid>);

#[derive(Default)]
struct Valid {
    /// When they were read, and each key's id by its secret's hash.
    read: Option<(Instant, HashMap<SecretHash, String>)>,
    /// How often they changed: what was read before the last change is not kept.
    changes: u64,
}

impl ValidKeys {
    fn changed(&self) {
        let mut valid = self.lock();
        valid.read = None;
        valid.changes += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Valid> {
        // Nothing panics while holding the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Storage {
    /// Makes a key. Its secret is in the answer and nowhere else.
    pub async fn create_key(&self, name: String) -> Result<(ApiKey, Secret), StorageError> {
        let secret = Secret::generate()?;
        let hash = Secret::hash(secret.reveal());
        let key = ApiKey {
            id: format!("key_{}", Uuid::now_v7().simple()),
            name,
            created_at_ms: now_ms(),
            revoked_at_ms: None,
        };
        let row = key.clone();
        self.database
            .write(move |connection| {
                connection.execute(
                    "INSERT INTO api_keys (id, name, secret_hash, created_at_ms)
                     VALUES (?1, ?2, ?3, ?4)",
                    (&row.id, &row.name, hash.as_slice(), row.created_at_ms),
                )?;
                Ok(())
            })
            .await?;
        self.valid_keys.changed();
        Ok((key, secret))
    }

    /// Every key, oldest first.
    pub fn keys(&self) -> Result<Vec<ApiKey>, StorageError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, name, created_at_ms, revoked_at_ms
                 FROM api_keys ORDER BY id",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(ApiKey {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    created_at_ms: row.get(2)?,
                    revoked_at_ms: row.get(3)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Revokes a key, from now on.
    pub async fn revoke_key(&self, id: String) -> Result<(), StorageError> {
        self.database
            .write(move |connection| {
                let revoked = connection.execute(
                    "UPDATE api_keys SET revoked_at_ms = coalesce(revoked_at_ms, ?2)
                     WHERE id = ?1",
                    (&id, now_ms()),
                )?;
                if revoked == 0 {
                    return Err(StorageError::NotFound { what: "key", name: id });
                }
                Ok(())
            })
            .await?;
        self.valid_keys.changed();
        Ok(())
    }

    /// Whom a secret belongs to; nobody where it is unknown or revoked.
    pub fn authenticate(&self, secret: &str) -> Result<Option<Caller>, StorageError> {
        if let Some(known) = self.authenticate_at_once(secret) {
            return Ok(known);
        }
        let changes = self.valid_keys.lock().changes;
        let now = Instant::now();
        let ids = self.database.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT secret_hash, id FROM api_keys WHERE revoked_at_ms IS NULL")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<HashMap<SecretHash, String>, _>>()?)
        })?;
        let caller = find(&ids, secret);
        let mut valid = self.valid_keys.lock();
        if valid.changes == changes {
            valid.read = Some((now, ids));
        }
        Ok(caller)
    }

    /// The same without ever waiting for the disk; nothing where it would have to.
    pub fn authenticate_at_once(&self, secret: &str) -> Option<Option<Caller>> {
        let valid = self.valid_keys.lock();
        let (_, ids) = valid.read.as_ref().filter(|(at, _)| at.elapsed() < KEPT)?;
        Some(find(ids, secret))
    }
}

fn find(ids: &HashMap<SecretHash, String>, secret: &str) -> Option<Caller> {
    ids.get(&Secret::hash(secret)).map(|id| Caller::key(id))
}
