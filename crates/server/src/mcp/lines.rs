//! The messages of MCP on a stream, a line each.
//!
//! A line is bounded and checked as the body of a request is: how deep it nests, that no name stands twice in it, that it
//! is JSON and a message. What is not is answered with an error of JSON-RPC (2.0, section 5.1) whose `data` is the problem
//! document, and the next line is read; a notification is never answered. Where no request can be made out the answer
//! has no id, as the schema of MCP has it (2025-11-25, `JSONRPCErrorResponse`). Sending is left to the protocol library.

use std::{io, pin::Pin};

use rmcp::{
    ErrorData, RoleServer,
    model::{ErrorCode, JsonRpcMessage, RequestId},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::{Transport, async_rw::AsyncRwTransport},
};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader, Empty, empty};

use crate::{
    error::{Code, Failure},
    face, mcp,
};

/// What is put before a text by editors that mean UTF-8; a parser may pass over it (RFC 8259, section 8.1).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a line may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Its bytes.
    pub bytes: usize,
    /// How deep it may nest.
    pub depth: usize,
}

/// Both directions of a stream.
pub(crate) struct Lines<R, W: AsyncWrite> {
    read: BufReader<R>,
    bounds: Bounds,
    /// What was read of the line that is coming. Reading may be given up at any time and taken up again.
    line: Vec<u8>,
    /// The line that is coming is too long already.
    is_passed_over: bool,
    /// An answer that is being sent; the next line is read once it is, so that nobody can have answers pile up.
    answer: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>>,
    write: AsyncRwTransport<RoleServer, Empty, W>,
}

/// What came.
enum Came {
    Line,
    TooLong,
    End,
}

impl<R, W> Lines<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    pub(crate) fn new(read: R, write: W, bounds: Bounds) -> Self {
        Self {
            read: BufReader::new(read),
            bounds,
            line: Vec::new(),
            is_passed_over: false,
            answer: None,
            write: AsyncRwTransport::new(empty(), write),
        }
    }

    /// Reads to the end of a line. Dropped before that, it loses nothing: what was taken from the stream is in the line.
    async fn come(&mut self) -> io::Result<Came> {
        loop {
            let there = self.read.fill_buf().await?;
            if there.is_empty() {
                return Ok(Came::End);
            }
            let end = there.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(there.len(), |end| end + 1);
            if !self.is_passed_over && self.line.len() + taken > self.bounds.bytes {
                self.line = Vec::new();
                self.is_passed_over = true;
            }
            if !self.is_passed_over {
                self.line.extend_from_slice(&there[..taken]);
            }
            self.read.consume(taken);
            if end.is_some() {
                let was_passed_over = std::mem::take(&mut self.is_passed_over);
                return Ok(if was_passed_over { Came::TooLong } else { Came::Line });
            }
        }
    }

    fn refuse(&mut self, Refused { failure, number, id }: Refused) {
        let problem = failure.report();
        let error = ErrorData::new(ErrorCode(number), face::message(&problem), serde_json::to_value(&problem).ok());
        self.answer = Some(Box::pin(self.write.send(JsonRpcMessage::error(error, id))));
    }
}

impl<R, W> Transport<RoleServer> for Lines<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        self.write.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            if let Some(answer) = &mut self.answer {
                let sent = answer.as_mut().await;
                self.answer = None;
                sent.ok()?;
            }
            let refused = match self.come().await {
                Ok(Came::Line) => {
                    let message = message(&self.line, self.bounds.depth);
                    self.line.clear();
                    match message {
                        Ok(Some(message)) => return Some(message),
                        Ok(None) => continue,
                        Err(refused) => *refused,
                    }
                }
                Ok(Came::TooLong) => Refused {
                    failure: Failure::new(
                        Code::BodyTooLarge,
                        format!("a line may have {} bytes at the most", self.bounds.bytes),
                    ),
                    number: face::INVALID_REQUEST,
                    id: None,
                },
                Ok(Came::End) => return None,
                Err(error) => {
                    tracing::debug!(%error, "an MCP session broke off: {error}");
                    return None;
                }
            };
            self.refuse(refused);
        }
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        self.write.close().await
    }
}

/// A line that is not taken.
#[derive(Debug)]
struct Refused {
    failure: Failure,
    /// As JSON-RPC has it.
    number: i32,
    /// Of the request that it would have been; nothing where that cannot be known.
    id: Option<RequestId>,
}

/// The message of a line; nothing for one that asks for no answer.
fn message(line: &[u8], depth: usize) -> Result<Option<RxJsonRpcMessage<RoleServer>>, Box<Refused>> {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii();
    if line.is_empty() {
        return Ok(None);
    }
    let value = mcp::read(line, depth)
        .0
        .map_err(|failure| Box::new(Refused { failure, number: face::PARSE_ERROR, id: None }))?;
    let (id, is_notification) = (value.get("id").cloned(), is_notification(&value));
    match serde_json::from_value(value) {
        Ok(message) => Ok(Some(message)),
        // One of another protocol or of a later version.
        Err(_) if is_notification => Ok(None),
        Err(error) => {
            let failure = Failure::new(Code::InvalidRequest, "the line is not a JSON-RPC message of MCP").cause(error);
            let id = id.and_then(|id| serde_json::from_value(id).ok());
            Err(Box::new(Refused { failure, number: face::INVALID_REQUEST, id }))
        }
    }
}

/// JSON-RPC 2.0, section 4.1: a request without an id, which is never answered.
fn is_notification(value: &Value) -> bool {
    value.get("id").is_none() && value.get("method").is_some_and(Value::is_string)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 30_000, depth: 64 };

    /// The ids of the messages that were read, and the answers that were given by itself.
    async fn converse(input: &[u8]) -> (Vec<Value>, Vec<Value>) {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let mut lines = Lines::new(io::Cursor::new(input.to_vec()), ours, BOUNDS);
        let mut ids = Vec::new();
        while let Some(message) = lines.receive().await {
            ids.push(serde_json::to_value(&message).unwrap()["id"].take());
        }
        drop(lines);
        let mut told = String::new();
        theirs.read_to_string(&mut told).await.unwrap();
        (ids, told.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    #[tokio::test]
    async fn what_is_no_message_is_answered_and_the_next_line_is_read() {
        let deep = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":{}", "[".repeat(10_000));
        let long = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"x\":\"{}\"}}", "x".repeat(BOUNDS.bytes));
        for (line, number, code, id) in [
            ("no JSON", -32_700, "invalid_json", None),
            ("{\"jsonrpc\":", -32_700, "invalid_json", None),
            (&deep, -32_700, "json_too_deep", None),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, -32_700, "invalid_request", None),
            (r#"{"jsonrpc":"2.0","id":7,"nothing":1}"#, -32_600, "invalid_request", Some(Value::from(7))),
            (r#"{"jsonrpc":"2.0","id":"a","method":5}"#, -32_600, "invalid_request", Some(Value::from("a"))),
            ("[]", -32_600, "invalid_request", None),
            (&long, -32_600, "body_too_large", None),
        ] {
            let shown: String = line.chars().take(60).collect();
            let ping = r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#;
            let (ids, answers) = converse(format!("{line}\n{ping}\n").as_bytes()).await;
            assert_eq!(ids, [3], "{shown}");
            let [answer] = answers.as_slice() else { panic!("{shown}: {answers:?}") };
            let error = &answer["error"];
            assert_eq!((&error["code"], &error["data"]["code"]), (&number.into(), &code.into()), "{shown}: {answer}");
            assert_eq!((answer.get("id"), &answer["jsonrpc"]), (id.as_ref(), &"2.0".into()), "{shown}: {answer}");
            assert!(error["data"]["error_id"].is_string() && error["message"].is_string(), "{answer}");
        }
    }

    #[tokio::test]
    async fn what_asks_for_no_answer_gets_none() {
        let lines = "\n \r\n{\"jsonrpc\":\"2.0\",\"method\":\"$/setTrace\"}\n\
            {\"method\":\"notifications/unheard-of\",\"params\":{\"a\":1}}\n\
            \u{feff}{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"ping\"}\r\n{\"jsonrpc\":\"2.0\",\"id\":5,\"meth";
        let (ids, answers) = converse(lines.as_bytes()).await;
        assert!(ids.contains(&4.into()) && !ids.contains(&5.into()), "{ids:?}");
        assert_eq!(answers, Vec::<Value>::new());
    }

    #[tokio::test]
    async fn a_line_that_comes_in_pieces_is_one_however_often_reading_was_given_up() {
        let (mut theirs, ours) = tokio::io::duplex(64);
        let mut lines = Lines::new(ours, tokio::io::sink(), BOUNDS);
        for piece in ["{\"jsonrpc\":\"2.0\",", "\"id\":9,\"method\"", ":\"ping\"}"] {
            tokio::io::AsyncWriteExt::write_all(&mut theirs, piece.as_bytes()).await.unwrap();
            tokio::select! {
                biased;
                message = lines.receive() => panic!("{message:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        tokio::io::AsyncWriteExt::write_all(&mut theirs, b"\n").await.unwrap();
        let message = serde_json::to_value(lines.receive().await.unwrap()).unwrap();
        assert_eq!(message["id"], 9);
    }
}
