use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::*;
use crate::model::Object;
use crate::model::fixtures::{connect_pool, time, told};
use crate::telemetry::Metrics;

#[tokio::test(start_paused = true)]
async fn a_pool_is_told_as_its_status_has_it() {
    let mut pool = connect_pool("p");
    pool.spec.replicas.max = 7;
    pool.status.desired_replicas = 3;
    pool.status.total_active_sessions = 41;
    pool.status.pending_sessions = 2;
    pool.status.consecutive_failures = 1;
    pool.status.instances = vec![
        told("p-0", InstanceState::Running),
        told("p-1", InstanceState::Running),
        told("p-2", InstanceState::Failed),
    ];
    pool.status.conditions = vec![Condition {
        type_: "Scaled".to_owned(),
        status: "False".to_owned(),
        reason: "BackingOff".to_owned(),
        message: "Whose words are not here.".to_owned(),
        observed_generation: None,
        last_transition_time: time(0),
    }];
    let stores = Stores::new();
    stores.shown(Object::Pool(pool));
    stores.queue.add("p");
    stores.queue.add("q");
    stores.queue.add_after("later", std::time::Duration::from_secs(60));
    let metrics = Metrics::default().with(PoolMetrics::new(stores)).encode().unwrap();
    for line in [
        r#"workqueue_depth{name="pools"} 2"#,
        r#"spark_session_operator_pool_desired_instances{pool="p"} 3"#,
        r#"spark_session_operator_pool_max_instances{pool="p"} 7"#,
        r#"spark_session_operator_pool_consecutive_failures{pool="p"} 1"#,
        r#"spark_session_operator_pool_instances{pool="p",state="Running"} 2"#,
        r#"spark_session_operator_pool_instances{pool="p",state="Pending"} 0"#,
        r#"spark_session_operator_pool_instances{pool="p",state="Failed"} 1"#,
        r#"spark_session_operator_pool_sessions{pool="p",state="placed"} 41"#,
        r#"spark_session_operator_pool_sessions{pool="p",state="waiting"} 2"#,
        r#"spark_session_operator_pool_condition{pool="p",condition="Scaled",status="False",reason="BackingOff"} 1"#,
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("words"), "{metrics}");
}
