mod corpus;
mod measure;
mod prose;

use super::*;

#[test]
fn first() {
    let seed: u64 = option_env!("SEED").and_then(|s| s.parse().ok()).unwrap_or(1);
    let samples = corpus::samples(seed, 6000, &prose::PARAGRAPHS);
    let measured =
        measure::measure(&samples, |text| find(text).into_iter().map(|f| (f.kind.as_str(), f.range)).collect());
    println!("{measured}");
    for m in measured.missed.iter().take(60) {
        println!("MISSED {m}");
    }
    for m in measured.wrong.iter().take(60) {
        println!("WRONG {m}");
    }
}
