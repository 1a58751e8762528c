//! What it means when the API server does not do what an action asks for.

use kube::core::Status;

use crate::plan::Objection;
use crate::spark::secret_words::without_secrets;

/// Why an action was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server does not let an instance be created; trying again at once will not help.
    #[error("{message}")]
    Refused { objection: Objection, message: String },
    /// The object was changed or deleted meanwhile: a new plan follows anyway.
    #[error("the object has changed meanwhile: {0}")]
    Outdated(String),
    /// The API server does not take the session as it would be; trying again at once will not help.
    #[error("the status of session {} cannot be written, {}", .0.session, .0.why())]
    Unwritable(NotTaken),
    /// Another replica leads by now, and plans.
    #[error("this replica does not lead any more")]
    NotLeading,
    #[error(transparent)]
    Api(kube::Error),
}

/// A session that the API server does not take as it would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotTaken {
    pub session: String,
    pub uid: String,
    /// Of the object that was to be changed.
    pub version: u64,
    /// No object can be as large: it helps when something of it has gone. Else a policy or a webhook objects.
    pub is_too_large: bool,
    /// The API server's words.
    pub message: String,
}

impl NotTaken {
    fn why(&self) -> &str {
        if self.is_too_large { "its object would be too large" } else { &self.message }
    }
}

/// Of the request, or of the object in etcd.
fn is_too_large(status: &Status) -> bool {
    let of_etcd = ["request is too large", "message larger than max"];
    status.code == 413 || of_etcd.iter().any(|words| status.message.contains(words))
}

/// Whoever writes it and however often: its form, a policy or an admission webhook, also one that cannot be reached.
pub(super) fn is_refused(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    matches!(status.code, 400 | 403 | 413 | 422)
        || is_too_large(status)
        || status.message.contains("failed calling webhook")
}

/// Of an answer to a change of a session. The words may repeat what the object has.
pub(super) fn not_taken(error: kube::Error, session: &str, uid: &str, version: u64) -> ApplyError {
    match error {
        error if !is_refused(&error) => classify(error),
        kube::Error::Api(status) => ApplyError::Unwritable(NotTaken {
            session: session.to_owned(),
            uid: uid.to_owned(),
            version,
            is_too_large: is_too_large(&status),
            message: without_secrets(&status.message),
        }),
        error => ApplyError::Api(error),
    }
}

/// Of an answer to a change of a pool's status.
pub(super) fn pool_not_taken(error: kube::Error) -> ApplyError {
    match error {
        error if !is_refused(&error) => classify(error),
        kube::Error::Api(status) => {
            ApplyError::Refused { objection: Objection::Status, message: without_secrets(&status.message) }
        }
        error => ApplyError::Api(error),
    }
}

/// Of an answer to the creation of an instance, or of what belongs to it.
pub(super) fn not_created(error: kube::Error) -> ApplyError {
    match error {
        kube::Error::Api(status) => match Objection::of(status.code, &status.message) {
            // It may repeat the template.
            Some(objection) => ApplyError::Refused { objection, message: without_secrets(&status.message) },
            None => ApplyError::Api(kube::Error::Api(status)),
        },
        error => ApplyError::Api(error),
    }
}

pub(super) fn classify(error: kube::Error) -> ApplyError {
    match error {
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => {
            ApplyError::Outdated(status.message.clone())
        }
        error => ApplyError::Api(error),
    }
}
