//! How a failure looks to the clients of each API: the same code, hint and `error_id`, in the shape they parse.
//!
//! A failure becomes a problem document wherever it arises; on its way out of the gate it is put into the shape of its
//! route. Shapes: RFC 9457; <https://platform.openai.com/docs/guides/error-codes>; the `ErrorResponse` of
//! text-embeddings-inference 1.9. It decides nothing but the shape and, where clients of that API go by another, the
//! status.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde_json::{Value, json};

use crate::error::Problem;

/// Whose API a route belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// Our own.
    Own,
    /// OpenAI's.
    OpenAi,
    /// That of text-embeddings-inference.
    Tei,
}

impl Face {
    /// Puts a failed response into this shape; any other stays as it is.
    pub(crate) fn reshape(self, mut response: Response) -> Response {
        let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
        let (status, body) = match self {
            Self::Own => return response,
            Self::OpenAi => openai(&problem, response.status()),
            Self::Tei => tei(&problem, response.status()),
        };
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = Body::from(body.to_string());
        response
    }
}

/// What is wrong and what to do about it, in one line: these shapes have no place for a hint of its own that people see.
fn message(problem: &Problem) -> String {
    match &problem.hint {
        Some(hint) => format!("{}; {hint}", problem.detail),
        None => problem.detail.clone(),
    }
}

fn openai(problem: &Problem, status: StatusCode) -> (StatusCode, Value) {
    // What we call unprocessable is a bad request there, and its clients have a class for that.
    let status = if status == StatusCode::UNPROCESSABLE_ENTITY { StatusCode::BAD_REQUEST } else { status };
    let kind = match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    };
    let error = json!({
        "message": message(problem),
        "type": kind,
        "param": problem.field,
        "code": problem.code,
        "error_id": problem.error_id,
    });
    (status, json!({ "error": error }))
}

fn tei(problem: &Problem, status: StatusCode) -> (StatusCode, Value) {
    let (status, kind) = match (problem.code, status) {
        ("empty_input", _) => (StatusCode::BAD_REQUEST, "Empty"),
        ("overloaded" | "rate_limited", _) => (StatusCode::TOO_MANY_REQUESTS, "Overloaded"),
        ("embedding_failed", _) => (StatusCode::FAILED_DEPENDENCY, "Backend"),
        (_, StatusCode::SERVICE_UNAVAILABLE) => (status, "Unhealthy"),
        (_, status) if status.is_server_error() => (status, "Backend"),
        (_, status) => (status, "Validation"),
    };
    let body = json!({
        "error": message(problem),
        "error_type": kind,
        "code": problem.code,
        "field": problem.field,
        "error_id": problem.error_id,
    });
    (status, body)
}
