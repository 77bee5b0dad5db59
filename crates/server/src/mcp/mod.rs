//! MCP: the knowledge base as tools for a model.
//!
//! A tool is a handler like any other: its input is converted, one façade call is made, the outcome converted back.
//! What fails is a tool error, which the model reads, with the code, hint and `error_id` of every other answer; only a
//! tool that does not exist is a protocol error. How messages travel is `http`, `stream` and `lines`; no state is kept between
//! calls.

pub(crate) mod tools;

pub(crate) mod http;

pub(crate) mod stream;

pub(crate) mod lines;

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::http::request::Parts;
use futures::FutureExt;
use holdfast_storage::{Caller, Scope};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, JsonObject,
        ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
};
use serde::Serialize;
use serde_json::{Value, error::Category};
use tracing::{Instrument, Span};

use crate::{
    Server, access,
    distinct::{Distinct, counting},
    error::{Code, Failure},
    gate, input,
    limits::Meter,
};

/// What a model is told about the server as a whole.
const INSTRUCTIONS: &str = "The user's private knowledge base: their notes, documentation and source code. \
Search it before answering from memory whenever the question may concern them. Search in plain words or with exact \
identifiers; narrow with `collections` or `filter`; read more with `fetch_document`. Cite the path or title.";

/// The tools, for one connection or one request.
#[derive(Clone)]
pub(crate) struct Tools {
    server: Server,
    /// Who calls, where the connection says it; else the request does.
    caller: Option<Caller>,
}

/// Who calls a tool, and what that is charged to.
#[derive(Clone)]
pub(crate) struct Client {
    caller: Caller,
    meter: Meter,
}

/// What a tool gives back.
pub(crate) struct Outcome {
    /// For people and models to read.
    text: String,
    /// For programs, in the shape of the tool's output schema.
    structured: Value,
}

impl Outcome {
    fn new(text: String, structured: &impl Serialize) -> Result<Self, Failure> {
        let structured = serde_json::to_value(structured)
            .map_err(|error| Failure::new(Code::Internal, crate::error::SOMETHING_WENT_WRONG).cause(error))?;
        Ok(Self { text, structured })
    }
}

impl Tools {
    /// The tools for whoever is behind a connection.
    fn of(server: Server, caller: Caller) -> Self {
        Self { server, caller: Some(caller) }
    }

    /// The tools for whoever the gate noted on the request.
    fn of_request(server: Server) -> Self {
        Self { server, caller: None }
    }

    /// Who calls, and the span the call belongs to.
    fn origin(&self, context: &RequestContext<RoleServer>) -> (Option<Client>, Span) {
        let parts = context.extensions.get::<Parts>();
        let of_request = parts.and_then(|parts| parts.extensions.get::<Caller>()).cloned();
        let meter = parts.and_then(|parts| parts.extensions.get::<Meter>()).cloned().unwrap_or_else(Meter::free);
        let span = parts.and_then(|parts| parts.extensions.get::<Span>()).cloned();
        let client = self.caller.clone().or(of_request).map(|caller| Client { caller, meter });
        (client, span.unwrap_or_else(Span::current))
    }

    /// A call with all that holds for every call: a place, a deadline, and a net for panics.
    async fn call(
        &self,
        client: Option<Client>,
        (name, scope): (&'static str, Scope),
        input: JsonObject,
    ) -> Result<Outcome, Failure> {
        let client = client.ok_or_else(|| Failure::new(Code::Unauthorized, "no key was given"))?;
        access::permit(&client.caller, scope)?;
        let full = |_| Failure::new(Code::Overloaded, "as many tools are being called as may be");
        let _place = self.server.mcp_calls().try_enter().map_err(full)?;
        let deadline = self.server.config().request_timeout;
        let work = Box::pin(tools::call(&self.server, &client, name, input));
        match tokio::time::timeout(deadline, AssertUnwindSafe(work).catch_unwind()).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(gate::panicked(panic.as_ref())),
            Err(_) => {
                Err(Failure::new(Code::DeadlineExceeded, format!("not finished within {} s", deadline.as_secs_f32())))
            }
        }
    }
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("holdfast", self.server.version()))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        // A tool that would be refused only costs the model tokens.
        let (client, _) = self.origin(&context);
        let may = |name: &str| {
            let asks = tools::TOOLS.iter().find(|(known, _)| *known == name);
            client.as_ref().zip(asks).is_some_and(|(client, (_, scope))| client.caller.may(*scope))
        };
        let tools = tools::list().iter().filter(|tool| may(&tool.name)).cloned().collect();
        Ok(ListToolsResult::with_all_items(tools))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::list().iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(tool @ (name, _)) = tools::TOOLS.into_iter().find(|(name, _)| *name == request.name) else {
            let known = tools::TOOLS.map(|(name, _)| name).join(", ");
            return Err(ErrorData::invalid_params(format!("there is no such tool; there are {known}"), None));
        };
        let (client, span) = self.origin(&context);
        let called = self.call(client, tool, request.arguments.unwrap_or_default()).instrument(span.clone()).await;
        let word = if called.is_ok() { "ok" } else { "error" };
        metrics::counter!("holdfast_mcp_calls_total", "tool" => name, "outcome" => word).increment(1);
        Ok(span
            .in_scope(|| match called {
                Ok(outcome) => {
                    let mut result = CallToolResult::success(vec![ContentBlock::text(outcome.text)]);
                    result.structured_content = Some(outcome.structured);
                    result
                }
                Err(failure) => tool_error(failure),
            })
            .into())
    }
}

/// What a message says, in which nothing stands twice and which nests no deeper than that; and how many values were read.
fn read(json: &[u8], depth_max: usize) -> (Result<Value, Failure>, usize) {
    if let Err(failure) = input::check_depth(json, depth_max) {
        return (Err(failure), 0);
    }
    let (read, values) = counting(|| serde_json::from_slice::<Distinct>(json));
    let read = read.map(|Distinct(value)| value).map_err(|error| {
        let code = match error.classify() {
            Category::Data => Code::InvalidRequest,
            _ => Code::InvalidJson,
        };
        Failure::new(code, error.to_string())
    });
    (read, values)
}

/// A failure as the model reads it.
fn tool_error(failure: Failure) -> CallToolResult {
    let problem = failure.report();
    let mut result = CallToolResult::error(vec![ContentBlock::text(problem.text())]);
    result.structured_content = serde_json::to_value(&problem).ok();
    result
}

/// A schema as it is sent, without what only costs tokens.
fn schema<T: schemars::JsonSchema>(contract: schemars::generate::Contract) -> Arc<JsonObject> {
    let mut settings = schemars::generate::SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.contract = contract;
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut object = match schema.to_value() {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    };
    tools::slim(&mut object);
    object.remove("description");
    Arc::new(object)
}
