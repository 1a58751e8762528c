use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::model::CertificateProblem;

#[rstest]
#[case::of_another_type(json!({ "type": "Opaque" }), None)]
#[case::empty(json!({ "type": "kubernetes.io/tls" }), Some(CertificateProblem::WithoutCertificate))]
#[case::with_empty_fields(
    json!({ "type": "kubernetes.io/tls", "data": { "tls.crt": "", "tls.key": "" } }),
    Some(CertificateProblem::WithoutCertificate)
)]
fn a_secret_is_one_for_tls_by_its_type(
    #[case] mut manifest: Value,
    #[case] found: Option<CertificateProblem>,
) {
    manifest["metadata"] = json!({ "name": "s", "uid": "u" });
    let secret: Secret = serde_json::from_value(manifest).unwrap();
    let problem = secret.into_domain().map(|object| match object {
        Object::Secret(secret) => secret.certificate.unwrap_err(),
        other => panic!("{other:?}"),
    });
    assert_eq!(problem, found);
}

#[test]
fn a_pool_of_spark_3_ends_idle_sessions_before_spark_forgets_them() {
    let manifest = |version: &str| {
        json!({
            "apiVersion": "sparkinteractive.io/v1alpha1",
            "kind": "SparkSessionPool",
            "metadata": { "name": "p", "uid": "u" },
            "spec": {
                "type": "connect",
                "host": "h.test",
                "sparkApplicationTemplate": { "spec": { "sparkVersion": version } },
            },
        })
    };
    let idle = |version: &str| {
        let pool: SparkSessionPool = serde_json::from_value(manifest(version)).unwrap();
        match pool.into_domain() {
            Some(Object::Pool(pool)) => pool.spec.session_policy.idle_timeout_minutes,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((idle("3.5.7"), idle("4.1.4")), (55, 720));
}

#[rstest]
#[case::as_made_here(json!({ "type": TOKEN_SECRET_TYPE, "data": { "token": "aHVudGVyMg==" } }), Some("hunter2"))]
#[case::of_another_type(json!({ "type": "Opaque", "data": { "token": "aHVudGVyMg==" } }), None)]
#[case::empty(json!({ "type": TOKEN_SECRET_TYPE, "data": { "token": "" } }), None)]
#[case::no_text(json!({ "type": TOKEN_SECRET_TYPE, "data": { "token": "/w==" } }), None)]
#[case::without_data(json!({ "type": TOKEN_SECRET_TYPE }), None)]
fn the_token_of_an_instance_is_read_and_never_shown(
    #[case] mut manifest: Value,
    #[case] found: Option<&str>,
) {
    manifest["metadata"] = json!({ "name": "p-0-token", "uid": "u", "labels": labels() });
    let secret: InstanceSecret = serde_json::from_value(manifest).unwrap();
    let shown = format!("{secret:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("ByteString"), "{shown}");
    let token = secret.into_domain().map(|object| match object {
        Object::Token(secret) => (secret.instance, secret.token),
        other => panic!("{other:?}"),
    });
    assert_eq!(token, found.map(|token| ("p-0".to_owned(), InstanceToken::new(token))));
}

fn labels() -> Value {
    json!({ POOL_LABEL: "p", INSTANCE_LABEL: "p-0" })
}

fn pod(status: Value) -> DriverPod {
    let pod =
        json!({ "metadata": { "name": "p-0-driver", "uid": "u", "labels": labels() }, "status": status });
    match serde_json::from_value::<Pod>(pod).unwrap().into_domain() {
        Some(Object::Pod(pod)) => pod,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pod_with_our_labels_is_a_driver_of_that_instance() {
    let pod = pod(json!({ "phase": "Running", "podIP": "10.0.0.1" }));
    assert_eq!((pod.pool.as_str(), pod.instance.as_str(), pod.ended), ("p", "p-0", false));
    assert_eq!(pod.ip.unwrap().to_string(), "10.0.0.1");
}

#[rstest]
#[case::on_its_node("ContainerCreating", true)]
#[case::with_an_image_that_is_not_there("ErrImagePull", false)]
fn a_driver_is_being_created_while_the_kubelet_says_so(#[case] reason: &str, #[case] creating: bool) {
    let waiting = json!({ "name": "driver", "state": { "waiting": { "reason": reason } }, "ready": false,
                          "image": "i", "imageID": "", "restartCount": 0 });
    assert_eq!(pod(json!({ "phase": "Pending", "containerStatuses": [waiting] })).creating, creating);
    assert!(!pod(json!({ "phase": "Running" })).creating);
}

#[rstest]
#[case(json!({}))]
#[case(json!({ "labels": {} }))]
#[case(json!({ "labels": { POOL_LABEL: "p" } }))]
fn a_pod_without_our_labels_is_none_of_ours(#[case] mut metadata: Value) {
    metadata["name"] = json!("x");
    metadata["uid"] = json!("u");
    let pod: Pod = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
    assert!(pod.into_domain().is_none());
}

#[rstest]
#[case("Pending", false)]
#[case("Running", false)]
#[case("Unknown", false)]
#[case("Succeeded", true)]
#[case("Failed", true)]
fn a_driver_has_ended_when_its_pod_has(#[case] phase: &str, #[case] ended: bool) {
    assert_eq!(pod(json!({ "phase": phase })).ended, ended);
}

fn container(state: Value) -> Value {
    json!({
        "phase": "Pending",
        "containerStatuses": [
            { "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state }
        ],
    })
}

fn init(state: Value) -> Value {
    json!({ "name": "fetch", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state })
}

#[rstest]
#[case::nothing(json!({}), None)]
#[case::ordinary_waiting(container(json!({ "waiting": { "reason": "ContainerCreating" } })), None)]
#[case::a_bad_image(
    container(json!({ "waiting": { "reason": "ErrImagePull", "message": "no such image" } })),
    Some("ErrImagePull: no such image")
)]
#[case::out_of_memory(
    container(json!({ "terminated": { "reason": "OOMKilled", "exitCode": 137 } })),
    Some("driver container ended with exit code 137, reason OOMKilled")
)]
#[case::no_node(
    json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "message": "0/3 nodes are available" }] }),
    Some("0/3 nodes are available")
)]
#[case::an_init_container_that_has_done_its_work(
    json!({ "initContainerStatuses": [init(json!({ "terminated": { "reason": "Completed", "exitCode": 0 } }))] }),
    None
)]
#[case::an_init_container_that_has_not(
    json!({ "initContainerStatuses": [init(json!({ "terminated": { "reason": "Error", "exitCode": 1 } }))] }),
    Some("it ended with exit code 1 (init container fetch)")
)]
#[case::a_bad_image_of_an_init_container(
    json!({ "initContainerStatuses": [init(json!({ "waiting": { "reason": "ImagePullBackOff" } }))] }),
    Some("ImagePullBackOff (init container fetch)")
)]
#[case::evicted(json!({ "phase": "Failed", "message": "The node was low on memory" }), Some("The node was low on memory"))]
fn a_pod_tells_what_keeps_it_from_running(#[case] status: Value, #[case] message: Option<&str>) {
    assert_eq!(pod(status).message.as_deref(), message);
}

#[test]
fn an_application_keeps_its_state_and_its_conf() {
    let application: SparkApplication = serde_json::from_value(json!({
        "apiVersion": "sparkoperator.k8s.io/v1beta2",
        "kind": "SparkApplication",
        "metadata": {
            "name": "p-0", "uid": "u", "resourceVersion": "42", "labels": labels(),
            "ownerReferences": [
                { "apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "another" },
                { "apiVersion": "v1", "kind": "SparkSessionPool", "name": "p", "uid": "owner", "controller": true },
            ],
        },
        "spec": { "sparkConf": { "spark.connect.grpc.binding.port": "8424" }, "type": "Scala" },
        "status": { "applicationState": { "state": "FAILED", "errorMessage": "driver OOM" }, "other": 1 },
    }))
    .unwrap();
    let Some(Object::Application(application)) = application.into_domain() else { panic!("not ours") };
    assert_eq!(
        (application.state.as_str(), application.error_message.as_deref()),
        ("FAILED", Some("driver OOM"))
    );
    assert_eq!(application.spark_conf["spark.connect.grpc.binding.port"], "8424");
    assert_eq!((application.meta.resource_version, application.meta.deleting), (42, false));
    assert_eq!(application.controller.as_deref(), Some("owner"));
}

#[test]
fn an_application_that_the_spark_operator_has_not_seen_has_no_state() {
    let application: SparkApplication = serde_json::from_value(json!({
        "apiVersion": "sparkoperator.k8s.io/v1beta2",
        "kind": "SparkApplication",
        "metadata": { "name": "p-0", "uid": "u", "labels": labels() },
        "spec": {},
    }))
    .unwrap();
    let Some(Object::Application(application)) = application.into_domain() else { panic!("not ours") };
    assert_eq!((application.state.as_str(), application.error_message), ("", None));
}

/// They go into conditions and Events.
#[test]
fn messages_of_others_tell_no_secret() {
    let said = "failed to run spark-submit: --conf spark.x.password=hunter2 --jars https://bob:hunter2@repo/x.jar: 404";
    let shown = "failed to run spark-submit: --conf spark.x.password=… --jars https://…@repo/x.jar: 404";
    let application: SparkApplication = serde_json::from_value(json!({
        "metadata": { "name": "p-0", "uid": "u", "labels": labels() },
        "spec": {},
        "status": { "applicationState": { "state": "FAILED", "errorMessage": said } },
    }))
    .unwrap();
    let Some(Object::Application(application)) = application.into_domain() else { panic!("not ours") };
    assert_eq!(application.error_message.as_deref(), Some(shown));
    let waiting = container(json!({ "waiting": { "reason": "ErrImagePull", "message": said } }));
    assert_eq!(pod(waiting).message.unwrap(), format!("ErrImagePull: {shown}"));
    assert_eq!(pod(json!({ "phase": "Failed", "message": said })).message.as_deref(), Some(shown));
}

#[rstest]
#[case(json!({ DRAIN_ANNOTATION: "true" }), true)]
#[case(json!({ DRAIN_ANNOTATION: "false" }), false)]
#[case(json!({}), false)]
fn an_application_is_drained_by_its_annotation(#[case] annotations: Value, #[case] draining: bool) {
    let metadata = json!({ "name": "p-0", "uid": "u", "labels": labels(), "annotations": annotations });
    let application: SparkApplication =
        serde_json::from_value(json!({ "metadata": metadata, "spec": {} })).unwrap();
    let Some(Object::Application(application)) = application.into_domain() else { panic!("not ours") };
    assert_eq!(application.draining, draining);
}

fn driver_with(spec: Value, status: Value) -> DriverPod {
    let metadata = json!({ "name": "p-0-driver", "uid": "u", "labels": labels() });
    let pod = json!({ "metadata": metadata, "spec": spec, "status": status });
    match serde_json::from_value::<Pod>(pod).unwrap().into_domain() {
        Some(Object::Pod(pod)) => pod,
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::waits_for_one(json!({ "containers": [] }), None)]
#[case::has_one(json!({ "containers": [], "nodeName": "node-7" }), Some("node-7"))]
fn the_node_of_a_driver_is_known(#[case] spec: Value, #[case] node: Option<&str>) {
    assert_eq!(driver_with(spec, json!({})).node.as_deref(), node);
}

fn requesting(name: &str, requests: &Value) -> Value {
    json!({ "name": name, "resources": { "requests": requests } })
}

#[rstest]
#[case::the_driver_alone(
    json!({ "containers": [requesting("driver", &json!({ "cpu": "1", "memory": "1408Mi" }))] }),
    Requests { cpu_millis: Some(1000), memory_bytes: Some(1408 << 20), containers: 1 }
)]
#[case::with_sidecars_of_both_kinds(
    json!({
        "containers": [
            requesting("driver", &json!({ "cpu": "1", "memory": "1Gi" })),
            requesting("proxy", &json!({ "cpu": "100m", "memory": "64Mi" })),
        ],
        "initContainers": [
            requesting("fetch", &json!({ "cpu": "2", "memory": "2Gi" })),
            { "name": "agent", "restartPolicy": "Always",
              "resources": { "requests": { "cpu": "0.2", "memory": "64Mi" } } },
        ],
    }),
    Requests { cpu_millis: Some(1300), memory_bytes: Some(1152 << 20), containers: 3 }
)]
#[case::one_that_requests_no_cpu(
    json!({
        "containers": [
            requesting("driver", &json!({ "cpu": "1", "memory": "1Gi" })),
            requesting("proxy", &json!({ "memory": "1Gi" })),
        ],
    }),
    Requests { cpu_millis: None, memory_bytes: Some(2 << 30), containers: 2 }
)]
#[case::what_is_no_quantity(
    json!({ "containers": [requesting("driver", &json!({ "cpu": "much", "memory": "-1" }))] }),
    Requests { cpu_millis: None, memory_bytes: None, containers: 1 }
)]
#[case::nothing(json!({ "containers": [] }), Requests::default())]
fn the_requests_of_a_driver_are_those_of_all_its_containers(#[case] spec: Value, #[case] requests: Requests) {
    assert_eq!(driver_with(spec, json!({})).requests, requests);
}

#[test]
fn a_driver_has_started_when_all_its_containers_run() {
    let running = |name: &str, at: &str| {
        json!({ "name": name, "state": { "running": { "startedAt": at } }, "ready": true, "image": "i",
                "imageID": "", "restartCount": 0 })
    };
    let waiting = json!({ "name": "proxy", "state": { "waiting": {} }, "ready": false, "image": "i", "imageID": "",
                          "restartCount": 0 });
    let spec = json!({ "containers": [] });
    let first = running("driver", "2026-01-01T00:00:00Z");
    let status = json!({ "containerStatuses": [first, waiting] });
    assert_eq!(driver_with(spec.clone(), status).started_at, None);
    let status = json!({ "containerStatuses": [first, running("proxy", "2026-01-01T00:00:07Z")] });
    assert_eq!(driver_with(spec, status).started_at.unwrap().to_string(), "2026-01-01T00:00:07Z");
    assert_eq!(pod(json!({ "phase": "Pending" })).started_at, None);
}

fn session_of_a_later_version(status: Value) -> Session {
    let session: SparkInteractiveSession = serde_json::from_value(json!({
        "apiVersion": "sparkinteractive.io/v1alpha1",
        "kind": "SparkInteractiveSession",
        "metadata": { "name": "s", "uid": "u", "generation": 3 },
        "spec": { "user": "alice", "pool": "p", "color": "blue" },
        "status": status,
    }))
    .unwrap();
    match session.into_domain() {
        Some(Object::Session(session)) => session,
        other => panic!("{other:?}"),
    }
}

/// Its instance would look empty else, and be given up with what runs there.
#[rstest]
#[case::with_a_place(json!({ "assignedInstance": "p-0" }), SessionState::Active)]
#[case::that_waits(json!({ "wait": { "phase": "Thawing", "asOf": "2027-01-15T08:00:00Z" } }), SessionState::Pending)]
#[case::that_is_over(
    json!({ "assignedInstance": "p-0", "finishedAt": "2027-01-15T08:00:00Z" }),
    SessionState::Terminated
)]
fn a_session_in_a_state_of_a_later_version_is_where_it_is(
    #[case] mut status: Value,
    #[case] state: SessionState,
) {
    status["state"] = json!("Suspended");
    status["observedGeneration"] = json!(3);
    let session = session_of_a_later_version(status.clone());
    assert_eq!(session.status.state, state);
    assert_eq!(session.status.assigned_instance.as_deref(), status["assignedInstance"].as_str());
    assert_eq!(session.status.observed_generation, None, "so that the planner writes it in its own words");
}

/// The planner would write without end what it does not own.
#[test]
fn a_word_that_others_write_costs_no_plan() {
    let status = json!({ "state": "Active", "disconnectCause": "Evicted", "observedGeneration": 3 });
    let session = session_of_a_later_version(status);
    assert_eq!((session.status.disconnect_cause, session.status.observed_generation), (None, Some(3)));
}

#[test]
fn a_pool_with_a_status_of_a_later_version_is_read_and_its_status_written_anew() {
    let pool: SparkSessionPool = serde_json::from_value(json!({
        "apiVersion": "sparkinteractive.io/v1alpha1",
        "kind": "SparkSessionPool",
        "metadata": { "name": "p", "uid": "u", "generation": 3 },
        "spec": { "type": "connect", "host": "h.test", "sparkApplicationTemplate": { "spec": {} }, "color": "blue" },
        "status": {
            "observedGeneration": 3, "nextOrdinal": 7,
            "instances": [{ "name": "p-6", "state": "Hibernating" }],
        },
    }))
    .unwrap();
    let Some(Object::Pool(pool)) = pool.into_domain() else { panic!("no pool") };
    assert_eq!((pool.status.next_ordinal, pool.status.observed_generation), (7, None));
    assert_eq!(pool.status.instances[0].state, crate::api::InstanceState::Pending);
}
