//! API keys: made here, shown once, kept as hashes; what each may do, where from and until when.
//!
//! Who may make which key is decided here too: nobody can give away more than they have.

mod secret;
mod valid;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use self::valid::{Entries, Entry};
pub(crate) use self::valid::{ValidKeys, present_ms};
pub use self::{
    secret::{Secret, is_well_formed},
    valid::{Authentication, Refusal},
};
use crate::{
    Caller, Storage,
    caller::{Grants, Role, Scopes},
    error::StorageError,
    now_ms,
};

/// Keys there may be, revoked ones included.
pub const KEYS_MAX: usize = 1_000;
/// Secrets a key may have, the former ones included; who rotates more often ends the ones that end first.
const SECRETS_MAX: usize = 4;
/// How long a key that was revoked or has expired stays in the list.
const ENDED_KEPT_MS: i64 = 90 * 24 * 60 * 60 * 1_000;

/// A key as it is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id; not secret.
    pub id: String,
    /// What it may do, and where.
    pub terms: KeyTerms,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// When it was revoked.
    pub revoked_at_ms: Option<i64>,
    /// When it last let somebody in, to the minute or so.
    pub last_used_at_ms: Option<i64>,
    /// Until when its former secret is taken, while it is being rotated.
    pub former_secret_until_ms: Option<i64>,
}

/// What a key is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTerms {
    /// What its maker called it.
    pub name: String,
    /// What it may do; at least one.
    pub roles: Vec<Role>,
    /// Which collections it may see.
    pub grants: Grants,
    /// Which language models it may ask: their names, those of their providers, or aliases.
    pub models: Grants,
    /// Where it may be used from; anywhere where empty.
    pub addresses: Vec<IpNet>,
    /// Until when it may be used; Unix milliseconds.
    pub expires_at_ms: Option<i64>,
}

impl KeyTerms {
    /// A key that may do what the role stands for, everywhere and for ever.
    pub fn of(name: impl Into<String>, role: Role) -> Self {
        Self {
            name: name.into(),
            roles: vec![role],
            grants: Grants::All,
            models: Grants::All,
            addresses: Vec::new(),
            expires_at_ms: None,
        }
    }

    /// What it may do.
    pub fn scopes(&self) -> Scopes {
        self.roles.iter().fold(Scopes::default(), |scopes, role| scopes.and(role.scopes()))
    }

    /// Whether whoever has a key of `other` terms may make, see or end one of these: it does nothing that theirs does
    /// not, nowhere else and no longer.
    fn are_within(&self, other: &Self) -> bool {
        let in_time = other.expires_at_ms.is_none_or(|end| self.expires_at_ms.is_some_and(|own_end| own_end <= end));
        let in_place = other.addresses.is_empty()
            || !self.addresses.is_empty()
                && self.addresses.iter().all(|range| other.addresses.iter().any(|around| around.contains(range)));
        let in_reach = other.grants.cover(&self.grants) && other.models.cover(&self.models);
        other.scopes().covers(self.scopes()) && in_reach && in_time && in_place
    }

    /// The same, ending with `other` and used where `other` is, unless they say something narrower.
    fn inheriting(mut self, other: &Self) -> Self {
        self.expires_at_ms = self.expires_at_ms.or(other.expires_at_ms);
        if self.addresses.is_empty() {
            self.addresses.clone_from(&other.addresses);
        }
        self
    }
}

impl Storage {
    /// Makes a key. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`StorageError::Forbidden`] for a key that may do more than who makes it; [`StorageError::TooManyKeys`].
    pub async fn create_key(&self, caller: &Caller, terms: KeyTerms) -> Result<(ApiKey, Secret), StorageError> {
        let secret = Secret::generate()?;
        let hash = Secret::hash(secret.reveal());
        let mut key = ApiKey {
            id: format!("key_{}", Uuid::now_v7().simple()),
            terms,
            created_at_ms: now_ms(),
            revoked_at_ms: None,
            last_used_at_ms: None,
            former_secret_until_ms: None,
        };
        let caller = caller.clone();
        let key = self
            .database
            .write(move |connection| {
                if let Some(maker) = maker(connection, &caller)? {
                    key.terms = key.terms.inheriting(&maker);
                    if !key.terms.are_within(&maker) {
                        return Err(StorageError::Forbidden { what: "make a key that may do more than its maker" });
                    }
                }
                forget_ended(connection)?;
                let count: usize = connection.query_row("SELECT count(*) FROM api_keys", [], |row| row.get(0))?;
                if count >= KEYS_MAX {
                    return Err(StorageError::TooManyKeys { limit: KEYS_MAX });
                }
                insert(connection, &key)?;
                insert_secret(connection, &key.id, &hash)?;
                Ok(key)
            })
            .await?;
        self.valid_keys.changed();
        Ok((key, secret))
    }

    /// The keys that the caller could have made, oldest first.
    pub fn keys(&self, caller: &Caller) -> Result<Vec<ApiKey>, StorageError> {
        self.database.read_snapshot(|connection| {
            let maker = maker(connection, caller)?;
            let mut statement = connection.prepare_cached(&format!("{KEY} ORDER BY k.id"))?;
            let mut keys = statement.query_map([], key_row)?.collect::<Result<Vec<_>, _>>()?;
            keys.retain(|key| maker.as_ref().is_none_or(|maker| key.terms.are_within(maker)));
            Ok(keys)
        })
    }

    /// Gives a key another secret. The former one is taken for so long.
    pub async fn rotate_key(
        &self,
        caller: &Caller,
        id: String,
        grace: Duration,
    ) -> Result<(ApiKey, Secret), StorageError> {
        let secret = Secret::generate()?;
        let hash = Secret::hash(secret.reveal());
        let until = present_ms().saturating_add(i64::try_from(grace.as_millis()).unwrap_or(i64::MAX));
        let caller = caller.clone();
        let key = self
            .database
            .write(move |connection| {
                let key = required(connection, &caller, &id)?;
                if key.revoked_at_ms.is_some() {
                    return Err(StorageError::NotFound { what: "key", name: id });
                }
                connection.execute(
                    "UPDATE api_key_secrets SET valid_until_ms = min(coalesce(valid_until_ms, ?2), ?2) WHERE key_id = ?1",
                    (&id, until),
                )?;
                connection.execute(
                    "DELETE FROM api_key_secrets WHERE key_id = ?1 AND valid_until_ms <= ?2",
                    (&id, present_ms()),
                )?;
                insert_secret(connection, &id, &hash)?;
                connection.execute(
                    "DELETE FROM api_key_secrets WHERE key_id = ?1 AND secret_hash NOT IN (
                         SELECT secret_hash FROM api_key_secrets WHERE key_id = ?1
                         ORDER BY valid_until_ms IS NOT NULL, valid_until_ms DESC LIMIT ?2)",
                    (&id, SECRETS_MAX),
                )?;
                required(connection, &caller, &id)
            })
            .await?;
        self.valid_keys.changed();
        Ok((key, secret))
    }

    /// Revokes a key, from now on.
    pub async fn revoke_key(&self, caller: &Caller, id: String) -> Result<(), StorageError> {
        let caller = caller.clone();
        self.database
            .write(move |connection| {
                required(connection, &caller, &id)?;
                connection.execute(
                    "UPDATE api_keys SET revoked_at_ms = coalesce(revoked_at_ms, ?2) WHERE id = ?1",
                    (&id, now_ms()),
                )?;
                Ok(())
            })
            .await?;
        self.valid_keys.changed();
        Ok(())
    }

    /// Whether anybody could come in over the network: there is a key that is neither revoked nor expired.
    pub fn has_valid_key(&self) -> Result<bool, StorageError> {
        self.database.read(|connection| {
            let valid = "SELECT EXISTS (SELECT 1 FROM api_keys
                 WHERE revoked_at_ms IS NULL AND (expires_at_ms IS NULL OR expires_at_ms > ?1))";
            Ok(connection.prepare_cached(valid)?.query_row([present_ms()], |row| row.get(0))?)
        })
    }

    /// Whom a secret belongs to that came from an address.
    pub fn authenticate(&self, secret: &str, address: Option<IpAddr>) -> Result<Authentication, StorageError> {
        self.valid_keys.find_or_read(&Secret::hash(secret), address, || self.database.read_snapshot(entries))
    }

    /// The same without ever waiting for the disk; nothing where it would have to.
    pub fn authenticate_at_once(&self, secret: &str, address: Option<IpAddr>) -> Option<Authentication> {
        self.valid_keys.find(&Secret::hash(secret), address)
    }

    /// Writes down which keys were used since the last time. To be called now and then.
    pub async fn note_used_keys(&self) -> Result<(), StorageError> {
        let used = self.valid_keys.take_used();
        if used.is_empty() {
            return Ok(());
        }
        self.database
            .write(move |connection| {
                let mut statement = connection.prepare_cached(
                    "UPDATE api_keys SET last_used_at_ms = max(coalesce(last_used_at_ms, 0), ?2) WHERE id = ?1",
                )?;
                for (id, at) in &used {
                    statement.execute((id, at))?;
                }
                Ok(())
            })
            .await
    }
}

/// Unix milliseconds of a moment, for [`KeyTerms::expires_at_ms`].
pub fn unix_ms(at: SystemTime) -> i64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The terms of the caller's own key, which bound what they may make; the owner has none. A key that was revoked a moment
/// ago makes no other key.
fn maker(connection: &Connection, caller: &Caller) -> Result<Option<KeyTerms>, StorageError> {
    if caller.is_owner() {
        return Ok(None);
    }
    let standing = connection
        .prepare_cached(&format!("{KEY} WHERE k.id = ?1 AND k.revoked_at_ms IS NULL"))?
        .query_row([caller.id()], key_row)
        .optional()?;
    match standing {
        Some(key) if key.terms.expires_at_ms.is_none_or(|at| at > present_ms()) => Ok(Some(key.terms)),
        _ => Err(StorageError::Forbidden { what: "manage keys with a key that is revoked or expired" }),
    }
}

/// The key of that id, if the caller could have made it.
fn required(connection: &Connection, caller: &Caller, id: &str) -> Result<ApiKey, StorageError> {
    let maker = maker(connection, caller)?;
    connection
        .prepare_cached(&format!("{KEY} WHERE k.id = ?1"))?
        .query_row([id], key_row)
        .optional()?
        .filter(|key| maker.as_ref().is_none_or(|maker| key.terms.are_within(maker)))
        .ok_or_else(|| StorageError::NotFound { what: "key", name: id.to_owned() })
}

fn insert(connection: &Connection, key: &ApiKey) -> Result<(), StorageError> {
    let KeyTerms { name, roles, grants, models, addresses, expires_at_ms } = &key.terms;
    let roles: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
    let addresses = (!addresses.is_empty()).then(|| addresses.iter().map(IpNet::to_string).collect::<Vec<_>>());
    connection.execute(
        "INSERT INTO api_keys (id, name, roles, collections, models, addresses, created_at_ms, expires_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        (
            &key.id,
            name,
            json(&roles),
            grants.parameter(),
            models.parameter(),
            addresses.map(|a| json(&a)),
            key.created_at_ms,
            expires_at_ms,
        ),
    )?;
    Ok(())
}

fn insert_secret(connection: &Connection, id: &str, hash: &blake3::Hash) -> Result<(), StorageError> {
    connection.execute(
        "INSERT INTO api_key_secrets (secret_hash, key_id, created_at_ms) VALUES (?1, ?2, ?3)",
        (hash.as_bytes().as_slice(), id, now_ms()),
    )?;
    Ok(())
}

/// Keys whose time was over long ago are of no interest to anybody.
fn forget_ended(connection: &Connection) -> Result<(), StorageError> {
    connection.execute(
        "DELETE FROM api_keys WHERE min(coalesce(revoked_at_ms, expires_at_ms), coalesce(expires_at_ms, revoked_at_ms)) < ?1",
        [now_ms().saturating_sub(ENDED_KEPT_MS)],
    )?;
    Ok(())
}

const KEY: &str = "SELECT k.id, k.name, k.roles, k.collections, k.addresses, k.created_at_ms, k.expires_at_ms,
        k.revoked_at_ms, k.last_used_at_ms,
        (SELECT max(s.valid_until_ms) FROM api_key_secrets s WHERE s.key_id = k.id), k.models
    FROM api_keys k";

fn key_row(row: &Row<'_>) -> rusqlite::Result<ApiKey> {
    let [collections, models]: [Option<Vec<String>>; 2] = [list(row, 3)?, list(row, 10)?];
    let roles: Vec<String> = list(row, 2)?.unwrap_or_default();
    Ok(ApiKey {
        id: row.get(0)?,
        terms: KeyTerms {
            name: row.get(1)?,
            // A role that a newer version knows stands for nothing here.
            roles: roles.iter().filter_map(|word| Role::parse(word)).collect(),
            grants: collections.map_or(Grants::All, Grants::only),
            models: models.map_or(Grants::All, Grants::only),
            addresses: list(row, 4)?.unwrap_or_default(),
            expires_at_ms: row.get(6)?,
        },
        created_at_ms: row.get(5)?,
        revoked_at_ms: row.get(7)?,
        last_used_at_ms: row.get(8)?,
        former_secret_until_ms: row.get::<_, Option<i64>>(9)?.filter(|until| *until > present_ms()),
    })
}

/// Every secret's key, those that are no longer valid included: whoever holds one is told why it is not taken.
fn entries(connection: &Connection) -> Result<Entries, StorageError> {
    let mut statement = connection.prepare_cached(&KEY.replace(
        "FROM api_keys k",
        ", s.secret_hash, s.valid_until_ms FROM api_keys k JOIN api_key_secrets s ON s.key_id = k.id",
    ))?;
    let rows = statement.query_map([], |row| {
        let key = key_row(row)?;
        let entry = Entry {
            is_revoked: key.revoked_at_ms.is_some(),
            valid_until_ms: row.get(12)?,
            expires_at_ms: key.terms.expires_at_ms,
            addresses: Arc::from(key.terms.addresses.as_slice()),
            caller: Caller::key(key.id, key.terms),
        };
        Ok((blake3::Hash::from_bytes(row.get(11)?), entry))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn json(list: &impl Serialize) -> String {
    // Lists of words always have a JSON form.
    serde_json::to_string(list).unwrap_or_default()
}

fn list<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| {
        serde_json::from_str(&text).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
        })
    })
    .transpose()
}
