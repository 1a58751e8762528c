//! Takes values of configuration out of what Spark says about them: a value may be a password, and Spark's reasons
//! repeat it.
//!
//! A value that Spark shows in another form (decoded, or a part of it) is not found.

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, MatchKind};

/// Stands where a value stood.
const TAKEN_OUT: char = '…';
/// Values of fewer characters are taken out where they stand alone, or `1` would riddle every reason.
const SHORT: usize = 4;
/// Of a longer value, in bytes, only so much is looked for, and the text ends there: Spark cuts long messages, perhaps
/// within a value.
const LONG: usize = 64;
/// Of a reason, in characters.
const LONGEST_REASON: usize = 300;

/// The first line of what Spark says, without any of these values, in at most 300 characters.
pub fn reason<'a>(said: &str, values: impl IntoIterator<Item = &'a str>) -> String {
    let without = without(said, values);
    let line = without.trim_start().lines().next().unwrap_or_default().trim_end();
    if line.chars().count() <= LONGEST_REASON {
        return line.to_owned();
    }
    line.chars().take(LONGEST_REASON - 1).chain(['…']).collect()
}

fn without<'t, 'v>(said: &'t str, values: impl IntoIterator<Item = &'v str>) -> Cow<'t, str> {
    let values: Vec<_> = values.into_iter().map(str::trim).filter(|value| !value.is_empty()).collect();
    let looked_for = values.iter().map(|value| &value.as_bytes()[..value.len().min(LONG)]);
    let search = AhoCorasick::builder()
        // Spark shows some values in capitals.
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::LeftmostLongest)
        .build(looked_for);
    let Ok(search) = search else { return Cow::Owned(TAKEN_OUT.to_string()) };
    let (mut result, mut taken) = (String::new(), 0);
    for found in search.find_iter(said) {
        let (Some(before), Some(value)) =
            (said.get(taken..found.start()), values.get(found.pattern().as_usize()))
        else {
            continue;
        };
        if value.chars().count() < SHORT && !stands_alone(said, found.range()) {
            continue;
        }
        result.push_str(before);
        result.push(TAKEN_OUT);
        if value.len() > LONG {
            return Cow::Owned(result);
        }
        taken = found.end();
    }
    if taken == 0 {
        return Cow::Borrowed(said);
    }
    result.push_str(said.get(taken..).unwrap_or_default());
    Cow::Owned(result)
}

fn stands_alone(text: &str, place: std::ops::Range<usize>) -> bool {
    let word = |character: char| character.is_alphanumeric() || character == '_';
    let before = text.get(..place.start).and_then(|before| before.chars().next_back());
    let after = text.get(place.end..).and_then(|after| after.chars().next());
    !before.is_some_and(word) && !after.is_some_and(word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nothing_to_take("Cannot modify it.", &["secret"], "Cannot modify it.")]
    #[case::in_the_middle("'s3cret!' is no number", &["s3cret!"], "'…' is no number")]
    #[case::in_other_case("'S3CRET' is unknown", &["s3cret"], "'…' is unknown")]
    #[case::trimmed_by_spark("'s3cret' is unknown", &[" s3cret\n"], "'…' is unknown")]
    #[case::more_than_one("abcd and abcdef", &["abcd", "abcdef"], "… and …")]
    #[case::a_short_one_alone("should be 1, but 11", &["1"], "should be …, but 11")]
    #[case::the_first_line_only("one\ntwo", &[], "one")]
    #[case::a_value_over_two_lines("is abc\ndef.", &["abc\ndef"], "is ….")]
    #[case::an_empty_value("as it is", &[""], "as it is")]
    #[case::behind_other_scripts("„ü“ Straße: Größe", &["größe", "Größe"], "„ü“ Straße: …")]
    fn values_are_taken_out(#[case] said: &str, #[case] values: &[&str], #[case] expected: &str) {
        assert_eq!(reason(said, values.iter().copied()), expected);
    }

    #[test]
    fn a_long_value_that_spark_cuts_is_found_by_its_beginning() {
        let value = "0123456789abcdef".repeat(300);
        let said = format!("The value {}...", &value[..2000]);
        assert_eq!(reason(&said, [value.as_str()]), "The value …");
    }

    #[test]
    fn a_reason_is_short() {
        let reason = reason(&"ü".repeat(1000), []);
        assert_eq!((reason.chars().count(), reason.ends_with("ü…")), (300, true));
    }

    proptest! {
        #[test]
        fn no_value_survives(before in ".{0,20}", value in "[!-~]{4,100}", after in ".{0,20}") {
            let said = format!("{before}{value}{after}");
            prop_assert!(!reason(&said, [value.as_str()]).contains(&value));
        }
    }
}
