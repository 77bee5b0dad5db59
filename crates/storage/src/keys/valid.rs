//! The keys that were made, kept for a moment: every request asks.
//!
//! A change ends what is kept at once. Whether a key may be used is judged at each request: what expires does so on time,
//! not when it is read again.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use ipnet::IpNet;

use crate::{Caller, error::StorageError, now_ms};

/// How long what was read of the keys is kept. A change ends it at once; this bounds how long one holds whose caller went
/// away before the change was done.
const KEPT: Duration = Duration::from_millis(500);

/// What came of looking a secret up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// It is a key's.
    Granted(Caller),
    /// It is not, or not here and now.
    Refused(Refusal),
}

/// Why a secret lets nobody in. Told only to whoever holds the secret; to all others it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No key has it.
    Unknown,
    /// Its key was revoked, or it was replaced and its time is over.
    Revoked,
    /// Its key's time is over.
    Expired,
    /// Its key may not be used from this address.
    ElsewhereOnly,
}

/// A secret's key.
#[derive(Debug)]
pub(super) struct Entry {
    pub caller: Caller,
    pub is_revoked: bool,
    pub valid_until_ms: Option<i64>,
    pub expires_at_ms: Option<i64>,
    pub addresses: Arc<[IpNet]>,
}

/// Each secret's key, by the secret's hash, which compares in constant time.
pub(super) type Entries = HashMap<blake3::Hash, Entry>;

#[derive(Default)]
pub(crate) struct ValidKeys {
    valid: Mutex<Valid>,
    /// Held by the one who reads them anew.
    reading: Mutex<()>,
    /// When each key was used last, until that is written down; there are never more than there are keys.
    used: Mutex<HashMap<String, i64>>,
}

#[derive(Default)]
struct Valid {
    /// What was read, and when.
    read: Option<(Instant, Entries)>,
    /// How often they changed: what was read before the last change is not kept.
    changes: u64,
}

impl ValidKeys {
    pub(super) fn changed(&self) {
        let mut valid = self.lock();
        valid.read = None;
        valid.changes += 1;
    }

    /// Whom a secret belongs to, where what was read is fresh enough to tell.
    pub(super) fn find(&self, secret: &blake3::Hash, address: Option<IpAddr>) -> Option<Authentication> {
        let valid = self.lock();
        let (_, entries) = valid.read.as_ref().filter(|(at, _)| at.elapsed() < KEPT)?;
        let found = judge(entries.get(secret), address);
        drop(valid);
        self.note(&found);
        Some(found)
    }

    /// The same, after reading where that has to be done. Whoever comes meanwhile waits for it.
    pub(super) fn find_or_read(
        &self,
        secret: &blake3::Hash,
        address: Option<IpAddr>,
        read: impl Fn() -> Result<Entries, StorageError>,
    ) -> Result<Authentication, StorageError> {
        // Nothing is in disorder after a panic: there is nothing inside.
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = self.find(secret, address) {
            return Ok(found);
        }
        let changes = self.lock().changes;
        let now = Instant::now();
        let entries = read()?;
        let found = judge(entries.get(secret), address);
        let mut valid = self.lock();
        if valid.changes == changes {
            valid.read = Some((now, entries));
        }
        drop(valid);
        self.note(&found);
        Ok(found)
    }

    /// When keys were used since this was asked last.
    pub(super) fn take_used(&self) -> Vec<(String, i64)> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).drain().collect()
    }

    fn note(&self, found: &Authentication) {
        let Authentication::Granted(caller) = found else { return };
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = used.get_mut(caller.id()) {
            *at = now_ms();
        } else {
            used.insert(caller.id().to_owned(), now_ms());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Valid> {
        // Nothing panics while holding the lock.
        self.valid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn judge(entry: Option<&Entry>, address: Option<IpAddr>) -> Authentication {
    // Asked for an unknown one too: what is refused has taken the same work.
    let now = present_ms();
    let Some(entry) = entry else { return Authentication::Refused(Refusal::Unknown) };
    let refusal = if entry.is_revoked || entry.valid_until_ms.is_some_and(|until| until <= now) {
        Refusal::Revoked
    } else if entry.expires_at_ms.is_some_and(|until| until <= now) {
        Refusal::Expired
    } else if !is_within(&entry.addresses, address) {
        Refusal::ElsewhereOnly
    } else {
        return Authentication::Granted(entry.caller.clone());
    };
    Authentication::Refused(refusal)
}

/// Whether a key of these addresses may be used from this one. An IPv4 address is the same one when written as IPv6.
fn is_within(addresses: &[IpNet], address: Option<IpAddr>) -> bool {
    addresses.is_empty()
        || address.is_some_and(|address| {
            let address = address.to_canonical();
            addresses.iter().any(|range| range.contains(&address))
        })
}

/// The time by the system's clock, but never less than the latest that this process has seen and what has passed since: a
/// clock that is set back brings no expired key back to life. One that was wrong and ahead is believed until the next
/// start; that locks out keys which expire, and lets nobody in.
pub(crate) fn present_ms() -> i64 {
    static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
    static LATEST: Latest = Latest::new();
    LazyLock::force(&BEGINNING);
    // The system's clock first: a thread that is held up between the two then says too little, which the latest that was
    // seen makes up for. The other way round it would say too much, for all the time to come.
    let now_ms = now_ms();
    LATEST.no_earlier(now_ms, BEGINNING.elapsed())
}

/// The latest time that was seen.
struct Latest {
    /// By how much the system's clock was ahead of a steady one, at the most; in milliseconds.
    ahead_ms: AtomicI64,
}

impl Latest {
    const fn new() -> Self {
        Self { ahead_ms: AtomicI64::new(i64::MIN) }
    }

    /// The time, given what the system's clock says and what a steady one does.
    fn no_earlier(&self, now_ms: i64, steady: Duration) -> i64 {
        let steady_ms = i64::try_from(steady.as_millis()).unwrap_or(i64::MAX);
        let ahead_ms = now_ms.saturating_sub(steady_ms);
        let ahead_ms = self.ahead_ms.fetch_max(ahead_ms, Ordering::Relaxed).max(ahead_ms);
        steady_ms.saturating_add(ahead_ms)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::{super::Secret, *};
    use crate::{Role, keys::KeyTerms};

    fn entry() -> Entry {
        Entry {
            caller: Caller::key("key_1".to_owned(), KeyTerms::of("one", Role::Admin)),
            is_revoked: false,
            valid_until_ms: None,
            expires_at_ms: None,
            addresses: Arc::default(),
        }
    }

    fn refusal(entry: &Entry, address: Option<&str>) -> Option<Refusal> {
        match judge(Some(entry), address.map(|text| text.parse().unwrap())) {
            Authentication::Granted(_) => None,
            Authentication::Refused(refusal) => Some(refusal),
        }
    }

    #[test]
    fn a_key_is_judged_by_time_and_place() {
        let (past, future) = (present_ms() - 1, present_ms() + 60_000);
        assert_eq!(refusal(&entry(), None), None);
        assert_eq!(refusal(&Entry { is_revoked: true, ..entry() }, None), Some(Refusal::Revoked));
        assert_eq!(refusal(&Entry { valid_until_ms: Some(past), ..entry() }, None), Some(Refusal::Revoked));
        assert_eq!(refusal(&Entry { valid_until_ms: Some(future), ..entry() }, None), None);
        assert_eq!(refusal(&Entry { expires_at_ms: Some(past), ..entry() }, None), Some(Refusal::Expired));
        assert_eq!(refusal(&Entry { expires_at_ms: Some(future), ..entry() }, None), None);
        let ranges = ["10.1.0.0/16", "fd00::/8"].map(|range| range.parse().unwrap());
        let local = Entry { addresses: Arc::new(ranges), ..entry() };
        for inside in ["10.1.2.3", "::ffff:10.1.2.3", "fd12::1"] {
            assert_eq!(refusal(&local, Some(inside)), None, "{inside}");
        }
        for outside in [Some("10.2.0.1"), Some("::1"), Some("::ffff:10.2.0.1"), None] {
            assert_eq!(refusal(&local, outside), Some(Refusal::ElsewhereOnly), "{outside:?}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_revives_nothing() {
        const HOUR_MS: i64 = 3_600_000;
        let (noon, hour) = (1_800_000_000_000, Duration::from_secs(3_600));
        let latest = Latest::new();
        assert_eq!(latest.no_earlier(noon, Duration::ZERO), noon);
        assert_eq!(latest.no_earlier(noon + HOUR_MS, hour), noon + HOUR_MS, "the clock runs as it should");
        assert_eq!(latest.no_earlier(noon, hour), noon + HOUR_MS, "it was set back by an hour");
        assert_eq!(latest.no_earlier(noon + 3 * HOUR_MS, hour), noon + 3 * HOUR_MS, "it was set forward");
        // A key that ended meanwhile was refused once, and stays refused.
        assert_eq!(latest.no_earlier(noon + 2 * HOUR_MS, hour * 2), noon + 4 * HOUR_MS, "it was set back from there");
        assert_eq!(latest.no_earlier(0, Duration::MAX), i64::MAX);
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept() {
        let keys = ValidKeys::default();
        let secret = Secret::hash("hf_1");
        let entries = || Entries::from([(secret, entry())]);
        let revoked_meanwhile = || {
            keys.changed();
            Ok(entries())
        };
        // Who asked before the revocation was done may be let in; nobody after it is.
        let found = keys.find_or_read(&secret, None, revoked_meanwhile).unwrap();
        assert!(matches!(found, Authentication::Granted(_)));
        assert_eq!(keys.find(&secret, None), None);
        let unknown = Authentication::Refused(Refusal::Unknown);
        assert_eq!(keys.find_or_read(&secret, None, || Ok(Entries::new())).unwrap(), unknown);
        assert_eq!(keys.find(&secret, None), Some(unknown), "now it is known");
        assert_eq!(keys.take_used().len(), 1);
        assert_eq!(keys.take_used(), []);
    }

    #[test]
    fn those_who_ask_at_once_share_one_reading() {
        let keys = ValidKeys::default();
        let (readings, secret) = (AtomicUsize::new(0), Secret::hash("hf_1"));
        let read = || {
            readings.fetch_add(1, Ordering::SeqCst);
            Ok(Entries::from([(secret, entry())]))
        };
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| keys.find_or_read(&secret, None, read).unwrap());
            }
        });
        assert_eq!(readings.into_inner(), 1);
    }
}
