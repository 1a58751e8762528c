//! A day at an office that never was, for those who have no trace of their own: 400 people of whom most come at nine
//! and after lunch, some work in the evening, and jobs run at night.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::clock::{DAY, HOUR, Second};
use super::trace::Arrival;

const USERS: usize = 400;
const MINUTE: Second = 60;

/// Sessions of people: how many come around when (mean and spread, in seconds), and for how long at the median.
const WAVES: [(usize, Second, Second, Second); 5] = [
    // Who opens the notebook of yesterday with the first coffee.
    (520, 9 * HOUR, 10 * MINUTE, 100 * MINUTE),
    (380, 10 * HOUR + 30 * MINUTE, 50 * MINUTE, 35 * MINUTE),
    (520, 13 * HOUR, 8 * MINUTE, 80 * MINUTE),
    (320, 15 * HOUR, 60 * MINUTE, 30 * MINUTE),
    (60, 20 * HOUR, 90 * MINUTE, 45 * MINUTE),
];

/// Jobs at night: from when, how many, and seconds from one to the next.
const JOBS: [(Second, usize, Second); 3] =
    [(HOUR, 90, 30), (2 * HOUR + 30 * MINUTE, 60, 45), (5 * HOUR, 50, 20)];

/// Some 2,000 sessions, the same for the same seed.
pub fn office_day(seed: u64) -> Vec<Arrival> {
    let mut chance = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut arrivals = Vec::new();
    for (sessions, around, spread, stays) in WAVES {
        for _ in 0..sessions {
            let user = format!("user{:03}", chance.random_range(0..USERS) + 1);
            let at = (around + near_zero(&mut chance, spread)).clamp(0, DAY - 1);
            let stays = long_tailed(&mut chance, stays).min(8 * HOUR);
            arrivals.push(Arrival { at, user, stays });
        }
    }
    for (begin, jobs, every) in JOBS {
        for n in 0..jobs {
            let user = format!("etl{:02}", n % 20 + 1);
            let at = begin + Second::try_from(n).unwrap_or(0) * every + chance.random_range(0..every);
            arrivals.push(Arrival { at, user, stays: long_tailed(&mut chance, 12 * MINUTE).min(2 * HOUR) });
        }
    }
    arrivals.sort_by(|a, b| (a.at, &a.user).cmp(&(b.at, &b.user)));
    arrivals
}

/// Around zero with this spread: the sum of twelve even chances is near enough to a normal distribution.
fn near_zero(chance: &mut Xoshiro256PlusPlus, spread: Second) -> Second {
    let sum: Second = (0..12).map(|_| chance.random_range(0..1000)).sum();
    (sum - 5994) * spread / 1000
}

/// Half are shorter than this, few very much longer: twofold for each step away from it.
fn long_tailed(chance: &mut Xoshiro256PlusPlus, median: Second) -> Second {
    let steps = near_zero(chance, 1300);
    let (doublings, rest) = (steps.div_euclid(1000), steps.rem_euclid(1000));
    let whole = if doublings >= 0 { median << doublings.min(8) } else { median >> (-doublings).min(8) };
    whole + whole * rest / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_has_its_bursts_and_is_the_same_for_the_same_seed() {
        let day = office_day(1);
        assert_eq!(day, office_day(1));
        assert_ne!(day, office_day(2));
        assert_eq!(day.len(), 2000);
        let between = |from, to| day.iter().filter(|it| (from * HOUR..to * HOUR).contains(&it.at)).count();
        assert!(between(8, 10) > 500 && between(12, 14) > 500, "{} {}", between(8, 10), between(12, 14));
        assert!(between(6, 8) < 10 && between(1, 6) == 200, "{} {}", between(6, 8), between(1, 6));
        let mut users: Vec<&str> = day.iter().map(|it| it.user.as_str()).collect();
        users.sort_unstable();
        users.dedup();
        assert!(users.len() > 390, "{}", users.len());
    }
}
