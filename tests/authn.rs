//! The public `Authenticator` against a provider that does what a real one cannot be made to do, and against tokens that
//! somebody has forged. Each case says what the user is told.
//!
//! Not here: a real provider and real clients (`tests/e2e`), single claims (`src/authn`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in helpers, which clippy does not take for tests.

#[path = "support/signer.rs"]
mod signer;

mod oidc_server;

#[path = "authn/world.rs"]
mod world;

#[path = "authn/accepted.rs"]
mod accepted;
#[path = "authn/forged.rs"]
mod forged;
#[path = "authn/groups.rs"]
mod groups;
#[path = "authn/guesses.rs"]
mod guesses;
#[path = "authn/herd.rs"]
mod herd;
#[path = "authn/key_sets.rs"]
mod key_sets;
#[path = "authn/mute_provider.rs"]
mod mute_provider;
#[path = "authn/outages.rs"]
mod outages;
#[path = "authn/password_tokens.rs"]
mod password_tokens;
#[path = "authn/revocations.rs"]
mod revocations;
#[path = "authn/rotation.rs"]
mod rotation;
