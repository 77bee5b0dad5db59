//! Reading a body that is JSON already: every value knows its place, so that what is wrong is told with the field's path.
//!
//! A place is written out only when something is wrong. A field that is `null` counts as absent, since clients of these
//! APIs send both. What fields mean is not known here.

use std::{fmt, ops::RangeInclusive};

use serde_json::{Map, Value};

use crate::error::Failure;

/// Where a value stands in a body.
#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    Body,
    Field(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body => f.write_str("the body"),
            Self::Field(Place::Body, name) => f.write_str(name),
            Self::Field(of, name) => write!(f, "{of}.{name}"),
            Self::Item(of, index) => write!(f, "{of}[{index}]"),
        }
    }
}

/// A value of a body, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'a> {
    value: &'a Value,
    place: Place<'a>,
}

impl<'a> Node<'a> {
    /// The whole body.
    pub(super) fn body(value: &'a Value) -> Self {
        Self { value, place: Place::Body }
    }

    /// The value, whatever it is.
    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    /// Where it stands, as a path: `messages[2].content`.
    pub(super) fn place(&self) -> String {
        self.place.to_string()
    }

    /// A failure to tell whoever sent it. `problem` continues the sentence that the path begins.
    pub(super) fn wrong(&self, problem: impl fmt::Display) -> Failure {
        Failure::field(self.place(), problem)
    }

    /// An object's fields.
    pub(super) fn fields(&self) -> Result<&'a Map<String, Value>, Failure> {
        self.value.as_object().ok_or_else(|| self.wrong("must be an object"))
    }

    /// A field of an object. What is no object has none.
    pub(super) fn field<'b>(&'b self, name: &'b str) -> Option<Node<'b>> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        Some(Node { value, place: Place::Field(&self.place, name) })
    }

    /// A field that has to be there.
    pub(super) fn required<'b>(&'b self, name: &'b str) -> Result<Node<'b>, Failure> {
        self.fields()?;
        self.field(name).ok_or_else(|| Failure::field(Place::Field(&self.place, name).to_string(), "is missing"))
    }

    /// What a field says, where it is there.
    pub(super) fn optional<'b, T>(
        &'b self,
        name: &'b str,
        read: impl FnOnce(Node<'b>) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        self.field(name).map(read).transpose()
    }

    /// The values of a list.
    pub(super) fn items<'b>(&'b self) -> Result<impl ExactSizeIterator<Item = Node<'b>>, Failure> {
        let values = self.value.as_array().ok_or_else(|| self.wrong("must be a list"))?;
        let item = |(index, value)| Node { value, place: Place::Item(&self.place, index) };
        Ok(values.iter().enumerate().map(item))
    }

    /// Text.
    pub(super) fn text(&self) -> Result<&'a str, Failure> {
        self.value.as_str().ok_or_else(|| self.wrong("must be text"))
    }

    /// The same, to be kept.
    pub(super) fn owned(self) -> Result<String, Failure> {
        self.text().map(str::to_owned)
    }

    /// `true` or `false`.
    pub(super) fn flag(self) -> Result<bool, Failure> {
        self.value.as_bool().ok_or_else(|| self.wrong("must be true or false"))
    }

    /// A whole number in a range.
    pub(super) fn integer(self, range: RangeInclusive<i64>) -> Result<i64, Failure> {
        let outside = || self.wrong(format_args!("must be a whole number, {} to {}", range.start(), range.end()));
        self.value.as_i64().filter(|number| range.contains(number)).ok_or_else(outside)
    }

    /// A number in a range.
    pub(super) fn number(self, range: RangeInclusive<f64>) -> Result<f64, Failure> {
        let outside = || self.wrong(format_args!("must be a number, {} to {}", range.start(), range.end()));
        self.value.as_f64().filter(|number| range.contains(number)).ok_or_else(outside)
    }

    /// A whole number of something, from 1.
    pub(super) fn count(self) -> Result<u32, Failure> {
        self.integer(1..=i64::from(u32::MAX)).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// One of a few words.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, Failure> {
        let given = self.text()?;
        words.iter().find(|(word, _)| *word == given).map(|(_, value)| *value).ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(format_args!("must be one of {}", known.join(", ")))
        })
    }

    /// Refuses fields of an object that are not among these.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Failure> {
        match self.fields()?.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let place = Place::Field(&self.place, name);
                Err(Failure::field(place.to_string(), format_args!("is unknown; there are {}", known.join(", "))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told<T: fmt::Debug>(read: Result<T, Failure>) -> String {
        read.unwrap_err().report().detail
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let body = json!({ "messages": [{ "role": "user" }, { "parts": [1, { "text": 7 }] }], "n": 9, "x": null });
        let body = Node::body(&body);
        let messages = body.required("messages").unwrap();
        let second = messages.items().unwrap().nth(1).unwrap();
        let parts = second.required("parts").unwrap();
        let part = parts.items().unwrap().nth(1).unwrap();
        assert_eq!(told(part.required("text").unwrap().text()), "messages[1].parts[1].text must be text");
        assert_eq!(told(second.required("role")), "messages[1].role is missing");
        assert_eq!(told(body.required("x")), "x is missing");
        assert_eq!(told(body.required("n").unwrap().integer(1..=8)), "n must be a whole number, 1 to 8");
        assert_eq!(told(body.required("n").unwrap().number(0.0..=2.0)), "n must be a number, 0 to 2");
        assert_eq!(told(body.required("n").unwrap().fields()), "n must be an object");
        assert_eq!(told(body.required("n").unwrap().items().map(|_| ())), "n must be a list");
        assert_eq!(told(body.only(&["messages", "n"])), "x is unknown; there are messages, n");
        assert_eq!(told(Node::body(&json!([])).required("model")), "the body must be an object");
        let role = messages.items().unwrap().next().unwrap();
        let known = [("system", 1), ("tool", 2)];
        assert_eq!(told(role.required("role").unwrap().one_of(&known)), "messages[0].role must be one of system, tool");
    }

    #[test]
    fn numbers_are_what_they_are_written_as() {
        for wrong in [json!(-1), json!(0), json!(1.0), json!("1"), json!(1_u64 << 40), json!(true)] {
            assert!(Node::body(&wrong).count().is_err(), "{wrong}");
        }
        assert_eq!(Node::body(&json!(u32::MAX)).count().unwrap(), u32::MAX);
        assert_eq!(Node::body(&json!(1)).number(0.0..=2.0).unwrap(), 1.0);
    }
}
