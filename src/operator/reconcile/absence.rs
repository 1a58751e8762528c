//! What is looked up before a plan destroys something because something else is not there: the watch that would have shown it
//! may be behind, or interrupted.
//!
//! What a watch has shown to be deleted is looked up, too, once: here nobody can tell the two.

use super::{Memory, Reconciler};
use crate::model::{InstancePhase, Inventory, TokenState};

/// What is not known, and would be concluded from.
#[derive(Debug, Default, PartialEq, Eq)]
struct Missing {
    /// Its sessions would end.
    pool: bool,
    /// Name and UID of instances whose server runs with a token that nobody knows: they would be given up.
    tokens: Vec<(String, String)>,
}

impl Reconciler {
    /// Enters what the API server has of it.
    pub(super) async fn look_for_missing(&self, pool: &str, memory: &mut Memory) -> Result<(), kube::Error> {
        let missing = self.stores.read(|inventory| missing(inventory, pool));
        if missing.pool {
            self.takeover.look_for_pool(pool, &self.stores).await?;
        }
        memory.without_token.retain(|uid| missing.tokens.iter().any(|(_, missing)| missing == uid));
        for (instance, uid) in missing.tokens {
            if memory.without_token.contains(&uid) {
                continue;
            }
            self.takeover.look_for_token(&instance, &self.stores).await?;
            if self.stores.read(|inventory| inventory.token(&instance).is_some()) {
                tracing::info!(
                    pool,
                    instance,
                    "its token is kept, though the watch of Secrets did not show it"
                );
            } else {
                memory.without_token.push(uid);
            }
        }
        Ok(())
    }
}

fn missing(inventory: &Inventory, pool: &str) -> Missing {
    if inventory.pool(pool).is_none() {
        let ends = inventory.sessions_in(pool).any(|session| !session.is_finished());
        return Missing { pool: ends && inventory.unreadable_pool(pool).is_none(), ..Missing::default() };
    }
    let lost = inventory
        .instances_of(pool)
        .into_iter()
        .filter(|instance| instance.phase == InstancePhase::Failed && instance.token == TokenState::Unknown);
    Missing { tokens: lost.map(|instance| (instance.name, instance.uid)).collect(), ..Missing::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Object;
    use crate::model::connect_server::TOKEN_SETTING;
    use crate::model::fixtures::{application, connect_pool, driver, session, token_secret};

    #[test]
    fn a_pool_is_looked_for_while_sessions_name_it() {
        let mut inventory = Inventory::default();
        assert!(!missing(&inventory, "p").pool);
        inventory.put(Object::Session(session("s").on("p-0")));
        assert!(missing(&inventory, "p").pool);
        inventory.pool_unreadable("p", "it cannot be read");
        assert!(!missing(&inventory, "p").pool);
        inventory.put(Object::Pool(connect_pool("p")));
        assert!(!missing(&inventory, "p").pool);
    }

    #[test]
    fn a_token_is_looked_for_before_its_instance_is_given_up() {
        let mut inventory = Inventory::default();
        inventory.put(Object::Pool(connect_pool("p")));
        let with_token = application("p-0").with_conf(TOKEN_SETTING, "p-0-token:token");
        inventory.put(Object::Application(with_token));
        inventory.put(Object::Pod(driver("p-0").at_ip("10.0.0.1")));
        assert_eq!(missing(&inventory, "p").tokens, []);
        inventory.server_answers("uid-of-p-0-driver");
        let uid = inventory.instance("p-0").unwrap().uid;
        assert_eq!(missing(&inventory, "p").tokens, [("p-0".to_owned(), uid)]);
        inventory.put(Object::Token(token_secret("p-0", "t")));
        assert_eq!(missing(&inventory, "p").tokens, []);
    }
}
