//! From characters to pieces: words, numbers and the few signs that carry meaning, folded.
//!
//! Case, compatibility forms (NFKC, Unicode Standard Annex 15), spacing, punctuation and characters that nobody sees make
//! no difference. What does: a decimal point and a sign within a number, signs that compare or deny, `%` and currencies at
//! a number, and symbols such as emoji, each of which is a word. Scripts that write no spaces give one word a character.
//!
//! Time is linear in the text: each look ahead or back crosses white space that no other look crosses again.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// A longer run of letters or digits is no word but data. Its characters are compared one by one, since a change within
/// it would otherwise make the whole run another.
const WORD_CHARS_MAX: usize = 48;

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Letters, or a symbol.
    Word,
    /// Digits, perhaps with a point and a sign.
    Number,
    /// A sign that compares, adds or denies.
    Sign,
    /// A sign that says what a number counts: `%`, `$`.
    Unit,
}

/// A piece of a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    start: usize,
    end: usize,
    /// What it is.
    pub shape: Shape,
    /// It has a capital within: `userId`, `GitHub`. One letter more makes another name.
    pub is_name: bool,
    /// An underscore or a digit is next to it: `user_id`, `utf8`. What it is a part of is another without it.
    pub is_part: bool,
    /// Nothing but a hyphen is between it and the piece before it.
    pub is_hyphenated: bool,
}

/// Cuts texts into pieces; its buffers are kept from one text to the next.
#[derive(Default)]
pub(super) struct Scanner {
    chars: Vec<char>,
    folded: String,
    pieces: Vec<Piece>,
}

impl Scanner {
    /// The pieces of a text, until the next one is scanned.
    pub fn scan(&mut self, text: &str) -> &[Piece] {
        self.chars.clear();
        self.folded.clear();
        self.pieces.clear();
        if text.is_ascii() {
            self.chars.extend(text.chars());
        } else {
            let visible = text.chars().filter(|&c| !is_invisible(c));
            self.chars.extend(visible.nfkc().filter(|&c| !is_invisible(c)).map(plain));
        }
        let mut at = 0;
        while at < self.chars.len() {
            at = self.piece(at);
        }
        &self.pieces
    }

    /// The pieces that were scanned last.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// What a piece says.
    pub fn text(&self, piece: &Piece) -> &str {
        &self.folded[piece.start..piece.end]
    }

    /// Takes what begins at `at`, and says where the next begins.
    fn piece(&mut self, at: usize) -> usize {
        let c = self.chars[at];
        if c.is_ascii_digit() {
            self.number(at)
        } else if is_letter(c) {
            self.word(at)
        } else if c.is_whitespace() || c.is_control() {
            at + 1
        } else if is_punctuation(c) {
            self.sign(at)
        } else {
            self.push(at..at + 1, Shape::Word, false, false);
            at + 1
        }
    }

    fn number(&mut self, from: usize) -> usize {
        let digits = |from: usize| self.chars[from..].iter().take_while(|c| c.is_ascii_digit()).count();
        let mut end = from + digits(from);
        let is_grouped = end - from <= 3;
        while let Some(&separator) = self.chars.get(end) {
            let more = if matches!(separator, '.' | ',') { digits(end + 1) } else { 0 };
            let is_part = match separator {
                '.' => more > 0,
                // `1,000` is a number, `1,2` are two.
                _ => more == 3 && is_grouped,
            };
            if !is_part {
                break;
            }
            end += 1 + more;
        }
        if end - from > WORD_CHARS_MAX {
            return self.characters(from, end, Shape::Number);
        }
        let before = from.checked_sub(1).map(|at| self.chars[at]);
        let is_free = from < 2
            || self.chars[from - 2].is_whitespace()
            || matches!(self.chars[from - 2], '(' | '[' | '=' | '^' | '<' | '>');
        let start = self.folded.len();
        match before {
            Some('-') if is_free => self.folded.push('-'),
            Some('.') if is_free => self.folded.push_str("0."),
            _ => {}
        }
        let is_hyphenated = self.is_hyphenated(from);
        self.folded.extend(self.chars[from..end].iter().filter(|&&c| c != ','));
        let (end_folded, shape) = (self.folded.len(), Shape::Number);
        self.pieces.push(Piece { start, end: end_folded, shape, is_name: false, is_part: false, is_hyphenated });
        end
    }

    fn word(&mut self, from: usize) -> usize {
        let marks = |from: usize| self.chars[from..].iter().take_while(|&&c| is_combining_mark(c)).count();
        if is_spaceless(self.chars[from]) {
            let end = from + 1 + marks(from + 1).min(WORD_CHARS_MAX);
            self.push(from..end, Shape::Word, false, false);
            return end;
        }
        let mut end = from;
        let mut is_name = false;
        while let Some(&c) = self.chars.get(end) {
            let is_apostrophe = c == '\'' && end > from && self.chars.get(end + 1).is_some_and(|&next| is_letter(next));
            if !is_apostrophe && (!is_letter(c) || is_spaceless(c)) {
                break;
            }
            // One small letter before a capital is a slip in a word of capitals, or an `mRNA`.
            is_name |= end > from + 1 && c.is_uppercase() && self.chars[end - 2..end].iter().all(|c| c.is_lowercase());
            end += 1;
        }
        if end - from > WORD_CHARS_MAX {
            return self.characters(from, end, Shape::Word);
        }
        let is_joint = |c: Option<&char>| c.is_some_and(|&c| c == '_' || c.is_ascii_digit());
        let is_part = is_joint(self.chars.get(end)) || from > 0 && is_joint(self.chars.get(from - 1));
        self.push(from..end, Shape::Word, is_name, is_part);
        end
    }

    /// A run that is no word, one piece a character.
    fn characters(&mut self, from: usize, end: usize, shape: Shape) -> usize {
        for at in from..end {
            self.push(at..at + 1, shape, false, false);
        }
        end
    }

    /// Punctuation, which says nothing unless it compares, adds, denies or counts.
    fn sign(&mut self, at: usize) -> usize {
        let next = self.chars.get(at + 1).copied();
        let before = at.checked_sub(1).map(|at| self.chars[at]);
        let is_space = |c: Option<char>| c.is_some_and(char::is_whitespace);
        let is_operand = |c: Option<char>| c.is_some_and(|c| is_letter(c) || c.is_ascii_digit());
        let (sign, length) = match (self.chars[at], next) {
            ('!', Some('=')) => ("!=", 2),
            ('≠', _) => ("!=", 1),
            ('!', _) if (is_operand(next) || next == Some('(')) && !is_operand(before) => ("!", 1),
            ('<' | '>', _) if matches!(before, Some('-' | '=')) || next == Some('-') => return at + 1,
            ('<', Some('=')) if self.compares(at, at + 2) => ("<=", 2),
            ('>', Some('=')) if self.compares(at, at + 2) => (">=", 2),
            ('<', _) if self.compares(at, at + 1) => ("<", 1),
            ('>', _) if self.compares(at, at + 1) => (">", 1),
            ('≤', _) => ("<=", 1),
            ('≥', _) => (">=", 1),
            // `Ca2+ channels` adds nothing.
            ('+', _) if self.is_between_operands(at, at + 1) && is_space(before) == is_space(next) => ("+", 1),
            ('%' | '$', _) if self.follows_number(at) => return self.unit(at),
            ('$', Some(digit)) if digit.is_ascii_digit() => return self.unit(at),
            ('€' | '£' | '¥' | '‰', _) => return self.unit(at),
            _ => return at + 1,
        };
        let start = self.folded.len();
        self.folded.push_str(sign);
        let (end, shape) = (self.folded.len(), Shape::Sign);
        self.pieces.push(Piece { start, end, shape, is_name: false, is_part: false, is_hyphenated: false });
        at + length
    }

    /// Whether a sign from `from` to `end` compares, and is neither a bracket nor the mark of a quotation.
    fn compares(&self, from: usize, end: usize) -> bool {
        let is_space = |at: usize| self.chars.get(at).is_some_and(|c| c.is_whitespace());
        let is_first = from.checked_sub(1).is_none_or(|before| self.chars[before] == '\n');
        let mut after = self.chars.get(end..).unwrap_or_default().iter().filter(|c| !c.is_whitespace());
        let is_of_number = match after.next() {
            Some('.' | '-') => after.next().is_some_and(char::is_ascii_digit),
            next => next.is_some_and(char::is_ascii_digit),
        };
        let is_even = || is_space(from.saturating_sub(1)) == is_space(end);
        let is_value = is_of_number || is_even() && self.is_between_operands(from, end);
        !is_first && is_value && !self.is_bracket(from)
    }

    /// Whether a sign is one of two around a word, as of a tag or a type.
    fn is_bracket(&self, at: usize) -> bool {
        const CHARS_MAX: usize = 24;
        let is_end = |c: &&char| !c.is_alphanumeric() && !matches!(c, '/' | '-' | '_');
        match self.chars[at] {
            '<' => self.chars[at + 1..].iter().take(CHARS_MAX).find(is_end) == Some(&'>'),
            _ => self.chars[..at].iter().rev().take(CHARS_MAX).find(is_end) == Some(&'<'),
        }
    }

    fn unit(&mut self, at: usize) -> usize {
        self.push(at..at + 1, Shape::Unit, false, false);
        at + 1
    }

    /// Whether what stands before and after is a value each: a word, a number, a bracket.
    fn is_between_operands(&self, from: usize, end: usize) -> bool {
        let before = self.chars[..from].iter().rev().find(|c| !c.is_whitespace());
        let after = self.chars.get(end..).and_then(|rest| rest.iter().find(|c| !c.is_whitespace()));
        let is_value = |c: char| is_letter(c) || c.is_ascii_digit();
        before.is_some_and(|&c| is_value(c) || matches!(c, ')' | ']'))
            && after.is_some_and(|&c| is_value(c) || matches!(c, '(' | '-' | '.'))
    }

    fn follows_number(&self, at: usize) -> bool {
        self.chars[..at].iter().rev().find(|c| !c.is_whitespace()).is_some_and(char::is_ascii_digit)
    }

    fn is_hyphenated(&self, from: usize) -> bool {
        from >= 2 && self.chars[from - 1] == '-' && is_letter(self.chars[from - 2])
    }

    fn push(&mut self, range: std::ops::Range<usize>, shape: Shape, is_name: bool, is_part: bool) {
        let is_hyphenated = self.is_hyphenated(range.start);
        let start = self.folded.len();
        for &c in self.chars[range].iter().filter(|&&c| c != '\'') {
            match c {
                c if c.is_ascii() => self.folded.push(c.to_ascii_lowercase()),
                'ß' | 'ẞ' => self.folded.push_str("ss"),
                'ς' => self.folded.push('σ'),
                _ => self.folded.extend(c.to_lowercase()),
            }
        }
        self.pieces.push(Piece { start, end: self.folded.len(), shape, is_name, is_part, is_hyphenated });
    }
}

/// One form for what is written in several that NFKC keeps apart: digits of all scripts, dashes that are minus signs or
/// hyphens, apostrophes.
fn plain(c: char) -> char {
    match c {
        '\u{2010}' | '\u{2212}' => '-',
        '\u{2019}' | '\u{2018}' | '\u{2bc}' | '\u{2b9}' => '\'',
        '\u{80}'.. => digit(c).unwrap_or(c),
        _ => c,
    }
}

/// The ASCII digit that a decimal digit of another script stands for: general category Nd, where the living scripts are.
fn digit(c: char) -> Option<char> {
    const ZEROS: [u32; 20] = [
        0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xe50, 0xed0, 0xf20,
        0x1040, 0x17e0, 0x1810, 0x1946, 0x19d0,
    ];
    let value = ZEROS.iter().map(|zero| u32::from(c).wrapping_sub(*zero)).find(|value| *value < 10)?;
    char::from_digit(value, 10)
}

fn is_letter(c: char) -> bool {
    c.is_alphabetic() || (!c.is_ascii() && is_combining_mark(c))
}

/// Characters without a look of their own: they join, part, steer the direction, choose a glyph, or hide. Tatweel only
/// makes an Arabic word wider.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{640}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Scripts that write words without spaces between them: Thai to Burmese, Khmer, kana, Han.
fn is_spaceless(c: char) -> bool {
    matches!(c,
        '\u{e00}'..='\u{edf}' | '\u{f00}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3005}'..='\u{3007}'
        | '\u{3040}'..='\u{312f}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Marks between words, with arrows, lines and bullets. Emoji and other symbols are none.
fn is_punctuation(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_punctuation();
    }
    matches!(c,
        '¡' | '¿' | '«' | '»' | '·' | '§' | '¶' | '¦' | '¨' | '¯' | '´' | '¸' | '°' | '€' | '£' | '¥'
        | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{2190}'..='\u{21ff}' | '≠' | '≤' | '≥'
        | '\u{2500}'..='\u{25ff}' | '\u{3001}'..='\u{3004}' | '\u{3008}'..='\u{301f}' | '\u{3030}' | '\u{303d}'
        | '\u{30fb}' | '\u{55a}'..='\u{55f}' | '\u{589}' | '\u{58a}' | '\u{5be}' | '\u{5c0}' | '\u{5c3}' | '\u{5f3}'
        | '\u{5f4}' | '\u{60c}' | '\u{61b}' | '\u{61f}' | '\u{66a}'..='\u{66d}' | '\u{6d4}' | '\u{964}' | '\u{965}'
        | '\u{970}' | '\u{f04}'..='\u{f14}' | '\u{104a}'..='\u{104f}' | '\u{1361}'..='\u{1368}'
        | '\u{17d4}'..='\u{17da}' | '\u{1800}'..='\u{180a}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<String> {
        let mut scanner = Scanner::default();
        scanner.scan(text);
        scanner.pieces().iter().map(|piece| scanner.text(piece).to_owned()).collect()
    }

    fn check(text: &str, expected: &[&str]) {
        assert_eq!(pieces(text), expected, "{text:?}");
    }

    #[test]
    fn case_spacing_and_punctuation_make_no_difference() {
        check("Hello,   WORLD!\n\t(well-known)", &["hello", "world", "well", "known"]);
        check("ＦＵＬＬ ｗｉｄｔｈ", &["full", "width"]);
        check("STRASSE", &["strasse"]);
        check("Straße", &["strasse"]);
        check("e\u{301}te\u{301}", &["été"]);
        check("patient's “own”", &["patients", "own"]);
    }

    #[test]
    fn numbers_keep_their_point_and_their_sign() {
        check("-5 to 1,000.5", &["-5", "to", "1000.5"]);
        check("v1.2.3-rc4", &["v", "1.2.3", "rc", "4"]);
        check("1,2,3 and 5mg", &["1", "2", "3", "and", "5", "mg"]);
        check("pages 3-5", &["pages", "3", "5"]);
        check("p = .05", &["p", "0.05"]);
        check("٣٫ ५", &["3", "5"]);
    }

    #[test]
    fn signs_stand_where_they_compare_and_not_where_they_decorate() {
        check("p < 0.05", &["p", "<", "0.05"]);
        check("a >= b != c", &["a", ">=", "b", "!=", "c"]);
        check("a -> b => c", &["a", "b", "c"]);
        check("a+b - Ca2+ c + d", &["a", "+", "b", "ca", "2", "c", "+", "d"]);
        check("if !ready", &["if", "!", "ready"]);
        check("Great!", &["great"]);
        check("> quoted", &["quoted"]);
        check("> 5 were quoted\n> 6", &["5", "were", "quoted", "6"]);
        check("old (>65 years), p<.05", &["old", ">", "65", "years", "p", "<", "0.05"]);
        check("the <b>bold</b> one, a Vec<T>", &["the", "b", "bold", "b", "one", "a", "vec", "t"]);
        check("a<b and b>a", &["a", "<", "b", "and", "b", ">", "a"]);
        check("5 % of $3, x % y", &["5", "%", "of", "$", "3", "x", "y"]);
        check("5 € $HOME", &["5", "€", "home"]);
    }

    #[test]
    fn symbols_are_words_and_the_invisible_is_nothing() {
        check("😀😡", &["😀", "😡"]);
        check("pass\u{200b}word \u{202e}", &["password"]);
        check("👍🏽", &["👍", "🏽"]);
        check("", &[]);
        check("?!…", &[]);
    }

    #[test]
    fn scripts_without_spaces_give_a_word_a_character() {
        check("機械学習は", &["機", "械", "学", "習", "は"]);
        check("สวัสดี", &["ส", "วั", "ส", "ดี"]);
        check("שלום עולם", &["שלום", "עולם"]);
    }

    #[test]
    fn a_run_that_is_no_word_is_taken_apart() {
        assert_eq!(pieces(&"a".repeat(WORD_CHARS_MAX)).len(), 1);
        assert_eq!(pieces(&"a".repeat(WORD_CHARS_MAX + 1)).len(), WORD_CHARS_MAX + 1);
        assert_eq!(pieces(&"7".repeat(1_000)).len(), 1_000);
    }

    #[test]
    fn names_of_programs_are_known() {
        let mut scanner = Scanner::default();
        let pieces = scanner.scan("user_id userId Id utf8 plain mRNA").iter();
        let flags: Vec<(bool, bool)> = pieces.map(|piece| (piece.is_name, piece.is_part)).collect();
        let (name, part, neither) = ((true, false), (false, true), (false, false));
        assert_eq!(flags, [part, part, name, neither, part, neither, neither, neither]);
    }
}
