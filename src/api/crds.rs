//! Prints the CustomResourceDefinitions that `crds/` holds, and the page that explains them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::{SparkInteractiveSession, SparkSessionPool, reference};

/// File name in `crds/` of the page of all fields.
pub const PAGE: &str = "README.md";

/// File name in `crds/` and YAML text of every CustomResourceDefinition of this project.
pub fn manifests() -> Result<Vec<(String, String)>, serde_saphyr::ser::Error> {
    definitions()
        .into_iter()
        .map(|crd| Ok((format!("{}.yaml", crd.spec.names.plural), to_yaml(&crd)?)))
        .collect()
}

/// Every field with its type, its bounds, its default and its effect, in Markdown.
pub fn page() -> String {
    reference::page(&definitions())
}

fn definitions() -> [CustomResourceDefinition; 2] {
    [SparkSessionPool::crd(), SparkInteractiveSession::crd()]
}

fn to_yaml(crd: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(crd)
}
