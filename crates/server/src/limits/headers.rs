//! How a client stands with its limits, as headers tell it.
//!
//! `RateLimit-Policy` and `RateLimit` as in draft-ietf-httpapi-ratelimit-headers-09: a list of the limits, each with what
//! it holds (`q`) and the seconds in which it fills (`w`), and with what remains (`r`) and the seconds until it is full
//! (`t`). A refusal has all that were looked at, another answer those of which less than half remains: who is far from
//! them need not hear of them. A limit on what is under way at once has a quota in the unit `concurrent-requests` and no
//! time: it is over when a request is. Clients of OpenAI look for `X-RateLimit-…-Requests` on every answer, and get them there.

use std::{fmt::Write, time::Duration};

use axum::{
    http::{HeaderName, HeaderValue, StatusCode},
    response::Response,
};
use holdfast_resilience::rate::{Quota, Standing};

use super::Limit;
use crate::{error::seconds, face::Face};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
const REMAINING_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
const RESET_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-reset-requests");

/// How a client stands with each limit that was looked at.
#[derive(Debug, Default)]
pub(crate) struct Standings {
    all: Vec<(Limit, Quota, Standing)>,
    /// A limit on what is under way at once that is used up, and how much it allows.
    used_up: Option<(Limit, usize)>,
}

impl Standings {
    /// That of a client who has as much under way as may be.
    pub(super) fn at_once(limit: Limit, most: usize) -> Self {
        Self { all: Vec::new(), used_up: Some((limit, most)) }
    }

    /// Notes how it stands with one, instead of how it stood before.
    pub(super) fn note(&mut self, limit: Limit, quota: &Quota, standing: Standing) {
        self.all.retain(|(known, ..)| *known != limit);
        self.all.push((limit, *quota, standing));
    }

    /// Tells the client of an answer.
    pub(crate) fn put(&self, response: &mut Response, face: Face) {
        let is_refusal = response.status() == StatusCode::TOO_MANY_REQUESTS;
        let (mut policies, mut remaining) = (String::new(), String::new());
        if let Some((limit, most)) = self.used_up {
            let name = limit.as_str();
            policies = format!("\"{name}\";q={most};qu=\"concurrent-requests\"");
            remaining = format!("\"{name}\";r=0");
        }
        for (limit, quota, standing) in &self.all {
            if !is_refusal && standing.remaining >= quota.burst() / 2 {
                continue;
            }
            let separator = if policies.is_empty() { "" } else { ", " };
            let (name, burst, window) = (limit.as_str(), quota.burst(), seconds(quota.window()));
            // Writing to a string cannot fail.
            let _ = write!(policies, "{separator}\"{name}\";q={burst};w={window}");
            let full_in = standing.full_in.as_millis().div_ceil(1_000);
            let _ = write!(remaining, "{separator}\"{name}\";r={};t={full_in}", standing.remaining);
        }
        let headers = response.headers_mut();
        let mut put = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        if !policies.is_empty() {
            put(RATE_LIMIT_POLICY, &policies);
            put(RATE_LIMIT, &remaining);
        }
        let of_key = self.all.iter().find(|(limit, ..)| *limit == Limit::KeyRequests);
        if let Some((_, quota, standing)) = of_key.filter(|_| face == Face::OpenAi) {
            put(LIMIT_REQUESTS, &quota.burst().to_string());
            put(REMAINING_REQUESTS, &standing.remaining.to_string());
            put(RESET_REQUESTS, &written(standing.full_in));
        }
    }
}

/// A time as OpenAI writes it: `20ms`, `1s`, `6m0s`.
fn written(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        return format!("{}ms", time.as_micros().div_ceil(1_000));
    }
    let seconds = time.as_millis().div_ceil(1_000);
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn told(status: u16, remaining: u64, face: Face) -> Vec<(String, String)> {
        let quota = Quota::new(10, Duration::from_secs(1), 100).unwrap();
        let mut standings = Standings::default();
        for (limit, remaining) in
            [(Limit::KeyRequests, 100), (Limit::AddressTexts, 60), (Limit::KeyRequests, remaining)]
        {
            let full_in = Duration::from_millis((100 - remaining) * 100);
            standings.note(limit, &quota, Standing { remaining, full_in });
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        standings.put(&mut response, face);
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let mut headers: Vec<_> =
            response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        headers.sort();
        headers
    }

    fn check(told: Vec<(String, String)>, expected: &[(&str, &str)]) {
        let told: Vec<_> = told.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn who_comes_near_a_limit_hears_of_it() {
        check(told(200, 50, Face::Own), &[]);
        check(
            told(200, 49, Face::Own),
            &[("ratelimit", "\"key_requests\";r=49;t=6"), ("ratelimit-policy", "\"key_requests\";q=100;w=10")],
        );
        check(
            told(429, 0, Face::Tei),
            &[
                ("ratelimit", "\"address_texts\";r=60;t=4, \"key_requests\";r=0;t=10"),
                ("ratelimit-policy", "\"address_texts\";q=100;w=10, \"key_requests\";q=100;w=10"),
            ],
        );
    }

    #[test]
    fn what_may_be_under_way_at_once_has_no_time() {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        Standings::at_once(Limit::KeyConcurrency, 192).put(&mut response, Face::Own);
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        assert_eq!(header("ratelimit-policy"), "\"key_concurrency\";q=192;qu=\"concurrent-requests\"");
        assert_eq!(header("ratelimit"), "\"key_concurrency\";r=0");
    }

    #[test]
    fn clients_of_openai_hear_it_always_and_in_their_words() {
        check(
            told(200, 95, Face::OpenAi),
            &[
                ("x-ratelimit-limit-requests", "100"),
                ("x-ratelimit-remaining-requests", "95"),
                ("x-ratelimit-reset-requests", "500ms"),
            ],
        );
        for (time, expected) in
            [(0, "0ms"), (20, "20ms"), (1_000, "1s"), (1_001, "2s"), (59_001, "1m0s"), (360_000, "6m0s")]
        {
            assert_eq!(written(Duration::from_millis(time)), expected);
        }
    }
}
