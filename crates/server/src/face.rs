//! How a failure looks to the clients of each API: the same code, hint and `error_id`, in the shape they parse.
//!
//! A failure becomes a problem document wherever it arises; on its way out of the gate it is put into the shape of its
//! route. Shapes: RFC 9457; <https://platform.openai.com/docs/guides/error-codes>;
//! <https://docs.claude.com/en/api/errors>; the `ErrorResponse` of text-embeddings-inference 1.9; JSON-RPC 2.0, section 5.1, which clients of MCP read at any status. It decides nothing but the shape and, where clients of that API go by another, the
//! status.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::Problem;

/// JSON-RPC 2.0, section 5.1.
pub(crate) const PARSE_ERROR: i32 = -32_700;
pub(crate) const INVALID_REQUEST: i32 = -32_600;
const INTERNAL_ERROR: i32 = -32_603;

/// Whose API a route belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// Our own.
    Own,
    /// OpenAI's.
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// That of text-embeddings-inference.
    Tei,
    /// The Model Context Protocol.
    Mcp,
}

impl Face {
    /// The status that clients of this API know a failure by, where ours is another.
    pub(crate) fn status(self, code: &str, status: StatusCode) -> StatusCode {
        match (self, code) {
            // What we call unprocessable is a bad request there, and its clients have a class for that.
            (Self::OpenAi | Self::Anthropic, _) if status == StatusCode::UNPROCESSABLE_ENTITY => {
                StatusCode::BAD_REQUEST
            }
            // It is by the words that clients tell this from any other bad request.
            (Self::OpenAi | Self::Anthropic, "context_too_long") => StatusCode::BAD_REQUEST,
            (Self::Anthropic, "overloaded" | "provider_overloaded") => overloaded(),
            (Self::Tei, "empty_input") => StatusCode::BAD_REQUEST,
            (Self::Tei, "overloaded") => StatusCode::TOO_MANY_REQUESTS,
            (Self::Tei, "embedding_failed") => StatusCode::FAILED_DEPENDENCY,
            _ => status,
        }
    }

    /// Puts a failed response into this shape; any other stays as it is.
    pub(crate) fn reshape(self, mut response: Response, request_id: &str) -> Response {
        let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
        if self == Self::Own {
            return response;
        }
        let (status, body) = self.written(problem, request_id);
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = Body::from(body);
        response
    }

    /// A failure as clients of this API parse it, and its status.
    pub(crate) fn written(self, problem: Problem, request_id: &str) -> (StatusCode, Vec<u8>) {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let status = self.status(problem.code, status);
        let written = match self {
            Self::Own => serde_json::to_vec(&problem),
            Self::OpenAi => serde_json::to_vec(&openai(problem, status)),
            Self::Anthropic => serde_json::to_vec(&anthropic(problem, status, request_id)),
            Self::Tei => serde_json::to_vec(&tei(problem, status)),
            Self::Mcp => serde_json::to_vec(&mcp(problem, status)),
        };
        (status, written.unwrap_or_default())
    }
}

/// 529, which Anthropic's clients know for a server that has too much to do.
fn overloaded() -> StatusCode {
    StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
}

/// What is wrong and what to do about it, in one line: these shapes have no place for a hint of its own that people see.
pub(crate) fn message(problem: &Problem) -> String {
    match &problem.hint {
        Some(hint) => format!("{}; {hint}", problem.detail),
        None => problem.detail.clone(),
    }
}

/// What clients of OpenAI's API parse.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OpenAiFailure {
    error: OpenAiError,
}

#[derive(Debug, Serialize, JsonSchema)]
struct OpenAiError {
    /// A sentence for people, and what to do
    message: String,
    /// The class of errors there
    #[serde(rename = "type")]
    kind: &'static str,
    /// The field that is to blame
    param: Option<String>,
    /// What programs decide by
    code: &'static str,
    /// What the server's log knows this failure by
    error_id: String,
}

/// What clients of Anthropic's API parse.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AnthropicFailure<'a> {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "error"))]
    kind: &'static str,
    error: AnthropicError,
    /// The request's id, which `X-Request-ID` has as well
    request_id: &'a str,
}

#[derive(Debug, Serialize, JsonSchema)]
struct AnthropicError {
    /// The class of errors there
    #[serde(rename = "type")]
    kind: &'static str,
    /// A sentence for people, and what to do
    message: String,
    /// The field that is to blame
    param: Option<String>,
    /// What programs decide by
    code: &'static str,
    /// What the server's log knows this failure by
    error_id: String,
}

/// What clients of MCP parse: an error of JSON-RPC, to a request whose id was not looked at.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct McpFailure {
    #[schemars(extend("const" = "2.0"))]
    jsonrpc: &'static str,
    id: Option<String>,
    error: McpError,
}

#[derive(Debug, Serialize, JsonSchema)]
struct McpError {
    /// The class of errors there
    code: i32,
    /// A sentence for people, and what to do
    message: String,
    data: Problem,
}

/// What clients of text-embeddings-inference parse.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TeiFailure {
    /// A sentence for people, and what to do
    error: String,
    /// The class of errors there
    error_type: &'static str,
    /// What programs decide by
    code: &'static str,
    /// The field that is to blame
    field: Option<String>,
    /// What the server's log knows this failure by
    error_id: String,
}

fn openai(problem: Problem, status: StatusCode) -> OpenAiFailure {
    let kind = match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    };
    let message = message(&problem);
    let Problem { field, code, error_id, .. } = problem;
    OpenAiFailure { error: OpenAiError { message, kind, param: field, code, error_id } }
}

fn anthropic(problem: Problem, status: StatusCode, request_id: &str) -> AnthropicFailure<'_> {
    let kind = match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        status if status == overloaded() => "overloaded_error",
        status if status.is_server_error() => "api_error",
        _ => "invalid_request_error",
    };
    let message = message(&problem);
    let Problem { field, code, error_id, .. } = problem;
    AnthropicFailure {
        kind: "error",
        error: AnthropicError { kind, message, param: field, code, error_id },
        request_id,
    }
}

fn mcp(problem: Problem, status: StatusCode) -> McpFailure {
    let code = match problem.code {
        "invalid_json" | "json_too_deep" => PARSE_ERROR,
        _ if status.is_server_error() => INTERNAL_ERROR,
        _ => INVALID_REQUEST,
    };
    McpFailure { jsonrpc: "2.0", id: None, error: McpError { code, message: message(&problem), data: problem } }
}

fn tei(problem: Problem, status: StatusCode) -> TeiFailure {
    let error_type = match (problem.code, status) {
        ("empty_input", _) => "Empty",
        ("overloaded" | "rate_limited", _) => "Overloaded",
        (_, StatusCode::SERVICE_UNAVAILABLE) => "Unhealthy",
        ("embedding_failed", _) => "Backend",
        (_, status) if status.is_server_error() => "Backend",
        _ => "Validation",
    };
    let error = message(&problem);
    let Problem { field, code, error_id, .. } = problem;
    TeiFailure { error, error_type, code, field, error_id }
}
