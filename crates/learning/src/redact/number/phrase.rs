//! Groups of digits that stand together as one number does, such as `+49 (0)30 123-456`.

use std::ops::Range;

use crate::redact::surroundings::{WALL, hyphen_at, space_at};

/// Groups that a number may have; more are a table.
const GROUPS_MAX: usize = 10;
/// Digits that a group may have and still be written out. A longer one is no number of these kinds.
const DIGITS_MAX: usize = 20;

/// What stands between two groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Separator {
    /// Nothing: the first group.
    #[default]
    None,
    Space,
    Hyphen,
    Dot,
    Slash,
    /// Brackets around one of the groups, with or without a space or a hyphen.
    Bracket,
    /// A hyphen or a slash between spaces, as between two numbers.
    Spaced,
}

#[derive(Clone, Copy, Debug, Default)]
struct Group {
    start: usize,
    end: usize,
    before: Separator,
}

/// Groups of digits with one separator between each two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phrase {
    groups: [Group; GROUPS_MAX],
    len: usize,
}

impl Phrase {
    /// The longest one that begins with the digits there.
    pub(super) fn at(text: &str, start: usize) -> Self {
        let bytes = text.as_bytes();
        let mut phrase = Self { groups: [Group::default(); GROUPS_MAX], len: 0 };
        let (mut at, mut before) = (start, Separator::None);
        while phrase.len < GROUPS_MAX {
            let digits = bytes[at..].iter().take(DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 || digits > DIGITS_MAX {
                break;
            }
            phrase.groups[phrase.len] = Group { start: at, end: at + digits, before };
            phrase.len += 1;
            let Some((separator, len)) = separator_at(bytes, at + digits) else { break };
            (at, before) = (at + digits + len, separator);
        }
        phrase
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn start(&self) -> usize {
        self.groups[0].start
    }

    /// Where the first so many groups end.
    pub(super) fn end_of(&self, groups: usize) -> usize {
        groups.checked_sub(1).map_or(self.start(), |last| self.groups[last].end)
    }

    /// All digits of all groups.
    pub(super) fn digits(&self) -> usize {
        self.digits_of(self.len)
    }

    /// The digits of the first so many groups.
    pub(super) fn digits_of(&self, groups: usize) -> usize {
        self.groups[..groups].iter().map(|group| group.end - group.start).sum()
    }

    /// How many digits each of the first so many groups has.
    pub(super) fn shape(&self, groups: usize) -> Vec<usize> {
        self.groups[..groups].iter().map(|group| group.end - group.start).collect()
    }

    pub(super) fn group<'a>(&self, text: &'a str, index: usize) -> &'a str {
        let group = self.groups[..self.len].get(index).copied().unwrap_or_default();
        &text[group.start..group.end]
    }

    /// The first so many groups without what separates them.
    pub(super) fn joined(&self, text: &str, groups: usize) -> String {
        (0..groups).map(|index| self.group(text, index)).collect()
    }

    /// What stands before each group but the first, among the first so many.
    pub(super) fn separators(&self, groups: usize) -> impl Iterator<Item = Separator> {
        self.groups[1..groups.max(1)].iter().map(|group| group.before)
    }

    /// Whether the first so many groups are separated by this throughout.
    pub(super) fn is_separated_by(&self, groups: usize, separator: Separator) -> bool {
        self.separators(groups).all(|before| before == separator)
    }

    /// Whether a number can end behind so many groups: at the end of the phrase, or where a space begins another one.
    pub(super) fn can_end(&self, text: &str, groups: usize) -> bool {
        if groups < self.len {
            return matches!(self.groups[groups].before, Separator::Space | Separator::Bracket | Separator::Spaced);
        }
        let rest = &text.as_bytes()[self.end_of(groups)..];
        // A longer row of digits or of groups, a decimal, a measure, a time: no number ends there.
        let goes_on = match rest {
            // An extension.
            [b'x' | b'X', b'0'..=b'9', ..] => false,
            [b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'%' | WALL, ..] => true,
            [b'.' | b',' | b':' | b'-' | b'/', b'0'..=b'9', ..] => true,
            _ => false,
        };
        // What stood behind a wall may have been the next group.
        let gap = rest.iter().take(8).take_while(|byte| b" ()-/.,:".contains(byte)).count();
        !goes_on && (rest.get(gap) != Some(&WALL) || rest.starts_with(&[b' ', WALL]))
    }

    /// The bytes of the first so many groups.
    pub(super) fn range(&self, groups: usize) -> Range<usize> {
        self.start()..self.end_of(groups)
    }
}

/// The separator that stands there with a digit behind it, and its bytes.
fn separator_at(bytes: &[u8], at: usize) -> Option<(Separator, usize)> {
    let single = match bytes.get(at)? {
        b'.' => Some((Separator::Dot, 1)),
        b'/' => Some((Separator::Slash, 1)),
        _ => None,
    };
    let single = single
        .or_else(|| space_at(bytes, at).map(|len| (Separator::Space, len)))
        .or_else(|| hyphen_at(bytes, at).map(|len| (Separator::Hyphen, len)));
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    if let Some((separator, len)) = single
        && is_digit(at + len)
    {
        return Some((separator, len));
    }
    // ` (0) 30`, `) 30`, `)-30`, ` - 30`, ` / 30`.
    let mut end = at;
    let mut has_bracket = false;
    while end < at + 6 && !is_digit(end) {
        has_bracket |= matches!(bytes.get(end), Some(b'(' | b')'));
        end += match bytes.get(end)? {
            b'(' | b')' | b'/' => 1,
            _ => space_at(bytes, end).or_else(|| hyphen_at(bytes, end))?,
        };
    }
    let is_spaced = space_at(bytes, at).is_some() && end > at + 2 && space_at(bytes, end - 1).is_some();
    let separator = if has_bracket { Separator::Bracket } else { Separator::Spaced };
    (is_digit(end) && (has_bracket || is_spaced)).then_some((separator, end - at))
}
