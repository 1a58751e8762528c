//! What the operator has to know of Spark's own protocols, and no more.
//!
//! ```text
//! connect_head   first bytes of a Spark Connect request -> session id             pure
//! protobuf       the few wire rules which that takes                              pure
//! thrift_head    first bytes of a Thrift message -> method, sequence id           pure
//! thrift_session the handle of a session, in calls and in OpenSession's answer    pure
//! thrift_one_session        whether a call can be about one session only          pure
//! thrift_user    the user of a call, as the Thrift Server is told it                pure
//! thrift_type    how Thrift numbers its types; thrift_bytes: how it writes values pure
//! thrift_reply   an error in the words of TCLIService                             pure
//! thrift_open_session       an OpenSession call and its configuration             pure
//! thrift_open_session_conf  what that configuration does, and how to add to it    pure
//! start_conf     configuration that no session can change                         pure
//! redaction      values of configuration, out of what Spark says about them       pure
//! secret_words   what looks like a secret, out of foreign words                    pure
//! probe          does the server in an instance answer?
//! connect_client calls to a Connect server in a user's name; connect_messages: what it sends
//! thrift_client  closes sessions of a Thrift Server
//! ```
//!
//! Requests are read from their beginning, as Envoy hands them over (`xds::route`, `app`). Only OpenSession's body is ever parsed as a whole
//! and changed. Nothing in this module knows pools or what Envoy asks.

pub mod connect_client;
pub mod connect_head;
mod connect_messages;
#[cfg(test)]
pub mod fake_connect;
pub mod probe;
mod protobuf;
mod redaction;
pub mod secret_words;
pub mod start_conf;
mod thrift_bytes;
pub mod thrift_client;
pub mod thrift_head;
pub mod thrift_one_session;
pub mod thrift_open_session;
pub mod thrift_open_session_conf;
pub mod thrift_reply;
pub mod thrift_session;
mod thrift_type;
pub mod thrift_user;
