//! The secret of the operator's client at the provider. A file is read for each login, since a mounted Secret changes
//! under a running process; while it cannot be read, what it held last goes on.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::SecretString;
use tokio::time::Instant;

use super::Warnings;

pub(super) enum ClientSecret {
    Given(SecretString),
    File { path: PathBuf, last: Mutex<SecretString>, warnings: Arc<Warnings> },
}

impl ClientSecret {
    /// `given` is what the file held at the start, if there is one.
    pub fn new(given: Option<SecretString>, file: Option<PathBuf>, warnings: Arc<Warnings>) -> Option<Self> {
        let given = given?;
        Some(match file {
            Some(path) => Self::File { path, last: Mutex::new(given), warnings },
            None => Self::Given(given),
        })
    }

    pub fn current(&self) -> SecretString {
        match self {
            Self::Given(secret) => secret.clone(),
            Self::File { path, last, warnings } => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                match read_secret_file(path) {
                    Ok(secret) => *last = secret,
                    Err(error) => {
                        if let Some(more) = warnings.note("client secret", Instant::now()) {
                            tracing::warn!(%error, file = %path.display(), more, "the client secret cannot be read again");
                        }
                    }
                }
                last.clone()
            }
        }
    }
}

/// Without the line break that editors leave at the end.
pub fn read_secret_file(path: &Path) -> std::io::Result<SecretString> {
    let text = SecretString::from(std::fs::read_to_string(path)?);
    Ok(SecretString::from(secrecy::ExposeSecret::expose_secret(&text).trim_end_matches(['\r', '\n'])))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_changed_file_counts_at_once_and_a_missing_one_changes_nothing() {
        let path = tempfile::tempdir().unwrap().keep().join("secret");
        std::fs::write(&path, "old\r\n").unwrap();
        let given = read_secret_file(&path).unwrap();
        let secret = ClientSecret::new(Some(given), Some(path.clone()), Arc::default()).unwrap();
        assert_eq!(secret.current().expose_secret(), "old");
        std::fs::write(&path, "new").unwrap();
        assert_eq!(secret.current().expose_secret(), "new");
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        assert_eq!(secret.current().expose_secret(), "new");
    }
}
