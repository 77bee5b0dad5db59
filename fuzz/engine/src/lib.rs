//! Brings libFuzzer, which `cargo xtask fuzz` links to `crates/app/examples/fuzz.rs`. Nothing of it is called from here.
