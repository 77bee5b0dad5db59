//! Notes by which compiler the program is built.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=HOLDFAST_RUSTC={}", version().unwrap_or_else(|| "unknown".to_owned()));
}

/// What the compiler that Cargo uses says of itself, without its commit.
fn version() -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "Cargo tells a build script by the environment, and nothing else does"
    )]
    let rustc = std::env::var_os("RUSTC")?;
    #[expect(clippy::disallowed_methods, reason = "the compiler is asked once, while building")]
    let output = std::process::Command::new(rustc).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(1).map(str::to_owned)
}
