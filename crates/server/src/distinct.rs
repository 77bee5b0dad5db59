//! JSON of any shape in which no object has a name twice.
//!
//! RFC 8259, section 4, leaves open which of two values counts. A program in front of this one that takes the other would
//! have checked what is not done here, so neither is taken. Fields that have a type of their own are looked at by that;
//! this is for what may be anything.
//!
//! What may be anything may also be a million empty objects, each of which takes a hundred times the memory that it takes
//! in JSON. So values are counted while they are read, and no body has more than [`VALUES_MAX`] of them.

use std::{cell::Cell, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// The longest name that is repeated to whoever sent it, in characters.
const NAME_CHARS_MAX: usize = 40;
/// Values of any shape in one body: a thousand documents may have sixty each.
pub(crate) const VALUES_MAX: usize = 65_536;
/// What a value takes when read, at most: half of an object with one field, as the allocator rounds it.
pub(crate) const VALUE_BYTES: usize = 350;

thread_local! {
    /// Values that were read of the body at hand: reading never leaves its thread.
    static VALUES: Cell<usize> = const { Cell::new(0) };
}

/// Reads a body, and gives how many values of any shape were in it.
pub(crate) fn counting<T>(read: impl FnOnce() -> T) -> (T, usize) {
    VALUES.set(0);
    let value = read();
    (value, VALUES.replace(0))
}

/// A value in which nothing stands twice.
#[derive(Debug)]
pub(crate) struct Distinct(pub(crate) Value);

/// A field that may be anything.
pub(crate) fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Distinct::deserialize(deserializer).map(|distinct| distinct.0)
}

/// One that may be absent as well.
pub(crate) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    value(deserializer).map(|value| Some(value).filter(|value| !value.is_null()))
}

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = VALUES.get() + 1;
        if values > VALUES_MAX {
            return Err(D::Error::custom(format_args!("more than {VALUES_MAX} values")));
        }
        VALUES.set(values);
        deserializer.deserialize_any(Anything).map(Self)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Distinct(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some((name, Distinct(value))) = object.next_entry::<String, _>()? {
            if values.contains_key(&name) {
                let shown: String = name.chars().take(NAME_CHARS_MAX).collect();
                return Err(A::Error::custom(format_args!("{shown:?} stands twice in an object")));
            }
            values.insert(name, value);
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_once_is_read_as_it_is() {
        for json in [
            "null",
            "true",
            "-3",
            "18446744073709551615",
            "1.5e300",
            "\"a\\u0000b\"",
            "[]",
            "{}",
            "[1,[2],{\"a\":null}]",
            "{\"a\":{\"b\":1},\"b\":{\"b\":1},\"A\":2,\"\":3}",
        ] {
            let Distinct(value) = serde_json::from_str(json).unwrap();
            assert_eq!(value, serde_json::from_str::<Value>(json).unwrap(), "{json}");
        }
    }

    #[test]
    fn values_are_counted_and_too_many_are_refused() {
        let read = |json: &str| counting(|| serde_json::from_str::<Distinct>(json).map(drop));
        assert_eq!(read("[{\"\":0},[],1]").1, 5);
        let many = |count: usize| format!("[{}0]", "0,".repeat(count - 2));
        assert!(read(&many(VALUES_MAX)).0.is_ok());
        let told = read(&many(VALUES_MAX + 1)).0.unwrap_err().to_string();
        assert!(told.starts_with("more than 65536 values"), "{told}");
        assert_eq!(read("1").1, 1, "each is counted anew");
    }

    #[test]
    fn a_name_that_stands_twice_is_refused_wherever_it_is() {
        for json in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"a":3}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"[[{"x":{"a":1,"a":2}}]]"#,
            r#"{"":1,"":2}"#,
        ] {
            let told = serde_json::from_str::<Distinct>(json).unwrap_err().to_string();
            assert!(told.contains("stands twice"), "{json}: {told}");
        }
        let long = "x".repeat(100_000);
        let told = serde_json::from_str::<Distinct>(&format!("{{\"{long}\":1,\"{long}\":2}}")).unwrap_err().to_string();
        assert!(told.len() < 200, "{told}");
    }
}
