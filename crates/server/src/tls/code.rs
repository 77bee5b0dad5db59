//! What programs know by what is wrong with a certificate, its files or the authority that makes it. `docs/ERRORS.md` has a
//! row for each, which a test of the program enforces.

holdfast_resilience::words! {
    /// The stable name of something that is wrong.
    pub enum TlsCode {
        /// The certificate or its key is not there or cannot be read.
        FileUnreadable = "tls_file_unreadable",
        /// There is no certificate that can be used.
        CertificateInvalid = "tls_certificate_invalid",
        /// There is no private key that can be used.
        KeyInvalid = "tls_key_invalid",
        /// Every user of the machine may read the private key.
        KeyExposed = "tls_key_exposed",
        /// Certificate and key are of different pairs.
        KeyMismatch = "tls_key_mismatch",
        /// The certificate's time is over.
        CertificateExpired = "tls_certificate_expired",
        /// The TLS library refused.
        Unavailable = "tls_unavailable",
        /// A file of the authority cannot be read or written.
        FileUnusable = "tls_file_unusable",
        /// There is no authority here.
        AuthorityMissing = "tls_authority_missing",
        /// What lies there is no authority, or not a whole one.
        AuthorityUnusable = "tls_authority_unusable",
        /// A name for a certificate is none.
        NameInvalid = "tls_name_invalid",
        /// The authority may not sign for a name.
        NameNotPermitted = "tls_name_not_permitted",
        /// The certificate ends within a month.
        CertificateExpiresSoon = "tls_certificate_expires_soon",
        /// The certificate ends within a week.
        CertificateExpiresVerySoon = "tls_certificate_expires_very_soon",
        /// The certificate's time has not begun.
        CertificateNotYetValid = "tls_certificate_not_yet_valid",
        /// The certificate has none of the names that this host knows of itself.
        CertificateNames = "tls_certificate_names",
        /// The group of the private key's file may read it.
        KeyGroupReadable = "tls_key_group_readable",
    }
}
