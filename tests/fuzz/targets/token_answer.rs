//! An answer of the token endpoint: a number for its status, and its body.
//!
//! Whatever it holds, what is told of it is one line without the password, and speaks of the user only where OAuth does.
#![no_main]

use http::StatusCode;
use libfuzzer_sys::fuzz_target;
use spark_session_operator::authn::{AuthnErrorKind, read_token_answer};

const STATUSES: [u16; 12] = [200, 204, 302, 400, 401, 403, 404, 407, 429, 500, 502, 503];
const PASSWORD: &str = "hunter2 hunter2";

fuzz_target!(|input: &[u8]| {
    let Some((first, body)) = input.split_first() else { return };
    let status = STATUSES[usize::from(*first) % STATUSES.len()];
    let status = StatusCode::from_u16(status).expect("it is one");
    match read_token_answer(status, body, PASSWORD) {
        Ok(_) => assert!(status.is_success(), "let in with {status}"),
        Err(error) => {
            let told = error.to_string();
            assert!(!told.contains(PASSWORD) && !format!("{error:?}").contains(PASSWORD), "{told}");
            assert!(!told.contains(char::is_control) && told.chars().count() < 500, "{told}");
            let speaks_of_the_user = error.kind() == AuthnErrorKind::Rejected;
            assert!(!speaks_of_the_user || matches!(status.as_u16(), 400 | 401 | 403), "{status}: {told}");
        }
    }
});
