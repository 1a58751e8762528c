//! What the planner does, told by small clusters: each test sets one up, plans, and looks.

mod application;
mod certificate;
mod cluster;
mod disconnected;
mod draining;
mod endings;
mod explain;
mod failures;
mod fairness;
mod identity;
mod life;
mod measured;
mod model;
mod placement;
mod preparation;
mod properties;
mod quota;
mod rollout;
mod running;
mod session_conf;
mod sharing;
mod shrinking;
mod size;
mod status;
mod utilization;
mod waiting;
