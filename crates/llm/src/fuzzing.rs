//! What must hold of anything that a server answers, for a fuzzer and for tests that replay what it found.

use bytes::Bytes;

use crate::{
    CallError, Collected, Delta, anthropic,
    failure::{self, RetryAfter},
    openai,
    redact::Redactor,
    sse,
    stream::Decode,
};

/// A key that must not come out again.
const KEY: &str = "local-secret-for-tests";

/// An answer, whole or in pieces, of either shape, or of a failure.
///
/// # Panics
///
/// Where something does not hold.
pub fn answer(input: &[u8]) {
    let redactor = Redactor::new(Some(KEY.into()));
    let body = Bytes::copy_from_slice(input);
    for answer in [openai::parsed(body.clone(), &redactor), anthropic::parsed(body.clone(), &redactor)] {
        match answer {
            Ok(answer) => assert_eq!(answer.body, body),
            Err(error) => hides(&error),
        }
    }
    for status in [400, 429, 500] {
        let status = hyper::StatusCode::from_u16(status).unwrap_or_default();
        hides(&failure::of_answer(status, RetryAfter::of(&hyper::HeaderMap::new()), input, &redactor));
    }
    for decoder in [openai::decoder as fn(&Redactor) -> Box<dyn Decode>, anthropic::decoder] {
        let whole = read(&mut *decoder(&redactor), input, input.len().max(1));
        // How it is cut makes no difference, but for ids that are made up.
        let cut = read(&mut *decoder(&redactor), input, 7);
        assert_eq!((whole.0.len(), &whole.1), (cut.0.len(), &cut.1));
    }
}

/// All that a stream says, and how it failed.
fn read(decoder: &mut dyn Decode, input: &[u8], size: usize) -> (Vec<Delta>, Option<CallError>) {
    let mut parser = sse::Parser::new(1 << 10);
    let (mut deltas, mut collected) = (Vec::new(), Collected::default());
    for piece in input.chunks(size) {
        parser.push(Bytes::copy_from_slice(piece));
        loop {
            let message = match parser.next() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(_) => return (deltas, None),
            };
            match decoder.message(&message) {
                Ok(event) => {
                    let mut said = event.map(|event| event.deltas).unwrap_or_default();
                    let is_over = said.contains(&Delta::End);
                    said.iter()
                        .for_each(|delta| collected.add(&crate::Event { deltas: vec![delta.clone()], frame: None }));
                    deltas.append(&mut said);
                    if is_over {
                        return (deltas, None);
                    }
                }
                Err(error) => {
                    hides(&error);
                    return (deltas, Some(error));
                }
            }
        }
    }
    let ended = decoder.ended();
    ended.iter().for_each(|event| assert!(event.deltas.contains(&Delta::End)));
    (deltas, ended.err())
}

/// Neither our key nor a line's end is in what is told.
fn hides(error: &CallError) {
    let told = format!("{} {}", error.reason, error.words.as_deref().unwrap_or_default());
    assert!(!told.contains(KEY) && !told.chars().any(char::is_control), "{told:?}");
    assert!(told.chars().count() < 400, "{told:?}");
}

#[cfg(test)]
mod tests {
    use holdfast_testkit::seeds::replay;

    #[test]
    fn what_the_fuzzer_begins_with() {
        replay("answer", super::answer);
    }
}
