use proptest::prelude::*;

use super::*;

/// The next one, each lane in its turn.
fn serve(queue: &mut FairQueue<&'static str, u64>) -> Option<u64> {
    let lane = queue.next_lane()?;
    queue.pop(&lane)
}

fn push(queue: &mut FairQueue<&'static str, u64>, lane: &'static str, id: u64) -> Result<Option<u64>, Full> {
    queue.push(lane, 5, id, id)
}

#[test]
fn each_lane_has_its_turn_and_in_a_lane_whoever_came_first() {
    let mut queue = FairQueue::new(100);
    for id in 0..4 {
        push(&mut queue, "a", id).unwrap();
    }
    push(&mut queue, "b", 10).unwrap();
    push(&mut queue, "c", 20).unwrap();
    push(&mut queue, "c", 21).unwrap();
    let served: Vec<_> = std::iter::from_fn(|| serve(&mut queue)).collect();
    assert_eq!(served, [0, 10, 20, 1, 21, 2, 3]);
    assert_eq!((queue.lanes(), queue.waiting), (0, 0));
}

#[test]
fn whoever_has_gone_leaves_no_gap() {
    let mut queue = FairQueue::new(100);
    push(&mut queue, "a", 1).unwrap();
    push(&mut queue, "b", 2).unwrap();
    push(&mut queue, "b", 3).unwrap();
    assert_eq!(queue.remove(&"a", 1), Some(1));
    assert_eq!(queue.remove(&"a", 1), None, "it has left already");
    assert_eq!(queue.remove(&"b", 2), Some(2));
    assert_eq!((serve(&mut queue), serve(&mut queue)), (Some(3), None));
}

#[test]
fn a_lane_is_bounded_and_whoever_fills_all_places_gives_way() {
    let mut queue = FairQueue::new(6);
    for id in 0..5 {
        push(&mut queue, "a", id).unwrap();
    }
    assert_eq!(push(&mut queue, "a", 5), Err(Full::Lane));
    assert_eq!(push(&mut queue, "b", 10), Ok(None));
    assert_eq!(push(&mut queue, "b", 11), Ok(Some(4)), "the newest of the longest lane");
    assert_eq!(push(&mut queue, "c", 20), Ok(Some(3)));
    assert_eq!(push(&mut queue, "d", 30), Ok(Some(2)));
    assert_eq!(push(&mut queue, "d", 31), Err(Full::All), "no other would still be longer");
    let served: Vec<_> = std::iter::from_fn(|| serve(&mut queue)).collect();
    assert_eq!(served, [0, 10, 20, 30, 1, 11]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u8),
    Serve,
    Leave(u8, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8).prop_map(Step::Push),
        2 => Just(Step::Serve),
        1 => (0..6_u8, 0..200_usize).prop_map(|(lane, id)| Step::Leave(lane, id)),
    ]
}

proptest! {
    /// Compared with the same said in the simplest words: a list of all that wait.
    #[test]
    fn nobody_is_lost_or_served_twice(steps in prop::collection::vec(step(), 0..200)) {
        let mut queue = FairQueue::new(20);
        let mut waiting: Vec<(u8, usize)> = Vec::new();
        for (id, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push(lane) => match queue.push(lane, 8, id as u64, (lane, id)) {
                    Ok(gave_way) => {
                        waiting.retain(|it| Some(*it) != gave_way);
                        waiting.push((lane, id));
                    }
                    Err(Full::Lane) => prop_assert_eq!(waiting.iter().filter(|it| it.0 == lane).count(), 8),
                    Err(Full::All) => prop_assert_eq!(waiting.len(), 20),
                },
                Step::Serve => {
                    let lane = queue.next_lane();
                    let served = lane.and_then(|lane| queue.pop(&lane));
                    let first = served.and_then(|(lane, _)| waiting.iter().find(|it| it.0 == lane).copied());
                    prop_assert_eq!(served, first);
                    prop_assert_eq!(served.is_none(), waiting.is_empty());
                    waiting.retain(|it| Some(*it) != served);
                }
                Step::Leave(lane, id) => {
                    let left = queue.remove(&lane, id as u64);
                    prop_assert_eq!(left.is_some(), waiting.contains(&(lane, id)));
                    waiting.retain(|it| *it != (lane, id));
                }
            }
            prop_assert_eq!(queue.waiting, waiting.len());
            let lanes: std::collections::HashSet<u8> = waiting.iter().map(|it| it.0).collect();
            prop_assert_eq!(queue.lanes(), lanes.len());
            prop_assert_eq!(queue.by_length.len(), lanes.len());
        }
    }
}
