//! Reads DER (X.690), the encoding of certificates.

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// One item of DER.
pub(super) struct Item<'a> {
    pub(super) tag: u8,
    pub(super) contents: &'a [u8],
    /// The contents with their header.
    pub(super) whole: &'a [u8],
}

/// The bytes that are left to read.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The contents of the next item, which must have this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next_item().filter(|item| item.tag == tag).map(|item| item.contents)
    }

    pub(super) fn next_item(&mut self) -> Option<Item<'a>> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        // Tags of more than one byte do not occur in what is read here.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = digits.iter().fold(0_u64, |length, &digit| length << 8 | u64::from(digit));
                let is_shortest = length >= 0x80 && digits.first() != Some(&0);
                (usize::try_from(length).ok().filter(|_| is_shortest)?, rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        let (whole, _) = self.0.split_at_checked(self.0.len() - rest.len())?;
        self.0 = rest;
        Some(Item { tag, contents, whole })
    }

    /// The contents of a bit string that consists of whole bytes.
    pub(super) fn take_whole_bits(&mut self) -> Option<&'a [u8]> {
        match self.take(BIT_STRING)?.split_first()? {
            (0, bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A time in seconds since 1970.
    pub(super) fn take_time(&mut self) -> Option<i64> {
        let Item { tag, contents, .. } = self.next_item()?;
        let text = core::str::from_utf8(contents).ok()?.strip_suffix('Z')?;
        let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let (year_digits, digits) = match tag {
            UTC_TIME => (2, 12),
            GENERALIZED_TIME => (4, 14),
            _ => return None,
        };
        if !is_digits || text.len() != digits {
            return None;
        }
        let (year, rest) = text.split_at_checked(year_digits)?;
        let year: i64 = year.parse().ok()?;
        let year = match tag {
            UTC_TIME if year < 50 => 2000 + year,
            UTC_TIME => 1900 + year,
            _ => year,
        };
        let mut parts = [0_i64; 5];
        for (part, digits) in parts.iter_mut().zip(rest.as_bytes().chunks(2)) {
            *part = digits.iter().fold(0, |number, digit| 10 * number + i64::from(digit - b'0'));
        }
        let [month, day, hour, minute, second] = parts;
        let is_moment = (1..=12).contains(&month) && (1..=31).contains(&day);
        is_moment.then(|| ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
    }
}

/// The days from 1970-01-01 to a day of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // A year that begins in March has its leap day at its end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_year = (153 * month + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_through_leap_years() {
        for (date, expected) in
            [((1970, 1, 1), 0), ((2000, 2, 29), 11_016), ((2000, 3, 1), 11_017), ((2100, 3, 1), 47_541)]
        {
            let (year, month, day) = date;
            assert_eq!(days(year, month, day), expected, "{date:?}");
        }
    }
}
