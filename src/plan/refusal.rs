//! Instances that the API server does not let the operator create: why, and what to say of it.
//!
//! What the Spark Operator, or a Pod, fails at later is `super::failures`' matter.

use jiff::{SignedDuration, Timestamp};

use super::endings::after;

/// The last creation of an instance, or of what belongs to it, that the API server did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Generation of the pool whose instance was refused.
    pub generation: i64,
    pub at: Timestamp,
    pub objection: Objection,
    /// The API server's words.
    pub message: String,
}

/// What the API server objects to. Each has a reason of conditions and Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// The template is no spec of a SparkApplication, or a policy or an admission webhook says no to it.
    Template,
    /// The namespace has as many objects as a ResourceQuota allows.
    Quota,
    /// The operator has not the right to it, or nobody has at the moment.
    Forbidden,
    /// The pool's status cannot be written, which has to name an instance before it is created: the object would be too large,
    /// or a policy or an admission webhook says no.
    Status,
}

/// How long it is left alone, unless the pool changes.
const RETRY: SignedDuration = SignedDuration::from_secs(60);

impl Objection {
    const ALL: [Self; 4] = [Self::Template, Self::Quota, Self::Forbidden, Self::Status];

    /// Whether a session that is told this reason waits for what the API server refuses.
    pub fn is_reason(reason: &str) -> bool {
        Self::ALL.iter().any(|objection| objection.reason() == reason)
    }

    /// From the code and the words of the answer to a creation; `None` where trying again at once may help.
    pub fn of(code: u16, message: &str) -> Option<Self> {
        match code {
            403 if message.contains("exceeded quota") => Some(Self::Quota),
            // With the code that the webhook chooses.
            403 if message.contains("denied the request") => Some(Self::Template),
            403 => Some(Self::Forbidden),
            400 | 422 => Some(Self::Template),
            _ => None,
        }
    }

    pub fn reason(self) -> &'static str {
        match self {
            Self::Template => "TemplateRefused",
            Self::Quota => "NamespaceQuotaExceeded",
            Self::Forbidden => "CreationForbidden",
            Self::Status => "StatusRefused",
        }
    }

    /// Who has to act, where nobody needs to wait for that: what others give back leaves room in a quota.
    pub fn remedy(self) -> Option<&'static str> {
        match self {
            Self::Template => Some("The administrator of the pool has to correct it."),
            Self::Quota | Self::Status => None,
            Self::Forbidden => Some("An administrator of the cluster has to allow it."),
        }
    }
}

impl Refusal {
    pub fn stands_until(&self) -> Timestamp {
        after(self.at, RETRY)
    }

    /// A clause.
    pub fn describe(&self) -> String {
        let what = match self.objection {
            Objection::Template => "the API server refuses the sparkApplicationTemplate",
            Objection::Quota => "a quota of the namespace leaves no room for another instance",
            Objection::Forbidden => "the API server does not let the operator create an instance",
            Objection::Status => {
                "the API server does not take the pool's status, without which no instance is started"
            }
        };
        format!("{what}: {}", self.message.trim_end_matches('.'))
    }
}
