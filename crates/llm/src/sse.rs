//! Server-sent events (WHATWG HTML, section 9.2), taken apart as the bytes come.
//!
//! What it gives does not depend on how the bytes were cut into pieces. Each byte is looked at once: the end of a line is
//! only looked for in what is new, and a line or an event within one piece is a slice of it, not a copy. `id` and `retry`
//! are for clients that connect again, which nobody does here; they are passed over, as comments are.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr2};

/// The longest event, in bytes of its lines: many times what a model says at once.
pub const EVENT_BYTES_MAX: usize = 1 << 20;
/// UTF-8 for U+FEFF, which may stand before everything else.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What kind it is; empty where it does not tell.
    pub event: Bytes,
    /// Its lines of data, with a line feed between them.
    pub data: Bytes,
}

/// An event has more bytes than may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event has more than {0} bytes")]
pub struct TooLong(pub usize);

/// Takes bytes, gives events.
#[derive(Debug)]
pub struct Parser {
    /// What was not looked at yet.
    chunk: Bytes,
    /// The beginning of a line whose end has not come.
    begun: BytesMut,
    /// No line has ended yet.
    is_at_start: bool,
    /// The last line ended with a carriage return, so a line feed now belongs to it.
    is_after_return: bool,
    under_way: UnderWay,
    bytes_max: usize,
}

/// The event whose empty line has not come.
#[derive(Debug, Default)]
struct UnderWay {
    event: Bytes,
    /// Data of one line, which need not be copied,
    first: Option<Bytes>,
    /// or of several.
    joined: BytesMut,
}

impl Message {
    /// The frame that says this: what a client of the same shape gets.
    pub fn frame(&self) -> Bytes {
        let mut frame = BytesMut::with_capacity(self.event.len() + self.data.len() + 24);
        if !self.event.is_empty() {
            frame.extend_from_slice(b"event: ");
            frame.extend_from_slice(&self.event);
            frame.extend_from_slice(b"\n");
        }
        let mut rest = &*self.data;
        loop {
            let (line, after) = match memchr(b'\n', rest) {
                Some(end) => (&rest[..end], Some(&rest[end + 1..])),
                None => (rest, None),
            };
            frame.extend_from_slice(b"data: ");
            frame.extend_from_slice(line);
            frame.extend_from_slice(b"\n");
            let Some(after) = after else { break };
            rest = after;
        }
        frame.extend_from_slice(b"\n");
        frame.freeze()
    }
}

impl Default for Parser {
    fn default() -> Self {
        Self::new(EVENT_BYTES_MAX)
    }
}

impl Parser {
    /// A parser at the beginning of a stream, for events of at most so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            chunk: Bytes::new(),
            begun: BytesMut::new(),
            is_at_start: true,
            is_after_return: false,
            under_way: UnderWay::default(),
            bytes_max,
        }
    }

    /// Takes the next piece. [`Parser::next`] has to be called until it gives nothing before there is another.
    pub fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "the last piece was not used up");
        self.chunk = chunk;
    }

    /// The next whole event of what has come.
    ///
    /// # Errors
    ///
    /// [`TooLong`], after which nothing sensible comes.
    #[expect(clippy::should_implement_trait, reason = "there is more after nothing, unlike with an iterator")]
    pub fn next(&mut self) -> Result<Option<Message>, TooLong> {
        while let Some(line) = self.line()? {
            if line.is_empty() {
                if let Some(message) = self.under_way.dispatch() {
                    return Ok(Some(message));
                }
            } else if self.under_way.take(line) > self.bytes_max {
                return Err(TooLong(self.bytes_max));
            }
        }
        Ok(None)
    }

    /// Whether there is part of an event that has not ended. A stream that ends now was cut.
    pub fn is_within_event(&self) -> bool {
        !self.begun.is_empty() || !self.chunk.is_empty() || self.under_way.has_data()
    }

    /// The next line, without its end.
    fn line(&mut self) -> Result<Option<Bytes>, TooLong> {
        if self.is_after_return && !self.chunk.is_empty() {
            self.is_after_return = false;
            if self.chunk[0] == b'\n' {
                self.chunk.advance(1);
            }
        }
        let end = memchr2(b'\n', b'\r', &self.chunk);
        if self.begun.len() + end.unwrap_or(self.chunk.len()) > self.bytes_max {
            return Err(TooLong(self.bytes_max));
        }
        let Some(end) = end else {
            self.begun.extend_from_slice(&std::mem::take(&mut self.chunk));
            return Ok(None);
        };
        let mut line = self.chunk.split_to(end);
        self.is_after_return = self.chunk[0] == b'\r';
        self.chunk.advance(1);
        if !self.begun.is_empty() {
            self.begun.extend_from_slice(&line);
            line = self.begun.split().freeze();
        }
        if std::mem::take(&mut self.is_at_start) && line.starts_with(BYTE_ORDER_MARK) {
            line.advance(BYTE_ORDER_MARK.len());
        }
        Ok(Some(line))
    }
}

impl UnderWay {
    /// Takes a line that is not empty; how many bytes there are now.
    fn take(&mut self, mut line: Bytes) -> usize {
        let field = line.split_to(memchr(b':', &line).unwrap_or(line.len()));
        if line.starts_with(b": ") {
            line.advance(2);
        } else if !line.is_empty() {
            line.advance(1);
        }
        match &*field {
            b"data" => self.add(line),
            b"event" => self.event = line,
            // Another field, or a comment, whose field is empty.
            _ => (),
        }
        self.event.len() + self.joined.len() + self.first.as_ref().map_or(0, Bytes::len)
    }

    fn add(&mut self, line: Bytes) {
        match self.first.take() {
            None if self.joined.is_empty() => {
                self.first = Some(line);
                return;
            }
            None => (),
            Some(first) => self.joined.extend_from_slice(&first),
        }
        self.joined.extend_from_slice(b"\n");
        self.joined.extend_from_slice(&line);
    }

    fn has_data(&self) -> bool {
        self.first.is_some() || !self.joined.is_empty()
    }

    /// The event, where it has data. The next one begins.
    fn dispatch(&mut self) -> Option<Message> {
        let event = std::mem::take(&mut self.event);
        let data = match self.first.take() {
            Some(data) => data,
            None if self.joined.is_empty() => return None,
            None => self.joined.split().freeze(),
        };
        Some(Message { event, data })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    /// All events of a stream that comes in these pieces.
    fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<(String, String)> {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for piece in pieces {
            parser.push(Bytes::copy_from_slice(piece));
            while let Some(message) = parser.next().unwrap() {
                let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
                events.push((text(&message.event), text(&message.data)));
            }
        }
        events
    }

    fn check(stream: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(event, data)| ((*event).to_owned(), (*data).to_owned())).collect();
        assert_eq!(events([stream.as_bytes()]), expected, "{stream:?}");
        assert_eq!(events(stream.as_bytes().chunks(1)), expected, "{stream:?}, byte by byte");
    }

    #[test]
    fn the_examples_of_the_standard() {
        check(
            "data: YHOO\ndata: +2\ndata: 10\n\n: test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n",
            &[("", "YHOO\n+2\n10"), ("", "first event"), ("", "second event")],
        );
        check("data:  third event\n\n", &[("", " third event")]);
        check("data\n\ndata\ndata\n\ndata:", &[("", ""), ("", "\n")]);
        check("data:test\n\ndata: test\n\n", &[("", "test"), ("", "test")]);
        check(
            "event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\n",
            &[("add", "73857293"), ("remove", "2153")],
        );
    }

    #[test]
    fn every_end_of_a_line_is_one() {
        check("data: a\r\n\r\ndata: b\r\rdata: c\n\ndata: d\r\n\n", &[("", "a"), ("", "b"), ("", "c"), ("", "d")]);
        check("data: a\rdata: b\r\ndata: c\n\r\n", &[("", "a\nb\nc")]);
        check("\n\r\n\r\rdata: a\n\n\n\n", &[("", "a")]);
    }

    #[test]
    fn marks_comments_and_unknown_fields_are_passed_over() {
        check("\u{feff}data: a\n\n", &[("", "a")]);
        check("\u{feff}\u{feff}data: a\n\n", &[]);
        check(":\n\n: keep-alive\nretry: 10\nData: x\n data: x\ndata: a\n\n", &[("", "a")]);
        check("event: lost\n\ndata: a\n\n", &[("", "a")]);
        check("data: \"a:b\"\n\n", &[("", "\"a:b\"")]);
        check("data: never ends\n", &[]);
    }

    #[test]
    fn what_one_piece_has_is_not_copied() {
        let piece = Bytes::from_static(b"data: {\"a\":1}\n\n");
        let mut parser = Parser::default();
        parser.push(piece.clone());
        let data = parser.next().unwrap().unwrap().data;
        assert_eq!(data.as_ptr(), piece[6..].as_ptr());
    }

    #[test]
    fn too_long_an_event_is_refused_whatever_it_is_long_by() {
        let mut longest = b"data: ".to_vec();
        longest.extend(vec![b'x'; 1_000]);
        longest.extend(b"\n\n");
        let refused = |stream: &[u8], size: usize| {
            let mut parser = Parser::new(1_006);
            stream.chunks(size).any(|piece| {
                parser.push(Bytes::copy_from_slice(piece));
                loop {
                    match parser.next() {
                        Ok(Some(_)) => (),
                        Ok(None) => return false,
                        Err(error) => {
                            assert_eq!(error, TooLong(1_006));
                            return true;
                        }
                    }
                }
            })
        };
        for size in [1, 7, 10_000] {
            assert!(!refused(&longest.repeat(3), size));
            assert!(refused(&[b"data: x", &*longest].concat(), size), "a long line");
            assert!(refused(&b"data: 0123456789\n".repeat(100), size), "many lines");
            assert!(refused(&vec![b':'; 2_000], size), "a comment without an end");
            assert!(!refused(&b": 0123456789\n".repeat(1_000), size), "many comments");
        }
    }

    #[test]
    fn a_long_event_in_small_pieces_takes_time_in_proportion() {
        let stream = |bytes: usize| [b"data: ", &*vec![b'x'; bytes], b"\n\n"].concat();
        let took = |stream: &[u8]| {
            let began = Instant::now();
            assert_eq!(events(stream.chunks(16)).len(), 1);
            began.elapsed()
        };
        let (short, long) = (stream(15_000), stream(960_000));
        let mut best = (Duration::MAX, Duration::MAX);
        for _ in 0..10 {
            best = (best.0.min(took(&short)), best.1.min(took(&long)));
        }
        // 64 times as much; anything quadratic takes 4 096 times as long.
        assert!(best.1 < best.0 * 1_000 + Duration::from_millis(5), "{best:?}");
    }

    /// Streams with everything that has a meaning in them, often.
    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let bits = prop::sample::select(vec![
            "data",
            "event",
            "id",
            "retry",
            ":",
            ": ",
            " ",
            "\n",
            "\r",
            "\r\n",
            "\n\n",
            "\u{feff}",
            "a",
            "{\"x\":1}",
            "ß",
            "\0",
        ]);
        prop::collection::vec(bits, 0..80).prop_map(|bits| bits.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn how_it_is_cut_makes_no_difference(stream in streams(), cuts in prop::collection::vec(1_usize..9, 1..40)) {
            let mut pieces = Vec::new();
            let mut rest = &*stream;
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(events(pieces), events([&*stream]));
        }

        #[test]
        fn what_was_written_is_read(data in prop::collection::vec("[^\r\n]{0,20}", 1..5), event in "[^\r\n]{0,10}") {
            let mut stream = format!("event: {event}\n");
            data.iter().for_each(|line| stream += &format!("data: {line}\n"));
            stream += "\n";
            prop_assert_eq!(events([stream.as_bytes()]), vec![(event, data.join("\n"))]);
        }

        #[test]
        fn a_frame_says_what_it_was_made_of(stream in streams()) {
            let mut parser = Parser::default();
            parser.push(Bytes::from(stream));
            while let Some(message) = parser.next().unwrap() {
                let mut again = Parser::default();
                again.push(message.frame());
                prop_assert_eq!(again.next().unwrap(), Some(message));
                prop_assert_eq!(again.next().unwrap(), None);
            }
        }

        #[test]
        fn nothing_makes_it_fail(stream in prop::collection::vec(any::<u8>(), 0..300), size in 1_usize..50) {
            events(stream.chunks(size));
        }
    }
}
