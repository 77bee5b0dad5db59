//! A generator of texts with things planted in them that must not leave, and with others that only look like it.
//!
//! It does not know the detectors. Values are made from what their issuers and the standards publish, and stand in the
//! surroundings that people, programs and files put them in. The example that measures on real texts uses it too, so it
//! depends on nothing of this crate.

use std::{fmt::Write as _, ops::Range};

use fastrand::Rng;

const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
const DIGITS: &str = "0123456789";
const HEX: &str = "0123456789abcdef";
const BASE32: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE62: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_URL: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Something in a text, and what it is. What must not leave has the word of its kind; what may stay has another.
#[derive(Clone, Debug)]
pub struct Item {
    pub what: &'static str,
    pub range: Range<usize>,
}

/// A text, what is planted in it, and what looks like it and is not.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub text: String,
    pub planted: Vec<Item>,
    pub decoys: Vec<Item>,
}

/// Kinds that are planted.
pub const PLANTED: [&str; 21] = [
    "private_key",
    "holdfast_key",
    "aws_access_key",
    "aws_secret_key",
    "github_token",
    "slack_token",
    "stripe_key",
    "provider_key",
    "service_token",
    "jwt",
    "authorization",
    "url_password",
    "password",
    "secret",
    "card_number",
    "iban",
    "social_security_number",
    "email",
    "phone_number",
    "ip_address",
    "user_name",
];

/// A piece of text with something in it.
struct Piece {
    text: String,
    items: Vec<Item>,
}

/// Texts with so many things planted in them, and as many decoys.
pub fn samples(seed: u64, count: usize, paragraphs: &[&str]) -> Vec<Sample> {
    let mut random = Rng::with_seed(seed);
    let mut samples = Vec::new();
    let mut planted = 0;
    while planted < count {
        let sample = sample(&mut random, planted, paragraphs);
        planted += sample.planted.len();
        samples.push(sample);
    }
    samples
}

/// Some paragraphs, and between them or within them one to three things and as many decoys.
fn sample(random: &mut Rng, turn: usize, paragraphs: &[&str]) -> Sample {
    let mut sample = Sample::default();
    let count = random.usize(1..=3);
    let mut pieces: Vec<Piece> =
        (0..count).map(|index| planted(random, PLANTED[(turn + index) % PLANTED.len()])).collect();
    pieces.extend((0..count).map(|_| decoy(random)));
    random.shuffle(&mut pieces);
    for piece in pieces {
        let paragraph = paragraphs[random.usize(..paragraphs.len())];
        let cut = sentence_end(random, paragraph);
        sample.text.push_str(&paragraph[..cut]);
        let is_block = piece.text.contains('\n') || random.u8(..3) == 0;
        sample.text.push_str(if is_block { "\n" } else { " " });
        let at = sample.text.len();
        sample.text.push_str(&piece.text);
        for item in piece.items {
            let moved = Item { what: item.what, range: item.range.start + at..item.range.end + at };
            if PLANTED.contains(&item.what) { sample.planted.push(moved) } else { sample.decoys.push(moved) }
        }
        sample.text.push_str(if is_block { "\n" } else { " " });
        sample.text.push_str(paragraph[cut..].trim_start_matches(' '));
        sample.text.push_str("\n\n");
    }
    sample
}

/// A place in a paragraph where a sentence or a line ends, or one of its two ends.
fn sentence_end(random: &mut Rng, paragraph: &str) -> usize {
    let ends: Vec<usize> = paragraph
        .match_indices(['.', '?', '!', '\n'])
        .map(|(at, mark)| if mark == "\n" { at } else { at + 1 })
        .filter(|at| paragraph[*at..].starts_with([' ', '\n']))
        .chain([0, paragraph.len()])
        .collect();
    ends[random.usize(..ends.len())]
}

fn pick<'a>(random: &mut Rng, choices: &[&'a str]) -> &'a str {
    choices[random.usize(..choices.len())]
}

fn drawn(random: &mut Rng, len: usize, alphabet: &str) -> String {
    let letters = alphabet.as_bytes();
    (0..len).map(|_| char::from(letters[random.usize(..letters.len())])).collect()
}

/// A piece from a template in which `{}` is the value.
fn fill(what: &'static str, template: &str, value: &str) -> Piece {
    let Some((before, after)) = template.split_once("{}") else { panic!("no place in {template}") };
    let range = before.len()..before.len() + value.len();
    Piece { text: format!("{before}{value}{after}"), items: vec![Item { what, range }] }
}

/// A piece from one of some templates.
fn placed(random: &mut Rng, what: &'static str, value: &str, templates: &[&str]) -> Piece {
    let template = pick(random, templates);
    fill(what, template, value)
}

fn planted(random: &mut Rng, what: &'static str) -> Piece {
    match what {
        "private_key" => private_key(random),
        "aws_access_key" => aws_access_key(random),
        "aws_secret_key" => aws_secret_key(random),
        "url_password" => url_password(random),
        "authorization" => authorization(random),
        "password" => password(random),
        "secret" => secret(random),
        "card_number" => card_number(random),
        "iban" => iban(random),
        "social_security_number" => social_security_number(random),
        "email" => email(random),
        "phone_number" => phone_number(random),
        "ip_address" => ip_address(random),
        "user_name" => user_name(random),
        _ => {
            let token = match what {
                "holdfast_key" => format!("{}_{}", "hf", drawn(random, 49, BASE62)),
                "github_token" => github_token(random),
                "slack_token" => slack_token(random),
                "stripe_key" => stripe_key(random),
                "provider_key" => provider_key(random),
                "service_token" => service_token(random),
                "jwt" => jwt(random),
                _ => panic!("no generator for {what}"),
            };
            token_in_place(random, what, &token)
        }
    }
}

// What issuers give out.

fn github_token(random: &mut Rng) -> String {
    match random.u8(..7) {
        0 => format!("{}_pat_{}_{}", "github", drawn(random, 22, BASE62), drawn(random, 59, BASE62)),
        1 => format!("{}r_{}", "gh", drawn(random, 76, BASE62)),
        _ => {
            let letter = pick(random, &["p", "o", "u", "s"]);
            format!("{}{letter}_{}", "gh", drawn(random, 36, BASE62))
        }
    }
}

fn slack_token(random: &mut Rng) -> String {
    let digits = |random: &mut Rng| {
        let len = random.usize(10..=13);
        drawn(random, len, DIGITS)
    };
    let capitals = format!("{UPPER}{DIGITS}");
    match random.u8(..5) {
        0 => format!("{}b-{}-{}-{}", "xox", digits(random), digits(random), drawn(random, 24, BASE62)),
        1 => format!("{}p-{}-{}-{}-{}", "xox", digits(random), digits(random), digits(random), drawn(random, 32, HEX)),
        2 => format!("{}-1-A{}-{}-{}", "xapp", drawn(random, 10, &capitals), digits(random), drawn(random, 64, HEX)),
        3 => format!("{}e.{}p-1-{}", "xox", "xox", drawn(random, 163, BASE64_URL).replace('_', "A")),
        _ => {
            let (team, channel) = (drawn(random, 10, &capitals), drawn(random, 10, &capitals));
            let host = ["hooks", "slack", "com"].join(".");
            format!("{host}/services/T{team}/B{channel}/{}", drawn(random, 24, BASE62))
        }
    }
}

fn stripe_key(random: &mut Rng) -> String {
    let kind = pick(random, &["sk_live", "sk_test", "rk_live", "rk_test"]);
    match random.u8(..4) {
        0 => format!("{}_{}", "whsec", drawn(random, 32, BASE62)),
        1 => format!("{kind}_51{}", drawn(random, 97, BASE62)),
        _ => format!("{kind}_{}", drawn(random, 24, BASE62)),
    }
}

fn provider_key(random: &mut Rng) -> String {
    match random.u8(..10) {
        0 => format!("{}-{}T3BlbkFJ{}", "sk", drawn(random, 20, BASE62), drawn(random, 20, BASE62)),
        1 | 2 => format!("{}-proj-{}T3BlbkFJ{}", "sk", drawn(random, 74, BASE64_URL), drawn(random, 74, BASE64_URL)),
        3 | 4 => format!("{}-ant-api03-{}AA", "sk", drawn(random, 93, BASE64_URL)),
        5 => format!("{}_{}", "hf", drawn(random, 34, &format!("{LOWER}{UPPER}"))),
        6 => format!("{}{}", "AIza", drawn(random, 35, BASE64_URL)),
        7 => format!("{}_{}", "gsk", drawn(random, 52, BASE62)),
        8 => format!("{}-or-v1-{}", "sk", drawn(random, 64, HEX)),
        _ => format!("{}-{}", "xai", drawn(random, 80, BASE62)),
    }
}

fn service_token(random: &mut Rng) -> String {
    match random.u8(..9) {
        0 => format!("{}-{}", "glpat", drawn(random, 20, BASE64_URL)),
        1 => format!("{}_{}", "npm", drawn(random, 36, BASE62)),
        2 => format!("{}.{}.{}", "SG", drawn(random, 22, BASE64_URL), drawn(random, 43, BASE64_URL)),
        3 => format!("{}-AgEIcHlwaS5vcmc{}", "pypi", drawn(random, 150, BASE64_URL)),
        4 => format!("{}_v1_{}", "dop", drawn(random, 64, HEX)),
        5 => format!("{}_{}", "shpat", drawn(random, 32, HEX)),
        6 => format!("{}:AA{}", random.u32(100_000_000..2_000_000_000), drawn(random, 33, BASE64_URL)),
        7 => format!("{}.{}", "hvs", drawn(random, 90, BASE64_URL)),
        _ => format!("{}-{}", "GOCSPX", drawn(random, 28, BASE64_URL)),
    }
}

fn jwt(random: &mut Rng) -> String {
    let header = pick(
        random,
        &["{\"alg\":\"HS256\",\"typ\":\"JWT\"}", "{\"typ\":\"JWT\",\"alg\":\"RS256\",\"kid\":\"2026-01\"}"],
    );
    let issued = random.u32(1_600_000_000..1_800_000_000);
    let payload = format!("{{\"sub\":\"{}\",\"iat\":{issued},\"exp\":{}}}", drawn(random, 12, HEX), issued + 3600);
    let len = if random.bool() { 43 } else { 342 };
    format!("{}.{}.{}", base64_url(header), base64_url(&payload), drawn(random, len, BASE64_URL))
}

fn base64(text: &str) -> String {
    let letters = BASE64.as_bytes();
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = char::from(letters[(bits >> (18 - 6 * place) & 63) as usize]);
            encoded.push(if place <= chunk.len() { letter } else { '=' });
        }
    }
    encoded
}

fn base64_url(text: &str) -> String {
    base64(text).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

/// Where a token stands that can be told by itself.
fn token_in_place(random: &mut Rng, what: &'static str, token: &str) -> Piece {
    placed(
        random,
        what,
        token,
        &[
            "I think the problem is with {}, it was created yesterday.",
            "Here it is: {}",
            "({})",
            "`{}` does not work any more.",
            "\"{}\"",
            "export CI_TOKEN={}",
            "set -x API_TOKEN {}",
            "  token: {}",
            "{\"auth\":{\"token\":\"{}\"}}",
            "{\\\"auth\\\":{\\\"token\\\":\\\"{}\\\"}}",
            "\"content\": \"first line\\n{}\\nlast line\"",
            "client = Client(\"{}\")",
            "let client = Client::new(\"{}\")?;",
            "const client = new Client({ auth: '{}' });",
            "curl -s -H 'X-Token: {}' https://api.example.net/v2/me",
            "2026-04-02T11:20:41Z ERROR upstream refused {}: 401",
            "-  key = {}",
            "+key={}",
            "| ci | {} | never |",
            "name,{},active",
            "<token>{}</token>",
            "https://ci.example.net/hook?t={}&run=1",
            "https%3A%2F%2Fci.example.net%2F%3Ft%3D{}%26run%3D1",
            "**{}**",
            "token＝{}。",
            "我的令牌是{}，谢谢",
            "\u{1b}[33m{}\u{1b}[0m",
            "<code>{}</code>",
            "Authorization header was fine, key {}.",
            "tok_env=({})",
            "[{}]",
        ],
    )
}

fn private_key(random: &mut Rng) -> Piece {
    let kind = pick(random, &["RSA ", "EC ", "OPENSSH ", "", "ENCRYPTED ", "DSA "]);
    let count = random.usize(3..26);
    let mut lines: Vec<String> = (0..count).map(|_| drawn(random, 64, BASE64)).collect();
    lines.push(drawn(random, 22, BASE64) + "==");
    let (first, last) =
        (format!("-----BEGIN {kind}{} KEY-----", "PRIVATE"), format!("-----END {kind}{} KEY-----", "PRIVATE"));
    let joined = |separator: &str| format!("{first}{separator}{}{separator}{last}", lines.join(separator));
    let what = "private_key";
    match random.u8(..11) {
        0 | 1 => fill(what, "this is the file:\n{}\nis it valid?", &joined("\n")),
        2 => fill(what, "{\"type\":\"service_account\",\"private_key\":\"{}\\n\",\"client_id\":\"1\"}", &joined("\\n")),
        3 => fill(what, "key: |\n    {}\nname: web", &joined("\n    ")),
        4 => fill(what, "> {}\n\nwhat is that?", &joined("\n> ")),
        5 => fill(what, "TLS_KEY=\"{}\"", &joined("\\n")),
        6 => fill(what, "{}\r\n", &joined("\r\n")),
        7 => {
            // Cut off: the end is missing.
            let keep = random.usize(2..=lines.len().max(3) - 1);
            fill(what, "the log ends like this:\n{}", &format!("{first}\n{}", lines[..keep].join("\n")))
        }
        8 => {
            // Cut off: the beginning is missing.
            fill(what, "and the rest of it:\n{}\n", &format!("{}\n{last}", lines[1..].join("\n")))
        }
        9 => {
            let block = format!(
                "-----BEGIN PGP {} KEY BLOCK-----\nVersion: GnuPG v2\n\n{}\n=aB3d\n-----END PGP {} KEY BLOCK-----",
                "PRIVATE",
                lines.join("\n"),
                "PRIVATE"
            );
            fill(what, "{}\n", &block)
        }
        _ => fill(
            what,
            "const KEY = '{}';",
            &format!("{first}\\n' +\n  '{}\\n' +\n  '{last}", lines.join("\\n' +\n  '")),
        ),
    }
}

fn aws_access_key(random: &mut Rng) -> Piece {
    let id = format!("{}{}", pick(random, &["AKIA", "ASIA"]), drawn(random, 16, BASE32));
    placed(
        random,
        "aws_access_key",
        &id,
        &[
            "aws_access_key_id = {}",
            "AWS_ACCESS_KEY_ID={}",
            "\"AccessKeyId\": \"{}\",",
            "the key {} belongs to the build account",
            "X-Amz-Credential={}%2F20260402%2Feu-central-1%2Fs3%2Faws4_request",
            "An error occurred (InvalidAccessKeyId): {} does not exist",
            "provider \"aws\" { access_key = \"{}\" }",
            "{},eu-central-1",
        ],
    )
}

fn aws_secret_key(random: &mut Rng) -> Piece {
    let value = drawn(random, 40, BASE64);
    let id = format!("{}{}", "AKIA", drawn(random, 16, BASE32));
    let what = "aws_secret_key";
    match random.u8(..7) {
        0 => fill(what, "aws_secret_access_key = {}", &value),
        1 => fill(what, "export AWS_SECRET_ACCESS_KEY=\"{}\"", &value),
        2 => fill(what, "\"SecretAccessKey\": \"{}\",", &value),
        3 => fill(what, "secret_key: '{}'", &value),
        4 => fill(what, "The secret access key is {} as far as I know.", &value),
        5 => pair(&id, &value, "User,Access key,Secret\nci,", ",", ""),
        _ => pair(&id, &value, "the keys are ", " and ", " in that order"),
    }
}

/// An access key and its secret beside each other.
fn pair(id: &str, value: &str, before: &str, between: &str, after: &str) -> Piece {
    let start = before.len();
    let secret = start + id.len() + between.len();
    let items = vec![
        Item { what: "aws_access_key", range: start..start + id.len() },
        Item { what: "aws_secret_key", range: secret..secret + value.len() },
    ];
    Piece { text: format!("{before}{id}{between}{value}{after}"), items }
}

// What people choose.

const WORDS: [&str; 24] = [
    "summer", "winter", "dragon", "coffee", "monkey", "shadow", "purple", "rocket", "garden", "silver", "tiger",
    "banana", "castle", "forest", "planet", "guitar", "battery", "staple", "horse", "correct", "violet", "marble",
    "anchor", "kelp",
];

/// A password as a person or a manager of passwords makes it, with none of some characters.
fn chosen(random: &mut Rng, without: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    loop {
        let value = match random.u8(..8) {
            0 => format!(
                "{}{}{}",
                capital(pick(random, &WORDS)),
                random.u16(1950..2030),
                pick(random, &["!", "", "#", "?!"])
            ),
            1 => format!("{}{}", pick(random, &WORDS), random.u8(1..)),
            2 => format!(
                "{}-{}-{}-{}",
                pick(random, &WORDS),
                pick(random, &WORDS),
                pick(random, &WORDS),
                pick(random, &WORDS)
            ),
            3 => {
                pick(random, &WORDS).replace('o', "0").replace('e', "3").replace('a', "@")
                    + &random.u8(10..99).to_string()
            }
            4 => {
                let len = random.usize(10..24);
                drawn(random, len, BASE62)
            }
            _ => {
                let len = random.usize(10..24);
                drawn(random, len, &format!("{BASE62}!@#$%^&*-_=+?.~"))
            }
        };
        let is_plain = value.ends_with(['.', '?']) || !value.contains(|c: char| c.is_ascii_digit());
        let is_phrase = value.matches('-').count() == 3 && value.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        if !value.contains(|c| without.contains(c))
            && (!is_plain || is_phrase)
            && !value.starts_with(['-', '$', '*', '='])
        {
            return value;
        }
    }
}

fn password(random: &mut Rng) -> Piece {
    let what = "password";
    match random.u8(..10) {
        0..=2 => {
            // In settings, bare: the reader of the file ends a value at a space, or takes `#` and `;` for a remark.
            let value = chosen(random, "#;&,%$*");
            placed(
                random,
                what,
                &value,
                &[
                    "DB_PASSWORD={}",
                    "export PGPASSWORD={}",
                    "spring.datasource.password={}",
                    "  password: {}",
                    "password = {}",
                    "ENV ADMIN_PASSWORD={}",
                    "MYSQL_ROOT_PASSWORD={} docker compose up",
                    "docker run -e POSTGRES_PASSWORD={} postgres:16",
                    "requirepass {}",
                    "machine api.example.net login deploy password {}",
                    "smtp_pass={}",
                    "redis.passwd={}",
                    "Server=db;Database=shop;User Id=sa;Password={};Encrypt=true",
                    "wifi psk={}",
                    "ldap_bind_pw: {}",
                ],
            )
        }
        3..=5 => {
            let value = chosen(random, "'\"`\\$");
            placed(
                random,
                what,
                &value,
                &[
                    "\"password\": \"{}\"",
                    "password = \"{}\"",
                    "DB_PASSWORD='{}'",
                    "{\"user\":\"bo\",\"passwd\":\"{}\",\"port\":5432}",
                    "{\\\"password\\\":\\\"{}\\\"}",
                    "conn = connect(host=\"db\", user=\"app\", password=\"{}\")",
                    "let password = \"{}\";",
                    "const dbPassword: &str = \"{}\";",
                    "password := \"{}\"",
                    "<password>{}</password>",
                    "{ name: 'DB_PASSWORD', value: '{}' }",
                    "- name: DB_PASSWORD\n  value: \"{}\"",
                    ":password => \"{}\",",
                    "ALTER USER app WITH PASSWORD '{}';",
                    "CREATE USER app IDENTIFIED BY '{}';",
                    "setPassword(\"{}\");",
                    "os.environ.get(\"DB_PASSWORD\", \"{}\")",
                    "<add key=\"Password\" value=\"{}\"/>",
                    "$password = \"{}\"",
                    "if password == \"{}\":",
                    "password: SecretString::from(\"{}\"),",
                    "  \"admin_password\" : \"{}\"",
                ],
            )
        }
        6 => {
            let value = chosen(random, "'\"`\\$&;|<>*()%#!");
            placed(
                random,
                what,
                &value,
                &[
                    "tool login --user ada --password {} --yes",
                    "tool login --password={}",
                    "curl -u ada:{} https://api.example.net/",
                    "curl --user 'ada:{}' https://api.example.net/",
                    "sshpass -p {} ssh web1",
                    "mysql -u root -p{} shop",
                    "redis-cli -a {} ping",
                    "mysqldump --password={} shop > shop.sql",
                ],
            )
        }
        _ => {
            let value = chosen(random, "'\"`\\,;:<>|*");
            placed(
                random,
                what,
                &value,
                &[
                    "The password is {} until Friday.",
                    "my password is {}, please change it",
                    "password: {}",
                    "Password: {}",
                    "user: admin\npassword: {}\n",
                    "login is admin and the password is `{}`",
                    "you can use the password {} for the demo",
                    "The wifi password is \"{}\".",
                    "pw: {}",
                    "Passwort: {}",
                    "das Passwort lautet {}",
                    "mot de passe : {}",
                    "la contraseña es {}",
                    "I changed the password to {} yesterday",
                    "**Password:** {}",
                    "| password | {} |",
                    "Your temporary password:\n\n{}\n",
                    "the root password of the box is {} btw",
                    "密码是{}，请保密",
                    "passphrase = {}",
                    "pwd={}",
                    "(password {})",
                    "the password for staging: {}",
                ],
            )
        }
    }
}

fn secret(random: &mut Rng) -> Piece {
    let value = match random.u8(..6) {
        0 => drawn(random, 32, HEX),
        1 => drawn(random, 64, HEX),
        2 => uuid(random),
        3 => drawn(random, 43, BASE64) + "=",
        4 => {
            let len = random.usize(24..64);
            drawn(random, len, BASE64_URL)
        }
        _ => {
            let len = random.usize(20..48);
            drawn(random, len, BASE62)
        }
    };
    placed(
        random,
        "secret",
        &value,
        &[
            "API_KEY={}",
            "export SECRET_KEY={}",
            "api_key: {}",
            "api-key = \"{}\"",
            "\"apiKey\": \"{}\"",
            "\"client_secret\":\"{}\",",
            "clientSecret: '{}',",
            "X-Api-Key: {}",
            "curl -H \"X-Auth-Token: {}\" https://api.example.net",
            "auth_token = \"{}\"",
            "https://api.example.net/v1/items?access_token={}&page=2",
            "https://api.example.net/v1?api_key={}",
            "--token {}",
            "--api-key={}",
            "SECRET_KEY_BASE={}",
            "jwt_secret = '{}'",
            "signing_key: \"{}\"",
            "\\\"refresh_token\\\": \\\"{}\\\"",
            "<add key=\"ApiKey\" value=\"{}\" />",
            "var token = \"{}\";",
            "static TOKEN: &str = \"{}\";",
            "my api key is {}",
            "The client secret is `{}`.",
            "//registry.npmjs.org/:_authToken={}",
            "AccountName=shop;AccountKey={};EndpointSuffix=core",
            "webhook_secret={}",
            "encryption_key => '{}'",
            "- name: SERVICE_TOKEN\n  value: {}",
            "set_var(\"API_TOKEN\", \"{}\");",
            "ENCRYPTION_KEY=\"{}\"",
            "headers.insert(\"x-api-key\", \"{}\");",
            "token={}",
            "let api_key = String::from(\"{}\");",
            "'secret' => env('APP_SECRET', '{}'),",
            "the access token is {} and it expires soon",
            "Cookie: JSESSIONID={}; theme=dark",
        ],
    )
}

fn uuid(random: &mut Rng) -> String {
    let part = |random: &mut Rng, len| drawn(random, len, HEX);
    format!("{}-{}-4{}-a{}-{}", part(random, 8), part(random, 4), part(random, 3), part(random, 3), part(random, 12))
}

fn url_password(random: &mut Rng) -> Piece {
    // Encoded as URLs ask for, or without what would have to be.
    let value = chosen(random, "@/:#?%[]'\"`<>\\{}$*&,;");
    placed(
        random,
        "url_password",
        &value,
        &[
            "postgres://app:{}@db.internal:5432/shop",
            "DATABASE_URL=postgresql://app:{}@db1/shop?sslmode=require",
            "mysql://root:{}@localhost/test",
            "redis://:{}@cache.example.net:6379/0",
            "amqp://guest1:{}@mq:5672/%2f",
            "mongodb+srv://admin:{}@cluster0.ab1cd.mongodb.net/?retryWrites=true",
            "git clone https://ada:{}@git.example.net/a/b.git",
            "ftp://backup:{}@files.example.net/daily",
            "\"url\": \"https://svc:{}@api.example.net/v1\"",
            "smtps://mailer:{}@smtp.example.net:465",
            "https:\\/\\/svc:{}@api.example.net\\/v1",
            "http_proxy=http://proxyuser:{}@proxy:3128",
            "jdbc:postgresql://app:{}@db/shop",
            "dsn := \"app:{}@tcp(db:3306)/shop\"",
            "next=https%3A%2F%2Fsvc%3A{}%40api.example.net%2Fv1",
            "(see postgres://u:{}@h/d)",
        ],
    )
}

fn authorization(random: &mut Rng) -> Piece {
    let (scheme, value) = match random.u8(..5) {
        0 | 1 => {
            let password = chosen(random, "");
            ("Basic", base64(&format!("{}:{password}", pick(random, &["ada", "deploy", "svc-web", "admin"]))))
        }
        2 => ("Bearer", drawn(random, 40, BASE62)),
        3 => ("Bearer", drawn(random, 64, HEX)),
        _ => ("token", drawn(random, 40, HEX)),
    };
    let template = pick(
        random,
        &[
            "Authorization: % {}",
            "curl -H \"Authorization: % {}\" https://api.example.net",
            "'Authorization': '% {}',",
            "\"authorization\": \"% {}\"",
            "headers={\"Authorization\": \"% {}\"}",
            "{\\\"Authorization\\\":\\\"% {}\\\"}",
            "GET /v1/me HTTP/1.1\nHost: api.example.net\nauthorization: % {}\nAccept: */*\n",
            "Proxy-Authorization: % {}",
            "req.header(\"Authorization\", \"% {}\")",
            "> authorization: % {}",
            "Authorization=% {}",
            "--header 'authorization: % {}'",
            ".set('Authorization', '% {}')",
            "I get 401 with Authorization: % {}, why?",
        ],
    );
    fill("authorization", &template.replace('%', scheme), &value)
}

// What tells of a person.

const NAMES: [&str; 20] = [
    "alice", "bob", "carol", "dmitri", "elena", "farid", "greta", "hiro", "ines", "jonas", "katya", "liam", "mei",
    "noor", "olga", "pablo", "quentin", "rosa", "sven", "tariq",
];
const FAMILIES: [&str; 20] = [
    "smith", "jones", "garcia", "mueller", "rossi", "kowalski", "tanaka", "nguyen", "silva", "ivanov", "dubois",
    "hansen", "okafor", "haddad", "novak", "berg", "lopez", "fischer", "moreau", "obrien",
];

fn email(random: &mut Rng) -> Piece {
    let (name, family) = (pick(random, &NAMES), pick(random, &FAMILIES));
    let local = match random.u8(..8) {
        0 => format!("{name}.{family}"),
        1 => format!("{}{family}", &name[..1]),
        2 => format!("{name}{}", random.u16(1..2000)),
        3 => format!("{name}_{family}"),
        4 => format!("{name}+{}", pick(random, &["news", "shop", "test1"])),
        5 => format!("{}.{}", name.to_uppercase(), family),
        6 => format!("{name}-{family}{}", random.u8(1..99)),
        _ => name.to_owned(),
    };
    let domain = match random.u8(..7) {
        0 => "gmail.com".to_owned(),
        1 => format!("{family}.{}", pick(random, &["de", "fr", "co.uk", "com.br", "io", "photography", "museum"])),
        2 => format!("mail.{family}-group.{}", pick(random, &["com", "net", "org"])),
        3 => format!("cs.uni-{}.edu", pick(random, &["berlin", "leeds", "lyon"])),
        4 => "example.com".to_owned(),
        5 => format!(
            "{}.{}",
            pick(random, &["proton", "outlook", "163", "yahoo"]),
            pick(random, &["me", "com", "co.jp"])
        ),
        _ => format!("{}.internal.example.net", pick(random, &["hr", "it", "ops"])),
    };
    let what = "email";
    if random.u8(..12) == 0 {
        let value = format!("{}%40{domain}", local.replace('+', "%2B"));
        return placed(
            random,
            what,
            &value,
            &["https://example.net/login?email={}&next=1", "/reset?user={}", "mailto%3A{}"],
        );
    }
    placed(
        random,
        what,
        &format!("{local}@{domain}"),
        &[
            "Write to {} if anything is unclear.",
            "my address is {}.",
            "<{}>",
            "Ada L. <{}> wrote:",
            "mailto:{}",
            "\"email\": \"{}\",",
            "{\\\"email\\\":\\\"{}\\\"}",
            "\"body\":\"Hello,\\n{}\\nwrote\"",
            "From: {}",
            "Author: Ada L <{}>",
            "cc {} and the others",
            "user={} action=login ok=true",
            "4711,{},active",
            "({})",
            "`{}`",
            "contact:{};",
            "| {} | admin |",
            "请联系{}，谢谢",
            "[mail me](mailto:{})",
            "INSERT INTO users (email) VALUES ('{}');",
            "git config user.email {}",
            "E-Mail: {}, Raum 204",
            "{}, please have a look",
            "Signed-off-by: Ada L <{}>",
            "ssh {} uptime",
            "{}: mailbox full",
        ],
    )
}

fn phone_number(random: &mut Rng) -> Piece {
    let d = |random: &mut Rng, len| drawn(random, len, DIGITS);
    let n = |random: &mut Rng, len: usize| drawn(random, 1, "23456789") + &drawn(random, len - 1, DIGITS);
    let (value, is_bare) = match random.u8(..22) {
        0 => (format!("+1 {} {} {}", n(random, 3), n(random, 3), d(random, 4)), false),
        1 => (format!("+1-{}-{}-{}", n(random, 3), n(random, 3), d(random, 4)), false),
        2 => (format!("+1 ({}) {}-{}", n(random, 3), n(random, 3), d(random, 4)), false),
        3 => (format!("({}) {}-{}", n(random, 3), n(random, 3), d(random, 4)), false),
        4 => (format!("{}-{}-{}", n(random, 3), n(random, 3), d(random, 4)), false),
        5 => (format!("{}.{}.{}", n(random, 3), n(random, 3), d(random, 4)), false),
        6 => (format!("+49 {} {}", pick(random, &["30", "89", "170", "151", "4131"]), n(random, 7)), false),
        7 => (format!("+49 (0){} {}", pick(random, &["30", "89"]), n(random, 7)), false),
        8 => (format!("0{}/{}", pick(random, &["30", "89", "221"]), n(random, 7)), false),
        9 => (format!("01{}{} {}", pick(random, &["5", "6", "7"]), d(random, 1), n(random, 7)), false),
        10 => (format!("+44 20 {} {}", n(random, 4), d(random, 4)), false),
        11 => (format!("07{} {}", d(random, 3), d(random, 6)), false),
        12 => (format!("+33 6 {} {} {} {}", n(random, 2), d(random, 2), d(random, 2), d(random, 2)), false),
        13 => (format!("06 {} {} {} {}", n(random, 2), d(random, 2), d(random, 2), d(random, 2)), false),
        14 => (format!("+34 6{} {} {}", d(random, 2), d(random, 3), d(random, 3)), false),
        15 => (format!("+81 90-{}-{}", n(random, 4), d(random, 4)), false),
        16 => (format!("03-{}-{}", n(random, 4), d(random, 4)), false),
        17 => (format!("+55 11 9{}-{}", d(random, 4), d(random, 4)), false),
        18 => (format!("04{} {} {}", d(random, 2), d(random, 3), d(random, 3)), false),
        19 => (format!("+91 9{} {}", d(random, 4), d(random, 5)), false),
        20 => (format!("+4{}", d(random, 10).replacen(|_| true, "9", 1)), false),
        _ => (format!("{}{}{}", n(random, 3), n(random, 3), d(random, 4)), true),
    };
    let told = [
        "Phone: {}",
        "tel. {}",
        "my number is {}",
        "call me at {}",
        "\"phone\": \"{}\"",
        "phone_number={}",
        "Mobile {}",
        "{\\\"phoneNumber\\\":\\\"{}\\\"}",
        "tel:{}",
        "WhatsApp {}",
        "Telefon: {}",
        "fax {}",
        "<phone>{}</phone>",
    ];
    let open = [
        "You can reach me under {} until six.",
        "{} is the one of the office.",
        "({})",
        "4711,{},active",
        "Ada L., {}, room 204",
        "user {} signed up",
        "| {} | home |",
        "`{}`",
        "\"{}\"",
        "my line: {}.",
        "text\\n{}\\ntext",
        "ring {}!",
        "- {}",
    ];
    let templates = if is_bare || random.bool() { &told[..] } else { &open[..] };
    placed(random, "phone_number", &value, templates)
}

/// Digits with the one that checks them, by Luhn.
fn with_check_digit(digits: String) -> String {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, byte)| {
            let digit = u32::from(byte - b'0') * if place % 2 == 0 { 2 } else { 1 };
            digit / 10 + digit % 10
        })
        .sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

fn card_number(random: &mut Rng) -> Piece {
    let (prefix, len) = match random.u8(..8) {
        0..=2 => ("4".to_owned(), 16),
        3 => (format!("5{}", random.u8(1..=5)), 16),
        4 => (random.u16(2221..2720).to_string(), 16),
        5 => (pick(random, &["34", "37"]).to_owned(), 15),
        6 => (pick(random, &["6011", "65"]).to_owned(), 16),
        _ => ("3530".to_owned(), 16),
    };
    let body = prefix.clone() + &drawn(random, len - 1 - prefix.len(), DIGITS);
    let number = with_check_digit(body);
    let separator = pick(random, &["", " ", "-", "\u{a0}"]);
    let cuts: &[usize] = if len == 15 { &[4, 10, 15] } else { &[4, 8, 12, 16] };
    let mut from = 0;
    let groups: Vec<&str> = cuts
        .iter()
        .map(|to| {
            let group = &number[from..*to];
            from = *to;
            group
        })
        .collect();
    placed(
        random,
        "card_number",
        &groups.join(separator),
        &[
            "My card is {}, exp 09/28.",
            "card number: {}",
            "\"pan\": \"{}\"",
            "paid with {} yesterday",
            "VISA {} 12/27 CVV 123",
            "{}",
            "4711,{},EUR",
            "cc={}&exp=0928",
            "({})",
            "charge failed for {}.",
            "| {} | declined |",
            "text\\n{}\\ntext",
            "Kartennummer {}",
        ],
    )
}

fn iban(random: &mut Rng) -> Piece {
    let (country, body) = match random.u8(..9) {
        0 | 1 => ("DE", drawn(random, 18, DIGITS)),
        2 => ("GB", drawn(random, 4, UPPER) + &drawn(random, 14, DIGITS)),
        3 => (
            "FR",
            drawn(random, 10, DIGITS) + &drawn(random, 11, &format!("{UPPER}{DIGITS}")) + &drawn(random, 2, DIGITS),
        ),
        4 => ("NL", drawn(random, 4, UPPER) + &drawn(random, 10, DIGITS)),
        5 => ("ES", drawn(random, 20, DIGITS)),
        6 => ("IT", drawn(random, 1, UPPER) + &drawn(random, 22, DIGITS)),
        7 => ("CH", drawn(random, 17, DIGITS)),
        _ => ("NO", drawn(random, 11, DIGITS)),
    };
    let rest = format!("{body}{country}00").bytes().fold(0_u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    let number = format!("{country}{:02}{body}", 98 - rest);
    let value = if random.bool() {
        number
    } else {
        number
            .as_bytes()
            .chunks(4)
            .map(|group| String::from_utf8_lossy(group).into_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    placed(
        random,
        "iban",
        &value,
        &[
            "IBAN: {}",
            "Please transfer it to {} by Friday.",
            "\"iban\":\"{}\"",
            "{}",
            "Konto {} bei der Bank",
            "({})",
            "iban={};bic=",
            "acct {}, ref 2025-00417",
            "| {} | EUR |",
            "4711,{},EUR",
            "auf {} überweisen",
            "text\\n{}\\ntext",
        ],
    )
}

fn social_security_number(random: &mut Rng) -> Piece {
    let area = loop {
        let area = random.u16(1..900);
        if area != 666 {
            break area;
        }
    };
    let value = format!("{area:03}-{:02}-{:04}", random.u8(1..100), random.u16(1..10_000));
    placed(
        random,
        "social_security_number",
        &value,
        &[
            "SSN: {}",
            "my social security number is {}",
            "\"ssn\": \"{}\"",
            "4711,{},active",
            "({})",
            "Ada L., {}, born in May",
            "ssn={}",
            "text\\n{}\\ntext",
            "| {} |",
            "the form asks for {}?",
        ],
    )
}

fn ip_address(random: &mut Rng) -> Piece {
    let value = if random.u8(..4) == 0 { address_6(random) } else { address_4(random) };
    let is_6 = value.contains(':');
    let any = [
        "connect from {} refused",
        "the server is at {} and does not answer",
        "client={} status=200",
        "\"remote_addr\": \"{}\"",
        "ssh root@{} uptime",
        "{} - - [02/Apr/2026:11:20:41 +0000] \"GET / HTTP/1.1\" 200 512",
        "({})",
        "deny from {};",
        "X-Forwarded-For: {}",
        "ping {}",
        "host {}, room 204",
        "`{}`",
        "my ip is {}.",
        "text\\n{}\\ntext",
        "{}\tweb1.example.net web1",
        "inet {} netmask 255.255.255.0",
        "| {} | blocked |",
        "Failed password for root from {} port 52144 ssh2",
        "remote:{}",
    ];
    let v4 = [
        "http://{}:8080/health",
        "{}:443",
        "allow {}/32",
        "listen={}:9000",
        "tcp://{}:2375",
        "upstream {}:80 max_fails=3",
    ];
    let v6 = ["http://[{}]:8080/health", "[{}]:443", "allow {}/128", "{}%eth0"];
    let templates: Vec<&str> = any.iter().chain(if is_6 { &v6[..] } else { &v4[..] }).copied().collect();
    placed(random, "ip_address", &value, &templates)
}

fn address_4(random: &mut Rng) -> String {
    loop {
        let part = |random: &mut Rng| random.u8(..);
        let parts = match random.u8(..5) {
            0 => [10, random.u8(2..), part(random), random.u8(2..=254)],
            1 => [192, 168, random.u8(2..), random.u8(2..=254)],
            _ => [random.u8(11..=223), part(random), part(random), random.u8(2..=254)],
        };
        let address = std::net::Ipv4Addr::from(parts);
        let is_benchmark = parts[0] == 198 && matches!(parts[1], 18 | 19);
        if !(address.is_loopback() || address.is_link_local() || address.is_documentation() || is_benchmark) {
            return address.to_string();
        }
    }
}

fn address_6(random: &mut Rng) -> String {
    let mut parts = [0_u16; 8];
    for part in &mut parts {
        *part = random.u16(1..);
    }
    parts[0] = [0x2a00, 0x2a02, 0x2607, 0x2400, 0xfd12, 0xfe80][random.usize(..6)];
    if random.bool() {
        parts[3..7].fill(0);
    }
    let address = std::net::Ipv6Addr::from(parts);
    if random.u8(..4) == 0 {
        parts.iter().fold(String::new(), |mut text, part| {
            let _ = write!(text, "{}{part:04x}", if text.is_empty() { "" } else { ":" });
            text
        })
    } else {
        address.to_string()
    }
}

fn user_name(random: &mut Rng) -> Piece {
    let (name, family) = (pick(random, &NAMES), pick(random, &FAMILIES));
    let value = match random.u8(..4) {
        0 => format!("{}{family}", &name[..1]),
        1 => format!("{name}.{family}"),
        2 => format!("{name}{}", random.u8(1..99)),
        _ => name.to_owned(),
    };
    placed(
        random,
        "user_name",
        &value,
        &[
            "/home/{}/projects/shop/src/main.rs:18:5",
            "cd /home/{}",
            "/Users/{}/Library/Logs",
            "C:\\Users\\{}\\AppData\\Local",
            "\"C:\\\\Users\\\\{}\\\\Desktop\\\\a.txt\"",
            "file:///home/{}/notes.md",
            "No such file or directory: '/Users/{}/a.csv'",
            "HOME=/home/{}",
            "PATH=/home/{}/.local/bin:/usr/bin",
            "scp web1:/home/{}/dump.sql .",
            "/mnt/c/Users/{}/Downloads",
            "volumes: [/home/{}/data:/data]",
            "text\\n/home/{}/x\\ntext",
            "File \"/home/{}/app/main.py\", line 42",
            "(/home/{})",
        ],
    )
}

// What only looks like it.

/// What looks like a secret or like something of a person, and where it stands.
const DECOYS: [(&[&str], &[&str]); 13] = [
    (
        &[
            "The token limit is 4096",
            "the token count is 128000",
            "a token costs 0.002",
            "token 17 of 4096",
            "Tokens per second: 41.7",
            "token: the smallest unit",
        ],
        &["{}.", "{}; nothing else"],
    ),
    (
        &[
            "<your password>",
            "${DB_PASSWORD}",
            "xxxxxxxx",
            "********",
            "changeme",
            "$DB_PASSWORD",
            "{{ db_password }}",
            "%DB_PASSWORD%",
            "your-password-here",
            "...",
            "[REDACTED]",
            "None",
            "null",
            "true",
            "\"\"",
        ],
        &["password={}", "DB_PASSWORD={}", "password: {}", "--password {}"],
    ),
    (
        &[
            "sk-...",
            "sk-xxxxxxxxxxxxxxxxxxxxxxxx",
            "sk-your-key-here",
            "<API_KEY>",
            "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "hf_…",
            "$OPENAI_API_KEY",
            "YOUR_API_KEY",
            "REPLACE_WITH_YOUR_KEY",
            "os.environ[\"API_KEY\"]",
        ],
        &["api_key={}", "export API_KEY={}", "api_key = {}", "Authorization: Bearer {}"],
    ),
    (
        &[
            "getpass.getpass()",
            "args.password",
            "os.getenv(\"DB_PASSWORD\")",
            "config.password",
            "read_password()?",
            "self.password",
            "user_password",
            "input(\"Password: \")",
            "settings.DATABASE_PASSWORD",
            "None",
            "String",
            "&'static str",
            "string;",
        ],
        &["password = {}", "let password = {}", "db_password: {}", "password={},"],
    ),
    (
        &[
            "token_count = 4096",
            "max_tokens: 512",
            "\"total_tokens\": 1834",
            "next_page_token=\"\"",
            "tokenizer = \"cl100k_base\"",
            "secretName: web-tls-2",
            "password_file: /run/secrets/db",
            "passwordMinLength = 12",
            "key: value1",
            "api_key_id: 12",
            "token_type: bearer",
            "keys: 12",
            "secret_rotation_days = 90",
        ],
        &["{}", "  {}"],
    ),
    (
        &[
            "Forgot your password?",
            "the password must have 12 characters",
            "Password incorrect, 2 attempts left",
            "password reset in 24h",
            "password hashing with argon2id",
            "password is case-sensitive",
            "the passwords do not match",
            "password-protected Excel2016 file",
            "The secret is to stir",
            "the token is expired",
            "a secret santa2024 party",
        ],
        &["{}", "{}."],
    ),
    (
        &[
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.0",
            "::1",
            "192.0.2.44",
            "203.0.113.9",
            "2001:db8::1",
            "224.0.0.1",
            "10.0.0.0/8",
            "169.254.169.254",
            "8.8.8.8",
            "fe80::/10",
            "255.255.255.255",
        ],
        &["bind to {}", "host={}", "{}", "e.g. {}."],
    ),
    (
        &[
            "@app.route(\"/\")",
            "@types/node@18.2.0",
            "user@1000.service",
            "logo@2x.png",
            "lodash@4.17.21",
            "wg-quick@wg0.service",
            "image@sha256",
            "foo@bar",
            "return@forEach",
            "x @ w.T",
            "@media (min-width: 600px)",
            "jquery@3.6.0.js",
        ],
        &["{}", "see {}"],
    ),
    (
        &[
            concat!("/ho", "me/ubuntu/app"),
            concat!("/ho", "me/user/.bashrc"),
            "/home/$USER/bin",
            "C:\\Users\\Public\\a.txt",
            concat!("/Us", "ers/Shared"),
            "https://example.net/home/about",
            "~/projects",
            "/home/<you>/x",
            "C:\\Users\\%USERNAME%\\a",
        ],
        &["{}", "in {}"],
    ),
    (
        &[
            "class=\"sk-toggleable__label-arrow\"",
            "task-scheduler-with-retries-2",
            "risk-assessment-2024-final",
            "sk-learn-pipeline-step-name",
            "desk-reservation-service-v2",
        ],
        &["{}", "in {}"],
    ),
    (
        &[
            "Authorization: required",
            "Authorization: Bearer <token>",
            "Authorization: Bearer $TOKEN",
            "bearer authentication",
            "Basic knowledge of SQL",
            "headers={\"Authorization\": f\"Bearer {token}\"}",
            "Authorization: Bearer {token}",
            "basic authentication",
        ],
        &["{}", "{}."],
    ),
    (
        &[
            "https://user@example.net/path",
            "http://localhost:3000/@vite/client",
            "https://example.net:8443/a@b",
            "postgres://user:password@localhost/db",
            "postgres://$USER:$PASSWORD@db/shop",
            "https://example.net/a:b@c",
            "redis://localhost:6379",
            "mysql://user:<password>@host/db",
        ],
        &["{}", "see {}"],
    ),
    (
        &["-----BEGIN PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----"],
        &["the file begins with {}", "it should look like {}"],
    ),
];

fn decoy(random: &mut Rng) -> Piece {
    let (value, templates): (String, &[&str]) = match random.usize(..DECOYS.len() + MADE) {
        turn if turn < DECOYS.len() => {
            let (values, templates) = DECOYS[turn];
            (pick(random, values).to_owned(), templates)
        }
        turn => made(random, turn - DECOYS.len()),
    };
    placed(random, "decoy", &value, templates)
}

/// How many kinds of decoys are made by chance.
const MADE: usize = 31;

fn made(random: &mut Rng, turn: usize) -> (String, &'static [&'static str]) {
    let part = |random: &mut Rng| random.u8(..60);
    match turn {
        0 => (
            format!("{}.{}.{}.{}", part(random), part(random), part(random), part(random)),
            &[
                "version {}",
                "upgrade to v{}",
                "Version: {}",
                "\"version\": \"{}\"",
                "pip install tool=={}",
                "tool-{}.tar.gz",
                "see section {}",
                "libfoo ({}-1ubuntu2)",
                "release {} fixes that",
                "firmware {}",
            ],
        ),
        1 => (
            drawn(random, 40, HEX),
            &["commit {}", "at {}", "git checkout {}", "fixed in {}.", "Merge {} into main", "\"sha\": \"{}\""],
        ),
        2 => (drawn(random, 7, HEX), &["{} Fix the index", "since {}..HEAD", "reverts {}"]),
        3 => (uuid(random), &["request_id={}", "\"id\": \"{}\"", "session {} ended", "urn:uuid:{}", "trace {}."]),
        4 => (
            drawn(random, 64, HEX),
            &["sha256:{}", "image@sha256:{}", "{}  archive.tar.gz", "checksum = \"{}\"", "digest {}"],
        ),
        5 => (
            format!("{}.{}.{}", part(random), part(random), part(random)),
            &["v{}", "tool {} is out", "serde = \"{}\"", "rust:{}-slim", "^{}"],
        ),
        6 => (
            format!("20{:02}-{:02}-{:02}", random.u8(10..30), random.u8(1..=12), random.u8(1..=28)),
            &["on {}", "{} 12:30:45", "{}T08:15:27Z", "backup-{}.sql", "since {},"],
        ),
        7 => (
            format!("{:02}.{:02}.20{:02}", random.u8(1..=28), random.u8(1..=12), random.u8(10..30)),
            &["am {}", "bis {} um 12 Uhr", "geboren {}"],
        ),
        8 => (
            random.u32(1_500_000_000..1_900_000_000).to_string(),
            &["ts={}", "\"iat\": {},", "at {} (Unix)", "created_at: {}"],
        ),
        9 => (random.u64(1_500_000_000_000..1_900_000_000_000).to_string(), &["ts={}", "\"time\":{}", "{} ms"]),
        10 => (isbn_13(random), &["ISBN {}", "isbn: {}", "the book ({}) is out of print"]),
        11 => (
            format!("0-{}-{}-{}", drawn(random, 3, DIGITS), drawn(random, 5, DIGITS), drawn(random, 1, DIGITS)),
            &["ISBN {}", "ISBN-10: {}"],
        ),
        12 => (
            format!("{},{}.{:02}", random.u16(1..999), drawn(random, 3, DIGITS), random.u8(..100)),
            &["${}", "it costs {} EUR", "a total of {} USD"],
        ),
        13 => {
            (random.u16(1024..).to_string(), &["port {}", "localhost:{}", "0.0.0.0:{}", "listening on :{}", "-p {}:80"])
        }
        14 => (drawn(random, 6, HEX), &["color: #{};", "#{}", "background: #{} url(a.png)"]),
        15 => (
            format!("git@{}:team/shop.git", pick(random, &["github.com", "gitlab.com", "git.example.net"])),
            &["git clone {}", "url = {}", "origin\t{} (fetch)"],
        ),
        16 => (format!("sha512-{}==", drawn(random, 86, BASE64)), &["integrity=\"{}\"", "\"integrity\": \"{}\""]),
        17 => (
            format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{}", drawn(random, 43, BASE64)),
            &["{} ci", "authorized_keys: {}"],
        ),
        18 => {
            ((0..6).map(|_| drawn(random, 2, HEX)).collect::<Vec<_>>().join(":"), &["ether {}", "MAC {}", "{} wlan0"])
        }
        19 => (
            format!("{:02}:{:02}:{:02}", random.u8(..24), random.u8(..60), random.u8(..60)),
            &["at {}", "[{}]", "{}.104 INFO", "took {}"],
        ),
        20 => (
            format!(
                "10.{}/{}",
                drawn(random, 4, DIGITS),
                pick(random, &["s41586-020-2649-2", "j.cell.2010.01.001", "nature14539", "3292500.3330701"])
            ),
            &["doi:{}", "https://doi.org/{}"],
        ),
        21 => (
            format!(
                "{}.{}, {}.{}",
                random.u8(10..60),
                drawn(random, 5, DIGITS),
                random.u8(10..60),
                drawn(random, 5, DIGITS)
            ),
            &["at {}", "({})", "lat/lon {}"],
        ),
        22 => (wrong_card(random), &["order {}", "id={}", "tracking no. {}"]),
        23 => (
            format!("{}-{}", drawn(random, 4, DIGITS), drawn(random, 4, DIGITS)),
            &["ISSN {}", "ticket {}", "pages {}"],
        ),
        24 => (
            format!("00-{}-{}-01", drawn(random, 32, HEX), drawn(random, 16, HEX)),
            &["traceparent: {}", "traceparent={}"],
        ),
        25 => (drawn(random, 32, HEX), &["ETag: \"{}\"", "md5 {}", "cache/{}.bin", "\"hash\":\"{}\""]),
        26 => (base64(&drawn(random, 60, LOWER)), &["data:image/png;base64,{}", "\"blob\": \"{}\"", "payload {}"]),
        27 => (
            format!("{} {} {}", random.u8(1..99), drawn(random, 3, DIGITS), drawn(random, 3, DIGITS)),
            &["{} people", "a total of {}", "{} km"],
        ),
        28 => (format!("{}.{}", random.u8(..9), drawn(random, 16, DIGITS)), &["loss {}", "x = {}", "{},"]),
        29 => (
            format!("{}-{:02}-{:02}", drawn(random, 4, DIGITS), random.u8(1..13), random.u8(1..29)),
            &["call of {}", "the phone was bought on {}", "order {}"],
        ),
        _ => (
            format!(
                "-----BEGIN CERTIFICATE-----\n{}\n{}\n-----END CERTIFICATE-----",
                drawn(random, 64, BASE64),
                drawn(random, 64, BASE64)
            ),
            &["{}\n"],
        ),
    }
}

fn isbn_13(random: &mut Rng) -> String {
    let digits = format!("978{}", drawn(random, 9, DIGITS));
    let sum: u32 =
        digits.bytes().enumerate().map(|(at, b)| u32::from(b - b'0') * if at % 2 == 0 { 1 } else { 3 }).sum();
    let whole = format!("{digits}{}", (10 - sum % 10) % 10);
    if random.bool() {
        whole
    } else {
        format!("{}-{}-{}-{}-{}", &whole[..3], &whole[3..4], &whole[4..8], &whole[8..12], &whole[12..])
    }
}

/// Sixteen digits that are no card: the check digit is another one.
fn wrong_card(random: &mut Rng) -> String {
    let mut number = with_check_digit(format!("4{}", drawn(random, 14, DIGITS)));
    let last = number.pop().and_then(|digit| digit.to_digit(10)).unwrap_or_default();
    format!("{number}{}", (last + random.u32(1..10)) % 10)
}
