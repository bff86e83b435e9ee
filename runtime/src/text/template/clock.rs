//! `strftime_now`: today's date for templates that tell it to the model. Times are UTC, so that a server's answer
//! does not depend on where it stands.

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A moment of the Gregorian calendar, UTC.
struct Moment {
    year: i64,
    /// 1 to 12.
    month: usize,
    /// 1 to 31.
    day: i64,
    /// 0 is Sunday.
    weekday: usize,
    /// 1 to 366.
    day_of_year: i64,
    second_of_day: i64,
}

/// Formats `now` by the directives of C's `strftime` that appear in templates, each also without its leading zero as
/// `%-d`. An unknown directive stays as it is written.
pub(super) fn strftime(format: &str, now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let moment = Moment::of(i64::try_from(seconds).unwrap_or(0));
    let mut out = String::new();
    let mut rest = format;
    while let Some((before, tail)) = rest.split_once('%') {
        out.push_str(before);
        let (plain, directive) = match tail.strip_prefix('-') {
            Some(after) => (true, after),
            None => (false, tail),
        };
        let letter = directive.chars().next();
        match letter.and_then(|letter| moment.field(letter)) {
            Some(field) if plain => out.push_str(without_zeros(&field)),
            Some(field) => out.push_str(&field),
            None => {
                out.push('%');
                rest = tail;
                continue;
            }
        }
        rest = directive.get(1..).unwrap_or_default();
    }
    out + rest
}

fn without_zeros(field: &str) -> &str {
    match field.trim_start_matches('0') {
        "" => "0",
        rest => rest,
    }
}

impl Moment {
    /// Days to a date by the algorithm `civil_from_days` of Howard Hinnant, "chrono-compatible low-level date algorithms".
    fn of(seconds: i64) -> Self {
        let days = seconds.div_euclid(86_400);
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_from_march + 2) / 153;
        let day = day_from_march - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let january_and_february = 59 + i64::from(is_leap);
        let day_of_year = if month > 2 { day_from_march + january_and_february + 1 } else { day_from_march - 306 + 1 };
        Self {
            year,
            month: usize::try_from(month).unwrap_or(1),
            day,
            weekday: usize::try_from((days + 4).rem_euclid(7)).unwrap_or(0),
            day_of_year,
            second_of_day: seconds.rem_euclid(86_400),
        }
    }

    fn field(&self, letter: char) -> Option<String> {
        let hour = self.second_of_day / 3_600;
        let minute = self.second_of_day / 60 % 60;
        let second = self.second_of_day % 60;
        let weekday = DAYS.get(self.weekday).copied().unwrap_or_default();
        let month = self.month.checked_sub(1).and_then(|place| MONTHS.get(place)).copied().unwrap_or_default();
        Some(match letter {
            'Y' => self.year.to_string(),
            'y' => format!("{:02}", self.year.rem_euclid(100)),
            'm' => format!("{:02}", self.month),
            'd' => format!("{:02}", self.day),
            'e' => format!("{:2}", self.day),
            'j' => format!("{:03}", self.day_of_year),
            'H' => format!("{hour:02}"),
            'I' => format!("{:02}", (hour + 11) % 12 + 1),
            'M' => format!("{minute:02}"),
            'S' => format!("{second:02}"),
            'p' => (if hour < 12 { "AM" } else { "PM" }).to_owned(),
            'A' => weekday.to_owned(),
            'a' => first_three(weekday),
            'B' => month.to_owned(),
            'b' | 'h' => first_three(month),
            'F' => format!("{}-{:02}-{:02}", self.year, self.month, self.day),
            'T' => format!("{hour:02}:{minute:02}:{second:02}"),
            'Z' => "UTC".to_owned(),
            'z' => "+0000".to_owned(),
            '%' => "%".to_owned(),
            _ => return None,
        })
    }
}

fn first_three(name: &str) -> String {
    name.chars().take(3).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64, format: &str) -> String {
        strftime(format, UNIX_EPOCH + Duration::from_secs(seconds))
    }

    // Expected texts are those of Python's `datetime.fromtimestamp(.., UTC).strftime`.
    #[test]
    fn formats_agree_with_python() {
        assert_eq!(at(0, "%d %b %Y"), "01 Jan 1970");
        assert_eq!(at(951_782_400, "%A %-d %B %Y, day %j"), "Tuesday 29 February 2000, day 060");
        assert_eq!(at(1_735_689_599, "%Y-%m-%d %H:%M:%S %p %I"), "2024-12-31 23:59:59 PM 11");
        assert_eq!(at(1_735_689_599, "%j"), "366");
        assert_eq!(at(1_772_323_200, "%F %T %a %y"), "2026-03-01 00:00:00 Sun 26");
        assert_eq!(at(1_772_323_200, "%j %I %p"), "060 12 AM");
    }

    #[test]
    fn what_is_no_directive_stays() {
        assert_eq!(at(0, "100%% %Q %-Q %"), "100% %Q %-Q %");
    }
}
