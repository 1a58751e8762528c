//! What the operator tells about itself: logs, audit records, metrics, health. It holds no logic of the product.

pub mod audit;
mod causes;
mod http;
mod log_writer;
mod logs;
mod metrics;
mod panics;
mod queue;
mod repeats;

pub use causes::Causes;
pub use http::{Health, serve_health, serve_http, serve_metrics};
pub use log_writer::LostLines;
pub use logs::{AuditLog, LogFormat, Logs, init_logs};
pub use metrics::{Metrics, Outcome, WaitsFor};
pub use panics::panic_text;
pub use queue::QueueMetrics;
pub use repeats::{REPEAT_AFTER, Repeats};
