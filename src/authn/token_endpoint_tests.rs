use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn refusal(error: &str, description: &str) -> Value {
    json!({"error": error, "error_description": description})
}

fn refused(reason: &str) -> AuthnError {
    AuthnError::AccountRefused { reason: reason.into() }
}

fn client_refused(code: &str) -> AuthnError {
    AuthnError::ClientRefused { code: code.into() }
}

#[rstest]
#[case::keycloak(401, refusal("invalid_grant", "Invalid user credentials"), AuthnError::WrongPassword)]
#[case::auth0(403, refusal("invalid_grant", "Wrong email or password."), AuthnError::WrongPassword)]
#[case::okta(
    400,
    refusal("invalid_grant", "The credentials provided were invalid."),
    AuthnError::WrongPassword
)]
#[case::dex(401, refusal("access_denied", "Invalid username or password"), AuthnError::WrongPassword)]
#[case::no_description(400, json!({"error": "invalid_grant"}), AuthnError::WrongPassword)]
#[case::microsoft(
    400,
    refusal(
        "invalid_grant",
        "AADSTS50126: Error validating credentials due to invalid username or password.\r\nTrace ID: 1"
    ),
    AuthnError::WrongPassword
)]
#[case::disabled(400, refusal("invalid_grant", "Account disabled"), refused("Account disabled"))]
#[case::required_action(
    400,
    refusal("invalid_grant", "Account is not fully set up."),
    refused("Account is not fully set up")
)]
#[case::echoes_the_password(400, refusal("invalid_grant", "cannot parse hunter2"), AuthnError::WrongPassword)]
#[case::second_factor(
    403,
    refusal("mfa_required", "Multifactor authentication required"),
    AuthnError::InteractiveLoginNeeded
)]
#[case::client(
    401,
    refusal("invalid_client", "Invalid client credentials"),
    client_refused("invalid_client")
)]
#[case::direct_grants_off(
    400,
    refusal("unauthorized_client", "Client not allowed for direct access grants"),
    client_refused("unauthorized_client")
)]
#[case::grant_unknown(400, refusal("unsupported_grant_type", ""), client_refused("unsupported_grant_type"))]
#[case::new_code(400, refusal("something_new", "hunter2"), AuthnError::Provider)]
#[case::not_found(404, json!("nothing here"), AuthnError::Provider)]
#[case::redirect(307, json!(null), AuthnError::Provider)]
#[case::busy(429, refusal("invalid_grant", ""), AuthnError::Busy)]
#[case::busy_with_one_user(
    403,
    refusal("too_many_attempts", "Your account has been blocked"),
    AuthnError::Busy
)]
#[case::down(503, json!("starting"), AuthnError::Unavailable)]
#[case::says_it_is_down(400, refusal("temporarily_unavailable", ""), AuthnError::Unavailable)]
#[case::no_token(200, json!({"token_type": "Bearer"}), AuthnError::GrantUnusable { token: "access token", problem: "the answer has none.".into() })]
fn a_refusal_is_told_in_the_users_terms(
    #[case] status: u16,
    #[case] body: Value,
    #[case] expected: AuthnError,
) {
    let status = StatusCode::from_u16(status).unwrap();
    let error = read_answer(status, body.to_string().as_bytes(), "hunter2").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    assert_eq!(error, expected);
}
