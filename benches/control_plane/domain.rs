//! Pools, instances and sessions as the watches would have shown them, without a Kubernetes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use spark_session_operator::model::connect_server::{INTERCEPTOR_CLASS, INTERCEPTORS_SETTING};
use spark_session_operator::model::{Application, DriverPod, Meta, Object, Pool, Session};
use spark_session_operator::operator::Stores;
use uuid::Uuid;

/// One Spark server that listens on every loopback address stands behind all instances, so that each of them has an
/// address of its own without a socket of its own.
pub struct World {
    pub stores: Arc<Stores>,
    port: u16,
    instances: u32,
}

impl World {
    pub fn new(port: u16) -> Self {
        let stores = Stores::new();
        // Nothing is answered before everything was listed once.
        while !stores.is_synced() {
            stores.watch_synced();
        }
        Self { stores, port, instances: 0 }
    }

    pub fn pool(&self, name: &str) {
        let spec = json!({
            "type": "connect",
            "host": host(name),
            "sparkApplicationTemplate": { "spec": {} },
        });
        let spec = serde_json::from_value(spec).unwrap();
        self.stores.shown(Object::Pool(Pool { meta: meta(name), spec, status: Default::default() }));
    }

    /// A server that answers. Returns the names of the instance and of its cluster.
    pub fn instance(&mut self, pool: &str) -> (String, String) {
        let name = format!("{pool}-{}", self.instances);
        let (application, pod) = self.objects(pool, &name);
        self.instances += 1;
        let uid = pod.meta.uid.clone();
        self.stores.shown(Object::Application(application));
        self.stores.shown(Object::Pod(pod));
        self.stores.server_answers(&uid);
        (name.clone(), format!("{name}/{uid}"))
    }

    fn objects(&self, pool: &str, name: &str) -> (Application, DriverPod) {
        let [_, b, c, d] = (self.instances + 1).to_be_bytes();
        let port = json!(self.port.to_string());
        let application = Application {
            controller: None,
            deleted_at: None,
            meta: meta(name),
            pool: pool.to_owned(),
            state: "RUNNING".to_owned(),
            error_message: None,
            draining: false,
            template: None,
            spark_conf: [
                ("spark.connect.grpc.binding.port".to_owned(), port),
                (INTERCEPTORS_SETTING.to_owned(), json!(INTERCEPTOR_CLASS)),
            ]
            .into_iter()
            .collect(),
        };
        let pod = DriverPod {
            meta: meta(&format!("{name}-driver")),
            pool: pool.to_owned(),
            instance: name.to_owned(),
            ip: Some(IpAddr::V4(Ipv4Addr::new(127, b, c, d))),
            node: None,
            owned: true,
            killed_at: None,
            ended: false,
            creating: false,
            message: None,
            requests: Default::default(),
            started_at: None,
        };
        (application, pod)
    }

    /// An active session of `user` on that instance. Returns its Spark session id.
    pub fn session(&self, pool: &str, instance: &str, user: &str) -> Uuid {
        let id = Uuid::new_v4();
        let spec = json!({ "user": user, "pool": pool, "sessionId": id.to_string() });
        let status = json!({ "state": "Active", "assignedInstance": instance, "preparedSessionIds": [id.to_string()] });
        self.stores.shown(Object::Session(Session {
            meta: meta(&format!("{pool}-{id}")),
            spec: serde_json::from_value(spec).unwrap(),
            arrived: 1,
            status: serde_json::from_value(status).unwrap(),
        }));
        id
    }
}

pub fn host(pool: &str) -> String {
    format!("{pool}.spark.example.com")
}

fn meta(name: &str) -> Meta {
    Meta {
        name: name.to_owned(),
        uid: Uuid::new_v4().to_string(),
        resource_version: 1,
        generation: 1,
        created_at: Timestamp::now(),
        deleting: false,
        held: false,
        other_finalizers: Vec::new(),
    }
}

/// A pool for every `share` instances, `instances` in all.
pub fn filled(port: u16, instances: usize, share: usize) -> (World, BTreeMap<String, Vec<String>>) {
    let mut world = World::new(port);
    let mut clusters = BTreeMap::new();
    for n in 0..instances {
        let pool = format!("pool-{}", n / share);
        if n.is_multiple_of(share) {
            world.pool(&pool);
        }
        let (_, cluster) = world.instance(&pool);
        clusters.entry(pool).or_insert_with(Vec::new).push(cluster);
    }
    (world, clusters)
}

pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A port that nobody uses now.
pub fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap().port()
}
