//! Connections of a scripted server: requests read, scripts played.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::BytesMut;
use memchr::memmem;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Received, Script, Shared, Step, script::Framing};

/// Takes connections until it is dropped, with all of them.
pub(super) async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut serving = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = shared.change(|state| {
            state.connections += 1;
            state.connections - 1
        });
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        serving.spawn(async move {
            // A client that goes away in the middle of something is what much of this is for.
            drop(serve(stream, tls, &shared, number).await);
        });
        while serving.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, shared: &Shared, number: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let greeting = shared.state().greeting.clone();
    if let Some(greeting) = greeting {
        let mut connection = Connection { socket: Socket::Plain(stream), buffer: BytesMut::new() };
        return connection.play(&greeting).await.map(drop);
    }
    let socket = match tls {
        None => Socket::Plain(stream),
        Some(tls) => Socket::Tls(Box::new(tls.accept(stream).await?)),
    };
    let mut connection = Connection { socket, buffer: BytesMut::new() };
    while let Some(received) = connection.request(number).await? {
        let (script, at) = shared.change(|state| {
            state.received.push(received);
            (state.next.pop_front().or_else(|| state.always.clone()), state.received.len() - 1)
        });
        let script = script.unwrap_or_else(|| Script::failure(500, "no_script", "there is no script for that"));
        let played = connection.play(&script).await;
        shared.change(|state| match played {
            Err(_) => state.received[at].is_left = true,
            Ok(_) => state.received[at].is_over = true,
        });
        if let After::Nothing = played? {
            break;
        }
    }
    Ok(())
}

/// What comes after a script.
enum After {
    /// The next request.
    Request,
    /// Nothing on this connection.
    Nothing,
}

struct Connection {
    socket: Socket,
    /// What came and was not looked at.
    buffer: BytesMut,
}

impl Connection {
    /// The next request; nothing where the client has no more.
    async fn request(&mut self, connection: usize) -> io::Result<Option<Received>> {
        let head_bytes = loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        };
        let head = String::from_utf8_lossy(&self.buffer.split_to(head_bytes)).into_owned();
        let mut lines = head.lines();
        let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let (method, path) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_lowercase(), value.trim().to_owned()))
        };
        let headers: Vec<(String, String)> = lines.filter_map(header).collect();
        let mut received =
            Received { connection, method, path, headers, body: bytes::Bytes::new(), is_left: false, is_over: false };
        let length: usize = received.header("content-length").parse().unwrap_or(0);
        while self.buffer.len() < length {
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
        received.body = self.buffer.split_to(length).freeze();
        Ok(Some(received))
    }

    /// Plays a script; fails when the client goes away before its end.
    async fn play(&mut self, script: &Script) -> io::Result<After> {
        let mut framing = Framing::Length(0);
        for step in &script.steps {
            match step {
                Step::Head { status, headers, framing: other } => {
                    framing = *other;
                    self.socket.write_all(head(*status, headers, framing).as_bytes()).await?;
                }
                Step::Body(body) if framing == Framing::Chunked => {
                    let chunk = [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat();
                    self.socket.write_all(&chunk).await?;
                }
                Step::Body(bytes) | Step::Raw(bytes) => self.socket.write_all(bytes).await?,
                Step::End if framing == Framing::Chunked => self.socket.write_all(b"0\r\n\r\n").await?,
                Step::End => (),
                Step::Wait(time) => {
                    tokio::select! {
                        () = sleep(*time) => (),
                        left = self.left() => return Err(left),
                    }
                }
                Step::Hang => return Err(self.left().await),
                Step::Close => {
                    self.socket.shutdown().await?;
                    return Ok(After::Nothing);
                }
                Step::Reset => {
                    if let Socket::Plain(stream) = &self.socket {
                        stream.set_zero_linger()?;
                    }
                    return Ok(After::Nothing);
                }
            }
            self.socket.flush().await?;
        }
        if framing == Framing::UntilClose {
            self.socket.shutdown().await?;
            return Ok(After::Nothing);
        }
        Ok(After::Request)
    }

    /// Comes back when the client has gone away.
    async fn left(&mut self) -> io::Error {
        loop {
            match self.socket.read_buf(&mut self.buffer).await {
                Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => (),
                Err(error) => return error,
            }
        }
    }
}

fn head(status: u16, headers: &[(String, String)], framing: Framing) -> String {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    match framing {
        Framing::Length(length) => head += &format!("content-length: {length}\r\n"),
        Framing::Chunked => head += "transfer-encoding: chunked\r\n",
        Framing::UntilClose => head += "connection: close\r\n",
    }
    head + "\r\n"
}

enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
