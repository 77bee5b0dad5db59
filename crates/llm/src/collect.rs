//! An answer that came in pieces, put together.

use crate::{Delta, Event, Finish, Message, Part, Role, Usage};

/// The pieces of an answer so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Collected {
    /// The provider's id of it.
    pub id: String,
    /// The model, as the provider calls it.
    pub model: String,
    /// What it says, in order.
    pub parts: Vec<Part>,
    /// Why it ended; nothing where it has not.
    pub finish: Option<Finish>,
    /// What it took, as far as that was told.
    pub usage: Usage,
    /// Where among the parts the calls are.
    calls: Vec<usize>,
}

impl Collected {
    /// Adds what an event says.
    pub fn add(&mut self, event: &Event) {
        event.deltas.iter().for_each(|delta| self.add_delta(delta));
    }

    /// All text that was said.
    pub fn text(&self) -> String {
        let texts = self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// The answer as a message of the conversation.
    pub fn into_message(self) -> Message {
        Message { role: Role::Assistant, parts: self.parts }
    }

    fn add_delta(&mut self, delta: &Delta) {
        match delta {
            Delta::Start { id, model } => {
                self.id.clone_from(id);
                self.model.clone_from(model);
            }
            Delta::Text(more) => match self.parts.last_mut() {
                Some(Part::Text(text)) => text.push_str(more),
                _ => self.parts.push(Part::Text(more.clone())),
            },
            Delta::Reasoning(more) => match self.parts.last_mut() {
                Some(Part::Reasoning { text, signature: None }) => text.push_str(more),
                _ => self.parts.push(Part::Reasoning { text: more.clone(), signature: None }),
            },
            Delta::Signature(more) => match self.parts.last_mut() {
                Some(Part::Reasoning { signature, .. }) if signature.is_none() => *signature = Some(more.clone()),
                _ => self.parts.push(Part::Reasoning { text: String::new(), signature: Some(more.clone()) }),
            },
            Delta::ToolCall { id, name, .. } => {
                self.calls.push(self.parts.len());
                self.parts.push(Part::ToolCall { id: id.clone(), name: name.clone(), arguments: String::new() });
            }
            Delta::Arguments { index, fragment } => {
                let place = self.calls.get(*index).copied();
                if let Some(Part::ToolCall { arguments, .. }) = place.and_then(|place| self.parts.get_mut(place)) {
                    arguments.push_str(fragment);
                }
            }
            Delta::Finish(finish) => self.finish = Some(finish.clone()),
            Delta::Usage(usage) => self.usage.update(usage),
            Delta::End => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_parts() {
        let delta = |delta| Event { deltas: vec![delta], frame: None };
        let call = |index: usize| Delta::ToolCall { index, id: format!("c{index}"), name: "look".into() };
        let arguments = |index, fragment: &str| Delta::Arguments { index, fragment: fragment.into() };
        let mut collected = Collected::default();
        for piece in [
            Delta::Start { id: "a".into(), model: "m".into() },
            Delta::Reasoning("hm".into()),
            Delta::Reasoning("m".into()),
            Delta::Signature("s".into()),
            Delta::Text("Let me ".into()),
            Delta::Text("look.".into()),
            call(0),
            call(1),
            arguments(0, "{\"a\""),
            arguments(1, "{}"),
            arguments(0, ":1}"),
            arguments(7, "nobody's"),
            Delta::Usage(Usage { input_tokens: Some(3), ..Usage::default() }),
            Delta::Finish(Finish::ToolCalls),
            Delta::Usage(Usage { output_tokens: Some(4), ..Usage::default() }),
            Delta::End,
        ] {
            collected.add(&delta(piece));
        }
        assert_eq!((collected.text().as_str(), &collected.finish), ("Let me look.", &Some(Finish::ToolCalls)));
        assert_eq!((collected.usage.input_tokens, collected.usage.output_tokens), (Some(3), Some(4)));
        let called = |id: &str, arguments: &str| Part::ToolCall {
            id: id.into(),
            name: "look".into(),
            arguments: arguments.into(),
        };
        let expected = vec![
            Part::Reasoning { text: "hmm".into(), signature: Some("s".into()) },
            Part::Text("Let me look.".into()),
            called("c0", "{\"a\":1}"),
            called("c1", "{}"),
        ];
        assert_eq!(collected.into_message().parts, expected);
    }
}
