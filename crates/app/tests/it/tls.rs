//! HTTPS as operators and clients meet it: `tls init|show|renew`, the rules for listeners, and other people's TLS
//! libraries as judges of what was made.

use std::{fs, io::Write, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::home::{Home, Server, finished, http, is_private};

/// A program of the machine. Where it is missing, the test says what to install.
fn tool(name: &str, package: &str) -> Result<Command> {
    let found = Command::new(name).arg(if name == "openssl" { "version" } else { "--version" }).output();
    ensure!(found.is_ok_and(|output| output.status.success()), "`{name}` is missing: apt-get install {package}");
    Ok(Command::new(name))
}

fn succeed(mut command: Command) -> Result<String> {
    succeed_of(&mut command)
}

fn succeed_of(command: &mut Command) -> Result<String> {
    let output = finished_of(command)?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn finished_of(command: &mut Command) -> Result<std::process::Output> {
    Ok(command.stdin(std::process::Stdio::null()).output()?)
}

fn path_in(value: &Value, pointer: &str) -> Result<String> {
    Ok(value.pointer(pointer).and_then(Value::as_str).with_context(|| format!("{value} has no {pointer}"))?.to_owned())
}

/// Whether OpenSSL accepts a certificate under the authority, as strictly as it can.
fn openssl_accepts(authority: &str, certificate: &Path, name: &[&str]) -> Result<bool> {
    let mut openssl = tool("openssl", "openssl")?;
    openssl.args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", authority]).args(name).arg(certificate);
    Ok(finished_of(&mut openssl)?.status.success())
}

#[test]
fn openssl_accepts_what_was_made_and_nothing_else_the_authority_signs() -> Result<()> {
    let home = Home::bare()?;
    let made = home.json(&["tls", "init", "--name", "box.example"])?;
    let (authority, certificate) =
        (path_in(&made, "/authority/file")?, path_in(&made, "/certificate/certificate_file")?);
    for name in [
        ["-verify_hostname", "localhost"],
        ["-verify_hostname", "box.example"],
        ["-verify_ip", "127.0.0.1"],
        ["-verify_ip", "::1"],
    ] {
        ensure!(openssl_accepts(&authority, Path::new(&certificate), &name)?, "{name:?}");
    }
    ensure!(!openssl_accepts(&authority, Path::new(&certificate), &["-verify_hostname", "other.example"])?);

    // With the authority's own key, as a thief would: a certificate for another name, and one for an address.
    let key = authority.replace("ca.pem", "ca.key");
    for (name, check) in
        [("DNS:bank.example", ["-verify_hostname", "bank.example"]), ("IP:192.0.2.1", ["-verify_ip", "192.0.2.1"])]
    {
        let (leaf_key, request, extensions) = (home.path("leaf.key"), home.path("leaf.csr"), home.path("leaf.ext"));
        let leaf = home.path("leaf.pem");
        let mut openssl = tool("openssl", "openssl")?;
        openssl.args([
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=x",
        ]);
        succeed_with(openssl.arg("-keyout").arg(&leaf_key).arg("-out").arg(&request))?;
        fs::write(
            &extensions,
            format!(
                "subjectAltName={name}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
            ),
        )?;
        let mut openssl = tool("openssl", "openssl")?;
        openssl.args(["x509", "-req", "-days", "1", "-CAcreateserial", "-CA", &authority, "-CAkey", &key]);
        succeed_with(openssl.arg("-in").arg(&request).arg("-extfile").arg(&extensions).arg("-out").arg(&leaf))?;
        ensure!(!openssl_accepts(&authority, &leaf, &check)?, "the authority can sign for {name}");
    }
    Ok(())
}

fn succeed_with(command: &mut Command) -> Result<()> {
    let output = finished_of(command)?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn init_is_idempotent_show_shows_and_renew_renews() -> Result<()> {
    let home = Home::bare()?;
    let output = home.run(&["tls", "show", "--json"])?;
    ensure!(
        output.status.code() == Some(1) && String::from_utf8_lossy(&output.stderr).contains("tls_authority_missing")
    );
    let first = home.json(&["tls", "init"])?;
    ensure!(first["new_authority"] == true && first["new_certificate"] == true, "{first}");
    for name in ["", "ca.pem", "ca.key", "server.pem", "server.key"] {
        ensure!(is_private(&home.data_dir().join("tls").join(name))?, "{name}");
    }
    let again = home.json(&["tls", "init"])?;
    ensure!(again["new_authority"] == false && again["new_certificate"] == false, "{again}");
    let shown = home.json(&["tls", "show"])?;
    ensure!(shown["certificate"] == first["certificate"] && shown["authority"] == first["authority"], "{shown}");
    let renewed = home.json(&["tls", "renew"])?;
    ensure!(renewed["authority"] == first["authority"], "{renewed}");
    ensure!(renewed["certificate"]["sha256"] != first["certificate"]["sha256"], "{renewed}");
    ensure!(renewed["certificate"]["names"] == first["certificate"]["names"], "{renewed}");
    let told = home.transcript(&["tls", "renew", "--name", "other.example"])?;
    ensure!(told.contains("may not sign for other.example") && told.contains("--new-authority"), "{told}");
    Ok(())
}

/// A client in Python, whose TLS is OpenSSL's.
const PYTHON_CLIENT: &str = r#"
import http.client, json, ssl, sys
authority, port, key = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
context.verify_flags |= ssl.VERIFY_X509_STRICT
told = []
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    context.minimum_version = context.maximum_version = version
    for host in ("localhost", "127.0.0.1"):
        connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=30)
        connection.request("GET", "/api/v1/collections", headers={"Authorization": "Bearer " + key})
        told.append([connection.getresponse().status, connection.sock.version()])
for context in (ssl.create_default_context(),):
    try:
        http.client.HTTPSConnection("localhost", int(port), context=context, timeout=30).request("GET", "/")
        told.append("trusted by everybody")
    except ssl.SSLCertVerificationError:
        told.append("not trusted without the authority")
print(json.dumps(told))
"#;

#[test]
fn python_reaches_a_server_that_was_set_up_by_two_commands() -> Result<()> {
    let home = Home::new()?;
    let made = home.json(&["tls", "init"])?;
    let server = home.up(&["--listen-tls", "127.0.0.1:0"])?;
    let url = path_in(&server.listening, "/tls_url")?;
    let port = url.rsplit(':').next().context("no port")?;
    let key = path_in(&server.listening, "/admin_key")?;
    let mut python = tool("python3", "python3")?;
    python.args(["-c", PYTHON_CLIENT, &path_in(&made, "/authority/file")?, port, &key]);
    let told: Value = serde_json::from_str(&succeed(python)?)?;
    let expected = serde_json::json!([
        [200, "TLSv1.2"],
        [200, "TLSv1.2"],
        [200, "TLSv1.3"],
        [200, "TLSv1.3"],
        "not trusted without the authority"
    ]);
    ensure!(told == expected, "{told}");
    ensure!(server.stop(Signal::TERM)? == Some(0));
    Ok(())
}

#[test]
fn a_listener_for_other_machines_wants_a_certificate_and_a_key() -> Result<()> {
    let home = Home::new()?;
    insta::assert_snapshot!(home.transcript(&["up", "--listen", "127.0.0.1:0", "--listen-tls", "0.0.0.0:0"])?, @r"
    exit 1
    -- stdout
    -- stderr
    error: failed to read [home]/data/tls/server.pem: No such file or directory (os error 2)
    hint: `holdfast tls init` makes a certificate; one of your own is named with tls.certificate_file and tls.key_file
    ");
    home.succeed(&["tls", "init"])?;
    // On the first run the admin key is made just in time.
    let server = home.up(&["--listen-tls", "0.0.0.0:0"])?;
    ensure!(server.listening["admin_key"].is_string() && server.listening["tls_url"].is_string());
    ensure!(server.stop(Signal::TERM)? == Some(0));
    let keys = home.json(&["keys", "list"])?;
    home.succeed(&["keys", "revoke", &path_in(&keys, "/keys/0/id")?])?;
    let output = home.run(&["up", "--listen", "127.0.0.1:0", "--listen-tls", "0.0.0.0:0", "--json"])?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1) && told.contains("listener_without_keys"), "{told}");
    ensure!(told.contains("holdfast keys create"), "{told}");
    // On loopback nobody else is let in, with or without.
    let server = home.up(&["--listen-tls", "127.0.0.1:0"])?;
    ensure!(server.stop(Signal::TERM)? == Some(0));
    Ok(())
}

#[test]
fn each_bad_certificate_refuses_to_start_with_its_code() -> Result<()> {
    let home = Home::new()?;
    let made = home.json(&["tls", "init"])?;
    let (certificate, key) =
        (path_in(&made, "/certificate/certificate_file")?, path_in(&made, "/certificate/key_file")?);
    let up = |more: &[(&str, &str)]| -> Result<String> {
        let mut command = home.command(&["up", "--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--json"]);
        for (name, value) in more {
            command.env(name, value);
        }
        let output = finished(command)?;
        ensure!(output.status.code() == Some(1));
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let told = up(&[("HOLDFAST_TLS__CERTIFICATE_FILE", &certificate)])?;
    ensure!(told.contains("without its key") && told.contains("tls.key_file"), "{told}");
    let authority_key = key.replace("server.key", "ca.key");
    let told = up(&[("HOLDFAST_TLS__CERTIFICATE_FILE", &certificate), ("HOLDFAST_TLS__KEY_FILE", &authority_key)])?;
    ensure!(told.contains("tls_key_mismatch"), "{told}");
    let text = fs::read(&key)?;
    fs::write(&key, "")?;
    ensure!(up(&[])?.contains("tls_key_invalid"));
    fs::write(&key, text)?;
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    ensure!(up(&[])?.contains("tls_key_exposed"));
    Ok(())
}

/// What a server says of one series without labels.
fn measured(server: &Server, series: &str) -> Result<f64> {
    let key = path_in(&server.listening, "/admin_key")?;
    let request = format!("GET /metrics HTTP/1.1\nHost: localhost\nConnection: close\nX-API-Key: {key}\n\n");
    let (status, text) = http(server.address()?, &request)?;
    ensure!(status == 200, "{text}");
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{series} ")));
    Ok(value.with_context(|| format!("no {series}"))?.parse()?)
}

/// The certificate is read before anything is recorded: that made the metric 0 for ever.
#[test]
fn the_metrics_tell_when_the_certificate_ends() -> Result<()> {
    const EXPIRY: &str = "holdfast_tls_certificate_expiry_timestamp_seconds";
    let home = Home::new()?;
    let made = home.json(&["tls", "init"])?;
    let certificate = path_in(&made, "/certificate/certificate_file")?;
    let mut openssl = tool("openssl", "openssl")?;
    openssl.args(["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in", &certificate]);
    let told = succeed(openssl)?;
    // As `2026-01-31 23:59:59Z`.
    let end = told.trim().strip_prefix("notAfter=").context(told.clone())?;
    let mut date = Command::new("date");
    let end: f64 = succeed_of(date.args(["-u", "-d", end, "+%s"]))?.trim().parse()?;
    let server = home.up(&["--listen-tls", "127.0.0.1:0"])?;
    let measured = measured(&server, EXPIRY)?;
    ensure!((measured - end).abs() < 1.0, "{measured} instead of {end}");
    ensure!(server.stop(Signal::TERM)? == Some(0));
    Ok(())
}

#[test]
fn an_address_off_loopback_without_encryption_only_redirects() -> Result<()> {
    let home = Home::new()?;
    home.succeed(&["tls", "init"])?;
    let mut settings = fs::OpenOptions::new().append(true).open(home.settings())?;
    writeln!(settings, "[server]\nredirect_http = true")?;
    let mut command = home.command(&["up", "--listen", "0.0.0.0:0", "--listen-tls", "127.0.0.1:0", "--json"]);
    command.env("HOLDFAST_LOG__LEVEL", "error");
    let server = home.server(command)?;
    let redirect = path_in(&server.listening, "/redirect_url")?;
    let port = redirect.rsplit(':').next().context("no port")?;
    let tls_url = path_in(&server.listening, "/tls_url")?;
    let tls_port = tls_url.rsplit(':').next().context("no port")?;
    let address = format!("127.0.0.1:{port}");
    let (status, _) = http(&address, "GET /x HTTP/1.1\nHost: localhost\n\n")?;
    ensure!(status == 308);
    let (status, told) = http(&address, "GET /x HTTP/1.1\nHost: localhost\nAuthorization: Bearer hf_x\n\n")?;
    ensure!(status == 403 && told.contains("https_required"), "{told}");
    ensure!(server.listening["url"].as_str().is_some_and(|url| url.ends_with(tls_port)), "{}", server.listening);
    ensure!(server.stop(Signal::TERM)? == Some(0));
    Ok(())
}
