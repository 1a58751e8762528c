//! Server-side apply: who keeps a pool in Git, and who scales it, never meets the operator.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use spark_session_operator::api::{SessionState, SparkSessionPool};

use super::running::{POOL, pool, session, with_operator};

/// Without the number that somebody else scales.
fn in_git(max: i32) -> Value {
    let mut pool = pool();
    pool["spec"]["replicas"] = json!({ "max": max });
    pool
}

#[tokio::test]
async fn a_pool_that_is_kept_in_git_is_applied_again_and_again_without_conflicts() {
    with_operator(in_git(1), async |running| {
        running.create_session(&session("s", "alice")).await.unwrap();
        running.is("s", SessionState::Active).await;
        let pools = running.api::<SparkSessionPool>();
        let scaled = Patch::Merge(json!({ "spec": { "replicas": 1 } }));
        pools.patch_scale(POOL, &PatchParams::default(), &scaled).await.unwrap();
        let before = pools.get(POOL).await.unwrap();
        let held = ["sparkinteractive.io/release".to_owned()];
        assert_eq!(before.metadata.finalizers.as_deref(), Some(&held[..]));

        let same = running.apply(&in_git(1)).await.unwrap();
        assert_eq!(same.metadata.generation, before.metadata.generation, "nothing has changed");
        running.apply(&in_git(2)).await.unwrap();
        let after = pools.get(POOL).await.unwrap();
        assert_eq!((after.spec.replicas.min, after.spec.replicas.max), (1, 2));
        assert_eq!(after.metadata.finalizers, before.metadata.finalizers);
        assert_eq!(after.status.unwrap().total_active_sessions, 1);

        let mut with_min = in_git(2);
        with_min["spec"]["replicas"]["min"] = json!(0);
        running.apply(&with_min).await.unwrap();
        assert_eq!(pools.get(POOL).await.unwrap().spec.replicas.min, 0, "a number that Git has is Git's");
    })
    .await;
}
