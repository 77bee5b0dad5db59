//! Closed sets of words that programs decide by: an enum, the word of each member, and a list of them all, so that a test
//! can hold documentation against what there is.

/// Declares an enum with a word for each member: `words! { /// … pub enum Name { /// … Member = "word", } }`. It has `ALL`
/// and `as_str`.
#[macro_export]
macro_rules! words {
    ($(#[$doc:meta])* $visibility:vis enum $name:ident { $($(#[$of:meta])* $member:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $visibility enum $name {
            $($(#[$of])* $member,)*
        }

        impl $name {
            /// Every one there is.
            $visibility const ALL: &'static [Self] = &[$(Self::$member,)*];

            /// The word.
            $visibility const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$member => $word,)*
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    crate::words! {
        /// Two of them.
        enum Word {
            /// The one.
            One = "one",
            /// The other.
            Other = "the_other",
        }
    }

    #[test]
    fn each_member_has_its_word_and_stands_in_the_list() {
        assert_eq!(Word::ALL, [Word::One, Word::Other]);
        assert_eq!(Word::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>(), ["one", "the_other"]);
    }
}
