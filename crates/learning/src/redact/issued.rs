//! Tokens that can be told by themselves, since whoever issued them gave them a beginning.
//!
//! The table has what the issuers document and what tokens in use look like. A token is found when what follows its
//! beginning has the letters and about the length it should have, and was drawn at random by its looks.

use std::{
    ops::{Range, RangeInclusive},
    sync::LazyLock,
};

use regex::bytes::Regex;

use super::{
    Finding, Kind,
    surroundings::{WALL, after_escape, begins, ends, pattern},
    value::{Makeup, entropy, is_drawn, is_stand_in},
};

/// Bytes that a part of a signed token has at least. The shortest header, `{"alg":"none"}`, has 19.
const JWT_PART_BYTES_MIN: usize = 10;
/// How far from the id of an access key its secret may stand.
const AWS_PAIR_BYTES: usize = 200;
/// Bytes of the secret of an access key of AWS.
const AWS_SECRET_BYTES: usize = 40;
/// A beginning of that length is found nowhere else. What is shorter has to begin a word.
const RARE_BYTES: usize = 4;

/// The letters a token is of.
#[derive(Clone, Copy)]
enum Letters {
    /// Letters and digits.
    Alnum,
    /// Capitals and digits.
    Upper,
    /// Hexadecimal digits.
    Hex,
    /// Those of base64url: letters, digits, `-`, `_`; and `=` in the end.
    Url,
    /// These and dots.
    Dotted,
    /// These and slashes, which JSON may have escaped.
    Path,
    /// Those of hashed passwords: Base64 of their own, and what separates the parts.
    Crypt,
}

impl Letters {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Alnum => byte.is_ascii_alphanumeric(),
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Hex => byte.is_ascii_hexdigit(),
            Self::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'='),
            Self::Dotted => Self::Url.has(byte) || byte == b'.',
            Self::Crypt => byte.is_ascii_alphanumeric() || b"./$+=,-_".contains(&byte),
            Self::Path => Self::Dotted.has(byte) || matches!(byte, b'/' | b'\\' | b'@'),
        }
    }
}

/// What tokens of an issuer look like.
struct Issued {
    beginning: &'static str,
    kind: Kind,
    letters: Letters,
    /// Bytes after the beginning. Shorter than the issuer says, so that a token that lost its end is one still.
    len: RangeInclusive<usize>,
}

/// One line of the table.
const fn issued(kind: Kind, beginning: &'static str, letters: Letters, len: RangeInclusive<usize>) -> Issued {
    Issued { beginning, kind, letters, len }
}

/// In the order in which they are tried: what another one begins with comes after it.
static TABLE: [Issued; 104] = [
    // Keys of our own: 43 random characters and 6 that check them, or 64 hexadecimal digits in the first version.
    // `hf_` is also how a token of Hugging Face begins; see `kind_of`.
    issued(Kind::ProviderKey, "hf_", Letters::Alnum, 24..=100),
    issued(Kind::AwsAccessKey, "AKIA", Letters::Upper, 16..=16),
    issued(Kind::AwsAccessKey, "ASIA", Letters::Upper, 16..=16),
    issued(Kind::AwsAccessKey, "ABIA", Letters::Upper, 16..=16),
    issued(Kind::AwsAccessKey, "ACCA", Letters::Upper, 16..=16),
    issued(Kind::AwsSecretKey, "ABSK", Letters::Path, 80..=300),
    issued(Kind::GithubToken, "github_pat_", Letters::Url, 36..=255),
    issued(Kind::GithubToken, "ghp_", Letters::Alnum, 24..=255),
    issued(Kind::GithubToken, "gho_", Letters::Alnum, 24..=255),
    issued(Kind::GithubToken, "ghu_", Letters::Alnum, 24..=255),
    issued(Kind::GithubToken, "ghs_", Letters::Dotted, 24..=1024),
    issued(Kind::GithubToken, "ghr_", Letters::Alnum, 24..=255),
    issued(Kind::SlackToken, "xoxe.xox", Letters::Dotted, 20..=255),
    issued(Kind::SlackToken, "xoxa-", Letters::Url, 16..=255),
    issued(Kind::SlackToken, "xoxb-", Letters::Url, 16..=255),
    issued(Kind::SlackToken, "xoxc-", Letters::Url, 16..=255),
    issued(Kind::SlackToken, "xoxd-", Letters::Path, 16..=255),
    issued(Kind::SlackToken, "xoxe-", Letters::Url, 16..=255),
    issued(Kind::SlackToken, "xoxo-", Letters::Url, 16..=255),
    issued(Kind::SlackToken, "xoxp-", Letters::Url, 16..=255),
    issued(Kind::SlackToken, "xoxr-", Letters::Url, 16..=255),
    issued(Kind::SlackToken, "xoxs-", Letters::Url, 16..=255),
    issued(Kind::SlackToken, "xapp-", Letters::Url, 16..=255),
    issued(Kind::SlackToken, "hooks.slack.com", Letters::Path, 24..=255),
    issued(Kind::StripeKey, "sk_live_", Letters::Alnum, 16..=255),
    issued(Kind::StripeKey, "sk_test_", Letters::Alnum, 16..=255),
    issued(Kind::StripeKey, "rk_live_", Letters::Alnum, 16..=255),
    issued(Kind::StripeKey, "rk_test_", Letters::Alnum, 16..=255),
    // Publishable ones name an account; nothing is lost without them.
    issued(Kind::StripeKey, "pk_live_", Letters::Alnum, 16..=255),
    issued(Kind::StripeKey, "pk_test_", Letters::Alnum, 16..=255),
    issued(Kind::StripeKey, "whsec_", Letters::Path, 24..=128),
    // OpenAI, Anthropic, OpenRouter, DeepSeek and many others.
    issued(Kind::ProviderKey, "sk-", Letters::Url, 20..=300),
    issued(Kind::ProviderKey, "sk_", Letters::Hex, 32..=64),
    issued(Kind::ProviderKey, "pk-lf-", Letters::Url, 20..=64),
    issued(Kind::ProviderKey, "api_org_", Letters::Alnum, 24..=64),
    issued(Kind::ProviderKey, "AIza", Letters::Url, 35..=36),
    issued(Kind::ProviderKey, "gsk_", Letters::Alnum, 24..=128),
    issued(Kind::ProviderKey, "xai-", Letters::Url, 24..=128),
    issued(Kind::ProviderKey, "r8_", Letters::Url, 30..=64),
    issued(Kind::ProviderKey, "pplx-", Letters::Alnum, 24..=128),
    issued(Kind::ProviderKey, "nvapi-", Letters::Url, 32..=128),
    issued(Kind::ProviderKey, "csk-", Letters::Alnum, 24..=128),
    issued(Kind::ProviderKey, "fw_", Letters::Alnum, 20..=64),
    issued(Kind::ProviderKey, "tgp_v1_", Letters::Url, 24..=128),
    issued(Kind::ProviderKey, "pcsk_", Letters::Url, 32..=128),
    issued(Kind::ProviderKey, "lsv2_pt_", Letters::Url, 24..=128),
    issued(Kind::ProviderKey, "lsv2_sk_", Letters::Url, 24..=128),
    issued(Kind::ProviderKey, "tvly-", Letters::Url, 20..=64),
    issued(Kind::ProviderKey, "jina_", Letters::Url, 32..=128),
    issued(Kind::ServiceToken, "glpat-", Letters::Dotted, 16..=320),
    issued(Kind::ServiceToken, "gldt-", Letters::Url, 16..=128),
    issued(Kind::ServiceToken, "glrt-", Letters::Dotted, 16..=128),
    issued(Kind::ServiceToken, "glcbt-", Letters::Url, 16..=128),
    issued(Kind::ServiceToken, "glptt-", Letters::Hex, 32..=64),
    issued(Kind::ServiceToken, "glsoat-", Letters::Url, 16..=128),
    issued(Kind::ServiceToken, "glagent-", Letters::Url, 32..=128),
    issued(Kind::ServiceToken, "npm_", Letters::Alnum, 30..=64),
    issued(Kind::ServiceToken, "pypi-", Letters::Url, 50..=600),
    issued(Kind::ServiceToken, "cio", Letters::Alnum, 32..=32),
    issued(Kind::ServiceToken, "dckr_pat_", Letters::Url, 20..=64),
    issued(Kind::ServiceToken, "dckr_oat_", Letters::Url, 20..=64),
    issued(Kind::ServiceToken, "rubygems_", Letters::Hex, 32..=64),
    issued(Kind::ServiceToken, "oy2", Letters::Alnum, 43..=43),
    issued(Kind::ServiceToken, "SG.", Letters::Dotted, 40..=128),
    issued(Kind::ServiceToken, "dop_v1_", Letters::Hex, 40..=64),
    issued(Kind::ServiceToken, "doo_v1_", Letters::Hex, 40..=64),
    issued(Kind::ServiceToken, "dor_v1_", Letters::Hex, 40..=64),
    issued(Kind::ServiceToken, "GOCSPX-", Letters::Url, 20..=64),
    issued(Kind::ServiceToken, "ya29.", Letters::Dotted, 20..=2048),
    issued(Kind::ServiceToken, "shpat_", Letters::Hex, 32..=64),
    issued(Kind::ServiceToken, "shpss_", Letters::Hex, 32..=64),
    issued(Kind::ServiceToken, "shpca_", Letters::Hex, 32..=64),
    issued(Kind::ServiceToken, "shppa_", Letters::Hex, 32..=64),
    issued(Kind::ServiceToken, "dapi", Letters::Hex, 32..=40),
    issued(Kind::ServiceToken, "hvs.", Letters::Url, 24..=300),
    issued(Kind::ServiceToken, "hvb.", Letters::Url, 24..=300),
    issued(Kind::ServiceToken, "lin_api_", Letters::Alnum, 30..=64),
    issued(Kind::ServiceToken, "ntn_", Letters::Alnum, 36..=64),
    issued(Kind::ServiceToken, "figd_", Letters::Url, 30..=64),
    issued(Kind::ServiceToken, "PMAK-", Letters::Url, 40..=80),
    issued(Kind::ServiceToken, "glsa_", Letters::Url, 32..=64),
    issued(Kind::ServiceToken, "glc_", Letters::Path, 40..=400),
    issued(Kind::ServiceToken, "NRAK-", Letters::Upper, 27..=27),
    issued(Kind::ServiceToken, "sntrys_", Letters::Path, 40..=400),
    issued(Kind::ServiceToken, "sntryu_", Letters::Hex, 40..=64),
    issued(Kind::ServiceToken, "dp.pt.", Letters::Alnum, 30..=64),
    issued(Kind::ServiceToken, "sbp_", Letters::Hex, 40..=40),
    issued(Kind::ServiceToken, "sb_secret_", Letters::Url, 20..=64),
    issued(Kind::ServiceToken, "pscale_tkn_", Letters::Dotted, 32..=64),
    issued(Kind::ServiceToken, "nfp_", Letters::Alnum, 32..=64),
    issued(Kind::ServiceToken, "ATATT3", Letters::Url, 100..=300),
    issued(Kind::ServiceToken, "AGE-SECRET-KEY-1", Letters::Upper, 50..=58),
    issued(Kind::ServiceToken, "discord.com/api/webhooks/", Letters::Path, 60..=128),
    issued(Kind::ServiceToken, "discordapp.com/api/webhooks/", Letters::Path, 60..=128),
    issued(Kind::ServiceToken, "webhook.office.com/webhookb2/", Letters::Path, 60..=300),
    // Hashes of passwords, which can be tried at home: bcrypt, SHA-256, SHA-512, yescrypt, Argon2.
    issued(Kind::Password, "$2a$", Letters::Crypt, 40..=72),
    issued(Kind::Password, "$2b$", Letters::Crypt, 40..=72),
    issued(Kind::Password, "$2y$", Letters::Crypt, 40..=72),
    issued(Kind::Password, "$5$", Letters::Crypt, 40..=128),
    issued(Kind::Password, "$6$", Letters::Crypt, 60..=160),
    issued(Kind::Password, "$y$", Letters::Crypt, 40..=160),
    issued(Kind::Password, "$argon2", Letters::Crypt, 40..=300),
    // What a bot of Telegram has is a number, a colon, and this.
    issued(Kind::ServiceToken, ":AA", Letters::Url, 32..=34),
    // `{"` in Base64: the header of a signed token, and its payload.
    issued(Kind::Jwt, "eyJ", Letters::Url, 16..=usize::MAX - 1),
];

/// Any of the beginnings; where several are possible, the first of the table.
static BEGINNING: LazyLock<Regex> = LazyLock::new(|| {
    let beginnings: Vec<String> = TABLE.iter().map(|issued| regex::escape(issued.beginning)).collect();
    pattern(&beginnings.join("|"))
});

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    let bytes = text.as_bytes();
    let (mut from, mut jwt_from) = (0, 0);
    while let Some(beginning) = BEGINNING.find_at(bytes, from) {
        // What begins a token may begin another one within it, so the search goes on behind the beginning.
        from = beginning.end();
        let Some(issued) = TABLE.iter().find(|issued| issued.beginning.as_bytes() == beginning.as_bytes()) else {
            continue;
        };
        if issued.kind == Kind::Jwt {
            // Its parts are of any length, so each is looked at once: one that is no header from its first letters is
            // none from later ones.
            if beginning.start() < jwt_from || !begins(bytes, beginning.start()) {
                continue;
            }
            jwt_from = part_at(bytes, beginning.start()).end;
        }
        let Some(finding) = issued.token_at(text, beginning.range()) else { continue };
        if finding.kind == Kind::AwsAccessKey {
            found.extend(aws_secrets(text, &finding.range));
        }
        from = finding.range.end;
        found.push(finding);
    }
}

impl Issued {
    /// The token that has this beginning, if it is one.
    fn token_at(&self, text: &str, beginning: Range<usize>) -> Option<Finding> {
        let bytes = text.as_bytes();
        if beginning.len() < RARE_BYTES && self.beginning != ":AA" && !begins(bytes, beginning.start) {
            return None;
        }
        if self.kind == Kind::Jwt {
            return jwt_at(text, beginning.start);
        }
        let rest = &bytes[beginning.end..];
        let len = rest.iter().take(self.len.end() + 1).take_while(|byte| self.letters.has(**byte)).count();
        // JSON may escape a slash; what else is escaped is not of the token.
        let escape = rest[..len].windows(2).position(|pair| pair[0] == b'\\' && pair[1] != b'/');
        let len = escape.unwrap_or(len);
        let is_cut = rest.get(len) == Some(&WALL);
        let len = trimmed(&rest[..len]);
        let end = beginning.end + len;
        if is_cut || !self.len.contains(&len) || !ends(bytes, end) {
            return None;
        }
        let value = &text[beginning.end..end];
        if !self.is_drawn(value) {
            return None;
        }
        // The id of a bot is of no use without the rest, and is of the token nevertheless.
        let start = if self.beginning == ":AA" { start_of_bot(bytes, beginning.start)? } else { beginning.start };
        Some(Finding { kind: self.kind_of(value), range: start..end })
    }

    fn is_drawn(&self, value: &str) -> bool {
        match self.letters {
            // Base32 may have drawn letters alone.
            Letters::Upper => entropy(value.as_bytes()) >= 2.5 && !is_stand_in(value),
            // Half of the digits are of one kind by chance, in rows.
            Letters::Hex => entropy(value.as_bytes()) >= 2.8 && has_letters_and_digits(value) && !is_stand_in(value),
            _ if self.beginning.len() > RARE_BYTES && has_both_cases(value) => {
                entropy(value.as_bytes()) >= 3.2 && !is_stand_in(value)
            }
            _ => is_drawn(value) || is_of_letters(value),
        }
    }

    fn kind_of(&self, value: &str) -> Kind {
        let is_own = self.beginning == "hf_" && matches!(value.len(), 49 | 64);
        if is_own { Kind::HoldfastKey } else { self.kind }
    }
}

fn has_letters_and_digits(value: &str) -> bool {
    let makeup = Makeup::of(value);
    makeup.letters() > 0 && makeup.digits > 0
}

fn has_both_cases(value: &str) -> bool {
    let makeup = Makeup::of(value);
    makeup.lower > 1 && makeup.upper > 1
}

/// Whether it was drawn and has no digit by chance: its case changes as that of no name does.
fn is_of_letters(value: &str) -> bool {
    let makeup = Makeup::of(value);
    let signs = value.bytes().filter(|byte| matches!(byte, b'-' | b'_')).count();
    makeup.letters() + signs == value.len()
        && makeup.lower > 2
        && makeup.upper > 2
        && makeup.changes > 4
        && !is_stand_in(value)
}

/// Without the marks that end a sentence or a string behind a token.
fn trimmed(token: &[u8]) -> usize {
    let ending = token.iter().rev().take_while(|byte| matches!(byte, b'.' | b'\\' | b'/' | b'@')).count();
    token.len() - ending
}

/// Where the number of a bot begins that has a token after its colon.
fn start_of_bot(bytes: &[u8], colon: usize) -> Option<usize> {
    let digits = bytes[..colon].iter().rev().take(16).take_while(|byte| byte.is_ascii_digit()).count();
    // What is before it may be an escape that ends in digits. In the address of its interface a word is.
    let is_start = |start: &usize| bytes[..*start].ends_with(b"bot") || begins(bytes, *start);
    (8..=digits.min(10)).rev().map(|digits| colon - digits).find(is_start)
}

/// A signed token: header, payload, signature. Encrypted ones have five parts, and one that lost its end has fewer.
fn jwt_at(text: &str, start: usize) -> Option<Finding> {
    let bytes = text.as_bytes();
    let header = part_at(bytes, start);
    if header.len() < JWT_PART_BYTES_MIN || bytes.get(header.end) != Some(&b'.') {
        return None;
    }
    let payload = part_at(bytes, header.end + 1);
    let is_signed = bytes[payload.clone()].starts_with(b"eyJ") || is_drawn(&text[payload.clone()]);
    if payload.len() < JWT_PART_BYTES_MIN || !is_signed || bytes.get(payload.end) == Some(&WALL) {
        return None;
    }
    let mut end = payload.end;
    for _ in 0..3 {
        let part = part_at(bytes, (end + 1).min(bytes.len()));
        if bytes.get(end) != Some(&b'.') || part.is_empty() || bytes.get(part.end) == Some(&WALL) {
            break;
        }
        end = part.end;
    }
    Some(Finding { kind: Kind::Jwt, range: start..end })
}

fn part_at(bytes: &[u8], from: usize) -> Range<usize> {
    let len = bytes[from..].iter().take_while(|byte| Letters::Url.has(**byte)).count();
    from..from + len
}

/// The secrets beside the id of an access key. Nothing tells them by themselves; they stand in a table, or on the next
/// line.
fn aws_secrets(text: &str, id: &Range<usize>) -> Vec<Finding> {
    let bytes = text.as_bytes();
    let from = id.start.saturating_sub(AWS_PAIR_BYTES);
    let to = bytes.len().min(id.end + AWS_PAIR_BYTES);
    let is_of_secret = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let mut found = Vec::new();
    let mut at = from;
    while at < to {
        let len = bytes[at..].iter().take(2 * AWS_PAIR_BYTES).take_while(|byte| is_of_secret(byte)).count();
        let is_begun = at == 0 || !is_of_secret(&bytes[at - 1]);
        let value = after_escape(bytes, at, at + len)..at + len;
        if is_begun && begins(bytes, value.start) && ends(bytes, value.end) && value.len() == AWS_SECRET_BYTES {
            let is_secret = is_aws_secret(&text[value.clone()]);
            found.extend(is_secret.then_some(Finding { kind: Kind::AwsSecretKey, range: value }));
        }
        at += len + 1;
    }
    found
}

/// Whether 40 letters of Base64 are a secret: hashes have one case only, and words no digits.
pub(super) fn is_aws_secret(value: &str) -> bool {
    let makeup = Makeup::of(value);
    value.len() == AWS_SECRET_BYTES
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
        && makeup.lower > 0
        && makeup.upper > 0
        && (makeup.digits > 0 || makeup.others > 0)
        && is_drawn(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one() {
        assert!(!BEGINNING.as_str().is_empty());
    }
}
