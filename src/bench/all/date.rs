//! The date of a page.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY_S: u64 = 86_400;

/// Today in UTC, as `YYYY-MM-DD`.
pub(super) fn today() -> String {
    // A clock before 1970 is set wrongly; the page then says 1970.
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    of_day(since.map_or(0, |since| since.as_secs() / DAY_S))
}

/// The date `days` after 1 January 1970, by counting years from March on, so that a leap day is a year's
/// last (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days).
fn of_day(days: u64) -> String {
    /// Days from 1 March of the year 0 to 1 January 1970.
    const EPOCH: u64 = 719_468;
    const ERA_DAYS: u64 = 146_097;
    let days = days + EPOCH;
    let (era, of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates_across_leap_days_and_centuries() {
        for (days, date) in [
            (0, "1970-01-01"),
            (31, "1970-02-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_783, "2026-11-26"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(of_day(days), date);
        }
    }
}
