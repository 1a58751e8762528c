//! What the Spark Operator's word for a SparkApplication means for the instance that it carries. It does not say whether
//! the server answers: that is found out by asking it.

/// Whether an instance can still serve, or come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// Its Pod and its server say how it is.
    Open,
    /// Its driver has ended, or is being ended, and does not come back by itself: the instance is replaced.
    Ended,
}

/// A state of the Spark Operator (v2), what it means, and why.
#[derive(Clone, Copy, Debug)]
pub struct ApplicationState {
    /// Empty as long as the Spark Operator has not looked at the application.
    pub word: &'static str,
    pub prospect: Prospect,
    pub why: &'static str,
}

/// All of v2.4.
pub const APPLICATION_STATES: [ApplicationState; 14] = [
    open("", "the Spark Operator has not looked at it yet"),
    open("SUBMITTED", "its driver Pod is there, or will be within the Spark Operator's time for that"),
    open("RUNNING", "its driver Pod runs; whether the server answers, it is asked itself"),
    ended("SUCCEEDING", "the driver ended without an error, and a server that ended serves nobody"),
    ended("COMPLETED", "the driver ended without an error, and a server that ended serves nobody"),
    open("SUBMISSION_FAILED", "the Spark Operator tries again, or says FAILED"),
    ended(
        "FAILING",
        "the driver ended with an error, or is gone; a replacement does not wait for the Spark Operator to try again",
    ),
    ended("FAILED", "the Spark Operator has given up"),
    open(
        "PENDING_RERUN",
        "another driver is about to be submitted; sessions of the last one are lost with its Pod",
    ),
    open("INVALIDATING", "its spec was changed: the driver is deleted, and another one submitted"),
    ended("SUSPENDING", "somebody has suspended it, which deletes the driver"),
    ended("SUSPENDED", "somebody has suspended it, and nobody says for how long"),
    open("RESUMING", "it was suspended, and is being submitted again"),
    open("UNKNOWN", "the node of its Pod does not tell: as long as the server answers it serves on"),
];

const fn open(word: &'static str, why: &'static str) -> ApplicationState {
    ApplicationState { word, prospect: Prospect::Open, why }
}

const fn ended(word: &'static str, why: &'static str) -> ApplicationState {
    ApplicationState { word, prospect: Prospect::Ended, why }
}

/// A word from a later version leaves the instance as it is: a server that answers is not killed for a word.
pub fn prospect(word: &str) -> Prospect {
    let known = APPLICATION_STATES.iter().find(|state| state.word == word);
    known.map_or(Prospect::Open, |state| state.prospect)
}
