//! Over real sockets with TLS: versions, HTTP/2, certificates that change, and clients that mean no good.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, anyhow, ensure};
use axum::http::Request;
use bytes::Bytes;
use holdfast_resilience::health::Status;
use holdfast_server::{
    Config,
    tls::{
        Files, Tls,
        authority::{Authority, Existing},
    },
};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    connections::{rest, within},
    house::{House, logged},
};

/// A server with a certificate of its own authority, on TLS and on a listener that redirects.
struct Secure {
    house: House,
    tls: Tls,
    authority: Authority,
    address: std::net::SocketAddr,
    redirect: std::net::SocketAddr,
    serving: [JoinHandle<()>; 2],
}

#[expect(clippy::disallowed_methods, reason = "the tests await the tasks themselves")]
async fn open(config: Config) -> Result<Secure> {
    let house = House::with(config).await?;
    let authority = Authority::at(house.path().join("tls"));
    authority.init(&["box.example".to_owned()], &[], Existing::Kept)?;
    let tls = Tls::load(authority.files(), vec!["localhost".to_owned()])?;
    let (listener, redirect) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
    let (address, redirect_address) = (listener.local_addr()?, redirect.local_addr()?);
    let (server, its) = (house.server.clone(), tls.clone());
    let serving = tokio::spawn(async move { server.serve_tls(listener, its).await });
    let (server, its) = (house.server.clone(), tls.clone());
    let redirecting = tokio::spawn(async move { server.serve_redirect(redirect, its, address.port()).await });
    Ok(Secure { house, tls, authority, address, redirect: redirect_address, serving: [serving, redirecting] })
}

impl Secure {
    fn client(&self, versions: &[&'static SupportedProtocolVersion], protocols: &[&str]) -> Result<TlsConnector> {
        let mut roots = RootCertStore::empty();
        let authority = self.authority.show()?.authority_file;
        roots.add(CertificateDer::from_pem_file(authority).map_err(|error| anyhow!("{error}"))?)?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Ok(TlsConnector::from(Arc::new(config)))
    }

    async fn connect(&self, name: &'static str, protocols: &[&str]) -> Result<TlsStream<TcpStream>> {
        self.connect_with(&[&TLS13], name, protocols).await
    }

    async fn connect_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        name: &'static str,
        protocols: &[&str],
    ) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let client = self.client(versions, protocols)?;
        Ok(within(client.connect(ServerName::try_from(name)?, stream)).await??)
    }

    #[expect(clippy::disallowed_methods, reason = "the connection ends with the test")]
    async fn http_2(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = self.connect("localhost", &["h2"]).await?;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn head(&self, method: &str, target: &str, more: &str) -> String {
        format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {}\r\n{more}\r\n", self.house.key)
    }

    fn request(&self, method: &str, target: &str, body: &str) -> Result<Request<Full<Bytes>>> {
        Ok(Request::builder()
            .method(method)
            .uri(format!("https://localhost{target}"))
            .header("x-api-key", &self.house.key)
            .header("content-type", "application/json")
            .body(Full::from(body.to_owned()))?)
    }

    /// Puts another certificate in the place of the one in use, one file after the other, as people do.
    fn replace(&self, certificate: &str, key: &str) -> Result<()> {
        let Files { certificate: certificate_file, key: key_file } = self.authority.files();
        for (path, text) in [(certificate_file, certificate), (key_file, key)] {
            let new = path.with_extension("new");
            fs::remove_file(&new)
                .or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            std::io::Write::write_all(&mut file, text.as_bytes())?;
            fs::rename(&new, &path)?;
        }
        Ok(())
    }

    /// Waits until the component has a status, and gives its reason.
    async fn until(&self, status: Status) -> Result<Option<String>> {
        within(async {
            loop {
                let component = self.house.server.tls_component().context("there is a certificate")?;
                if component.status == status {
                    return Ok(component.reason);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await?
    }

    /// Waits until nobody is connected.
    async fn until_empty(&self) -> Result<()> {
        within(async {
            while self.house.server.active_connections() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await?;
        Ok(())
    }

    async fn close(self) -> Result<()> {
        self.house.shutdown.cancel();
        for serving in self.serving {
            within(serving).await??;
        }
        self.house.close().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_are_spoken_and_older_ones_not() -> Result<()> {
    let secure = open(Config::default()).await?;
    for version in [&TLS12, &TLS13] {
        for name in ["localhost", "127.0.0.1", "box.example"] {
            let mut stream = secure.connect_with(&[version], name, &["http/1.1"]).await?;
            ensure!(stream.get_ref().1.protocol_version() == Some(version.version));
            stream.write_all(secure.head("GET", "/api/v1/collections", "Connection: close\r\n").as_bytes()).await?;
            let told = rest(&mut stream).await?;
            ensure!(told.starts_with("HTTP/1.1 200"), "{told}");
        }
    }
    let other = secure.connect("other.example", &["h2"]).await;
    ensure!(other.is_err(), "the certificate is not for that name");
    // A client of TLS 1.1 (RFC 4346): a record of version 3.1 whose ClientHello offers 3.2 and one old cipher.
    let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let mut old = TcpStream::connect(secure.address).await?;
    old.write_all(&hello).await?;
    let mut alert = [0; 7];
    within(old.read_exact(&mut alert)).await??;
    // A fatal alert (RFC 8446, section 6).
    ensure!(alert[0] == 0x15 && alert[5] == 2, "{alert:?}");
    secure.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_taken_up_again() -> Result<()> {
    let secure = open(Config::default()).await?;
    for version in [&TLS12, &TLS13] {
        let client = secure.client(&[version], &["http/1.1"])?;
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let stream = TcpStream::connect(secure.address).await?;
            let mut stream = within(client.connect(ServerName::try_from("localhost")?, stream)).await??;
            kinds.push(stream.get_ref().1.handshake_kind());
            // What the session is taken up with comes with the answer.
            stream.write_all(secure.head("GET", "/health/live", "Connection: close\r\n").as_bytes()).await?;
            ensure!(rest(&mut stream).await?.starts_with("HTTP/1.1 200"));
        }
        ensure!(kinds == [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)], "{kinds:?}");
    }
    secure.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_chooses_the_cipher() -> Result<()> {
    let secure = open(Config::default()).await?;
    let mut provider = ring::default_provider();
    provider.cipher_suites.reverse();
    let mut roots = RootCertStore::empty();
    let authority = secure.authority.show()?.authority_file;
    roots.add(CertificateDer::from_pem_file(authority).map_err(|error| anyhow!("{error}"))?)?;
    for (version, first) in [(&TLS13, "TLS13_AES_256_GCM_SHA384"), (&TLS12, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384")]
    {
        let config = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
            .with_protocol_versions(&[version])?
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let stream = TcpStream::connect(secure.address).await?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = within(connector.connect(ServerName::try_from("localhost")?, stream)).await??;
        let suite = stream.get_ref().1.negotiated_cipher_suite().context("no cipher")?.suite();
        ensure!(format!("{suite:?}") == first, "{suite:?}");
    }
    secure.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_carries_many_requests_at_once() -> Result<()> {
    let secure = open(Config::default()).await?;
    secure.house.furnish().await?;
    let sender = secure.http_2().await?;
    let asked = (0..64).map(|_| {
        let mut sender = sender.clone();
        let request = secure.request("POST", "/api/v1/search", &json!({ "query": "moon" }).to_string());
        async move {
            let response = sender.send_request(request?).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            ensure!(status == 200 && body.starts_with(b"{"), "{status}: {}", String::from_utf8_lossy(&body));
            Ok(())
        }
    });
    within(futures::future::try_join_all(asked)).await??;
    // What stands for the Host there is looked at as well.
    let mut sender = secure.http_2().await?;
    for (authority, status) in [("localhost", 200), ("evil.example", 403), ("localhost.evil.example", 403)] {
        let request = Request::get(format!("https://{authority}/api/v1/jobs")).header("x-api-key", &secure.house.key);
        let response = within(sender.send_request(request.body(Full::default())?)).await??;
        ensure!(response.status() == status, "{authority}: {}", response.status());
        let is_kept = response.headers().contains_key("strict-transport-security");
        ensure!(is_kept == (authority != "localhost"), "a browser is to keep to TLS: {is_kept}, {authority}");
    }
    let huge = Request::builder().uri("https://localhost/health/live").header("x-large", "x".repeat(10 << 20));
    let mut sender = secure.http_2().await?;
    let refused = within(sender.send_request(huge.body(Full::default())?)).await?;
    ensure!(!refused.is_ok_and(|response| response.status().is_success()), "10 MB of headers");
    secure.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_megabytes_of_headers_are_refused_early() -> Result<()> {
    let secure = open(Config::default()).await?;
    let mut stream = secure.connect("localhost", &["http/1.1"]).await?;
    let head = secure.head("GET", "/health/live", &format!("X-Large: {}\r\n", "x".repeat(10 << 20)));
    // The server says so long before it has read everything, and is heard by one who first says everything.
    within(stream.write_all(head.as_bytes())).await??;
    let told = rest(&mut stream).await?;
    ensure!(told.starts_with("HTTP/1.1 431"), "{told}");
    secure.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_finishes_what_http_2_has_begun() -> Result<()> {
    let secure = open(Config::default()).await?;
    let sender = secure.http_2().await?;
    let body = json!({ "documents": [{ "id": "late", "content": "moon" }] }).to_string();
    // Between two tokens, where white space may stand.
    let (half, rest) = body.as_bytes().split_at(1);
    let (mut feed, slow) = futures::channel::mpsc::channel::<Result<hyper::body::Frame<Bytes>, std::io::Error>>(2);
    feed.try_send(Ok(hyper::body::Frame::data(Bytes::copy_from_slice(half))))?;
    let stream = secure.connect("localhost", &["h2"]).await?;
    let (mut streaming, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
    tokio::spawn(connection);
    let request = Request::builder()
        .method("POST")
        .uri("https://localhost/api/v1/documents")
        .header("x-api-key", &secure.house.key)
        .header("content-type", "application/json")
        .body(http_body_util::StreamBody::new(slow))?;
    let answer = streaming.send_request(request);
    tokio::pin!(answer);
    // More than the client may send before the server reads: when all of that is gone, the request is being worked on.
    within(async {
        for _ in 0..8 {
            std::future::poll_fn(|context| feed.poll_ready(context)).await?;
            feed.start_send(Ok(hyper::body::Frame::data(Bytes::from(" ".repeat(100 << 10)))))?;
        }
        anyhow::Ok(())
    })
    .await??;
    secure.house.shutdown.cancel();
    // The queue is full until the server has read more.
    within(async {
        std::future::poll_fn(|context| feed.poll_ready(context)).await?;
        feed.start_send(Ok(hyper::body::Frame::data(Bytes::copy_from_slice(rest))))
    })
    .await??;
    drop(feed);
    let response = within(&mut answer).await??;
    let status = response.status();
    let told = response.into_body().collect().await?.to_bytes();
    ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(&told));
    // The idle one was told to go, and goes.
    within(async {
        while !sender.is_closed() {
            tokio::task::yield_now().await
        }
    })
    .await?;
    secure.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_certificate_is_taken_up_and_no_connection_is_lost() -> Result<()> {
    let secure = open(Config::default()).await?;
    let fingerprint = |stream: &TlsStream<TcpStream>| {
        stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec()).unwrap_or_default()
    };
    let mut before = secure.connect("localhost", &["http/1.1"]).await?;
    let mut sender = secure.http_2().await?;
    let first = fingerprint(&before);
    let renewed = secure.authority.renew(&[])?;
    within(async {
        while secure.tls.certificate().fingerprint != renewed.server.fingerprint {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await?;
    let after = secure.connect("localhost", &["http/1.1"]).await?;
    ensure!(fingerprint(&after) != first, "the old one is still served");
    before.write_all(secure.head("GET", "/health/live", "Connection: close\r\n").as_bytes()).await?;
    ensure!(rest(&mut before).await?.starts_with("HTTP/1.1 200"), "a connection was lost");
    ensure!(sender.send_request(secure.request("GET", "/health/live", "")?).await?.status() == 200);
    ensure!(secure.until(Status::Ready).await?.is_none());

    // A key that belongs to another certificate: refused, said, and the one before stays.
    let other = KeyPair::generate()?;
    let good = fs::read_to_string(secure.authority.files().certificate)?;
    secure.replace(&good, &other.serialize_pem())?;
    let reason = secure.until(Status::Degraded).await?.unwrap_or_default();
    ensure!(reason.contains("tls_key_mismatch"), "{reason}");
    ensure!(!reason.contains(&*secure.house.path().to_string_lossy()), "{reason}");
    let kept = secure.connect("localhost", &["http/1.1"]).await?;
    ensure!(fingerprint(&kept) == fingerprint(&after));
    for path in ["/health/ready", "/health"] {
        let reply = secure.house.get(path).await?;
        ensure!(reply.text().contains("tls"), "{}", reply.text());
    }
    let status = secure.house.get("/api/v1/status").await?.text();
    ensure!(status.contains("tls_key_mismatch"), "{status}");

    // Renewed once more, all is well again.
    secure.authority.renew(&[])?;
    ensure!(secure.until(Status::Ready).await?.is_none());
    secure.close().await
}

/// A certificate that signs itself, valid from and until so many days from now.
fn self_signed(from_days: i64, until_days: i64) -> Result<(String, String)> {
    self_signed_for("localhost", from_days, until_days)
}

/// The same for another name.
fn self_signed_for(name: &str, from_days: i64, until_days: i64) -> Result<(String, String)> {
    let at = |days: i64| {
        let day = Duration::from_secs(86_400) * u32::try_from(days.unsigned_abs()).unwrap_or(0);
        if days < 0 { SystemTime::now() - day } else { SystemTime::now() + day }
    };
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.not_before = at(from_days).into();
    params.not_after = at(until_days).into();
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Waits for a line of the log with all of these words.
async fn until_logged(words: &[&str]) -> Result<()> {
    let is_there = || logged(words[0]).iter().any(|line| words.iter().all(|word| line.contains(word)));
    let seen = async {
        while !is_there() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(seen).await.with_context(|| format!("no line with {words:?}"))
}

/// What is wrong with a certificate was told at the start only.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_exchanged_is_warned_of_like_one_at_the_start() -> Result<()> {
    let secure = open(Config::default()).await?;
    let (certificate, key) = self_signed_for("only-elsewhere.example", -1, 100)?;
    secure.replace(&certificate, &key)?;
    until_logged(&["only-elsewhere.example", "tls_certificate_names", "\"WARN\""]).await?;
    secure.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_reminded_a_month_and_a_week_before_the_end() -> Result<()> {
    let secure = open(Config::default()).await?;
    for (days, code, level) in
        [(29, "tls_certificate_expires_soon", "\"WARN\""), (6, "tls_certificate_expires_very_soon", "\"ERROR\"")]
    {
        let name = format!("ends-in-{days}.example");
        let (certificate, key) = self_signed_for(&name, -1, days)?;
        secure.replace(&certificate, &key)?;
        within(async {
            while secure.tls.certificate().names != [name.as_str()] {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await?;
        // The time of its end tells it from others.
        let until = secure.tls.certificate().valid_until();
        until_logged(&[&format!("the certificate ends at {until}"), code, level]).await?;
        let reason = secure.until(Status::Degraded).await?.unwrap_or_default();
        ensure!(reason.contains(&until), "{reason}");
    }
    secure.close().await
}

fn files(folder: &std::path::Path, certificate: &str, key: &str, mode: u32) -> Result<Files> {
    let write = |name: &str, text: &str, mode: u32| -> Result<PathBuf> {
        let path = folder.join(name);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&path)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        Ok(path)
    };
    Ok(Files { certificate: write("c.pem", certificate, 0o644)?, key: write("k.pem", key, mode)? })
}

#[test]
fn each_thing_wrong_with_the_files_has_its_code() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (good, key) = self_signed(-1, 100)?;
    let (_, other) = self_signed(-1, 100)?;
    let (expired, expired_key) = self_signed(-10, -1)?;
    let cases = [
        ("tls_certificate_invalid", "nothing", key.as_str(), 0o600),
        ("tls_certificate_invalid", key.as_str(), key.as_str(), 0o600),
        ("tls_key_invalid", good.as_str(), "nothing", 0o600),
        ("tls_key_invalid", good.as_str(), good.as_str(), 0o600),
        ("tls_key_mismatch", good.as_str(), other.as_str(), 0o600),
        ("tls_key_exposed", good.as_str(), key.as_str(), 0o604),
        ("tls_certificate_expired", expired.as_str(), expired_key.as_str(), 0o600),
    ];
    for (code, certificate, key, mode) in cases {
        let files = files(folder.path(), certificate, key, mode)?;
        let error = Tls::load(files, Vec::new()).err().with_context(|| format!("{code} was let through"))?;
        ensure!(error.code() == code, "{code}: {error}");
        ensure!(!error.hint().is_empty());
    }
    let missing = Files { certificate: folder.path().join("gone"), key: folder.path().join("k.pem") };
    ensure!(Tls::load(missing, Vec::new()).err().is_some_and(|error| error.code() == "tls_file_unreadable"));

    let concerns = |certificate: &str, key: &str, mode: u32, name: &str| -> Result<Vec<&'static str>> {
        let tls = Tls::load(files(folder.path(), certificate, key, mode)?, vec![name.to_owned()])?;
        Ok(tls.concerns().iter().map(|concern| concern.code).collect())
    };
    ensure!(concerns(&good, &key, 0o600, "localhost")?.is_empty());
    ensure!(concerns(&good, &key, 0o640, "localhost")? == ["tls_key_group_readable"]);
    ensure!(concerns(&good, &key, 0o600, "box.example")? == ["tls_certificate_names"]);
    let (early, early_key) = self_signed(1, 100)?;
    ensure!(concerns(&early, &early_key, 0o600, "localhost")? == ["tls_certificate_not_yet_valid"]);
    let (soon, very_soon) = ("tls_certificate_expires_soon", "tls_certificate_expires_very_soon");
    for (days, codes) in [(31, &[][..]), (29, &[soon]), (8, &[soon]), (6, &[very_soon])] {
        let (certificate, key) = self_signed(-1, days)?;
        ensure!(concerns(&certificate, &key, 0o600, "localhost")? == codes, "{days} days");
    }
    Ok(())
}

#[test]
fn the_component_says_when_the_certificate_ends() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (certificate, key) = self_signed(-1, 100)?;
    let tls = Tls::load(files(folder.path(), &certificate, &key, 0o600)?, Vec::new())?;
    let day = Duration::from_secs(86_400);
    let status = |days: u32| tls.component(SystemTime::now() + day * days).status;
    ensure!(
        [0, 69, 71, 99, 101].map(status)
            == [Status::Ready, Status::Ready, Status::Degraded, Status::Degraded, Status::Down]
    );
    // A clock that is set back by a day and more.
    ensure!(tls.component(SystemTime::now() - 2 * day).status == Status::Degraded);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_are_not_finished_are_cut_and_hold_up_nobody() -> Result<()> {
    let limits = Config { handshake_timeout: Duration::from_secs(5), max_handshakes: 8, ..Config::default() };
    let secure = open(limits).await?;
    let mut silent = Vec::new();
    for round in 0..32 {
        let mut stream = TcpStream::connect(secure.address).await?;
        if round % 2 == 0 {
            // The beginning of a ClientHello.
            stream.write_all(&[0x16, 3, 1, 2, 0, 1]).await?;
        }
        silent.push(stream);
    }
    let began = Instant::now();
    let mut stream = secure.connect("localhost", &["http/1.1"]).await?;
    stream.write_all(secure.head("GET", "/health/live", "Connection: close\r\n").as_bytes()).await?;
    ensure!(rest(&mut stream).await?.starts_with("HTTP/1.1 200"));
    ensure!(began.elapsed() < Duration::from_secs(4), "it waited until the others were cut off");
    for stream in &mut silent {
        rest(stream).await?;
    }
    secure.until_empty().await?;
    secure.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_2_that_stalls_is_cut_off() -> Result<()> {
    let secure = open(Config { stall_timeout: Duration::from_millis(400), ..Config::default() }).await?;
    // One that says nothing after the handshake, and one that asks and never lets the answer through.
    let mut mute = secure.connect("localhost", &["h2"]).await?;
    let mut deaf = secure.connect("localhost", &["h2"]).await?;
    deaf.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
    // SETTINGS with INITIAL_WINDOW_SIZE 0 (RFC 9113, section 6.5.2), then GET / on stream 1.
    deaf.write_all(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]).await?;
    deaf.write_all(&[0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x87, 0x84]).await?;
    rest(&mut mute).await?;
    rest(&mut deaf).await?;
    secure.until_empty().await?;
    secure.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_opened_and_taken_back_end_the_connection() -> Result<()> {
    let secure = open(Config::default()).await?;
    let mut stream = secure.connect("localhost", &["h2"]).await?;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
    let mut flood = Vec::new();
    for stream in (1..4_000_u32).step_by(2) {
        flood.extend([0, 0, 3, 1, 5]);
        flood.extend(stream.to_be_bytes());
        flood.extend([0x82, 0x87, 0x84]);
        // RST_STREAM with CANCEL.
        flood.extend([0, 0, 4, 3, 0]);
        flood.extend(stream.to_be_bytes());
        flood.extend(8_u32.to_be_bytes());
    }
    let _written = within(stream.write_all(&flood)).await?;
    let mut told = Vec::new();
    let _ended = within(stream.read_to_end(&mut told)).await?;
    // GOAWAY (type 7) with ENHANCE_YOUR_CALM (11), somewhere among what was said before.
    let goaway = told.windows(17).any(|frame| frame[3] == 7 && frame[13..17] == 11_u32.to_be_bytes());
    ensure!(goaway, "the connection ended without saying why: {} bytes", told.len());
    secure.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_on_the_tls_port_is_told_so() -> Result<()> {
    let secure = open(Config::default()).await?;
    for (more, said) in [("", "without encryption"), ("X-API-Key: hf_x\r\n", "credential")] {
        let mut stream = TcpStream::connect(secure.address).await?;
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{more}\r\n").as_bytes()).await?;
        let told = rest(&mut stream).await?;
        ensure!(told.starts_with("HTTP/1.1 403") && told.contains("https_required") && told.contains(said), "{told}");
    }
    let mut noise = TcpStream::connect(secure.address).await?;
    noise.write_all(&[0, 1, 2, 3, 4, 5, 6, 7]).await?;
    ensure!(!rest(&mut noise).await?.contains("HTTP"));
    secure.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_listener_redirects_and_refuses_who_came_with_a_credential() -> Result<()> {
    let secure = open(Config::default()).await?;
    let ask = async |head: &str| -> Result<String> {
        let mut stream = TcpStream::connect(secure.redirect).await?;
        stream.write_all(head.as_bytes()).await?;
        rest(&mut stream).await
    };
    let port = secure.address.port();
    let told = ask("GET /a?b=c HTTP/1.1\r\nHost: box.example:80\r\n\r\n").await?;
    ensure!(told.starts_with("HTTP/1.1 308"), "{told}");
    ensure!(told.contains(&format!("location: https://box.example:{port}/a?b=c\r\n")), "{told}");
    ensure!(told.contains("connection: close\r\n"), "{told}");
    let told = ask("POST /api/v1/search HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 9\r\n\r\n{\"a\":\"b\"}").await?;
    ensure!(told.contains(&format!("location: https://[::1]:{port}/api/v1/search\r\n")), "{told}");
    for credential in ["Authorization: Bearer hf_x", "X-API-Key: hf_x", "Cookie: a=b"] {
        let told = ask(&format!("GET / HTTP/1.1\r\nHost: localhost\r\n{credential}\r\n\r\n")).await?;
        ensure!(told.starts_with("HTTP/1.1 403") && told.contains("https_required"), "{told}");
    }
    let told = ask("GET /?api_key=hf_x HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    ensure!(told.starts_with("HTTP/1.1 403"), "{told}");
    for host in ["Host: evil.example", "Host: user@localhost", "X-None: none"] {
        let told = ask(&format!("GET / HTTP/1.1\r\n{host}\r\n\r\n")).await?;
        ensure!(told.starts_with("HTTP/1.1 403") && !told.contains("location:"), "{host}: {told}");
    }
    // Nothing of the API is there, the probes included.
    ensure!(ask("GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await?.starts_with("HTTP/1.1 308"));
    secure.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_when_the_certificate_ends() -> Result<()> {
    let secure = open(Config::default()).await?;
    // The listener is told of its certificate when it begins to serve.
    let told = within(async {
        loop {
            let told = secure.house.get("/metrics").await?.text();
            if told.contains("holdfast_component_status{component=\"tls\"}") {
                return anyhow::Ok(told);
            }
        }
    })
    .await??;
    let shown = told.lines().find_map(|line| line.strip_prefix("holdfast_tls_certificate_expiry_timestamp_seconds "));
    let shown: f64 = shown.context("no such line")?.parse()?;
    // Other tests of this process have certificates of their own; none of them has ended.
    ensure!(shown > SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64(), "{shown}");
    secure.close().await
}
