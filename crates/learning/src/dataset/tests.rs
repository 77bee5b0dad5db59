use uuid::Uuid;

use super::*;
use crate::{
    Encoded, NotEncoded,
    redact::tests::{corpus, prose},
};

struct House {
    _folder: tempfile::TempDir,
    store: LearningStore,
    datasets: Datasets,
}

/// A store with these interactions.
async fn house(rows: Vec<InteractionRow>) -> House {
    let folder = tempfile::tempdir().unwrap();
    let store = LearningStore::open_at(&folder.path().join("learning.db")).unwrap();
    let lease = store.take_lease(Uuid::now_v7(), None).await.unwrap().unwrap();
    let (filled, datasets) = (store.clone(), Datasets::open(&folder.path().join("datasets")).unwrap());
    let put = move || {
        filled.derive(&lease, move |fold| {
            for row in &rows {
                fold.put_interaction(row)?;
            }
            Ok(())
        })
    };
    tokio::task::spawn_blocking(put).await.unwrap().unwrap();
    House { _folder: folder, store, datasets }
}

fn row(number: u128, question: &str, answer: &str) -> InteractionRow {
    InteractionRow {
        id: Uuid::from_u128(number),
        caller: "owner".into(),
        question: Some(question.into()),
        answer: Some(answer.into()),
        outcome: Some("success".into()),
        value: Some(0.7),
        model: Some("local/m".into()),
        ..InteractionRow::default()
    }
}

fn lines(house: &House, version: u32, file: &str) -> Vec<Value> {
    let bytes = house.datasets.read("set", version, file).unwrap();
    String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn all(house: &House, version: u32) -> Vec<Value> {
    PARTS.iter().flat_map(|part| lines(house, version, part)).collect()
}

fn built(house: &House, recipe: &Recipe) -> Built {
    build(&house.store, &house.datasets, "set", recipe, 9, None).unwrap()
}

#[tokio::test]
async fn the_same_rows_make_the_same_bytes_and_no_second_version() {
    let topics = ["flakes", "overlays", "generations", "profiles", "channels", "derivations", "modules", "options"];
    let rows = topics.iter().enumerate().map(|(number, topic)| {
        let answer = format!("The short explanation of {topic} stands in chapter {number} of the manual.");
        row(number as u128, &format!("What should I know about {topic}?"), &answer)
    });
    let house = house(rows.collect()).await;
    let first = built(&house, &Recipe::default());
    assert_eq!((first.version, first.is_repeat), (1, false));
    assert_eq!(all(&house, 1).len(), topics.len());
    let again = built(&house, &Recipe::default());
    assert_eq!((again.version, again.is_repeat, &again.manifest), (1, true, &first.manifest));
    let other = built(&house, &Recipe { seed: 1, ..Recipe::default() });
    assert_eq!((other.version, other.is_repeat), (2, false));
    let entry = &first.manifest.files["train.jsonl"];
    let bytes = house.datasets.read("set", 1, "train.jsonl").unwrap();
    assert_eq!(entry.blake3, blake3::hash(&bytes).to_hex().to_string());
    assert_eq!((entry.bytes, entry.rows), (bytes.len() as u64, lines(&house, 1, "train.jsonl").len()));
    assert_eq!(manifest(&house.datasets, "set", 1).unwrap(), first.manifest);
}

#[tokio::test]
async fn what_is_left_out_is_counted_by_its_reason() {
    let answer = "Rebuild it with the switch that the manual names.";
    let change = |mut row: InteractionRow, change: fn(&mut InteractionRow)| {
        change(&mut row);
        row
    };
    let rows = vec![
        row(1, "How do I rebuild the system?", answer),
        row(2, "how do I   rebuild the system", answer),
        change(row(3, "Why is the sky blue at noon?", answer), |row| row.consent = Some(false)),
        change(row(4, "Why is the sea green at dawn?", answer), |row| row.outcome = Some("failure".into())),
        change(row(5, "Why are the hills alive tonight?", answer), |row| row.value = Some(0.1)),
        change(row(6, "Why does the cut text matter here?", answer), |row| row.is_cut = true),
        change(row(7, "Why has nobody said a word to it?", answer), |row| row.answer = None),
        row(8, "short?", answer),
        row(9, "Is this answered with enough words?", "yes"),
    ];
    let house = house(rows).await;
    let built = built(&house, &Recipe::default());
    let left_out: Vec<(&str, usize)> =
        built.manifest.left_out.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
    let expected = [
        "answer_short",
        "near_duplicate",
        "no_success",
        "no_text",
        "question_short",
        "refused",
        "text_cut",
        "value_low",
    ];
    assert_eq!(left_out, expected.map(|reason| (reason, 1)));
    assert_eq!((built.manifest.looked_at, all(&house, 1).len()), (9, 1));
    let strict = Recipe { needs_consent: true, ..Recipe::default() };
    let strict = super::build(&house.store, &house.datasets, "strict", &strict, 9, None).unwrap();
    assert_eq!(strict.manifest.left_out["no_consent"], 6);
}

#[tokio::test]
async fn no_secret_and_nothing_personal_leaves_and_each_is_reported() {
    let token = format!("{}_{}", "ghp", "16C7e42F292c6912E7710c838347Ae178B4a");
    let question = format!("My token {token} is refused, write to anna.schmidt@firma.de please");
    let house = house(vec![row(1, &question, "Make a new one in the settings, and revoke that one.")]).await;
    let built = built(&house, &Recipe::default());
    let everything: String = [PARTS[0], PARTS[1], PARTS[2], PREFERENCES, REDACTIONS, MANIFEST]
        .iter()
        .map(|file| String::from_utf8(house.datasets.read("set", 1, file).unwrap()).unwrap())
        .collect();
    assert!(!everything.contains(&token) && !everything.contains("schmidt"), "{everything}");
    assert_eq!(built.manifest.redacted.values().sum::<usize>(), 2);
    assert_eq!(lines(&house, 1, REDACTIONS)[0]["interaction"], Uuid::from_u128(1).to_string());
}

#[tokio::test]
async fn of_two_answers_to_a_question_the_better_one_is_preferred() {
    let question = "How do I keep the old generation bootable?";
    let mut worse = row(2, question, "You cannot, it is removed at once.");
    worse.outcome = Some("failure".into());
    let house = house(vec![row(1, question, "Do not collect garbage, or pin it as a root."), worse]).await;
    built(&house, &Recipe::default());
    let pairs = lines(&house, 1, PREFERENCES);
    assert_eq!(pairs.len(), 1);
    assert_eq!(pairs[0]["prompt"], json!([{ "role": "user", "content": question }]));
    assert_eq!(pairs[0]["chosen"][0]["content"], "Do not collect garbage, or pin it as a root.");
    assert_eq!(pairs[0]["rejected"][0]["content"], "You cannot, it is removed at once.");
    assert_eq!(pairs[0]["metadata"]["rejected"]["outcome"], "failure");
}

#[tokio::test]
async fn rows_that_differ_in_a_number_are_both_kept_and_in_one_part() {
    let rows = (0..40).map(|number| {
        let question =
            format!("How many retries does the service number {number} make before it gives up on the disk?");
        let answer = format!("It makes {number} retries and then tells the operator about the disk.");
        row(number, &question, &answer)
    });
    let house = house(rows.collect()).await;
    let built = built(&house, &Recipe { shares: [0.5, 0.25, 0.25], ..Recipe::default() });
    let sizes = PARTS.map(|part| built.manifest.files[part].rows);
    assert_eq!(sizes.iter().sum::<usize>(), 40);
    assert_eq!(sizes.iter().filter(|size| **size > 0).count(), 1, "{sizes:?}");
}

#[tokio::test]
async fn nothing_makes_an_empty_dataset() {
    let house = house(Vec::new()).await;
    let built = built(&house, &Recipe::default());
    assert_eq!((built.version, built.manifest.looked_at, all(&house, 1).len()), (1, 0, 0));
}

/// Every string of a value, as who reads it has it.
fn strings(value: &Value, told: &mut String) {
    match value {
        Value::String(text) => {
            told.push_str(text);
            told.push('\n');
        }
        Value::Array(values) => values.iter().for_each(|value| strings(value, told)),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            told.push_str(name);
            strings(value, told);
        }),
        _ => {}
    }
}

/// Whether as much is planted as the figures in `docs/BENCHMARKS.md` are of.
#[expect(clippy::disallowed_methods, reason = "the size of a test run, no setting of the product")]
fn is_full_scale() -> bool {
    std::env::var_os("HOLDFAST_SCALE").is_some_and(|scale| scale == "full")
}

#[tokio::test]
async fn nothing_that_was_planted_is_in_any_file_of_an_export() {
    // Detection is not perfect: of passwords and secrets that only a sentence tells of, one in some thousands is missed.
    // So the texts are always the same ones, and at the full size as many may be left as is measured.
    let seed = 313_372_026;
    let is_full = is_full_scale();
    let (count, left_max) = if is_full { (6_000, 6) } else { (600, 0) };
    let samples = corpus::samples(seed, count, &prose::PARAGRAPHS);
    // Each part of an interaction has some: the system's text, what was said before, the question, the answer.
    let rows = samples.chunks_exact(4).enumerate().map(|(number, four)| {
        let mut row = row(number as u128, &four[0].text, &four[1].text);
        row.system = Some(four[2].text.clone());
        row.before = Some(json!([["user", four[3].text]]).to_string());
        if number % 3 == 0 {
            row.outcome = Some("failure".into());
            row.question = Some(format!("{} Is it so?", samples[0].text));
        }
        row
    });
    let house = house(rows.collect()).await;
    let built = built(&house, &Recipe { shares: [0.5, 0.25, 0.25], ..Recipe::default() });
    assert!(built.manifest.redacted.values().sum::<usize>() > count / 2, "seed {seed}: {:?}", built.manifest);
    let mut told = String::new();
    for file in [PARTS[0], PARTS[1], PARTS[2], PREFERENCES, REDACTIONS, MANIFEST] {
        let text = String::from_utf8(house.datasets.read("set", 1, file).unwrap()).unwrap();
        if file == MANIFEST {
            strings(&serde_json::from_str(&text).unwrap(), &mut told);
        } else {
            text.lines().for_each(|line| strings(&serde_json::from_str(line).unwrap(), &mut told));
        }
        told.push_str(&text);
    }
    let planted = samples.iter().flat_map(|sample| sample.planted.iter().map(move |item| (sample, item)));
    let left: Vec<String> = planted
        .map(|(sample, item)| (item.what, &sample.text[item.range.clone()]))
        // A first name of somebody is also a word of prose, and may stand in another row as one.
        .filter(|(what, value)| *what != "user_name" && told.contains(value))
        .map(|(what, value)| format!("{what}: {value}"))
        .collect();
    assert!(left.len() <= left_max, "seed {seed}: {} of {count} left: {left:?}", left.len());
}

/// Vectors that agree where two texts have the word `moon`, or both have not.
fn by_moon(texts: Vec<String>) -> Result<Encoded, NotEncoded> {
    let vector = |text: &String| if text.contains("moon") { vec![1.0, 0.0] } else { vec![0.0, 1.0] };
    Ok(Encoded { space: "moon".into(), vectors: texts.iter().map(vector).collect() })
}

#[tokio::test]
async fn vectors_decide_where_words_do_not_and_the_manifest_tells() {
    let question = "How long does the whole procedure take, and who has to be in the room for all of it to be right?";
    let answer = "We found that the whole procedure takes much longer than anybody in the room had expected of it";
    let rows = |other: &str| vec![row(1, question, answer), row(2, question, &answer.replace("room", other))];
    let build_with = async |other: &str, encode: Option<EncodeNow<'_>>| {
        let house = house(rows(other)).await;
        super::build(&house.store, &house.datasets, "set", &Recipe::default(), 9, encode).unwrap().manifest
    };
    let kept = |manifest: &Manifest| manifest.left_out.get("near_duplicate").copied().unwrap_or_default();

    let without = build_with("hall", None).await;
    assert_eq!((kept(&without), &without.judged), (0, &Judged { unsure: 1, ..Judged::default() }));
    let same = build_with("hall", Some(&by_moon)).await;
    let expected = Judged { space: Some("moon".into()), pairs: 1, same: 1, ..Judged::default() };
    assert_eq!((kept(&same), &same.judged), (1, &expected));
    assert_eq!(same, build_with("hall", Some(&by_moon)).await);
    let other = build_with("moon", Some(&by_moon)).await;
    assert_eq!((kept(&other), &other.judged), (0, &Judged { same: 0, ..expected }));
    let broken = |_: Vec<String>| Err(NotEncoded { reason: "the model is away".into() });
    let broken = build_with("hall", Some(&broken)).await;
    assert_eq!((kept(&broken), broken.judged.unsure), (0, 1));
    assert_eq!(broken.judged.problem.as_deref(), Some("the model is away"));
}
