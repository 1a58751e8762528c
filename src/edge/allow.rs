//! A route as Envoy's permission: where the request goes, and with which credentials.

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{CheckResponse, OkHttpResponse};
use envoy_types::pb::google::rpc::Status;

use uuid::Uuid;

use super::forwarded_headers::ForwardedHeaders;
use super::headers;
use crate::model::{Call, Denial, Protocol, Route};
use crate::spark::thrift_user;
use crate::xds::{
    ACTIVITY, CLUSTER_HEADER, COUNTS, OPEN_SESSION_HEADER, SESSION_ID_HEADER, THRIFT_PATH, USER_HEADER,
};

/// Key of the metadata that holds the id for a clone.
pub const CLONE: &str = "clone";

/// What a route can be given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// The session is the one that the request was checked for.
    /// A CloneSession call whose client leaves the clone's id to the server is given `clone`, by `open_session`.
    Connect {
        session_id: Uuid,
        clone: Option<Uuid>,
    },
    Thrift,
    /// The one Thrift call that goes through `open_session` on its way.
    ThriftOpenSession,
}

impl Allowed {
    /// `None` for a call that could not be read: it is never let through.
    pub fn by(call: &Call) -> Option<Self> {
        match call {
            Call::Connect { head, .. } => {
                let clone = head.clone.filter(|clone| !clone.chosen_by_client);
                Some(Self::Connect {
                    session_id: head.session_id,
                    clone: clone.map(|clone| clone.session_id),
                })
            }
            Call::Thrift { head: Some(head), .. } if head.method == "OpenSession" => {
                Some(Self::ThriftOpenSession)
            }
            Call::Thrift { .. } => Some(Self::Thrift),
            Call::Malformed { .. } | Call::Other { .. } => None,
        }
    }

    pub fn protocol(self) -> Protocol {
        match self {
            Self::Connect { .. } => Protocol::Connect,
            Self::Thrift | Self::ThriftOpenSession => Protocol::Thrift,
        }
    }
}

/// The answer that lets a request pass, or the refusal of one whose headers are too long for Spark.
///
/// `forwarded` is about the request's own headers, of which Spark gets those that it reads. A Connect server is told the user
/// and the session that were checked, which count for it because the instance's token comes with them (`deploy/spark`). A
/// Thrift server is told the user in a form of its own ([`thrift_user`]). Its requests lose the session's name and the query
/// string: it takes `?doAs=eve` as an order to act as eve.
///
/// `counts`: whether the session is in use for as long as the request takes (`Call::counts_as_activity`), which Envoy's
/// access log is to know (`xds::access_log`).
pub fn response(
    route: &Route,
    allowed: Allowed,
    counts: bool,
    forwarded: &ForwardedHeaders,
) -> Result<CheckResponse, Denial> {
    let protocol = allowed.protocol();
    let mut ok = OkHttpResponse {
        headers: vec![headers::set(CLUSTER_HEADER, &route.cluster)],
        headers_to_remove: forwarded.withheld().to_vec(),
        ..OkHttpResponse::default()
    };
    match allowed {
        Allowed::Connect { session_id, .. } => {
            if let Some(token) = &route.token {
                ok.headers.push(headers::set("authorization", format!("Bearer {}", token.expose())));
            }
            // For any other value than this, which is all that gRPC knows, Spark ends the connection.
            ok.headers.push(headers::set("te", "trailers"));
            ok.headers.push(headers::set(SESSION_ID_HEADER, session_id.to_string()));
            // Binary metadata of gRPC: a user's name may hold what a header may not.
            ok.headers.push(headers::set(USER_HEADER, BASE64_STANDARD_NO_PAD.encode(&route.user)));
        }
        Allowed::Thrift | Allowed::ThriftOpenSession => {
            ok.headers.push(headers::set("authorization", thrift_user::authorization(&route.user)));
            ok.headers.push(headers::set(":path", THRIFT_PATH));
        }
    }
    let clone = match allowed {
        Allowed::Connect { clone, .. } => clone.map(|id| id.to_string()),
        Allowed::Thrift | Allowed::ThriftOpenSession => None,
    };
    if allowed == Allowed::ThriftOpenSession || clone.is_some() {
        ok.headers.push(headers::set(OPEN_SESSION_HEADER, "1"));
    }
    // Envoy removes after it has set.
    ok.headers_to_remove
        .retain(|name| ok.headers.iter().all(|set| set.header.as_ref().is_none_or(|set| set.key != *name)));
    forwarded.check_length(&ok.headers)?;
    let about = [
        ("session", route.session.as_str()),
        ("pool", &route.pool),
        ("user", &route.user),
        ("protocol", protocol.as_str()),
    ];
    let activity = counts.then_some((ACTIVITY, COUNTS));
    let cluster = (allowed == Allowed::ThriftOpenSession).then_some(("cluster", &*route.cluster));
    let clone = clone.as_deref().map(|id| (CLONE, id));
    Ok(CheckResponse {
        status: Some(Status::default()),
        dynamic_metadata: headers::metadata(about.into_iter().chain(activity).chain(cluster).chain(clone)),
        http_response: Some(HttpResponse::OkResponse(ok)),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::model::{DenialKind, InstanceToken, ThriftHead};

    const CONNECT: Allowed = Allowed::Connect { session_id: Uuid::from_u128(7), clone: None };

    fn route(user: &str) -> Route {
        let token = Some(InstanceToken::new("tok"));
        Route { cluster: "p/i/u".into(), session: "s".into(), pool: "p".into(), user: user.into(), token }
    }

    fn none() -> HashMap<String, String> {
        HashMap::new()
    }

    fn response(
        route: &Route,
        allowed: Allowed,
        counts: bool,
        sent: &HashMap<String, String>,
    ) -> Result<CheckResponse, Denial> {
        let forwarded = ForwardedHeaders::of(allowed.protocol(), sent).unwrap();
        super::response(route, allowed, counts, &forwarded)
    }

    fn parts(response: CheckResponse) -> (OkHttpResponse, Vec<(String, String)>) {
        let Some(HttpResponse::OkResponse(ok)) = response.http_response else { panic!("not allowed") };
        let set =
            ok.headers.iter().filter_map(|option| option.header.clone()).map(|h| (h.key, h.value)).collect();
        (ok, set)
    }

    #[test]
    fn connect_is_told_user_and_session_and_gets_in_by_the_instance_s_token() {
        let (ok, set) = parts(response(&route("Änne"), CONNECT, true, &none()).unwrap());
        let expected = [
            ("x-spark-session-cluster", "p/i/u"),
            ("authorization", "Bearer tok"),
            ("te", "trailers"),
            ("x-spark-session-id", "00000000-0000-0000-0000-000000000007"),
            ("x-spark-session-user-bin", "w4RubmU"),
        ];
        assert_eq!(set, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert!(ok.headers_to_remove.is_empty());
    }

    #[test]
    fn an_instance_that_asks_for_no_token_sees_no_credentials_at_all() {
        let sent = HashMap::from([("authorization".to_owned(), "Bearer ana's".to_owned())]);
        let (ok, set) =
            parts(response(&Route { token: None, ..route("ana") }, CONNECT, true, &sent).unwrap());
        assert!(set.iter().all(|(key, _)| key != "authorization"));
        assert_eq!(ok.headers_to_remove, ["authorization"]);
    }

    #[test]
    #[allow(deprecated)]
    fn a_client_s_own_value_of_a_header_is_never_kept() {
        let (ok, _) = parts(response(&route("ana"), Allowed::Thrift, true, &none()).unwrap());
        for option in ok.headers {
            assert_eq!(option.append.map(|append| append.value), Some(false));
            assert_eq!(option.append_action, 2, "OVERWRITE_IF_EXISTS_OR_ADD");
        }
    }

    #[test]
    fn thrift_is_told_the_user_and_nothing_else() {
        let (ok, set) = parts(response(&route("ana"), Allowed::Thrift, true, &none()).unwrap());
        assert_eq!(set[1], ("authorization".to_owned(), "Basic YW5hOng=".to_owned()));
        assert_eq!(set[2], (":path".to_owned(), "/cliservice".to_owned()));
        assert!(ok.headers_to_remove.is_empty());
    }

    #[test]
    fn only_an_open_session_takes_the_way_through_the_processor() {
        let call = |method: &str| Call::Thrift {
            session_name: "default".into(),
            head: Some(ThriftHead { method: method.into(), sequence_id: 1, session_handle: None }),
        };
        let marked = |call: &Call| {
            let (_, set) = parts(response(&route("ana"), Allowed::by(call).unwrap(), true, &none()).unwrap());
            set.contains(&(OPEN_SESSION_HEADER.to_owned(), "1".to_owned()))
        };
        assert!(marked(&call("OpenSession")));
        for other in [call("ExecuteStatement"), call("opensession"), call("OpenSessions")] {
            assert!(!marked(&other));
        }
        assert!(!marked(&Call::Thrift { session_name: "default".into(), head: None }));
    }

    #[test]
    fn what_spark_does_not_read_is_taken_off_but_nothing_that_we_set() {
        let sent =
            ["authorization", "baggage", "content-type", "x-spark-session-id", "x-spark-session-user-bin"];
        let sent: HashMap<_, _> = sent.map(|name| (name.to_owned(), "x".to_owned())).into();
        let (ok, _) = parts(response(&route("ana"), CONNECT, true, &sent).unwrap());
        assert_eq!(ok.headers_to_remove, ["baggage"]);
        let (ok, _) = parts(response(&route("ana"), Allowed::Thrift, true, &sent).unwrap());
        assert_eq!(ok.headers_to_remove, ["baggage", "x-spark-session-id", "x-spark-session-user-bin"]);
    }

    #[test]
    fn headers_that_are_too_long_for_spark_are_refused() {
        let sent = HashMap::from([("user-agent".to_owned(), "x".repeat(20_000))]);
        for allowed in [CONNECT, Allowed::Thrift] {
            let denial = response(&route("ana"), allowed, true, &sent).unwrap_err();
            assert_eq!(denial.kind, DenialKind::BadRequest);
        }
    }

    #[test]
    fn access_logs_learn_session_pool_and_user_and_whether_it_counts() {
        let keys = |counts| {
            let metadata =
                response(&route("ana"), CONNECT, counts, &none()).unwrap().dynamic_metadata.unwrap();
            let mut keys: Vec<_> = metadata.fields.into_keys().collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!(keys(true), ["activity", "pool", "protocol", "session", "user"]);
        assert_eq!(keys(false), ["pool", "protocol", "session", "user"]);
    }
}
