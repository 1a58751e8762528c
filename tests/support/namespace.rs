//! The API server that `tests/run` has started, and a namespace in it for each test.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, Config};
use uuid::Uuid;

/// As administrator.
pub async fn config() -> Config {
    assert!(
        std::env::var_os("KUBECONFIG").is_some(),
        "These tests need an API server with the CRDs, and KUBECONFIG to point to it: use `tests/run`."
    );
    // Another test of this process may have installed it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Config::infer().await.expect("KUBECONFIG can be read")
}

pub async fn client() -> Client {
    Client::try_from(config().await).expect("there is a way to the API server")
}

/// Runs the test in a namespace of its own, whose name begins so. It is deleted however the test ends.
pub async fn in_a_namespace(prefix: &str, test: impl AsyncFnOnce(Client, String)) {
    let client = client().await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let name = format!("{prefix}-{}", Uuid::new_v4());
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(name.clone());
    namespaces.create(&PostParams::default(), &namespace).await.expect("the API server answers");
    let outcome = AssertUnwindSafe(test(client, name.clone())).catch_unwind().await;
    namespaces.delete(&name, &DeleteParams::default()).await.unwrap();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}
