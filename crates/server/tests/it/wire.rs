//! A server at a real socket, and ways to say to it what no client would.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use holdfast_server::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::house::{House, PATIENCE};

pub struct Wire {
    pub house: House,
    pub address: SocketAddr,
    serving: JoinHandle<()>,
}

/// Everything that came back on a connection.
#[derive(Debug)]
pub struct Told(pub String);

impl Wire {
    #[expect(clippy::disallowed_methods, reason = "closing awaits the task")]
    pub async fn open(config: Config) -> Result<Self> {
        let house = House::with(config).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = house.server.clone();
        let serving = tokio::spawn(async move { server.serve(listener).await });
        Ok(Self { house, address, serving })
    }

    /// Says something on a connection of its own, and gives all that comes back until the server closes it.
    pub async fn say(&self, bytes: impl AsRef<[u8]>) -> Result<Told> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut reader, mut writer) = stream.into_split();
        let mut told = Vec::new();
        // The server may have heard enough before everything is said, and reset what it does not want to read.
        let speaking = async {
            let _written = writer.write_all(bytes.as_ref()).await;
            std::future::pending::<()>().await;
        };
        let listening = async {
            let _ended = reader.read_to_end(&mut told).await;
        };
        tokio::time::timeout(PATIENCE, async {
            tokio::select! {
                () = speaking => {}
                () = listening => {}
            }
        })
        .await
        .with_context(|| format!("no end: {}", String::from_utf8_lossy(bytes.as_ref())))?;
        Ok(Told(String::from_utf8_lossy(&told).into_owned()))
    }

    /// A request in full, with the key, whose answer is the last on its connection.
    pub async fn ask(&self, method: &str, target: &str, more: &str, body: &str) -> Result<Told> {
        let key = &self.house.key;
        self.say(request(method, target, &format!("X-API-Key: {key}\r\n{more}"), body)).await
    }

    pub async fn close(self) -> Result<()> {
        self.house.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.serving).await.context("the listener did not end")??;
        self.house.close().await
    }
}

/// A request that closes its connection; `Host` unless `more` has one.
pub fn request(method: &str, target: &str, more: &str, body: &str) -> String {
    let host = if more.to_lowercase().contains("host:") { "" } else { "Host: localhost\r\n" };
    let length = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
    };
    format!("{method} {target} HTTP/1.1\r\n{host}Connection: close\r\n{length}{more}\r\n{body}")
}

impl Told {
    /// The status of the first answer; 0 where there is none.
    pub fn status(&self) -> u16 {
        let word = self.0.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        word.and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    /// How many answers there are.
    pub fn answers(&self) -> usize {
        self.0.matches("HTTP/1.1 ").count()
    }

    /// The values of a header of the first answer.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let head = self.0.split("\r\n\r\n").next().unwrap_or_default();
        let fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).first().copied()
    }

    /// Checks that the first answer has this status and code.
    pub fn expect(&self, status: u16, code: &str) -> Result<&Self> {
        ensure!(self.status() == status, "not {status}: {self:?}");
        ensure!(self.0.contains(&format!("\"code\":\"{code}\"")), "not {code}: {self:?}");
        Ok(self)
    }
}
