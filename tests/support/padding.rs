//! Objects as large as the API server takes them, so that nothing can be added. They are padded where no schema counts.

use serde_json::{Value, json};
use uuid::Uuid;

/// The limit of etcd, 1.5 MiB, less what any object has beside its padding.
const MOST: usize = 1_572_864 - 1_000;

/// Creates the object with as much padding as there is room for.
pub async fn until_full(object: &mut Value, create: impl AsyncFn(&Value) -> Result<(), kube::Error>) {
    let mut padding = MOST;
    loop {
        object["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "example.com/v1",
            "kind": "Padding",
            "uid": Uuid::new_v4().to_string(),
            "name": "x".repeat(padding),
        }]);
        match create(object).await {
            Ok(()) => return,
            Err(kube::Error::Api(status)) if status.message.contains("request is too large") => padding -= 50,
            Err(error) => panic!("{error}"),
        }
    }
}
