//! How long instances take until they answer.

use rand::Rng;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::clock::Second;

/// Seconds from the creation of an instance until its server answers.
#[derive(Clone, Debug)]
pub enum StartTimes {
    Constant(Second),
    /// One of these after the other, as chance has it; the same for the same seed.
    Sampled(Vec<Second>, Box<Xoshiro256PlusPlus>),
}

impl StartTimes {
    /// `None` of no times at all.
    pub fn sampled(from: &[Second], seed: u64) -> Option<Self> {
        match from {
            [] => None,
            [only] => Some(Self::Constant(*only)),
            many => Some(Self::Sampled(many.to_vec(), Box::new(Xoshiro256PlusPlus::seed_from_u64(seed)))),
        }
    }

    pub fn draw(&mut self) -> Second {
        match self {
            Self::Constant(seconds) => *seconds,
            Self::Sampled(from, chance) => from[chance.random_range(0..from.len())],
        }
    }

    pub fn longest(&self) -> Second {
        match self {
            Self::Constant(seconds) => *seconds,
            Self::Sampled(from, _) => from.iter().copied().max().unwrap_or(0),
        }
    }
}
