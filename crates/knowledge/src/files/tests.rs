//! Trees as users have them, and as they should not be.

use std::{
    fs,
    io::Write,
    ops::ControlFlow,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
        net::UnixListener,
        process::CommandExt,
    },
    process::Command,
    thread,
};

use super::*;

/// A tree in a temporary directory.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.0.path().join(relative)
    }

    fn file(&self, relative: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::create_dir_all(self.path(relative).parent().unwrap()).unwrap();
        fs::write(self.path(relative), content).unwrap();
        self
    }

    fn link(&self, relative: &str, target: impl AsRef<Path>) -> &Self {
        symlink(target, self.path(relative)).unwrap();
        self
    }

    fn found(&self) -> Vec<Found> {
        all(self.0.path(), &FileLimits::default())
    }

    /// The paths that may be read, then the others with their reasons.
    fn listing(&self) -> (Vec<String>, Vec<String>) {
        let root = fs::canonicalize(self.0.path()).unwrap();
        let (mut files, mut skipped) = (Vec::new(), Vec::new());
        for found in self.found() {
            match found {
                Found::File(entry) => files.push(entry.relative),
                Found::Skipped(skip) => {
                    let path = skip.path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                    skipped.push(format!("{path} {}", skip.reason.code()));
                }
            }
        }
        (files, skipped)
    }

    fn entry(&self, relative: &str) -> FileEntry {
        let is_it = |found| match found {
            Found::File(entry) if entry.relative == relative => Some(entry),
            _ => None,
        };
        self.found().into_iter().find_map(is_it).unwrap()
    }

    fn read(&self, relative: &str) -> Result<ReadFile, SkipReason> {
        read(&self.entry(relative), &FileLimits::default())
    }
}

fn all(root: &Path, limits: &FileLimits) -> Vec<Found> {
    let mut found = Vec::new();
    walk(root, limits, &mut |one| {
        found.push(one);
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

fn make_fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
}

#[test]
fn files_come_in_the_order_of_their_names() {
    let tree = Tree::new();
    tree.file("b.md", "")
        .file("a/z", "")
        .file("a/b/c", "")
        .file("B", "")
        .file("a.md", "")
        .file(".hidden", "")
        .file(".git/config", "");
    assert_eq!(tree.listing(), (["B", "a/b/c", "a/z", "a.md", "b.md"].map(str::to_owned).to_vec(), vec![]));
}

#[test]
fn ignore_files_count_at_every_level_and_ours_count_more() {
    let tree = Tree::new();
    tree.file(".gitignore", "*.log\n/build/\n!keep.log\nnode_modules\n")
        .file(".holdfastignore", "secret*\n!wanted.log\n")
        .file("sub/.gitignore", "\u{feff}*.tmp\n!a.log\nwanted.log\n")
        .file("sub/.holdfastignore", "\u{0}[invalid\n/only-here\n");
    for name in [
        "a.log",
        "keep.log",
        "build/x",
        "deep/build/x",
        "node_modules/x",
        "deep/node_modules/x",
        "secret.md",
        "sub/a.log",
        "sub/b.log",
        "sub/a.tmp",
        "a.tmp",
        "sub/wanted.log",
        "sub/only-here",
        "only-here",
        "sub/deep/only-here",
    ] {
        tree.file(name, "");
    }
    let expected =
        ["a.tmp", "deep/build/x", "keep.log", "only-here", "sub/a.log", "sub/deep/only-here", "sub/wanted.log"];
    assert_eq!(tree.listing(), (expected.map(str::to_owned).to_vec(), vec![]));
}

#[test]
fn an_ignore_file_that_is_a_fifo_or_a_link_is_not_waited_for() {
    let tree = Tree::new();
    tree.file("a", "").file("sub/b", "").file("pattern", "*\n");
    make_fifo(&tree.path(".gitignore"));
    tree.link("sub/.holdfastignore", "../pattern");
    assert_eq!(tree.listing().0, ["a", "pattern", "sub/b"]);
}

#[test]
fn links_are_followed_inside_the_root_only() {
    let outside = Tree::new();
    outside.file("secret", "secret").file("dir/secret", "secret");
    let tree = Tree::new();
    tree.file("real/a.md", "text").file("z", "");
    tree.link("file", "real/a.md")
        .link("directory", "real")
        .link("again", "real")
        .link("absolute", tree.path("real/a.md"))
        .link("out", outside.path("secret"))
        .link("outdir", outside.path("dir"))
        .link("up", "../..")
        .link("real/loop", "..")
        .link("self", "self")
        .link("broken", "nowhere");
    let (files, skipped) = tree.listing();
    assert_eq!(files, ["absolute", "again/a.md", "file", "real/a.md", "z"]);
    assert_eq!(
        skipped,
        [
            "again/loop symlink_loop",
            "broken symlink_broken",
            "directory symlink_repeated",
            "out symlink_outside",
            "outdir symlink_outside",
            "real/loop symlink_loop",
            "self symlink_loop",
            "up symlink_outside",
        ]
    );
    let entry = tree.entry("again/a.md");
    assert_eq!((entry.real.as_path(), entry.identity), (Path::new("real/a.md"), tree.entry("real/a.md").identity));
    assert_eq!(read(&entry, &FileLimits::default()).unwrap().text, "text");
}

#[test]
fn links_that_multiply_are_walked_once_each() {
    let tree = Tree::new();
    for level in 0..30 {
        tree.file(&format!("d{level}/file"), "");
        tree.link(&format!("d{level}/left"), format!("../d{}", level + 1));
        tree.link(&format!("d{level}/right"), format!("../d{}", level + 1));
    }
    tree.file("d30/file", "");
    assert!(tree.found().len() < 200, "not 2 to the 30th");
}

#[test]
fn links_can_be_refused() {
    let tree = Tree::new();
    tree.file("a", "").link("b", "a");
    let found = all(tree.0.path(), &FileLimits { symlinks: Symlinks::Skip, ..FileLimits::default() });
    assert!(matches!(&found[1], Found::Skipped(skip) if skip.reason == SkipReason::SymlinkSkipped));
}

#[test]
fn what_is_no_regular_file_is_reported_and_never_opened() {
    let tree = Tree::new();
    make_fifo(&tree.path("fifo"));
    let _socket = UnixListener::bind(tree.path("socket")).unwrap();
    tree.link("fifo-link", "fifo").link("device", "/dev/zero");
    let expected = ["device symlink_outside", "fifo not_regular", "fifo-link not_regular", "socket not_regular"];
    assert_eq!(tree.listing(), (vec![], expected.map(str::to_owned).to_vec()));
}

#[test]
fn a_file_swapped_after_the_walk_does_not_block_or_lead_out() {
    let outside = Tree::new();
    outside.file("secret", "secret").file("dir/b", "secret");
    let tree = Tree::new();
    tree.file("a", "text").file("dir/b", "text").file("c", "text").file("d", "text");
    let entries = ["a", "dir/b", "c", "d"].map(|name| tree.entry(name));
    fs::remove_file(tree.path("a")).unwrap();
    make_fifo(&tree.path("a"));
    fs::remove_dir_all(tree.path("dir")).unwrap();
    tree.link("dir", outside.path("dir"));
    fs::remove_file(tree.path("c")).unwrap();
    tree.link("c", outside.path("secret"));
    fs::remove_file(tree.path("d")).unwrap();
    let got = entries.map(|entry| read(&entry, &FileLimits::default()).unwrap_err().code());
    assert_eq!(got, ["not_regular", "unreadable", "unreadable", "vanished"]);
}

#[test]
fn a_huge_file_is_not_read() {
    let tree = Tree::new();
    tree.file("huge", "");
    fs::OpenOptions::new().write(true).open(tree.path("huge")).unwrap().set_len(2 << 30).unwrap();
    assert_eq!(tree.listing(), (vec![], vec!["huge too_large".to_owned()]));

    tree.file("grows", "small");
    let entry = tree.entry("grows");
    fs::OpenOptions::new().write(true).open(tree.path("grows")).unwrap().set_len(2 << 30).unwrap();
    let limit_bytes = FileLimits::default().max_file_bytes;
    assert_eq!(read(&entry, &FileLimits::default()), Err(SkipReason::TooLarge { size_bytes: 2 << 30, limit_bytes }));
}

#[test]
fn a_file_just_within_the_limit_is_read() {
    let tree = Tree::new();
    tree.file("a", "12345678");
    let limits = |max_file_bytes| FileLimits { max_file_bytes, ..FileLimits::default() };
    assert_eq!(read(&tree.entry("a"), &limits(8)).unwrap().text, "12345678");
    assert_eq!(read(&tree.entry("a"), &limits(7)).unwrap_err().code(), "too_large");
}

#[test]
fn a_file_that_changes_is_read_in_one_of_its_states_or_not_at_all() {
    let tree = Tree::new();
    let size = 1 << 20;
    tree.file("a", vec![b'0'; size]);
    let entry = tree.entry("a");
    let path = tree.path("a");
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut generation = 0_u8;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                generation = (generation + 1) % 10;
                fs::File::create(&path).unwrap().write_all(&vec![b'0' + generation; size]).unwrap();
            }
        }
    });
    for _ in 0..200 {
        match read(&entry, &FileLimits::default()) {
            // The writer truncates, then writes: a prefix of one generation is a state the file was in.
            Ok(file) => {
                assert!(file.text.bytes().all(|byte| Some(byte) == file.text.bytes().next()), "a mixture was read")
            }
            Err(reason) => assert_eq!(reason, SkipReason::ChangedWhileRead),
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
}

#[test]
fn directories_that_are_too_deep_are_reported() {
    let tree = Tree::new();
    tree.file("1/2/3/file", "").file("1/2/file", "");
    let found = all(tree.0.path(), &FileLimits { max_depth: 2, ..FileLimits::default() });
    assert!(
        matches!(&found[0], Found::Skipped(skip) if skip.reason == SkipReason::TooDeep { limit: 2 } && skip.path.ends_with("1/2/3"))
    );
    assert!(matches!(&found[1], Found::File(entry) if entry.relative == "1/2/file"));
}

#[test]
fn a_name_that_is_not_utf8_is_reported() {
    let tree = Tree::new();
    fs::write(tree.0.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9")), "").unwrap();
    assert_eq!(tree.listing().1, ["caf\u{fffd} name_not_utf8"]);
}

#[test]
fn what_may_not_be_read_is_reported() {
    if rustix::process::geteuid().is_root() {
        // Nothing is closed to root, so the test runs itself again as nobody.
        return run_as_nobody("files::tests::what_may_not_be_read_is_reported");
    }
    let tree = Tree::new();
    tree.file("closed/a", "").file("b", "text").file("c", "text");
    let entry = tree.entry("b");
    let set_mode = |name: &str, mode| fs::set_permissions(tree.path(name), fs::Permissions::from_mode(mode)).unwrap();
    set_mode("closed", 0);
    set_mode("b", 0);
    let (listing, read) = (tree.listing(), read(&entry, &FileLimits::default()));
    set_mode("", 0);
    let closed_root = walk(tree.0.path(), &FileLimits::default(), &mut |_| ControlFlow::Continue(())).unwrap_err();
    set_mode("", 0o700);
    set_mode("closed", 0o700);
    assert_eq!(listing, (vec!["b".to_owned(), "c".to_owned()], vec!["closed unreadable".to_owned()]));
    assert_eq!(read, Err(SkipReason::Unreadable(io::ErrorKind::PermissionDenied)));
    assert!(matches!(closed_root, FilesError::Root { source, .. } if source.kind() == io::ErrorKind::PermissionDenied));
}

/// Runs one test of this binary without the rights of root, from a copy that nobody may execute.
fn run_as_nobody(test: &str) {
    const NOBODY: u32 = 65_534;
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = directory.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test runs itself under another user and waits for it")]
    let output = Command::new(&copy).args(["--exact", test]).current_dir("/").uid(NOBODY).gid(NOBODY).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_root_may_be_a_file_or_a_link_and_must_exist() {
    let tree = Tree::new();
    tree.file("sub/.hidden.md", "text").link("link", "sub/.hidden.md");
    for name in ["sub/.hidden.md", "link"] {
        let found = all(&tree.path(name), &FileLimits::default());
        let [Found::File(entry)] = found.as_slice() else { panic_with(&found) };
        assert_eq!(entry.relative, ".hidden.md");
        assert_eq!(read(entry, &FileLimits::default()).unwrap().text, "text");
    }
    let mut nothing = |_| ControlFlow::Continue(());
    let missing = walk(&tree.path("missing"), &FileLimits::default(), &mut nothing).unwrap_err();
    assert!(matches!(missing, FilesError::Root { source, .. } if source.kind() == io::ErrorKind::NotFound));
    make_fifo(&tree.path("fifo"));
    let fifo = walk(&tree.path("fifo"), &FileLimits::default(), &mut nothing).unwrap_err();
    assert!(matches!(fifo, FilesError::NotIndexable { .. }));
}

fn panic_with(found: &[Found]) -> ! {
    panic!("unexpected: {found:?}")
}

#[test]
fn a_visitor_can_stop_the_walk() {
    let tree = Tree::new();
    tree.file("a", "").file("b", "").file("c", "");
    let mut seen = 0;
    walk(tree.0.path(), &FileLimits::default(), &mut |_| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(seen, 2);
}

#[test]
fn every_reason_has_a_code_and_a_sentence() {
    let reasons = [
        SkipReason::Binary,
        SkipReason::TooLarge { size_bytes: 2, limit_bytes: 1 },
        SkipReason::Unreadable(io::ErrorKind::PermissionDenied),
        SkipReason::Undecodable,
        SkipReason::SymlinkOutside,
        SkipReason::SymlinkLoop,
        SkipReason::SymlinkBroken,
        SkipReason::SymlinkRepeated,
        SkipReason::SymlinkSkipped,
        SkipReason::NotRegular,
        SkipReason::ChangedWhileRead,
        SkipReason::Vanished,
        SkipReason::NameNotUtf8,
        SkipReason::TooDeep { limit: 1 },
    ];
    let codes: std::collections::BTreeSet<_> = reasons.iter().map(SkipReason::code).collect();
    assert_eq!(codes.len(), reasons.len(), "codes are unique");
    assert!(
        codes
            .iter()
            .all(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'))
    );
    assert!(reasons.iter().all(|reason| reason.to_string().contains(' ')));
}

#[test]
fn encodings_are_told_apart() {
    let utf16 = |text: &str, big: bool| -> Vec<u8> {
        text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    };
    let with_mark = |text: &str, big: bool| [utf16("\u{feff}", big), utf16(text, big)].concat();
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("empty", vec![], "", "utf-8"),
        ("a lone mark", b"\xef\xbb\xbf".to_vec(), "", "utf-8"),
        ("a lone UTF-16 mark", b"\xff\xfe".to_vec(), "", "utf-16le"),
        ("UTF-8", "naïve 日本 🦀".into(), "naïve 日本 🦀", "utf-8"),
        ("UTF-8 with mark", "\u{feff}a".into(), "a", "utf-8"),
        ("UTF-16 LE", with_mark("naïve 日本 🦀", false), "naïve 日本 🦀", "utf-16le"),
        ("UTF-16 BE", with_mark("naïve 日本 🦀", true), "naïve 日本 🦀", "utf-16be"),
        ("UTF-16 LE without mark", utf16("plain words, naïve", false), "plain words, naïve", "utf-16le"),
        ("UTF-16 BE without mark", utf16("plain words, naïve", true), "plain words, naïve", "utf-16be"),
        (
            "Windows-1252",
            b"caf\xe9 \x93quoted\x94 \x96 Stra\xdfe, 5 \x80".to_vec(),
            "café “quoted” – Straße, 5 €",
            "windows-1252",
        ),
    ];
    for (name, bytes, text, encoding) in cases {
        let tree = Tree::new();
        tree.file("a", &bytes);
        let file = tree.read("a").unwrap();
        assert_eq!((file.text.as_str(), file.encoding.name()), (text, encoding), "{name}");
        assert_eq!(file.hash, *blake3::hash(&bytes).as_bytes(), "{name}");
    }
}

#[test]
fn what_is_no_text_is_told_from_what_cannot_be_decoded() {
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("zeros", b"some\0text".to_vec(), "binary"),
        ("a zero far behind", [b"word ".repeat(4_000), b"\0".to_vec()].concat(), "binary"),
        ("an image", b"\x89PNG\r\n\x1a\n".to_vec(), "binary"),
        ("a PDF", b"%PDF-1.7 text".to_vec(), "binary"),
        ("control characters", b"\x01\x02\x03 a".to_vec(), "binary"),
        ("invalid UTF-8", b"words \xff\xfe more".to_vec(), "undecodable"),
        ("a broken sequence", b"words \xc3\x28 more".to_vec(), "undecodable"),
        ("damaged UTF-8", [b"caf\xc3\xa9 ".repeat(5), b"caf\xe9".to_vec()].concat(), "undecodable"),
        ("a mark, then no UTF-8", b"\xef\xbb\xbfcaf\xe9".to_vec(), "undecodable"),
        ("half a unit", b"\xff\xfea\0b".to_vec(), "undecodable"),
        ("half a pair", b"\xff\xfe\x00\xd8a\0".to_vec(), "undecodable"),
        ("UTF-32", b"\xff\xfe\0\0a\0\0\0".to_vec(), "binary"),
        ("Shift JIS", b"\x93\xfa\x96\x7b\x8c\xea\x82\xcc\x83\x65".to_vec(), "undecodable"),
        ("KOI8-R", b"\xf0\xd2\xc9\xd7\xc5\xd4 \xcd\xc9\xd2".to_vec(), "undecodable"),
    ];
    for (name, bytes, code) in cases {
        let tree = Tree::new();
        tree.file("a", &bytes);
        assert_eq!(tree.read("a").unwrap_err().code(), code, "{name}");
    }
}

#[test]
fn many_files_are_visited_in_bounded_memory() {
    let tree = Tree::new();
    for directory in 0..20 {
        fs::create_dir(tree.path(&format!("{directory}"))).unwrap();
        for file in 0..100 {
            fs::write(tree.path(&format!("{directory}/{file}")), "same").unwrap();
        }
    }
    let mut count = 0;
    walk(tree.0.path(), &FileLimits::default(), &mut |found| {
        count += usize::from(matches!(found, Found::File(_)));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(count, 2_000);
}
