//! The time of a simulation: whole seconds, as the API server keeps them, since a midnight that stands for any.

use jiff::{SignedDuration, Timestamp};

/// Seconds since midnight of the first day.
pub type Second = i64;

pub const HOUR: Second = 3600;
pub const DAY: Second = 24 * HOUR;

/// The midnight: 2026-01-01, UTC.
const MIDNIGHT: Timestamp = Timestamp::constant(1_767_225_600, 0);

pub fn timestamp(second: Second) -> Timestamp {
    MIDNIGHT.checked_add(SignedDuration::from_secs(second)).unwrap_or(Timestamp::MAX)
}

/// The first second that is not before this.
pub fn second_after(at: Timestamp) -> Second {
    let since = at.duration_since(MIDNIGHT);
    since.as_secs() + Second::from(since.subsec_nanos() > 0)
}

/// As in `09:05:00`. The days go on in the hours: `33:05:00` is of the second day.
pub fn text(second: Second) -> String {
    let sign = if second < 0 { "-" } else { "" };
    let second = second.abs();
    format!("{sign}{:02}:{:02}:{:02}", second / HOUR, second / 60 % 60, second % 60)
}

/// Of `HH:MM` or `HH:MM:SS`, with as many hours as it takes.
pub fn parse(text: &str) -> Option<Second> {
    let parts: Vec<Second> = text.split(':').map(number).collect::<Option<_>>()?;
    let (hours, minutes, seconds) = match parts[..] {
        [hours, minutes] => (hours, minutes, 0),
        [hours, minutes, seconds] => (hours, minutes, seconds),
        _ => return None,
    };
    (minutes < 60 && seconds < 60).then(|| hours.checked_mul(HOUR)?.checked_add(minutes * 60 + seconds))?
}

/// Digits and nothing else: no sign, no space.
pub fn number(text: &str) -> Option<Second> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for second in [0, 59, 9 * HOUR + 305, 33 * HOUR] {
            assert_eq!(parse(&text(second)), Some(second));
            assert_eq!(second_after(timestamp(second)), second);
        }
        assert_eq!((parse("09:05"), text(9 * HOUR + 300)), (Some(9 * HOUR + 300), "09:05:00".to_owned()));
        for wrong in ["", "9", "09:60", "09:00:60", "-1:00", "09:00:00:00", "9:+5", "99999999999999999999:00"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_part_of_a_second_is_waited_for_to_its_end() {
        assert_eq!(second_after(timestamp(10) + SignedDuration::from_millis(1)), 11);
    }
}
