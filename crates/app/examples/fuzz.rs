//! The fuzzer's program: one parser of untrusted input, called again and again by libFuzzer with input it makes.
//!
//! `cargo xtask fuzz` builds it with our crates instrumented and starts it once for each target, whose name it gives as
//! the variable HOLDFAST_FUZZ_TARGET. What must hold of every input is said where the parser is, in `fuzzing` of its
//! crate; that of settings stands here, because they belong to a program and not to a library.
#![no_main]

use std::sync::LazyLock;

// The settings as the program compiles them, and what they need of the rest of it.
#[path = "../src/settings/mod.rs"]
#[expect(dead_code, unused_imports, reason = "only reading is fuzzed; the program uses the rest")]
mod settings;

/// What `settings` needs of the program's `hint`.
mod hint {
    /// An error that may know what a person can do about it.
    pub trait Hint {
        /// What to do.
        #[expect(dead_code, reason = "nobody asks here; the program prints it")]
        fn hint(&self) -> Option<String>;
    }
}

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 8] = [
    ("answer", holdfast_llm::fuzzing::answer),
    ("body", holdfast_server::fuzzing::body),
    ("mcp", holdfast_server::fuzzing::mcp),
    ("filter", holdfast_storage::fuzzing::filter),
    ("cursor", holdfast_knowledge::fuzzing::cursor),
    ("markdown", holdfast_knowledge::fuzzing::markdown),
    ("html", holdfast_knowledge::fuzzing::html),
    ("settings", read_settings),
];

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = settings::environment::variable("HOLDFAST_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    found.map_or(no_target as Target, |(_, function)| *function)
});

fn no_target(_: &[u8]) {
    assert!(TARGETS.is_empty(), "HOLDFAST_FUZZ_TARGET names no target");
}

/// Where a file of settings lies while it is read: one for each process.
static FILE: LazyLock<std::path::PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("holdfast-fuzz-{}.toml", std::process::id())));

/// A settings file: it is refused with each problem named and mended, or what it sets can be used.
fn read_settings(input: &[u8]) {
    if std::fs::write(&*FILE, input).is_err() {
        return;
    }
    let place = settings::Place { data_dir: std::env::temp_dir(), file: settings::SettingsFile::Named(FILE.clone()) };
    match settings::Layers::read(&place, &settings::Flags::default()).settings() {
        Ok(settings) => assert!(settings.listen.ip().is_loopback(), "{}", settings.listen),
        Err(settings::Problems(problems)) => {
            assert!(!problems.is_empty(), "refused without a problem");
            assert!(problems.iter().all(|problem| !problem.remedy.is_empty()), "a problem without a remedy");
        }
    }
}

/// Called by libFuzzer once, before anything else: a broken promise ends the process, which is how it hears of one. A net
/// that a parser hangs below itself does not hide it either.
#[unsafe(no_mangle)]
extern "C" fn LLVMFuzzerInitialize(_: *const i32, _: *const *const *const u8) -> i32 {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        told(panic);
        std::process::abort();
    }));
    0
}

/// Called by libFuzzer for each input.
#[unsafe(no_mangle)]
extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, size: usize) -> i32 {
    let input = if size == 0 {
        &[]
    } else {
        // SAFETY: libFuzzer gives `size` readable bytes at `data`, and changes none of them before this returns
        // (LLVM documentation, libFuzzer, "Fuzz Target").
        unsafe { std::slice::from_raw_parts(data, size) }
    };
    (*TARGET)(input);
    0
}
