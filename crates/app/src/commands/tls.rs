//! `holdfast tls`: the certificate for HTTPS, made by an authority of this host's own.
//!
//! Works on the files alone, whether a server runs or not: one that runs sees that they changed.

use anyhow::Result;
use holdfast_server::tls::{
    Certificate,
    authority::{Authority, Existing, Made, Shown, own_names},
};
use serde_json::{Value, json};

use super::Session;
use crate::{
    arguments::Tls,
    output::{Form, say},
    telemetry::Reader,
};

/// Makes, shows or renews the certificate.
pub fn run(session: &Session, action: Tls) -> Result<()> {
    session.settings(Reader::User)?;
    let authority = Authority::at(session.place.data_dir.join("tls"));
    match action {
        Tls::Init { name, new_authority } => {
            let existing = if new_authority { Existing::Replaced } else { Existing::Kept };
            init(session, &authority.init(&name, &own_names(), existing)?)
        }
        Tls::Show => show(session, &authority.show()?),
        Tls::Renew { name } => {
            let shown = authority.renew(&name)?;
            show(session, &shown)?;
            remind(session, "made a new certificate; a server that runs takes it up within seconds");
            Ok(())
        }
    }
}

fn init(session: &Session, made: &Made) -> Result<()> {
    let mut answer = answer(&made.shown);
    answer["new_authority"] = json!(made.is_new_authority);
    answer["new_certificate"] = json!(made.is_new_certificate);
    answer["left_out"] = json!(made.left_out);
    session.output.value(&answer, |_| text(&made.shown))?;
    if !made.left_out.is_empty() {
        let names = made.left_out.join(", ");
        remind(session, &format!("the authority is older than {names}; --new-authority makes one that has them"));
    }
    if made.is_new_authority {
        remind(session, &trust(&made.shown));
    } else if !made.is_new_certificate {
        remind(session, "everything is there already");
    }
    Ok(())
}

fn show(session: &Session, shown: &Shown) -> Result<()> {
    session.output.value(&answer(shown), |_| text(shown))?;
    Ok(())
}

/// Talk that is for people only.
fn remind(session: &Session, line: &str) {
    if session.output.form() == Form::Text {
        say(line);
    }
}

fn trust(shown: &Shown) -> String {
    let file = shown.authority_file.display();
    [
        format!("clients have to trust {file}; it can sign for the names above and no others:"),
        format!("  Debian, Ubuntu: cp {file} /usr/local/share/ca-certificates/holdfast.crt && update-ca-certificates"),
        format!("  Fedora: cp {file} /etc/pki/ca-trust/source/anchors/holdfast.pem && update-ca-trust"),
        format!("  macOS: security add-trusted-cert -p ssl -k ~/Library/Keychains/login.keychain-db {file}"),
        format!("  curl: --cacert {file}; Python: SSL_CERT_FILE={file}; Node: NODE_EXTRA_CA_CERTS={file}"),
        "then start the server with --listen-tls 0.0.0.0:8443, or set server.listen_tls".to_owned(),
    ]
    .join("\n")
}

fn answer(shown: &Shown) -> Value {
    let mut authority = certificate(&shown.authority);
    authority["file"] = json!(shown.authority_file);
    authority["permitted"] = json!(shown.permitted);
    let mut server = certificate(&shown.server);
    server["names"] = json!(shown.server.names);
    server["certificate_file"] = json!(shown.files.certificate);
    server["key_file"] = json!(shown.files.key);
    json!({ "authority": authority, "certificate": server })
}

fn certificate(certificate: &Certificate) -> Value {
    json!({
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "valid_from": certificate.valid_from(),
        "valid_until": certificate.valid_until(),
        "sha256": certificate.fingerprint,
    })
}

fn text(shown: &Shown) -> String {
    let Shown { authority, authority_file, permitted, server, files } = shown;
    let part = |certificate: &Certificate| {
        [
            format!("  subject      {}", certificate.subject),
            format!("  valid        {} to {}", certificate.valid_from(), certificate.valid_until()),
            format!("  SHA-256      {}", certificate.fingerprint),
        ]
        .join("\n")
    };
    [
        format!("authority      {}", authority_file.display()),
        part(authority),
        format!("  may sign for {}", permitted.join(", ")),
        format!("certificate    {}", files.certificate.display()),
        part(server),
        format!("  names        {}", server.names.join(", ")),
        format!("  key          {}", files.key.display()),
    ]
    .join("\n")
}
