//! Which certificate belongs to which pool and to which host.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Inventory;
use crate::model::{Certificate, Policy, Pool, PoolCertificate, SecretProblem, TlsSecret};

impl Inventory {
    pub fn with_policy(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Whether it makes a difference which certificates there are.
    pub fn needs_certificates(&self) -> bool {
        self.policy.tls.off.is_none()
    }

    pub(super) fn put_secret(&mut self, secret: TlsSecret) -> Vec<String> {
        let name = secret.meta.name.clone();
        self.secrets.insert(name.clone(), Arc::new(secret));
        self.route_secret(&name)
    }

    pub(super) fn remove_secret(&mut self, name: &str) -> Vec<String> {
        if self.secrets.remove(name).is_none() {
            return Vec::new();
        }
        self.route_secret(name)
    }

    fn route_secret(&mut self, name: &str) -> Vec<String> {
        let pools = self.pools_shown_by(name);
        let hosts: BTreeSet<String> =
            pools.iter().filter_map(|pool| Some(self.pools.get(pool)?.spec.host.clone())).collect();
        for host in hosts {
            self.route_certificate(&host);
        }
        self.route_default_certificate();
        pools
    }

    /// The pools whose certificate, or whose substitute for it, is in this Secret.
    fn pools_shown_by(&self, secret: &str) -> Vec<String> {
        if self.policy.tls.default_secret.as_deref() == Some(secret) {
            return self.pools.keys().cloned().collect();
        }
        let naming = self.pools.values().filter(|pool| own_secret(pool) == Some(secret));
        let claimants = naming.flat_map(|pool| {
            let others = self.pools_at(&pool.spec.host).map(str::to_owned);
            others.chain([pool.meta.name.clone()])
        });
        claimants.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Every pool that claims the host, whether it has it or not.
    pub(super) fn pools_at(&self, host: &str) -> impl Iterator<Item = &str> {
        let claims = self.hosts.get(host).into_iter().flat_map(|claims| claims.values().flatten());
        claims.map(|(_, name)| name.as_str())
    }

    /// `None` where no certificate is asked for.
    pub(super) fn pool_certificate(&self, pool: &Pool) -> Option<PoolCertificate> {
        let own = own_secret(pool);
        let secret = match own {
            Some(secret) => secret,
            None if self.policy.tls.off.is_some() => return None,
            None => self.policy.tls.default_secret.as_deref()?,
        };
        Some(PoolCertificate {
            secret: secret.to_owned(),
            by_default: own.is_none(),
            certificate: self.certificate(secret),
            served: self
                .certificate_of_host(&pool.spec.host)
                .or_else(|| self.default_certificate())
                .map(|(secret, _)| secret.to_owned()),
            off: self.policy.tls.off,
        })
    }

    /// What Envoy shows at this host, if that is not the default.
    pub(super) fn route_certificate(&mut self, host: &str) {
        if self.policy.tls.off.is_some() {
            return;
        }
        let found =
            self.certificate_of_host(host).map(|(secret, certificate)| (secret.to_owned(), certificate));
        let before = match found {
            Some((secret, certificate)) => {
                self.routing.certificates.insert(secret.clone(), certificate);
                self.routing.certificate_of_host.insert(host.to_owned(), secret)
            }
            None => self.routing.certificate_of_host.remove(host),
        };
        self.forget_unless_served(before);
    }

    fn route_default_certificate(&mut self) {
        if self.policy.tls.off.is_some() {
            return;
        }
        let found = self.default_certificate().map(|(secret, certificate)| (secret.to_owned(), certificate));
        let before = self.routing.default_certificate.take();
        if let Some((secret, certificate)) = found {
            self.routing.certificates.insert(secret.clone(), certificate);
            self.routing.default_certificate = Some(secret);
        }
        self.forget_unless_served(before);
    }

    fn forget_unless_served(&mut self, secret: Option<String>) {
        let Some(secret) = secret else { return };
        let routing = &mut self.routing;
        let mut served = routing.certificate_of_host.values().chain(&routing.default_certificate);
        if !served.any(|other| *other == secret) {
            routing.certificates.remove(&secret);
        }
    }

    /// A host has one certificate, though it may have two pools: the older one's, if it is usable.
    fn certificate_of_host(&self, host: &str) -> Option<(&str, Arc<Certificate>)> {
        let claims = self.hosts.get(host)?;
        let owners: BTreeSet<_> = claims.values().filter_map(BTreeSet::first).collect();
        owners.into_iter().find_map(|(_, name)| {
            let secret = own_secret(self.pools.get(name)?)?;
            Some((secret, self.certificate(secret).ok()?))
        })
    }

    fn default_certificate(&self) -> Option<(&str, Arc<Certificate>)> {
        let secret = self.policy.tls.default_secret.as_deref()?;
        Some((secret, self.certificate(secret).ok()?))
    }

    fn certificate(&self, secret: &str) -> Result<Arc<Certificate>, SecretProblem> {
        let secret = self.secrets.get(secret).ok_or(SecretProblem::NotFound)?;
        secret.certificate.clone().map_err(SecretProblem::Unusable)
    }
}

fn own_secret(pool: &Pool) -> Option<&str> {
    pool.spec.tls.as_ref().map(|tls| tls.secret_name.as_str())
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
