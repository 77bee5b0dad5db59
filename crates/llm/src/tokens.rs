//! How many tokens a text or a request has, by a real tokenizer.
//!
//! The tokenizer is OpenAI's `o200k_base`, for every model: it is that of the models most asked for, it covers all
//! languages, and no other can be had for all of them (Anthropic publishes none, and those of other models would be some
//! megabytes each for a number that is only compared with a limit). Of English prose and code, models with vocabularies
//! of 100 000 pieces and more (Llama 3, Qwen, GPT-4) count within a tenth of it, those of 32 000 (Llama 2, Mistral 7B) up
//! to a third more, Claude a tenth to a third more. Whoever compares with a limit of such a model leaves that much room;
//! what a provider counts itself ([`crate::Provider::count_tokens`]) is exact.
//!
//! Built when it is first needed, which takes some 200 ms and 60 MiB ([`warm`]).

use std::sync::LazyLock;

use tiktoken_rs::CoreBPE;

use crate::{Message, Part, Request, Tool};

/// What stands around a message, and what an answer begins with: OpenAI, "How to count tokens with tiktoken", section 6
/// (`tokens_per_message`, and "every reply is primed with").
const PER_MESSAGE: u64 = 3;
const PER_ANSWER: u64 = 3;
/// The same for a tool, which is written as a function's declaration: section 7 (`func_init`, `func_end`), of the larger
/// numbers there. Its schema is counted as the JSON it is, which takes more than the declaration.
const PER_TOOL: u64 = 7;
const PER_TOOLS: u64 = 12;
/// A call or a result of a tool: its id and what is around it; ours, measured with nobody.
const PER_CALL: u64 = 8;
/// A picture. Anthropic takes width × height / 750, at most about 1 600 once it has made it smaller; OpenAI 765 for a
/// square of 1 024 pixels; neither can be known of one that is only an address.
pub const PER_IMAGE: u64 = 1_600;

/// What is handed to the tokenizer at once. Its regular expressions give up, and the library panics, on a run of a
/// million characters of some kinds; and a text is cut where it makes no difference nearly always.
const BLOCK_BYTES: usize = 8 << 10;
/// Longer texts are counted by samples: some 60 ms of work is the most for one text.
const EXACT_BYTES_MAX: usize = 256 << 10;
/// Blocks that are counted of a longer text, evenly spread.
const SAMPLES: usize = 24;

static TOKENIZER: LazyLock<Option<CoreBPE>> = LazyLock::new(|| tiktoken_rs::o200k_base().ok());

/// Builds the tokenizer, if that has not happened: for whoever starts up and would not have the first request wait.
pub fn warm() {
    LazyLock::force(&TOKENIZER);
}

/// Tokens of a text. Of one longer than 256 KiB it is an estimate, from a tenth of it or from 192 KiB, that is off by some
/// percent where the text is much the same throughout.
pub fn count_text(text: &str) -> u64 {
    if text.len() <= EXACT_BYTES_MAX {
        return Blocks(text).map(count_block).sum();
    }
    let (mut tokens, mut bytes) = (0, 0);
    let stride = text.len() / SAMPLES;
    for sample in 0..SAMPLES {
        let rest = &text[text.ceil_char_boundary(sample * stride)..];
        let block = Blocks(rest).next().unwrap_or_default();
        tokens += count_block(block);
        bytes += block.len();
    }
    (tokens as f64 * text.len() as f64 / bytes.max(1) as f64).ceil() as u64
}

/// Tokens of a whole request: of its messages, those of the session, what was found for it, and its tools.
pub fn count_request(request: &Request) -> u64 {
    measure(request, count_text)
}

/// What [`count_request`] is never above but for very long texts, at a hundredth of its cost: a token has at least a byte.
/// Where even that fits into a model's window, nobody needs to count.
pub fn at_most(request: &Request) -> u64 {
    measure(request, |text| text.len() as u64)
}

/// What [`count_request`] is about, at the cost of [`at_most`]: four bytes a token, which English prose has; code has
/// three to four, and other languages two to four. For reservations that are settled later.
pub fn estimate(request: &Request) -> u64 {
    measure(request, |text| text.len().div_ceil(4) as u64)
}

fn measure(request: &Request, count: fn(&str) -> u64) -> u64 {
    let messages = request.messages.iter().chain(&request.history);
    let messages: u64 = messages.map(|message| measure_message(message, count)).sum();
    let context = request.context.as_deref().map_or(0, |context| PER_MESSAGE + count(context));
    let tools: u64 = request.tools.iter().map(|tool| measure_tool(tool, count)).sum();
    let around_tools = if request.tools.is_empty() { 0 } else { PER_TOOLS };
    messages + context + tools + around_tools + PER_ANSWER
}

fn measure_message(message: &Message, count: fn(&str) -> u64) -> u64 {
    // The role is one token in every shape.
    PER_MESSAGE + 1 + message.parts.iter().map(|part| measure_part(part, count)).sum::<u64>()
}

fn measure_part(part: &Part, count: fn(&str) -> u64) -> u64 {
    match part {
        Part::Text(text) | Part::Reasoning { text, .. } => count(text),
        Part::Image(_) => PER_IMAGE,
        Part::ToolCall { name, arguments, .. } => PER_CALL + count(name) + count(arguments),
        Part::ToolResult { content, .. } => {
            PER_CALL + content.iter().map(|part| measure_part(part, count)).sum::<u64>()
        }
    }
}

fn measure_tool(tool: &Tool, count: fn(&str) -> u64) -> u64 {
    let schema = tool.parameters.to_string();
    PER_TOOL + count(&tool.name) + tool.description.as_deref().map_or(0, count) + count(&schema)
}

/// The longest beginning of a text that has no more than so many tokens, and ends between two characters.
pub fn fit(text: &str, tokens: u64) -> &str {
    let mut left = tokens;
    let mut end = 0;
    for block in Blocks(text) {
        let pieces = encode(block);
        if pieces.len() as u64 <= left {
            left -= pieces.len() as u64;
            end += block.len();
            continue;
        }
        return &text[..end + fit_block(block, &pieces, left)];
    }
    text
}

/// How many bytes of a block have no more than so many tokens.
fn fit_block(block: &str, pieces: &[u32], tokens: u64) -> usize {
    let mut kept = usize::try_from(tokens).unwrap_or(usize::MAX).min(pieces.len());
    loop {
        let bytes = TOKENIZER.as_ref().and_then(|tokenizer| tokenizer.decode_bytes(&pieces[..kept]).ok());
        let end = block.floor_char_boundary(bytes.map_or(kept, |bytes| bytes.len()));
        // What is left may be made of other pieces than it was within the whole, and of more.
        if kept == 0 || count_block(&block[..end]) <= tokens {
            return end;
        }
        kept -= 1;
    }
}

fn count_block(block: &str) -> u64 {
    encode(block).len() as u64
}

/// The pieces of a block. Without the tokenizer, which is part of the program and can always be built, one a byte.
fn encode(block: &str) -> Vec<u32> {
    match &*TOKENIZER {
        Some(tokenizer) => tokenizer.encode_ordinary(block),
        None => block.bytes().map(u32::from).collect(),
    }
}

/// Cuts a text into blocks. Before a space that follows something else no token of this tokenizer goes on, so cutting
/// there changes nothing; only a block without any such place is cut elsewhere.
struct Blocks<'a>(&'a str);

impl<'a> Iterator for Blocks<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.len() <= BLOCK_BYTES {
            return (!self.0.is_empty()).then(|| std::mem::take(&mut self.0));
        }
        let bytes = self.0.as_bytes();
        let is_seam =
            |at: &usize| bytes[*at] == b' ' && !bytes[at - 1].is_ascii_whitespace() && bytes[at - 1].is_ascii();
        let end = (1..BLOCK_BYTES).rev().find(is_seam).unwrap_or(self.0.floor_char_boundary(BLOCK_BYTES));
        let (block, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::Role;

    fn whole(text: &str) -> u64 {
        tiktoken_rs::o200k_base_singleton().encode_ordinary(text).len() as u64
    }

    /// Text with words, numbers, signs, lines and other scripts in it.
    fn prose(bytes: usize) -> String {
        let mut random = fastrand::Rng::with_seed(3);
        let words = [
            "holdfast",
            "is",
            "the",
            "anchor,",
            "of",
            "kelp.",
            "3.14159",
            "fn main() {}",
            "größer",
            "海藻",
            "\n\n",
            "  x",
            "don't",
        ];
        let mut text = String::new();
        while text.len() < bytes {
            text.push_str(words[random.usize(..words.len())]);
            text.push(' ');
        }
        text
    }

    #[test]
    fn what_openai_publishes_is_counted() {
        // From the cookbook's "How to count tokens with tiktoken", sections 3 and 5.
        for (text, tokens) in [
            ("tiktoken is great!", 6),
            ("antidisestablishmentarianism", 6),
            ("2 + 2 = 4", 7),
            ("お誕生日おめでとう", 8),
        ] {
            assert_eq!(count_text(text), tokens, "{text}");
        }
        assert_eq!(count_text(""), 0);
        assert_eq!(count_text("<|endoftext|>"), 7, "what looks special is text");
    }

    #[test]
    fn cutting_into_blocks_changes_nothing() {
        let text = prose(100_000);
        assert!(Blocks(&text).count() > 10);
        assert_eq!(Blocks(&text).collect::<String>(), text);
        assert_eq!(count_text(&text), whole(&text));
    }

    #[test]
    fn a_long_text_is_estimated_closely_and_fast() {
        let text = prose(4 << 20);
        warm();
        let began = Instant::now();
        let estimated = count_text(&text);
        let took = began.elapsed();
        let exact: u64 = Blocks(&text).map(count_block).sum();
        let error = estimated as f64 / exact as f64 - 1.0;
        assert!(error.abs() < 0.03, "{estimated} for {exact}");
        println!("{took:?} for 4 MiB, off by {:.2} %", error * 100.0);
        assert!(took.as_millis() < 1_000, "{took:?}");
    }

    #[test]
    fn runs_that_break_the_library_are_counted() {
        for text in
            ["A".repeat(3 << 20), " ".repeat(1 << 20), "ß".repeat(200_000), "\n".repeat(200_000), "a".repeat(200_000)]
        {
            let tokens = count_text(&text);
            assert!(tokens > 0 && tokens < text.len() as u64, "{tokens}");
        }
    }

    #[test]
    fn a_request_is_more_than_its_texts() {
        // The conversation of the cookbook's section 6, but for its messages with names: 124 tokens with them by OpenAI's
        // own count for gpt-4o-mini.
        let message = |role, text: &str| Message::text(role, text);
        let mut request = Request {
            messages: vec![message(Role::System, "You are helpful."), message(Role::User, "Hello there")],
            ..Request::default()
        };
        let texts = count_text("You are helpful.") + count_text("Hello there");
        assert_eq!(count_request(&request), texts + 2 * 4 + 3);
        request.context = Some("Found: kelp".to_owned());
        assert_eq!(count_request(&request), texts + 2 * 4 + 3 + 3 + count_text("Found: kelp"));
        request.context = None;
        request.tools = vec![Tool {
            name: "look".into(),
            description: Some("Looks".into()),
            parameters: json!({"type": "object"}),
            strict: None,
        }];
        let with_tools = count_request(&request);
        assert!(with_tools > texts + 11 + 19, "{with_tools}");
        request.history = vec![Message {
            role: Role::User,
            parts: vec![Part::Image(crate::Image::Url("https://example.org/a.png".into()))],
        }];
        assert_eq!(count_request(&request), with_tools + 4 + PER_IMAGE);
        assert!(at_most(&request) >= count_request(&request));
    }

    #[test]
    fn the_longest_beginning_that_fits() {
        let text = prose(40_000);
        for tokens in [0, 1, 2, 100, 3_000, 7_777] {
            let fitted = fit(&text, tokens);
            assert!(text.starts_with(fitted));
            assert!(count_text(fitted) <= tokens, "{tokens}: {}", count_text(fitted));
            assert!(count_text(fitted) + 3 >= tokens, "{tokens}: {} could be more", count_text(fitted));
        }
        assert_eq!(fit(&text, 1_000_000), text);
        assert_eq!(fit("", 5), "");
    }

    proptest! {
        #[test]
        fn any_text_fits_and_is_bounded_by_its_bytes(text in "\\PC{0,400}", tokens in 0_u64..200) {
            prop_assert!(count_text(&text) <= text.len() as u64);
            let fitted = fit(&text, tokens);
            prop_assert!(text.starts_with(fitted));
            prop_assert!(count_text(fitted) <= tokens);
        }
    }
}
