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
#[case::echoes_it_with_what_is_not_shown(
    400,
    refusal("invalid_grant", "cannot parse hun\u{0}ter2"),
    AuthnError::WrongPassword
)]
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
#[case::adfs(
    400,
    refusal("invalid_grant", "MSIS9659: Invalid 'username' or 'password'."),
    AuthnError::WrongPassword
)]
#[case::locked_at_microsoft(
    400,
    refusal("invalid_grant", "AADSTS50053: You've tried to sign in too many times.\r\nTrace ID: 1"),
    refused("AADSTS50053: You've tried to sign in too many times")
)]
#[case::disabled_at_microsoft(
    400,
    refusal("invalid_grant", "AADSTS50057: The user account is disabled."),
    refused("AADSTS50057: The user account is disabled")
)]
#[case::second_factor_at_microsoft(
    400,
    refusal("interaction_required", "AADSTS50076: you must use multi-factor authentication"),
    AuthnError::InteractiveLoginNeeded
)]
#[case::secret_expired_at_microsoft(
    401,
    refusal("invalid_client", "AADSTS7000222: The provided client secret keys are expired."),
    client_refused("invalid_client")
)]
#[case::secret_wrong_at_microsoft(
    401,
    refusal("invalid_client", "AADSTS7000215: Invalid client secret provided."),
    client_refused("invalid_client")
)]
#[case::application_gone_at_microsoft(
    400,
    refusal("unauthorized_client", "AADSTS700016: Application was not found in the directory."),
    client_refused("unauthorized_client")
)]
#[case::tenant_gone_at_microsoft(
    400,
    refusal("invalid_request", "AADSTS90002: Tenant not found."),
    client_refused("invalid_request")
)]
#[case::policy_of_okta(
    400,
    refusal("access_denied", "Policy evaluation failed for this request."),
    refused("Policy evaluation failed for this request")
)]
#[case::blocked_at_auth0(401, refusal("unauthorized", "user is blocked"), refused("user is blocked"))]
#[case::leaked_at_auth0(
    403,
    refusal("password_leaked", "This login has been blocked because the password was leaked."),
    refused("This login has been blocked because the password was leaked")
)]
#[case::leaked_and_echoed(403, refusal("password_leaked", "hunter2 was leaked"), AuthnError::Provider)]
#[case::the_client_at_spring(401, refusal("unauthorized", "Bad credentials"), AuthnError::Provider)]
#[case::keycloak_without_realm(404, json!({"error": "Realm does not exist"}), AuthnError::Provider)]
#[case::new_code(400, refusal("something_new", "hunter2"), AuthnError::Provider)]
#[case::not_found(404, json!("nothing here"), AuthnError::Provider)]
#[case::a_grant_with_another_status(404, refusal("invalid_grant", ""), AuthnError::Provider)]
#[case::access_denied_by_a_gateway(407, refusal("access_denied", ""), AuthnError::Provider)]
#[case::redirect(307, json!(null), AuthnError::Provider)]
#[case::empty_object(400, json!({}), AuthnError::Provider)]
#[case::of_a_gateway(401, json!({"message": "no Route matched"}), AuthnError::Provider)]
#[case::busy(429, refusal("invalid_grant", ""), AuthnError::Busy)]
#[case::busy_with_one_user(
    403,
    refusal("too_many_attempts", "Your account has been blocked"),
    AuthnError::Busy
)]
#[case::down(503, json!("starting"), AuthnError::Unavailable)]
#[case::down_with_a_grant(500, refusal("invalid_grant", ""), AuthnError::Unavailable)]
#[case::says_it_is_down(400, refusal("temporarily_unavailable", ""), AuthnError::Unavailable)]
#[case::no_token(200, json!({"token_type": "Bearer"}), AuthnError::GrantUnusable { token: "access token", problem: "the answer has none.".into() })]
#[case::a_list(200, json!([]), AuthnError::Provider)]
#[case::a_text(200, json!("ok"), AuthnError::Provider)]
fn a_refusal_is_told_in_the_users_terms(
    #[case] status: u16,
    #[case] body: Value,
    #[case] expected: AuthnError,
) {
    let status = StatusCode::from_u16(status).unwrap();
    let error = read(status, body.to_string().as_bytes(), "hunter2").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    assert_eq!(error, expected);
}

#[rstest]
#[case::page(200, "<html>log in</html>")]
#[case::nothing(200, "")]
#[case::no_content(204, "")]
#[case::page_of_an_ingress(404, "<html>")]
#[case::page_of_a_firewall(403, "<html>Request blocked</html>")]
#[case::nothing_for_a_wrong_password(401, "")]
#[case::cut_off(400, "{\"error\": \"invalid_gr")]
fn what_is_not_json_says_nothing(#[case] status: u16, #[case] body: &str) {
    let status = StatusCode::from_u16(status).unwrap();
    let error = read(status, body.as_bytes(), "hunter2").unwrap_err();
    assert_eq!((error.speaks_of_the_user(), error), (false, AuthnError::Provider));
}

#[rstest]
#[case::as_it_is(json!({"error": "invalid_client"}), "invalid_client")]
#[case::the_password(json!({"error": "hunter2"}), "")]
#[case::with_what_is_not_shown(json!({"error": "no hun\u{7}ter2"}), "")]
#[case::none(json!([]), "")]
fn the_code_for_the_log_has_no_password(#[case] body: Value, #[case] code: &str) {
    assert_eq!(shown_code(body.to_string().as_bytes(), "hunter2"), code);
}
