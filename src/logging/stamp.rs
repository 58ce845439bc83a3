//! The time at the start of a line: seconds since 1970, or a date and time formatted as by `strftime`. As in mosquitto
//! it is the local time with the feature `system`; without the feature it is UTC.

use std::fmt::Write as _;

use crate::settings::LogTime;

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
const SECONDS_PER_DAY: i64 = 86_400;

/// A moment as a date and a time of day.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Moment {
    epoch: u64,
    year: i64,
    /// From 0 for January.
    month: usize,
    day: u32,
    /// Of the year, from 0.
    day_of_year: u32,
    /// From 0 for Sunday.
    weekday: usize,
    hour: u32,
    minute: u32,
    second: u32,
    zone: Zone,
}

/// A time zone: its offset from UTC in seconds, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Zone {
    offset: i32,
    name: String,
}

impl Moment {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "remainders are small")]
    fn new(epoch: u64, zone: Zone) -> Self {
        let shown = i64::try_from(epoch).unwrap_or(i64::MAX / 2) + i64::from(zone.offset);
        let (days, seconds) = (shown.div_euclid(SECONDS_PER_DAY), shown.rem_euclid(SECONDS_PER_DAY) as u32);
        // Here, years start in March, so that the leap day is the last one. 400 years have 146,097 days.
        let since = days + 719_468;
        let (era, day_of_era) = (since.div_euclid(146_097), since.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * from_march + 2) / 153;
        let day = (from_march - (153 * month_from_march + 2) / 5 + 1) as u32;
        let month = ((month_from_march + 2) % 12) as usize;
        let year = year_of_era + era * 400 + i64::from(month < 2);
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][month];
        Self {
            epoch,
            year,
            month,
            day,
            day_of_year: before + day - 1 + u32::from(is_leap && month > 1),
            weekday: (days + 4).rem_euclid(7) as usize,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            zone,
        }
    }

    fn format(&self, format: &str) -> String {
        let mut text = String::new();
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            match character {
                '%' => match characters.next() {
                    Some(conversion) => self.convert(conversion, &mut text),
                    None => text.push('%'),
                },
                other => text.push(other),
            }
        }
        text
    }

    /// Appends the expansion of `%` and this letter in the locale "C". An unknown conversion is appended as it is.
    fn convert(&self, conversion: char, text: &mut String) {
        let hour = match self.hour % 12 {
            0 => 12,
            hour => hour,
        };
        let (day, month) = (DAYS[self.weekday], MONTHS[self.month]);
        let _ = match conversion {
            'Y' => write!(text, "{}", self.year),
            'C' => write!(text, "{:02}", self.year / 100),
            'y' => write!(text, "{:02}", self.year % 100),
            'm' => write!(text, "{:02}", self.month + 1),
            'd' => write!(text, "{:02}", self.day),
            'e' => write!(text, "{:2}", self.day),
            'j' => write!(text, "{:03}", self.day_of_year + 1),
            'H' => write!(text, "{:02}", self.hour),
            'I' => write!(text, "{hour:02}"),
            'M' => write!(text, "{:02}", self.minute),
            'S' => write!(text, "{:02}", self.second),
            'p' => write!(text, "{}", if self.hour < 12 { "AM" } else { "PM" }),
            's' => write!(text, "{}", self.epoch),
            'A' => write!(text, "{day}"),
            'a' => write!(text, "{day:.3}"),
            'B' => write!(text, "{month}"),
            'b' | 'h' => write!(text, "{month:.3}"),
            'u' => write!(text, "{}", (self.weekday + 6) % 7 + 1),
            'w' => write!(text, "{}", self.weekday),
            'Z' => write!(text, "{}", self.zone.name),
            'z' => {
                let minutes = self.zone.offset.unsigned_abs() / 60;
                let sign = if self.zone.offset < 0 { '-' } else { '+' };
                write!(text, "{sign}{:02}{:02}", minutes / 60, minutes % 60)
            }
            'c' => write!(text, "{}", self.format("%a %b %e %H:%M:%S %Y")),
            'D' | 'x' => write!(text, "{}", self.format("%m/%d/%y")),
            'F' => write!(text, "{}", self.format("%Y-%m-%d")),
            'R' => write!(text, "{}", self.format("%H:%M")),
            'r' => write!(text, "{}", self.format("%I:%M:%S %p")),
            'T' | 'X' => write!(text, "{}", self.format("%H:%M:%S")),
            'n' => write!(text, " "),
            't' => write!(text, "\t"),
            '%' => write!(text, "%"),
            other => write!(text, "%{other}"),
        };
    }
}

/// Formats times. The prefix is cached for a second.
#[derive(Debug)]
pub(super) struct Stamp {
    time: LogTime,
    zones: Zones,
    known: Option<u64>,
    prefix: String,
}

impl Stamp {
    pub(super) fn new(time: LogTime) -> Self {
        Self { time, zones: Zones::local(), known: None, prefix: String::new() }
    }

    /// The prefix of a line.
    pub(super) fn prefix(&mut self, epoch: u64) -> &str {
        if self.known != Some(epoch) {
            self.known = Some(epoch);
            self.prefix = match &self.time {
                LogTime::None => String::new(),
                LogTime::Epoch => format!("{epoch}: "),
                LogTime::Format(format) => {
                    format!("{}: ", Moment::new(epoch, self.zones.zone(epoch)).format(format))
                }
            };
        }
        &self.prefix
    }

    /// The timestamp of a line for syslog.
    pub(super) fn of_syslog(&self, epoch: u64) -> String {
        Moment::new(epoch, self.zones.zone(epoch)).format("%b %e %H:%M:%S")
    }
}

/// The local time zone, with its changes over the year.
#[derive(Debug)]
#[cfg(feature = "system")]
struct Zones(Option<tz::TimeZone>);

#[cfg(feature = "system")]
impl Zones {
    /// From the variable `TZ` or the file `/etc/localtime`; UTC without either.
    fn local() -> Self {
        Self(tz::TimeZone::local().ok())
    }

    fn zone(&self, epoch: u64) -> Zone {
        let moment = i64::try_from(epoch).unwrap_or(i64::MAX);
        let found = self.0.as_ref().and_then(|zone| zone.find_local_time_type(moment).ok());
        found.map_or_else(utc, |found| Zone {
            offset: found.ut_offset(),
            name: found.time_zone_designation().to_owned(),
        })
    }
}

#[derive(Debug)]
#[cfg(not(feature = "system"))]
struct Zones;

#[cfg(not(feature = "system"))]
impl Zones {
    const fn local() -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "local time is a feature")]
    fn zone(&self, _epoch: u64) -> Zone {
        utc()
    }
}

fn utc() -> Zone {
    Zone { offset: 0, name: "UTC".to_owned() }
}

/// A date and time for a message, given in seconds since 1970.
pub fn in_utc(epoch: u64) -> String {
    Moment::new(epoch, utc()).format("%F %T UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(epoch: u64, offset: i32, format: &str) -> String {
        Moment::new(epoch, Zone { offset, name: "X".to_owned() }).format(format)
    }

    #[test]
    fn messages_have_dates_in_utc() {
        assert_eq!(in_utc(1_709_251_199), "2024-02-29 23:59:59 UTC");
    }

    #[test]
    fn moments_have_the_date_of_the_calendar() {
        for (epoch, expected) in [
            (0, "1970-01-01 00:00:00 Thu 001"),
            (951_782_400, "2000-02-29 00:00:00 Tue 060"),
            (951_868_800, "2000-03-01 00:00:00 Wed 061"),
            (1_704_067_199, "2023-12-31 23:59:59 Sun 365"),
            (1_735_689_599, "2024-12-31 23:59:59 Tue 366"),
            (4_107_542_400, "2100-03-01 00:00:00 Mon 060"),
        ] {
            assert_eq!(shown(epoch, 0, "%F %T %a %j"), expected);
        }
    }

    #[test]
    fn conversions_are_those_of_strftime() {
        let epoch = 1_704_067_199;
        for (format, expected) in [
            ("%Y-%m-%dT%H:%M:%S%z", "2024-01-01T01:59:59+0200"),
            ("%A %d %B %y, %I:%M %p", "Monday 01 January 24, 01:59 AM"),
            ("%c|%D|%R|%r|%X", "Mon Jan  1 01:59:59 2024|01/01/24|01:59|01:59:59 AM|01:59:59"),
            ("%s %u %w %C %h %Z %e", "1704067199 1 1 20 Jan X  1"),
            ("100%% %q %", "100% %q %"),
            ("ö%Mö", "ö59ö"),
        ] {
            assert_eq!(shown(epoch, 7_200, format), expected, "{format}");
        }
        assert_eq!(shown(epoch, -12_600, "%z %H:%M"), "-0330 20:29");
        assert_eq!(shown(43_200, 0, "%I %p"), "12 PM");
    }

    #[test]
    fn the_prefix_has_the_configured_format() {
        for (time, expected) in [
            (LogTime::None, ""),
            (LogTime::Epoch, "86400: "),
            (LogTime::Format("day %s".to_owned()), "day 86400: "),
        ] {
            let mut stamp = Stamp::new(time);
            assert_eq!(
                [stamp.prefix(86_400).to_owned(), stamp.prefix(86_400).to_owned()],
                [expected, expected]
            );
        }
    }
}
