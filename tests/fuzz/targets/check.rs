//! A whole check, written as a request is: the path, a line for each header (`host` is the authority), an empty line,
//! the body.
//!
//! What comes of it is in the form that everything behind it relies on, and refusing it never says yes.
#![no_main]

use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use spark_session_operator::edge::{check, deny};
use spark_session_operator::model::{Call, Denial, DenialKind, Protocol};
use spark_session_operator::spark::connect_head;

fuzz_target!(|input: &[u8]| {
    let Some(request) = request(input) else { return };
    let check = check::read(&request);
    assert!(!check.host.contains(|character: char| character.is_ascii_uppercase()), "{}", check.host);
    assert!(!check.path.contains(['?', '#']), "{}", check.path);
    let text = match &check.call {
        Call::Connect { .. } => {
            assert!(connect_head::method(&check.path).is_some());
            String::new()
        }
        Call::Thrift { session_name, .. } => {
            assert!(check.path.starts_with("/cliservice"));
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            assert!(session_name.bytes().all(plain) && (1..64).contains(&session_name.len()));
            String::new()
        }
        Call::Malformed { protocol, problem } => {
            let path =
                if *protocol == Protocol::Connect { connect_head::SERVICE_PATH } else { "/cliservice" };
            assert!(check.path.starts_with(path));
            problem.clone()
        }
        Call::Other { .. } => format!("{:?} {}", check.credentials, check.path),
    };
    for kind in [DenialKind::BadRequest, DenialKind::Unauthenticated, DenialKind::Unavailable] {
        let denial = Denial::new(kind, text.as_str());
        let answer = deny::response(&denial, &deny::Form::of(&request, &check.call));
        assert_ne!(answer.status.as_ref().map_or(0, |status| status.code), 0, "it would be a yes");
        let Some(HttpResponse::DeniedResponse(denied)) = &answer.http_response else {
            panic!("not a refusal: {answer:?}");
        };
        for header in denied.headers.iter().filter_map(|option| option.header.as_ref()) {
            let breaks = |character: char| character.is_control();
            assert!(!header.value.contains(breaks), "{}: {}", header.key, header.value.escape_debug());
        }
        answer.encode_to_vec();
    }
});

/// As Envoy asks: names of headers are in lower case, all texts are UTF-8.
fn request(input: &[u8]) -> Option<CheckRequest> {
    let end = input.windows(2).position(|two| two == b"\n\n")?;
    let (head, body) = (std::str::from_utf8(&input[..end]).ok()?, &input[end + 2..]);
    let mut lines = head.lines();
    let mut http = HttpRequest {
        method: "POST".to_owned(),
        path: lines.next()?.to_owned(),
        raw_body: body.into(),
        ..HttpRequest::default()
    };
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name {
            "host" => value.clone_into(&mut http.host),
            name => drop(http.headers.insert(name.to_ascii_lowercase(), value.to_owned())),
        }
    }
    let request = Request { http: Some(http), ..Request::default() };
    let attributes = AttributeContext { request: Some(request), ..AttributeContext::default() };
    Some(CheckRequest { attributes: Some(attributes) })
}
