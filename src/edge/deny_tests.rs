use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use prost::Message;
use rstest::rstest;

use super::*;
use crate::edge::testing::Asked;

const GRPC: Form = Form::Grpc { method: Some(ConnectMethod::ExecutePlan) };

const KINDS: [DenialKind; 15] = [
    DenialKind::Unauthenticated,
    DenialKind::LoginsLimited,
    DenialKind::PermissionDenied,
    DenialKind::UnknownHost,
    DenialKind::UnknownPath,
    DenialKind::BadRequest,
    DenialKind::QuotaExceeded,
    DenialKind::RateLimited,
    DenialKind::NotReady,
    DenialKind::TooManyWaiting,
    DenialKind::SessionClosed,
    DenialKind::SessionChanged,
    DenialKind::StartFailed,
    DenialKind::Unavailable,
    DenialKind::Internal,
];

fn header<'a>(denied: &'a DeniedHttpResponse, name: &str) -> Option<&'a str> {
    let found =
        denied.headers.iter().filter_map(|option| option.header.as_ref()).find(|header| header.key == name);
    found.map(|header| header.value.as_str())
}

fn details(denied: &DeniedHttpResponse) -> Status {
    let encoded = header(denied, "grpc-status-details-bin").unwrap();
    Status::decode(BASE64_STANDARD_NO_PAD.decode(encoded).unwrap().as_slice()).unwrap()
}

fn detail<M: Message + Default>(status: &Status, name: &str) -> Option<M> {
    let found =
        status.details.iter().find(|any| any.type_url == format!("type.googleapis.com/google.rpc.{name}"));
    found.map(|any| M::decode(any.value.as_slice()).unwrap())
}

fn forms() -> [Form; 4] {
    let head = ThriftHead { method: "OpenSession".into(), sequence_id: 1, session_handle: None };
    [GRPC, Form::Thrift(head), Form::Http { html: true }, Form::Http { html: false }]
}

#[test]
fn no_refusal_in_any_form_can_be_taken_for_a_yes() {
    for kind in KINDS {
        for form in forms() {
            let response = response(&Denial::new(kind, "No."), &form);
            assert_ne!(response.status.unwrap().code, 0, "{kind:?} {form:?}");
            assert!(matches!(response.http_response, Some(HttpResponse::DeniedResponse(_))));
        }
    }
}

#[test]
fn code_and_message_are_the_same_in_body_header_and_details() {
    for kind in KINDS {
        for message in ["No.", " 100 % ü\n„no“ ", "", "[INVALID_HANDLE.FORMAT] x"] {
            let denied = denied(&Denial::new(kind, message), &GRPC);
            let status = details(&denied);
            assert_eq!(status.message, denied.body, "{kind:?}");
            assert_eq!(Some(status.code.to_string().as_str()), header(&denied, "grpc-status"), "{kind:?}");
            assert_eq!(denied.body.trim(), denied.body, "headers lose space at their ends");
            assert!(!denied.body.is_empty());
        }
    }
}

#[test]
fn only_what_waiting_cures_is_retried_by_clients() {
    for kind in KINDS {
        for retry_after in [None, Some(Duration::from_millis(2500))] {
            let status = details(&denied(&Denial { retry_after, ..Denial::new(kind, "No.") }, &GRPC));
            let cured = match kind {
                DenialKind::NotReady | DenialKind::TooManyWaiting => true,
                DenialKind::Unavailable => retry_after.is_some(),
                _ => false,
            };
            assert_eq!(status.code == i32::from(Code::Unavailable), cured, "{kind:?} {retry_after:?}");
            let info = detail::<grpc::RetryInfo>(&status, "RetryInfo");
            assert_eq!(info.is_some(), cured, "{kind:?} {retry_after:?}");
            if let (Some(info), Some(_)) = (info, retry_after) {
                let delay = info.retry_delay.unwrap();
                assert_eq!((delay.seconds, delay.nanos), (2, 500_000_000));
            }
        }
    }
}

#[rstest]
#[case(DenialKind::SessionClosed, "[INVALID_HANDLE.SESSION_CLOSED] It was idle.")]
#[case(DenialKind::SessionChanged, "[INVALID_HANDLE.SESSION_CHANGED] It was idle.")]
fn the_end_of_a_session_is_told_as_spark_does(#[case] kind: DenialKind, #[case] text: &str) {
    let status = details(&denied(&Denial::new(kind, "It was idle."), &GRPC));
    assert_eq!((status.code, status.message.as_str()), (Code::Internal.into(), text));
    let info: grpc::ErrorInfo = detail(&status, "ErrorInfo").unwrap();
    assert_eq!(info.metadata["errorClass"], "INVALID_HANDLE.SESSION_CHANGED");
    assert_eq!(info.metadata["classes"], r#"["org.apache.spark.SparkException"]"#);
}

#[test]
fn an_error_info_comes_only_with_the_end_of_a_session() {
    for kind in KINDS {
        let status = details(&denied(&Denial::new(kind, "No."), &GRPC));
        let ended = matches!(kind, DenialKind::SessionClosed | DenialKind::SessionChanged);
        assert_eq!(detail::<grpc::ErrorInfo>(&status, "ErrorInfo").is_some(), ended, "{kind:?}");
    }
}

#[test]
fn a_config_call_does_not_end_the_session_so_that_the_query_after_it_tells_why() {
    let form = Form::Grpc { method: Some(ConnectMethod::Config) };
    let status = details(&denied(&Denial::new(DenialKind::SessionChanged, "Gone."), &form));
    assert_eq!(
        (status.message.as_str(), status.details.len()),
        ("[INVALID_HANDLE.SESSION_CHANGED] Gone.", 0)
    );
}

#[test]
fn words_that_make_pyspark_call_for_ever_are_taken_apart() {
    let message = "The driver said: [INVALID_HANDLE.SESSION_NOT_FOUND], [INVALID_HANDLE.OPERATION_NOT_FOUND]";
    let denied = denied(&Denial::new(DenialKind::StartFailed, message), &GRPC);
    assert!(!denied.body.contains("INVALID_HANDLE."), "{}", denied.body);
}

#[rstest]
#[case::ascii("x".repeat(20_000))]
#[case::umlauts("ü".repeat(20_000))]
#[case::emoji("🦀".repeat(20_000))]
#[case::quotes("'<%\n".repeat(5_000))]
fn a_long_message_is_cut_where_clients_can_still_read_it(#[case] message: String) {
    for form in forms() {
        let denied = denied(&Denial::new(DenialKind::StartFailed, message.clone()), &form);
        let grpc_message: usize =
            denied.body.bytes().map(|b| if (b' '..b'~').contains(&b) && b != b'%' { 1 } else { 3 }).sum();
        let headers: usize =
            denied.headers.iter().filter_map(|o| o.header.as_ref()).map(|h| h.value.len()).sum();
        match form {
            Form::Grpc { .. } => {
                assert!((5_500..7_000).contains(&(grpc_message + headers)), "{grpc_message} + {headers}")
            }
            _ => assert!(denied.body.len() < 30_000 && denied.body.len() > 3_000, "{}", denied.body.len()),
        }
    }
}

#[test]
fn a_thrift_call_is_answered_in_thrift_with_http_200() {
    let asked = Asked::thrift("/cliservice").by_envoy();
    let form = Form::of(&asked, &crate::edge::check::read(&asked).call);
    let denied = denied(&Denial::new(DenialKind::Unauthenticated, "Wrong password."), &form);
    assert_eq!(denied.status.as_ref().unwrap().code, 200);
    assert_eq!(header(&denied, "content-type"), Some("application/x-thrift"));
    assert!(denied.body.contains("OpenSession") && denied.body.contains("Wrong password."));
}

#[test]
fn a_thrift_call_that_nobody_has_read_is_answered_by_an_exception() {
    let denied = denied(&Denial::new(DenialKind::RateLimited, "Too many."), &Form::unread_thrift());
    assert_eq!(denied.status.as_ref().unwrap().code, 200);
    // No name, EXCEPTION, sequence id 0; then its fields.
    assert!(denied.body.starts_with("\0\0\0\0\x03\0\0\0\0\x0b\0\x01"), "{:?}", denied.body);
    assert!(denied.body.contains("Too many."));
}

#[test]
fn a_browser_gets_a_page_and_a_script_gets_json() {
    let denial = Denial::new(DenialKind::Unauthenticated, "Say <who> you are.");
    let page = |accept| {
        let asked = Asked::path("/cliservice").header("accept", accept).by_envoy();
        denied(&denial, &Form::of(&asked, &crate::edge::check::read(&asked).call))
    };
    let html = page("text/html,*/*");
    assert!(html.body.contains("<p>Say &lt;who&gt; you are.</p>"), "{}", html.body);
    let json = page("*/*");
    assert_eq!(json.body, r#"{"error":"Say <who> you are.","reason":"Unauthenticated"}"#);
    assert_eq!(json.status.as_ref().unwrap().code, 401);
    assert_eq!(header(&json, "www-authenticate"), Some(r#"Basic realm="spark""#));
}

#[test]
fn a_script_is_told_when_to_come_back() {
    let denial = Denial {
        retry_after: Some(Duration::from_millis(300)),
        ..Denial::new(DenialKind::NotReady, "Starting.")
    };
    assert_eq!(header(&denied(&denial, &Form::Http { html: false }), "retry-after"), Some("1"));
}

#[test]
fn too_many_failed_logins_are_told_with_the_time_to_wait() {
    let denial = Denial {
        retry_after: Some(Duration::from_secs(40)),
        ..Denial::new(DenialKind::LoginsLimited, "Too many failed logins for user anna. Try again in 40 s.")
    };
    let status = details(&denied(&denial, &GRPC));
    assert_eq!(
        (status.code, status.message.as_str()),
        (Code::ResourceExhausted.into(), denial.message.as_str())
    );
    let web = denied(&denial, &Form::Http { html: false });
    assert_eq!(web.status.as_ref().unwrap().code, 429);
    assert_eq!(header(&web, "retry-after"), Some("40"));
}

#[test]
fn one_request_too_many_is_told_when_to_come_back_in_each_protocol() {
    let words = "User ana has 64 requests waiting already.";
    let retry_after = Some(Duration::from_secs(5));
    let denial = Denial { retry_after, ..Denial::new(DenialKind::TooManyWaiting, words) };
    let status = details(&denied(&denial, &GRPC));
    let delay = detail::<grpc::RetryInfo>(&status, "RetryInfo").unwrap().retry_delay.unwrap();
    assert_eq!((status.code, &*status.message, delay.seconds), (Code::Unavailable.into(), words, 5));
    let head = ThriftHead { method: "OpenSession".into(), sequence_id: 1, session_handle: None };
    let thrift = denied(&denial, &Form::Thrift(head));
    assert!(thrift.body.contains(words) && thrift.body.contains("53300"), "{}", thrift.body);
    let web = denied(&denial, &Form::Http { html: false });
    assert_eq!((web.status.as_ref().unwrap().code, header(&web, "retry-after")), (503, Some("5")));
}
