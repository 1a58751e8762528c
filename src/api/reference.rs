//! The page of all fields, for administrators: written from the schemas that the API server checks by, and so from the
//! doc comments of this module's types. It says nothing that `kubectl explain` does not know, but all of it at once.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use crate::model::{APPLICATION_STATES, ApplicationState, Prospect};

const INTRODUCTION: &str = "# Every field, and what it does

This page is written by `spark-session-operator crds --output-dir crds`, from the definitions beside it, and a test compares
it with them. `kubectl explain ssp.spec.scaling` shows the same piece by piece. A field without a default may be left out,
unless it is required; what is out of bounds is refused when it is applied.
";

/// An object with fields of its own.
struct Section<'a> {
    path: String,
    schema: &'a JSONSchemaProps,
}

/// In Markdown.
pub fn page(definitions: &[CustomResourceDefinition]) -> String {
    let mut page = INTRODUCTION.to_owned();
    for definition in definitions {
        let names = &definition.spec.names;
        let short = names.short_names.iter().flatten().map(|name| format!(", `{name}`")).collect::<String>();
        page.push_str(&format!("\n## {} (`{}`{short})\n", names.kind, names.plural));
        let version = definition.spec.versions.first();
        let schema = version.and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
        for refusal in schema.into_iter().flat_map(refusals) {
            page.push_str(&format!("\nRefused: {refusal}.\n"));
        }
        for part in ["spec", "status"] {
            let schema = schema.and_then(|schema| schema.properties.as_ref()?.get(part));
            if let Some(schema) = schema {
                push_sections(&mut page, Section { path: part.to_owned(), schema });
            }
        }
    }
    push_states(&mut page);
    page
}

fn push_states(page: &mut String) {
    page.push_str(
        "\n## What a SparkApplication's state means for its instance\n\nA word that is not here leaves the instance as it \
         is.\n\n| state | instance | because |\n|---|---|---|\n",
    );
    for ApplicationState { word, prospect, why } in APPLICATION_STATES {
        let word = if word.is_empty() { "none".to_owned() } else { format!("`{word}`") };
        let instance = match prospect {
            Prospect::Open => "stays",
            Prospect::Ended => "has failed, and is replaced",
        };
        page.push_str(&format!("| {word} | {instance} | {why} |\n"));
    }
}

/// The fields of the section as a table, and after it the sections of those that have fields themselves.
fn push_sections(page: &mut String, section: Section<'_>) {
    let with_defaults = section.path.starts_with("spec");
    page.push_str(&format!("\n### {}\n\n{}\n", section.path, line(&description(section.schema))));
    for refusal in refusals(section.schema) {
        page.push_str(&format!("Refused: {refusal}.\n"));
    }
    page.push_str(if with_defaults {
        "\n| field | type | default | effect |\n|---|---|---|---|\n"
    } else {
        "\n| field | type | meaning |\n|---|---|---|\n"
    });
    let required = section.schema.required.as_deref().unwrap_or_default();
    let mut below = Vec::new();
    for (name, schema) in section.schema.properties.iter().flatten() {
        let (mut effect, stated) = without_default(&description(schema));
        for refusal in refusals(schema).filter(|_| !has_fields(schema)) {
            effect.push_str(&format!(" Refused: {refusal}."));
        }
        let default = match &schema.default {
            _ if required.contains(name) => "required".to_owned(),
            Some(_) if has_fields(schema) => "see below".to_owned(),
            Some(JSON(default)) => default.as_str().map_or_else(|| default.to_string(), str::to_owned),
            None => stated.unwrap_or_default(),
        };
        let cells = if with_defaults {
            vec![format!("`{name}`"), kind(schema), default, effect]
        } else {
            vec![format!("`{name}`"), kind(schema), effect]
        };
        let cells: Vec<String> = cells.iter().map(|cell| line(cell).replace('|', "\\|")).collect();
        page.push_str(&format!("| {} |\n", cells.join(" | ")));
        let path = format!("{}.{name}", section.path);
        if let Some(schema) = item(schema).filter(|schema| has_fields(schema)) {
            // Kubernetes' own: its fields are the same everywhere.
            if name != "conditions" {
                below.push(Section { path: format!("{path}[]"), schema });
            }
        } else if has_fields(schema) {
            below.push(Section { path, schema });
        }
    }
    for section in below {
        push_sections(page, section);
    }
}

fn has_fields(schema: &JSONSchemaProps) -> bool {
    schema.properties.as_ref().is_some_and(|properties| !properties.is_empty())
}

fn item(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.items.as_ref()? {
        JSONSchemaPropsOrArray::Schema(item) => Some(item),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

/// Type and bounds.
fn kind(schema: &JSONSchemaProps) -> String {
    if let Some(values) = &schema.enum_ {
        let values = values.iter().map(|JSON(value)| value.as_str().unwrap_or_default());
        return values.map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    let bounds = |from: Option<i64>, to: Option<i64>, of: &str| match (from, to) {
        (Some(from), Some(to)) => format!(", {} to {}{of}", grouped(from), grouped(to)),
        (None, Some(to)) => format!(", at most {}{of}", grouped(to)),
        (Some(from), None) => format!(", {} or more{of}", grouped(from)),
        (None, None) => String::new(),
    };
    match schema.type_.as_deref() {
        Some("integer") => format!("integer{}", bounds(whole(schema.minimum), whole(schema.maximum), "")),
        Some("string") if schema.format.as_deref() == Some("date-time") => "time".to_owned(),
        Some("string") => {
            let pattern = schema.pattern.as_ref().map(|pattern| format!(", `{pattern}`")).unwrap_or_default();
            format!("string{}{pattern}", bounds(schema.min_length, schema.max_length, " characters"))
        }
        Some("array") => {
            let item = item(schema).map_or_else(String::new, kind);
            format!("list of {item}{}", bounds(schema.min_items, schema.max_items, " entries"))
        }
        Some("object") => match &schema.additional_properties {
            Some(JSONSchemaPropsOrBool::Schema(value)) => format!("map to {}", kind(value)),
            _ => "object".to_owned(),
        },
        other => other.unwrap_or("anything").to_owned(),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "bounds of our own 32-bit fields")]
fn whole(bound: Option<f64>) -> Option<i64> {
    bound.map(|bound| bound as i64)
}

/// 10000 as 10,000.
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    groups.iter().map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(",")
}

fn description(schema: &JSONSchemaProps) -> String {
    schema.description.clone().unwrap_or_default()
}

fn refusals(schema: &JSONSchemaProps) -> impl Iterator<Item = &str> {
    schema.x_kubernetes_validations.iter().flatten().filter_map(|rule| rule.message.as_deref())
}

/// An effect whose last sentence says the default, without it, and the default.
fn without_default(effect: &str) -> (String, Option<String>) {
    match effect.rsplit_once(" Default ") {
        Some((effect, default)) if !default.contains(". ") => {
            (effect.to_owned(), Some(default.trim_end_matches('.').to_owned()))
        }
        _ => (effect.to_owned(), None),
    }
}

fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
