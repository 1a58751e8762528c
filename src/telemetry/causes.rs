use std::error::Error;
use std::fmt;

/// An error with its causes, for a log: many libraries name only the outermost thing that failed ("client error
/// (Connect)"), and leave the reason ("Connection refused") to its source. A cause whose words stand there already is not
/// repeated.
pub struct Causes<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut error = self.0;
        while let Some(cause) = error.source() {
            let words = cause.to_string();
            if !text.ends_with(&words) {
                text = format!("{text}: {words}");
            }
            error = cause;
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no list: {0}")]
    struct NoList(#[source] NoConnection);

    #[derive(Debug, thiserror::Error)]
    #[error("client error")]
    struct NoConnection(#[source] io::Error);

    #[test]
    fn every_cause_is_named_once() {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        assert_eq!(
            Causes(&NoList(NoConnection(refused))).to_string(),
            "no list: client error: connection refused"
        );
    }
}
