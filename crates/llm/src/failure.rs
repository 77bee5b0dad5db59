//! What a failure is, from its status and from what the provider says of it.
//!
//! OpenAI's and Anthropic's words, and those of the servers that imitate them: llama.cpp, vLLM, Ollama, LM Studio and
//! whatever is made with FastAPI. Words come first, since several say more than their status does; where there are none
//! that are known, the status decides.

use std::time::{Duration, SystemTime};

use hyper::{
    HeaderMap, StatusCode,
    header::{HeaderName, RETRY_AFTER},
};
use serde_json::Value;

use crate::{CallError, ErrorKind, redact::Redactor};

/// What OpenAI's own client looks for first.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// Nobody is waited for longer than that, and a longer time need not be told.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Words for it that no status and no code has. Lower case.
const TOO_LONG: [&str; 12] = [
    // OpenAI, vLLM, llama-cpp-python.
    "maximum context length",
    "maximum model length",
    "exceed context window",
    // Anthropic.
    "prompt is too long",
    "exceed context limit",
    // llama.cpp.
    "exceeds the available context size",
    "exceeds context size",
    "larger than the context",
    // LM Studio.
    "greater than the context length",
    "context length exceeded",
    "context window exceeded",
    // text-generation-inference.
    "`inputs` tokens + `max_new_tokens`",
];

/// The same for words that it does not want to hear: OpenRouter, and others that moderate.
const MODERATED: [&str; 3] = ["requires moderation", "flagged for", "content policy"];

/// When a provider said to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryAfter(Option<Duration>);

impl RetryAfter {
    /// Milliseconds, seconds, or a date (RFC 9110, section 10.2.3).
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| *number >= 0.0);
        let ms = text(RETRY_AFTER_MS).and_then(number).map(|ms| ms / 1e3);
        let seconds = ms.or_else(|| text(RETRY_AFTER).and_then(number));
        let after = seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(RETRY_AFTER_MAX));
        let after = after.or_else(|| {
            let at = httpdate::parse_http_date(text(RETRY_AFTER)?).ok()?;
            Some(at.duration_since(SystemTime::now()).unwrap_or_default())
        });
        Self(after.map(|after| after.min(RETRY_AFTER_MAX)))
    }
}

/// What a provider says of a failure.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// Its words for the kind: `type` and `code`, in lower case.
    kinds: Vec<String>,
    message: String,
}

impl Told {
    fn of(body: &[u8]) -> Option<Self> {
        let json: Value = serde_json::from_slice(body).ok()?;
        // Google has a list around it.
        let json = json.get(0).unwrap_or(&json);
        let error = ["error", "detail"].iter().find_map(|name| json.get(name).filter(|value| !value.is_null()));
        // Older vLLM has it without anything around it.
        let error = error.or_else(|| (json.get("object")?.as_str()? == "error").then_some(json))?;
        Some(Self::of_error(error))
    }

    fn of_error(error: &Value) -> Self {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let kinds = ["code", "type", "error_type", "status"].iter().filter_map(|name| text(error.get(name)?));
        let message = match error {
            Value::String(message) => message.clone(),
            Value::Object(_) => error.get("message").and_then(text).unwrap_or_default(),
            // FastAPI's list of what is wrong with each field.
            other => other.pointer("/0/msg").and_then(text).unwrap_or_default(),
        };
        Self { kinds: kinds.map(|kind| kind.to_lowercase()).collect(), message }
    }

    /// What kind it is, as far as words tell.
    fn kind(&self) -> Option<ErrorKind> {
        let is = |words: &[&str]| self.kinds.iter().any(|kind| words.contains(&kind.as_str()));
        let message = self.message.to_lowercase();
        if is(&["context_length_exceeded", "exceed_context_size_error", "string_above_max_length", "request_too_large"])
        {
            return Some(ErrorKind::ContextTooLong);
        }
        if is(&[
            "insufficient_quota",
            "billing_error",
            "billing_hard_limit_reached",
            "invalid_api_key",
            "account_deactivated",
        ]) || is(&["authentication_error", "permission_error", "permission_denied", "unauthenticated"])
        {
            return Some(ErrorKind::Unauthorized);
        }
        let is_withheld = MODERATED.iter().any(|words| message.contains(words));
        if is_withheld || is(&["content_filter", "content_policy_violation", "responsibleaipolicyviolation"]) {
            return Some(ErrorKind::ContentFilter);
        }
        if is(&["model_not_found", "model_not_available"]) {
            return Some(ErrorKind::ModelNotFound);
        }
        if is(&["rate_limit_exceeded", "rate_limit_error", "rate_limit", "tokens", "requests", "429"]) {
            return Some(ErrorKind::RateLimited);
        }
        if is(&["overloaded_error", "server_overloaded", "unavailable_error", "engine_overloaded", "503", "529"]) {
            return Some(ErrorKind::Overloaded);
        }
        if TOO_LONG.iter().any(|words| message.contains(words)) {
            return Some(ErrorKind::ContextTooLong);
        }
        if is(&["api_error", "server_error", "internal_server_error", "internalservererror", "timeout_error"]) {
            return Some(ErrorKind::ServerError);
        }
        let is_missing = is(&["not_found_error", "notfounderror", "404"]);
        if is_missing || (message.contains("model") && message.contains("does not exist")) {
            return Some(ErrorKind::ModelNotFound);
        }
        is(&["invalid_request_error", "badrequesterror", "400", "422"]).then_some(ErrorKind::Rejected)
    }
}

/// What an answer with another status than 200 means.
pub(crate) fn of_answer(status: StatusCode, after: RetryAfter, body: &[u8], redactor: &Redactor) -> CallError {
    let told = Told::of(body).unwrap_or_default();
    let kind = by_status(status, told.kind());
    let meaning = match kind {
        ErrorKind::ContextTooLong => ": the conversation is longer than it reads",
        ErrorKind::ModelNotFound => ": it does not have the model, or does not give it",
        ErrorKind::Unauthorized => ": our key does not do there",
        ErrorKind::RateLimited => ": it wants to be asked less often",
        ErrorKind::Overloaded => ": it has too much to do",
        ErrorKind::ContentFilter => ": it withholds an answer",
        _ => "",
    };
    CallError {
        kind,
        reason: format!("it answered {}{meaning}", status.as_u16()),
        words: redactor.clean(&told.message),
        status: Some(status.as_u16()),
        retry_after: after.0,
    }
}

/// The status decides where it is sure of itself, words where it is not.
fn by_status(status: StatusCode, told: Option<ErrorKind>) -> ErrorKind {
    use ErrorKind::{ContentFilter, ContextTooLong, Malformed, ModelNotFound, Overloaded, RateLimited, Rejected};
    match (status.as_u16(), told) {
        // Not to be followed, and no answer of such an interface: another address is meant.
        (..=399, _) => Malformed,
        (401..=403, Some(kind @ (ModelNotFound | ContentFilter | RateLimited))) => kind,
        (401 | 402, _) | (403, Some(ErrorKind::Unauthorized)) => ErrorKind::Unauthorized,
        // Not this, not to us or not from here: no reason to leave the model alone, and another may answer.
        (403, _) => ModelNotFound,
        // There is no such path, as far as one can tell, or no such model.
        (404, _) => ModelNotFound,
        (405, _) => Malformed,
        (413, _) => ContextTooLong,
        (429, Some(ErrorKind::Unauthorized)) => ErrorKind::Unauthorized,
        (429, _) => RateLimited,
        (503 | 529, _) => Overloaded,
        // Some tell of what is wrong with a request with 500.
        (500.., Some(kind @ (ContextTooLong | ModelNotFound | Overloaded | RateLimited | ContentFilter))) => kind,
        // It waited too long for something of its own.
        (408 | 500.., _) => ErrorKind::ServerError,
        (_, Some(kind)) => kind,
        (_, None) => Rejected,
    }
}

/// The failure that a body with status 200 tells of, where it does.
pub(crate) fn told_in(body: &[u8], redactor: &Redactor) -> Option<CallError> {
    let told = Told::of(body)?;
    let kind = told.kind().unwrap_or(ErrorKind::ServerError);
    let failed = CallError::new(kind, "it told of an error in its answer");
    Some(CallError { words: redactor.clean(&told.message), ..failed })
}

/// The failure that an event of a stream tells of. What is the provider's own trouble is one thing, whatever it calls
/// it; what is wrong with the request stays what it is.
pub(crate) fn in_stream(error: &Value, redactor: &Redactor) -> CallError {
    let told = Told::of_error(error);
    let kind = told.kind().filter(|kind| !kind.is_transient()).unwrap_or(ErrorKind::InStream);
    let failed = CallError::new(kind, "it told of an error within the answer");
    CallError { words: redactor.clean(&told.message), ..failed }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn check(status: u16, body: &str, expected: ErrorKind) {
        let status = StatusCode::from_u16(status).unwrap();
        let error = of_answer(status, RetryAfter(None), body.as_bytes(), &Redactor::new(None));
        assert_eq!(error.kind, expected, "{status} {body}");
        assert_eq!(error.status, Some(status.as_u16()));
    }

    #[test]
    fn what_openai_says() {
        use ErrorKind::*;
        check(
            400,
            r#"{"error":{"message":"This model's maximum context length is 128000 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
            ContextTooLong,
        );
        check(
            400,
            r#"{"error":{"message":"Invalid schema for function 'x'","type":"invalid_request_error","code":"invalid_function_parameters"}}"#,
            Rejected,
        );
        check(
            401,
            r#"{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}}"#,
            Unauthorized,
        );
        check(
            403,
            r#"{"error":{"code":"unsupported_country_region_territory","message":"no","type":"request_forbidden"}}"#,
            ModelNotFound,
        );
        check(403, r#"{"error":{"code":"invalid_api_key","message":"no"}}"#, Unauthorized);
        check(
            403,
            r#"{"error":{"code":403,"message":"x requires moderation. Your input was flagged for \"violence\""}}"#,
            ContentFilter,
        );
        check(403, "<html>Forbidden</html>", ModelNotFound);
        let other = ErrorKind::ModelNotFound;
        assert!(other.is_for_others() && !other.is_failure(), "another may answer, and nobody is left alone");
        check(
            404,
            r#"{"error":{"message":"The model `x` does not exist","type":"invalid_request_error","code":"model_not_found"}}"#,
            ModelNotFound,
        );
        check(
            429,
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            Unauthorized,
        );
        check(
            429,
            r#"{"error":{"message":"Rate limit reached","type":"tokens","code":"rate_limit_exceeded"}}"#,
            RateLimited,
        );
        check(500, r#"{"error":{"message":"The server had an error","type":"server_error"}}"#, ServerError);
        check(503, r#"{"error":{"message":"The engine is overloaded","type":"server_error"}}"#, Overloaded);
        check(400, r#"{"error":{"message":"filtered","code":"content_filter","type":null}}"#, ContentFilter);
    }

    #[test]
    fn what_anthropic_says() {
        use ErrorKind::*;
        let body = |kind: &str, message: &str| {
            format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}}}}"#)
        };
        check(400, &body("invalid_request_error", "messages: required"), Rejected);
        check(
            400,
            &body("invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"),
            ContextTooLong,
        );
        check(
            400,
            &body("invalid_request_error", "input length and `max_tokens` exceed context limit: 1 + 2 > 3"),
            ContextTooLong,
        );
        check(401, &body("authentication_error", "invalid x-api-key"), Unauthorized);
        check(402, &body("billing_error", "pay"), Unauthorized);
        check(403, &body("permission_error", "no"), Unauthorized);
        check(404, &body("not_found_error", "model: x"), ModelNotFound);
        check(413, &body("request_too_large", "too large"), ContextTooLong);
        check(429, &body("rate_limit_error", "slow down"), RateLimited);
        check(500, &body("api_error", "oops"), ServerError);
        check(504, &body("timeout_error", "slow"), ServerError);
        check(529, &body("overloaded_error", "Overloaded"), Overloaded);
    }

    #[test]
    fn what_servers_at_home_say() {
        use ErrorKind::*;
        // llama.cpp
        check(503, r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#, Overloaded);
        check(
            400,
            r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error","n_ctx":512}}"#,
            ContextTooLong,
        );
        // vLLM, before and after it had something around it
        check(
            400,
            r#"{"object":"error","message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","code":400}"#,
            ContextTooLong,
        );
        check(
            404,
            r#"{"error":{"message":"The model `x` does not exist.","type":"NotFoundError","code":404}}"#,
            ModelNotFound,
        );
        // Ollama
        check(
            404,
            r#"{"error":{"message":"model \"x\" not found, try pulling it first","type":"api_error"}}"#,
            ModelNotFound,
        );
        // llama-cpp-python
        check(
            500,
            r#"{"error":{"message":"Requested tokens (600) exceed context window of 512","type":"internal_server_error"}}"#,
            ContextTooLong,
        );
        // LM Studio, FastAPI, Google, proxies
        check(400, r#"{"error":"The number of tokens to keep is greater than the context length"}"#, ContextTooLong);
        check(
            422,
            r#"{"detail":[{"loc":["body","n"],"msg":"Input should be less than 128","type":"less_than_equal"}]}"#,
            Rejected,
        );
        check(429, r#"[{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED"}}]"#, RateLimited);
        check(502, "<html>Bad Gateway</html>", ServerError);
        check(408, "", ServerError);
        check(301, "", Malformed);
        check(405, r#"{"detail":"Method Not Allowed"}"#, Malformed);
    }

    #[test]
    fn words_are_told_and_keys_are_not() {
        let body = br#"{"error":{"message":"Incorrect API key provided: sk-abcdefgh","code":"invalid_api_key"}}"#;
        let error = of_answer(StatusCode::UNAUTHORIZED, RetryAfter(None), body, &Redactor::new(None));
        assert_eq!(error.words.as_deref(), Some("Incorrect API key provided: [redacted]"));
        assert_eq!(error.reason, "it answered 401: our key does not do there");
    }

    #[test]
    fn when_to_ask_again_comes_in_three_ways() {
        let after = |headers: &[(&'static str, String)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
            RetryAfter::of(&headers.collect()).0
        };
        let seconds = |seconds: f64| Some(Duration::from_secs_f64(seconds));
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[("retry-after", "3".into())]), seconds(3.0));
        assert_eq!(after(&[("retry-after", " 0.5 ".into())]), seconds(0.5));
        assert_eq!(after(&[("retry-after-ms", "1500".into()), ("retry-after", "9".into())]), seconds(1.5));
        assert_eq!(after(&[("retry-after", "1e300".into())]), Some(RETRY_AFTER_MAX));
        for nonsense in ["-1", "soon", "NaN", ""] {
            assert_eq!(after(&[("retry-after", nonsense.into())]), None, "{nonsense}");
        }
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        let until = after(&[("retry-after", date)]).unwrap();
        assert!((58..=60).contains(&until.as_secs()), "{until:?}");
        assert_eq!(after(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT".into())]), seconds(0.0));
    }

    #[test]
    fn an_error_within_a_stream_is_one_unless_it_is_about_the_request() {
        let kind = |error: Value| in_stream(&error, &Redactor::new(None)).kind;
        assert_eq!(kind(serde_json::json!({"type": "overloaded_error", "message": "Overloaded"})), ErrorKind::InStream);
        assert_eq!(kind(serde_json::json!("boom")), ErrorKind::InStream);
        assert_eq!(kind(serde_json::json!({"code": "context_length_exceeded"})), ErrorKind::ContextTooLong);
    }
}
