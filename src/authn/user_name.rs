//! Which user names are accepted, whoever vouches for them.
//!
//! Does not say which names fit Kubernetes labels: that is decided where labels are written.

/// The longest accepted user name, in bytes of UTF-8. Mail addresses have at most 254.
pub const MAX_BYTES: usize = 256;

/// Why a user name is refused. Never holds the name: it may be a misplaced secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserNameError {
    #[error("The user name is empty; log in with a user name.")]
    Empty,
    #[error("The user name is longer than {MAX_BYTES} bytes; check what the client sends as user.")]
    TooLong,
    #[error("The user name contains control characters; check what the client sends as user.")]
    ControlCharacter,
}

/// Accepts `name` as it is: not trimmed, not lower-cased.
pub fn check(name: &str) -> Result<(), UserNameError> {
    if name.trim().is_empty() {
        return Err(UserNameError::Empty);
    }
    if name.len() > MAX_BYTES {
        return Err(UserNameError::TooLong);
    }
    if name.chars().any(char::is_control) {
        return Err(UserNameError::ControlCharacter);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("anna", Ok(()))]
    #[case("anna@example.org", Ok(()))]
    #[case("Änne Müller", Ok(()))]
    #[case("", Err(UserNameError::Empty))]
    #[case("  ", Err(UserNameError::Empty))]
    #[case("a\nb", Err(UserNameError::ControlCharacter))]
    #[case("a\u{7f}", Err(UserNameError::ControlCharacter))]
    #[case("a\u{85}", Err(UserNameError::ControlCharacter))]
    #[case(&"x".repeat(256), Ok(()))]
    #[case(&"x".repeat(257), Err(UserNameError::TooLong))]
    fn a_user_name_is_checked(#[case] name: &str, #[case] expected: Result<(), UserNameError>) {
        assert_eq!(check(name), expected);
    }
}
