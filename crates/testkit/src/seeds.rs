//! The inputs that fuzzing begins with, and those it found something with, for tests to replay.
//!
//! They lie in `fuzz/seeds/<target>/` of the repository, one file each.

use std::{fs, path::Path};

/// Hands every seed of a target to its function, and then each one cut short and with a byte changed: nearly valid input
/// is where parsers go wrong.
///
/// # Panics
/// Where there are no seeds, and where the function does.
#[expect(clippy::panic, reason = "a test without its input must not pass")]
pub fn replay(target: &str, function: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let seeds: Vec<Vec<u8>> = match fs::read_dir(&folder) {
        Ok(entries) => entries.flatten().filter_map(|entry| fs::read(entry.path()).ok()).collect(),
        Err(error) => panic!("{} cannot be read: {error}", folder.display()),
    };
    assert!(!seeds.is_empty(), "no seeds in {}", folder.display());
    for seed in seeds {
        function(&seed);
        // Some hundred variants of a seed, however long it is.
        let step = seed.len() / 100 + 1;
        for at in (0..seed.len()).step_by(step) {
            function(&seed[..at]);
            for byte in [0, b'"', b'\\', b'{', b'+', b'<', 0xff] {
                let mut changed = seed.clone();
                changed[at] = byte;
                function(&changed);
            }
        }
    }
}
