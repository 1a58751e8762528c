mod departed;
mod drivers;
mod measured;
mod object;
mod routes;
mod servers;
mod sessions;
mod tls;
mod tokens;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Application, ClientConnection, DriverPod, Instance, InstancePhase, InstanceToken, Policy, Pool,
    PoolCertificate, Protocol, Routing, Session, SparkSide, TlsSecret, TokenSecret, is_host_name, ordinal_of,
};
pub use drivers::LeavingDriver;
pub use object::{Kind, Object};
pub use servers::ServerAddress;

/// Everything the watches know, indexed for the questions that are asked of it.
///
/// The watches are not consistent with each other: a session may name an instance that is not here
/// yet, a Pod may come before its application. Every look-up tolerates that.
#[derive(Debug, Default)]
pub struct Inventory {
    pools: BTreeMap<String, Arc<Pool>>,
    /// Pools of which the last version could not be read. One that was read before is known as it was.
    /// Pools that are there and cannot be read, and why not.
    unreadable_pools: BTreeMap<String, String>,
    sessions: HashMap<String, Arc<Session>>,
    applications: HashMap<String, Arc<Application>>,
    pods: HashMap<String, Arc<DriverPod>>,
    secrets: HashMap<String, Arc<TlsSecret>>,
    policy: Policy,
    /// By Secret.
    token_secrets: HashMap<String, Arc<TokenSecret>>,
    /// By instance.
    tokens: HashMap<String, InstanceToken>,
    /// Instances that are gone, while the Secret with their token is not.
    token_secrets_left: BTreeSet<String>,
    departed: departed::Departed,
    /// By the session's UID.
    spark_sides: HashMap<String, SparkSide>,
    /// Instances whose token somebody else knows.
    trusted_tokens: HashSet<String>,
    /// UIDs of the driver Pods whose server answered.
    answering: HashSet<String>,
    /// What the drivers of failed instances said last, by the Pod's UID.
    last_words: HashMap<String, String>,
    /// Of those whose server answered once and can be reached no more.
    lost: HashSet<String>,
    measured: measured::Measured,
    drivers: drivers::Drivers,

    /// Pools by host and type, oldest first: the first one serves the host.
    hosts: BTreeMap<String, BTreeMap<Protocol, BTreeSet<(Timestamp, String)>>>,
    /// By pool, oldest first.
    sessions_by_pool: HashMap<String, BTreeMap<sessions::Age, Arc<Session>>>,
    /// Session names by pool and user.
    sessions_by_owner: HashMap<String, BTreeMap<String, BTreeSet<String>>>,
    sessions_by_spark_id: HashMap<Uuid, BTreeSet<String>>,
    /// Session names by the connections that their statuses list.
    sessions_by_connection: HashMap<ClientConnection, BTreeSet<String>>,
    /// By the public half of the handle that a Thrift Server gave.
    sessions_by_thrift_handle: HashMap<Uuid, BTreeSet<String>>,
    applications_by_pool: HashMap<String, BTreeSet<String>>,
    pods_by_instance: HashMap<String, BTreeSet<String>>,
    routing: Routing,
}

/// What the plan of one pool is made from.
#[derive(Clone, Debug)]
pub struct PoolView {
    pub pool: Arc<Pool>,
    /// The older pool that has this pool's host and type already.
    pub host_taken_by: Option<String>,
    /// The pool's host is no DNS name: Envoy is not told of it.
    pub host_invalid: bool,
    /// What TLS clients of the pool see. `None` where it asks for no certificate, or does not have its host.
    pub certificate: Option<PoolCertificate>,
    /// From where its drivers get the interceptor that forces the user's identity.
    pub identity_jar_url: Option<String>,
    /// By ordinal.
    pub instances: Vec<Instance>,
    /// Drivers without an instance that may still run.
    pub leaving: Vec<LeavingDriver>,
    /// Nothing with the pool's label has this ordinal or a higher one, whoever owns it: no SparkApplication, no driver Pod
    /// that has outlived its own, no Secret of one. A name is free when all of them are gone.
    pub free_ordinal: i64,
    /// Oldest first.
    pub sessions: Vec<Arc<Session>>,
    /// What was done for them on their Spark servers, by the session's UID.
    pub spark_sides: HashMap<String, SparkSide>,
    /// When they were last used as far as this replica has seen, by the session's name; their statuses may know of a
    /// later use.
    pub activity: HashMap<String, Timestamp>,
    /// Why nothing is measured of the drivers, in words, of a pool that is sized by that. Figures that came before may
    /// still stand.
    pub metrics_problem: Option<String>,
}

impl PoolView {
    /// From where drivers of this pool get the interceptor. `None` where they are to have none.
    pub fn interceptor(&self) -> Option<&str> {
        self.identity_jar_url.as_deref().filter(|_| self.pool.enforces_identity())
    }

    /// Instances whose server answers and that take sessions.
    pub fn ready_count(&self) -> usize {
        self.instances.iter().filter(|instance| instance.phase == InstancePhase::Ready).count()
    }

    /// Drivers without an instance that may still run: each takes the room of one.
    pub fn still_leaving(&self, now: Timestamp) -> impl Iterator<Item = &LeavingDriver> {
        self.leaving.iter().filter(move |driver| driver.may_run(now))
    }

    /// The pool asks for what the operator does not have.
    pub fn lacks_interceptor(&self) -> bool {
        self.pool.enforces_identity() && self.identity_jar_url.is_none()
    }
}

impl Inventory {
    pub fn pool(&self, name: &str) -> Option<&Arc<Pool>> {
        self.pools.get(name)
    }

    pub fn pool_names(&self) -> impl Iterator<Item = &str> {
        self.pools.keys().map(String::as_str)
    }

    pub fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.pools.values()
    }

    /// The pool of a server, by Envoy's name of it.
    pub fn pool_of_cluster(&self, cluster: &str) -> Option<&str> {
        let (instance, _) = cluster.split_once('/')?;
        self.applications.get(instance).map(|application| application.pool.as_str())
    }

    pub fn session(&self, name: &str) -> Option<&Arc<Session>> {
        self.sessions.get(name)
    }

    pub fn serves_host(&self, host: &str) -> bool {
        self.hosts.contains_key(host)
    }

    /// The pool that answers for this host and protocol.
    pub fn pool_for(&self, host: &str, protocol: Protocol) -> Option<&Arc<Pool>> {
        let (_, name) = self.hosts.get(host)?.get(&protocol)?.first()?;
        self.pools.get(name)
    }

    pub fn instance(&self, name: &str) -> Option<Instance> {
        let application = self.applications.get(name)?;
        let pool = self.pools.get(&application.pool).filter(|pool| application.belongs_to(pool))?;
        let pod = self.current_pod(name);
        let mut instance = Instance::assemble(
            pool,
            application,
            pod.map(AsRef::as_ref),
            self.reach(pod.map(|pod| &pod.meta)),
            self.token_state(application),
        );
        instance.last_words = pod.and_then(|pod| self.last_words.get(&pod.meta.uid)).cloned();
        instance.utilization = pod.and_then(|pod| self.utilization(&pod.meta.uid));
        Some(instance)
    }

    pub fn instances_of(&self, pool: &str) -> Vec<Instance> {
        let names = self.applications_by_pool.get(pool).into_iter().flatten();
        let mut instances: Vec<_> = names.filter_map(|name| self.instance(name)).collect();
        instances.sort_by_key(|instance| instance.ordinal);
        instances
    }

    fn free_ordinal(&self, pool: &str) -> i64 {
        let names = self.applications_by_pool.get(pool).into_iter().flatten().map(String::as_str);
        let of_pods = self.drivers_without_instance(pool).map(|pod| pod.instance.as_str());
        let taken = names.chain(of_pods).chain(self.token_secrets_without_instance(pool));
        taken.filter_map(ordinal_of).max().map_or(0, |last| last.saturating_add(1))
    }

    /// The Pod that counts when an application has more than one: the newest.
    fn current_pod(&self, instance: &str) -> Option<&Arc<DriverPod>> {
        let names = self.pods_by_instance.get(instance)?;
        names
            .iter()
            .filter_map(|name| self.pods.get(name))
            .max_by_key(|pod| (pod.meta.created_at, pod.meta.resource_version))
    }

    pub fn pool_view(&self, name: &str) -> Option<PoolView> {
        let pool = self.pools.get(name)?;
        let owner = self.pool_for(&pool.spec.host, pool.protocol()).map_or(name, |owner| owner.name());
        let host_taken_by = (owner != name).then(|| owner.to_owned());
        let host_invalid = !is_host_name(&pool.spec.host);
        let served = host_taken_by.is_none() && !host_invalid;
        Some(PoolView {
            host_taken_by,
            host_invalid,
            certificate: self.pool_certificate(pool).filter(|_| served),
            identity_jar_url: self.policy.identity_jar_url.clone(),
            pool: Arc::clone(pool),
            instances: self.instances_of(name),
            leaving: self.leaving_drivers(name),
            free_ordinal: self.free_ordinal(name),
            sessions: self.sessions_in(name).cloned().collect(),
            spark_sides: self
                .sessions_in(name)
                .filter_map(|session| self.spark_sides.get_key_value(&session.meta.uid))
                .map(|(uid, side)| (uid.clone(), side.clone()))
                .collect(),
            activity: HashMap::new(),
            metrics_problem: self.metrics_problem(pool).map(str::to_owned),
        })
    }

    /// What Envoy has to know. A server is listed as soon as its Pod has an address: when it
    /// answers, Envoy knows it already.
    pub fn routing(&self) -> Routing {
        self.routing.clone()
    }

    /// Enters an object, or a newer version of it. Returns the names of the pools that are touched.
    pub fn put(&mut self, object: Object) -> Vec<String> {
        match object {
            Object::Pool(pool) => self.put_pool(pool),
            Object::Session(session) => self.put_session(session),
            Object::Application(application) => self.put_application(application),
            Object::Pod(pod) => self.put_pod(pod),
            Object::Secret(secret) => self.put_secret(secret),
            Object::Token(secret) => self.put_token(secret),
        }
    }

    fn put_pool(&mut self, pool: Pool) -> Vec<String> {
        let name = pool.meta.name.clone();
        let mut touched = BTreeSet::from([name.clone()]);
        let claim = |pool: &Pool| (pool.spec.host.clone(), pool.protocol(), pool.meta.created_at);
        if let Some(old) = self.pools.get(&name).filter(|old| claim(old) != claim(&pool)).cloned() {
            touched.extend(self.give_up_host(&old));
        }
        if is_host_name(&pool.spec.host) {
            let claims = self.hosts.entry(pool.spec.host.clone()).or_default();
            let claims = claims.entry(pool.protocol()).or_default();
            claims.insert((pool.meta.created_at, name.clone()));
            touched.extend(claims.iter().map(|(_, name)| name.clone()));
        }
        if self.pools.get(&name).is_none_or(|old| old.spec.tls != pool.spec.tls) {
            touched.extend(self.pools_at(&pool.spec.host).map(str::to_owned));
        }
        let host = pool.spec.host.clone();
        let shown = |pool: &Pool| (claim(pool), pool.spec.tls.clone(), pool.meta.uid.clone());
        let routed = shown(&pool);
        self.unreadable_pools.remove(&name);
        let old = self.pools.insert(name.clone(), Arc::new(pool));
        if old.as_ref().map(|old| &old.meta.uid) != self.pools.get(&name).map(|pool| &pool.meta.uid) {
            // Which instances belong to it could not be told before.
            let instances = self.applications_by_pool.get(&name).cloned().unwrap_or_default();
            instances.iter().for_each(|instance| self.look_at_driver(instance));
        }
        if old.as_deref().map(shown) != Some(routed) {
            self.route_pool(&name, [Some(host), old.map(|old| old.spec.host.clone())].into_iter().flatten());
        }
        touched.into_iter().collect()
    }

    /// Notes that there is a pool of this name, which cannot be read. Returns it if that is news.
    pub fn pool_unreadable(&mut self, name: &str, problem: &str) -> Option<String> {
        let before = self.unreadable_pools.insert(name.to_owned(), problem.to_owned());
        (before.as_deref() != Some(problem)).then(|| name.to_owned())
    }

    /// Why the pool of this name cannot be read, of which nothing is known but that.
    pub fn unreadable_pool(&self, name: &str) -> Option<&str> {
        self.unreadable_pools.get(name).filter(|_| !self.pools.contains_key(name)).map(String::as_str)
    }

    fn remove_pool(&mut self, name: &str) -> Vec<String> {
        let unreadable = self.unreadable_pools.remove_entry(name).map(|(name, _)| name);
        let Some(old) = self.pools.remove(name) else { return unreadable.into_iter().collect() };
        self.departed.enter_pool(&old);
        let mut touched = self.give_up_host(&old);
        touched.insert(name.to_owned());
        touched.extend(self.pools_at(&old.spec.host).map(str::to_owned));
        self.route_pool(name, [old.spec.host.clone()]);
        touched.into_iter().collect()
    }

    /// Returns the pools that still claim the host: one of them may have it now.
    fn give_up_host(&mut self, pool: &Pool) -> BTreeSet<String> {
        let Some(claims) = self.hosts.get_mut(&pool.spec.host) else { return BTreeSet::new() };
        let mut others = BTreeSet::new();
        if let Some(names) = claims.get_mut(&pool.protocol()) {
            names.remove(&(pool.meta.created_at, pool.meta.name.clone()));
            others.extend(names.iter().map(|(_, name)| name.clone()));
            if names.is_empty() {
                claims.remove(&pool.protocol());
            }
        }
        if claims.is_empty() {
            self.hosts.remove(&pool.spec.host);
        }
        others
    }

    fn put_application(&mut self, application: Application) -> Vec<String> {
        let (name, pool) = (application.meta.name.clone(), application.pool.clone());
        let mut touched = vec![pool.clone()];
        if self.applications.get(&name).is_some_and(|old| old.pool != pool) {
            touched.extend(self.remove_application(&name));
        }
        self.applications_by_pool.entry(pool).or_default().insert(name.clone());
        self.applications.insert(name.clone(), Arc::new(application));
        self.token_secrets_left.remove(&name);
        self.look_at_driver(&name);
        self.route_instance(&name);
        touched
    }

    fn remove_application(&mut self, name: &str) -> Vec<String> {
        let Some(old) = self.applications.remove(name) else { return Vec::new() };
        if let Some(names) = self.applications_by_pool.get_mut(&old.pool) {
            names.remove(name);
            if names.is_empty() {
                self.applications_by_pool.remove(&old.pool);
            }
        }
        self.forget_token(name);
        self.look_at_driver(name);
        self.route_instance(name);
        vec![old.pool.clone()]
    }

    fn put_pod(&mut self, pod: DriverPod) -> Vec<String> {
        // A Pod of the same name with another UID is another Pod: what answered is gone.
        let other = |old: &Arc<DriverPod>| {
            (&old.meta.uid, &old.pool, &old.instance) != (&pod.meta.uid, &pod.pool, &pod.instance)
        };
        if self.pods.get(&pod.meta.name).is_some_and(other) {
            self.remove_pod(&pod.meta.name);
        }
        let (pool, instance) = (pod.pool.clone(), pod.instance.clone());
        self.pods_by_instance.entry(instance.clone()).or_default().insert(pod.meta.name.clone());
        self.route_pod(&pod);
        self.pods.insert(pod.meta.name.clone(), Arc::new(pod));
        self.look_at_driver(&instance);
        vec![pool]
    }

    fn remove_pod(&mut self, name: &str) -> Vec<String> {
        let Some(old) = self.pods.remove(name) else { return Vec::new() };
        self.answering.remove(&old.meta.uid);
        self.lost.remove(&old.meta.uid);
        self.last_words.remove(&old.meta.uid);
        self.forget_usage_of(&old.meta.uid);
        self.drivers.forget(&old);
        self.forget_route(&old);
        if let Some(names) = self.pods_by_instance.get_mut(&old.instance) {
            names.remove(name);
            if names.is_empty() {
                self.pods_by_instance.remove(&old.instance);
            }
        }
        self.look_at_driver(&old.instance);
        vec![old.pool.clone()]
    }

    /// Whether this is a known pool or application with a new status and nothing else that Envoy and the readiness
    /// probes are told of: its spec, its pool and its deletion are as they were. Kubernetes counts the specs.
    pub fn differs_in_status_alone(&self, object: &Object) -> bool {
        let now = object.meta();
        let known = match object {
            Object::Pool(pool) => self.pools.get(&pool.meta.name).map(|known| &known.meta),
            Object::Application(application) => self
                .applications
                .get(&application.meta.name)
                .filter(|known| {
                    (&known.pool, &known.controller) == (&application.pool, &application.controller)
                })
                .map(|known| &known.meta),
            _ => None,
        };
        known.is_some_and(|known| {
            now.generation > 0
                && (&known.uid, known.generation, known.deleting) == (&now.uid, now.generation, now.deleting)
        })
    }

    /// The version of an object that is known here, to tell newer ones from older.
    pub fn version(&self, kind: Kind, name: &str) -> Option<u64> {
        let meta = match kind {
            Kind::Pool => self.pools.get(name).map(|pool| &pool.meta),
            Kind::Session => self.sessions.get(name).map(|session| &session.meta),
            Kind::Application => self.applications.get(name).map(|application| &application.meta),
            Kind::Pod => self.pods.get(name).map(|pod| &pod.meta),
            Kind::Secret => self.secrets.get(name).map(|secret| &secret.meta),
            Kind::Token => self.token_secrets.get(name).map(|secret| &secret.meta),
        };
        meta.map(|meta| meta.resource_version)
    }

    /// Of all custom resources.
    pub fn newest_version(&self) -> u64 {
        let pools = self.pools.values().map(|pool| &pool.meta);
        let sessions = self.sessions.values().map(|session| &session.meta);
        let applications = self.applications.values().map(|application| &application.meta);
        let all = pools.chain(sessions).chain(applications);
        all.map(|meta| meta.resource_version).max().unwrap_or_default()
    }

    /// Removes an object. Returns the names of the pools that are touched, as all changes do.
    pub fn remove(&mut self, kind: Kind, name: &str) -> Vec<String> {
        match kind {
            Kind::Pool => self.remove_pool(name),
            Kind::Session => {
                if let Some(session) = self.sessions.get(name) {
                    self.departed.enter(session);
                }
                self.remove_session(name)
            }
            Kind::Application => self.remove_application(name),
            Kind::Pod => self.remove_pod(name),
            Kind::Secret => self.remove_secret(name),
            Kind::Token => self.remove_token(name),
        }
    }

    pub fn names(&self, kind: Kind) -> HashSet<String> {
        match kind {
            Kind::Pool => self.pools.keys().chain(self.unreadable_pools.keys()).cloned().collect(),
            Kind::Session => self.sessions.keys().cloned().collect(),
            Kind::Application => self.applications.keys().cloned().collect(),
            Kind::Pod => self.pods.keys().cloned().collect(),
            Kind::Secret => self.secrets.keys().cloned().collect(),
            Kind::Token => self.token_secrets.keys().cloned().collect(),
        }
    }
}

fn remove_from(sets: &mut BTreeMap<String, BTreeSet<String>>, key: &str, name: &str) {
    if let Some(names) = sets.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            sets.remove(key);
        }
    }
}

#[cfg(test)]
#[path = "inventory_tests.rs"]
mod tests;
