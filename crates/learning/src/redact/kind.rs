//! The kinds of what is found, and the words for them.

use std::fmt;

/// What was found: a secret, or what tells of a person.
///
/// They stand in the order of their claims: where two findings overlap, both become one of the kind that comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A private key in PEM, OpenPGP or PuTTY form, whole or cut off.
    PrivateKey,
    /// A key of Holdfast itself.
    HoldfastKey,
    /// The id of an access key of Amazon Web Services.
    AwsAccessKey,
    /// The secret that belongs to such an id.
    AwsSecretKey,
    /// A token of GitHub.
    GithubToken,
    /// A token or a webhook of Slack.
    SlackToken,
    /// A key of Stripe.
    StripeKey,
    /// A key of a provider of models.
    ProviderKey,
    /// A token of another service that can be told by how it begins: registries, forges, mail, chat, clouds.
    ServiceToken,
    /// A signed token (JSON Web Token).
    Jwt,
    /// What an `Authorization` header carries.
    Authorization,
    /// The password in a URL.
    UrlPassword,
    /// A password that is told by its name.
    Password,
    /// Another secret that is told by its name: a token, an API key, a client's secret.
    Secret,
    /// The number of a payment card.
    CardNumber,
    /// The number of a bank account (ISO 13616).
    Iban,
    /// A social security number of the United States.
    SocialSecurityNumber,
    /// An e-mail address.
    Email,
    /// A telephone number.
    PhoneNumber,
    /// An address of the Internet Protocol, version 4 or 6.
    IpAddress,
    /// A person's name on a machine, in the path of a home directory.
    UserName,
}

impl Kind {
    /// All of them, in the order of their claims.
    pub const ALL: [Self; 21] = [
        Self::PrivateKey,
        Self::HoldfastKey,
        Self::AwsAccessKey,
        Self::AwsSecretKey,
        Self::GithubToken,
        Self::SlackToken,
        Self::StripeKey,
        Self::ProviderKey,
        Self::ServiceToken,
        Self::Jwt,
        Self::Authorization,
        Self::UrlPassword,
        Self::Password,
        Self::Secret,
        Self::CardNumber,
        Self::Iban,
        Self::SocialSecurityNumber,
        Self::Email,
        Self::PhoneNumber,
        Self::IpAddress,
        Self::UserName,
    ];

    /// The stable word for it, of lower-case letters and underscores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PrivateKey => "private_key",
            Self::HoldfastKey => "holdfast_key",
            Self::AwsAccessKey => "aws_access_key",
            Self::AwsSecretKey => "aws_secret_key",
            Self::GithubToken => "github_token",
            Self::SlackToken => "slack_token",
            Self::StripeKey => "stripe_key",
            Self::ProviderKey => "provider_key",
            Self::ServiceToken => "service_token",
            Self::Jwt => "jwt",
            Self::Authorization => "authorization",
            Self::UrlPassword => "url_password",
            Self::Password => "password",
            Self::Secret => "secret",
            Self::CardNumber => "card_number",
            Self::Iban => "iban",
            Self::SocialSecurityNumber => "social_security_number",
            Self::Email => "email",
            Self::PhoneNumber => "phone_number",
            Self::IpAddress => "ip_address",
            Self::UserName => "user_name",
        }
    }

    /// The kind that has this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Whether it lets somebody in. The others tell of a person.
    pub const fn is_secret(self) -> bool {
        !self.is_personal()
    }

    /// Whether it tells of a person.
    pub const fn is_personal(self) -> bool {
        matches!(
            self,
            Self::CardNumber
                | Self::Iban
                | Self::SocialSecurityNumber
                | Self::Email
                | Self::PhoneNumber
                | Self::IpAddress
                | Self::UserName
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
