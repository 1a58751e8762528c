//! The command `simulate`: what would this pool have cost over a day, and how long would its users have waited?
//!
//! [`World`] lets time pass over one pool whose sessions come and go, with this operator's own planner
//! ([`crate::plan::plan`]) or another one; the [`Ledger`] has what came of it. Nothing here asks a cluster.

mod carried;
pub mod clock;
mod cluster;
mod ledger;
mod starts;
mod timeline;
mod world;

pub use carried::{Carried, Event, SessionChange};
pub use cluster::Cluster;
pub use ledger::{Counts, Course, End, Happened, Ledger, Row, Scalings};
pub use starts::StartTimes;
pub use timeline::{Detail, timeline};
pub use world::{Planner, ThisOperator, World, WorldError};
