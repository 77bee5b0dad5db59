//! Whole datasets: planted, hostile, shuffled.

mod plant;

use std::collections::{BTreeMap, HashMap, HashSet};

use fastrand::Rng;
use proptest::prelude::*;

use self::plant::{Kind, NEAR, OTHER, Planted, Texts, plant, score};
use super::*;

/// Rows of a planted dataset are so many; its shares are measured on that.
const ROWS: usize = 3_000;

fn found(rows: &[impl AsRef<str>]) -> Groups {
    let rows: Vec<&str> = rows.iter().map(AsRef::as_ref).collect();
    groups(&rows, &Settings::default(), None)
}

/// Whether two rows are in one group.
fn are_near(left: &str, right: &str) -> bool {
    found(&[left, right]).count() == 1
}

/// Sentences of words that sound like some, with what facts are made of among them.
fn texts(rng: &mut Rng) -> Texts {
    let word = |rng: &mut Rng| -> String {
        let syllable = |rng: &mut Rng| -> String {
            let letter = |rng: &mut Rng, of: &[u8]| char::from(of[rng.usize(0..of.len())]);
            [letter(rng, b"bcdfghklmnprstvw"), letter(rng, b"aeiou"), letter(rng, b"lmnrst")].iter().collect()
        };
        (0..rng.usize(1..=3)).map(|_| syllable(rng)).collect()
    };
    let words: Vec<String> = (0..2_000).map(|_| word(rng)).collect();
    let joints =
        ["the", "of", "a", "in", "and", "to", "is", "was", "with", "for", "are", "has", "by", "that", "can", "on"];
    let facts = ["not", "12 hours", "5 mg", "known", "increased", "no", "before", "3", "0.75", "stable", "two"];
    let sentence = |rng: &mut Rng| {
        let mut words: Vec<&str> = (0..rng.usize(8..20))
            .map(|_| match rng.usize(0..10) {
                0..4 => joints[rng.usize(0..joints.len())],
                4 => facts[rng.usize(0..facts.len())],
                // Common words are common.
                _ => &words[(rng.f64().powi(2) * 2_000.0) as usize],
            })
            .collect();
        let comma = format!("{},", words[words.len() / 2]);
        let middle = words.len() / 2;
        words[middle] = &comma;
        let text = words.join(" ");
        format!("{}{}.", text[..1].to_uppercase(), &text[1..])
    };
    let prose = (0..ROWS).map(|_| (0..rng.usize(1..4)).map(|_| sentence(rng)).collect::<Vec<_>>().join(" ")).collect();
    let mut texts = Texts { prose, ..Texts::default() };
    let added: Vec<String> = (0..500).map(|_| sentence(rng)).collect();
    texts.add_sentences(added.into_iter());
    texts
}

fn planted(seed: u64) -> Vec<Planted> {
    let mut rng = Rng::with_seed(seed);
    let texts = texts(&mut rng);
    plant(&texts, ROWS, &mut rng)
}

fn rows_of(planted: &[Planted]) -> Vec<&str> {
    planted.iter().map(|row| row.text.as_str()).collect()
}

/// Groups as sets of the rows that `order` says.
fn partition(group_of: &[u32], order: &[usize]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (&group, &row) in group_of.iter().zip(order) {
        groups.entry(group).or_default().push(row);
    }
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    groups.iter_mut().for_each(|group| group.sort_unstable());
    groups.sort_unstable();
    groups
}

#[test]
fn planted_groups_are_found() {
    for seed in [11, 12, 13] {
        let planted = planted(seed);
        let found = found(&rows_of(&planted));
        let score = score(&planted, &found.group_of);
        assert!(score.precision >= 0.97, "seed {seed}: precision {}", score.precision);
        assert!(score.recall >= 0.95, "seed {seed}: recall {}", score.recall);
        for (kind, (made, together)) in score.by_kind {
            let share = together as f64 / made as f64;
            let is_kept = if NEAR.contains(&kind) { share >= 0.85 } else { share <= 0.05 };
            assert!(
                is_kept || !NEAR.contains(&kind) && !OTHER.contains(&kind),
                "seed {seed}: {kind:?} {share} of {made}"
            );
        }
        assert_eq!(found.exact + found.near + found.count(), planted.len());
    }
}

#[test]
fn leak_groups_hold_what_differs_in_facts_and_all_that_is_near() {
    let seed = 21;
    let planted = planted(seed);
    let rows = rows_of(&planted);
    let settings = Settings::default();
    let near = groups(&rows, &settings, None);
    let leaking = leak_groups(&rows, &settings, None);
    let mut leak_of: HashMap<u32, u32> = HashMap::new();
    for (near, leak) in near.group_of.iter().zip(&leaking.group_of) {
        assert_eq!(leak_of.entry(*near).or_insert(*leak), leak, "seed {seed}: a group is torn apart");
    }
    let score = score(&planted, &leaking.group_of);
    for kind in OTHER {
        if let Some((made, together)) = score.by_kind.get(&kind) {
            let share = *together as f64 / *made as f64;
            assert!(share >= 0.97, "seed {seed}: {kind:?} {share} of {made}");
        }
    }
    assert!(!score.by_kind.contains_key(&Kind::Name), "there is no code among the texts");
}

#[test]
fn the_order_of_rows_and_the_number_of_threads_make_no_difference() {
    for seed in [31, 32] {
        let planted = planted(seed);
        let rows = rows_of(&planted);
        let mut order: Vec<usize> = (0..rows.len()).collect();
        Rng::with_seed(seed).shuffle(&mut order);
        let shuffled: Vec<&str> = order.iter().map(|&row| rows[row]).collect();
        let straight: Vec<usize> = (0..rows.len()).collect();
        let first = found(&rows);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let second = pool.install(|| found(&shuffled));
        assert_eq!(
            partition(&first.group_of, &straight),
            partition(&second.group_of, &order),
            "seed {seed}: other groups in another order"
        );
        assert_eq!((first.exact, first.near, first.unsure), (second.exact, second.near, second.unsure));
        assert_eq!(first.marks.iter().collect::<HashSet<_>>(), second.marks.iter().collect::<HashSet<_>>());
        assert_eq!(first, found(&rows), "seed {seed}: other groups at another time");
    }
}

#[test]
fn the_judge_decides_what_words_do_not() {
    let left = "we found that the whole procedure takes much longer than anybody in the room had expected";
    let rows = [left, &left.replace("room", "hall"), "something else that nobody compares with anything"];
    let mut asked = Vec::new();
    let mut answer = |said: Option<f32>| {
        let mut judge = |a: usize, b: usize| {
            asked.push((a.min(b), a.max(b)));
            said
        };
        groups(&rows, &Settings::default(), Some(&mut judge))
    };
    let (yes, no, silence, nonsense) = (answer(Some(0.99)), answer(Some(0.5)), answer(None), answer(Some(f32::NAN)));
    assert_eq!((yes.count(), yes.unsure), (2, 0));
    assert_eq!((no.count(), no.unsure), (3, 0));
    assert_eq!((silence.count(), silence.unsure), (3, 1));
    assert_eq!(nonsense, silence);
    assert_eq!(asked, [(0, 1); 4]);
    assert_eq!(found(&rows), silence);
}

#[test]
fn a_third_row_does_not_tie_together_what_differs_in_a_fact() {
    let rows = [
        "after the restart the server needs 5 minutes until it answers the first request of a client",
        "after the restart the server needs minutes until it answers the first request of a client",
        "after the restart the server needs 6 minutes until it answers the first request of a client",
        "after the restart the server needs 5 minutes until it answers the frist request of a client",
    ];
    let found = found(&rows);
    assert_eq!(found.group_of[0], found.group_of[3]);
    assert_ne!(found.group_of[0], found.group_of[2]);
    // Each sentence is in a row that has both.
    let (one, other) =
        ("the committee meets on mondays in the large hall", "lunch is served to all guests in the garden");
    let both = format!("{one}. {other}.");
    let rows = [one, other, &both];
    let groups = groups(&rows, &Settings::default(), None);
    assert_ne!(groups.group_of[0], groups.group_of[1]);
}

#[test]
fn what_all_rows_say_is_not_what_makes_two_alike() {
    let subjects = ["protein", "voters", "thermodynamics", "enzymes", "inflation", "galaxies", "treaties", "glaciers"];
    let mut rows = vec!["Which of the following statements is correct here?".to_owned()];
    rows.extend((0..200).map(|n| {
        let (first, second) = (subjects[n % 8], subjects[n / 8 % 8]);
        format!("Which of the following statements on {first} is correct here, case {n} with {second}?")
    }));
    rows.extend(subjects.map(|subject| format!("Which of the following statements on {subject} is correct here?")));
    assert_eq!(found(&rows).count(), rows.len());
}

#[test]
fn scripts_without_spaces_are_compared_by_characters() {
    assert!(are_near(
        "機械学習モデルの訓練には大量のデータが必要です。",
        "機械学習モデルの訓練には大量データが必要です"
    ));
    assert!(!are_near("这个程序可以在服务器上运行很长时间", "这个程序不可以在服务器上运行很长时间"));
    assert!(!are_near("この薬は三日間飲んでください", "この薬は五日間飲んでください"));
    assert!(are_near(
        "פתחו את הקובץ ושמרו אותו בתיקייה החדשה",
        "\u{202b}פתחו את הקובץ, ושמרו אותו בתיקייה החדשה!\u{202c}"
    ));
    assert!(!are_near("הקובץ נמצא בתיקייה החדשה של המשתמש", "הקובץ לא נמצא בתיקייה החדשה של המשתמש"));
    assert!(!are_near("good 😀", "good 😡"));
    assert!(!are_near("😀", "😡"));
    assert!(are_near("This is great 👍", "this is great\u{200d} 👍\u{fe0f}"));
}

#[test]
fn rows_without_words_or_with_one_are_the_same_only_if_they_read_alike() {
    let rows = ["", " ", "\u{200b}", "?", "!", "yes", "Yes!", "no", "yess", "\0", "5", "6", "五"];
    let found = found(&rows);
    let group = |row: usize| found.group_of[row];
    assert_eq!(group(0), group(1));
    assert_ne!(group(3), group(4));
    assert_eq!(group(5), group(6));
    let rest: HashSet<u32> = [0, 3, 4, 5, 7, 8, 10, 11, 12].into_iter().map(group).collect();
    assert_eq!(rest.len(), 9);
    assert_eq!(groups(&[], &Settings::default(), None), Groups::default());
    assert_eq!(leak_groups(&[], &Settings::default(), None), Groups::default());
}

#[test]
fn equal_rows_are_one_group_however_many() {
    let rows = vec!["The same row again."; 100_000];
    let found = found(&rows);
    assert_eq!((found.count(), found.exact, found.near, found.exhausted), (1, 99_999, 0, 0));
}

/// Work is bounded: every row is compared with a few dozen, though all look alike.
#[test]
fn a_variant_is_found_in_a_template_of_any_length() {
    const NAMES: usize = 1_000;
    let seed = 51;
    let mut rng = Rng::with_seed(seed);
    let name = |rng: &mut Rng| -> String { (0..10).map(|_| rng.lowercase()).collect() };
    // In a short letter a name is in some band; in a long one in hardly any.
    for words in [16, 600] {
        let letter: Vec<String> = (0..words).map(|_| name(&mut rng)).collect();
        let letter = letter.join(" ");
        let mut rows = Vec::new();
        for _ in 0..NAMES {
            let (first, second, third) = (name(&mut rng), name(&mut rng), name(&mut rng));
            rows.push(format!("Dear {first} {second}, {letter}."));
            // A word that nobody else has, so that the rarest words of the two are not the same.
            rows.push(format!("Dear {first} {second}, {letter} {third}"));
        }
        let found = found(&rows);
        let pairs = (0..NAMES).filter(|n| found.group_of[2 * n] == found.group_of[2 * n + 1]).count();
        assert!(pairs >= NAMES * 99 / 100, "seed {seed}, {words} words: {pairs} of {NAMES} variants");
        assert!(found.count() >= NAMES, "seed {seed}, {words} words: {} groups", found.count());
    }
}

#[test]
fn rows_of_one_template_stay_apart_and_each_finds_its_variant() {
    let seed = 51;
    let mut rng = Rng::with_seed(seed);
    let name = |rng: &mut Rng| -> String { (0..10).map(|_| rng.lowercase()).collect() };
    let mut rows = Vec::new();
    for _ in 0..4_000 {
        let (first, second) = (name(&mut rng), name(&mut rng));
        rows.push(format!(
            "Dear {first}, your order of {second} has left our house and will be with you in a few days."
        ));
        rows.push(format!("Dear {first}, your order of {second} has left our house and will be with you in few days"));
    }
    let groups = found(&rows);
    assert!(groups.exhausted > 0, "seed {seed}");
    let pairs = (0..4_000).filter(|n| groups.group_of[2 * n] == groups.group_of[2 * n + 1]).count();
    assert!(pairs >= 3_990, "seed {seed}: {pairs} of 4000 variants");
    assert!(groups.count() >= 4_000, "seed {seed}: {} groups", groups.count());
    let numbered: Vec<String> = (0..8_000).map(|n| format!("Your order {n} has left our house today.")).collect();
    assert_eq!(found(&numbered).count(), 8_000);
    let numbered: Vec<&str> = numbered.iter().map(String::as_str).collect();
    assert_eq!(leak_groups(&numbered, &Settings::default(), None).count(), 1);
}

#[test]
fn rows_of_a_megabyte_are_compared_whatever_they_are_made_of() {
    const BYTES: usize = 1 << 20;
    let seed = 61;
    let mut rng = Rng::with_seed(seed);
    let mut words = String::new();
    while words.len() < BYTES {
        words.extend((0..rng.usize(2..9)).map(|_| rng.lowercase()));
        words.push(' ');
    }
    let edited = words.replacen(" a", " the a", 3).to_uppercase();
    let rows = [
        words.as_str(),
        &edited,
        &"x".repeat(BYTES),
        &"7".repeat(BYTES),
        &"e\u{301}\u{302}".repeat(BYTES / 5),
        &"\u{301}".repeat(BYTES / 2),
        &"\u{fdfa}".repeat(BYTES / 3),
        &"😀".repeat(BYTES / 4),
        &"漢字".repeat(BYTES / 6),
        &"漢字".repeat(BYTES / 6 - 1),
        &"ha ho ".repeat(BYTES / 6),
        &"< ".repeat(BYTES / 2),
        &"-5 ".repeat(BYTES / 3),
        &"\u{200b}".repeat(BYTES / 3),
        &"a_".repeat(BYTES / 2),
        &"1.".repeat(BYTES / 2),
    ];
    let found = found(&rows);
    assert_eq!(found.group_of[0], found.group_of[1], "seed {seed}");
    assert!(found.count() >= rows.len() - 3, "{:?}", found.group_of);
}

/// Rows of a few words, so that many are near each other.
fn small_rows() -> impl Strategy<Value = Vec<String>> {
    let word = prop::sample::select(vec![
        "the", "server", "servers", "sevrer", "starts", "not", "5", "6", "minutes", "after", "before", "night",
        "light", "user_id", "userId", "!", "file", "opens", "always", "never", "every", "day",
    ]);
    let row = prop::collection::vec(word, 0..14).prop_map(|words| words.join(" "));
    let rows = prop::collection::vec(row, 1..12);
    // Variants of what is there: rows with one word more or less, twice over.
    rows.prop_flat_map(|rows| {
        let count = rows.len();
        (Just(rows), prop::collection::vec((0..count, any::<prop::sample::Index>(), any::<bool>()), 0..12))
    })
    .prop_map(|(mut rows, edits)| {
        for (row, place, removes) in edits {
            let mut words: Vec<&str> = rows[row].split(' ').collect();
            let at = place.index(words.len());
            if removes {
                words.remove(at);
            } else {
                words.insert(at, "quickly");
            }
            let variant = words.join(" ");
            rows.push(variant);
        }
        rows
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_order_gives_the_same_groups(rows in small_rows(), seed in any::<u64>()) {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        Rng::with_seed(seed).shuffle(&mut order);
        let shuffled: Vec<&str> = order.iter().map(|&row| rows[row].as_str()).collect();
        let straight: Vec<usize> = (0..rows.len()).collect();
        prop_assert_eq!(
            partition(&found(&rows).group_of, &straight),
            partition(&found(&shuffled).group_of, &order)
        );
        let loose = |rows: &[&str]| leak_groups(rows, &Settings::default(), None).group_of;
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        prop_assert_eq!(partition(&loose(&rows), &straight), partition(&loose(&shuffled), &order));
    }

    #[test]
    fn rows_given_again_join_themselves_and_change_nothing(rows in small_rows()) {
        let once = found(&rows);
        let twice = found(&[&rows[..], &rows[..]].concat());
        prop_assert_eq!(&once.group_of, &twice.group_of[..rows.len()]);
        prop_assert_eq!(&once.group_of, &twice.group_of[rows.len()..]);
        prop_assert_eq!(once.marks, twice.marks);
    }

    #[test]
    fn a_group_never_mixes_facts_that_contradict_each_other(rows in small_rows()) {
        let groups = found(&rows);
        let corpus = Corpus::new(&rows.iter().map(String::as_str).collect::<Vec<_>>(), Reading::Whole);
        let settings = Settings::default();
        for left in 0..rows.len() {
            for right in left + 1..rows.len() {
                let row = |at: usize| &corpus.rows[corpus.row_of[at] as usize];
                if groups.group_of[left] == groups.group_of[right] && corpus.row_of[left] != corpus.row_of[right] {
                    let (first, second) = if corpus.row_of[left] < corpus.row_of[right] { (left, right) } else { (right, left) };
                    let comparison = compare(row(first), row(second), corpus.lexicon.words(), &settings);
                    prop_assert!(!comparison.is_barred, "{:?} {:?} {:?}", rows[first], rows[second], comparison);
                }
            }
        }
    }

    #[test]
    fn whatever_rows_are_they_have_groups(rows in prop::collection::vec(any::<String>(), 0..8)) {
        let groups = found(&rows);
        prop_assert_eq!(groups.group_of.len(), rows.len());
        prop_assert_eq!(groups.exact + groups.near + groups.count(), rows.len());
        let parts = split(&groups, &[0.5, 0.5], 7);
        prop_assert!(parts.iter().all(|&part| part < 2));
    }
}
