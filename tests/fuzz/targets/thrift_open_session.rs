//! An OpenSession call, read and written anew with a pool's configuration in it.
//!
//! What is written can be read again, holds what was meant, and all of the call's other bytes.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use spark_session_operator::spark::{thrift_open_session, thrift_open_session_conf};

fuzz_target!(|message: &[u8]| {
    let Ok(call) = thrift_open_session::read(message) else { return };
    let unchanged = call.with_configuration(call.configuration()).expect("it was as long before");
    // A call without a map gets an empty one.
    assert!(message.len() <= unchanged.len() && unchanged.len() <= message.len() + 9);
    let again = thrift_open_session::read(&unchanged).expect("what was written can be read");
    assert_eq!(again.configuration(), call.configuration());

    let conf = BTreeMap::from([("spark.pool".to_owned(), "ü".to_owned()), ("a".to_owned(), String::new())]);
    let protected = |key: &str| key.starts_with("spark.p");
    let merged = thrift_open_session_conf::merge(call.configuration(), &conf, protected);
    let entries: Vec<_> = merged.entries.iter().map(|(key, value)| (&**key, &**value)).collect();
    let written = call.with_configuration(&entries).expect("it fits");
    let again = thrift_open_session::read(&written).expect("what was written can be read");
    assert_eq!(again.configuration(), entries);
    assert!(merged.withheld.iter().all(|key| protected(key)));
    assert_eq!(merged.changed, again.configuration() != call.configuration());
});
