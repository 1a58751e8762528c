//! The SparkApplication of an instance, made from the pool's template.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::api::ObjectMeta;
use serde_json::{Map, Value, json};

use super::template;
use crate::api::{SparkApplication, SparkApplicationSpec, SparkSessionPool};
use crate::model::connect_server::{
    INTERCEPTOR_CLASS, INTERCEPTORS_SETTING, JARS_SETTING, PLAIN_TOKEN_SETTING, TOKEN_KEY, TOKEN_SETTING,
    TOKEN_VARIABLE, token_secret_name,
};
use crate::model::{Pool, Protocol, TEMPLATE_ANNOTATION, port_setting, server_port};

/// On the SparkApplication and on its driver Pod: the pool they belong to.
pub const POOL_LABEL: &str = "sparkinteractive.io/pool";
/// On the same: the SparkApplication's own name.
pub const INSTANCE_LABEL: &str = "sparkinteractive.io/instance";

/// The template passes through unharmed, except for what the operator relies on: labels on the
/// driver Pod, the server's mode and port, how it is told who asks, and that nobody else replaces or removes
/// instances. `interceptor`: from where the driver gets the jar that forces the user's identity, if it is to have it.
pub fn application(pool: &Pool, name: &str, interceptor: Option<&str>) -> SparkApplication {
    let labels = BTreeMap::from([
        ("app.kubernetes.io/managed-by".to_owned(), "spark-session-operator".to_owned()),
        (POOL_LABEL.to_owned(), pool.meta.name.clone()),
        (INSTANCE_LABEL.to_owned(), name.to_owned()),
    ]);
    let mut fields = pool.spec.spark_application_template.spec.clone();
    // A driver that the Spark Operator started anew would run beside the one in its place; and where it removed those
    // that have failed, nothing would be left of what they said, nor of how many they were.
    for field in template::NOT_PASSED_ON {
        fields.remove(field);
    }
    fields.insert("restartPolicy".to_owned(), json!({ "type": "Never" }));
    if let Some(driver_labels) = object(&mut fields, "driver").and_then(|driver| object(driver, "labels")) {
        driver_labels.extend(labels.iter().map(|(key, value)| (key.clone(), json!(value))));
    }
    if let Some(conf) = object(&mut fields, "sparkConf") {
        set_server_conf(pool, conf);
    }
    if pool.protocol() == Protocol::Connect {
        ask_for_token(&mut fields, name);
        if let Some(jar_url) = interceptor {
            add_interceptor(&mut fields, jar_url);
        }
    }
    let mut application = SparkApplication::new(name, SparkApplicationSpec { fields });
    application.metadata = ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(labels),
        annotations: Some(BTreeMap::from([(TEMPLATE_ANNOTATION.to_owned(), template::hash(&pool.spec))])),
        owner_references: Some(vec![owner(pool)]),
        ..ObjectMeta::default()
    };
    application
}

/// What makes the API server delete the instance with its pool.
pub(super) fn owner(pool: &Pool) -> OwnerReference {
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
fn set_server_conf(pool: &Pool, conf: &mut Map<String, Value>) {
    let protocol = pool.protocol();
    let (port_key, _) = port_setting(protocol);
    let port = server_port(protocol, conf);
    conf.insert(port_key.to_owned(), json!(port.to_string()));
    if protocol == Protocol::Connect {
        // Spark's own default, an hour, would end sessions that are only idle, and nobody would know. It is for those
        // alone that could not be released.
        let idle = pool.spec.session_policy.idle_timeout_minutes.max(0);
        let timeout = format!("{}m", idle.saturating_mul(2).max(1440));
        conf.entry("spark.connect.session.manager.defaultSessionTimeout").or_insert(json!(timeout));
    }
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

/// Takes the token from its Secret alone: wherever else the template has one, it would win.
fn ask_for_token(fields: &mut Map<String, Value>, name: &str) {
    if let Some(Value::Object(driver)) = fields.get_mut("driver") {
        for variables in ["envSecretKeyRefs", "envVars"] {
            if let Some(Value::Object(variables)) = driver.get_mut(variables) {
                variables.remove(TOKEN_VARIABLE);
            }
        }
        if let Some(Value::Array(variables)) = driver.get_mut("env") {
            variables.retain(|variable| variable.get("name").and_then(Value::as_str) != Some(TOKEN_VARIABLE));
        }
    }
    if let Some(conf) = object(fields, "sparkConf") {
        conf.remove(PLAIN_TOKEN_SETTING);
        conf.remove(&format!("spark.kubernetes.driverEnv.{TOKEN_VARIABLE}"));
        conf.insert(TOKEN_SETTING.to_owned(), json!(format!("{}:{TOKEN_KEY}", token_secret_name(name))));
    }
}

/// Behind what the template itself has of both. The Spark Operator passes `deps.jars` as `--jars`, and spark-submit then
/// forgets `spark.jars`: only one of them counts.
fn add_interceptor(fields: &mut Map<String, Value>, jar_url: &str) {
    let in_deps = match fields.get_mut("deps").and_then(|deps| deps.get_mut("jars")) {
        Some(Value::Array(jars)) if !jars.is_empty() => {
            jars.push(json!(jar_url));
            true
        }
        _ => false,
    };
    if let Some(conf) = object(fields, "sparkConf") {
        append(conf, INTERCEPTORS_SETTING, INTERCEPTOR_CLASS);
        if !in_deps {
            append(conf, JARS_SETTING, jar_url);
        }
    }
}

/// To a list of Spark's: its items are separated by commas.
fn append(conf: &mut Map<String, Value>, key: &str, item: &str) {
    let list = conf.get(key).and_then(Value::as_str).map(str::trim).filter(|list| !list.is_empty());
    let list = list.map_or_else(|| item.to_owned(), |list| format!("{list},{item}"));
    conf.insert(key.to_owned(), json!(list));
}
