use base64::Engine;
use base64::engine::general_purpose;
use proptest::prelude::*;
use rstest::rstest;
use secrecy::ExposeSecret;

use super::super::test_support::base64url;
use super::*;

fn read_one(name: &str, value: &str) -> Result<Credentials, CredentialsError> {
    read(|asked| (asked == name).then_some(value))
}

fn shown(credentials: Credentials) -> String {
    match credentials {
        Credentials::Password { user, password, charset: Charset::Utf8 } => {
            format!("password {user}/{}", password.expose_secret())
        }
        Credentials::Password { user, password, charset: Charset::Latin1 } => {
            format!("Latin-1 password {user}/{}", password.expose_secret())
        }
        Credentials::Token(token) => format!("token {}", token.expose_secret()),
    }
}

fn base64(text: &str) -> String {
    general_purpose::STANDARD.encode(text)
}

fn some_jwt() -> String {
    format!("{}.{}.c2ln", base64url(r#"{"alg":"RS256"}"#), base64url(r#"{"sub":"anna"}"#))
}

#[rstest]
#[case::basic(format!("Basic {}", base64("anna:s3cret")), "password anna/s3cret")]
#[case::scheme_in_capitals(format!("BASIC {}", base64("anna:s3cret")), "password anna/s3cret")]
#[case::spaces(format!("  basic   {}  ", base64("anna:s3cret")), "password anna/s3cret")]
#[case::colons_in_the_password(format!("Basic {}", base64("anna:a:b:")), "password anna/a:b:")]
#[case::empty_password(format!("Basic {}", base64("anna:")), "password anna/")]
#[case::pyspark_token(format!("Bearer {}", base64("anna:s3cret")), "password anna/s3cret")]
#[case::scala_without_padding("Bearer YW5uYTp3cm9uZw".to_owned(), "password anna/wrong")]
#[case::standard_alphabet("Bearer YTo/Pj8+".to_owned(), "password a/?>?>")]
#[case::url_safe_alphabet("Bearer YTo_Pj8-".to_owned(), "password a/?>?>")]
#[case::utf8(format!("Basic {}", base64("Änne:pässword")), "password Änne/pässword")]
#[case::jwt(format!("Bearer {}", some_jwt()), format!("token {}", some_jwt()))]
#[case::jwt_as_password(format!("Basic {}", base64(&format!("token:{}", some_jwt()))), format!("token {}", some_jwt()))]
#[case::jwt_as_password_of_nobody(format!("Basic {}", base64(&format!(":{}", some_jwt()))), format!("token {}", some_jwt()))]
#[case::pyhive_defaults_may_be_real(format!("Basic {}", base64("user:pass")), "password user/pass")]
#[case::a_user_called_anonymous(format!("Basic {}", base64("anonymous:x")), "password anonymous/x")]
#[case::dots_are_no_jwt(format!("Basic {}", base64("anna:a.b.c")), "password anna/a.b.c")]
fn an_authorization_header_is_read(#[case] value: String, #[case] expected: String) {
    for name in ["authorization", "authentication"] {
        assert_eq!(read_one(name, &value).map(shown), Ok(expected.clone()));
    }
}

#[rstest]
#[case("Basic ")]
#[case("Basic !!!")]
#[case("Basic YW5uYQ==")] // "anna", no colon
#[case("Basic OnMzY3JldA==")] // ":s3cret"
#[case("Bearer opaque-token")]
#[case("Bearer a.b.c")]
#[case("Digest username=\"anna\", realm=\"spark\"")]
#[case("Negotiate YW5uYTpzM2NyZXQ=")]
#[case("YW5uYTpzM2NyZXQ=")]
fn what_cannot_be_read_is_malformed_and_not_repeated(#[case] value: &str) {
    let error = read_one("authorization", value).unwrap_err();
    assert!(matches!(error, CredentialsError::Malformed { .. }), "{error:?}");
    let texts = format!("{error} {error:?}");
    let secret = value.split_once(' ').map_or(value, |(_, rest)| rest);
    assert!(secret.is_empty() || !texts.contains(secret), "{texts}");
}

fn latin1(text: &str) -> String {
    general_purpose::STANDARD.encode(text.chars().map(|c| u8::try_from(c).unwrap()).collect::<Vec<_>>())
}

/// Drivers before hive-jdbc 4 send these bytes.
#[rstest]
#[case::basic("Basic", "jürgen:pä:ss")]
#[case::bearer("Bearer", "jürgen:pä:ss")]
#[case::password_alone("Basic", "anna:ÿ")]
fn bytes_that_are_not_utf8_are_read_as_latin1(#[case] scheme: &str, #[case] text: &str) {
    let (user, password) = text.split_once(':').unwrap();
    let read = read_one("authorization", &format!("{scheme} {}", latin1(text))).map(shown);
    assert_eq!(read, Ok(format!("Latin-1 password {user}/{password}")));
}

#[rstest]
#[case::no_colon("Basic", vec![0xff; 4], "after \"Basic\" there is base64, but not of user:password in UTF-8 or Latin-1")]
#[case::no_text("Basic", b"a\x07:\xff".to_vec(), "after \"Basic\" there is base64, but not of user:password in UTF-8 or Latin-1")]
#[case::opaque_token(
    "Bearer",
    b"\x8f\x03q:\xfe\x00\x91\xa7".to_vec(),
    "the bearer token is neither a JWT nor base64 of user:password in UTF-8 or Latin-1"
)]
fn bytes_that_are_no_text_are_told_as_such(
    #[case] scheme: &str,
    #[case] bytes: Vec<u8>,
    #[case] reason: &str,
) {
    let value = format!("{scheme} {}", general_purpose::STANDARD.encode(bytes));
    let error = read_one("authorization", &value).unwrap_err();
    assert_eq!(error.to_string(), format!("The credentials cannot be read: {reason}."));
}

const DIFFERENT: &str = "Different Authorization headers were sent with one request; send one. Spark's JVM clients send \
    the login of $SPARK_REMOTE beside that of the URL: unset SPARK_REMOTE, or leave the login out of one of the two.";
const NO_BASE64: &str =
    "The credentials cannot be read: after \"Basic\" there is no base64 of user:password.";

/// As Envoy joins them.
#[rstest]
#[case::the_same_twice(vec!["Bearer YW5uYTpwdw==", "Bearer YW5uYTpwdw=="], Ok("password anna/pw"))]
#[case::thrice(vec!["Basic YW5uYTpwdw=="; 3], Ok("password anna/pw"))]
#[case::the_same_login_in_other_forms(vec!["Basic YW5uYTpwdw==", " bearer  YW5uYTpwdw "], Ok("password anna/pw"))]
#[case::a_made_up_user_beside_a_login(vec!["Basic YW5vbnltb3VzOmFub255bW91cw==", "Bearer YW5uYTpwdw"], Ok("password anna/pw"))]
#[case::nothing_beside_a_login(vec!["", "Basic YW5uYTpwdw==", " "], Ok("password anna/pw"))]
#[case::other_user(vec!["Basic YW5uYTpwdw==", "Basic YmVuOnB3"], Err(DIFFERENT))]
#[case::other_password(vec!["Basic YW5uYTpwdw==", "Basic YW5uYTpwdw==", "Basic YW5uYTpwdzI="], Err(DIFFERENT))]
#[case::what_cannot_be_read_after_a_login(vec!["Basic YW5uYTpwdw==", "Basic ?"], Err(DIFFERENT))]
#[case::what_cannot_be_read_before_a_login(vec!["Basic ?", "Basic YW5uYTpwdw=="], Err(NO_BASE64))]
fn several_headers_of_one_name_count_as_one_if_they_say_the_same(
    #[case] headers: Vec<&str>,
    #[case] expected: Result<&str, &str>,
) {
    let read = read_one("authorization", &headers.join(",")).map(shown).map_err(|error| error.to_string());
    assert_eq!(read, expected.map(str::to_owned).map_err(str::to_owned));
}

#[test]
fn the_same_token_twice_is_one_and_two_tokens_are_not() {
    let (one, other) = (some_jwt(), format!("{}x", some_jwt()));
    let both = |one, other| read_one("authentication", &format!("Bearer {one},Bearer {other}")).map(shown);
    assert_eq!(both(&one, &one), Ok(format!("token {one}")));
    assert_eq!(both(&one, &other), Err(CredentialsError::Different { header: "Authentication" }));
}

#[rstest]
#[case::both_twice("anna,anna", "p,w,p,w", "password anna/p,w")]
#[case::a_name_that_looks_doubled("anna,anna", "pw", "password anna,anna/pw")]
#[case::a_password_that_looks_doubled("anna", "pw,pw", "password anna/pw,pw")]
#[case::different("anna,ben", "pw,pw", "password anna,ben/pw,pw")]
#[case::umlauts("ä,ä", "é,é", "password ä/é")]
#[case::no_half("aé", "x,x", "password aé/x,x")]
fn own_headers_that_are_sent_twice_count_once(
    #[case] user: &str,
    #[case] password: &str,
    #[case] expected: &str,
) {
    let headers = [("x-spark-username", user), ("x-spark-password", password)];
    let read = read(|asked| headers.iter().find(|(name, _)| *name == asked).map(|(_, value)| *value));
    assert_eq!(read.map(shown), Ok(expected.to_owned()));
}

#[rstest]
#[case::nothing(&[], Err(CredentialsError::Missing))]
#[case::empty_header(&[("authorization", " ")], Err(CredentialsError::Missing))]
#[case::hive_jdbc_without_user(&[("authorization", "Basic YW5vbnltb3VzOmFub255bW91cw==")], Err(CredentialsError::Missing))]
#[case::own_headers(&[("x-spark-username", "anna"), ("x-spark-password", "pw")], Ok("password anna/pw"))]
#[case::own_headers_beside_a_made_up_user(
    &[("authorization", "Basic YW5vbnltb3VzOmFub255bW91cw=="), ("x-spark-username", "anna"), ("x-spark-password", "pw")],
    Ok("password anna/pw")
)]
#[case::authorization_comes_first(
    &[("authorization", "Basic YmVuOnB3"), ("x-spark-username", "anna"), ("x-spark-password", "pw")],
    Ok("password ben/pw")
)]
#[case::the_standard_name_comes_first(
    &[("authentication", "Basic YW5uYTpwdw=="), ("authorization", "Basic YmVuOnB3")],
    Ok("password ben/pw")
)]
#[case::malformed_does_not_give_way(
    &[("authorization", "Basic ?"), ("x-spark-username", "anna"), ("x-spark-password", "pw")],
    Err(CredentialsError::Malformed { reason: "after \"Basic\" there is no base64 of user:password" })
)]
#[case::user_alone(
    &[("x-spark-username", "anna")],
    Err(CredentialsError::Malformed { reason: "x-spark-username was sent without x-spark-password" })
)]
fn the_first_header_with_credentials_counts(
    #[case] headers: &[(&str, &str)],
    #[case] expected: Result<&str, CredentialsError>,
) {
    let read = read(|asked| headers.iter().find(|(name, _)| *name == asked).map(|(_, value)| *value));
    assert_eq!(read.map(shown), expected.map(str::to_owned));
}

#[test]
fn debug_shows_the_user_and_no_secret() {
    let password = read_one("authorization", "Basic YW5uYTpzM2NyZXQ=").unwrap();
    let text = format!("{password:?}");
    assert!(text.contains("anna") && !text.contains("s3cret"), "{text}");
    let token = read_one("authorization", &format!("Bearer {}", some_jwt())).unwrap();
    assert!(!format!("{token:?}").contains("c2ln"));
}

proptest! {
    #[test]
    fn no_header_makes_it_panic(scheme in "(basic|bearer|BEARER|)", gap in "[ \t]{0,2}", value in any::<String>(), name in 0..4usize) {
        let header = format!("{scheme}{gap}{value}");
        let names = ["authorization", "authentication", "x-spark-username", "x-spark-password"];
        let _ = read_one(names[name], &header);
        let _ = read(|_| Some(&header));
    }

    #[test]
    fn no_bytes_in_base64_make_it_panic(bytes in any::<Vec<u8>>(), more in any::<Vec<u8>>()) {
        let _ = read_one("authorization", &format!("Basic {}", general_purpose::STANDARD.encode(&bytes)));
        let _ = read_one("authorization", &format!("Bearer {}.{}.", base64url(&bytes), base64url(&more)));
    }

    #[test]
    fn any_user_and_password_come_back(user in "[^:\\pC]{1,40}", password in "\\PC{0,40}") {
        prop_assume!(!jwt::looks_like_jwt(&password) && (user.as_str(), password.as_str()) != NOBODY);
        let text = format!("{user}:{password}");
        for encoded in [general_purpose::STANDARD.encode(&text), base64url(&text)] {
            let read = read_one("authorization", &format!("Bearer {encoded}")).map(shown);
            prop_assert_eq!(read, Ok(format!("password {user}/{password}")));
        }
    }
}

#[rstest]
#[case::base64("YWxpY2U6cMOkc3M6d29ydA==", Some("alice: päss:wort"))]
#[case::unpadded("YWxpY2U6cHc", Some("alice: pw"))]
#[case::plain("alice:pw", Some("alice: pw"))]
#[case::token("eyJhbGciOiJSUzI1NiJ9.e30.AAAA", Some("a token"))]
#[case::name("alice", None)]
#[case::mail("alice@example.com", None)]
#[case::nobody("anonymous:anonymous", None)]
#[case::no_name(":pw", None)]
#[case::empty("", None)]
#[case::base64_of_something_else("AAo6AAAA", None)]
fn a_login_in_the_user_id_is_recognised(#[case] user_id: &str, #[case] expected: Option<&str>) {
    let read = read_user_id(user_id).map(|credentials| match credentials {
        Credentials::Password { user, password, .. } => format!("{user}: {}", password.expose_secret()),
        Credentials::Token(_) => "a token".to_owned(),
    });
    assert_eq!(read.as_deref(), expected);
}
