use rstest::rstest;

use super::*;

const HEAD: &str =
    "apiVersion: sparkinteractive.io/v1alpha1\nkind: SparkSessionPool\nmetadata:\n  name: dev\n";
const SPEC: &str =
    "spec:\n  type: connect\n  host: a.example.com\n  sparkApplicationTemplate:\n    spec: {any: [thing]}\n";

#[test]
fn a_pool_is_found_among_other_manifests() {
    let text = format!("kind: Secret\napiVersion: v1\n---\n{HEAD}{SPEC}  replicas:\n    max: 7\n---\n");
    let pool = read(&text).unwrap();
    assert_eq!((pool.metadata.name.as_deref(), pool.spec.replicas.max), (Some("dev"), 7));
}

/// As `kubectl get ssp -o yaml` prints it.
#[test]
fn the_pool_of_a_list_is_read() {
    let pool = format!("{HEAD}{SPEC}").replace('\n', "\n    ");
    let text = format!("apiVersion: v1\nitems:\n  - {}\nkind: List\n", pool.trim_end());
    assert_eq!(read(&text).unwrap().metadata.name.as_deref(), Some("dev"));
    let two = text.replace("kind: List", &format!("  - {}\nkind: List", pool.trim_end()));
    assert_eq!(
        read(&two).unwrap_err().to_string(),
        "there are 2 SparkSessionPools in it: simulate one at a time"
    );
}

#[test]
fn the_pools_that_the_tests_apply_are_read() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests");
    for name in ["thrift-pool", "connect-pool"] {
        let text = std::fs::read_to_string(format!("{directory}/{name}.yaml")).unwrap();
        assert!(read(&text).is_ok(), "{name}: {:#}", read(&text).unwrap_err());
    }
}

#[rstest]
#[case::above_a_bound(
    "  scaling:\n    cooldownSeconds: 100000\n",
    "line 11: spec.scaling.cooldownSeconds: 100000 is more than 86400"
)]
#[case::below_a_bound("  replicas: {min: -1}\n", "line 10: spec.replicas.min: -1 is less than 0")]
#[case::type_("  replicas:\n    min: three\n", "line 11: spec.replicas.min: `\"three\"` is not an integer")]
#[case::typo("  replicas:\n    maximum: 3\n", "line 11: spec.replicas.maximum: there is no such field")]
#[case::fraction(
    "  scaling:\n    scaleUpThreshold: \"80%\"\n",
    "line 11: spec.scaling.scaleUpThreshold: `80%` does not match `^(0(\\.[0-9]{1,4})?|1(\\.0{1,4})?)$`"
)]
#[case::choice(
    "  sharing: Everybody\n",
    "line 10: spec.sharing: `Everybody` is none of `Pool`, `User`, `Session`"
)]
#[case::order(
    "  replicas: {min: 4, max: 3}\n",
    "spec.replicas: replicas.min must not be greater than replicas.max"
)]
#[case::thresholds(
    "  scaling: {scaleUpThreshold: \"0.2\"}\n",
    "spec.scaling: scaling.scaleDownThreshold must be less than scaling.scaleUpThreshold"
)]
fn what_the_api_server_would_refuse_is_refused_with_its_line(#[case] more: &str, #[case] error: &str) {
    assert_eq!(read(&format!("{HEAD}{SPEC}{more}")).unwrap_err().to_string(), error);
}

#[rstest]
#[case::nothing("", "there is nothing in it")]
#[case::other("apiVersion: v1\nkind: Pod\n", "this is a Pod, and not a SparkSessionPool")]
#[case::no_kind("min: 3\n", "this is an object without a kind, and not a SparkSessionPool")]
#[case::version(
    "apiVersion: v1\nkind: SparkSessionPool\n",
    "apiVersion is `v1`, and has to be `sparkinteractive.io/v1alpha1`"
)]
#[case::no_spec("apiVersion: sparkinteractive.io/v1alpha1\nkind: SparkSessionPool\n", "spec: is missing")]
#[case::missing(
    "apiVersion: sparkinteractive.io/v1alpha1\nkind: SparkSessionPool\nspec: {type: connect, host: a}\n",
    "line 3: spec: `sparkApplicationTemplate` is missing"
)]
fn what_is_no_pool_is_said_to_be_none(#[case] text: &str, #[case] error: &str) {
    assert_eq!(read(text).unwrap_err().to_string(), error);
}

#[test]
fn two_pools_are_one_too_many() {
    let text = format!("{HEAD}{SPEC}---\n{HEAD}{SPEC}");
    assert_eq!(
        read(&text).unwrap_err().to_string(),
        "there are 2 SparkSessionPools in it: simulate one at a time"
    );
}

#[test]
fn what_is_no_yaml_is_shown_with_its_line() {
    let error = format!("{:#}", read("spec:\n  - a\n  b: [\n").unwrap_err());
    assert!(error.starts_with("this is no YAML: ") && error.contains("line 3"), "{error}");
}
