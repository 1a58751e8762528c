//! What Envoy says in its own name, where the operator has no say: before the check, when the operator does not answer,
//! and when a server breaks off. Envoy's own words would be `local_rate_limited`, or none at all.
//!
//! The forms are those of the operator's own refusals (`edge::deny`), as far as something can tell them apart that has
//! not read the call. Not here: what the checks refuse. It is a local reply to Envoy as well, and is left as it is, since
//! everything here goes by the details of the one cause that it is about.

use std::time::Duration;

use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLogFilter, ExtensionFilter, access_log_filter::FilterSpecifier, extension_filter,
};
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, HeaderValueOption, SubstitutionFormatString, data_source,
    header_value_option::HeaderAppendAction, substitution_format_string::Format,
};
use envoy_types::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    LocalReplyConfig, ResponseMapper,
};
use envoy_types::pb::envoy::service::auth::v3::DeniedHttpResponse;
use envoy_types::util::pack_any;

use super::proto::number;
use super::{EnvoySettings, beginning, listener, open_session, rate_limit};
use crate::edge::deny::{Form, denied};
use crate::model::{Denial, DenialKind};

/// A server broke off: an expression (CEL). Envoy appends how. The latter two are said where the operator has taken the
/// server away by then, such as between two attempts of Envoy's.
const BROKEN_OFF: &str = concat!(
    r#"(response.code_details.startsWith("upstream_reset_before_response_started")"#,
    r#" || response.code_details.startsWith("no_healthy_upstream")"#,
    r#" || response.code_details.startsWith("cluster_not_found"))"#,
);

/// Envoy takes the first that matches.
pub fn in_words(settings: &EnvoySettings) -> LocalReplyConfig {
    let limited = rate_limit::refusal(settings.request_rates);
    let overloaded = overloaded();
    let limited = limited.iter().flat_map(|denial| in_every_form(rate_limit::LIMITED, denial));
    let unchecked = listener::unchecked();
    let unchecked = in_every_form(listener::UNCHECKED, &unchecked);
    let short = in_every_form(OVERLOADED, &overloaded);
    let late = beginning::refusal();
    let late = in_every_form(beginning::LATE, &late);
    // Only calls that open a session come there.
    let unopened = open_session::refusal();
    let unopened = in_every_form(open_session::FAILED, &unopened);
    // gRPC clients take Envoy's own answer for UNAVAILABLE, come back by themselves, and hear more from the check.
    let broken_off = denied(&broken_off(), &Form::unread_thrift());
    let broken_off = mapper(format!("{BROKEN_OFF}{IS_THRIFT}"), broken_off);
    let mappers =
        limited.chain(short).chain(unchecked).chain(late).chain(unopened).chain([broken_off]).collect();
    LocalReplyConfig { mappers, ..Default::default() }
}

/// The overload manager (`envoy/bootstrap.yaml`) refuses what is new: an expression (CEL).
const OVERLOADED: &str = r#"response.code_details.startsWith("overload")"#;

fn overloaded() -> Denial {
    let message = "The gateway is short of memory. Nothing was done; try again in a few seconds.";
    let retry_after = Some(Duration::from_secs(1));
    Denial { retry_after, ..Denial::new(DenialKind::Unavailable, message) }
}

/// What a JDBC client hears whose server died in the middle of its call, or cannot be reached.
fn broken_off() -> Denial {
    let message = "The Spark server cannot be reached, or broke off before it had answered: it is not known whether it \
                   did what was asked. Try again; if it is gone, the answer says so.";
    Denial::new(DenialKind::Unavailable, message)
}

const IS_THRIFT: &str = r#" && request.headers["content-type"].startsWith("application/x-thrift")"#;

/// `cause`: an expression (CEL) about the reply. What fails in one, as a header that is not there does, is no match.
fn in_every_form<'a>(cause: &'a str, denial: &'a Denial) -> impl Iterator<Item = ResponseMapper> + 'a {
    let forms = [
        (
            r#" && request.headers["content-type"].startsWith("application/grpc")"#,
            Form::Grpc { method: None },
        ),
        (IS_THRIFT, Form::unread_thrift()),
        (r#" && request.headers["accept"].contains("text/html")"#, Form::Http { html: true }),
        ("", Form::Http { html: false }),
    ];
    forms.into_iter().map(move |(of_form, form)| mapper(format!("{cause}{of_form}"), denied(denial, &form)))
}

fn mapper(expression: String, answer: DeniedHttpResponse) -> ResponseMapper {
    let is_content_type = |option: &HeaderValueOption| {
        option.header.as_ref().is_some_and(|header| header.key == "content-type")
    };
    let (content_type, others): (Vec<_>, Vec<_>) = answer.headers.into_iter().partition(is_content_type);
    let content_type = content_type.into_iter().find_map(|option| option.header).unwrap_or_default().value;
    ResponseMapper {
        filter: Some(AccessLogFilter {
            filter_specifier: Some(FilterSpecifier::ExtensionFilter(ExtensionFilter {
                name: "envoy.access_loggers.extension_filters.cel".to_owned(),
                config_type: Some(extension_filter::ConfigType::TypedConfig(pack_any(ExpressionFilter {
                    expression,
                    ..Default::default()
                }))),
            })),
        }),
        status_code: answer.status.and_then(|status| number(u32::try_from(status.code).unwrap_or(500))),
        // Taken as it is, whatever is in it, but only if a format says where it goes.
        body: Some(text(answer.body)),
        body_format_override: Some(SubstitutionFormatString {
            content_type,
            format: Some(Format::TextFormatSource(text("%LOCAL_REPLY_BODY%".to_owned()))),
            ..Default::default()
        }),
        headers_to_add: others.into_iter().map(formatted).collect(),
    }
}

/// Here Envoy takes one way of saying that a header is to be replaced, and reads its value as a format.
#[allow(deprecated)]
fn formatted(option: HeaderValueOption) -> HeaderValueOption {
    let header = option.header.map(|mut header| {
        header.value = header.value.replace('%', "%%");
        header
    });
    let append_action = HeaderAppendAction::OverwriteIfExistsOrAdd.into();
    HeaderValueOption { header, append: None, append_action, ..option }
}

fn text(text: String) -> DataSource {
    DataSource { specifier: Some(data_source::Specifier::InlineString(text)), ..Default::default() }
}
