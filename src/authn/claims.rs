//! Reads single claims out of a token's claims. Pure; whether they are true is `token`'s question.

use jiff::Timestamp;
use serde_json::{Map, Number, Value};

/// The claim at `path`: a name, or names joined by dots such as `realm_access.roles`.
///
/// Names may themselves contain dots (`https://example.org/groups`, a Keycloak client id in
/// `resource_access.my.client.roles`), so every way to split the path is tried, longest first.
pub(super) fn at<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    path.rmatch_indices('.').find_map(|(dot, _)| {
        let inner = claims.get(path.get(..dot)?)?.as_object()?;
        at(inner, path.get(dot + 1..)?)
    })
}

/// The strings at `path`, an array or a single one; what is missing or of another type counts as none.
pub(super) fn strings(claims: &Map<String, Value>, path: &str) -> Vec<String> {
    match at(claims, path) {
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(value)) => vec![value.clone()],
        _ => Vec::new(),
    }
}

/// Whether the claim at `path` is `value`, or an array that has it. `true` and `7` are what they look like.
pub(super) fn says(claims: &Map<String, Value>, path: &str, value: &str) -> bool {
    let is = |claim: &Value| match claim {
        Value::String(text) => text == value,
        Value::Bool(flag) => value.parse() == Ok(*flag),
        Value::Number(number) => value.parse::<Number>().is_ok_and(|value| value == *number),
        _ => false,
    };
    match at(claims, path) {
        Some(Value::Array(claims)) => claims.iter().any(is),
        Some(claim) => is(claim),
        None => false,
    }
}

/// Whether the string or array `aud` names `audience` (RFC 7519 §4.1.3).
pub(super) fn names_audience(aud: &Value, audience: &str) -> bool {
    match aud {
        Value::String(one) => one == audience,
        Value::Array(many) => many.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

/// A NumericDate: seconds since 1970, whole or not (RFC 7519 §2), kept within what a timestamp holds.
pub(super) fn time(value: &Value) -> Option<Timestamp> {
    let number = value.as_number()?;
    // `as` saturates, and floors what is positive.
    let seconds = number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds as i64))?;
    let bound = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Some(Timestamp::from_second(seconds).unwrap_or(bound))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn claims() -> Map<String, Value> {
        json!({
            "groups": ["a", 7, "b"],
            "role": "dev",
            "realm_access": {"roles": ["admin"]},
            "resource_access": {"my.client": {"roles": ["x"]}},
            "https://example.org/groups": ["y"],
        })
        .as_object()
        .cloned()
        .unwrap()
    }

    #[rstest]
    #[case("groups", &["a", "b"])]
    #[case("role", &["dev"])]
    #[case("realm_access.roles", &["admin"])]
    #[case("resource_access.my.client.roles", &["x"])]
    #[case("https://example.org/groups", &["y"])]
    #[case("realm_access", &[])]
    #[case("realm_access.", &[])]
    #[case("groups.a", &[])]
    #[case("", &[])]
    #[case("...", &[])]
    fn groups_are_found_by_their_path(#[case] path: &str, #[case] expected: &[&str]) {
        assert_eq!(strings(&claims(), path), expected);
    }

    #[rstest]
    #[case("role", "dev", true)]
    #[case("role", "de", false)]
    #[case("groups", "b", true)]
    #[case("groups", "7", true)]
    #[case("groups", "[\"a\",7,\"b\"]", false)]
    #[case("realm_access.roles", "admin", true)]
    #[case("realm_access", "admin", false)]
    #[case("nothing", "", false)]
    fn a_claim_says_its_value_or_one_of_several(#[case] path: &str, #[case] value: &str, #[case] said: bool) {
        assert_eq!(says(&claims(), path, value), said);
    }

    #[rstest]
    #[case(json!("spark"), true)]
    #[case(json!(["account", "spark"]), true)]
    #[case(json!(["account"]), false)]
    #[case(json!([["spark"]]), false)]
    #[case(json!({"spark": true}), false)]
    #[case(json!(null), false)]
    fn an_audience_is_a_string_or_one_of_many(#[case] aud: Value, #[case] expected: bool) {
        assert_eq!(names_audience(&aud, "spark"), expected);
    }

    #[rstest]
    #[case(json!(1_700_000_000), Some("2023-11-14T22:13:20Z".parse().unwrap()))]
    #[case(json!(1_700_000_000.9), Some("2023-11-14T22:13:20Z".parse().unwrap()))]
    #[case(json!(u64::MAX), Some(Timestamp::MAX))]
    #[case(json!(1e300), Some(Timestamp::MAX))]
    #[case(json!(-1e300), Some(Timestamp::MIN))]
    #[case(json!("1700000000"), None)]
    #[case(json!(null), None)]
    fn a_time_is_a_number_of_seconds(#[case] value: Value, #[case] expected: Option<Timestamp>) {
        assert_eq!(time(&value), expected);
    }
}
