//! Logins that the provider is told to forget (RFC 7009).

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde_json::{Value, json};
use spark_session_operator::authn::AuthnSettings;
use spark_session_operator::telemetry::Outcome;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::oidc_server::{Answer, Asked, REVOCATION, TOKEN};
use super::world::World;

struct Revoking {
    world: World,
    outcomes: Family<Outcome, Counter>,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Revoking {
    async fn with(discovery: Value, change: impl FnOnce(&mut AuthnSettings)) -> Self {
        let world = World::with(change).await;
        let mut discovery = discovery;
        discovery["revocation_endpoint"] = json!(world.provider.url(REVOCATION));
        world.provider.discovers(&discovery);
        world.provider.set(REVOCATION, Answer::Text(200, "text/plain", String::new()));
        let (outcomes, stop) = (Family::default(), CancellationToken::new());
        let revoker = world.authenticator.revoker(outcomes.clone()).expect("there are password logins");
        let task = tokio::spawn(revoker.run(stop.clone()));
        Self { world, outcomes, stop, task }
    }

    async fn new() -> Self {
        Self::with(json!({}), |_| {}).await
    }

    /// The next password is exchanged for an access token that counts so long, and this refresh token.
    fn gives(&self, life: i64, refresh_token: &str) {
        let exp = json!(jiff::Timestamp::now().as_second() + life);
        let access_token = self.world.signer().token(&self.world.claims_with("exp", exp));
        let tokens = json!({"access_token": access_token, "refresh_token": refresh_token});
        self.world.provider.set(TOKEN, Answer::Json(tokens));
    }

    /// What the provider was told to forget, once it was told of `count`.
    async fn forgotten(&self, count: usize) -> Vec<String> {
        let told = async {
            while self.world.provider.hits(REVOCATION) < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), told).await.expect("it is told");
        self.told()
    }

    fn told(&self) -> Vec<String> {
        let token = |asked: Asked| {
            let token = asked.body.split('&').find_map(|field| field.strip_prefix("token="));
            token.expect("the form has a token").to_owned()
        };
        self.world.provider.requests(REVOCATION).into_iter().map(token).collect()
    }

    fn counted(&self, outcome: &str) -> u64 {
        self.outcomes.get_or_create(&Outcome { outcome: outcome.to_owned() }).get()
    }

    async fn stop(&mut self) {
        self.stop.cancel();
        (&mut self.task).await.unwrap().unwrap();
    }
}

fn refusal(error: &str) -> Answer {
    Answer::Text(400, "application/json", json!({ "error": error }).to_string())
}

#[tokio::test]
async fn a_login_whose_password_is_shown_anew_is_forgotten_and_its_successor_is_not() {
    let mut revoking =
        Revoking::with(json!({}), |settings| settings.cache_ttl = Duration::from_millis(50)).await;
    revoking.gives(300, "r1");
    revoking.world.password("anna").await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    revoking.gives(300, "r2");
    revoking.world.password("anna").await.unwrap();
    assert_eq!(revoking.forgotten(1).await, ["r1"]);
    revoking.stop().await;
    assert_eq!(revoking.told(), ["r1", "r2"], "at the end of the process all of them");
    assert_eq!(revoking.counted("Revoked"), 2);
}

/// Many providers end the whole login when one of its refresh tokens is revoked, so the old one is not.
#[tokio::test]
async fn a_rotated_refresh_token_is_not_revoked_but_the_newest_is_in_the_end() {
    let mut revoking = Revoking::new().await;
    for refresh_token in ["r1", "r2", "r3"] {
        revoking.gives(0, refresh_token);
        revoking.world.password("anna").await.unwrap();
    }
    revoking.stop().await;
    assert_eq!(revoking.told(), ["r3"]);
}

#[tokio::test]
async fn a_login_ends_at_the_provider_when_the_password_turns_out_to_be_wrong() {
    let revoking = Revoking::with(json!({}), |settings| settings.cache_ttl = Duration::from_millis(50)).await;
    revoking.gives(300, "r1");
    revoking.world.password("anna").await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    revoking.world.provider.set(TOKEN, refusal("invalid_grant"));
    assert_eq!(revoking.world.refused_password().await, "Wrong user name or password.");
    assert_eq!(revoking.forgotten(1).await, ["r1"]);
}

#[tokio::test]
async fn a_login_that_nobody_uses_any_more_is_forgotten_without_another_request() {
    let revoking = Revoking::with(json!({}), |settings| {
        settings.cache_ttl = Duration::from_millis(50);
        settings.outage_grace = Duration::from_secs(900);
    })
    .await;
    revoking.gives(300, "r1");
    revoking.world.password("anna").await.unwrap();
    assert_eq!(revoking.forgotten(1).await, ["r1"], "though it is remembered for an outage");
}

#[tokio::test]
async fn a_login_whose_token_cannot_be_used_does_not_stay_at_the_provider() {
    let revoking = Revoking::new().await;
    revoking
        .world
        .provider
        .set(TOKEN, Answer::Json(json!({"access_token": "opaque", "refresh_token": "r1"})));
    revoking.world.refused_password().await;
    assert_eq!(revoking.forgotten(1).await, ["r1"]);
}

#[tokio::test]
async fn the_operator_says_who_it_is_as_at_the_token_endpoint() {
    for (methods, authorization, body) in [
        (
            json!({"token_endpoint_auth_methods_supported": ["client_secret_post"]}),
            None,
            "token=r1&token_type_hint=refresh_token&client_id=operator&client_secret=cl13nt",
        ),
        (
            json!({
                "token_endpoint_auth_methods_supported": ["client_secret_post"],
                "revocation_endpoint_auth_methods_supported": ["client_secret_basic"],
            }),
            Some("Basic b3BlcmF0b3I6Y2wxM250"),
            "token=r1&token_type_hint=refresh_token",
        ),
    ] {
        let secret = |settings: &mut AuthnSettings| settings.client_secret = Some("cl13nt".into());
        let mut revoking = Revoking::with(methods, secret).await;
        revoking.gives(300, "r1");
        revoking.world.password("anna").await.unwrap();
        revoking.stop().await;
        let expected = Asked { authorization: authorization.map(str::to_owned), body: body.to_owned() };
        assert_eq!(revoking.world.provider.requests(REVOCATION), [expected]);
    }
}

#[tokio::test]
async fn a_provider_that_refuses_is_not_asked_again() {
    let mut revoking =
        Revoking::with(json!({}), |settings| settings.cache_ttl = Duration::from_millis(50)).await;
    revoking.world.provider.set(REVOCATION, refusal("unsupported_token_type"));
    revoking.gives(300, "r1");
    revoking.world.password("anna").await.unwrap();
    revoking.forgotten(1).await;
    revoking.stop().await;
    assert_eq!(revoking.told(), ["r1"]);
    assert_eq!(revoking.counted("Refused"), 1);
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_asked_three_times() {
    let revoking = Revoking::with(json!({}), |settings| settings.cache_ttl = Duration::from_millis(50)).await;
    revoking.world.provider.set(REVOCATION, Answer::Text(503, "text/plain", String::new()));
    revoking.gives(300, "r1");
    revoking.world.password("anna").await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    let access_token = revoking.world.signer().token(&revoking.world.claims());
    revoking.world.provider.set(TOKEN, Answer::Json(json!({"access_token": access_token})));
    revoking.world.password("anna").await.unwrap();
    for attempt in 1..=3 {
        assert_eq!(revoking.forgotten(attempt).await, vec!["r1"; attempt]);
        later(Duration::from_secs(21)).await;
    }
    later(Duration::from_secs(600)).await;
    assert_eq!(revoking.told().len(), 3);
    assert_eq!(revoking.counted("Unanswered"), 1);
}

/// Lets time pass when all that was asked has its answer.
async fn later(duration: Duration) {
    tokio::time::sleep(Duration::from_millis(100)).await;
    tokio::time::pause();
    tokio::time::advance(duration).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_provider_that_hangs_does_not_keep_the_process_from_ending_nor_logins_from_working() {
    let mut revoking =
        Revoking::with(json!({}), |settings| settings.cache_ttl = Duration::from_millis(50)).await;
    revoking.world.provider.set(REVOCATION, Answer::Hang);
    for number in 0..20 {
        revoking.gives(300, &format!("r{number}"));
        revoking.world.password(&format!("user{number}")).await.unwrap();
    }
    let began = std::time::Instant::now();
    revoking.world.password("anna").await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    revoking.stop().await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_provider_without_that_endpoint_is_not_asked() {
    let mut revoking = Revoking::new().await;
    revoking.world.provider.discovers(&json!({}));
    revoking.gives(300, "r1");
    revoking.world.password("anna").await.unwrap();
    revoking.stop().await;
    assert_eq!(revoking.told(), [""; 0]);
    assert_eq!(revoking.counted("Revoked") + revoking.counted("Unanswered") + revoking.counted("Refused"), 0);
}

#[tokio::test]
async fn without_password_logins_there_is_nothing_to_forget() {
    let world = World::with(|settings| settings.client_id = None).await;
    assert!(world.authenticator.revoker(Family::default()).is_none());
}
