//! Names that tell of a secret: `DB_PASSWORD`, `apiKey`, `x-auth-token`, `Kennwort`.
//!
//! A name is taken apart into words, and its last ones decide: a `token_count` is a count, and a `password_file` a file.

use super::Kind;

/// What is a password by its name.
const PASSWORDS: [&str; 22] = [
    "contrasena",
    "contraseña",
    "contraseñas",
    "kennwort",
    "pass",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "passwords",
    "passwort",
    "passwörter",
    "psk",
    "pw",
    "pwd",
    "senha",
    "wachtwoord",
    "motdepasse",
    "пароль",
    "密码",
    "密碼",
    "パスワード",
];
/// How names end that are written as one word and are passwords.
const PASSWORD_ENDINGS: [&str; 7] =
    ["password", "passwd", "passphrase", "passwort", "kennwort", "userpass", "requirepass"];
/// What is another secret by its name.
const SECRETS: [&str; 14] = [
    "credential",
    "credentials",
    "creds",
    "jsessionid",
    "masterauth",
    "phpsessid",
    "secret",
    "secrets",
    "sessionid",
    "sig",
    "token",
    "tokens",
    "xsrf",
    "csrf",
];
/// How names end that are written as one word and are secrets.
const SECRET_ENDINGS: [&str; 16] = [
    "accesskey",
    "accountkey",
    "apikey",
    "apikeys",
    "appkey",
    "authkey",
    "encryptionkey",
    "masterkey",
    "privatekey",
    "secret",
    "secretkey",
    "sessionkey",
    "sharedaccesskey",
    "signingkey",
    "sessiontoken",
    "token",
];
/// What a key is for, where it is one to keep.
const KEYS: [&str; 26] = [
    "access",
    "account",
    "admin",
    "api",
    "app",
    "application",
    "auth",
    "aes",
    "client",
    "consumer",
    "crypto",
    "deploy",
    "encryption",
    "hmac",
    "integration",
    "jwt",
    "license",
    "master",
    "private",
    "rest",
    "secret",
    "service",
    "session",
    "signing",
    "storage",
    "subscription",
];
/// What does not change whose secret it is, behind its name.
const TAILS: [&str; 26] = [
    "b",
    "base",
    "confirmation",
    "current",
    "default",
    "dev",
    "env",
    "hex",
    "live",
    "local",
    "new",
    "old",
    "plain",
    "plaintext",
    "primary",
    "prod",
    "production",
    "raw",
    "secondary",
    "staging",
    "str",
    "string",
    "test",
    "text",
    "val",
    "value",
];
/// Words that a name may have; more make no name.
const WORDS_MAX: usize = 12;

/// The kind of secret that a name tells of, if it tells of one.
pub(super) fn told_by(name: &str) -> Option<Kind> {
    let words = words(name);
    let mut words = words.as_slice();
    while let [rest @ .., last] = words
        && !rest.is_empty()
        && (TAILS.contains(&last.as_str()) || last.bytes().all(|byte| byte.is_ascii_digit()))
    {
        words = rest;
    }
    let last = words.last()?.as_str();
    if PASSWORDS.contains(&last) || PASSWORD_ENDINGS.iter().any(|ending| last.ends_with(ending)) {
        return Some(Kind::Password);
    }
    let before = words.len().checked_sub(2).map_or("", |at| words[at].as_str());
    if matches!((before, last), ("de", "passe") | ("identified", "by")) {
        return Some(Kind::Password);
    }
    let is_key = matches!(last, "key" | "keys") && KEYS.contains(&before);
    // `next_token` is where a list goes on, and `eos_token` a piece of text.
    let is_other = matches!(last, "token" | "tokens") && is_of_text(before);
    let is_secret = SECRETS.contains(&last) || SECRET_ENDINGS.iter().any(|ending| last.ends_with(ending));
    (is_key || (is_secret && !is_other)).then_some(Kind::Secret)
}

/// Whether a token is one of a tokenizer, of a list or of a request, by the word before it.
fn is_of_text(before: &str) -> bool {
    [
        "change",
        "idempotency",
        "lock",
        "eos",
        "bos",
        "pad",
        "unk",
        "sep",
        "cls",
        "mask",
        "next",
        "page",
        "continuation",
        "max",
        "min",
        "num",
        "stop",
        "end",
        "start",
        "special",
        "input",
        "output",
        "completion",
        "prompt",
        "per",
    ]
    .contains(&before)
}

/// The words of a name in lower case: `dbPassword2`, `DB_PASSWORD_2` and `db-password.2` are the same three.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut previous = ' ';
    let mut is_new = true;
    let mut characters = name.chars().peekable();
    while let Some(c) = characters.next() {
        if !c.is_alphanumeric() {
            is_new = true;
        } else {
            // A capital begins a word behind a small letter, and at the end of a row of capitals: `APIKey`.
            let is_hump = c.is_uppercase()
                && (previous.is_lowercase()
                    || (previous.is_uppercase() && characters.peek().is_some_and(|next| next.is_lowercase())));
            let is_number = c.is_ascii_digit() != previous.is_ascii_digit() && previous.is_alphanumeric();
            if is_new || is_hump || is_number {
                if words.len() == WORDS_MAX {
                    return words;
                }
                words.push(String::new());
            }
            if let Some(word) = words.last_mut() {
                word.extend(c.to_lowercase());
            }
            is_new = false;
        }
        previous = c;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_name_decide() {
        let check = |name: &str, expected: Option<Kind>| assert_eq!(told_by(name), expected, "{name}");
        for name in ["password", "DB_PASSWORD", "dbPassword", "spring.datasource.password", "PGPASSWORD", "user-passwd"]
        {
            check(name, Some(Kind::Password));
        }
        for name in ["userpass", "requirepass", "MYSQL_PWD", "Kennwort", "mot de passe", "пароль", "rootPassword2"]
        {
            check(name, Some(Kind::Password));
        }
        for name in
            ["token", "API_KEY", "apiKey", "X-Api-Key", "APIKey", "client_secret", "SECRET_KEY_BASE", "authToken"]
        {
            check(name, Some(Kind::Secret));
        }
        for name in ["AccountKey", "aws_secret_access_key", "GITHUB_TOKEN", "stripeSecretKeyLive", "jwtSecret"] {
            check(name, Some(Kind::Secret));
        }
        for name in
            ["token_count", "max_tokens", "password_file", "tokenizer", "key", "monkey", "public_key", "keyboard"]
        {
            check(name, None);
        }
        for name in
            ["token_type", "secret_name", "next_page_token", "eos_token", "primary_key", "passport", "", "_", "é"]
        {
            check(name, None);
        }
    }
}
