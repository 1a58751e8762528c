//! Key sets that a provider should not publish.

use rstest::rstest;
use serde_json::{Value, json};

use super::oidc_server::{Answer, KEYS};
use super::signer::Signer;
use super::world::World;

const MISFIT: &str = "Nobody can log in: the identity provider and the operator's settings do not fit. \
     Tell the operator's administrator; its log has the reason.";
const UNAVAILABLE: &str = "The identity provider does not answer at the moment; try again in a minute. \
     Who logged in before can go on working for a while.";
const BAD_SIGNATURE: &str =
    "The token's signature is wrong: it was changed or cut off. Copy it again, or get a new one.";
const UNKNOWN_KEY: &str =
    "The token is signed with a key that the identity provider does not publish (any more); get a new one.";

type Keys = fn(&Signer) -> Value;

/// The signer's key with this in its fields; `Value::Null` takes a field away.
fn key(signer: &Signer, changes: Value) -> Value {
    let mut jwk = signer.jwk();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(jwk.as_object_mut().unwrap().remove(name)),
            value => jwk[name] = value.clone(),
        }
    }
    jwk
}

fn many(signer: &Signer, count: usize) -> Vec<Value> {
    (0..count).map(|n| key(signer, json!({ "kid": format!("k{n}") }))).collect()
}

#[rstest]
#[case::empty(|_: &Signer| json!([]), MISFIT)]
#[case::shared_secret(|_: &Signer| json!([{ "kty": "oct", "kid": "e1", "k": "c2VjcmV0", "alg": "HS256" }]), MISFIT)]
#[case::for_encryption(|it: &Signer| json!([key(it, json!({ "use": "enc" }))]), MISFIT)]
#[case::another_curve(|it: &Signer| json!([key(it, json!({ "crv": "P-384" }))]), MISFIT)]
#[case::another_curve_without_alg(|it: &Signer| json!([key(it, json!({ "crv": "P-384", "alg": null }))]), BAD_SIGNATURE)]
#[case::bitcoins_curve(|it: &Signer| json!([key(it, json!({ "crv": "secp256k1", "alg": "ES256K" }))]), MISFIT)]
#[case::unknown_curve(|it: &Signer| json!([key(it, json!({ "crv": "P-1" }))]), MISFIT)]
#[case::another_algorithm(|it: &Signer| json!([key(it, json!({ "alg": "ES384" }))]), MISFIT)]
#[case::not_on_the_curve(|it: &Signer| json!([key(it, json!({ "x": "AA", "y": "AA" }))]), BAD_SIGNATURE)]
#[case::no_coordinate(|it: &Signer| json!([key(it, json!({ "y": null }))]), MISFIT)]
#[case::another_key_under_its_id(|_: &Signer| json!([Signer::ec("e1").jwk()]), BAD_SIGNATURE)]
#[case::the_right_one_after_too_many(|it: &Signer| json!([many(&Signer::ec("x"), 1000), vec![it.jwk()]].concat()), UNKNOWN_KEY)]
#[case::no_objects(|_: &Signer| json!([null, 7, "key", []]), MISFIT)]
#[case::an_object(|it: &Signer| it.jwk(), MISFIT)]
#[case::null(|_: &Signer| json!(null), MISFIT)]
#[tokio::test]
async fn a_key_set_of_no_use(#[case] keys: Keys, #[case] told: &str) {
    let world = World::with_ec().await;
    world.provider.set(KEYS, Answer::Json(json!({ "keys": keys(world.signer()) })));
    assert_eq!(world.refusal(&world.signer().token(&world.claims())).await, told);
    world.assert_asked_nowhere_else();
}

#[rstest]
#[case::another_key_of_this_id_first(|it: &Signer| json!([Signer::ec("e1").jwk(), it.jwk()]))]
#[case::an_rsa_key_of_this_id_first(|it: &Signer| json!([Signer::rsa("e1").jwk(), it.jwk()]))]
#[case::no_id(|it: &Signer| json!([key(it, json!({ "kid": null }))]))]
#[case::neither_use_nor_algorithm(|it: &Signer| json!([key(it, json!({ "use": null, "alg": null }))]))]
#[case::the_first_of_1000(|it: &Signer| json!([vec![it.jwk()], many(&Signer::ec("x"), 999)].concat()))]
#[case::after_1000_of_no_use(|it: &Signer| json!([vec![json!({ "kty": "oct", "k": "" }); 1000], vec![it.jwk()]].concat()))]
#[case::with_unknown_fields(|it: &Signer| json!([key(it, json!({ "x5t": "?", "nbf": 0, "revoked": null }))]))]
#[tokio::test]
async fn an_odd_key_set_with_the_right_key(#[case] keys: Keys) {
    let world = World::with_ec().await;
    world.provider.set(KEYS, Answer::Json(json!({ "keys": keys(world.signer()) })));
    assert_eq!(world.token(&world.signer().token(&world.claims())).await.unwrap().user, "anna");
}

#[rstest]
#[case::html(Answer::Text(200, "text/html", "<html>Log in first</html>".into()), MISFIT)]
#[case::not_found(Answer::Text(404, "text/plain", "no".into()), MISFIT)]
#[case::broken(Answer::Broken, UNAVAILABLE)]
#[case::down(Answer::Text(503, "text/plain", "starting".into()), UNAVAILABLE)]
#[case::huge(Answer::Huge(64 << 20), MISFIT)]
#[case::redirected(Answer::Redirect("http://idp.test/evil".into()), MISFIT)]
#[case::no_set(Answer::Json(json!([])), MISFIT)]
#[tokio::test]
async fn no_key_set_at_all(#[case] answer: Answer, #[case] told: &str) {
    let world = World::with_ec().await;
    world.provider.set(KEYS, answer);
    assert_eq!(world.refusal(&world.signer().token(&world.claims())).await, told);
    world.assert_asked_nowhere_else();
}

/// Made with Python's cryptography; aws-lc signs with nothing so short.
const SMALL_N: &str = "xt69WB-tP8l9CodAO_iNrb2hXOBsWEDI6oizEVM2tZ05XHyEOqjK-WRaheDesTDqMQjBudYeM2VGSA7X6dfSh-fXdJPgmr3tfr4doernR6z0YhXEQJXOEB0QSe1bVdLiQ_r-gg0zCOZy-PTqfLYWBE2Njdqmmtiwk47fSN5QJfc";
const SMALL_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InNtYWxsIn0.eyJpc3MiOiJodHRwOi8vaWRwLnRlc3QvYWNtZSIsImF1ZCI6InNwYXJrIiwic3ViIjoiYW5uYSIsImV4cCI6NDAwMDAwMDAwMH0.VJ754rmLThGxmiBPVib_Lo0vj9bUgiP8w2ULLBC4KgcaIBXdgeBCAv8i8xPqbaLEQGQ8XYFKauJ9uV1c7i36csIhIubSU117lTNRYCN7NbZM9UPJ1H2i68Vl-mNdgfZT5jy1S-XMxtAXX0fC9Jc7TgpfVwo2aQVdYbVe40OlXHs";

#[tokio::test]
async fn an_rsa_key_of_1024_bits_verifies_nothing() {
    let world = World::with_ec().await;
    let small = json!({ "kty": "RSA", "kid": "small", "n": SMALL_N, "e": "AQAB" });
    world.provider.set(KEYS, Answer::Json(json!({ "keys": [small, world.signer().jwk()] })));
    assert_eq!(world.refusal(SMALL_TOKEN).await, BAD_SIGNATURE);
}
