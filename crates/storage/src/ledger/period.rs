//! Days and months, in UTC.

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// In which time a budget may be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// A day, by UTC.
    Day,
    /// A calendar month, by UTC.
    Month,
    /// All time.
    Total,
}

impl Period {
    /// Every period there is.
    pub const ALL: [Self; 3] = [Self::Day, Self::Month, Self::Total];

    /// The word it is written as.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    /// The period of that name.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|period| period.as_str() == word)
    }

    /// When the one that a moment is in began; Unix milliseconds. All time began with 1970.
    pub fn start_ms(self, now_ms: i64) -> i64 {
        let day = now_ms.div_euclid(DAY_MS);
        match self {
            Self::Day => day.saturating_mul(DAY_MS),
            Self::Month => first_of_month(day).0.saturating_mul(DAY_MS),
            Self::Total => 0,
        }
    }

    /// When the next one begins, if ever; Unix milliseconds.
    pub fn end_ms(self, now_ms: i64) -> Option<i64> {
        let day = now_ms.div_euclid(DAY_MS);
        match self {
            Self::Day => Some((day + 1).saturating_mul(DAY_MS)),
            Self::Month => Some(first_of_month(day).1.saturating_mul(DAY_MS)),
            Self::Total => None,
        }
    }
}

/// The first days of a day's month and of the next one, in days since 1970. After Howard Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>): years begin in March, so that the day that comes every four
/// years is their last.
fn first_of_month(day: i64) -> (i64, i64) {
    const ERA_DAYS: i64 = 146_097;
    // Days between 0000-03-01 and 1970-01-01.
    let shifted = day + 719_468;
    let of_era = shifted.rem_euclid(ERA_DAYS);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let first = |month: i64| (153 * month + 2) / 5;
    // February, the twelfth here, has as many days as its year leaves.
    let year_days = if (year + 1) % 4 == 0 && ((year + 1) % 100 != 0 || (year + 1) % 400 == 0) { 366 } else { 365 };
    let next = if month == 11 { year_days } else { first(month + 1) };
    (day - of_year + first(month), day - of_year + next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_as_long_as_the_calendar_says() {
        // By counting from the epoch, which the arithmetic above does not do.
        let mut first = 0;
        for year in 1970..2_500 {
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let february = if is_leap { 29 } else { 28 };
            for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
                for day in first..first + days {
                    assert_eq!(first_of_month(day), (first, first + days), "day {day} of year {year}");
                }
                first += days;
            }
        }
        assert_eq!(first_of_month(-1), (-31, 0), "December of 1969");
    }

    #[test]
    fn a_moment_is_in_the_period_that_began_last() {
        // 2024-02-29T23:59:59.999Z and the moment after.
        let last = 1_709_251_199_999;
        assert_eq!(Period::Day.start_ms(last), 1_709_164_800_000);
        assert_eq!(Period::Month.start_ms(last), 1_706_745_600_000);
        assert_eq!((Period::Day.end_ms(last), Period::Month.end_ms(last)), (Some(last + 1), Some(last + 1)));
        assert_eq!(Period::Day.start_ms(last + 1), last + 1);
        assert_eq!(Period::Month.start_ms(last + 1), last + 1);
        assert_eq!((Period::Total.start_ms(last), Period::Total.end_ms(last)), (0, None));
        for period in Period::ALL {
            assert_eq!(Period::parse(period.as_str()), Some(period));
            for moment in [i64::MIN, -1, 0, i64::MAX] {
                let _ = (period.start_ms(moment), period.end_ms(moment));
            }
        }
    }
}
