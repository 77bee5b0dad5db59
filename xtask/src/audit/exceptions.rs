//! What is known, excused and by whom: `security-exceptions.toml`.
//!
//! An exception names one finding by its id and holds until its date. One that is expired, that says not who answers
//! for it and why, or that excuses nothing is a finding itself, which nothing can excuse.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use crate::repository::TrackedFile;

use super::Finding;

/// Where exceptions stand.
pub const FILE: &str = "security-exceptions.toml";
/// The longest an exception may be granted for, in days.
const DAYS_MAX: i64 = 366;
const SECONDS_PER_DAY: u64 = 86_400;

/// A calendar day; days compare as they should because the fields are in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day {
    year: i64,
    month: i64,
    day: i64,
}

/// The exceptions as they stand in the file.
pub struct Exceptions {
    entries: Vec<Table>,
}

/// Reads the file; none is no exceptions.
pub fn read(files: &[TrackedFile]) -> Result<Exceptions> {
    let Some(file) = files.iter().find(|file| file.path == FILE) else {
        return Ok(Exceptions { entries: Vec::new() });
    };
    parse(file.text().with_context(|| format!("{FILE} is not text"))?)
}

fn parse(text: &str) -> Result<Exceptions> {
    let mut table: Table = text.parse().with_context(|| format!("{FILE} is not TOML"))?;
    let entries = match table.remove("exception") {
        None => Vec::new(),
        Some(Value::Array(entries)) => entries
            .into_iter()
            .map(|entry| entry.try_into::<Table>().with_context(|| format!("{FILE}: an exception is no table")))
            .collect::<Result<_>>()?,
        Some(_) => bail!("{FILE}: write each exception as [[exception]]"),
    };
    if let Some(key) = table.keys().next() {
        bail!("{FILE}: `{key}` means nothing here; write [[exception]]");
    }
    Ok(Exceptions { entries })
}

impl Exceptions {
    /// Takes what is excused out of the findings, and puts in what is wrong with the exceptions.
    pub fn apply(&self, findings: &mut Vec<Finding>, today: &Day) -> Vec<Finding> {
        let mut excused = Vec::new();
        let mut wrong = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            match sound(entry, today) {
                Err((message, remedy)) => {
                    let name =
                        entry.get("id").and_then(Value::as_str).map_or_else(|| (at + 1).to_string(), str::to_owned);
                    wrong.push(Finding::new("exception.unsound", format!("{FILE}#{name}"), message, remedy));
                }
                Ok(id) => {
                    let (known, others) = findings.drain(..).partition::<Vec<_>, _>(|finding| finding.id() == id);
                    *findings = others;
                    if known.is_empty() {
                        let remedy = "remove it: what it excused is gone, or is called otherwise now";
                        wrong.push(Finding::new("exception.unused", format!("{FILE}#{id}"), "excuses nothing", remedy));
                    }
                    excused.extend(known);
                }
            }
        }
        findings.extend(wrong);
        excused
    }
}

/// The id of an exception that has everything and still holds; else what is wrong and what would be right.
fn sound<'a>(entry: &'a Table, today: &Day) -> Result<&'a str, (String, String)> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    for key in ["id", "owner", "reason", "expires"] {
        if text(key).is_none() {
            let remedy =
                format!("give it `{key} = \"…\"`; an exception has an id, an owner, a reason and a day it expires");
            return Err((format!("has no {key}"), remedy));
        }
    }
    let expires = text("expires").unwrap_or_default();
    let Some(day) = Day::parse(expires) else {
        return Err((format!("expires on {expires:?}, which is no day"), "write the day as \"2030-12-31\"".to_owned()));
    };
    if day < *today {
        return Err((format!("expired on {expires}"), "mend what it excuses, or have its owner look again".to_owned()));
    }
    if day.number() - today.number() > DAYS_MAX {
        let message = format!("expires on {expires}, in more than {DAYS_MAX} days");
        return Err((message, "choose a day within a year: an exception is looked at again".to_owned()));
    }
    Ok(text("id").unwrap_or_default())
}

/// Today, in UTC.
pub fn today() -> Day {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Day::of_number((seconds / SECONDS_PER_DAY) as i64)
}

impl Day {
    fn parse(text: &str) -> Option<Self> {
        let (year, rest) = text.split_once('-')?;
        let (month, day) = rest.split_once('-')?;
        let all_digits = [year, month, day].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        if !all_digits || (year.len(), month.len(), day.len()) != (4, 2, 2) {
            return None;
        }
        let found = Self { year: year.parse().ok()?, month: month.parse().ok()?, day: day.parse().ok()? };
        // The 31st of February has a number, but it is that of another day.
        (Self::of_number(found.number()) == found).then_some(found)
    }

    /// Days since 1970-01-01 in the Gregorian calendar, counted in years that begin in March so that the leap day is
    /// the last of its year (E. G. Richards, Calendars, in: Explanatory Supplement to the Astronomical Almanac, 2013).
    fn number(&self) -> i64 {
        let year = if self.month <= 2 { self.year - 1 } else { self.year };
        let month = (self.month + 9) % 12;
        let day_of_year = (153 * month + 2) / 5 + self.day - 1;
        year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
    }

    fn of_number(number: i64) -> Self {
        let day = number + 719_468;
        let era = day.div_euclid(146_097);
        let of_era = day.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let civil = if month < 10 { month + 3 } else { month - 9 };
        let year = year_of_era + era * 400 + i64::from(civil <= 2);
        Self { year, month: civil, day: day_of_year - (153 * month + 2) / 5 + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: Day = Day { year: 2026, month: 3, day: 1 };

    fn check(expires: &str, owner: &str, id: &str) -> (Vec<String>, usize) {
        let text =
            format!("[[exception]]\nid = \"{id}\"\nowner = \"{owner}\"\nreason = \"known\"\nexpires = \"{expires}\"\n");
        let mut findings = vec![Finding::new("a.rule", "a/file", "is wrong", "mend it")];
        let excused = parse(&text).unwrap().apply(&mut findings, &TODAY);
        (findings.iter().map(|finding| finding.rule.to_owned()).collect(), excused.len())
    }

    #[test]
    fn a_sound_exception_excuses_its_finding_and_no_other() {
        assert_eq!(check("2026-03-01", "ops", "a.rule@a/file"), (vec![], 1));
        assert_eq!(
            check("2026-03-01", "ops", "a.rule@another"),
            (vec!["a.rule".to_owned(), "exception.unused".to_owned()], 0)
        );
    }

    #[test]
    fn an_exception_that_is_expired_endless_or_nobodys_excuses_nothing() {
        for (expires, owner) in
            [("2026-02-28", "ops"), ("2028-01-01", "ops"), ("2026-02-30", "ops"), ("soon", "ops"), ("2026-04-01", " ")]
        {
            let expected = vec!["a.rule".to_owned(), "exception.unsound".to_owned()];
            assert_eq!(check(expires, owner, "a.rule@a/file"), (expected, 0), "{expires} {owner:?}");
        }
    }

    #[test]
    fn an_exception_without_a_reason_is_unsound() {
        let text = "[[exception]]\nid = \"a.rule@a/file\"\nowner = \"ops\"\nexpires = \"2026-04-01\"\n";
        let mut findings = Vec::new();
        parse(text).unwrap().apply(&mut findings, &TODAY);
        assert!(findings[0].message.contains("no reason"), "{findings:?}");
    }

    #[test]
    fn a_file_that_is_misspelt_is_refused() {
        assert!(parse("[[exeption]]\nid = 'x'\n").is_err());
        assert!(parse("[exception]\nid = 'x'\n").is_err());
        assert!(parse("").unwrap().entries.is_empty());
    }

    #[test]
    fn days_are_numbered_as_the_calendar_has_them() {
        for (text, number) in [("1970-01-01", 0), ("2000-02-29", 11_016), ("2026-03-01", 20_513), ("1969-12-31", -1)] {
            let day = Day::parse(text).unwrap();
            assert_eq!(day.number(), number, "{text}");
            assert_eq!(Day::of_number(number), day, "{text}");
        }
        assert!(Day::parse("2026-13-01").is_none() && Day::parse("2025-02-29").is_none());
    }
}
