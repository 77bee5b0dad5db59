//! A server for load: the same answer to everybody, at once or in pieces, and nothing remembered.
//!
//! It knows both shapes by the path that is asked for, and streams to those who ask for a stream. It is meant for a
//! process of its own, so that what is measured is not shared with it.

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::words;

/// What everybody is answered.
#[derive(Clone, Copy, Debug)]
pub struct Fast {
    /// Bytes of the text of a whole answer.
    pub answer_bytes: usize,
    /// How long after a request an answer begins.
    pub delay: Duration,
    /// Pieces of text of a streamed answer.
    pub pieces: usize,
    /// How long after each other they come.
    pub gap: Duration,
}

impl Default for Fast {
    fn default() -> Self {
        Self { answer_bytes: 256, delay: Duration::ZERO, pieces: 32, gap: Duration::ZERO }
    }
}

/// The answers, as they are sent.
struct Prepared {
    fast: Fast,
    openai: Answers,
    anthropic: Answers,
    models: Bytes,
}

struct Answers {
    whole: Bytes,
    head: Bytes,
    /// In chunks, the last with the end of the body.
    pieces: Vec<Bytes>,
}

impl Answers {
    fn new(whole: &str, frames: Vec<String>) -> Self {
        let chunk = |frame: &String| format!("{:x}\r\n{frame}\r\n", frame.len());
        let mut pieces: Vec<String> = frames.iter().map(chunk).collect();
        if let Some(last) = pieces.last_mut() {
            last.push_str("0\r\n\r\n");
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        Self {
            whole: with_length(whole),
            head: Bytes::from_static(head.as_bytes()),
            pieces: pieces.into_iter().map(Bytes::from).collect(),
        }
    }
}

fn with_length(body: &str) -> Bytes {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    Bytes::from(head + body)
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, fast: Fast) {
    let text = "x".repeat(fast.answer_bytes);
    let pieces = vec!["word "; fast.pieces];
    let prepared = Arc::new(Prepared {
        fast,
        openai: Answers::new(&words::openai_answer(&text), words::openai_frames(&pieces)),
        anthropic: Answers::new(&words::anthropic_answer(&text), words::anthropic_frames(&pieces)),
        models: with_length(&format!(r#"{{"object":"list","data":[{{"id":"{}","object":"model"}}]}}"#, words::MODEL)),
    });
    let mut serving = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let prepared = Arc::clone(&prepared);
        serving.spawn(async move { drop(converse(stream, &prepared).await) });
        while serving.try_join_next().is_some() {}
    }
}

async fn converse(mut stream: TcpStream, prepared: &Prepared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(16 << 10);
    loop {
        let head_bytes = loop {
            if let Some(end) = memmem::find(&buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let length = content_length(&buffer[..head_bytes]);
        while buffer.len() < head_bytes + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let (head, body) = buffer[..head_bytes + length].split_at(head_bytes);
        let path_end = memchr::memchr(b'\r', head).unwrap_or(head.len());
        let is_about = |path: &[u8]| memmem::find(&head[..path_end], path).is_some();
        let answers = if is_about(b"/messages") { &prepared.anthropic } else { &prepared.openai };
        let is_models = is_about(b"/models");
        let is_streamed = memmem::find(body, b"\"stream\":true").is_some();
        buffer.advance(head_bytes + length);
        let began = Instant::now();
        if !prepared.fast.delay.is_zero() {
            sleep_until(began + prepared.fast.delay).await;
        }
        if is_models {
            stream.write_all(&prepared.models).await?;
        } else if is_streamed {
            stream_to(&mut stream, answers, prepared.fast, began).await?;
        } else {
            stream.write_all(&answers.whole).await?;
        }
    }
}

/// Each piece at its time, whatever the one before it took.
async fn stream_to(stream: &mut TcpStream, answers: &Answers, fast: Fast, began: Instant) -> io::Result<()> {
    stream.write_all(&answers.head).await?;
    for (number, piece) in (0_u32..).zip(&answers.pieces) {
        if !fast.gap.is_zero() {
            sleep_until(began + fast.delay + fast.gap * number).await;
        }
        stream.write_all(piece).await?;
    }
    Ok(())
}

fn content_length(head: &[u8]) -> usize {
    let mut lines = head.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        name.eq_ignore_ascii_case(b"content-length:").then_some(value)
    });
    value.and_then(|value| std::str::from_utf8(value.trim_ascii()).ok()?.parse().ok()).unwrap_or(0)
}
