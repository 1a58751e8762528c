//! How the calls that open a session, and nothing else, come to the operator as a whole (`edge::open_session`): Thrift's
//! OpenSession with its answer, and Spark Connect's CloneSession where the client leaves the clone's id to the server.
//!
//! The check marks them with a header, Envoy matches anew, and the routes for marked calls are the only ones on which the
//! ext_proc filter is on. Whether a request has the filter at all is decided by its first route, before the check, when no
//! call is marked yet: it has, if that route has a setting for the filter. So the routes for calls that the check may mark have
//! [`off`], and others have none, since the filter costs as much as all the others but the check.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{
    GrpcService,
    grpc_service::{EnvoyGrpc, TargetSpecifier},
};
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::{
    ExtProcOverrides, ExtProcPerRoute, ExternalProcessor, MetadataOptions, ProcessingMode,
    ext_proc_per_route::Override,
    metadata_options::MetadataNamespaces,
    processing_mode::{BodySendMode, HeaderSendMode},
};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;

use super::EnvoySettings;
use super::listener::{self, EXT_AUTHZ};
use super::proto::seconds;
use crate::model::{Denial, DenialKind};

/// The name by which routes address the filter.
pub const EXT_PROC: &str = "envoy.filters.http.ext_proc";

/// By this header ext_authz marks a call that opens a session. As with the cluster's header, a client's own is removed before
/// any route is matched, and nobody upstream sees it.
pub const OPEN_SESSION_HEADER: &str = "x-spark-open-session";

/// How long Envoy waits for the operator, which has answered the check of the same request just before; if it restarts
/// between the two, it is asked again within this time.
const TIMEOUT_SECONDS: u64 = 5;
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];
const TRIES: u32 = 100;

/// How a local reply tells that it is this filter's: an expression (CEL). Envoy appends what went wrong: nobody answered
/// in time, or with a gRPC error. What the operator refuses in words has other details.
pub const FAILED: &str = r#"response.code_details.startsWith("ext_proc_error")"#;

pub fn processor(settings: &EnvoySettings) -> ExternalProcessor {
    ExternalProcessor {
        grpc_service: Some(GrpcService {
            retry_policy: Some(listener::again_after(TRIES, PAUSES)),
            initial_metadata: vec![listener::one_try_takes(Duration::from_secs(TIMEOUT_SECONDS))],
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: settings.control_cluster.clone(),
                ..Default::default()
            })),
            ..Default::default()
        }),
        // Or whoever opens a session while the operator is away would get one without its pool's configuration, and
        // with what `protectedConf` forbids. `refusal` says so instead.
        failure_mode_allow: false,
        processing_mode: Some(processing_mode()),
        message_timeout: seconds(TIMEOUT_SECONDS),
        // Which session it is, as the check found it.
        metadata_options: Some(MetadataOptions {
            forwarding_namespaces: Some(MetadataNamespaces {
                untyped: vec![EXT_AUTHZ.to_owned()],
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn processing_mode() -> ProcessingMode {
    ProcessingMode {
        request_header_mode: HeaderSendMode::Skip.into(),
        // Buffered, but the beginning of a body that is too long comes, too: so it can be refused in words.
        request_body_mode: BodySendMode::BufferedPartial.into(),
        request_trailer_mode: HeaderSendMode::Skip.into(),
        response_header_mode: HeaderSendMode::Skip.into(),
        // Holds the handle of what was opened. It comes whole, as long as it is not longer than any real one.
        response_body_mode: BodySendMode::BufferedPartial.into(),
        response_trailer_mode: HeaderSendMode::Skip.into(),
    }
}

/// What the client hears when nobody answers in time.
pub fn refusal() -> Denial {
    let message = "The session was not opened: the gateway could not ask the Spark session operator about it. Try again \
                   in a few seconds; if this lasts, tell the administrators.";
    Denial::new(DenialKind::Unavailable, message)
}

pub fn on() -> (String, Any) {
    per_route(Override::Overrides(ExtProcOverrides::default()))
}

/// The same, for requests alone.
pub fn on_for_requests() -> (String, Any) {
    let processing_mode =
        Some(ProcessingMode { response_body_mode: BodySendMode::None.into(), ..processing_mode() });
    per_route(Override::Overrides(ExtProcOverrides { processing_mode, ..Default::default() }))
}

pub fn off() -> (String, Any) {
    per_route(Override::Disabled(true))
}

fn per_route(setting: Override) -> (String, Any) {
    (EXT_PROC.to_owned(), pack_any(ExtProcPerRoute { r#override: Some(setting) }))
}

/// A call that the check has marked.
pub fn marked() -> HeaderMatcher {
    HeaderMatcher {
        name: OPEN_SESSION_HEADER.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(true)),
        ..Default::default()
    }
}
