//! Settings: where they come from, and what happens when they cannot be used.

use std::fs;

use anyhow::Result;

use crate::home::{Home, finished};

#[test]
fn everything_that_is_wrong_is_told_at_once() -> Result<()> {
    let home = Home::bare()?;
    fs::write(home.settings(), "[server]\nlistn = 'x'\n[log]\nlevel = 'loud'\n[knowledge]\nmax_file_bytes = 0\n")?;
    insta::assert_snapshot!(home.transcript(&["up"])?, @"");
    fs::write(home.settings(), "[log]\nlevel = 'loud'\n[knowledge]\nmax_file_bytes = 0\n")?;
    insta::assert_snapshot!(home.transcript(&["config", "check"])?, @"");
    assert!(!home.data_dir().exists(), "nothing was begun");
    Ok(())
}

#[test]
fn only_loopback_is_listened_on() -> Result<()> {
    let home = Home::bare()?;
    insta::assert_snapshot!(home.transcript(&["up", "--listen", "0.0.0.0:8088"])?, @"");
    Ok(())
}

#[test]
fn each_value_says_where_it_comes_from() -> Result<()> {
    let home = Home::bare()?;
    let mut command = home.command(&["config", "show", "--origin", "--listen", "127.0.0.1:0"]);
    command.env("HOLDFAST_LOG__LEVEL", "debug").env("HF_ENDPOINT", "https://mirror.example/");
    insta::assert_snapshot!(home.told(&finished(command)?), @"");
    Ok(())
}

#[test]
fn a_variable_that_is_almost_a_setting_is_told() -> Result<()> {
    let home = Home::bare()?;
    let mut command = home.command(&["config", "check"]);
    command.env("HOLDFAST_LOG_LEVEL", "debug").env("HOLDFAST_LOG__COLOUR", "red").env("HOLDFAST_TEST_BINARY", "x");
    insta::assert_snapshot!(home.told(&finished(command)?), @"");
    Ok(())
}

#[test]
fn a_file_that_is_asked_for_has_to_be_there() -> Result<()> {
    let home = Home::bare()?;
    fs::remove_file(home.settings())?;
    insta::assert_snapshot!(home.transcript(&["config", "check"])?, @"");
    Ok(())
}
