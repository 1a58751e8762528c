//! Counts as Kubernetes writes them (int32, and nothing says that one is not negative), and as Rust counts.

/// What does not fit is told as the most that does.
pub fn int32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// A negative one is none.
pub fn count(int32: i32) -> usize {
    usize::try_from(int32).unwrap_or(0)
}
