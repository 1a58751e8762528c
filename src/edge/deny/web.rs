//! Plain HTTP: JSON, or a page for browsers.

use envoy_types::pb::envoy::service::auth::v3::DeniedHttpResponse;
use serde_json::json;

use super::{clipped, http_response, meaning};
use crate::edge::headers;
use crate::model::{Denial, DenialKind};

const MAX_MESSAGE: usize = 4096;

pub fn denied(denial: &Denial, html: bool) -> DeniedHttpResponse {
    let meaning = meaning(denial.kind);
    let message = clipped(&denial.message, MAX_MESSAGE, char::len_utf8);
    let (kind, body) = if html {
        ("text/html; charset=utf-8", page(meaning.http, &message))
    } else {
        ("application/json", json!({"error": message, "reason": meaning.reason}).to_string())
    };
    let mut headers = vec![headers::set("content-type", kind), headers::set("cache-control", "no-store")];
    if denial.kind == DenialKind::Unauthenticated {
        headers.push(headers::set("www-authenticate", r#"Basic realm="spark""#));
    }
    if let Some(after) = denial.retry_after {
        // Whole seconds, and never "at once".
        headers.push(headers::set("retry-after", after.as_secs().max(1).to_string()));
    }
    http_response(meaning.http, headers, body)
}

fn page(status: u16, message: &str) -> String {
    let message = escaped(message);
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Spark: {status}</title>\
         <body style=\"font:16px sans-serif;max-width:40em;margin:4em auto\"><h1>{status}</h1><p>{message}</p>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
