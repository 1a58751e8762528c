//! What the `version_info` of a response in the state-of-the-world variant says: its resources.

use std::sync::Arc;

use imbl::OrdMap;

use crate::xds::{Resource, Version};

pub type Held = OrdMap<String, Arc<Resource>>;

/// The same on every replica. A sum, from which one resource can be taken without looking at the others.
pub fn of(resources: &Held) -> Version {
    Version::reported(format!("{:032x}", sum(resources)))
}

/// What a response with this `version_info` held, if that was `all` or all but one of them.
pub fn held_by(version_info: &str, all: &Held) -> Option<Held> {
    let missing = sum(all).wrapping_sub(u128::from_str_radix(version_info, 16).ok()?);
    let mut held = all.clone();
    if missing != 0 {
        let (but, _) = all.iter().find(|(name, resource)| digest(name, resource) == missing)?;
        held.remove(but);
    }
    Some(held)
}

fn sum(resources: &Held) -> u128 {
    resources.iter().fold(0, |sum: u128, (name, resource)| sum.wrapping_add(digest(name, resource)))
}

fn digest(name: &str, resource: &Resource) -> u128 {
    let mut hasher = blake3::Hasher::new();
    // The length keeps a byte of the one from passing for a byte of the other.
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name.as_bytes());
    hasher.update(resource.version.as_str().as_bytes());
    let mut digest = [0; 16];
    hasher.finalize_xof().fill(&mut digest);
    u128::from_le_bytes(digest)
}
