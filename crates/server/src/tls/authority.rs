//! A certificate authority of this host's own, for those who have no other: `holdfast tls init|show|renew`.
//!
//! Whoever trusts it must not have to trust it with more than this host. So its certificate is constrained, critically,
//! to the names and addresses of this host and of loopback (RFC 5280, section 4.2.1.10), to the authentication of servers
//! and to signing nothing but leaves: the key of this authority, stolen, makes no certificate for anybody else's name.
//! Files are put in place whole and one process at a time; a running server sees that they changed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustix::fs::{FlockOperation, flock};
use rustls::pki_types::{CertificateDer, DnsName, pem::PemObject};
use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};
use zeroize::Zeroizing;

use super::{Age, Certificate, Files, TlsCode, certificate};

const AUTHORITY_CERTIFICATE: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca.key";
const SERVER_CERTIFICATE: &str = "server.pem";
const SERVER_KEY: &str = "server.key";

/// The names of loopback, which every certificate made here has.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Trusting an authority is work for people; it should not have to be done again while the machine lives.
const AUTHORITY_DAYS: u64 = 3_650;
/// The most that browsers accept of a leaf is 398 days (CA/Browser Forum Baseline Requirements, section 6.3.2).
const SERVER_DAYS: u64 = 397;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Clocks of clients go wrong, and so may that of this host.
const BACKDATED: Duration = DAY;

/// The folder of an authority and of the certificate it made.
#[derive(Clone, Debug)]
pub struct Authority {
    folder: PathBuf,
}

/// What there is.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The authority's certificate.
    pub authority: Certificate,
    /// Where it lies; clients have to trust it.
    pub authority_file: PathBuf,
    /// The names and addresses that it can sign for.
    pub permitted: Vec<String>,
    /// The server's certificate.
    pub server: Certificate,
    /// Where that and its key lie.
    pub files: Files,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// What there is now.
    pub shown: Shown,
    /// Whether the authority is new, and has to be trusted anew.
    pub is_new_authority: bool,
    /// Whether the server's certificate is new.
    pub is_new_certificate: bool,
    /// Names of this host that were left out because the authority, which is older, cannot sign for them.
    pub left_out: Vec<String>,
}

/// Whether an authority that is there is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is.
    Kept,
    /// A new one is put in its place.
    Replaced,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file or folder.
    #[error("failed to {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Nothing was made here yet.
    #[error("there is no certificate authority in {folder}")]
    Missing {
        /// Where it would lie.
        folder: PathBuf,
    },
    /// What lies there is no authority, or not a whole one.
    #[error("the certificate authority in {folder} cannot be used: {reason}")]
    Unusable {
        /// Where it lies.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A name that is none.
    #[error("{name:?} is neither a host name nor an address")]
    Name {
        /// As given.
        name: String,
    },
    /// The authority is not for these names.
    #[error("the certificate authority may not sign for {}, only for {}", names.join(", "), permitted.join(", "))]
    NotPermitted {
        /// What was asked for.
        names: Vec<String>,
        /// What it may sign for.
        permitted: Vec<String>,
    },
    /// The library that makes certificates failed.
    #[error("a certificate could not be made: {reason}")]
    Library {
        /// Why.
        reason: String,
    },
}

impl AuthorityError {
    /// Its stable name; `docs/ERRORS.md` lists them.
    pub const fn code(&self) -> &'static str {
        let code = match self {
            Self::File { .. } => TlsCode::FileUnusable,
            Self::Missing { .. } => TlsCode::AuthorityMissing,
            Self::Unusable { .. } => TlsCode::AuthorityUnusable,
            Self::Name { .. } => TlsCode::NameInvalid,
            Self::NotPermitted { .. } => TlsCode::NameNotPermitted,
            Self::Library { .. } => TlsCode::Unavailable,
        };
        code.as_str()
    }

    /// What a person can do.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::File { .. } => "make the folder readable and writable for the user that Holdfast runs as",
            Self::Missing { .. } => "`holdfast tls init` makes one",
            Self::Unusable { .. } => {
                "`holdfast tls init --new-authority` makes a new one, which clients have to trust anew"
            }
            Self::Name { .. } => "give names such as server.example.org or 192.0.2.7",
            Self::NotPermitted { .. } => {
                "`holdfast tls init --new-authority` with every --name it is to have makes another, which clients have to trust anew"
            }
            Self::Library { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

fn library(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Library { reason: error.to_string() }
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AuthorityError {
    move |source| AuthorityError::File { action, path: path.to_owned(), source }
}

/// A name that a certificate can have.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Host(String),
    Address(IpAddr),
}

impl Name {
    fn parse(text: &str) -> Result<Self, AuthorityError> {
        let invalid = || AuthorityError::Name { name: text.to_owned() };
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address));
        }
        let host = text.trim_end_matches('.').to_ascii_lowercase();
        // A name of digits and dots alone would be read as a broken address.
        let is_name = DnsName::try_from(host.as_str()).is_ok() && host.contains(|c: char| c.is_ascii_alphabetic());
        if is_name { Ok(Self::Host(host)) } else { Err(invalid()) }
    }

    fn all(texts: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Vec<Self>, AuthorityError> {
        let mut names = Vec::new();
        for text in texts {
            let name = Self::parse(text.as_ref())?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn text(&self) -> String {
        match self {
            Self::Host(host) => host.clone(),
            Self::Address(address) => address.to_string(),
        }
    }

    fn alternative(&self) -> Result<SanType, AuthorityError> {
        match self {
            Self::Host(host) => {
                let invalid = |_| AuthorityError::Name { name: host.clone() };
                Ok(SanType::DnsName(host.as_str().try_into().map_err(invalid)?))
            }
            Self::Address(address) => Ok(SanType::IpAddress(*address)),
        }
    }

    /// Itself alone, but for loopback's IPv4 addresses, of which there are many.
    fn subtree(&self) -> GeneralSubtree {
        match self {
            Self::Host(host) => GeneralSubtree::DnsName(host.clone()),
            Self::Address(IpAddr::V4(address)) if address.is_loopback() => {
                GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(Ipv4Addr::new(127, 0, 0, 0).octets(), 8))
            }
            Self::Address(IpAddr::V4(address)) => {
                GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(address.octets(), 32))
            }
            Self::Address(IpAddr::V6(address)) => {
                GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(address.octets(), 128))
            }
        }
    }
}

/// What an authority may sign for, as its certificate has it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Permitted {
    /// A host and everything below it.
    Host(String),
    /// A network: address and mask.
    Network(IpAddr, IpAddr),
}

impl Permitted {
    fn all(der: &[u8]) -> Result<Vec<Self>, String> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let constraints = parsed.name_constraints().map_err(|error| error.to_string())?;
        let constraints = constraints.filter(|extension| extension.critical).ok_or("its names are not constrained")?;
        let subtrees = constraints.value.permitted_subtrees.iter().flatten();
        Ok(subtrees.filter_map(|subtree| Self::of(&subtree.base)).collect())
    }

    fn of(base: &GeneralName<'_>) -> Option<Self> {
        match base {
            GeneralName::DNSName(host) => Some(Self::Host((*host).to_owned())),
            GeneralName::IPAddress(bytes) => {
                let (address, mask) = bytes.split_at(bytes.len() / 2);
                Some(Self::Network(certificate::address(address)?, certificate::address(mask)?))
            }
            _ => None,
        }
    }

    fn covers(&self, name: &Name) -> bool {
        match (self, name) {
            (Self::Host(host), Name::Host(name)) => {
                name == host || name.strip_suffix(host.as_str()).is_some_and(|below| below.ends_with('.'))
            }
            (Self::Network(IpAddr::V4(network), IpAddr::V4(mask)), Name::Address(IpAddr::V4(address))) => {
                address.to_bits() & mask.to_bits() == network.to_bits()
            }
            (Self::Network(IpAddr::V6(network), IpAddr::V6(mask)), Name::Address(IpAddr::V6(address))) => {
                address.to_bits() & mask.to_bits() == network.to_bits()
            }
            _ => false,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Host(host) => host.clone(),
            Self::Network(address, IpAddr::V4(mask)) => format!("{address}/{}", mask.to_bits().count_ones()),
            Self::Network(address, IpAddr::V6(mask)) => format!("{address}/{}", mask.to_bits().count_ones()),
        }
    }
}

/// An authority that can sign.
struct Signer {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
    permitted: Vec<Permitted>,
}

impl Authority {
    /// The one whose files lie in this folder, or will.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where the server's certificate and key lie.
    pub fn files(&self) -> Files {
        Files { certificate: self.path(SERVER_CERTIFICATE), key: self.path(SERVER_KEY) }
    }

    /// Makes what is missing: an authority for this host and a certificate for the server. `names` have to be in it,
    /// `own` are those that this host has of itself. The same again changes nothing.
    ///
    /// # Errors
    ///
    /// [`AuthorityError`], most of all [`AuthorityError::NotPermitted`] where the authority is older than a name.
    pub fn init(&self, names: &[String], own: &[String], existing: Existing) -> Result<Made, AuthorityError> {
        let names = Name::all(LOOPBACK.iter().copied().chain(names.iter().map(String::as_str)))?;
        let own = Name::all(own)?;
        let _alone = self.alone()?;
        let is_there = fs::exists(self.path(AUTHORITY_CERTIFICATE)).unwrap_or(false);
        let is_new_authority = !is_there || existing == Existing::Replaced;
        if is_new_authority {
            let all: Vec<Name> = names.iter().chain(&own).cloned().collect();
            self.make_authority(&all)?;
        }
        let signer = self.signer()?;
        signer.check(&names)?;
        let (own, left_out): (Vec<Name>, Vec<Name>) = own.into_iter().partition(|name| signer.may_sign(name));
        let mut wanted = names;
        wanted.extend(own.into_iter().filter(|name| !wanted.contains(name)).collect::<Vec<_>>());
        let is_new_certificate = is_new_authority || !self.has_certificate(&signer, &wanted);
        if is_new_certificate {
            self.make_certificate(&signer, &wanted)?;
        }
        let left_out = left_out.iter().map(Name::text).collect();
        Ok(Made { shown: self.shown(signer)?, is_new_authority, is_new_certificate, left_out })
    }

    /// Makes a new certificate for the server, with a new key, for the names of the one before and `names`.
    ///
    /// # Errors
    ///
    /// As [`Authority::init`], and [`AuthorityError::Missing`] where there is none yet.
    pub fn renew(&self, names: &[String]) -> Result<Shown, AuthorityError> {
        self.must_be_there()?;
        let before = self.certificate_of(SERVER_CERTIFICATE).map(|before| before.names).unwrap_or_default();
        let names = Name::all(LOOPBACK.iter().copied().chain(before.iter().chain(names).map(String::as_str)))?;
        let _alone = self.alone()?;
        let signer = self.signer()?;
        signer.check(&names)?;
        self.make_certificate(&signer, &names)?;
        self.shown(signer)
    }

    /// What there is.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Missing`] where there is nothing, and others where it cannot be read.
    pub fn show(&self) -> Result<Shown, AuthorityError> {
        self.must_be_there()?;
        self.shown(self.signer()?)
    }

    fn shown(&self, signer: Signer) -> Result<Shown, AuthorityError> {
        Ok(Shown {
            authority: signer.certificate,
            authority_file: self.path(AUTHORITY_CERTIFICATE),
            permitted: signer.permitted.iter().map(Permitted::text).collect(),
            server: self.certificate_of(SERVER_CERTIFICATE)?,
            files: self.files(),
        })
    }

    fn must_be_there(&self) -> Result<(), AuthorityError> {
        match fs::exists(self.path(AUTHORITY_CERTIFICATE)) {
            Ok(true) => Ok(()),
            _ => Err(AuthorityError::Missing { folder: self.folder.clone() }),
        }
    }

    /// Holds off every other process that would write here.
    fn alone(&self) -> Result<File, AuthorityError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(file_error("create", &self.folder))?;
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o700))
            .map_err(file_error("restrict", &self.folder))?;
        let folder = File::open(&self.folder).map_err(file_error("open", &self.folder))?;
        flock(&folder, FlockOperation::LockExclusive)
            .map_err(|error| file_error("lock", &self.folder)(error.into()))?;
        Ok(folder)
    }

    fn make_authority(&self, names: &[Name]) -> Result<(), AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(library)?;
        let mut permitted: Vec<GeneralSubtree> = Vec::new();
        for subtree in names.iter().map(Name::subtree) {
            if !permitted.contains(&subtree) {
                permitted.push(subtree);
            }
        }
        let mut params = params(AUTHORITY_DAYS, None);
        let id: String = params.key_identifier(&key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        params.distinguished_name = subject(&format!("Holdfast authority {id} of {}", host_of(names)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.name_constraints =
            Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() });
        let certificate = params.self_signed(&key).map_err(library)?;
        self.put(AUTHORITY_KEY, &Zeroizing::new(key.serialize_pem()))?;
        self.put(AUTHORITY_CERTIFICATE, &certificate.pem())
    }

    fn make_certificate(&self, signer: &Signer, names: &[Name]) -> Result<(), AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(library)?;
        let mut params = params(SERVER_DAYS, Some(signer.certificate.not_after));
        params.distinguished_name = subject(&host_of(names));
        params.subject_alt_names = names.iter().map(Name::alternative).collect::<Result<_, _>>()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &signer.issuer).map_err(library)?;
        self.put(SERVER_KEY, &Zeroizing::new(key.serialize_pem()))?;
        self.put(SERVER_CERTIFICATE, &certificate.pem())
    }

    /// Whether the server has a certificate of this authority for these names that is good for a while.
    fn has_certificate(&self, signer: &Signer, names: &[Name]) -> bool {
        let Ok((_, certificate)) = certificate::read(&self.files()) else { return false };
        certificate.issuer == signer.certificate.subject
            && !matches!(
                certificate.age(SystemTime::now()),
                Some(Age::Expired | Age::ExpiresSoon | Age::ExpiresVerySoon)
            )
            && names.iter().all(|name| certificate.has_name(&name.text()))
    }

    fn signer(&self) -> Result<Signer, AuthorityError> {
        let unusable = |reason: String| AuthorityError::Unusable { folder: self.folder.clone(), reason };
        let certificate = self.certificate_of(AUTHORITY_CERTIFICATE)?;
        if certificate.age(SystemTime::now()) == Some(Age::Expired) {
            return Err(unusable("its time is over".to_owned()));
        }
        let permitted = Permitted::all(&certificate.der).map_err(unusable)?;
        let key = self.text(AUTHORITY_KEY)?;
        let key = KeyPair::from_pem(&key).map_err(|error| unusable(error.to_string()))?;
        if !certificate.has_key(key.public_key_raw()) {
            return Err(unusable("its key is of another pair".to_owned()));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate.der, key).map_err(|error| unusable(error.to_string()))?;
        Ok(Signer { issuer, certificate, permitted })
    }

    fn certificate_of(&self, name: &str) -> Result<Certificate, AuthorityError> {
        let unusable = |reason: String| AuthorityError::Unusable { folder: self.folder.clone(), reason };
        let pem = self.text(name)?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| unusable(error.to_string()))?;
        Certificate::parse(&der).map_err(unusable)
    }

    /// A file, wiped from memory after use: it may be the key.
    fn text(&self, name: &str) -> Result<Zeroizing<String>, AuthorityError> {
        let path = self.path(name);
        fs::read_to_string(&path).map(Zeroizing::new).map_err(file_error("read", &path))
    }

    /// Puts a file in its place, whole and on disk.
    fn put(&self, name: &str, text: &str) -> Result<(), AuthorityError> {
        let (path, new) = (self.path(name), self.path(&format!("{name}.new")));
        let write = || {
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(file_error("write", &path))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Signer {
    fn may_sign(&self, name: &Name) -> bool {
        self.permitted.iter().any(|permitted| permitted.covers(name))
    }

    fn check(&self, names: &[Name]) -> Result<(), AuthorityError> {
        let refused: Vec<String> = names.iter().filter(|name| !self.may_sign(name)).map(Name::text).collect();
        if refused.is_empty() {
            return Ok(());
        }
        let permitted = self.permitted.iter().map(Permitted::text).collect();
        Err(AuthorityError::NotPermitted { names: refused, permitted })
    }
}

/// Valid for so long, and no longer than whoever signs it.
fn params(days: u64, at_most: Option<SystemTime>) -> CertificateParams {
    let now = SystemTime::now();
    let end = now + DAY * u32::try_from(days).unwrap_or(u32::MAX);
    let mut params = CertificateParams::default();
    params.not_before = OffsetDateTime::from(now - BACKDATED);
    params.not_after = OffsetDateTime::from(at_most.map_or(end, |most| most.min(end)));
    params
}

fn subject(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Holdfast");
    // RFC 5280, appendix A.1: at most 64 characters.
    subject.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    subject
}

/// The name by which people know this host.
fn host_of(names: &[Name]) -> String {
    let host = names.iter().find_map(|name| match name {
        Name::Host(host) if host != LOOPBACK[0] => Some(host.clone()),
        _ => None,
    });
    host.unwrap_or_else(|| LOOPBACK[0].to_owned())
}

/// The names that this host has of itself: what it calls itself, and the addresses by which it reaches others. Nothing
/// is sent for that: connecting a datagram socket only chooses a route.
pub fn own_names() -> Vec<String> {
    // Addresses for documentation (RFC 5737, RFC 3849): they lie beyond the default route, where there is one.
    let far: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    ];
    let address = |(own, far): &(IpAddr, IpAddr)| {
        let socket = std::net::UdpSocket::bind((*own, 0)).ok()?;
        socket.connect((*far, 9)).ok()?;
        let address = socket.local_addr().ok()?.ip();
        (!address.is_unspecified() && !address.is_loopback()).then(|| address.to_string())
    };
    let system = rustix::system::uname();
    let host = system.nodename().to_str().ok().filter(|host| matches!(Name::parse(host), Ok(Name::Host(_))));
    let host = host.map(str::to_ascii_lowercase).filter(|host| host != LOOPBACK[0]);
    host.into_iter().chain(far.iter().filter_map(address)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn authority() -> (tempfile::TempDir, Authority) {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::at(folder.path().join("tls"));
        (folder, authority)
    }

    #[test]
    fn the_same_again_changes_nothing() {
        let (_folder, authority) = authority();
        assert_eq!(authority.show().unwrap_err().code(), "tls_authority_missing");
        assert_eq!(authority.renew(&[]).unwrap_err().code(), "tls_authority_missing");
        let own = texts(&["box.example", "192.0.2.7"]);
        let first = authority.init(&[], &own, Existing::Kept).unwrap();
        assert!(first.is_new_authority && first.is_new_certificate);
        let again = authority.init(&[], &own, Existing::Kept).unwrap();
        assert!(!again.is_new_authority && !again.is_new_certificate);
        assert_eq!(again.shown.server, first.shown.server);
        assert_eq!(first.shown.server.names, ["localhost", "127.0.0.1", "::1", "box.example", "192.0.2.7"]);
        assert_eq!(first.shown.permitted, ["localhost", "127.0.0.0/8", "::1/128", "box.example", "192.0.2.7/32"]);
        let replaced = authority.init(&[], &own, Existing::Replaced).unwrap();
        assert!(replaced.is_new_authority && replaced.shown.authority.fingerprint != first.shown.authority.fingerprint);
    }

    #[test]
    fn a_name_below_one_of_the_authority_can_be_added_and_another_not() {
        let (_folder, authority) = authority();
        authority.init(&texts(&["box.example"]), &[], Existing::Kept).unwrap();
        let renewed = authority.renew(&texts(&["api.box.example"])).unwrap();
        assert!(renewed.server.has_name("api.box.example") && renewed.server.has_name("box.example"));
        for name in ["example", "notbox.example", "192.0.2.7", "2001:db8::1"] {
            let error = authority.renew(&texts(&[name])).unwrap_err();
            assert_eq!(error.code(), "tls_name_not_permitted", "{name}");
            assert!(error.to_string().contains(name) && error.hint().unwrap().contains("--new-authority"));
        }
        let made = authority.init(&[], &texts(&["192.0.2.7"]), Existing::Kept).unwrap();
        assert_eq!(made.left_out, ["192.0.2.7"], "a changed address of this host keeps nobody from going on");
        for name in ["", "a b", "*.box.example", "1.2.3", "x/y"] {
            assert_eq!(authority.renew(&texts(&[name])).unwrap_err().code(), "tls_name_invalid", "{name:?}");
        }
    }

    #[test]
    fn everything_is_closed_to_others() {
        let (_folder, authority) = authority();
        authority.init(&[], &[], Existing::Kept).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&authority.folder), 0o700);
        let mut names: Vec<_> = authority.folder.read_dir().unwrap().flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        assert_eq!(names, [AUTHORITY_KEY, AUTHORITY_CERTIFICATE, SERVER_KEY, SERVER_CERTIFICATE]);
        for name in names {
            assert_eq!(mode(&authority.folder.join(&name)), 0o600, "{name:?}");
        }
    }

    #[test]
    fn a_key_of_another_pair_is_no_authority() {
        let (_folder, authority) = authority();
        authority.init(&[], &[], Existing::Kept).unwrap();
        fs::remove_file(authority.path(AUTHORITY_KEY)).unwrap();
        assert_eq!(authority.renew(&[]).unwrap_err().code(), "tls_file_unusable");
        fs::write(authority.path(AUTHORITY_KEY), "nothing").unwrap();
        assert_eq!(authority.renew(&[]).unwrap_err().code(), "tls_authority_unusable");
        fs::copy(authority.path(SERVER_KEY), authority.path(AUTHORITY_KEY)).unwrap();
        let error = authority.renew(&[]).unwrap_err();
        assert!(error.to_string().contains("another pair"), "{error}");
    }

    #[test]
    fn this_host_has_names_that_a_certificate_can_have() {
        Name::all(own_names()).unwrap();
    }
}
