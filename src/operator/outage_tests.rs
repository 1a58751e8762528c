use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering::SeqCst};

use http::Response;
use kube::client::Body;

use super::*;

/// An API server that answers `/readyz` with this code; with 0 it does not answer.
fn server(code: &Arc<AtomicU16>, looks: &Arc<AtomicU32>) -> Client {
    let (code, looks) = (Arc::clone(code), Arc::clone(looks));
    let service = tower::service_fn(move |request: Request<Body>| {
        assert_eq!(request.uri().path(), "/readyz");
        looks.fetch_add(1, SeqCst);
        let code = code.load(SeqCst);
        async move {
            if code == 0 {
                return Err("connection refused");
            }
            Ok(Response::builder().status(code).body(Body::from(b"ok".to_vec())).unwrap())
        }
    });
    Client::new(service, "spark-dev")
}

async fn paused(pauses: &mut Pauses) -> Duration {
    let begin = Instant::now();
    pauses.pause().await;
    begin.elapsed()
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_to_half_a_minute_while_nothing_succeeds_for_long() {
    let api_server = ApiServer::default();
    let (mut flaps, mut fails) = (Pauses::of(&api_server), Pauses::of(&api_server));
    let mut took = Duration::ZERO;
    for expected in [25, 50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000] {
        // Works for a shorter time than it was waited for.
        flaps.went_well();
        sleep(took / 2).await;
        took = paused(&mut flaps).await;
        let about = expected..=expected * 3 / 2 + 1;
        assert!(about.contains(&took.as_millis()), "{took:?}, and not about {expected} ms");
        // Takes long to fail.
        sleep(Duration::from_secs(30)).await;
        let took = paused(&mut fails).await;
        assert!(about.contains(&took.as_millis()), "{took:?}, and not about {expected} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_begin_anew_after_what_works() {
    let api_server = ApiServer::default();
    let mut pauses = Pauses::of(&api_server);
    let mut last = Duration::ZERO;
    for _ in 0..5 {
        last = paused(&mut pauses).await;
    }
    pauses.went_well();
    sleep(last * (FORGOTTEN_AFTER + 1)).await;
    assert!(paused(&mut pauses).await < FIRST_PAUSE * 2);
    assert!(paused(&mut pauses).await >= FIRST_PAUSE * 2);
    // A watch that shows nothing, for nothing happens.
    sleep(SURELY_WORKS_AFTER * 2).await;
    assert!(paused(&mut pauses).await < FIRST_PAUSE * 2);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_outage_ends_all_pauses() {
    let (code, looks) = (Arc::new(AtomicU16::new(0)), Arc::default());
    let client = server(&code, &looks);
    let (api_server, called) = (Arc::new(ApiServer::default()), Arc::new(AtomicU32::new(0)));
    let mut pauses = Pauses::of(&api_server);
    let (following, counting) = (Arc::clone(&api_server), Arc::clone(&called));
    let looking = tokio::spawn(async move {
        let count = || {
            counting.fetch_add(1, SeqCst);
        };
        following.follow(&client, count).await;
    });
    for _ in 0..13 {
        pauses.pause().await;
    }
    assert_eq!(looks.load(SeqCst), 0, "nobody had a reason to ask");
    api_server.suspect();
    sleep(Duration::from_secs(2)).await;
    assert!((18..=21).contains(&looks.load(SeqCst)), "{looks:?} looks in two seconds");
    // Up, but not ready yet.
    code.store(500, SeqCst);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(called.load(SeqCst), 0);

    let back = sleep(Duration::from_secs(5));
    let back = async {
        back.await;
        code.store(200, SeqCst);
    };
    let (took, ()) = tokio::join!(paused(&mut pauses), back);
    assert!(took < Duration::from_secs(5) + LOOK_EVERY + SPREAD, "{took:?} instead of half a minute");
    assert_eq!(called.load(SeqCst), 1);
    assert!(paused(&mut pauses).await < FIRST_PAUSE * 2, "what comes next is a new failure");
    looking.abort();
}

#[tokio::test(start_paused = true)]
async fn a_failure_while_the_api_server_answers_ends_no_pause() {
    let (code, looks) = (Arc::new(AtomicU16::new(403)), Arc::default());
    let client = server(&code, &looks);
    let api_server = ApiServer::default();
    api_server.suspect();
    let follow = api_server.follow(&client, || panic!("it was never away"));
    assert!(timeout(Duration::from_secs(60), follow).await.is_err());
    assert_eq!(looks.load(SeqCst), 1);
}
