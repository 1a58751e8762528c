//! What the operator hears through Envoy's access log, over the control channel, in `edge::access_log`: which requests are open
//! for long, and which connections of clients have ended.
//!
//! Of short requests it is told nothing: their checks say when they came. Entries may get lost, as when the operator
//! restarts. The next entry of an open request says the same again; nothing says again that a connection has ended.

use std::time::Duration;

use envoy_types::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy_types::pb::envoy::config::accesslog::v3::comparison_filter::Op;
use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, AndFilter, ComparisonFilter, DurationFilter, LogTypeFilter, MetadataFilter,
    OrFilter, access_log,
};
use envoy_types::pb::envoy::config::core::v3::{
    ApiVersion, GrpcService, RuntimeUInt32,
    grpc_service::{EnvoyGrpc, TargetSpecifier},
};
use envoy_types::pb::envoy::data::accesslog::v3::AccessLogType;
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3::{
    CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::HcmAccessLogOptions;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    MetadataMatcher, StringMatcher, ValueMatcher,
    metadata_matcher::{PathSegment, path_segment::Segment},
    string_matcher::MatchPattern,
    value_matcher,
};
use envoy_types::pb::envoy::r#type::tracing::v3::{CustomTag, custom_tag};
use envoy_types::pb::google::protobuf::BoolValue;
use envoy_types::util::pack_any;

use super::EnvoySettings;
use super::listener::EXT_AUTHZ;
use super::proto::duration;

/// In the metadata of a check: the session is in use for as long as the request is open.
pub const ACTIVITY: &str = "activity";
/// The value of [`ACTIVITY`]; without it the request does not count.
pub const COUNTS: &str = "1";

/// How long Envoy holds entries back to send several at once. The end of a connection frees a place in a quota, for which
/// the next program of the same user may be waiting already.
const BUFFER: Duration = Duration::from_millis(200);

/// In the entry of a connection: how its other side closed it, as `%DOWNSTREAM_DETECTED_CLOSE_TYPE%`.
pub const CLOSE_TYPE: &str = "close-type";
/// In the entry of a connection: why Envoy closed it, if it did.
pub const LOCAL_CLOSE_REASON: &str = "local-close-reason";

/// Without headers: what the operator needs is in the metadata of the check, which every entry carries.
pub fn access_log(settings: &EnvoySettings) -> AccessLog {
    let config = HttpGrpcAccessLogConfig {
        common_config: Some(to_operator("activity", settings)),
        ..Default::default()
    };
    AccessLog {
        name: "envoy.access_loggers.http_grpc".to_owned(),
        filter: Some(what_counts_and_takes_long(settings.activity_report_interval)),
        config_type: Some(access_log::ConfigType::TypedConfig(pack_any(config))),
    }
}

/// One entry for each connection, when it has ended.
pub fn connection_log(settings: &EnvoySettings) -> AccessLog {
    let tag = |tag: &str, format: &str| CustomTag {
        tag: tag.to_owned(),
        r#type: Some(custom_tag::Type::Value(format.to_owned())),
    };
    let custom_tags = vec![
        tag(CLOSE_TYPE, "%DOWNSTREAM_DETECTED_CLOSE_TYPE%"),
        tag(LOCAL_CLOSE_REASON, "%DOWNSTREAM_LOCAL_CLOSE_REASON%"),
    ];
    let common = CommonGrpcAccessLogConfig { custom_tags, ..to_operator("connections", settings) };
    AccessLog {
        name: "envoy.access_loggers.tcp_grpc".to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(pack_any(TcpGrpcAccessLogConfig {
            common_config: Some(common),
        }))),
        ..Default::default()
    }
}

fn to_operator(log_name: &str, settings: &EnvoySettings) -> CommonGrpcAccessLogConfig {
    CommonGrpcAccessLogConfig {
        log_name: log_name.to_owned(),
        grpc_service: Some(GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: settings.control_cluster.clone(),
                ..Default::default()
            })),
            ..Default::default()
        }),
        transport_api_version: ApiVersion::V3.into(),
        buffer_flush_interval: duration(BUFFER),
        ..Default::default()
    }
}

/// A request that is open for longer than this is told of, again and again.
pub fn options(settings: &EnvoySettings) -> HcmAccessLogOptions {
    let access_log_flush_interval = duration(settings.activity_report_interval);
    HcmAccessLogOptions { access_log_flush_interval, ..Default::default() }
}

fn what_counts_and_takes_long(interval: Duration) -> AccessLogFilter {
    let matcher = MetadataMatcher {
        filter: EXT_AUTHZ.to_owned(),
        path: vec![PathSegment { segment: Some(Segment::Key(ACTIVITY.to_owned())) }],
        value: Some(ValueMatcher {
            match_pattern: Some(value_matcher::MatchPattern::StringMatch(StringMatcher {
                match_pattern: Some(MatchPattern::Exact(COUNTS.to_owned())),
                ..Default::default()
            })),
        }),
        ..Default::default()
    };
    let counts = FilterSpecifier::MetadataFilter(MetadataFilter {
        matcher: Some(matcher),
        // Envoy's default is to log what has no such key.
        match_if_key_not_found: Some(BoolValue { value: false }),
    });
    let still_open = FilterSpecifier::LogTypeFilter(LogTypeFilter {
        types: vec![AccessLogType::DownstreamPeriodic.into()],
        ..Default::default()
    });
    // Entries of open requests have no duration, so this is about the last one.
    let took_long = FilterSpecifier::DurationFilter(DurationFilter {
        comparison: Some(ComparisonFilter {
            op: Op::Ge.into(),
            value: Some(RuntimeUInt32 {
                default_value: u32::try_from(interval.as_millis()).unwrap_or(u32::MAX),
                // Envoy wants a name, by which its administrators could override it.
                runtime_key: "spark_session_operator.activity_report_interval_ms".to_owned(),
            }),
        }),
    });
    let long = FilterSpecifier::OrFilter(OrFilter { filters: [still_open, took_long].map(filter).into() });
    filter(FilterSpecifier::AndFilter(AndFilter { filters: [counts, long].map(filter).into() }))
}

fn filter(specifier: FilterSpecifier) -> AccessLogFilter {
    AccessLogFilter { filter_specifier: Some(specifier) }
}
