use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{BoolValue, Struct, Value};

/// Sets a header, whatever the client sent under its name.
///
/// Both ways of saying so are used: which of them Envoy reads, and their defaults, differ by version, and a default of
/// appending would let a client add a value of its own.
#[allow(deprecated)]
pub fn set(name: &str, value: impl Into<String>) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.into(), value: value.into(), ..HeaderValue::default() }),
        append: Some(BoolValue { value: false }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    }
}

/// Dynamic metadata, which access logs carry under the ext_authz filter's name.
pub fn metadata<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Struct> {
    let text = |value: &str| Value { kind: Some(Kind::StringValue(value.into())) };
    Some(Struct { fields: entries.into_iter().map(|(key, value)| (key.into(), text(value))).collect() })
}
