//! The SparkApplication of an instance.

use rstest::rstest;
use serde_json::{Value, json};

use crate::api::SparkApplication;
use crate::model::Pool;
use crate::model::fixtures::{connect_pool, thrift_pool};
use crate::plan::application::application;

const TOKEN: &str = "spark.kubernetes.driver.secretKeyRef.SPARK_CONNECT_AUTHENTICATE_TOKEN";
const INTERCEPTORS: &str = "spark.connect.grpc.interceptor.classes";
const CLASS: &str = "io.sparkinteractive.identity.IdentityInterceptor";
const JAR: &str = "http://operator:18082/spark-session-identity.jar";

/// An Iceberg table format behind LakeFS, with secrets, volumes and packages, as deployments have it.
fn realistic_template() -> Value {
    json!({
        "type": "Scala",
        "mode": "cluster",
        "image": "registry.example.com/spark-iceberg:4.1.4",
        "imagePullPolicy": "IfNotPresent",
        "sparkVersion": "4.1.4",
        "mainClass": "org.apache.spark.sql.connect.service.SparkConnectServer",
        "mainApplicationFile": "local:///opt/spark/spark-internal",
        "restartPolicy": { "type": "OnFailure", "onFailureRetries": 3, "onFailureRetryInterval": 10 },
        "timeToLiveSeconds": 3600,
        "deps": {
            "packages": ["org.apache.iceberg:iceberg-spark-runtime-4.0_2.13:1.10.0"],
            "repositories": ["https://repo.example.com/maven2"]
        },
        "sparkConf": {
            "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
            "spark.sql.catalog.lakefs": "org.apache.iceberg.spark.SparkCatalog",
            "spark.sql.catalog.lakefs.catalog-impl": "org.apache.iceberg.rest.RESTCatalog",
            "spark.sql.catalog.lakefs.uri": "http://lakefs:8000/api/v1/iceberg",
            "spark.sql.catalog.lakefs.warehouse": "s3a://kronodroid/main/iceberg",
            "spark.hadoop.fs.s3a.path.style.access": "true",
            "spark.hadoop.fs.s3a.bucket.dlt-data.endpoint": "http://minio:9000",
            "spark.hadoop.fs.s3a.bucket.kronodroid.endpoint": "http://lakefs:8000"
        },
        "hadoopConf": { "fs.s3a.connection.ssl.enabled": "false" },
        "volumes": [{ "name": "ivy", "emptyDir": { "sizeLimit": "2Gi" } }],
        "driver": {
            "cores": 1,
            "memory": "2g",
            "serviceAccount": "spark",
            "labels": { "team": "malware" },
            "volumeMounts": [{ "name": "ivy", "mountPath": "/home/spark/.ivy2" }],
            "env": [{
                "name": "LAKEFS_SECRET_ACCESS_KEY",
                "valueFrom": { "secretKeyRef": { "name": "lakefs-credentials", "key": "secret-key" } }
            }]
        },
        "executor": { "cores": 2, "instances": 2, "memory": "2g", "labels": { "team": "malware" } },
        "fieldOfALaterVersion": [1, 2.5, null, { "deeply": ["nested"] }]
    })
}

fn of(pool: Pool, template: Value) -> SparkApplication {
    application(&pool.with_template(template), "p-3", None)
}

fn spec_of(pool: Pool, template: Value) -> Value {
    serde_json::to_value(of(pool, template).spec).unwrap()
}

fn conf_of(pool: Pool, conf: Value) -> Value {
    spec_of(pool, json!({ "sparkConf": conf }))["sparkConf"].take()
}

#[test]
fn a_realistic_template_passes_through_unharmed() {
    let mut expected = realistic_template();
    expected["restartPolicy"] = json!({ "type": "Never" });
    expected.as_object_mut().unwrap().remove("timeToLiveSeconds");
    expected["sparkConf"]["spark.connect.grpc.binding.port"] = json!("15002");
    expected["sparkConf"]["spark.connect.session.manager.defaultSessionTimeout"] = json!("1440m");
    expected["sparkConf"][TOKEN] = json!("p-3-token:token");
    expected["driver"]["labels"] = json!({
        "team": "malware",
        "app.kubernetes.io/managed-by": "spark-session-operator",
        "sparkinteractive.io/pool": "p",
        "sparkinteractive.io/instance": "p-3",
    });
    assert_eq!(spec_of(connect_pool("p"), realistic_template()), expected);
}

#[test]
fn the_object_is_labelled_and_owned_by_its_pool() {
    let object = serde_json::to_value(of(connect_pool("p"), realistic_template())).unwrap();
    assert_eq!(
        (&object["apiVersion"], &object["kind"]),
        (&json!("sparkoperator.k8s.io/v1beta2"), &json!("SparkApplication"))
    );
    // Written down: with another one, every driver out there would be replaced after an update of the operator.
    const HASH: &str = "eff8610b6086718c";
    assert_eq!(
        object["metadata"],
        json!({
            "name": "p-3",
            "labels": {
                "app.kubernetes.io/managed-by": "spark-session-operator",
                "sparkinteractive.io/pool": "p",
                "sparkinteractive.io/instance": "p-3",
            },
            "annotations": { "sparkinteractive.io/template-hash": HASH },
            "ownerReferences": [{
                "apiVersion": "sparkinteractive.io/v1alpha1",
                "kind": "SparkSessionPool",
                "name": "p",
                "uid": "uid-of-p",
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        })
    );
}

#[rstest]
#[case::missing(json!({}), "15002")]
#[case::given(json!({ "spark.connect.grpc.binding.port": "8424" }), "8424")]
#[case::given_as_a_number(json!({ "spark.connect.grpc.binding.port": 8424 }), "8424")]
#[case::no_port(json!({ "spark.connect.grpc.binding.port": "http" }), "15002")]
#[case::no_conf(Value::Null, "15002")]
fn the_port_of_a_connect_server_is_always_said(#[case] conf: Value, #[case] port: &str) {
    assert_eq!(conf_of(connect_pool("p"), conf)["spark.connect.grpc.binding.port"], port);
}

#[rstest]
#[case::missing(json!({}), "10001")]
#[case::given(json!({ "spark.hadoop.hive.server2.thrift.http.port": "10010" }), "10010")]
#[case::what_contradicts_is_replaced(
    json!({
        "spark.hadoop.hive.server2.transport.mode": "binary",
        "spark.hadoop.hive.server2.thrift.http.path": "sql",
        "spark.hadoop.hive.server2.thrift.http.cookie.auth.enabled": "true",
        "spark.hadoop.hive.server2.allow.user.substitution": "true",
    }),
    "10001"
)]
fn a_thrift_server_speaks_http_without_ways_around_the_login(#[case] conf: Value, #[case] port: &str) {
    assert_eq!(
        conf_of(thrift_pool("p"), conf),
        json!({
            "spark.hadoop.hive.server2.transport.mode": "http",
            "spark.hadoop.hive.server2.thrift.http.path": "cliservice",
            "spark.hadoop.hive.server2.thrift.http.port": port,
            "spark.hadoop.hive.server2.thrift.http.cookie.auth.enabled": "false",
            "spark.hadoop.hive.server2.allow.user.substitution": "false",
        })
    );
}

#[rstest]
#[case::no_driver(json!({}))]
#[case::a_null_driver(json!({ "driver": null }))]
#[case::a_driver_without_labels(json!({ "driver": {} }))]
#[case::labels_that_lie(json!({ "driver": { "labels": { "sparkinteractive.io/pool": "other" } } }))]
fn the_driver_pod_is_labelled_whatever_the_template_says(#[case] template: Value) {
    let labels = &spec_of(connect_pool("p"), template)["driver"]["labels"];
    assert_eq!(labels["sparkinteractive.io/pool"], "p");
    assert_eq!(labels["sparkinteractive.io/instance"], "p-3");
}

#[rstest]
#[case("driver", json!("x"))]
#[case("driver", json!({ "labels": ["x"] }))]
#[case("sparkConf", json!("x"))]
#[case("sparkConf", json!([1]))]
fn what_is_malformed_is_left_for_the_api_server_to_refuse(#[case] key: &str, #[case] value: Value) {
    assert_eq!(spec_of(connect_pool("p"), json!({ key: value }))[key], value);
}

fn enforcing(template: Value) -> Value {
    let object = application(&connect_pool("p").with_template(template), "p-3", Some(JAR));
    serde_json::to_value(object.spec).unwrap()
}

#[test]
fn the_interceptor_stands_behind_the_template_s_own() {
    let spec = enforcing(json!({ "sparkConf": { INTERCEPTORS: "a.B", "spark.jars": "local:///x.jar" } }));
    assert_eq!(spec["sparkConf"][INTERCEPTORS], format!("a.B,{CLASS}"));
    assert_eq!(spec["sparkConf"]["spark.jars"], format!("local:///x.jar,{JAR}"));
    let spec = enforcing(json!({ "sparkConf": { INTERCEPTORS: " " } }));
    assert_eq!(
        (&spec["sparkConf"][INTERCEPTORS], &spec["sparkConf"]["spark.jars"]),
        (&json!(CLASS), &json!(JAR))
    );
}

/// The Spark Operator passes them as `--jars`, for which spark-submit drops `spark.jars` (seen with 2.4.0 and 4.1.4).
#[test]
fn the_jar_is_among_the_template_s_deps_where_it_has_some() {
    let spec =
        enforcing(json!({ "deps": { "jars": ["http://a/x.jar"] }, "sparkConf": { "spark.jars": "y" } }));
    assert_eq!(spec["deps"]["jars"], json!(["http://a/x.jar", JAR]));
    assert_eq!(spec["sparkConf"]["spark.jars"], "y");
    let spec = enforcing(json!({ "deps": { "jars": [] } }));
    assert_eq!((&spec["deps"]["jars"], &spec["sparkConf"]["spark.jars"]), (&json!([]), &json!(JAR)));
}

#[test]
fn a_connect_server_takes_its_token_from_its_secret_alone() {
    const NAME: &str = "SPARK_CONNECT_AUTHENTICATE_TOKEN";
    let spec = spec_of(
        connect_pool("p"),
        json!({
            "driver": {
                "envSecretKeyRefs": { NAME: { "name": "x", "key": "y" }, "OTHER": { "name": "x", "key": "y" } },
                "envVars": { NAME: "1" },
                "env": [{ "name": NAME, "value": "2" }, { "name": "A", "value": "3" }],
            },
            "sparkConf": {
                TOKEN: "other:key",
                "spark.connect.authenticate.token": "4",
                "spark.kubernetes.driverEnv.SPARK_CONNECT_AUTHENTICATE_TOKEN": "5",
            },
        }),
    );
    let port = json!("15002");
    assert_eq!(
        spec["sparkConf"],
        json!({
            TOKEN: "p-3-token:token",
            "spark.connect.grpc.binding.port": port,
            "spark.connect.session.manager.defaultSessionTimeout": "1440m",
        })
    );
    assert_eq!(spec["driver"]["envSecretKeyRefs"], json!({ "OTHER": { "name": "x", "key": "y" } }));
    assert_eq!(spec["driver"]["envVars"], json!({}));
    assert_eq!(spec["driver"]["env"], json!([{ "name": "A", "value": "3" }]));
}

#[rstest]
#[case::above_the_idle_timeout(connect_pool("p").ending_idle_sessions(10_080), json!({}), "20160m")]
#[case::the_template_s_own(
    connect_pool("p"), json!({ "spark.connect.session.manager.defaultSessionTimeout": "2h" }), "2h")]
fn spark_does_not_end_sessions_before_the_operator(
    #[case] pool: Pool,
    #[case] conf: Value,
    #[case] expected: &str,
) {
    assert_eq!(conf_of(pool, conf)["spark.connect.session.manager.defaultSessionTimeout"], expected);
}
