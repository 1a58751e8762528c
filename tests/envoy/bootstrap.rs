//! The files of `envoy/`, filled in as `envsubst` does it.

use std::path::Path;

use serde_json::Value;

/// What a variable stands for, by its name.
pub type Values<'a> = [(&'a str, String)];

pub fn filled_in(file: &str, values: &Values<'_>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("envoy").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let text = values.iter().fold(text, |text, (key, value)| text.replace(&format!("${{{key}}}"), value));
    // Only comments may still talk of variables.
    let left = text.lines().find(|line| !line.trim_start().starts_with('#') && line.contains("${"));
    assert_eq!(left, None, "{file} has a variable that its README does not know");
    text
}

pub fn parsed(file: &str, values: &Values<'_>) -> Value {
    serde_saphyr::from_str(&filled_in(file, values)).unwrap()
}

/// So that nobody changes the one and forgets the other.
#[test]
fn the_two_bootstraps_differ_in_tls_alone() {
    let values = [
        ("SDS_DIR", "/sds"),
        ("OPERATOR_HOST", "operator"),
        ("OPERATOR_PORT", "1"),
        ("OPERATOR_NAME", "name"),
        ("ADMIN_HOST", "localhost"),
        ("ADMIN_PORT", "2"),
        ("MAX_HEAP_BYTES", "3"),
        ("NODE_ID", "node"),
    ];
    let values = values.map(|(key, value)| (key, value.to_owned()));
    let (plain, mut tls) = (parsed("bootstrap.yaml", &values), parsed("bootstrap-mtls.yaml", &values));
    let cluster = tls.pointer_mut("/static_resources/clusters/0").unwrap().as_object_mut().unwrap();
    assert!(cluster.remove("transport_socket").is_some());
    assert_eq!(plain, tls);
}
