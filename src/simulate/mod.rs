//! The command `simulate`: what would this pool have cost over a day, and how long would its users have waited?
//!
//! [`World`] lets time pass over one pool whose sessions come and go, with this operator's own planner
//! ([`crate::plan::plan`]) or another rule ([`policies`]); the [`Ledger`] has what came of it. Nothing here asks a
//! cluster, and nothing is known of what users do within their sessions.

mod audit_trace;
mod carried;
pub mod clock;
mod cluster;
pub mod command;
mod ledger;
pub mod office_day;
pub mod policies;
pub mod pool_file;
mod report;
mod simulation;
mod starts;
mod timeline;
pub mod trace;
mod world;

pub use carried::{Carried, Event, SessionChange};
pub use cluster::Cluster;
pub use ledger::{Counts, Course, End, Happened, Ledger, Row, Scalings};
pub use simulation::{Answer, Figures, Question, Waited};
pub use starts::StartTimes;
pub use timeline::{Detail, timeline};
pub use world::{Planner, ThisOperator, World, WorldError};
