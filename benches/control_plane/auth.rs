//! What logins cost. The provider is a server of this process that answers at once, with a signature for each login and a
//! refresh token as long as Keycloak's.
//!
//! Warm requests take the way of `warm`, through two Envoys of the same configuration; new logins go to the operator's
//! real process, by the question that Envoy asks.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use spark_session_operator::authn::AuthnSettings;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::Code;

use crate::Size;
use crate::asking::Asking;
use crate::control_plane::ControlPlane;
use crate::domain::{self, free_port, loopback};
use crate::envoy::Envoy;
use crate::figures::{Times, micros, ratio, verdict};
use crate::kubernetes::{admin, clear, create_pools, name};
use crate::oidc_server::{Answer, OidcServer, TOKEN};
use crate::operator::Operator;
use crate::signer::Signer;
use crate::spark;
use crate::warm::load;

const CLIENT: &str = "operator";
const USER: &str = "alice";
const HERD: usize = 500;

pub async fn measure(size: Size) {
    let provider = OidcServer::start(Arc::new(Signer::ec("k1")), None).await;
    warm(size, &provider).await;
    new_logins(size, &provider).await;
}

/// A login that is remembered, beside none at all.
async fn warm(size: Size, provider: &OidcServer) {
    let port = free_port();
    tokio::spawn(spark::serve(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.unwrap()));
    let (world, clusters) = domain::filled(port, 1, 1);
    let session = world.session("pool-0", "pool-0-0", USER);
    let settings = AuthnSettings {
        issuer_url: Some(provider.issuer()),
        client_id: Some(CLIENT.to_owned()),
        ..AuthnSettings::default()
    };
    let mut sides =
        [ControlPlane::with_logins(&world.stores, settings), ControlPlane::with_broker(&world.stores)];
    let mut envoys = Vec::new();
    for (node, plane) in ["logins", "believes"].into_iter().zip(&mut sides) {
        let snapshot = plane.translated(&world.stores);
        plane.publisher.publish(snapshot);
        let envoy = Envoy::start(node, plane.address, plane.address);
        envoy.listens(plane.listen).await;
        plane.publisher.programmed(Some(node), &clusters["pool-0"][0]).await;
        envoys.push(envoy);
    }

    println!(
        "\nwarm check through Envoy, end to end [µs]     password login    logins switched off   ratio   goal"
    );
    println!("{:>52} {:>20}", "p50     p99", "p50     p99");
    let (rounds, length) = size.of((16, Duration::from_secs(2)), (2, Duration::from_millis(300)));
    for connections in [1, 64] {
        let mut times = [Times::default(), Times::default()];
        for round in 0..rounds {
            for turn in 0..2 {
                let side = (round + turn) % 2;
                let address = sides[side].listen;
                load(address, "pool-0", session, connections, length / 10).await;
                times[side].extend(load(address, "pool-0", session, connections, length).await);
            }
        }
        let [logins, none] = &times;
        let p50 = ratio(logins.p50(), none.p50());
        println!(
            "  {connections:>2} connections, {:>7} requests{:>15.0} {:>7.0} {:>12.0} {:>7.0}   {p50:.3}   ≤1.05 {}",
            logins.count(),
            micros(logins.p50()),
            micros(logins.p99()),
            micros(none.p50()),
            micros(none.p99()),
            verdict(p50 <= 1.05),
        );
    }
    assert_eq!(provider.hits(TOKEN), 1, "the login was to be remembered");
}

async fn new_logins(size: Size, provider: &OidcServer) {
    let client = admin().await;
    clear(&client).await;
    create_pools(&client, 1, free_port()).await;
    let issuer = provider.issuer();
    let logins = ["--oidc-issuer-url", &issuer, "--oidc-client-id", CLIENT];
    let operator = Operator::start_with(loopback(free_port()), &logins).await;
    let mut asking = Asking::new(operator.address).await;
    let users = size.of(10_000, 300);

    // Connections, keys, and what the allocator holds back.
    for n in 0..size.of(1000, 30) {
        log_in(&mut asking, &format!("first-{n}")).await;
    }
    let (resident, cpu) = (operator.resident(), operator.cpu());
    let (mut through, mut direct) = (Times::default(), Times::default());
    let direct_client = reqwest::Client::builder().no_proxy().build().unwrap();
    let turns = 10;
    for turn in 0..turns {
        for n in 0..users / turns {
            through.add(log_in(&mut asking, &format!("user-{turn}-{n}")).await);
        }
        for n in 0..users / turns {
            direct.add(ask_provider(&direct_client, provider, &format!("user-{turn}-{n}")).await);
        }
    }
    let (cpu, grown) = (operator.cpu() - cpu, operator.resident() - resident);
    println!("\n{users} new password logins, one after another [µs]           p50     p99");
    println!(
        "  the operator, with a check over gRPC around it     {:>8.0} {:>7.0}",
        micros(through.p50()),
        micros(through.p99())
    );
    println!(
        "  the provider, asked directly                       {:>8.0} {:>7.0}",
        micros(direct.p50()),
        micros(direct.p99())
    );
    let added = micros(through.p50()) - micros(direct.p50());
    let cpu_each = micros(cpu) / users as f64;
    println!(
        "  the operator adds {added:.0} µs, and uses {cpu_each:.0} µs of CPU: {:.0} logins/s of a core",
        1e6 / cpu_each
    );
    println!(
        "  memory: {:.1} MiB more for them, {:.0} bytes a login ({resident:.1} MiB before)",
        grown,
        grown * (1 << 20) as f64 / users as f64
    );

    let before = provider.hits(TOKEN);
    provider.set(TOKEN, Answer::Slow(Duration::from_millis(300), Box::new(Answer::LogIn)));
    let mut herd = JoinSet::new();
    for _ in 0..HERD {
        let mut asking = asking.clone();
        herd.spawn(async move { log_in(&mut asking, "herd").await });
    }
    let took = herd.join_all().await.into_iter().max().unwrap_or_default();
    let grants = provider.hits(TOKEN) - before;
    println!(
        "  {HERD} checks at once with one new login: {grants} grant at the provider, goal 1 {}; the last after {:.0} ms of \
         which the provider took 300",
        verdict(grants == 1),
        took.as_secs_f64() * 1e3
    );
}

/// How long it takes. Behind its login the call is refused, since it has no message: nothing is started for it.
async fn log_in(asking: &mut Asking, user: &str) -> Duration {
    let (answer, took) = asking.check(&domain::host(&name(0)), user, "Config", Vec::new()).await;
    let code = answer.status.as_ref().map(|status| status.code);
    assert_eq!(code, Some(Code::InvalidArgument as i32), "{user} is not let in: {answer:?}");
    took
}

/// What the operator asks, and nothing else.
async fn ask_provider(client: &reqwest::Client, provider: &OidcServer, user: &str) -> Duration {
    let form =
        format!("grant_type=password&scope=openid&username={user}&password=password&client_id={CLIENT}");
    let begin = Instant::now();
    let request =
        client.post(provider.url(TOKEN)).header("content-type", "application/x-www-form-urlencoded");
    let answer = request.body(form).send().await.unwrap();
    assert!(answer.status().is_success());
    answer.bytes().await.unwrap();
    begin.elapsed()
}
