//! What of the coordinator's events is of use here. They are read as data: who writes them is not known, a field that is
//! missing or new is no error, and what cannot be read at all is counted.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

/// A turn begins.
pub(crate) const TURN_STARTED: &str = "turn_started";
/// A turn is over.
pub(crate) const TURN_FINISHED: &str = "turn_finished";
/// The version of both that is known.
pub(crate) const TURN_VERSION: u16 = 1;

#[derive(Debug, Deserialize)]
pub(crate) struct Started<'a> {
    #[serde(borrow)]
    pub messages: Vec<Said<'a>>,
    #[serde(borrow, default)]
    pub context: Option<Context<'a>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Said<'a> {
    #[serde(borrow)]
    pub role: Cow<'a, str>,
    #[serde(borrow, default)]
    pub text: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Context<'a> {
    #[serde(borrow, default)]
    pub taken: Vec<Passage<'a>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Passage<'a> {
    #[serde(borrow, default)]
    pub document_id: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Finished<'a> {
    #[serde(borrow)]
    pub outcome: Cow<'a, str>,
    #[serde(borrow, default)]
    pub model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub attempts: Vec<Attempt<'a>>,
    #[serde(borrow, default)]
    pub answer: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Attempt<'a> {
    #[serde(borrow, default)]
    pub reason: Option<Cow<'a, str>>,
}

/// A text, or what stands for it.
#[derive(Debug)]
pub(crate) enum Text<'a> {
    Full(Cow<'a, str>),
    /// The first eight bytes of its BLAKE3 hash.
    Hash(Option<i64>),
}

impl Text<'_> {
    /// Itself, if it is on record.
    pub fn full(&self) -> Option<&str> {
        match self {
            Self::Full(text) => Some(text),
            Self::Hash(_) => None,
        }
    }

    /// What stands for it.
    pub fn hash(&self) -> Option<i64> {
        match self {
            Self::Full(text) => Some(hash(text)),
            Self::Hash(hash) => *hash,
        }
    }
}

/// The first eight bytes of a text's BLAKE3 hash.
pub(crate) fn hash(text: &str) -> i64 {
    let hash = blake3::hash(text.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    i64::from_be_bytes(first)
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    /// By hand: an untagged enum would copy every text.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Text<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text or its hash")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text::Full(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text::Full(Cow::Owned(text.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut hash = None;
                while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                    if key == "blake3" {
                        let digits: Cow<'_, str> = map.next_value()?;
                        hash = digits.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok());
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Text::Hash(hash.map(u64::cast_signed)))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_and_its_hash_have_the_same_hash() {
        let of = |json: &str| serde_json::from_str::<Text<'_>>(json).unwrap().hash();
        let hash = of(r#""a \"quoted\" question""#);
        let digits = blake3::hash(br#"a "quoted" question"#).to_hex();
        assert_eq!(of(&format!(r#"{{"blake3":"{digits}","bytes":19}}"#)), hash);
        assert_eq!(of(r#"{"blake3":"no digits","bytes":19}"#), None);
    }

    #[test]
    fn fields_may_be_missing_or_new() {
        let started: Started<'_> =
            serde_json::from_str(r#"{"messages":[{"role":"user","mood":3}],"invented":[1]}"#).unwrap();
        assert!(started.messages[0].text.is_none() && started.context.is_none());
        assert!(serde_json::from_str::<Finished<'_>>(r#"{"model":"m"}"#).is_err());
    }
}
