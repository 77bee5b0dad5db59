//! What a word without quotes is, by its form: a number, an id, a time, a path, an address, or a word that stays.

use super::Hole;
use crate::fingerprint::words;

/// Bytes of one token; a longer one is several.
const TOKEN_BYTES_MAX: usize = 256;
/// Hexadecimal digits that are an id and no word.
const HEX_DIGITS_MIN: usize = 7;
/// A mixture of letters and digits of that length is made by a machine.
const RANDOM_BYTES_MIN: usize = 20;

/// What becomes of a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It stays as it is.
    Word,
    /// Parts of it stay.
    Written(String),
    /// It is a path.
    Path,
    /// It goes.
    Hole(Hole),
}

/// Bytes of the token at the beginning: letters and digits with what joins them.
pub(super) fn token_bytes(text: &str) -> usize {
    let mut characters = text.char_indices().peekable();
    let is_inner = |c: char| c.is_alphanumeric() || c == '_';
    while let Some((at, character)) = characters.next() {
        if at >= TOKEN_BYTES_MAX {
            return at;
        }
        if is_inner(character) || is_mark(character) {
            continue;
        }
        let next = characters.peek().map(|(_, next)| *next);
        let joins = matches!(character, '-' | '.' | '/' | '\\' | '@' | '+' | '$' | '~')
            && next.is_some_and(|next| is_inner(next) || (character == '/' && matches!(next, '@' | '.' | '_')));
        let is_module = character == ':' && text[at..].starts_with("::") && text[at + 2..].starts_with(is_inner);
        if is_module {
            characters.next();
            continue;
        }
        if !joins {
            return at;
        }
    }
    text.len()
}

/// A mark that is put over the letter before it.
const fn is_mark(character: char) -> bool {
    matches!(character, '\u{300}'..='\u{36f}')
}

/// What a token is, by the word before it and what follows.
pub(super) fn classify(token: &str, before: &str, after: &str) -> Kind {
    let lower = token.to_ascii_lowercase();
    if token.starts_with("HTTP/") {
        return Kind::Written("HTTP".to_owned());
    }
    if is_uuid(&lower) {
        return Kind::Hole(Hole::Id);
    }
    if lower.starts_with(|c: char| c.is_ascii_digit()) {
        return numeric(token, &lower, before, after);
    }
    if let Some((name, host)) = token.split_once('@') {
        return addressed(name, host);
    }
    if token.contains(['/', '\\']) {
        return slashed(token);
    }
    if !token.bytes().any(|byte| byte.is_ascii_digit()) {
        return if is_temporary(&lower) { Kind::Hole(Hole::Temporary) } else { Kind::Word };
    }
    if is_device(&lower) {
        return Kind::Path;
    }
    if words::has(words::WORDS_WITH_DIGITS, &lower) || is_code(token) || token.contains(".so") {
        return Kind::Word;
    }
    if is_temporary(&lower) {
        return Kind::Hole(Hole::Temporary);
    }
    parts(token)
}

/// What begins with a digit: it goes, unless it is a code.
fn numeric(token: &str, lower: &str, before: &str, after: &str) -> Kind {
    let word = before.trim_end_matches(['=', ':', '(', '[', ',']);
    let has_colon = before.ends_with(':');
    let is_coded = words::has(words::CODES, word) && !(has_colon && matches!(word, "error" | "err"));
    let is_number = token.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(hex) = lower.strip_prefix("0x") {
        let is_result = is_coded || (hex.len() == 8 && hex.starts_with(['8', 'c']));
        return if is_result { Kind::Word } else { Kind::Hole(Hole::Address) };
    }
    if is_number && is_coded && token.len() <= 6 {
        return Kind::Word;
    }
    if is_number && is_status(token, word, after) {
        return Kind::Word;
    }
    // `203/EXEC` of systemd.
    if let Some((number, name)) = token.split_once('/')
        && is_coded
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_uppercase())
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Kind::Word;
    }
    let is_hex = !is_number && lower.len() >= HEX_DIGITS_MIN && lower.bytes().all(|byte| byte.is_ascii_hexdigit());
    Kind::Hole(if is_hex { Hole::Id } else { Hole::Number })
}

/// Whether a number is a status of HTTP: it is told so, or its phrase follows.
fn is_status(token: &str, word: &str, after: &str) -> bool {
    const BEFORE: [&str; 9] =
        ["answered", "error", "got", "http", "received", "responded", "returned", "returns", "with"];
    if token.len() != 3 || !token.starts_with(['4', '5']) {
        return false;
    }
    let phrase = after.trim_start_matches([' ', ':', '-', '(']);
    let follows = words::HTTP_REASONS
        .iter()
        .any(|reason| phrase.get(..reason.len()).is_some_and(|start| start.eq_ignore_ascii_case(reason)));
    follows || BEFORE.contains(&word)
}

/// `name@host`, `package@version`.
fn addressed(name: &str, host: &str) -> Kind {
    let version = host.strip_prefix('v').unwrap_or(host);
    if name.contains('/') && version.starts_with(|c: char| c.is_ascii_digit()) {
        return Kind::Written(format!("{}@{}", without_ids(name), Hole::Number.as_str()));
    }
    if network_bytes(host, None) == Some(host.len()) {
        return Kind::Hole(Hole::Mail);
    }
    if host.starts_with(|c: char| c.is_ascii_digit()) && !host.contains('.') || host.is_empty() {
        return Kind::Written(format!("{name}@{}", Hole::Number.as_str()));
    }
    if host.starts_with(|c: char| c.is_ascii_digit()) {
        // `getty@1.service` and `package@1.2.3`.
        let ending = host.rsplit('.').next().filter(|end| end.bytes().all(|byte| byte.is_ascii_alphabetic()));
        let ending = ending.map(|end| format!(".{end}")).unwrap_or_default();
        return Kind::Written(format!("{name}@{}{ending}", Hole::Number.as_str()));
    }
    const UNITS: [&str; 4] = [".service", ".timer", ".socket", ".mount"];
    if let Some(ending) = UNITS.iter().find(|unit| host.ends_with(**unit)) {
        return Kind::Written(format!("{name}@{}{ending}", Hole::Id.as_str()));
    }
    Kind::Hole(Hole::Mail)
}

/// What has slashes in it without beginning with one.
fn slashed(token: &str) -> Kind {
    let first = token.split(['/', '\\']).next().unwrap_or_default();
    let last = token.rsplit(['/', '\\']).next().unwrap_or_default();
    let segments = token.split(['/', '\\']).count();
    let is_domain =
        first.contains('.') && first.rsplit('.').next().is_some_and(|end| end.len() >= 2) && !has_ending(first);
    if is_domain {
        return Kind::Written(without_ids(token));
    }
    let is_path = has_ending(last) || known_file(token).is_some() || (segments >= 3 && token.contains('/'));
    if is_path {
        return Kind::Path;
    }
    if token.bytes().any(|byte| byte.is_ascii_digit()) { parts(token) } else { Kind::Word }
}

/// A token in its parts, of which some go.
fn parts(token: &str) -> Kind {
    let lower = token.to_ascii_lowercase();
    if is_random(token) {
        return Kind::Hole(Hole::Id);
    }
    let mut written = String::with_capacity(token.len());
    let mut was_id = false;
    let separators = ['-', '_', '.', '/', '+', ':', '\\', '$', '~'];
    for part in token.split_inclusive(separators) {
        let bare = part.trim_end_matches(separators);
        let mark = &part[bare.len()..];
        let small = bare.to_ascii_lowercase();
        let is_id = is_hex_id(&small) || is_generated(bare, was_id);
        let is_word = words::has(words::WORDS_WITH_DIGITS, &small);
        if is_id {
            push_once(&mut written, Hole::Id);
        } else if is_word || !bare.bytes().any(|byte| byte.is_ascii_digit()) {
            written.push_str(bare);
        } else {
            push_numbered(&mut written, bare);
        }
        was_id = is_id;
        written.push_str(mark);
    }
    if written == lower || written == token { Kind::Word } else { Kind::Written(written) }
}

/// A word without its digits: `worker12`, `12a`, `v1`.
fn push_numbered(written: &mut String, word: &str) {
    let mut is_number = false;
    for character in word.chars() {
        if character.is_ascii_digit() {
            if !is_number {
                push_once(written, Hole::Number);
            }
            is_number = true;
        } else {
            written.push(character);
            is_number = false;
        }
    }
}

/// Versions and ids in parts are one placeholder: `1.2.3` and `1.2`.
fn push_once(written: &mut String, hole: Hole) {
    let known = [Hole::Number.as_str(), Hole::Id.as_str()];
    let bare = written.trim_end_matches(['.', '-']).len();
    if known.iter().any(|known| written[..bare].ends_with(known)) {
        written.truncate(bare);
    } else {
        written.push_str(hole.as_str());
    }
}

/// A name as it is, but for ids, long numbers and generated endings in it.
pub(super) fn without_ids(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    if is_uuid(&lower) {
        return Hole::Id.as_str().to_owned();
    }
    let name = &without_dates(name);
    let separators = ['-', '_', '.', '/', ':'];
    let mut written = String::with_capacity(name.len());
    let mut was_id = false;
    for part in name.split_inclusive(separators) {
        let bare = part.trim_end_matches(separators);
        let small = bare.to_ascii_lowercase();
        let is_long_number = bare.len() >= 5 && bare.bytes().all(|byte| byte.is_ascii_digit());
        let is_id = is_hex_id(&small) || is_long_number || is_generated(bare, was_id);
        if is_id {
            push_once(&mut written, Hole::Id);
        } else {
            written.push_str(bare);
        }
        was_id = is_id;
        written.push_str(&part[bare.len()..]);
    }
    written
}

/// `nightly-2026-01-02` and `logs-2026.01.02` have one long number instead, which is taken for an id.
fn without_dates(name: &str) -> String {
    let mut written = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(character) = rest.chars().next() {
        let bytes = rest.as_bytes();
        let is_digits = |range: std::ops::Range<usize>| {
            bytes.get(range).is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
        };
        let is_mark = |at: usize| bytes.get(at).is_some_and(|byte| b"-.".contains(byte));
        if is_digits(0..4) && is_mark(4) && is_digits(5..7) && is_mark(7) && is_digits(8..10) {
            written.push_str("00000000");
            rest = &rest[10..];
        } else {
            written.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
    written
}

/// Digits of a hash, with a letter among them: a number alone is told elsewhere, letters alone are a word.
fn is_hex_id(lower: &str) -> bool {
    lower.len() >= HEX_DIGITS_MIN
        && lower.bytes().all(|byte| byte.is_ascii_hexdigit())
        && lower.bytes().any(|byte| byte.is_ascii_digit())
        && lower.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Whether a part is what Kubernetes and the like append to names: five letters and digits without vowels, or letters
/// and digits in turns.
fn is_generated(part: &str, was_id: bool) -> bool {
    const LENGTH: usize = 5;
    let is_of_kubernetes =
        part.len() == LENGTH && part.bytes().all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte));
    let has_digit = part.bytes().any(|byte| byte.is_ascii_digit());
    let is_lower = part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let is_known = words::has(words::WORDS_WITH_DIGITS, part);
    (is_of_kubernetes && (was_id || has_digit)) || (is_lower && !is_known && part.len() >= LENGTH && turns(part) >= 3)
}

/// How often letters and digits take turns.
fn turns(part: &str) -> usize {
    let kinds = part.as_bytes().windows(2);
    kinds.filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit()).count()
}

/// Long, of both cases or in many turns, with digits: tokens, hashes in base 64.
fn is_random(token: &str) -> bool {
    let longest = token.split(['-', '_', '.', '/']).map(str::len).max().unwrap_or(0);
    let has = |kind: fn(&u8) -> bool| token.as_bytes().iter().any(kind);
    let is_mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
    longest >= RANDOM_BYTES_MIN && (is_mixed || turns(token) >= 5) && token.is_ascii()
}

/// `tmpab12cd9x` of Python, `tmp.Xa81mQ2b3c` of mktemp.
fn is_temporary(lower: &str) -> bool {
    let Some(rest) = lower.strip_prefix("tmp").or_else(|| lower.strip_prefix("temp")) else { return false };
    let name = rest.trim_start_matches(['.', '-', '_']);
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_plain && (name.len() == 8 || (name.len() >= 6 && name.bytes().any(|byte| byte.is_ascii_digit())))
}

/// `sda1`, `nvme0n1p2`: a disk, wherever it is plugged in.
fn is_device(lower: &str) -> bool {
    let disk = lower.strip_prefix("sd").or_else(|| lower.strip_prefix("vd"));
    let is_disk = disk.is_some_and(|rest| rest.len() >= 2 && rest.bytes().skip(1).all(|byte| byte.is_ascii_digit()));
    is_disk || (lower.starts_with("nvme") && lower.contains('n'))
}

/// Whether a text is an address of a network or of a person as a whole.
pub(super) fn is_address(text: &str) -> bool {
    let is_mail = text.split_once('@').is_some_and(|(name, host)| {
        let is_host = host.contains('.') && host.starts_with(|c: char| c.is_ascii_alphabetic());
        !name.is_empty() && !name.contains('/') && is_host
    });
    is_mail || network_bytes(text, None) == Some(text.len())
}

fn is_uuid(lower: &str) -> bool {
    const LENGTHS: [usize; 5] = [8, 4, 4, 4, 12];
    lower.len() == 36
        && lower.split('-').map(str::len).eq(LENGTHS)
        && lower.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// `E0308`, `TS2304`, `ORA-00942`, `ERR_HTTP2_ERROR`.
fn is_code(token: &str) -> bool {
    let letters = token.bytes().take_while(u8::is_ascii_uppercase).count();
    let number = token[letters..].trim_start_matches('-');
    let is_numbered = (2..=6).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    if is_numbered && words::has(words::CODE_PREFIXES, &token[..letters]) {
        return true;
    }
    let is_constant = token.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    is_constant && (token.starts_with("ERR_") || token.starts_with("E_") || words::is_errno(token))
}

/// Whether a word is part of a date: a month or a weekday beside numbers, or a zone after them.
pub(super) fn is_of_date(token: &str, after: &str, follows_number: bool) -> bool {
    let next = after.trim_start_matches([' ', ',']);
    let is_before_number = next.starts_with(|c: char| c.is_ascii_digit());
    if words::is_month(token) {
        return is_before_number || follows_number;
    }
    if words::is_weekday(token) {
        return is_before_number || next.get(..3).is_some_and(words::is_month);
    }
    follows_number && matches!(token, "UTC" | "GMT" | "AM" | "PM" | "CET" | "CEST")
}

/// A URL without what changes in it, and its bytes: ports, people, segments with digits, what is asked.
pub(super) fn url(text: &str) -> Option<(String, usize)> {
    let scheme = text.bytes().take(12).take_while(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(byte)).count();
    let rest = text[scheme..].strip_prefix("://")?;
    if scheme < 2 {
        return None;
    }
    let is_end =
        |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '>' | '<' | ')' | ']' | '}' | ',' | '|' | ';');
    let bytes = rest.find(is_end).unwrap_or(rest.len());
    let bytes = rest[..bytes].trim_end_matches(['.', ':', '!', '?']).len();
    let whole = &rest[..bytes];
    // What is asked for changes with every request.
    let address = &whole[..whole.find(['?', '#']).unwrap_or(whole.len())];
    let (authority, path) = address.find('/').map_or((address, ""), |at| address.split_at(at));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let name = host
        .rsplit_once(':')
        .map_or(host, |(name, port)| if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host });
    let is_address = network_bytes(name, None) == Some(name.len()) && !name.is_empty();
    let mut written = format!("{}://", text[..scheme].to_ascii_lowercase());
    let scheme = scheme + 3;
    if is_address || written == "file://" || written == "unix://" {
        written.push_str(if is_address { Hole::Network.as_str() } else { Hole::Path.as_str() });
        if !is_address {
            return Some((written, scheme + bytes));
        }
    } else {
        written.push_str(&name.to_ascii_lowercase());
    }
    for segment in path.split('/').skip(1) {
        written.push('/');
        written.push_str(&url_segment(segment));
    }
    Some((written.trim_end_matches('/').to_owned(), scheme + bytes))
}

/// A segment of a URL's path: `v1` stays, what has other digits is an id.
fn url_segment(segment: &str) -> String {
    let is_version = segment.len() <= 3 && segment.starts_with('v');
    let is_stable = is_version || !segment.bytes().any(|byte| byte.is_ascii_digit() || byte == b'%' || byte == b'@');
    if is_stable { segment.to_owned() } else { Hole::Id.as_str().to_owned() }
}

/// Bytes of an address of the internet protocol at the beginning, with its port.
pub(super) fn network_bytes(text: &str, last: Option<char>) -> Option<usize> {
    if last.is_some_and(|last| last.is_alphanumeric() || last == '.' || last == ':') {
        return None;
    }
    let four = text.bytes().take(24).take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let four = text[..four].trim_end_matches('.').len();
    let groups = text[..four].split('.');
    if groups.clone().count() == 4 && groups.clone().all(|group| (1..=3).contains(&group.len())) {
        let after = &text[four..];
        let mask = after.strip_prefix('/').map_or(0, |mask| 1 + digits(mask));
        return Some(four + mask.max(port_bytes(after)));
    }
    let (open, inner) = text.strip_prefix('[').map_or((0, text), |inner| (1, inner));
    let six =
        inner.bytes().take(60).take_while(|byte| byte.is_ascii_hexdigit() || *byte == b':' || *byte == b'.').count();
    let colons = inner[..six].bytes().filter(|byte| *byte == b':').count();
    let has_digit = inner[..six].bytes().any(|byte| byte.is_ascii_digit());
    let ends = !inner[six..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let is_pair = inner[..six].contains("::") && (has_digit || six == 2 && open == 1);
    if colons < 2 || !ends || !(is_pair || colons == 7) {
        return None;
    }
    let six = inner[..six].trim_end_matches('.').len();
    let zone = inner[six..]
        .strip_prefix('%')
        .map_or(0, |zone| 1 + zone.bytes().take(16).take_while(u8::is_ascii_alphanumeric).count());
    let mut bytes = open + six + zone;
    if open == 1 {
        text[bytes..].strip_prefix(']')?;
        bytes += 1;
        bytes += port_bytes(&text[bytes..]);
    }
    Some(bytes)
}

/// `:5432`.
fn port_bytes(text: &str) -> usize {
    text.strip_prefix(':').map(digits).filter(|digits| (1..=5).contains(digits)).map_or(0, |digits| 1 + digits)
}

/// Bytes of a path that begins at the beginning and from a root: `/…`, `~/…`, `./…`, `C:\…`, `\\…`.
pub(super) fn path_bytes(text: &str, last: Option<char>) -> Option<usize> {
    if last.is_some_and(|last| last.is_alphanumeric() || matches!(last, '/' | '<' | '>' | '\\')) {
        return None;
    }
    let start = text.as_bytes();
    let is_drive = start.first().is_some_and(u8::is_ascii_alphabetic)
        && start.get(1) == Some(&b':')
        && matches!(start.get(2), Some(b'\\' | b'/'));
    if is_drive || text.starts_with("\\\\") {
        return Some(windows_path_bytes(text));
    }
    let root = ["/", "~/", "./", "../"].iter().find(|root| text.starts_with(**root))?;
    let rest = &text[root.len()..];
    if !rest.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '~' | '@' | '+' | '$' | '{')) {
        return None;
    }
    Some(root.len() + plain_path_bytes(rest))
}

fn plain_path_bytes(text: &str) -> usize {
    let is_end = |c: char| {
        c.is_whitespace()
            || matches!(
                c,
                '"' | '\'' | '`' | ':' | ',' | ';' | '(' | ')' | '<' | '>' | '|' | ']' | '}' | '’' | '”' | '!'
            )
    };
    let end = text.find(is_end).unwrap_or(text.len());
    text[..end].trim_end_matches('.').len()
}

/// Folders of Windows have spaces: a path goes on where the next word has a backslash.
fn windows_path_bytes(text: &str) -> usize {
    const WORDS_MAX: usize = 6;
    let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | ';' | '<' | '>' | '|' | ')');
    let mut bytes = 0;
    for _ in 0..WORDS_MAX {
        let start = if bytes == 0 { 2 } else { bytes + 1 };
        let word = text[start..].find(|c: char| is_end(c) || c == ':').unwrap_or(text.len() - start);
        if bytes > 0 && !text[start..start + word].contains('\\') {
            break;
        }
        bytes = start + word;
        if !text[bytes..].starts_with(' ') {
            break;
        }
    }
    text[..bytes].trim_end_matches('.').len()
}

/// Bytes of `:12:3`, `(3,5)`, `, line 12` after a path.
pub(super) fn position_bytes(text: &str) -> usize {
    let mut at = 0;
    for _ in 0..2 {
        let number = text[at..].strip_prefix(':').map(digits).filter(|digits| *digits > 0);
        at += number.map_or(0, |digits| 1 + digits);
    }
    if at > 0 {
        return at;
    }
    if let Some(inner) = text.strip_prefix('(')
        && let Some(end) = inner.bytes().take(16).position(|byte| byte == b')')
        && end > 0
        && inner[..end].bytes().all(|byte| byte.is_ascii_digit() || byte == b',' || byte == b' ')
    {
        return end + 2;
    }
    for word in [", line ", " line ", " on line ", ":line "] {
        if let Some(rest) = text.strip_prefix(word)
            && digits(rest) > 0
        {
            return word.len() + digits(rest);
        }
    }
    0
}

/// `main.rs` before `:12`.
pub(super) fn is_file_with_position(token: &str, after: &str) -> bool {
    has_ending(token) && position_bytes(after) > 0
}

/// Whether a text is a place in a file system as a whole.
pub(super) fn is_place(text: &str) -> bool {
    let is_whole = |bytes: usize| bytes + position_bytes(&text[bytes..]) >= text.len();
    match path_bytes(text, None) {
        // Within quotes a path may have spaces.
        Some(bytes) => {
            is_whole(bytes) || text.starts_with(['/', '~']) && text.matches('/').count() > 1 || text.contains('\\')
        }
        None => {
            let token = token_bytes(text);
            token > 0 && is_whole(token) && text.contains('/') && slashed(&text[..token]) == Kind::Path
        }
    }
}

/// Whether a text is a place that begins at a root: it says where on this machine, not which of its kind.
pub(super) fn is_rooted(text: &str) -> bool {
    !text.starts_with('.') && path_bytes(text, None).is_some()
}

/// The name of a file that projects have one of, or that of a package in a Nix store.
pub(super) fn known_file(path: &str) -> Option<String> {
    if let Some(stored) = path.strip_prefix("/nix/store/") {
        let name = stored.split(['/', ':']).next()?.split_once('-')?.1;
        let version = name.find(|c: char| c.is_ascii_digit()).filter(|at| name[..*at].ends_with('-'));
        let ending = if name.ends_with(".drv") { ".drv" } else { "" };
        return Some(format!(
            "{}{ending}",
            name[..version.unwrap_or(name.len())].trim_end_matches(['-']).trim_end_matches(".drv")
        ));
    }
    let name = path.rsplit(['/', '\\']).next()?;
    words::has(words::KNOWN_FILES, name).then(|| name.to_owned())
}

/// Whether a name ends as files do.
fn has_ending(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(stem, ending)| !stem.is_empty() && words::has(words::FILE_ENDINGS, ending))
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}
