//! Prints the CustomResourceDefinitions that `crds/` holds.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::{SparkInteractiveSession, SparkSessionPool};

/// File name in `crds/` and YAML text of every CustomResourceDefinition of this project.
pub fn manifests() -> Result<Vec<(String, String)>, serde_saphyr::ser::Error> {
    [SparkSessionPool::crd(), SparkInteractiveSession::crd()]
        .into_iter()
        .map(|crd| Ok((format!("{}.yaml", crd.spec.names.plural), to_yaml(&crd)?)))
        .collect()
}

fn to_yaml(crd: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(crd)
}
