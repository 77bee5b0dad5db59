//! Sessions: conversations that go on over several turns, with what was said, what was looked up, and a summary of what
//! has become too long.
//!
//! Only its owner finds a session, and one that has expired is found by nobody. An owner has at most
//! [`SESSIONS_PER_OWNER_MAX`]; beyond them the one that was left alone longest goes. A session has at most
//! [`MESSAGES_MAX`] messages of [`SESSION_BYTES_MAX`] bytes; beyond them those go that its summary tells of, and when none
//! is left of these it takes no more.

use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use crate::{
    Caller, Storage,
    error::{PutError, StorageError},
    keys::present_ms,
};

/// Sessions of one owner.
pub const SESSIONS_PER_OWNER_MAX: usize = 1_000;
/// Messages that are kept of one session.
pub const MESSAGES_MAX: usize = 4_096;
/// Bytes that those may have.
pub const SESSION_BYTES_MAX: u64 = 8 << 20;
/// Bytes that a summary may have.
pub const SUMMARY_BYTES_MAX: usize = 256 << 10;
/// Passages of one session that are remembered as sent; the oldest are forgotten first.
pub const PASSAGES_MAX: usize = 4_096;
/// Bytes that an id may have.
pub const SESSION_ID_BYTES_MAX: usize = 128;
/// Sessions that have expired and are removed in one transaction.
const EXPIRED_PER_COMMIT: usize = 200;

/// A session as it is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The row; grows with every session, so lists continue from it.
    pub number: i64,
    /// Its id, unique among its owner's.
    pub id: String,
    /// The id of the caller whose it is.
    pub owner: String,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// When it had its last turn; Unix milliseconds.
    pub used_at_ms: i64,
    /// From when on it is gone; Unix milliseconds.
    pub expires_at_ms: i64,
    /// Turns it had.
    pub turns: u64,
    /// The number of its last message; they count from 1.
    pub messages: u64,
    /// Messages up to this one are no longer kept; 0 where all are.
    pub gone_up_to: u64,
    /// Bytes of the messages that are kept.
    pub size_bytes: u64,
    /// What was said in its first messages.
    pub summary: Option<String>,
    /// The last message that the summary tells of; 0 where there is none.
    pub summarised_up_to: u64,
}

/// A message of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionMessage {
    /// Its place in the session, from 1.
    pub number: u64,
    /// What was said.
    pub message: NewMessage,
}

/// Something said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// By whom: `system`, `user`, `assistant`, `tool`.
    pub role: String,
    /// What; JSON.
    pub body: String,
    /// Tokens it has.
    pub tokens: u64,
}

/// A passage that was sent to a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SentPassage {
    /// The chunk it is of.
    pub chunk_id: String,
    /// BLAKE3 of its text: a chunk whose text has changed was not sent.
    pub content_hash: [u8; 32],
}

/// What one turn adds to a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionTurn {
    /// Turns the session had when this one began.
    pub expected_turns: u64,
    /// What was said, in order.
    pub messages: Vec<NewMessage>,
    /// What was looked up and sent.
    pub sent: Vec<SentPassage>,
    /// From when on the session is gone now; Unix milliseconds.
    pub expires_at_ms: i64,
}

/// Why nothing came of something about a session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The caller has no such session, or it expired.
    #[error("there is no such session")]
    NotFound,

    /// Another turn got in between.
    #[error("the session has had {found} turns, not {expected}")]
    Conflict {
        /// The turns it was expected to have had.
        expected: u64,
        /// The turns it has had.
        found: u64,
    },

    /// It has as many messages or bytes as it may.
    #[error("the session is full: {MESSAGES_MAX} messages of {SESSION_BYTES_MAX} bytes are kept")]
    Full,

    /// A part of what was given makes no sense.
    #[error("{field} {problem}")]
    Invalid {
        /// The part.
        field: &'static str,
        /// What is wrong with it, continuing the sentence.
        problem: &'static str,
    },

    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<rusqlite::Error> for SessionError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(error.into())
    }
}

impl From<PutError> for SessionError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Invalid { field, problem } => Self::Invalid { field, problem },
            PutError::TooMany { .. } => Self::Full,
            PutError::Storage(error) => Self::Storage(error),
        }
    }
}

impl Storage {
    /// The caller's session of that id; made, where there is none. Without an id it is a new one.
    pub async fn open_session(
        &self,
        caller: &Caller,
        id: Option<String>,
        expires_at_ms: i64,
    ) -> Result<Session, SessionError> {
        let id = id.unwrap_or_else(|| format!("ses_{}", Uuid::now_v7().simple()));
        PutError::check_name("session", &id, SESSION_ID_BYTES_MAX)?;
        let owner = caller.id().to_owned();
        self.write_session(move |connection| {
            match find(connection, &owner, &id) {
                Err(SessionError::NotFound) => {}
                found_or_failed => return found_or_failed,
            }
            // One that has expired may still lie there.
            connection.execute("DELETE FROM sessions WHERE owner = ?1 AND id = ?2", (&owner, &id))?;
            make_room(connection, &owner)?;
            connection.execute(
                "INSERT INTO sessions (owner, id, created_at_ms, used_at_ms, expires_at_ms)
                 VALUES (?1, ?2, ?3, ?3, ?4)",
                (&owner, &id, present_ms(), expires_at_ms),
            )?;
            by_number(connection, connection.last_insert_rowid())
        })
        .await
    }

    /// The caller's session of that id.
    pub fn session(&self, caller: &Caller, id: &str) -> Result<Session, SessionError> {
        self.read_session(|connection| find(connection, caller.id(), id))
    }

    /// The caller's sessions, newest first, made before the one of that number.
    pub fn sessions(&self, caller: &Caller, before: Option<i64>, limit: usize) -> Result<Vec<Session>, StorageError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "{SESSION} WHERE owner = ?1 AND expires_at_ms > ?2 AND number < ?3 ORDER BY number DESC LIMIT ?4"
            ))?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let given = (caller.id(), present_ms(), before.unwrap_or(i64::MAX), limit);
            let rows = statement.query_map(given, session_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// The messages of a session after a number, in order.
    pub fn session_messages(
        &self,
        caller: &Caller,
        id: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<SessionMessage>, SessionError> {
        self.read_session(|connection| {
            let session = find(connection, caller.id(), id)?;
            let mut statement = connection.prepare_cached(
                "SELECT number, role, body, tokens FROM session_messages
                 WHERE session = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map((session.number, column(after), limit), |row| {
                let message = NewMessage { role: row.get(1)?, body: row.get(2)?, tokens: row.get(3)? };
                Ok(SessionMessage { number: row.get(0)?, message })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// The passages that were sent in a session, those of the last turn first.
    pub fn sent_passages(&self, caller: &Caller, id: &str) -> Result<Vec<SentPassage>, SessionError> {
        self.read_session(|connection| {
            let session = find(connection, caller.id(), id)?;
            let mut statement = connection.prepare_cached(
                "SELECT chunk_id, content_hash FROM session_passages
                 WHERE session = ?1 ORDER BY turn DESC, chunk_id, content_hash",
            )?;
            let rows = statement.query_map([session.number], |row| {
                Ok(SentPassage { chunk_id: row.get(0)?, content_hash: row.get(1)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Adds a turn to a session, in one piece.
    ///
    /// # Errors
    /// [`SessionError::Conflict`] where another turn got in between; nothing is added then.
    pub async fn append_turn(&self, caller: &Caller, id: &str, turn: SessionTurn) -> Result<Session, SessionError> {
        let (owner, id) = (caller.id().to_owned(), id.to_owned());
        self.write_session(move |connection| {
            let session = find(connection, &owner, &id)?;
            if session.turns != turn.expected_turns {
                return Err(SessionError::Conflict { expected: turn.expected_turns, found: session.turns });
            }
            append(connection, &session, &turn)?;
            by_number(connection, session.number)
        })
        .await
    }

    /// Gives a session a summary of its messages up to a number, instead of the one it has. Passages that were sent before
    /// its last turn count as not sent from then on.
    ///
    /// # Errors
    /// [`SessionError::Invalid`] where there is no such message, or a summary that tells of as much.
    pub async fn summarise_session(
        &self,
        caller: &Caller,
        id: &str,
        up_to: u64,
        text: String,
    ) -> Result<Session, SessionError> {
        let (owner, id) = (caller.id().to_owned(), id.to_owned());
        if text.len() > SUMMARY_BYTES_MAX {
            return Err(SessionError::Invalid { field: "summary", problem: "is too long" });
        }
        self.write_session(move |connection| {
            let session = find(connection, &owner, &id)?;
            if up_to <= session.summarised_up_to || up_to > session.messages {
                return Err(SessionError::Invalid {
                    field: "up_to",
                    problem: "is not a message that has no summary yet",
                });
            }
            connection.execute(
                "UPDATE sessions SET summary = ?2, summarised_up_to = ?3 WHERE number = ?1",
                (session.number, text, column(up_to)),
            )?;
            // What was sent with those messages may be sent again: the model no longer has it.
            connection.execute(
                "DELETE FROM session_passages WHERE session = ?1 AND turn < ?2",
                (session.number, column(session.turns)),
            )?;
            by_number(connection, session.number)
        })
        .await
    }

    /// Removes a session with all that was said.
    pub async fn remove_session(&self, caller: &Caller, id: &str) -> Result<(), SessionError> {
        let (owner, id) = (caller.id().to_owned(), id.to_owned());
        self.write_session(move |connection| {
            let session = find(connection, &owner, &id)?;
            connection.execute("DELETE FROM sessions WHERE number = ?1", [session.number])?;
            Ok(())
        })
        .await
    }

    /// Removes the sessions that have expired at a moment, and returns how many that were. To be called now and then.
    pub async fn remove_expired_sessions(&self, now_ms: i64) -> Result<usize, StorageError> {
        let mut removed = 0;
        loop {
            // In small parts, so that no turn has to wait long.
            let some = self
                .database
                .write(move |connection| {
                    Ok(connection
                        .prepare_cached(
                            "DELETE FROM sessions WHERE number IN (
                                 SELECT number FROM sessions WHERE expires_at_ms <= ?1 LIMIT ?2)",
                        )?
                        .execute((now_ms, EXPIRED_PER_COMMIT))?)
                })
                .await?;
            removed += some;
            if some < EXPIRED_PER_COMMIT {
                return Ok(removed);
            }
        }
    }

    /// How many sessions are kept, of all owners, and bytes of their messages.
    pub fn session_totals(&self) -> Result<(u64, u64), StorageError> {
        self.database.read(|connection| {
            let totals = "SELECT count(*), coalesce(sum(size_bytes), 0) FROM sessions";
            Ok(connection.prepare_cached(totals)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?)
        })
    }

    fn read_session<T>(&self, body: impl FnOnce(&Connection) -> Result<T, SessionError>) -> Result<T, SessionError> {
        self.database.read_snapshot(|connection| Ok(body(connection)))?
    }

    /// A write whose own refusals leave nothing behind: they come before anything is changed, or as an error of the
    /// storage, which reverts it.
    async fn write_session<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Connection) -> Result<T, SessionError> + Send + 'static,
    ) -> Result<T, SessionError> {
        let write = move |connection: &Connection| match body(connection) {
            Err(SessionError::Storage(error)) => Err(error),
            refused_or_done => Ok(refused_or_done),
        };
        self.database.write(write).await?
    }
}

/// What is kept of a session's messages.
#[derive(Clone, Copy)]
struct Kept {
    gone_up_to: u64,
    size_bytes: u64,
}

/// Adds a turn, after looking whether it fits.
fn append(connection: &Connection, session: &Session, turn: &SessionTurn) -> Result<(), SessionError> {
    let bytes: u64 = turn.messages.iter().map(|message| (message.body.len() + message.role.len()) as u64).sum();
    let kept = make_room_in(connection, session, turn.messages.len() as u64, bytes)?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO session_messages (session, number, role, body, tokens) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let mut number = session.messages;
    for message in &turn.messages {
        number += 1;
        insert.execute((session.number, column(number), &message.role, &message.body, column(message.tokens)))?;
    }
    let mut remember = connection.prepare_cached("INSERT OR REPLACE INTO session_passages VALUES (?1, ?2, ?3, ?4)")?;
    for passage in &turn.sent {
        let hash = passage.content_hash.as_slice();
        remember.execute((session.number, &passage.chunk_id, hash, column(session.turns + 1)))?;
    }
    if !turn.sent.is_empty() {
        forget_passages(connection, session.number)?;
    }
    let size_bytes = column(kept.size_bytes + bytes);
    connection
        .prepare_cached(
            "UPDATE sessions SET turns = turns + 1, messages = ?2, gone_up_to = ?3, size_bytes = ?4, used_at_ms = ?5,
                 expires_at_ms = ?6
             WHERE number = ?1",
        )?
        .execute((
            session.number,
            column(number),
            column(kept.gone_up_to),
            size_bytes,
            present_ms(),
            turn.expires_at_ms,
        ))?;
    Ok(())
}

/// Makes room for so many messages of so many bytes. Where they do not fit beside all that are kept, those go that the
/// summary tells of.
fn make_room_in(connection: &Connection, session: &Session, count: u64, bytes: u64) -> Result<Kept, SessionError> {
    let fits = |kept: Kept| {
        session.messages - kept.gone_up_to + count <= MESSAGES_MAX as u64
            && kept.size_bytes.saturating_add(bytes) <= SESSION_BYTES_MAX
    };
    let all = Kept { gone_up_to: session.gone_up_to, size_bytes: session.size_bytes };
    if fits(all) {
        return Ok(all);
    }
    let size = "SELECT coalesce(sum(length(CAST(body AS BLOB)) + length(CAST(role AS BLOB))), 0)
        FROM session_messages WHERE session = ?1 AND number > ?2";
    let size_bytes = connection
        .prepare_cached(size)?
        .query_row((session.number, column(session.summarised_up_to)), |row| row.get(0))?;
    let rest = Kept { gone_up_to: session.summarised_up_to.max(session.gone_up_to), size_bytes };
    if !fits(rest) {
        return Err(SessionError::Full);
    }
    connection
        .prepare_cached("DELETE FROM session_messages WHERE session = ?1 AND number <= ?2")?
        .execute((session.number, column(rest.gone_up_to)))?;
    Ok(rest)
}

/// Forgets the passages that were sent longest ago.
fn forget_passages(connection: &Connection, session: i64) -> Result<(), StorageError> {
    let count: usize = connection
        .prepare_cached("SELECT count(*) FROM session_passages WHERE session = ?1")?
        .query_row([session], |row| row.get(0))?;
    if let Some(too_many) = count.checked_sub(PASSAGES_MAX).filter(|count| *count > 0) {
        connection
            .prepare_cached(
                "DELETE FROM session_passages WHERE session = ?1 AND (chunk_id, content_hash) IN (
                     SELECT chunk_id, content_hash FROM session_passages WHERE session = ?1 ORDER BY turn LIMIT ?2)",
            )?
            .execute((session, too_many))?;
    }
    Ok(())
}

/// Removes the owner's sessions that were left alone longest, if there is no room for another.
fn make_room(connection: &Connection, owner: &str) -> Result<(), StorageError> {
    connection
        .prepare_cached(
            "DELETE FROM sessions WHERE number IN (
                 SELECT number FROM sessions WHERE owner = ?1 ORDER BY used_at_ms DESC, number DESC
                 LIMIT -1 OFFSET ?2)",
        )?
        .execute((owner, SESSIONS_PER_OWNER_MAX - 1))?;
    Ok(())
}

const SESSION: &str = "SELECT number, id, owner, created_at_ms, used_at_ms, expires_at_ms, turns, messages,
        gone_up_to, size_bytes, summary, summarised_up_to
    FROM sessions";

/// An owner's session that has not expired.
fn find(connection: &Connection, owner: &str, id: &str) -> Result<Session, SessionError> {
    connection
        .prepare_cached(&format!("{SESSION} WHERE owner = ?1 AND id = ?2 AND expires_at_ms > ?3"))?
        .query_row((owner, id, present_ms()), session_row)
        .optional()?
        .ok_or(SessionError::NotFound)
}

fn by_number(connection: &Connection, number: i64) -> Result<Session, SessionError> {
    Ok(connection.prepare_cached(&format!("{SESSION} WHERE number = ?1"))?.query_row([number], session_row)?)
}

fn session_row(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        number: row.get(0)?,
        id: row.get(1)?,
        owner: row.get(2)?,
        created_at_ms: row.get(3)?,
        used_at_ms: row.get(4)?,
        expires_at_ms: row.get(5)?,
        turns: row.get(6)?,
        messages: row.get(7)?,
        gone_up_to: row.get(8)?,
        size_bytes: row.get(9)?,
        summary: row.get(10)?,
        summarised_up_to: row.get(11)?,
    })
}

/// A number as a column; SQLite has none larger.
fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
