//! A user's name as the Thrift Server is told it: so that each user there is one user, and nobody is somebody else.
//!
//! HiveServer2 takes a name for a Kerberos principal, and only what stands before its first `/` or `@` for the user, so that
//! `alice@partner.example` and `alice@corp.example` would both be `alice`. In Basic credentials the name ends at its first
//! colon. So these characters are percent-encoded, and with them what would make that ambiguous: `%` itself and `+`, which
//! SQL's `url_decode` takes for a space. `url_decode(current_user())` is the full name. Spark was seen to keep all others as
//! they are: backslashes, spaces, letters of any alphabet, upper and lower case.
//!
//! A Connect server is told the full name (`edge::allow`), which SQL does not show there.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// What makes `user` the `current_user()` of a Thrift Server without authentication. The server wants some password, and asks
/// nobody about it.
pub fn authorization(user: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{}:x", escaped(user))))
}

fn escaped(user: &str) -> String {
    let mut escaped = String::with_capacity(user.len());
    for character in user.chars() {
        match character {
            '%' | '/' | '@' | ':' | '+' => escaped.push_str(&format!("%{:02X}", u32::from(character))),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("ana", "ana")]
    #[case("alice@corp.example", "alice%40corp.example")]
    #[case("etl/host@REALM", "etl%2Fhost%40REALM")]
    #[case("admin@", "admin%40")]
    #[case("@x", "%40x")]
    #[case("alice%40corp.example", "alice%2540corp.example")]
    #[case("alice+etl@corp.example", "alice%2Betl%40corp.example")]
    #[case("ana:b", "ana%3Ab")]
    #[case("CORP\\Jürgen Müller 日本", "CORP\\Jürgen Müller 日本")]
    fn what_the_server_would_cut_is_escaped(#[case] user: &str, #[case] told: &str) {
        assert_eq!(escaped(user), told);
        let sent = authorization(user);
        let sent = BASE64_STANDARD.decode(sent.strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(String::from_utf8(sent).unwrap(), format!("{told}:x"));
    }

    /// What HiveServer2 makes of the credentials: Java's `split(":")[0]`, and of that the part before `/` or `@`.
    fn current_user(authorization: &str) -> String {
        let sent = BASE64_STANDARD.decode(authorization.strip_prefix("Basic ").unwrap()).unwrap();
        let sent = String::from_utf8(sent).unwrap();
        let name = sent.split(':').next().unwrap();
        name[..name.find(['/', '@']).unwrap_or(name.len())].to_owned()
    }

    #[test]
    fn users_who_share_a_part_of_their_names_are_different_users() {
        let users =
            ["alice", "alice@partner.example", "alice@corp.example", "alice/x", "alice:x", "alice%40x"];
        let told: HashSet<_> = users.iter().map(|user| current_user(&authorization(user))).collect();
        assert_eq!(told.len(), users.len(), "{told:?}");
    }

    proptest! {
        /// As SQL's `url_decode` does it: `+` is a space there. From which it follows that two names never become one.
        #[test]
        fn the_full_name_can_be_had_back(user in "[a-c%/@:+ 0-9äЖ\\\\]{1,12}") {
            let told = current_user(&authorization(&user)).replace('+', " ");
            prop_assert_eq!(percent_decode_str(&told).decode_utf8().unwrap(), user);
        }
    }
}
