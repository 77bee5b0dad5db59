//! How much each key and each client address may have done: requests, texts, and requests at once.
//!
//! A request that is let in is charged to its key and its address, and gets a [`Meter`] to which a handler charges the
//! texts that the request turns out to have. What is refused over a limit is not charged; what a
//! key may not do is. A request without a valid key is charged to
//! nobody: it has a count of its own for each address ([`Limits::failed`]), so that whoever tries keys uses up nothing of
//! those who have one. The owner at the control socket is not limited, and probes do not come here.
//!
//! Memory is bounded by the buckets that are kept ([`ADDRESSES_MAX`]). Nothing here waits.

mod headers;

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use axum::{
    extract::FromRequestParts,
    http::request::Parts,
    response::{IntoResponse, Response},
};
use holdfast_resilience::{
    rate::{Exhausted, Quota, RateLimiter},
    shares::{Share, Shares},
};
use holdfast_storage::{Caller, keys::KEYS_MAX};

pub(crate) use self::headers::Standings;
use crate::{
    Server, ServerError,
    error::{Code, Failure, seconds},
    face::Face,
    forwarded::network,
    tally::Tally,
};

/// Addresses that have buckets of their own at a time; about 100 bytes each.
const ADDRESSES_MAX: usize = 1 << 16;
/// Keys that have: those there can be, and as many that were removed a moment ago.
const KEY_BUCKETS_MAX: usize = 2 * KEYS_MAX;
/// A text is as many texts as it has pieces of so many bytes: what a model reads at a time, about.
const TEXT_BYTES: usize = 1_024;
/// When to come again where that depends on other requests.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// How much everybody may have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Whether any of these hold.
    pub enabled: bool,
    /// Requests of a key.
    pub key_requests: Rate,
    /// Requests of a client address, with whatever keys.
    pub address_requests: Rate,
    /// Texts that a key has embedded, searched for or stored; each KiB of a longer one counts.
    pub key_texts: Rate,
    /// The same of a client address.
    pub address_texts: Rate,
    /// Requests of a key at once.
    pub key_concurrent_requests: usize,
    /// Requests without a valid key that are told why in a minute, of a client address.
    pub failed_keys_per_minute: u32,
}

/// How often, and how much of it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In a second, for ever.
    pub per_second: u32,
    /// At once, after a while without.
    pub burst: u64,
}

impl Default for LimitsConfig {
    /// Several times what one busy person can have this program do.
    fn default() -> Self {
        Self {
            enabled: true,
            key_requests: Rate { per_second: 10_000, burst: 50_000 },
            address_requests: Rate { per_second: 20_000, burst: 100_000 },
            key_texts: Rate { per_second: 100_000, burst: 1_000_000 },
            address_texts: Rate { per_second: 200_000, burst: 2_000_000 },
            key_concurrent_requests: 192,
            failed_keys_per_minute: 60,
        }
    }
}

impl LimitsConfig {
    pub(crate) fn check(&self) -> Result<(), ServerError> {
        let rates = [
            ("limits.key_requests", self.key_requests),
            ("limits.address_requests", self.address_requests),
            ("limits.key_texts", self.key_texts),
            ("limits.address_texts", self.address_texts),
        ];
        let rates = rates.into_iter().map(|(setting, rate)| (setting, rate.quota().is_none()));
        let counts = [
            ("limits.key_concurrent_requests", self.key_concurrent_requests == 0),
            ("limits.failed_keys_per_minute", self.failed_keys_per_minute == 0),
        ];
        match rates.chain(counts).find(|(_, is_wrong)| *is_wrong) {
            Some((setting, _)) => Err(ServerError::Config { setting, expected: "at least 1" }),
            None => Ok(()),
        }
    }
}

impl Rate {
    fn quota(self) -> Option<Quota> {
        Quota::new(self.per_second, Duration::from_secs(1), self.burst)
    }
}

/// One of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    KeyRequests,
    AddressRequests,
    KeyTexts,
    AddressTexts,
    KeyConcurrency,
    FailedKeys,
}

impl Limit {
    /// As metrics, the log and the headers name it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::KeyRequests => "key_requests",
            Self::AddressRequests => "address_requests",
            Self::KeyTexts => "key_texts",
            Self::AddressTexts => "address_texts",
            Self::KeyConcurrency => "key_concurrency",
            Self::FailedKeys => "failed_keys",
        }
    }

    /// Notes that a request met it, and says so to its client.
    fn refuse(self, after: Duration, quota: Option<&Quota>) -> Failure {
        let word = self.as_str();
        metrics::counter!("holdfast_rate_limited_total", "limit" => word).increment(1);
        LIMITED.note(word);
        let what = match self {
            Self::KeyRequests => "this key makes more requests than it may",
            Self::AddressRequests => "more requests come from this address than may",
            Self::KeyTexts => "this key has more text worked on than it may",
            Self::AddressTexts => "more text comes from this address than may be worked on",
            Self::KeyConcurrency => "this key has as many requests under way as it may",
            Self::FailedKeys => "too many requests without a valid key come from this address",
        };
        let most = quota.map_or(String::new(), |quota| format!(": at most {} at once", quota.burst()));
        let hint = match self {
            Self::FailedKeys => "a request with a valid key is answered all the same".to_owned(),
            _ => format!("wait {} s before the next one", seconds(after)),
        };
        Failure::new(Code::RateLimited, format!("{what}{most} ({word})")).retry_after(after).hint(Some(hint))
    }
}

/// Refusals that the log is told of together.
static LIMITED: Tally =
    Tally::new(("refused", "requests over a limit"), Code::RateLimited.as_str(), Duration::from_secs(10));
static FAILED: Tally =
    Tally::new(("refused", "requests without a valid key"), Code::Unauthorized.as_str(), Duration::from_secs(60));

/// Tells the log of refusals that it was not told of yet.
pub(crate) fn tell() {
    LIMITED.tell();
    FAILED.tell();
}

/// The limits in force, and who has done how much.
pub(crate) struct Limits {
    buckets: RwLock<Option<Arc<Buckets>>>,
    under_way: Shares<String>,
}

#[derive(Debug)]
struct Buckets {
    config: LimitsConfig,
    key_requests: RateLimiter<String>,
    address_requests: RateLimiter<IpAddr>,
    key_texts: RateLimiter<String>,
    address_texts: RateLimiter<IpAddr>,
    failed_keys: RateLimiter<IpAddr>,
}

/// What a charge is for.
#[derive(Clone, Copy, Debug)]
enum Charge {
    Requests,
    Texts,
}

impl Limits {
    pub(crate) fn new(config: &LimitsConfig) -> Self {
        let limits = Self { buckets: RwLock::new(None), under_way: Shares::default() };
        limits.reconfigure(config);
        limits
    }

    /// Has other limits hold from now on. Where they are others, everybody begins anew: how much of the one is how much of
    /// the other nobody can say.
    pub(crate) fn reconfigure(&self, config: &LimitsConfig) {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        if buckets.as_ref().is_some_and(|buckets| buckets.config == *config) {
            return;
        }
        *buckets = config.enabled.then(|| Buckets::new(config)).flatten().map(Arc::new);
    }

    /// Charges a request to its key and to its address, and lets it begin. What is refused is answered in this shape.
    pub(crate) fn admit(&self, caller: &Caller, address: Option<IpAddr>, face: Face) -> Result<Meter, Box<Response>> {
        let Some(buckets) = self.in_force().filter(|_| !caller.is_owner()) else { return Ok(Meter::free()) };
        let Some(share) = self.under_way.try_enter(caller.id(), buckets.config.key_concurrent_requests) else {
            let mut response = Limit::KeyConcurrency.refuse(RETRY_SOON, None).into_response();
            Standings::at_once(Limit::KeyConcurrency, buckets.config.key_concurrent_requests).put(&mut response, face);
            return Err(Box::new(response));
        };
        let mut standings = Standings::default();
        let (key, network) = (caller.id().to_owned(), address.map(network));
        if let Err(failure) = buckets.take(Charge::Requests, &key, network, 1, &mut standings) {
            let mut response = failure.into_response();
            standings.put(&mut response, face);
            return Err(Box::new(response));
        }
        let account = Account { buckets, key, network, standings: Mutex::new(standings), _share: share };
        Ok(Meter(Some(Arc::new(account))))
    }

    /// Counts a request without a valid key, and tells how its address stands. Where there were too many of them, they
    /// are told so instead of why.
    pub(crate) fn failed(&self, address: Option<IpAddr>, reason: &'static str) -> (Option<Failure>, Standings) {
        let (network, mut standings) = (address.map(network), Standings::default());
        FAILED.note_from(reason, network);
        let Some((buckets, network)) = self.in_force().zip(network) else { return (None, standings) };
        let quota = buckets.failed_keys.quota();
        let (standing, refused) = match buckets.failed_keys.take(&network, 1, Instant::now()) {
            Ok(standing) => (standing, None),
            Err(exhausted) => (exhausted.standing, Some(Limit::FailedKeys.refuse(exhausted.retry_after, Some(quota)))),
        };
        standings.note(Limit::FailedKeys, quota, standing);
        (refused, standings)
    }

    /// Sets the gauges of what is remembered.
    pub(crate) fn observe_gauges(&self) {
        let lengths = self.in_force().map_or([0; 5], |buckets| {
            [
                buckets.key_requests.len(),
                buckets.address_requests.len(),
                buckets.key_texts.len(),
                buckets.address_texts.len(),
                buckets.failed_keys.len(),
            ]
        });
        let limits =
            [Limit::KeyRequests, Limit::AddressRequests, Limit::KeyTexts, Limit::AddressTexts, Limit::FailedKeys];
        for (limit, length) in limits.into_iter().zip(lengths) {
            metrics::gauge!("holdfast_rate_limit_buckets", "limit" => limit.as_str()).set(length as f64);
        }
    }

    fn in_force(&self) -> Option<Arc<Buckets>> {
        self.buckets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Buckets {
    /// Nothing where a quota makes no sense, which [`LimitsConfig::check`] has made sure of.
    fn new(config: &LimitsConfig) -> Option<Self> {
        let now = Instant::now();
        let failed_keys =
            Quota::new(config.failed_keys_per_minute, Duration::from_secs(60), config.failed_keys_per_minute.into())?;
        Some(Self {
            key_requests: RateLimiter::new(config.key_requests.quota()?, KEY_BUCKETS_MAX, now),
            address_requests: RateLimiter::new(config.address_requests.quota()?, ADDRESSES_MAX, now),
            key_texts: RateLimiter::new(config.key_texts.quota()?, KEY_BUCKETS_MAX, now),
            address_texts: RateLimiter::new(config.address_texts.quota()?, ADDRESSES_MAX, now),
            failed_keys: RateLimiter::new(failed_keys, ADDRESSES_MAX, now),
            config: config.clone(),
        })
    }

    /// Charges both, or neither.
    fn take(
        &self,
        charge: Charge,
        key: &str,
        network: Option<IpAddr>,
        cost: u64,
        standings: &mut Standings,
    ) -> Result<(), Failure> {
        let (keys, of_key, addresses, of_address) = match charge {
            Charge::Requests => {
                (&self.key_requests, Limit::KeyRequests, &self.address_requests, Limit::AddressRequests)
            }
            Charge::Texts => (&self.key_texts, Limit::KeyTexts, &self.address_texts, Limit::AddressTexts),
        };
        let now = Instant::now();
        let mut judge = |limit: Limit, quota: &Quota, taken: Result<_, Exhausted>| match taken {
            Ok(standing) => {
                standings.note(limit, quota, standing);
                Ok(())
            }
            Err(exhausted) => {
                standings.note(limit, quota, exhausted.standing);
                Err(limit.refuse(exhausted.retry_after, Some(quota)))
            }
        };
        judge(of_key, keys.quota(), keys.take(key, cost, now))?;
        let Some(network) = network else { return Ok(()) };
        judge(of_address, addresses.quota(), addresses.take(&network, cost, now))
            .inspect_err(|_| keys.give_back(key, cost))
    }
}

/// What a request is charged to; cloning is shallow. It counts as under way for as long as there is one of it.
#[derive(Clone, Debug)]
pub(crate) struct Meter(Option<Arc<Account>>);

#[derive(Debug)]
struct Account {
    buckets: Arc<Buckets>,
    key: String,
    network: Option<IpAddr>,
    standings: Mutex<Standings>,
    _share: Share<String>,
}

impl Meter {
    /// For whoever is not limited.
    pub(crate) fn free() -> Self {
        Self(None)
    }

    /// Charges so many texts.
    pub(crate) fn charge(&self, texts: u64) -> Result<(), Failure> {
        let Some(account) = &self.0 else { return Ok(()) };
        let mut standings = account.standings.lock().unwrap_or_else(PoisonError::into_inner);
        account.buckets.take(Charge::Texts, &account.key, account.network, texts, &mut standings)
    }

    /// Tells the client of an answer how it stands.
    pub(crate) fn put(&self, response: &mut Response, face: Face) {
        if let Some(account) = &self.0 {
            account.standings.lock().unwrap_or_else(PoisonError::into_inner).put(response, face);
        }
    }
}

/// As many texts as these lengths, in bytes, stand for.
pub(crate) fn texts(lengths: impl IntoIterator<Item = usize>) -> u64 {
    lengths.into_iter().map(|length| length.div_ceil(TEXT_BYTES).max(1) as u64).sum()
}

impl FromRequestParts<Server> for Meter {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Server) -> Result<Self, Infallible> {
        // Whoever was let in has one.
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(Self::free))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_count_for_what_they_are() {
        assert_eq!(texts([]), 0);
        assert_eq!(texts([0, 1, 1_024]), 3);
        assert_eq!(texts([1_025]), 2);
        assert_eq!(texts([16 << 20]), 16_384);
    }

    #[test]
    fn where_failed_keys_come_from_is_counted() {
        let limits = Limits::new(&LimitsConfig::default());
        let address = "2001:db8:7:7::1".parse().unwrap();
        // The first may be told at once.
        for _ in 0..2 {
            limits.failed(Some(address), "unknown");
        }
        assert!(FAILED.networks().contains(&network(address)));
    }

    fn rate(per_second: u32, burst: u64) -> Rate {
        Rate { per_second, burst }
    }

    #[test]
    fn an_address_that_may_not_costs_its_key_nothing() {
        let config = LimitsConfig { address_texts: rate(1, 2), key_texts: rate(1, 10), ..LimitsConfig::default() };
        let buckets = Buckets::new(&config).unwrap();
        let mut standings = Standings::default();
        let network = Some("192.0.2.1".parse().unwrap());
        let mut take = |cost, network| buckets.take(Charge::Texts, "key", network, cost, &mut standings);
        assert!(take(2, network).is_ok());
        let problem = take(2, network).unwrap_err().report();
        assert!(problem.code == "rate_limited" && problem.detail.contains("address_texts"), "{problem:?}");
        assert!(take(8, None).is_ok());
        let problem = take(1, None).unwrap_err().report();
        assert!(problem.detail.contains("key_texts"), "{problem:?}");
    }

    #[test]
    fn limits_that_stay_the_same_forget_nothing() {
        let config = LimitsConfig { failed_keys_per_minute: 1, ..LimitsConfig::default() };
        let limits = Limits::new(&config);
        let address = Some("192.0.2.1".parse().unwrap());
        let may_try = |address| limits.failed(address, "unknown").0.is_none();
        assert!(may_try(address));
        limits.reconfigure(&config);
        assert!(!may_try(address));
        assert!(may_try(None), "nobody is to blame");
        limits.reconfigure(&LimitsConfig { failed_keys_per_minute: 2, ..config.clone() });
        assert!(may_try(address));
        limits.reconfigure(&LimitsConfig { enabled: false, ..config });
        assert!((0..10).all(|_| may_try(address)));
    }

    #[test]
    fn impossible_limits_are_refused() {
        LimitsConfig::default().check().unwrap();
        for wrong in [
            LimitsConfig { key_requests: rate(0, 1), ..LimitsConfig::default() },
            LimitsConfig { address_texts: rate(1, 0), ..LimitsConfig::default() },
            LimitsConfig { key_concurrent_requests: 0, ..LimitsConfig::default() },
            LimitsConfig { failed_keys_per_minute: 0, ..LimitsConfig::default() },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
