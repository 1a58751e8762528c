//! Pools as these tests need them.

use serde_json::{Value, json};
use spark_session_operator::api::{SparkSessionPool, Tls};

pub const HOST: &str = "spark.test";

/// Starts with the first user; one instance holds everyone.
pub fn connect(name: &str, host: &str) -> SparkSessionPool {
    pool("connect", name, host)
}

pub fn thrift(name: &str, host: &str) -> SparkSessionPool {
    pool("thrift", name, host)
}

/// Every session has an instance of its own: each is a cold start.
pub fn one_session_each(mut pool: SparkSessionPool) -> SparkSessionPool {
    pool.spec.sharing = spark_session_operator::api::Sharing::Session;
    pool
}

/// At most `instances`, each with so many places.
pub fn with_places(mut pool: SparkSessionPool, instances: i32, places: i32) -> SparkSessionPool {
    pool.spec.replicas.max = instances;
    pool.spec.scaling.metrics.target_per_instance = Some(places);
    pool.spec.scaling.max_sessions_per_instance = Some(places);
    pool
}

/// Served with the certificate of this Secret.
pub fn with_certificate(mut pool: SparkSessionPool, secret: &str) -> SparkSessionPool {
    pool.spec.tls = Some(Tls { secret_name: secret.to_owned() });
    pool
}

/// Instances that are not needed any more are removed at once.
pub fn without_cooldown(mut pool: SparkSessionPool) -> SparkSessionPool {
    pool.spec.scaling.cooldown_seconds = 0;
    pool
}

fn pool(kind: &str, name: &str, host: &str) -> SparkSessionPool {
    let manifest: Value = json!({
        "apiVersion": "sparkinteractive.io/v1alpha1",
        "kind": "SparkSessionPool",
        "metadata": { "name": name },
        "spec": {
            "type": kind,
            "host": host,
            "replicas": { "min": 0, "max": 100 },
            "scaling": { "metrics": { "type": "activeSessions", "targetPerInstance": 1000 } },
            "sessionPolicy": { "maxSessionsPerUser": 1000, "maxTotalSessions": 10000 },
            "sparkApplicationTemplate": { "spec": {
                "type": "Scala",
                "mode": "cluster",
                "sparkVersion": "4.1.4",
                "mainClass": "StandIn",
                "mainApplicationFile": "local:///stand-in",
                "restartPolicy": { "type": "Never" },
                "driver": { "cores": 1, "memory": "512m" },
                "executor": { "instances": 1, "cores": 1, "memory": "512m" },
            }},
        },
    });
    serde_json::from_value(manifest).unwrap()
}
