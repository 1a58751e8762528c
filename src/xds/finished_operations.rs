//! How Envoy answers a Thrift client that asks again whether an operation has finished.
//!
//! hive-jdbc, and so beeline and DBeaver, sends GetOperationStatus before every single row of a result
//! (`HiveQueryResultSet.next`), on one connection, also when the answer was "finished" and cannot change any more. A way to
//! Spark and back through any proxy takes more than twice the time of the direct one. So a Lua filter before ext_authz
//! gives the same answer to the same question again, for two seconds after it was checked and answered by Spark.
//! The rate limit, which protects the operator, does not count these answers.
//!
//! Nothing reaches Spark without a check by this. All that is repeated is that an operation has finished,
//! and only to whoever sends the same request: the same connection, path, headers (the login among them) and handle.
//! Results are fetched by other calls, and those are checked each time. A session that is deleted, or a user who has lost
//! access, is noticed with the next call, or after two seconds; a session in use is seen to be in use as often.
//! Envoy keeps such a request in its memory, login included, until it is replaced by later ones.
//!
//! Not here: clients that open a connection a call (PyHive, impyla), which ask only until an operation has finished, and
//! connections with HTTP/2. If the program fails, Envoy logs it and asks Spark.

use std::collections::HashMap;

use envoy_types::pb::envoy::extensions::filters::http::lua::v3::{Lua, LuaPerRoute, lua_per_route};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;

use super::beginning;

/// The name by which routes address the filter.
pub const LUA: &str = "envoy.filters.http.lua";

/// The name of the program among the filter's.
const PROGRAM: &str = "finished-operations";

/// On routes with [`on`] this program, and on all others, except with [`off`], the one that waits for the beginning of a
/// request and does nothing else. Both wait for as much as a check carries, of Thrift and of Connect.
///
/// Of programs with names there must not be two: they would come to Envoy in any order, and a listener whose bytes differ
/// loses its connections.
pub fn filter(thrift_bytes: u32, connect_bytes: u32) -> Lua {
    let thrift = beginning::awaiting(thrift_bytes, include_str!("finished_operations.lua"));
    let connect = beginning::awaiting(connect_bytes, beginning::NOTHING_ELSE);
    Lua {
        default_source_code: Some(connect),
        source_codes: HashMap::from([(PROGRAM.to_owned(), thrift)]),
        ..Default::default()
    }
}

pub fn on() -> (String, Any) {
    per_route(lua_per_route::Override::Name(PROGRAM.to_owned()))
}

pub fn off() -> (String, Any) {
    per_route(lua_per_route::Override::Disabled(true))
}

fn per_route(setting: lua_per_route::Override) -> (String, Any) {
    (LUA.to_owned(), pack_any(LuaPerRoute { r#override: Some(setting), ..Default::default() }))
}
