//! Times as text, from seconds since the epoch. `ASN1_TIME_print` is not used, because it also
//! prints invalid times.

const DAY: i64 = 86_400;

/// A time in UTC in the Gregorian calendar.
struct CivilTime {
    year: i64,
    month: usize,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl CivilTime {
    /// The algorithm `civil_from_days` of Howard Hinnant, "chrono-Compatible Low-Level Date
    /// Algorithms": years begin in March, eras have 400 years.
    fn from_epoch(epoch: i64) -> CivilTime {
        let (days, seconds) = (epoch.div_euclid(DAY) + 719_468, epoch.rem_euclid(DAY));
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        CivilTime {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as usize,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }
}

/// `Jan  2 03:04:05 2026 GMT`: as `ASN1_TIME_print`, the day padded with a space.
pub fn openssl(epoch: i64) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let CivilTime {
        year,
        month,
        day,
        hour,
        minute,
        second,
    } = CivilTime::from_epoch(epoch);
    let month = MONTHS.get(month - 1).copied().unwrap_or_default();
    format!("{month} {day:2} {hour:02}:{minute:02}:{second:02} {year} GMT")
}

/// `2026-01-02T03:04:05` and `zone`, which is `Z` or `+00:00`.
pub fn rfc3339(epoch: i64, zone: &str) -> String {
    let CivilTime {
        year,
        month,
        day,
        hour,
        minute,
        second,
    } = CivilTime::from_epoch(epoch);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{zone}")
}

/// A UTCTime (tag 0x17) or GeneralizedTime (0x18) of the form that RFC 5280 section 5.1.2.4
/// requires; `None` for any other.
pub fn from_der(tag: u8, content: &[u8]) -> Option<i64> {
    let Some((b'Z', digits)) = content.split_last() else {
        return None;
    };
    let number = |at: usize, len: usize| {
        let digits = digits.get(at..at + len)?;
        digits.iter().try_fold(0_i64, |number, digit| {
            digit
                .is_ascii_digit()
                .then(|| number * 10 + i64::from(digit - b'0'))
        })
    };
    let (year, at) = match (tag, digits.len()) {
        // RFC 5280 section 4.1.2.5.1: years from 1950 to 2049.
        (0x17, 12) => (number(0, 2)?, 2),
        (0x18, 14) => (number(0, 4)?, 4),
        _ => return None,
    };
    let year = match (tag, year) {
        (0x17, 50..) => year + 1900,
        (0x17, _) => year + 2000,
        _ => year,
    };
    let part = |index: usize| number(at + 2 * index, 2);
    let (month, day) = (part(0)?, part(1)?);
    let (hour, minute, second) = (part(2)?, part(3)?, part(4)?);
    if !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    // The algorithm `days_from_civil` of the same page.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(days * DAY + hour * 3600 + minute * 60 + second)
}

/// `260102030405Z`, a UTCTime. `None` outside the years 1950 to 2049, which a UTCTime cannot
/// represent (RFC 5280 section 4.1.2.5.1).
pub fn utc_time(epoch: i64) -> Option<String> {
    let CivilTime {
        year,
        month,
        day,
        hour,
        minute,
        second,
    } = CivilTime::from_epoch(epoch);
    (1950..2050).contains(&year).then(|| {
        let year = year % 100;
        format!("{year:02}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z")
    })
}

/// Seconds since the epoch of `2026-01-02T03:04:05Z`; `None` for any other form.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> { text.get(range)?.parse().ok() };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    // Days from 1970-01-01 in the proleptic Gregorian calendar, whose years begin in March here.
    let (year, month) = match month > 2 {
        true => (year, month - 3),
        false => (year - 1, month + 9),
    };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 1
        - 719_468;
    let seconds = days * 86_400 + number(11..13)? * 3_600 + number(14..16)? * 60 + number(17..19)?;
    // Other separators and days that a month does not have are no such time.
    (rfc3339(seconds, "Z") == text).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::asn1::Asn1Time;

    #[test]
    fn openssl_equals_asn1_time_print_for_ten_thousand_years() {
        for day in (-25_567..2_932_896)
            .step_by(9 * 37)
            .chain([0, 11_016, 19_782, 2_932_896])
        {
            let epoch = day * DAY + (day.rem_euclid(DAY));
            let expected = Asn1Time::from_unix(epoch).unwrap().to_string();
            assert_eq!(openssl(epoch), expected);
        }
    }

    #[test]
    fn rfc3339_pads_and_appends_the_zone() {
        assert_eq!(rfc3339(1_767_323_045, "Z"), "2026-01-02T03:04:05Z");
        assert_eq!(rfc3339(951_782_400, "+00:00"), "2000-02-29T00:00:00+00:00");
        assert_eq!(rfc3339(-62_135_596_801, "Z"), "0000-12-31T23:59:59Z");
    }

    #[test]
    fn utc_time_has_two_digits_of_the_year_from_1950_to_2049() {
        assert_eq!(utc_time(1_767_323_045).unwrap(), "260102030405Z");
        assert_eq!(utc_time(2_524_607_999).unwrap(), "491231235959Z");
        assert_eq!(utc_time(2_524_608_000), None);
        assert_eq!(utc_time(-631_152_000).unwrap(), "500101000000Z");
        assert_eq!(utc_time(-631_152_001), None);
    }

    #[test]
    fn parse_rfc3339_reads_what_rfc3339_writes() {
        for seconds in [
            0,
            951_782_400,
            1_767_323_045,
            4_294_967_294,
            -1,
            -62_135_596_800,
        ] {
            assert_eq!(parse_rfc3339(&rfc3339(seconds, "Z")), Some(seconds));
        }
        for text in [
            "",
            "2026-01-02",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-02T24:00:00Z",
            "2026-01-02 03:04:05Z",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05+00:00",
            "+026-01-02T03:04:05Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn from_der_reads_what_utc_time_writes() {
        for epoch in (-600_000_000..2_500_000_000).step_by(10_000_019) {
            let text = utc_time(epoch).unwrap();
            assert_eq!(from_der(0x17, text.as_bytes()), Some(epoch), "{text}");
        }
        assert_eq!(from_der(0x18, b"20270115080000Z"), Some(1_800_000_000));
        assert_eq!(from_der(0x18, b"21060207062815Z"), Some(4_294_967_295));
        for (tag, text) in [
            (0x17, &b""[..]),
            (0x17, b"2701150800Z"),
            (0x17, b"270115080000+0000"),
            (0x17, b"271315080000Z"),
            (0x17, b"27011508000aZ"),
            (0x18, b"270115080000Z"),
            (0x04, b"270115080000Z"),
        ] {
            assert_eq!(from_der(tag, text), None);
        }
    }
}
