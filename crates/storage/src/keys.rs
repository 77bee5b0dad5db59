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

    /// A hash without salt or stretching is enough for 256 random bits, and what is looked up is the hash, so timing
    /// tells nothing of the secret.
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
pub(crate) struct ValidKeys {
    valid: Mutex<Valid>,
    /// Held by the one who reads them anew.
    reading: Mutex<()>,
}

/// Each valid key's id, by its secret's hash.
type Ids = HashMap<SecretHash, String>;

#[derive(Default)]
struct Valid {
    /// What was read, and when.
    read: Option<(Instant, Ids)>,
    /// How often they changed: what was read before the last change is not kept.
    changes: u64,
}

impl ValidKeys {
    fn changed(&self) {
        let mut valid = self.lock();
        valid.read = None;
        valid.changes += 1;
    }

    /// Whom a secret belongs to, where what was read is fresh enough to tell.
    fn find(&self, secret: &SecretHash) -> Option<Option<Caller>> {
        let valid = self.lock();
        let (_, ids) = valid.read.as_ref().filter(|(at, _)| at.elapsed() < KEPT)?;
        Some(ids.get(secret).map(|id| Caller::key(id)))
    }

    /// The same, after reading where that has to be done. Whoever comes meanwhile waits for it.
    fn find_or_read(
        &self,
        secret: &SecretHash,
        read: impl Fn() -> Result<Ids, StorageError>,
    ) -> Result<Option<Caller>, StorageError> {
        // Nothing is in disorder after a panic: there is nothing inside.
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = self.find(secret) {
            return Ok(found);
        }
        let changes = self.lock().changes;
        let now = Instant::now();
        let ids = read()?;
        let caller = ids.get(secret).map(|id| Caller::key(id));
        let mut valid = self.lock();
        if valid.changes == changes {
            valid.read = Some((now, ids));
        }
        Ok(caller)
    }

    fn lock(&self) -> MutexGuard<'_, Valid> {
        // Nothing panics while holding the lock.
        self.valid.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.valid_keys.find_or_read(&Secret::hash(secret), || {
            self.database.read(|connection| {
                let mut statement =
                    connection.prepare_cached("SELECT secret_hash, id FROM api_keys WHERE revoked_at_ms IS NULL")?;
                let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(rows.collect::<Result<Ids, _>>()?)
            })
        })
    }

    /// The same without ever waiting for the disk; nothing where it would have to.
    pub fn authenticate_at_once(&self, secret: &str) -> Option<Option<Caller>> {
        self.valid_keys.find(&Secret::hash(secret))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn what_was_read_before_a_change_is_not_kept() {
        let keys = ValidKeys::default();
        let secret = Secret::hash("hf_1");
        let ids = || Ids::from([(secret, "key_1".to_owned())]);
        let revoked_meanwhile = || {
            keys.changed();
            Ok(ids())
        };
        // Who asked before the revocation was done may be let in; nobody after it is.
        keys.find_or_read(&secret, revoked_meanwhile).unwrap().unwrap();
        assert_eq!(keys.find(&secret), None);
        assert_eq!(keys.find_or_read(&secret, || Ok(Ids::new())).unwrap(), None);
        assert_eq!(keys.find(&secret), Some(None), "now it is known");
    }

    #[test]
    fn those_who_ask_at_once_share_one_reading() {
        let keys = ValidKeys::default();
        let (readings, secret) = (AtomicUsize::new(0), Secret::hash("hf_1"));
        let read = || {
            readings.fetch_add(1, Ordering::SeqCst);
            Ok(Ids::from([(secret, "key_1".to_owned())]))
        };
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| keys.find_or_read(&secret, read).unwrap().unwrap());
            }
        });
        assert_eq!(readings.into_inner(), 1);
    }
}
