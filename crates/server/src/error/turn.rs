//! What becomes of a turn that has no answer: how each way to fail is told, and what of it only the log knows.
//!
//! A provider's own words stay in the log: they may repeat what somebody else asked, or what opens its doors.

use std::{sync::Arc, time::Duration, time::SystemTime};

use holdfast_coordinator::TurnError;
use holdfast_llm::{CallError, ErrorKind};

use super::{Code, Failure, RETRY_LATER, SOMETHING_WENT_WRONG};

/// Models of which it is said what rules them out.
const OBSTACLES_TOLD_MAX: usize = 5;

impl From<TurnError> for Failure {
    fn from(error: TurnError) -> Self {
        match error {
            TurnError::Knowledge(knowledge) => knowledge.into(),
            TurnError::Storage(storage) => storage.into(),
            other => told(&other),
        }
    }
}

/// What a stream ends with whose turn failed.
pub(crate) fn cut_short(error: Arc<TurnError>) -> Failure {
    Arc::try_unwrap(error).map_or_else(|shared| told(&shared), Failure::from)
}

fn told(error: &TurnError) -> Failure {
    let detail = error.to_string();
    match error {
        TurnError::NoProvider => Failure::new(Code::NoProvider, detail),
        TurnError::UnknownModel { model } => {
            Failure::new(Code::ModelNotFound, format!("there is no language model or alias {model:?}"))
                .at("model")
                .hint(Some("GET /v1/models lists those there are".to_owned()))
        }
        TurnError::NotGranted { .. } => Failure::new(Code::Forbidden, detail).at("model").hint(Some(
            "use a key that has one of them among its models; GET /v1/models lists what this one may ask".to_owned(),
        )),
        TurnError::NoneFits { obstacles } => Failure::new(Code::NoModelFits, none_fits(obstacles)),
        TurnError::ContextTooLong { tokens, limit } => {
            // The words by which clients of both APIs know it, so that they shorten the conversation by themselves.
            let detail =
                format!("prompt is too long: {tokens} tokens > {limit} maximum context length, answer included");
            Failure::new(Code::ContextTooLong, detail).at("messages")
        }
        TurnError::BudgetExceeded { budget, resets_at_ms } => {
            let failure = Failure::new(Code::BudgetExceeded, format!("the budget {budget} is used up"));
            match resets_at_ms.and_then(until) {
                Some(after) => failure.retry_after(after),
                None => failure.hint(Some("have it raised".to_owned())),
            }
        }
        TurnError::MissingPrice { .. } => Failure::new(Code::PriceMissing, detail),
        TurnError::SessionNotFound => Failure::new(Code::SessionNotFound, detail),
        TurnError::SessionBusy => Failure::new(Code::SessionBusy, detail),
        TurnError::SessionFull => Failure::new(Code::SessionFull, detail),
        TurnError::TooMany { .. } => Failure::new(Code::TooMany, detail),
        TurnError::InteractionNotFound => Failure::new(Code::InteractionNotFound, detail),
        TurnError::NotCached => Failure::new(Code::NotCached, detail),
        TurnError::Failed { last, attempts } => failed(last, *attempts),
        TurnError::Invalid { field, problem } => Failure::field(field.as_str(), problem),
        // Those that can be taken apart have been.
        TurnError::Knowledge(_) | TurnError::Storage(_) => {
            Failure::new(Code::Internal, SOMETHING_WENT_WRONG).cause(detail)
        }
    }
}

fn none_fits(obstacles: &[(String, String)]) -> String {
    let told: Vec<String> =
        obstacles.iter().take(OBSTACLES_TOLD_MAX).map(|(model, obstacle)| format!("{model}: {obstacle}")).collect();
    let more = match obstacles.len().saturating_sub(OBSTACLES_TOLD_MAX) {
        0 => String::new(),
        others => format!("; and {others} others"),
    };
    if told.is_empty() { "no model can answer this request".to_owned() } else { format!("{}{more}", told.join("; ")) }
}

/// How long until then. What has been meanwhile is there at once.
fn until(unix_ms: i64) -> Option<Duration> {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms.try_into().ok()?))?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

/// The last of the calls that were made.
fn failed(last: &CallError, attempts: usize) -> Failure {
    let (code, retry_after) = match last.kind {
        ErrorKind::FirstByteTimeout | ErrorKind::GapTimeout | ErrorKind::TotalTimeout => (Code::ProviderTimeout, None),
        ErrorKind::RateLimited => (Code::ProviderRateLimited, last.retry_after),
        ErrorKind::Overloaded | ErrorKind::QueueFull => (Code::ProviderOverloaded, last.retry_after),
        ErrorKind::BreakerOpen => (Code::ProviderOverloaded, last.retry_after.or(Some(RETRY_LATER))),
        ErrorKind::ContextTooLong => (Code::ContextTooLong, None),
        ErrorKind::Rejected => (Code::ProviderRejected, None),
        ErrorKind::ContentFilter => (Code::ContentFiltered, None),
        ErrorKind::Inexpressible => (Code::NotExpressible, None),
        ErrorKind::Dns
        | ErrorKind::Refused
        | ErrorKind::Tls
        | ErrorKind::Reset
        | ErrorKind::ServerError
        | ErrorKind::Malformed
        | ErrorKind::Empty
        | ErrorKind::Cut
        | ErrorKind::InStream
        | ErrorKind::Unauthorized
        | ErrorKind::ModelNotFound
        | ErrorKind::Cancelled => (Code::ProviderFailed, None),
    };
    let failure = Failure::new(code, last.reason.as_str()).cause(cause(last, attempts));
    match retry_after {
        Some(after) => failure.retry_after(after),
        None => failure,
    }
}

/// For the log: all that is known of it.
fn cause(last: &CallError, attempts: usize) -> String {
    let status = last.status.map(|status| format!(", status {status}")).unwrap_or_default();
    let words = last.words.as_deref().map(|words| format!(": {words}")).unwrap_or_default();
    format!("{} after {attempts} calls{status}, {}{words}", last.kind.as_str(), last.reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Problem, seconds};

    fn check(error: TurnError, code: Code, retry_after_s: Option<u64>) -> Problem {
        let failure = Failure::from(error);
        assert_eq!(failure.code, code, "{failure:?}");
        assert_eq!(failure.retry_after.map(seconds), retry_after_s, "{failure:?}");
        failure.report()
    }

    fn call(kind: ErrorKind) -> TurnError {
        let last = CallError {
            words: Some("your key sk-secret is wrong".to_owned()),
            retry_after: Some(Duration::from_secs(7)),
            status: Some(499),
            ..CallError::new(kind, "it refused")
        };
        TurnError::Failed { last, attempts: 3 }
    }

    #[test]
    fn words_of_providers_stay_in_the_log() {
        for (kind, code, retry_after_s) in [
            (ErrorKind::Refused, Code::ProviderFailed, None),
            (ErrorKind::Unauthorized, Code::ProviderFailed, None),
            (ErrorKind::GapTimeout, Code::ProviderTimeout, None),
            (ErrorKind::RateLimited, Code::ProviderRateLimited, Some(7)),
            (ErrorKind::QueueFull, Code::ProviderOverloaded, Some(7)),
            (ErrorKind::BreakerOpen, Code::ProviderOverloaded, Some(7)),
            (ErrorKind::Rejected, Code::ProviderRejected, None),
            (ErrorKind::ContentFilter, Code::ContentFiltered, None),
            (ErrorKind::ContextTooLong, Code::ContextTooLong, None),
            (ErrorKind::Inexpressible, Code::NotExpressible, None),
        ] {
            let failure = Failure::from(call(kind));
            let cause = failure.cause.as_ref().map(ToString::to_string).unwrap();
            assert!(cause.contains("sk-secret") && cause.contains("499") && cause.contains("3 calls"), "{cause}");
            let told = serde_json::to_string(&check(call(kind), code, retry_after_s)).unwrap();
            assert!(told.contains("it refused") && !told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn what_can_be_done_is_said() {
        let problem = check(TurnError::NoProvider, Code::NoProvider, None);
        assert!(problem.hint.unwrap().contains("holdfast providers add"));
        let problem = check(TurnError::UnknownModel { model: "x".into() }, Code::ModelNotFound, None);
        assert!(problem.hint.unwrap().contains("/v1/models"));
        let problem = check(TurnError::ContextTooLong { tokens: 9_000, limit: 8_192 }, Code::ContextTooLong, None);
        assert!(problem.detail.starts_with("prompt is too long: 9000 tokens > 8192 maximum context length"));
        let obstacles = (0..7).map(|n| (format!("m{n}"), "has no tools".to_owned())).collect();
        let problem = check(TurnError::NoneFits { obstacles }, Code::NoModelFits, None);
        assert!(problem.detail.starts_with("m0: has no tools; m1") && problem.detail.ends_with("and 2 others"));
        let invalid = TurnError::Invalid { field: "messages[0]".into(), problem: "is odd".into() };
        assert_eq!(check(invalid, Code::InvalidField, None).detail, "messages[0] is odd");
    }

    #[test]
    fn a_budget_says_when_it_begins_anew() {
        let budget = |resets_at_ms| TurnError::BudgetExceeded { budget: "daily".into(), resets_at_ms };
        let in_ms = |ms: i64| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            Some(i64::try_from(now.as_millis()).unwrap() + ms)
        };
        check(budget(in_ms(90_000)), Code::BudgetExceeded, Some(90));
        check(budget(in_ms(-5)), Code::BudgetExceeded, Some(1));
        check(budget(None), Code::BudgetExceeded, None);
        check(budget(Some(i64::MIN)), Code::BudgetExceeded, None);
    }

    #[test]
    fn a_failure_that_others_know_of_too_is_told_all_the_same() {
        let shared = Arc::new(TurnError::Knowledge(holdfast_knowledge::KnowledgeError::Overloaded));
        assert_eq!(cut_short(Arc::clone(&shared)).code, Code::Internal);
        assert_eq!(cut_short(shared).code, Code::Overloaded);
    }
}
