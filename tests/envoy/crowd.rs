//! Far more clients than places: who gets in, and what the others hear.

use std::collections::BTreeMap;

use futures::future::join_all;
use tonic::{Code, Status};

use super::connect_client::{Arrived, ConnectClient};
use super::pools::{self, HOST};
use super::wait::until;
use super::world::World;

const INSTANCES: i32 = 3;
const PLACES: i32 = 20;
/// Of one user alone; the others have five each.
const GREEDY: usize = 60;
const OTHERS: usize = 40;
const CLIENTS: usize = GREEDY + 5 * OTHERS;

struct Guest {
    user: String,
    client: ConnectClient,
    answer: Result<Arrived, Status>,
}

/// The greedy one's clients are all there before anybody else comes.
async fn everybody(world: &World) -> Vec<(String, ConnectClient)> {
    let greedy = world.connect(HOST, "greedy").await;
    let mut guests: Vec<_> = (0..GREEDY).map(|_| ("greedy".to_owned(), greedy.another_session())).collect();
    for other in 0..OTHERS {
        let user = format!("user-{other}");
        let connection = world.connect(HOST, &user).await;
        guests.extend((0..5).map(|_| (user.clone(), connection.another_session())));
    }
    guests
}

fn by_user<'a>(users: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    users.fold(BTreeMap::new(), |mut counts, user| {
        *counts.entry(user).or_default() += 1;
        counts
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_and_sixty_clients_sixty_get_in_and_the_others_hear_their_place_in_the_queue() {
    let pool = pools::with_places(pools::connect("connect", HOST), INSTANCES, PLACES);
    let places = usize::try_from(INSTANCES * PLACES).unwrap();
    World::run("crowd", vec![pool], &["--connect-max-hold", "40"], async move |world| {
        world.spark.hold_starts();
        let guests = everybody(&world).await;
        let answers = join_all(guests.into_iter().map(async |(user, client)| {
            let answer = client.config().await;
            Guest { user, client, answer }
        }));
        let doors = async {
            world.operator.until_checks_in_flight(CLIENTS.try_into().unwrap()).await;
            until("every client has a session that waits", async || {
                let pool =
                    world.cluster.pools.get("connect").await.unwrap().status.unwrap_or_default().status;
                (pool.pending_sessions == i32::try_from(CLIENTS).unwrap()).then_some(())
            })
            .await;
            world.spark.let_start();
        };
        let (guests, ()) = tokio::join!(answers, doors);

        let (inside, outside): (Vec<_>, Vec<_>) = guests.iter().partition(|guest| guest.answer.is_ok());
        assert_eq!((inside.len(), outside.len()), (places, CLIENTS - places));
        let pods = by_user(inside.iter().map(|guest| guest.answer.as_ref().unwrap().pod()));
        assert_eq!(pods.values().collect::<Vec<_>>(), [&20, &20, &20], "{pods:?}");

        let counts = by_user(inside.iter().map(|guest| &*guest.user));
        assert_eq!(counts.len(), OTHERS + 1, "everybody has one: {counts:?}");
        assert!(
            counts.values().all(|count| *count <= 2),
            "nobody has a third before all have two: {counts:?}"
        );

        let mut positions: Vec<usize> = outside.iter().map(|guest| position(&guest.answer)).collect();
        positions.sort_unstable();
        assert_eq!(
            positions,
            (1..=CLIENTS - places).collect::<Vec<_>>(),
            "each place in the queue is told once"
        );

        a_place_that_becomes_free_goes_to_who_has_least(&world, &inside, &outside).await;
    })
    .await;
}

/// From: "… position 17 of 200 in the queue …", in a status that has the client come back by itself.
fn position(answer: &Result<Arrived, Status>) -> usize {
    let status = answer.as_ref().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.details().windows(9).any(|bytes| bytes == b"RetryInfo"), "it is told when to come back");
    let words = status.message();
    let place = words.to_lowercase();
    let place = place.split("position ").nth(1).unwrap_or_else(|| panic!("no position in: {words}"));
    let (position, rest) = place.split_once(" of ").unwrap();
    assert!(rest.starts_with("200 in the queue"), "{words}");
    position.parse().unwrap()
}

async fn a_place_that_becomes_free_goes_to_who_has_least(
    world: &World,
    inside: &[&Guest],
    outside: &[&Guest],
) {
    let counts = by_user(inside.iter().map(|guest| &*guest.user));
    let twice = inside.iter().find(|guest| counts[&*guest.user] == 2).unwrap();
    twice.client.release_session().await.unwrap();
    let waiting: Vec<_> = outside.iter().map(|guest| guest.client.session.to_string()).collect();
    let placed = until("somebody else has the place", async || {
        let sessions = world.cluster.sessions.list(&Default::default()).await.unwrap();
        sessions.into_iter().find(|session| {
            let id = session.spec.session_id.clone().unwrap_or_default();
            let place = session.status.as_ref().and_then(|status| status.assigned_instance.as_ref());
            waiting.contains(&id) && place.is_some()
        })
    })
    .await;
    let had = if placed.spec.user == twice.user { 1 } else { counts[&*placed.spec.user] };
    assert_eq!(had, 1, "{} had one place, as others had two", placed.spec.user);
}
