//! What survives on disk: damage is found, a full disk loses nothing, and neither does a kill.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Barrier,
};

use super::{
    ExactIndex, GraphOptions, UsearchIndex, VectorError, VectorIndex,
    contract::{DIMENSIONS, FINGERPRINT, Step, vector},
};

/// Tells the re-executed test binary where its index is; unset in an ordinary run.
const CHILD_DIRECTORY: &str = "HOLDFAST_TEST_VECTORS_DIRECTORY";

const ROWS: &str = "rows.holdfast";

fn open(directory: &Path) -> Result<UsearchIndex, VectorError> {
    let options = GraphOptions { min_rows: 40, pending_rows: 0, removed_rows: 50, ..GraphOptions::default() };
    UsearchIndex::open_with(directory, DIMENSIONS, FINGERPRINT, options)
}

/// The change that leads to a position; the same in every process.
fn change(position: u64) -> Step {
    let mut random = fastrand::Rng::with_seed(position);
    let mut keys = |count: usize| (0..count).map(|_| random.u64(0..300)).collect::<Vec<_>>();
    Step { removed: keys(8), added: keys(12).into_iter().map(|key| (key, vector(key, position))).collect(), position }
}

/// The digest after every change up to a position.
fn digest_at(position: u64) -> [u8; 32] {
    let directory = tempfile::tempdir().unwrap();
    let model = ExactIndex::open(directory.path(), DIMENSIONS, FINGERPRINT).unwrap();
    for position in 1..=position {
        change(position).apply(&model).unwrap();
    }
    model.digest()
}

#[expect(clippy::disallowed_methods, reason = "the test's own child; killed or awaited below")]
fn child(test: &str, directory: &Path, wrapper: &[&str]) -> Command {
    let test_binary = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(test_binary),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(test_binary);
            command
        }
    };
    command
        .args(["--exact", &format!("vectors::durability_tests::{test}"), "--nocapture"])
        .env(CHILD_DIRECTORY, directory)
        .stdout(Stdio::piped());
    command
}

#[expect(clippy::disallowed_methods, reason = "set by the parent test for its child alone")]
fn directory_given() -> Option<std::path::PathBuf> {
    std::env::var_os(CHILD_DIRECTORY).map(Into::into)
}

#[test]
fn any_flipped_byte_and_any_truncation_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path()).unwrap();
    for position in 1..=20 {
        change(position).apply(&index).unwrap();
    }
    index.settle();
    index.checkpoint().unwrap();
    drop(index);
    let path = directory.path().join(ROWS);
    let whole = fs::read(&path).unwrap();
    let refuse = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        match open(directory.path()) {
            Err(error) => assert!(error.is_damage(), "{what}: {error}"),
            Ok(_) => panic!("{what} was not found"),
        }
    };
    // Every byte of what decides sizes, and some of the rest.
    let mut random = fastrand::Rng::with_seed(3);
    let mut places: Vec<usize> = (0..200).collect();
    places.extend((0..100).map(|_| random.usize(200..whole.len())));
    for at in places {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << random.u32(0..8);
        refuse(&bytes, &format!("a bit of byte {at}"));
    }
    for length in (0..130).chain([whole.len() / 2, whole.len() - 1]) {
        refuse(&whole[..length], &format!("a cut after {length} bytes"));
    }
    refuse(&[whole.clone(), vec![0]].concat(), "a byte too many");
    fs::write(&path, &whole).unwrap();
    assert_eq!(open(directory.path()).unwrap().digest(), digest_at(20));
}

#[test]
fn another_space_or_size_is_refused_and_nothing_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path()).unwrap();
    change(1).apply(&index).unwrap();
    index.checkpoint().unwrap();
    drop(index);
    let before = fs::read(directory.path().join(ROWS)).unwrap();
    let refusals = [
        UsearchIndex::open(directory.path(), DIMENSIONS + 1, FINGERPRINT).err(),
        UsearchIndex::open(directory.path(), DIMENSIONS, "contract/2").err(),
    ];
    for refusal in refusals {
        assert!(refusal.unwrap().is_damage());
    }
    assert_eq!(fs::read(directory.path().join(ROWS)).unwrap(), before);
}

#[test]
fn left_overs_of_a_crash_are_swept_and_strangers_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path()).unwrap();
    for position in 1..=20 {
        change(position).apply(&index).unwrap();
    }
    index.settle();
    index.checkpoint().unwrap();
    drop(index);
    for name in ["rows.holdfast.tmp", "00000000000000ff.graph", "stranger.txt"] {
        fs::write(directory.path().join(name), "x").unwrap();
    }
    drop(open(directory.path()).unwrap());
    let entries = fs::read_dir(directory.path()).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["0000000000000001.graph", ROWS, "stranger.txt"]);
}

#[test]
fn a_full_disk_leaves_the_former_checkpoint_and_the_next_attempt_works() {
    let directory = tempfile::tempdir().unwrap();
    // A file that may not grow answers as a full disk does, if its signal is ignored.
    let ignoring = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];
    let output = child("full_disk_child", directory.path(), &ignoring).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("refused and retried"), "{said}");
    assert_eq!(open(directory.path()).unwrap().digest(), digest_at(21));
}

#[test]
fn full_disk_child() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Some(directory) = directory_given() else {
        return;
    };
    let limit = |bytes| {
        let maximum = getrlimit(Resource::Fsize).maximum;
        let limit = Rlimit { current: bytes, maximum };
        setrlimit(Resource::Fsize, limit).unwrap();
    };
    let index = open(&directory).unwrap();
    for position in 1..=20 {
        change(position).apply(&index).unwrap();
    }
    index.settle();
    index.checkpoint().unwrap();
    let size = fs::metadata(directory.join(ROWS)).unwrap().len();
    change(21).apply(&index).unwrap();
    for bytes in [0, 100, size / 10, size / 2, size - 1] {
        limit(Some(bytes));
        let error = index.checkpoint().unwrap_err();
        limit(None);
        assert!(matches!(error, VectorError::Io { .. }), "{error}");
        assert_eq!(index.durable_position(), 20);
        let leftover = fs::read_dir(&directory).unwrap().flatten();
        let leftover = leftover.filter(|entry| entry.file_name().to_string_lossy().ends_with("tmp"));
        assert_eq!(leftover.count(), 0, "a half-written file takes the room");
        assert_eq!(open(&directory).unwrap().digest(), digest_at(20));
    }
    index.checkpoint().unwrap();
    assert_eq!(index.durable_position(), 21);
    println!("refused and retried");
}

#[test]
fn a_checkpoint_taken_during_changes_is_of_one_position() {
    const ROUNDS: u64 = 16;
    const CHANGES: u64 = 25;
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("live");
    let index = open(&live).unwrap();
    let round_begins = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for position in 1..=ROUNDS * CHANGES {
                if position % CHANGES == 1 {
                    round_begins.wait();
                }
                change(position).apply(&index).unwrap();
            }
        });
        for round in 0..ROUNDS {
            round_begins.wait();
            index.checkpoint().unwrap();
            let copy = directory.path().join(format!("copy-{round}"));
            fs::create_dir(&copy).unwrap();
            for entry in fs::read_dir(&live).unwrap().flatten() {
                fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
            }
            let copy = open(&copy).unwrap();
            assert_eq!(copy.position(), index.durable_position());
            assert_eq!(copy.digest(), digest_at(copy.position()), "round {round}");
        }
    });
    assert_eq!(index.digest(), digest_at(ROUNDS * CHANGES));
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_checkpoint() {
    const KILLS: usize = 30;
    let seed = 4;
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let mut durable = 0;
    for kill in 0..KILLS {
        let mut process = child("killed_child", directory.path(), &[]).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut reported = 0;
        let mut left = random.usize(1..12);
        while left > 0 {
            let line = lines.next().expect("the child ended early").unwrap();
            if let Some(position) = line.strip_prefix("durable ") {
                reported = position.parse().unwrap();
                left -= 1;
            }
        }
        // Somewhere within the next few checkpoints.
        for _ in 0..random.u32(0..3_000_000) {
            std::hint::spin_loop();
        }
        process.kill().unwrap();
        process.wait().unwrap();
        let index = open(directory.path()).unwrap();
        let (position, digest) = (index.position(), index.digest());
        assert!(position >= reported && reported > durable, "seed {seed}, kill {kill}");
        assert_eq!(digest, digest_at(position), "seed {seed}, kill {kill}");
        durable = reported;
    }
}

#[test]
fn killed_child() {
    let Some(directory) = directory_given() else {
        return;
    };
    let index = open(&directory).unwrap();
    let mut stdout = std::io::stdout();
    // Ends with the kill, or where nobody listens any more.
    for position in index.position() + 1.. {
        change(position).apply(&index).unwrap();
        index.checkpoint().unwrap();
        writeln!(stdout, "durable {position}").unwrap();
        stdout.flush().unwrap();
    }
}
