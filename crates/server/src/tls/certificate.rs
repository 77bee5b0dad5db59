//! A certificate and its key as they lie in files: read, compared with each other, and what the certificate says of
//! itself. Nothing is written here.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::{ASN1Time, FromDer},
};
use zeroize::Zeroizing;

use super::{Files, TlsCode};
use crate::timestamp;

/// Much more than a certificate with its chain, or a key, has.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Bits of a file's mode.
const OTHERS_READ: u32 = 0o004;
const GROUP_READS: u32 = 0o040;

/// Why files cannot be served with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of them cannot be read.
    #[error("failed to read {path}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no certificate in it, or one that is none.
    #[error("{path} has no usable certificate: {reason}")]
    Certificate {
        /// Where it lies.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no private key in it, or one that cannot be used.
    #[error("{path} has no usable private key: {reason}")]
    Key {
        /// Where it lies.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Everybody on the machine may read the key.
    #[error("every user of this machine may read the private key {path} (mode {mode:o})")]
    KeyExposed {
        /// Where it lies.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Certificate and key are of different pairs.
    #[error("the private key {key} does not belong to the certificate {certificate}")]
    Mismatch {
        /// Where the certificate lies.
        certificate: PathBuf,
        /// Where the key lies.
        key: PathBuf,
    },
    /// Its time is over.
    #[error("the certificate {path} ended at {ended_at}")]
    Expired {
        /// Where it lies.
        path: PathBuf,
        /// When.
        ended_at: String,
    },
    /// The TLS library refused.
    #[error("TLS could not be set up: {reason}")]
    Library {
        /// Why.
        reason: String,
    },
}

impl TlsError {
    /// Its stable name; `docs/ERRORS.md` lists them.
    pub const fn code(&self) -> &'static str {
        let code = match self {
            Self::Unreadable { .. } => TlsCode::FileUnreadable,
            Self::Certificate { .. } => TlsCode::CertificateInvalid,
            Self::Key { .. } => TlsCode::KeyInvalid,
            Self::KeyExposed { .. } => TlsCode::KeyExposed,
            Self::Mismatch { .. } => TlsCode::KeyMismatch,
            Self::Expired { .. } => TlsCode::CertificateExpired,
            Self::Library { .. } => TlsCode::Unavailable,
        };
        code.as_str()
    }

    /// What the operator can do.
    pub fn hint(&self) -> String {
        match self {
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "`holdfast tls init` makes a certificate; one of your own is named with tls.certificate_file and tls.key_file"
                    .to_owned()
            }
            Self::Unreadable { .. } => "make it readable for the user that Holdfast runs as".to_owned(),
            Self::Certificate { .. } => "give a PEM file with the server's certificate first".to_owned(),
            Self::Key { .. } => "give a PEM file with one unencrypted private key: RSA, ECDSA P-256 or P-384, or Ed25519".to_owned(),
            Self::KeyExposed { path, .. } => {
                format!("chmod 600 {}, and make a new key if others use this machine", path.display())
            }
            Self::Mismatch { .. } => "give the key that the certificate was made for".to_owned(),
            Self::Expired { .. } => "put a new one in its place, or run `holdfast tls renew`".to_owned(),
            Self::Library { .. } => "look at the certificate and its key with openssl".to_owned(),
        }
    }
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whom it is for.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Host names and addresses it is valid for.
    pub names: Vec<String>,
    /// From when on.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
    /// SHA-256 of it, as lower-case hex.
    pub fingerprint: String,
    pub(super) der: CertificateDer<'static>,
}

impl Certificate {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn parse(der: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let names = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
        let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(name).collect();
        let fingerprint = Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            names,
            not_before: time(parsed.validity().not_before),
            not_after: time(parsed.validity().not_after),
            fingerprint,
            der: der.clone().into_owned(),
        })
    }

    /// From when on it is valid, as RFC 3339 has it.
    pub fn valid_from(&self) -> String {
        timestamp::from_system(self.not_before)
    }

    /// Until when it is valid.
    pub fn valid_until(&self) -> String {
        timestamp::from_system(self.not_after)
    }

    /// Whether this is the public key in it, as the pair has it.
    pub(super) fn has_key(&self, public: &[u8]) -> bool {
        X509Certificate::from_der(&self.der)
            .is_ok_and(|(_, parsed)| *parsed.public_key().subject_public_key.data == *public)
    }

    /// Whether clients accept it under a name: of a host, or an address, in square brackets or not.
    pub fn has_name(&self, name: &str) -> bool {
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let Ok(name) = ServerName::try_from(name) else { return false };
        let Ok(parsed) = ParsedCertificate::try_from(&self.der) else { return false };
        rustls::client::verify_server_name(&parsed, &name).is_ok()
    }
}

/// Reads and compares the files of a certificate and its key.
pub(super) fn read(files: &Files) -> Result<(CertifiedKey, Certificate), TlsError> {
    let invalid = |reason: String| TlsError::Certificate { path: files.certificate.clone(), reason };
    let pem = bytes_of(&files.certificate)?;
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|error| invalid(error.to_string()))?;
    let first = chain.first().ok_or_else(|| invalid("there is none in PEM form".to_owned()))?;
    let certificate = Certificate::parse(first).map_err(invalid)?;
    let key = read_key(&files.key)?;
    let certified = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { certificate: files.certificate.clone(), key: files.key.clone() }
        }
        rustls::Error::InvalidCertificate(reason) => invalid(reason.to_string()),
        error => TlsError::Key { path: files.key.clone(), reason: error.to_string() },
    })?;
    Ok((certified, certificate))
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = bytes_of(path)?;
    let mode = mode(path).unwrap_or_default();
    if mode & OTHERS_READ != 0 {
        return Err(TlsError::KeyExposed { path: path.to_owned(), mode });
    }
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| TlsError::Key { path: path.to_owned(), reason: error.to_string() })
}

/// A whole file, wiped from memory after use: it may be a private key.
fn bytes_of(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(unreadable)?.len();
    if length > FILE_BYTES_MAX {
        return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has {length} bytes"))));
    }
    // Its buffer is as large as the file from the start: growing would leave a copy behind.
    fs::read(path).map(Zeroizing::new).map_err(unreadable)
}

fn mode(path: &Path) -> Option<u32> {
    Some(fs::metadata(path).ok()?.permissions().mode() & 0o777)
}

/// The mode of a file that its group may read.
pub(super) fn mode_for_group(path: &Path) -> Option<u32> {
    mode(path).filter(|mode| mode & GROUP_READS != 0)
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    }
}

pub(super) fn address(bytes: &[u8]) -> Option<std::net::IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(Into::into)
}

/// Times before 1970 count as 1970.
fn time(time: ASN1Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_of_a_key_is_wiped() {
        fn is_wiped<T: zeroize::ZeroizeOnDrop>(_: &T) {}
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.key");
        fs::write(&path, "a key").unwrap();
        let bytes = bytes_of(&path).unwrap();
        is_wiped(&bytes);
        assert_eq!(*bytes, b"a key");
    }
}
