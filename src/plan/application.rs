//! The SparkApplication of an instance, made from the pool's template.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::api::ObjectMeta;
use serde_json::{Map, Value, json};

use crate::api::{SparkApplication, SparkApplicationSpec, SparkSessionPool};
use crate::model::{Pool, Protocol, port_setting, server_port};

/// On the SparkApplication and on its driver Pod: the pool they belong to.
pub const POOL_LABEL: &str = "sparkinteractive.io/pool";
/// On the same: the SparkApplication's own name.
pub const INSTANCE_LABEL: &str = "sparkinteractive.io/instance";

/// The template passes through unharmed, except for what the operator relies on: labels on the
/// driver Pod, and the server's mode and port.
pub fn application(pool: &Pool, name: &str) -> SparkApplication {
    let labels = BTreeMap::from([
        ("app.kubernetes.io/managed-by".to_owned(), "spark-session-operator".to_owned()),
        (POOL_LABEL.to_owned(), pool.meta.name.clone()),
        (INSTANCE_LABEL.to_owned(), name.to_owned()),
    ]);
    let mut fields = pool.spec.spark_application_template.spec.clone();
    if let Some(driver_labels) = object(&mut fields, "driver").and_then(|driver| object(driver, "labels")) {
        driver_labels.extend(labels.iter().map(|(key, value)| (key.clone(), json!(value))));
    }
    if let Some(conf) = object(&mut fields, "sparkConf") {
        set_server_conf(pool.protocol(), conf);
    }
    let mut application = SparkApplication::new(name, SparkApplicationSpec { fields });
    application.metadata = ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(labels),
        owner_references: Some(vec![owner(pool)]),
        ..ObjectMeta::default()
    };
    application
}

fn owner(pool: &Pool) -> OwnerReference {
    OwnerReference {
        api_version: SparkSessionPool::api_version(&()).into_owned(),
        kind: SparkSessionPool::kind(&()).into_owned(),
        name: pool.meta.name.clone(),
        uid: pool.meta.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The map under this key, made if it is missing. `None` where the template has something else
/// there: the API server refuses that in its own words.
fn object<'a>(fields: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    let value = fields.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut()
}

/// Thrift over HTTP, without the two ways around Envoy's identity that HiveServer2 offers: its own
/// cookie (after which hive-jdbc sends no credentials any more) and user substitution (`doAs`).
fn set_server_conf(protocol: Protocol, conf: &mut Map<String, Value>) {
    let (port_key, _) = port_setting(protocol);
    let port = server_port(protocol, conf);
    conf.insert(port_key.to_owned(), json!(port.to_string()));
    if protocol == Protocol::Thrift {
        for (key, value) in [
            ("spark.hadoop.hive.server2.transport.mode", "http"),
            ("spark.hadoop.hive.server2.thrift.http.path", "cliservice"),
            ("spark.hadoop.hive.server2.thrift.http.cookie.auth.enabled", "false"),
            ("spark.hadoop.hive.server2.allow.user.substitution", "false"),
        ] {
            conf.insert(key.to_owned(), json!(value));
        }
    }
}
