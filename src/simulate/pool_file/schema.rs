//! Whether an object is what a CustomResourceDefinition says: types, bounds, patterns, and no unknown fields. Rules in
//! CEL are not read.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

/// What is wrong with the object's spec, and where.
pub fn wrong(crd: &CustomResourceDefinition, object: &Value) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    let schema = crd.spec.versions.first().and_then(|version| version.schema.as_ref());
    let schema = schema.and_then(|schema| schema.open_api_v3_schema.as_ref());
    let spec = schema.and_then(|schema| schema.properties.as_ref()?.get("spec"));
    match (spec, &object["spec"]) {
        (_, Value::Null) => wrong.push(("spec".to_owned(), "is missing".to_owned())),
        (Some(schema), spec) => check("spec", schema, spec, &mut wrong),
        (None, _) => {}
    }
    wrong
}

fn check(path: &str, schema: &JSONSchemaProps, value: &Value, wrong: &mut Vec<(String, String)>) {
    if value.is_null() && schema.nullable == Some(true) {
        return;
    }
    let mut say = |what: String| wrong.push((path.to_owned(), what));
    if let Some(expected) = schema.type_.as_deref().filter(|expected| !is_a(expected, value)) {
        let article = if expected.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
        return say(format!("`{value}` is not {article} {expected}"));
    }
    if let Some(allowed) = schema.enum_.as_ref().filter(|allowed| !allowed.iter().any(|it| it.0 == *value)) {
        let allowed: Vec<String> = allowed.iter().map(|it| format!("`{}`", words(&it.0))).collect();
        say(format!("`{}` is none of {}", words(value), allowed.join(", ")));
    }
    if let Some(number) = value.as_f64() {
        if let Some(minimum) = schema.minimum.filter(|minimum| number < *minimum) {
            say(format!("{value} is less than {minimum}"));
        }
        if let Some(maximum) = schema.maximum.filter(|maximum| number > *maximum) {
            say(format!("{value} is more than {maximum}"));
        }
    }
    if let Some(text) = value.as_str() {
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        if schema.min_length.is_some_and(|least| length < least) {
            say("is too short".to_owned());
        }
        if let Some(most) = schema.max_length.filter(|most| length > *most) {
            say(format!("has more than {most} characters"));
        }
        let pattern = schema
            .pattern
            .as_deref()
            .filter(|pattern| regex::Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text)));
        if let Some(pattern) = pattern {
            say(format!("`{text}` does not match `{pattern}`"));
        }
    }
    if let Some(fields) = value.as_object() {
        for missing in schema.required.iter().flatten().filter(|field| !fields.contains_key(*field)) {
            say(format!("`{missing}` is missing"));
        }
        for (name, value) in fields {
            let known = schema.properties.as_ref().and_then(|known| known.get(name));
            let path = format!("{path}.{name}");
            match (known, &schema.additional_properties) {
                (Some(schema), _) => check(&path, schema, value, wrong),
                (None, Some(JSONSchemaPropsOrBool::Schema(schema))) => check(&path, schema, value, wrong),
                (None, Some(JSONSchemaPropsOrBool::Bool(true))) => {}
                (None, _) if schema.x_kubernetes_preserve_unknown_fields == Some(true) => {}
                (None, _) => wrong.push((path, "there is no such field".to_owned())),
            }
        }
    }
    if let (Some(items), Some(JSONSchemaPropsOrArray::Schema(schema))) = (value.as_array(), &schema.items) {
        for (n, item) in items.iter().enumerate() {
            check(&format!("{path}[{n}]"), schema, item, wrong);
        }
    }
}

fn is_a(expected: &str, value: &Value) -> bool {
    match expected {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        _ => true,
    }
}

fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
