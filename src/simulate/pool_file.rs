//! The pool of a manifest, refused where the API server would refuse it: by the schema of the CustomResourceDefinition,
//! and by the few rules beyond that concern sizes.

mod schema;

use anyhow::{Context, bail, ensure};
use kube::CustomResourceExt;
use serde_json::Value;

use crate::api::SparkSessionPool;

/// Name of a pool whose manifest gives it none.
const NAME: &str = "pool";

/// `text` may have several documents, of which one is a SparkSessionPool.
pub fn read(text: &str) -> anyhow::Result<SparkSessionPool> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("this is no YAML")?;
    let documents = documents.into_iter().flat_map(items);
    let (pools, others): (Vec<Value>, Vec<Value>) = documents
        .filter(|document| !document.is_null())
        .partition(|document| document["kind"] == "SparkSessionPool");
    let [mut pool] = <[Value; 1]>::try_from(pools).map_err(|pools| match (pools.len(), others.first()) {
        (0, Some(other)) => anyhow::anyhow!("this is {}, and not a SparkSessionPool", kind(other)),
        (0, None) => anyhow::anyhow!("there is nothing in it"),
        (count, _) => anyhow::anyhow!("there are {count} SparkSessionPools in it: simulate one at a time"),
    })?;
    let version = pool["apiVersion"].as_str().unwrap_or_default();
    ensure!(
        version == SparkSessionPool::api_resource().api_version,
        "apiVersion is `{version}`, and has to be `{}`",
        SparkSessionPool::api_resource().api_version
    );
    let wrong = schema::wrong(&SparkSessionPool::crd(), &pool);
    if !wrong.is_empty() {
        let place = |path: &str| line_of(text, path).map_or(String::new(), |line| format!("line {line}: "));
        let lines: Vec<String> =
            wrong.iter().map(|(path, what)| format!("{}{path}: {what}", place(path))).collect();
        bail!("{}", lines.join("\n"));
    }
    if pool["metadata"]["name"].is_null() {
        pool["metadata"] = serde_json::json!({ "name": NAME });
    }
    let pool: SparkSessionPool = serde_json::from_value(pool)?;
    check(&pool)?;
    Ok(pool)
}

/// Of a list, as `kubectl get` prints several objects.
fn items(mut document: Value) -> Vec<Value> {
    match document["items"].take() {
        Value::Array(items) if document["kind"] == "List" => items,
        _ => vec![document],
    }
}

fn kind(document: &Value) -> String {
    document["kind"]
        .as_str()
        .map_or_else(|| "an object without a kind".to_owned(), |kind| format!("a {kind}"))
}

/// The rules that the API server has in another language.
fn check(pool: &SparkSessionPool) -> anyhow::Result<()> {
    let (replicas, scaling) = (&pool.spec.replicas, &pool.spec.scaling);
    ensure!(
        replicas.min <= replicas.max,
        "spec.replicas: replicas.min must not be greater than replicas.max"
    );
    let fraction = |text: &str| text.parse().unwrap_or(0.0);
    let (up, down): (f64, f64) =
        (fraction(&scaling.scale_up_threshold), fraction(&scaling.scale_down_threshold));
    ensure!(down < up, "spec.scaling: scaling.scaleDownThreshold must be less than scaling.scaleUpThreshold");
    Ok(())
}

/// Where this field is, in a manifest of the usual form; of one that is missing, where it should be.
fn line_of(text: &str, path: &str) -> Option<usize> {
    let mut lines = text.lines().enumerate();
    let mut found = None;
    for key in path.split('.').map(|key| key.split('[').next().unwrap_or_default()) {
        let is_key = |line: &str| {
            line.trim_start()
                .trim_start_matches("- ")
                .strip_prefix(key)
                .is_some_and(|rest| rest.starts_with(':'))
        };
        match lines.find(|(_, line)| is_key(line)) {
            Some((line, _)) => found = Some(line + 1),
            None => return found,
        }
    }
    found
}

#[cfg(test)]
#[path = "pool_file_tests.rs"]
mod tests;
