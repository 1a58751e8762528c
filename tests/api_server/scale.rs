//! `kubectl scale`: how many instances a pool has at least.

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use spark_session_operator::api::SparkSessionPool;

use super::{CONNECT_POOL, assert_refused, create, in_a_namespace, manifest};

#[tokio::test]
async fn scaling_a_pool_sets_how_many_instances_it_has_at_least() {
    in_a_namespace(async |client, namespace| {
        create::<SparkSessionPool>(&client, &namespace, &manifest(CONNECT_POOL)).await.unwrap();
        let pools: Api<SparkSessionPool> = Api::namespaced(client, &namespace);
        let params = PatchParams::default();
        let selector = "sparkinteractive.io/pool=notebooks";
        let status = Patch::Merge(json!({ "status": { "currentReplicas": 2, "selector": selector } }));
        pools.patch_status("notebooks", &params, &status).await.unwrap();

        let wanted = |n: i32| Patch::Merge(json!({ "spec": { "replicas": n } }));
        let scale = pools.patch_scale("notebooks", &params, &wanted(3)).await.unwrap();
        assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(3));
        let status = scale.status.unwrap();
        // Autoscalers refuse to work without it.
        assert_eq!((status.replicas, status.selector.as_deref()), (2, Some(selector)));
        let replicas = pools.get("notebooks").await.unwrap().spec.replicas;
        assert_eq!(replicas.min, 3);

        let beyond = pools.patch_scale("notebooks", &params, &wanted(replicas.max + 1)).await;
        assert_refused(beyond, "replicas.min must not be greater than replicas.max");
    })
    .await;
}
