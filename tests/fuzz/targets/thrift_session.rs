//! An answer to OpenSession. The handle in it makes a CloseSession call that carries the same one, and its secret half is
//! not printed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spark_session_operator::spark::{thrift_head, thrift_session};

fuzz_target!(|answer: &[u8]| {
    let Ok(Some(handle)) = thrift_session::opened(answer) else { return };
    let printed = format!("{handle:?}");
    assert_eq!(printed, format!("SessionHandle {{ id: {}, .. }}", handle.id));
    let close = thrift_session::close_session(&handle);
    let head = thrift_head::read(&close).expect("what was written can be read");
    assert_eq!((head.method.as_str(), head.session_handle), ("CloseSession", Some(handle.id)));
});
