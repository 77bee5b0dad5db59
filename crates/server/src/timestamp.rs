//! Instants as clients read them: RFC 3339, UTC, milliseconds. Nothing is parsed here.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix milliseconds as `2026-01-31T23:59:59.123Z`.
pub(crate) fn from_ms(unix_ms: i64) -> String {
    let (days, ms_of_day) = (unix_ms.div_euclid(86_400_000), unix_ms.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (seconds, ms) = (ms_of_day / 1_000, ms_of_day % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The same of a system time; times before 1970 count as 1970.
pub(crate) fn from_system(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    from_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar run backwards without limit.
///
/// Years are counted from March, so that the leap day comes last and months have the lengths of a straight line:
/// month `m` begins on day `(153 m + 2) / 5`. 400 years are 146 097 days; 719 468 days lie between 0000-03-01 and 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(from_ms(unix_ms), expected);
        }
    }

    #[test]
    fn days_follow_one_another_over_a_whole_cycle() {
        let mut before = civil(-1);
        for days in 0..146_097 {
            let (year, month, day) = civil(days);
            let follows = match before {
                (y, m, d) if (y, m) == (year, month) => d + 1 == day,
                (y, m, _) if y == year => m + 1 == month && day == 1,
                (y, 12, 31) => y + 1 == year && (month, day) == (1, 1),
                _ => false,
            };
            assert!(follows, "{before:?} is followed by {year}-{month}-{day}");
            before = (year, month, day);
        }
    }
}
