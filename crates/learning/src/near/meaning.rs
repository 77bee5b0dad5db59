//! What a word means for whether two texts say the same: numbers, units, denials, opposites, and words of no weight.
//!
//! Lists, deliberately short: a word that is missing here is compared like any other, and a text that has another word
//! in its place is not taken for the same ([`super::verdict`]). English mostly; denials of some other languages, for which
//! one short word turns a sentence around as well. All words are as [`super::scan`] writes them: folded, no apostrophes.

/// The digits of a number that is written as a word. `one` is not among them, being a pronoun as often as not.
pub(super) fn number(word: &str) -> Option<&'static str> {
    Some(match word {
        "zero" => "0",
        "two" => "2",
        "three" => "3",
        "four" => "4",
        "five" => "5",
        "six" => "6",
        "seven" => "7",
        "eight" => "8",
        "nine" => "9",
        "ten" => "10",
        "eleven" => "11",
        "twelve" => "12",
        "thirteen" => "13",
        "fourteen" => "14",
        "fifteen" => "15",
        "sixteen" => "16",
        "seventeen" => "17",
        "eighteen" => "18",
        "nineteen" => "19",
        "twenty" => "20",
        "thirty" => "30",
        "forty" => "40",
        "fifty" => "50",
        "sixty" => "60",
        "seventy" => "70",
        "eighty" => "80",
        "ninety" => "90",
        "hundred" => "100",
        "thousand" => "1000",
        "million" => "1000000",
        "billion" => "1000000000",
        _ => return None,
    })
}

/// Whether a word counts something without being a number: how many times, or which of several.
pub(super) fn is_count(word: &str) -> bool {
    matches!(word, "half" | "twice" | "thrice" | "double" | "triple" | "third" | "dozen" | "ii" | "iii")
}

/// What a denial that has grown together with its verb is made of: the verb, and `not` after it.
pub(super) fn contracted(word: &str) -> Option<&'static str> {
    Some(match word {
        "aint" => "is",
        "arent" => "are",
        "cannot" | "cant" => "can",
        "couldnt" => "could",
        "didnt" => "did",
        "doesnt" => "does",
        "dont" => "do",
        "hadnt" => "had",
        "hasnt" => "has",
        "havent" => "have",
        "isnt" => "is",
        "mustnt" => "must",
        "neednt" => "need",
        "shouldnt" => "should",
        "wasnt" => "was",
        "werent" => "were",
        "wont" => "will",
        "wouldnt" => "would",
        _ => return None,
    })
}

/// Whether a word turns what is said around.
#[expect(clippy::match_like_matches_macro, reason = "formatted, the macro would be a page of one word a line")]
pub(super) fn is_denial(word: &str) -> bool {
    match word {
        "not" | "no" | "never" | "none" | "nobody" | "nothing" | "nowhere" | "neither" | "nor" | "without" => true,
        "non" | "anti" | "hardly" | "scarcely" | "barely" | "rarely" | "seldom" | "unless" | "except" | "unable" => {
            true
        }
        "lack" | "lacks" | "lacked" | "lacking" | "absent" | "absence" => true,
        "fail" | "fails" | "failed" | "failing" => true,
        "nicht" | "kein" | "keine" | "keinen" | "keiner" | "ohne" | "nie" | "niemals" => true,
        "pas" | "jamais" | "sans" | "aucun" | "aucune" | "nunca" | "jamás" | "senza" => true,
        "не" | "нет" | "ни" | "без" | "никогда" | "नहीं" => true,
        "لا" | "ليس" | "لم" | "لن" | "بدون" | "לא" | "בלי" | "אין" => true,
        "不" | "没" | "沒" | "無" | "无" | "未" | "非" | "否" | "別" | "别" | "勿" => true,
        _ => false,
    }
}

/// Whether a word is a unit wherever it stands. Plurals are given without their `s`.
#[expect(clippy::match_like_matches_macro, reason = "formatted, the macro would be a page of one word a line")]
pub(super) fn is_unit(word: &str) -> bool {
    match word {
        "minute" | "hour" | "day" | "week" | "month" | "year" | "decade" | "millisecond" | "microsecond" => true,
        "gram" | "kilogram" | "milligram" | "microgram" | "pound" | "ounce" => true,
        "liter" | "litre" | "milliliter" | "millilitre" => true,
        "meter" | "metre" | "kilometer" | "kilometre" | "centimeter" | "centimetre" => true,
        "millimeter" | "millimetre" | "mile" | "inch" => true,
        "celsius" | "fahrenheit" | "kelvin" | "percent" | "dollar" | "euro" => true,
        "byte" | "kilobyte" | "megabyte" | "gigabyte" | "terabyte" => true,
        "mg" | "kg" | "μg" | "ml" | "dl" | "μl" | "mm" | "cm" | "km" | "μm" | "nm" => true,
        "mmol" | "μmol" | "nmol" | "kpa" | "mmhg" | "kcal" | "kj" => true,
        "khz" | "mhz" | "ghz" | "kb" | "mb" | "gb" | "tb" | "kib" | "mib" | "gib" => true,
        _ => false,
    }
}

/// Whether a word is a unit because a number stands before it: what is too short or too common to be one by itself.
#[expect(clippy::match_like_matches_macro, reason = "formatted, the macro would be a page of one word a line")]
pub(super) fn is_unit_of_number(word: &str) -> bool {
    match word {
        "s" | "ms" | "ns" | "us" | "ps" | "μs" | "sec" | "second" | "h" | "hr" | "hrs" | "d" | "min" | "am" => true,
        "m" | "g" | "l" | "k" | "c" | "f" | "j" | "n" | "b" | "v" | "w" | "mv" | "kv" | "mw" | "kw" | "ma" | "hz" => {
            true
        }
        "mol" | "pa" | "bar" | "pm" | "foot" | "feet" | "ft" | "fold" | "px" | "pt" | "em" | "rpm" | "bit" | "bp" => {
            true
        }
        _ => false,
    }
}

/// A unit without the `s` of its plural, where it has one.
pub(super) fn singular(word: &str) -> &str {
    match word.strip_suffix('s') {
        Some(stem) if stem.len() >= 3 && (is_unit(stem) || is_unit_of_number(stem)) => stem,
        _ => word,
    }
}

/// Whether one of these in place of another, or of none, says nothing new: articles and forms of `to be`.
pub(super) fn is_minor(word: &str) -> bool {
    matches!(
        word,
        "a" | "an"
            | "the"
            | "this"
            | "that"
            | "these"
            | "those"
            | "is"
            | "are"
            | "was"
            | "were"
            | "be"
            | "been"
            | "it"
            | "its"
    )
}

/// Whether one word is the other with a syllable in front that turns it around: `stable`, `unstable`.
pub(super) fn is_denied_by_prefix(left: &str, right: &str) -> bool {
    const PREFIXES: [&str; 20] = [
        "un", "in", "im", "il", "ir", "dis", "non", "de", "mis", "anti", "a", "an", "counter", "ab", "re", "over",
        "under", "pre", "post", "sub",
    ];
    const STEM_BYTES_MIN: usize = 3;
    let (short, long) = if left.len() < right.len() { (left, right) } else { (right, left) };
    short.len() >= STEM_BYTES_MIN && long.strip_suffix(short).is_some_and(|prefix| PREFIXES.contains(&prefix))
}

/// Whether two words are opposites that texts swap while all else stays.
pub(super) fn are_opposites(left: &str, right: &str) -> bool {
    /// These words.
    const WORDS: [(&str, &str); 28] = [
        ("and", "or"),
        ("all", "some"),
        ("all", "none"),
        ("always", "never"),
        ("with", "without"),
        ("true", "false"),
        ("yes", "no"),
        ("from", "to"),
        ("before", "after"),
        ("first", "last"),
        ("early", "late"),
        ("left", "right"),
        ("up", "down"),
        ("inside", "outside"),
        ("high", "low"),
        ("higher", "lower"),
        ("highest", "lowest"),
        ("more", "less"),
        ("more", "fewer"),
        ("most", "least"),
        ("min", "max"),
        ("start", "stop"),
        ("open", "close"),
        ("opened", "closed"),
        ("allow", "deny"),
        ("allowed", "denied"),
        ("gain", "loss"),
        ("best", "worst"),
    ];
    /// All forms of these words, by what they begin with.
    const STEMS: [(&str, &str); 13] = [
        ("increas", "decreas"),
        ("increas", "reduc"),
        ("enabl", "disabl"),
        ("positiv", "negativ"),
        ("activat", "inhibit"),
        ("promot", "inhibit"),
        ("promot", "suppress"),
        ("larg", "small"),
        ("great", "small"),
        ("strong", "weak"),
        ("benign", "malignan"),
        ("includ", "exclud"),
        ("minim", "maxim"),
    ];
    /// Words that begin with these and then are the same.
    const BEGINNINGS: [(&str, &str); 8] = [
        ("hyper", "hypo"),
        ("intra", "extra"),
        ("intra", "inter"),
        ("macro", "micro"),
        ("up", "down"),
        ("over", "under"),
        ("pre", "post"),
        ("en", "de"),
    ];
    let either = |is_pair: &dyn Fn(&str, &str) -> bool| is_pair(left, right) || is_pair(right, left);
    WORDS.iter().any(|&(one, other)| either(&|a, b| a == one && b == other))
        || STEMS.iter().any(|&(one, other)| either(&|a, b| a.starts_with(one) && b.starts_with(other)))
        || BEGINNINGS.iter().any(|&(one, other)| {
            either(&|a, b| {
                a.strip_prefix(one).is_some_and(|rest| !rest.is_empty() && b.strip_prefix(other) == Some(rest))
            })
        })
}

/// Whether one word is the other with an ending of grammar.
pub(super) fn is_inflected(left: &str, right: &str) -> bool {
    const STEM_BYTES_MIN: usize = 3;
    let (short, long) = if left.len() < right.len() { (left, right) } else { (right, left) };
    short.len() >= STEM_BYTES_MIN
        && long.strip_prefix(short).is_some_and(|ending| matches!(ending, "s" | "es" | "d" | "ed" | "ing"))
}

/// Words of number, unit and denial that are long enough to be misspelled and still known.
pub(super) const MISSPELLED: [&str; 68] = [
    "three",
    "four",
    "five",
    "seven",
    "eight",
    "nine",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
    "thirty",
    "forty",
    "fifty",
    "sixty",
    "seventy",
    "eighty",
    "ninety",
    "hundred",
    "thousand",
    "million",
    "billion",
    "half",
    "twice",
    "double",
    "triple",
    "third",
    "dozen",
    "never",
    "none",
    "nobody",
    "nothing",
    "nowhere",
    "neither",
    "without",
    "hardly",
    "scarcely",
    "barely",
    "rarely",
    "seldom",
    "unless",
    "except",
    "unable",
    "lacking",
    "absent",
    "absence",
    "failed",
    "fails",
    "minute",
    "minutes",
    "hour",
    "hours",
    "days",
    "week",
    "weeks",
    "month",
    "months",
    "year",
    "years",
    "decades",
    "percent",
    "meters",
    "bytes",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_denies_whichever_side_it_is_on() {
        assert!(is_denied_by_prefix("stable", "unstable"));
        assert!(is_denied_by_prefix("asymptomatic", "symptomatic"));
        assert!(!is_denied_by_prefix("stable", "stables"));
        assert!(!is_denied_by_prefix("stable", "stable"));
        // `unit` is no denied `it`.
        assert!(!is_denied_by_prefix("it", "unit"));
    }

    #[test]
    fn opposites_are_found_in_all_their_forms() {
        for (left, right) in [
            ("increased", "decreases"),
            ("hypotension", "hypertension"),
            ("upregulated", "downregulated"),
            ("max", "min"),
            ("higher", "lower"),
        ] {
            assert!(are_opposites(left, right) && are_opposites(right, left), "{left} {right}");
        }
        for (left, right) in
            [("increased", "increases"), ("hypotension", "hypertrophy"), ("update", "downtown"), ("up", "up")]
        {
            assert!(!are_opposites(left, right) && !are_opposites(right, left), "{left} {right}");
        }
    }

    #[test]
    fn units_lose_their_plural_and_other_words_keep_their_s() {
        assert_eq!(singular("hours"), "hour");
        assert_eq!(singular("is"), "is");
        assert_eq!(singular("mass"), "mass");
    }
}
