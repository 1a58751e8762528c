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

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source};
use envoy_types::pb::envoy::extensions::filters::http::lua::v3::{Lua, LuaPerRoute, lua_per_route};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;

/// The name by which routes address the filter.
pub const LUA: &str = "envoy.filters.http.lua";

/// The name of the program among the filter's.
const PROGRAM: &str = "finished-operations";

/// Does nothing except on routes with [`on`].
pub fn filter() -> Lua {
    let program = DataSource {
        specifier: Some(data_source::Specifier::InlineString(
            include_str!("finished_operations.lua").to_owned(),
        )),
        ..Default::default()
    };
    Lua { source_codes: HashMap::from([(PROGRAM.to_owned(), program)]), ..Default::default() }
}

pub fn on() -> (String, Any) {
    let program = Some(lua_per_route::Override::Name(PROGRAM.to_owned()));
    (LUA.to_owned(), pack_any(LuaPerRoute { r#override: program, ..Default::default() }))
}
