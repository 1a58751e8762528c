//! Foreign text (a token's claims, the provider's descriptions) made safe to show in one line.

/// The first line of `text` without control characters, at most `max_chars` characters.
pub(super) fn one_line(text: &str, max_chars: usize) -> String {
    let line = text.trim_start().lines().next().unwrap_or_default().trim_end();
    let mut shown: String = line.chars().filter(|c| !c.is_control()).take(max_chars).collect();
    if shown.len() < line.len() && line.chars().count() > max_chars {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[rstest::rstest]
    #[case("Account disabled", "Account disabled")]
    #[case("AADSTS50126: no\r\nTrace ID: 1", "AADSTS50126: no")]
    #[case("a\u{1b}[31mb", "a[31mb")]
    #[case("äöüßäöüßäöüßäöüßäöüß", "äöüßäöüßäöüßäöüß…")]
    #[case("", "")]
    fn foreign_text_becomes_one_short_line(#[case] text: &str, #[case] shown: &str) {
        assert_eq!(one_line(text, 16), shown);
    }
}
