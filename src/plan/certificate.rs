//! What is to be said of a pool's TLS certificate.

use jiff::{SignedDuration, Timestamp};

use super::Plan;
use super::conditions::{Finding, seconds};
use crate::model::{Certificate, CertificateProblem, PoolCertificate, PoolView, SecretProblem, TlsOff};

/// The condition that says whether clients that verify the server find the pool's certificate in order.
pub const CERTIFICATE_READY: &str = "CertificateReady";

/// How long before its end a certificate is reported: cert-manager has renewed its own long before.
const WARNING: SignedDuration = SignedDuration::from_hours(14 * 24);
const EXPIRES_SOON: &str = "CertificateExpiresSoon";

/// `None` for a pool that has to do with no certificate. Plans again when time alone changes the answer.
pub fn finding(view: &PoolView, now: Timestamp, plan: &mut Plan) -> Option<Finding> {
    let asked = view.certificate.as_ref()?;
    let host = &view.pool.spec.host;
    let (status, reason, message) = match (&asked.certificate, asked.off) {
        (_, Some(off)) => turned_off(off),
        (Err(problem), None) => unusable(asked, problem, host),
        (Ok(certificate), None) => {
            wake_when_it_changes(certificate, now, plan);
            judge(asked, certificate, host, now)
        }
    };
    Some(Finding { type_: CERTIFICATE_READY, status, reason, message })
}

type Words = (bool, &'static str, String);

fn turned_off(off: TlsOff) -> Words {
    let message = match off {
        TlsOff::NoListener => "The operator runs without TLS towards clients (--envoy-tls-listen-addr 0).",
        TlsOff::UnverifiedControlChannel => {
            "No certificate is given to Envoy, because the control channel does not show who is at its other end. \
             Set up mTLS between Envoy and the operator."
        }
    };
    (false, "TLSOff", message.to_owned())
}

fn unusable(asked: &PoolCertificate, problem: &SecretProblem, host: &str) -> Words {
    let secret = &asked.secret;
    let (reason, problem) = match problem {
        SecretProblem::NotFound => (
            "SecretNotFound",
            format!(
                "{} of type kubernetes.io/tls does not exist in this namespace. Create it with kubectl create secret \
                 tls {secret} --cert=FILE --key=FILE.",
                described(asked)
            ),
        ),
        SecretProblem::Unusable(problem) => {
            let reason = match problem {
                CertificateProblem::WithoutCertificate => "SecretWithoutCertificate",
                CertificateProblem::WithoutKey => "SecretWithoutKey",
                CertificateProblem::Invalid(_) => "CertificateInvalid",
            };
            (reason, format!("{} cannot be used: {problem}.", described(asked)))
        }
    };
    let meanwhile = match &asked.served {
        Some(other) => format!("Until then clients see the certificate of Secret {other}."),
        None => format!("Until then TLS connections to {host} are refused."),
    };
    (false, reason, format!("{problem} {meanwhile}"))
}

/// A certificate that verifying clients do not accept is served nevertheless: others do not verify.
fn judge(asked: &PoolCertificate, certificate: &Certificate, host: &str, now: Timestamp) -> Words {
    const SERVED: &str = "It is served nevertheless; clients that verify it refuse the connection.";
    let the_certificate = format!("The certificate in {}", described(asked));
    if let Some(other) = asked.served.as_ref().filter(|served| **served != asked.secret) {
        let message = format!(
            "Clients of {host} see the certificate of Secret {other}, which the other pool with this host names: a host \
             has one certificate, the older pool's. Name the same Secret in both pools."
        );
        return (false, "CertificateConflict", message);
    }
    let (begins, ends) = (seconds(certificate.not_before()).0, seconds(certificate.not_after()).0);
    if certificate.not_after() < now {
        return (false, "CertificateExpired", format!("{the_certificate} expired at {ends}. {SERVED}"));
    }
    if now < certificate.not_before() {
        let message = format!("{the_certificate} is not valid before {begins}. {SERVED}");
        return (false, "CertificateNotYetValid", message);
    }
    if !certificate.covers(host) {
        let names = match certificate.names() {
            [] => "names no host and so not".to_owned(),
            names => format!("is for {} and not for", names.join(", ")),
        };
        let message = format!("{the_certificate} {names} {host}. {SERVED}");
        return (false, "HostNotInCertificate", message);
    }
    if warned_from(certificate) <= now {
        return (true, EXPIRES_SOON, format!("{the_certificate} expires at {ends}. Renew it before."));
    }
    (true, "CertificateServed", format!("{the_certificate} is served for {host}. It is valid until {ends}."))
}

fn described(asked: &PoolCertificate) -> String {
    let by_default = if asked.by_default { " (the default of all pools)" } else { "" };
    format!("Secret {}{by_default}", asked.secret)
}

fn wake_when_it_changes(certificate: &Certificate, now: Timestamp, plan: &mut Plan) {
    let end = certificate.not_after().checked_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX);
    let changes = [certificate.not_before(), warned_from(certificate), end];
    if let Some(next) = changes.into_iter().filter(|at| now < *at).min() {
        plan.wake_at(next);
    }
}

fn warned_from(certificate: &Certificate) -> Timestamp {
    certificate.not_after().checked_sub(WARNING).unwrap_or(Timestamp::MIN)
}
