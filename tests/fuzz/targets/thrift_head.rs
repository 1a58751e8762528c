//! The first bytes of a Thrift call. What is read says the same when it is written in either form of the protocol, and
//! the handle in it is the one that a call made of it carries.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spark_session_operator::model::ThriftHead;
use spark_session_operator::spark::thrift_head;
use spark_session_operator::spark::thrift_session::{SessionHandle, close_session};

fuzz_target!(|body: &[u8]| {
    let Ok(head) = thrift_head::read(body) else { return };
    if let Some(id) = head.session_handle {
        let close = close_session(&SessionHandle::new(id, [0; 16]));
        assert_eq!(thrift_head::read(&close).map(|head| head.session_handle), Ok(Some(id)));
    }
    // Without the arguments there is no handle.
    let head = ThriftHead { session_handle: None, ..head };
    let length = (head.method.len() as u32).to_be_bytes();
    let (name, sequence_id) = (head.method.as_bytes(), head.sequence_id.to_be_bytes());
    let strict = [&[0x80, 1, 0, 1], length.as_slice(), name, &sequence_id].concat();
    let old = [length.as_slice(), name, &[1], &sequence_id].concat();
    assert_eq!(thrift_head::read(&strict).as_ref(), Ok(&head));
    assert_eq!(thrift_head::read(&old), Ok(head));
});
