//! A line of JSON as an event, or why it is none: a line of a file in the drop folder, or an event of a batch.
//!
//! What is not known of a line becomes part of the body, so that a program whose lines are flat objects needs no change
//! but a `kind`. Everything is checked here: what has passed is JSON that any reader of the event can read again.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use holdfast_storage::events::NewEvent;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::drop_folder::GAP_FOUND;

/// Bytes that a line may have, its end not counted: no event may have more.
pub(crate) const LINE_BYTES_MAX: usize = holdfast_storage::events::EVENT_BYTES_MAX;
/// The first and the last millisecond that RFC 3339 can name.
const AT_MS: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;
/// Characters that are kept of what a parser complains of.
const DETAIL_CHARS_MAX: usize = 200;

/// How kinds begin, or what they are, that only this program tells of.
pub const RESERVED_KINDS: [&str; 4] = ["turn_*", "budget_*", "session_*", GAP_FOUND];

/// What holds for all lines of a folder or of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Whose an event is that does not say.
    pub tenant: Arc<str>,
    /// Who told it, where it does not say.
    pub caller: Arc<str>,
    /// Whether it is known whose an event is and who tells it, so that no line may say so.
    pub is_known_whose: bool,
    /// How many milliseconds an event may be ahead of the present. Of two things that are said of an interaction the later
    /// one counts, so what has not happened yet would have the last word for long.
    pub ahead_max_ms: i64,
    /// Kinds that only this program tells; one that ends in `*` is how such kinds begin.
    pub reserved_kinds: Vec<String>,
}

impl Rules {
    fn is_reserved(&self, kind: &str) -> bool {
        kind == GAP_FOUND
            || self.reserved_kinds.iter().any(|reserved| match reserved.strip_suffix('*') {
                Some(begin) => kind.starts_with(begin),
                None => kind == reserved,
            })
    }
}

/// Why a line is no event, as a stable word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It has more bytes than an event may have.
    TooLong,
    /// It is not UTF-8.
    NotUtf8,
    /// It is not JSON, or none that every reader takes.
    NotJson,
    /// It is no object, or a field of it is not what it should be.
    BadField,
    /// Its kind is one that only this program tells.
    ReservedKind,
    /// The event log does not take it.
    BadEvent,
}

impl Reason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::NotUtf8 => "not_utf8",
            Self::NotJson => "not_json",
            Self::BadField => "bad_field",
            Self::ReservedKind => "reserved_kind",
            Self::BadEvent => "bad_event",
        }
    }
}

/// Why a line is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub reason: Reason,
    pub detail: String,
}

impl Bad {
    pub fn new(reason: Reason, detail: impl fmt::Display) -> Self {
        Self { reason, detail: detail.to_string().chars().take(DETAIL_CHARS_MAX).collect() }
    }
}

/// The event of a line without its end; nothing where the line is blank. `id` is for an event that has none, `now_ms` for
/// one that does not say when it was.
pub(crate) fn event(
    line: &[u8],
    rules: &Rules,
    now_ms: i64,
    id: impl FnOnce() -> Uuid,
) -> Result<Option<NewEvent>, Bad> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    if line.len() > LINE_BYTES_MAX {
        return Err(Bad::new(Reason::TooLong, format_args!("a line has at most {LINE_BYTES_MAX} bytes")));
    }
    let text = std::str::from_utf8(line).map_err(|error| Bad::new(Reason::NotUtf8, error))?;
    let mut line: Line<'_> = serde_json::from_str(text).map_err(not_read)?;
    if rules.is_known_whose && (line.tenant.is_some() || line.caller.is_some()) {
        return Err(field("`tenant` and `caller` are those of the key"));
    }
    if rules.is_known_whose
        && let Some(source) = line.source.take()
    {
        // Who said so, as bodies have it.
        line.others.push((Cow::Borrowed("source"), Cow::Owned(serde_json::Value::from(&*source).to_string())));
    }
    let body = line.body()?;
    let kind = line.kind.ok_or_else(|| field("`kind` is missing"))?;
    if rules.is_reserved(&kind) {
        return Err(Bad::new(Reason::ReservedKind, format_args!("only this program tells of {kind:?}")));
    }
    let caller = match (line.caller, line.source) {
        (Some(_), Some(_)) => return Err(field("`caller` and `source` are the same, and both stand there")),
        (Some(caller), None) | (None, Some(caller)) => Arc::from(&*caller),
        (None, None) => Arc::clone(&rules.caller),
    };
    let event = NewEvent {
        id: line.id.map_or_else(|| Ok(id()), |id| uuid("id", &id))?,
        kind: Cow::Owned(kind.into_owned()),
        version: line.version.unwrap_or(1),
        tenant: line.tenant.map_or_else(|| Arc::clone(&rules.tenant), |tenant| Arc::from(&*tenant)),
        interaction: line.interaction.map(|id| uuid("interaction", &id)).transpose()?,
        session: line.session.map(|session| Arc::from(&*session)),
        caller,
        at_ms: line.at.map_or(Ok(now_ms), At::in_ms)?,
        body,
    };
    if event.at_ms > now_ms.saturating_add(rules.ahead_max_ms) {
        return Err(field("`at` is in the future"));
    }
    event.check().map_err(|bad| Bad::new(Reason::BadEvent, bad))?;
    Ok(Some(event))
}

fn field(problem: impl fmt::Display) -> Bad {
    Bad::new(Reason::BadField, problem)
}

fn not_read(error: serde_json::Error) -> Bad {
    let reason = if error.is_data() { Reason::BadField } else { Reason::NotJson };
    Bad::new(reason, error)
}

fn uuid(name: &str, text: &str) -> Result<Uuid, Bad> {
    Uuid::try_parse(text).map_err(|error| field(format_args!("`{name}` is no UUID: {error}")))
}

/// A line taken apart. `null` stands for what is not there.
#[derive(Default)]
struct Line<'a> {
    kind: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    at: Option<At<'a>>,
    tenant: Option<Cow<'a, str>>,
    interaction: Option<Cow<'a, str>>,
    session: Option<Cow<'a, str>>,
    caller: Option<Cow<'a, str>>,
    source: Option<Cow<'a, str>>,
    version: Option<u16>,
    body: Option<&'a RawValue>,
    /// What is not known, in its order.
    others: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl Line<'_> {
    /// The body with what is not known beside it.
    fn body(&self) -> Result<Vec<u8>, Bad> {
        let body = self.body.map_or("{}", RawValue::get);
        if !body.starts_with('{') {
            return Err(field("`body` is no object"));
        }
        let body = if self.others.is_empty() { Cow::Borrowed(body) } else { Cow::Owned(self.joined(body)?) };
        // Taking it apart as a whole finds what was only passed over: halves of surrogates, numbers that no float can
        // hold, and nesting so deep that a reader of the event would refuse it.
        let Sound = serde_json::from_str(&body).map_err(|error| Bad::new(Reason::NotJson, error))?;
        Ok(body.into_owned().into_bytes())
    }

    fn joined(&self, body: &str) -> Result<String, Bad> {
        let inside: HashMap<String, &RawValue> = serde_json::from_str(body).map_err(not_read)?;
        let mut outside = HashSet::new();
        let mut joined = String::with_capacity(body.len() + 64);
        joined.push('{');
        joined.push_str(body[1..body.len() - 1].trim());
        let mut is_first = inside.is_empty();
        for (name, value) in &self.others {
            if inside.contains_key(&**name) || !outside.insert(&**name) {
                return Err(field(format_args!("the field {name:?} stands there twice")));
            }
            if !std::mem::replace(&mut is_first, false) {
                joined.push(',');
            }
            joined.push_str(&serde_json::Value::from(&**name).to_string());
            joined.push(':');
            joined.push_str(value);
        }
        joined.push('}');
        Ok(joined)
    }
}

impl<'de> Deserialize<'de> for Line<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LineVisitor)
    }
}

/// What is known of a line.
const FIELDS: [&str; 10] =
    ["kind", "id", "at", "tenant", "interaction", "session", "caller", "source", "version", "body"];

struct LineVisitor;

impl<'de> Visitor<'de> for LineVisitor {
    type Value = Line<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line<'de>, A::Error> {
        let mut line = Line::default();
        let mut known = 0_u16;
        while let Some(Text(name)) = map.next_key()? {
            let Some(field) = FIELDS.iter().position(|field| *field == name) else {
                let value: &RawValue = map.next_value()?;
                line.others.push((name, Cow::Borrowed(value.get())));
                continue;
            };
            // Which of two alike is meant cannot be known.
            if known & 1 << field != 0 {
                return Err(de::Error::custom(format_args!("the field {name:?} stands there twice")));
            }
            known |= 1 << field;
            let text = match &*name {
                "kind" => &mut line.kind,
                "id" => &mut line.id,
                "tenant" => &mut line.tenant,
                "interaction" => &mut line.interaction,
                "session" => &mut line.session,
                "caller" => &mut line.caller,
                "source" => &mut line.source,
                "at" => {
                    line.at = map.next_value()?;
                    continue;
                }
                "version" => {
                    line.version = map.next_value()?;
                    continue;
                }
                _ => {
                    let body: &RawValue = map.next_value()?;
                    line.body = (body.get() != "null").then_some(body);
                    continue;
                }
            };
            *text = map.next_value::<Option<Text<'_>>>()?.map(|Text(text)| text);
        }
        Ok(line)
    }
}

/// A text, borrowed from the line where nothing in it is escaped.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor).map(Text)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// When something happened, as the line has it.
enum At<'a> {
    Ms(i64),
    Text(Cow<'a, str>),
}

impl At<'_> {
    fn in_ms(self) -> Result<i64, Bad> {
        let at_ms = match &self {
            Self::Ms(at_ms) => *at_ms,
            Self::Text(text) => {
                let at = OffsetDateTime::parse(text, &Rfc3339)
                    .map_err(|error| field(format_args!("`at` is no time of RFC 3339: {error}")))?;
                i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).unwrap_or(i64::MAX)
            }
        };
        if AT_MS.contains(&at_ms) { Ok(at_ms) } else { Err(field("`at` is in no year of four digits")) }
    }
}

impl<'de> Deserialize<'de> for At<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AtVisitor)
    }
}

struct AtVisitor;

impl<'de> Visitor<'de> for AtVisitor {
    type Value = At<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("whole Unix milliseconds or a time of RFC 3339")
    }

    fn visit_i64<E: de::Error>(self, at_ms: i64) -> Result<At<'de>, E> {
        Ok(At::Ms(at_ms))
    }

    fn visit_u64<E: de::Error>(self, at_ms: u64) -> Result<At<'de>, E> {
        Ok(At::Ms(i64::try_from(at_ms).unwrap_or(i64::MAX)))
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<At<'de>, E> {
        Ok(At::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<At<'de>, E> {
        Ok(At::Text(Cow::Owned(text.to_owned())))
    }
}

/// JSON that was read in full and not kept.
struct Sound;

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SoundVisitor)
    }
}

struct SoundVisitor;

impl<'de> Visitor<'de> for SoundVisitor {
    type Value = Sound;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Sound, A::Error> {
        while let Some(Sound) = members.next_element()? {}
        Ok(Sound)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Sound, A::Error> {
        while let Some((Sound, Sound)) = fields.next_entry()? {}
        Ok(Sound)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules() -> Rules {
        let reserved_kinds = vec!["turn_*".to_owned(), "budget_*".to_owned(), "outcome".to_owned()];
        Rules {
            tenant: "default".into(),
            caller: "folder".into(),
            is_known_whose: false,
            ahead_max_ms: i64::MAX,
            reserved_kinds,
        }
    }

    fn read(line: &[u8]) -> Result<Option<NewEvent>, Bad> {
        event(line, &rules(), 77, Uuid::nil)
    }

    fn body(line: &str) -> String {
        String::from_utf8(read(line.as_bytes()).unwrap().unwrap().body).unwrap()
    }

    fn refused(line: impl AsRef<[u8]>) -> (Reason, String) {
        let bad = read(line.as_ref()).unwrap_err();
        (bad.reason, bad.detail)
    }

    #[test]
    fn what_is_not_known_becomes_part_of_the_body() {
        assert_eq!(body(r#"{"kind":"x","body":{"a":1}}"#), r#"{"a":1}"#);
        assert_eq!(body(r#"{"b":[ 2],"kind":"x","body": { "a" : 1 } ,"c":{}}"#), r#"{"a" : 1,"b":[ 2],"c":{}}"#);
        assert_eq!(body(r#"{"kind":"x","body":{ },"c":"\u00e9}"}"#), r#"{"c":"\u00e9}"}"#);
        assert_eq!(body(r#"{"kind":"x","body":null,"c":null}"#), r#"{"c":null}"#);
        assert_eq!(body(r#"{"kind":"x","":0,"\"q":1}"#), r#"{"":0,"\"q":1}"#);
        assert_eq!(body(r#"{"ki\u006ed":"x","Kind":1}"#), r#"{"Kind":1}"#);
        for twice in [
            r#"{"kind":"x","a":1,"body":{"a":1}}"#,
            r#"{"kind":"x","a":1,"a":1}"#,
            r#"{"kind":"x","a":1,"body":{"\u0061":1}}"#,
            r#"{"kind":"x","kind":"x"}"#,
            r#"{"kind":"x","body":{},"body":{}}"#,
        ] {
            let (reason, detail) = refused(twice);
            assert!(reason == Reason::BadField && detail.contains("twice"), "{twice}: {detail}");
        }
    }

    #[test]
    fn fields_are_checked() {
        for bad in [
            r#"{"kind":"x","id":"no"}"#,
            r#"{"kind":"x","interaction":""}"#,
            r#"{"kind":"x","version":65536}"#,
            r#"{"kind":"x","version":-1}"#,
            r#"{"kind":"x","at":1.5}"#,
            r#"{"kind":"x","at":"yesterday"}"#,
            r#"{"kind":"x","at":"2026-01-01"}"#,
            r#"{"kind":"x","at":253402300800000}"#,
            r#"{"kind":"x","at":18446744073709551615}"#,
            r#"{"kind":"x","body":[]}"#,
            r#"{"kind":"x","body":"{}"}"#,
            r#"{"kind":"x","caller":"a","source":"b"}"#,
            r#"{"kind":7}"#,
            r#"{"kind":null}"#,
            r#"{"kind":"x","tenant":{}}"#,
            r#""x""#,
            "null",
        ] {
            assert_eq!(refused(bad).0, Reason::BadField, "{bad}");
        }
        let long = "x".repeat(257);
        for bad in [
            r#"{"kind":"Ab"}"#.to_owned(),
            r#"{"kind":""}"#.to_owned(),
            format!(r#"{{"kind":"{}"}}"#, "x".repeat(65)),
            format!(r#"{{"kind":"x","tenant":"{long}"}}"#),
            format!(r#"{{"kind":"x","session":"{long}"}}"#),
            r#"{"kind":"x","source":""}"#.to_owned(),
        ] {
            assert_eq!(refused(&bad).0, Reason::BadEvent, "{bad}");
        }
        let at = |line: &str| read(line.as_bytes()).unwrap().unwrap().at_ms;
        assert_eq!(at(r#"{"kind":"x"}"#), 77);
        assert_eq!(at(r#"{"kind":"x","at":null}"#), 77);
        assert_eq!(at(r#"{"kind":"x","at":"1969-12-31T23:59:59.9999Z"}"#), -1);
        assert_eq!(at(r#"{"kind":"x","at":"2016-12-31T23:59:60Z"}"#), 1_483_228_799_999);
        assert_eq!(at(r#"{"kind":"x","at":"9999-12-31T23:59:59.999Z"}"#), 253_402_300_799_999);
    }

    #[test]
    fn kinds_that_this_program_tells_are_refused() {
        for kind in ["turn_started", "turn_", "budget_set", "outcome", "gap_found"] {
            assert_eq!(refused(format!(r#"{{"kind":"{kind}"}}"#)).0, Reason::ReservedKind, "{kind}");
        }
        for kind in ["turn", "outcomes", "gap_found_by_me", "my_turn_started"] {
            assert!(read(format!(r#"{{"kind":"{kind}"}}"#).as_bytes()).unwrap().is_some(), "{kind}");
        }
    }

    #[test]
    fn who_has_a_key_is_known() {
        let rules = Rules { is_known_whose: true, ..rules() };
        let read = |line: &str| event(line.as_bytes(), &rules, 77, Uuid::nil).map(Option::unwrap);
        for whose in [r#"{"kind":"x","tenant":"a"}"#, r#"{"kind":"x","caller":"a"}"#] {
            assert_eq!(read(whose).unwrap_err().reason, Reason::BadField, "{whose}");
        }
        let told = read(r#"{"kind":"x","source":"c\"i","a":1}"#).unwrap();
        assert_eq!((&*told.tenant, &*told.caller), ("default", "folder"));
        assert_eq!(told.body, br#"{"a":1,"source":"c\"i"}"#);
        let twice = read(r#"{"kind":"x","source":"ci","body":{"source":"ci"}}"#);
        assert_eq!(twice.unwrap_err().reason, Reason::BadField);
    }

    #[test]
    fn what_has_not_happened_yet_is_refused() {
        let rules = Rules { ahead_max_ms: 1_000, ..rules() };
        let at = |at: i64| event(format!(r#"{{"kind":"x","at":{at}}}"#).as_bytes(), &rules, 77, Uuid::nil);
        assert_eq!(at(1_077).unwrap().unwrap().at_ms, 1_077);
        assert_eq!(at(1_078).unwrap_err().reason, Reason::BadField);
        assert_eq!(at(-62_167_219_200_000).unwrap().unwrap().at_ms, -62_167_219_200_000);
    }

    /// Whoever reads an event takes its body apart; what a parser merely passes over could stop them.
    #[test]
    fn a_body_that_a_reader_could_not_take_apart_is_refused() {
        let deep =
            |depth: usize| format!(r#"{{"kind":"x","body":{{"a":{}{}}}}}"#, "[".repeat(depth), "]".repeat(depth));
        for bad in [
            r#"{"kind":"x","body":{"a":"\ud800"}}"#.to_owned(),
            r#"{"kind":"x","body":{"\udc00":1}}"#.to_owned(),
            r#"{"kind":"x","a":"\ud800x"}"#.to_owned(),
            r#"{"kind":"x","body":{"a":1e999}}"#.to_owned(),
            deep(200),
            deep(500_000),
            format!(r#"{{"kind":"x","a":{}"#, "[".repeat(500_000)),
            "\u{feff}{\"kind\":\"x\"}".to_owned(),
            "{\"kind\":\"x\"} {\"kind\":\"x\"}".to_owned(),
            "{\"kind\":\"x\",\"a\":\"\u{1}\"}".to_owned(),
        ] {
            let (reason, detail) = refused(&bad);
            assert_eq!(reason, Reason::NotJson, "{detail}");
            assert!(detail.chars().count() <= DETAIL_CHARS_MAX);
        }
        let line = deep(100);
        let event = read(line.as_bytes()).unwrap().unwrap();
        serde_json::from_slice::<serde_json::Value>(&event.body).unwrap();
    }

    #[test]
    fn lines_have_bounds() {
        assert_eq!(read(b""), Ok(None));
        assert_eq!(read(b" \t\r"), Ok(None));
        assert_eq!(refused([b' '; 10].repeat(200_000).into_iter().chain(*b"x").collect::<Vec<_>>()).0, Reason::TooLong);
        assert_eq!(refused(b"\xc3").0, Reason::NotUtf8);
        assert_eq!(refused([0; 20]).0, Reason::NotJson);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<i16>().prop_map(|number| (f64::from(number) / 4.0).into()),
            "\\PC{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("\\PC{0,4}", inner, 0..4)
                    .prop_map(|map| { serde_json::Value::Object(map.into_iter().collect()) }),
            ]
        })
    }

    proptest! {
        #[test]
        fn nothing_breaks_it(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&line);
        }

        /// Whatever a flat line has comes out again, whole.
        #[test]
        fn a_flat_line_and_a_body_say_the_same(
            fields in prop::collection::btree_map("[a-z\u{e9}\"]{3,9}x", json(), 0..6),
            inside in prop::collection::btree_map("[A-Z]{1,3}", json(), 0..4),
        ) {
            let mut line = serde_json::Map::from_iter([("kind".to_owned(), "k".into())]);
            line.extend(fields.clone());
            line.insert("body".to_owned(), serde_json::Value::Object(inside.clone().into_iter().collect()));
            let event = read(serde_json::Value::Object(line).to_string().as_bytes()).unwrap().unwrap();
            let body: serde_json::Value = serde_json::from_slice(&event.body).unwrap();
            let expected: serde_json::Map<_, _> = inside.into_iter().chain(fields).collect();
            prop_assert_eq!(body, serde_json::Value::Object(expected));
        }
    }
}
