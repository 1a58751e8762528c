//! The tokens of Connect instances, and the Secrets that keep them.

use std::sync::Arc;

use super::Inventory;
use crate::model::connect_server::{asks_for_token, token_secret_name};
use crate::model::{Application, InstanceToken, TokenSecret, TokenState};

impl Inventory {
    /// What lets a request into this instance, if it is known.
    pub fn token(&self, instance: &str) -> Option<&InstanceToken> {
        self.tokens.get(instance)
    }

    pub(super) fn token_state(&self, application: &Application) -> TokenState {
        let name = &application.meta.name;
        if !asks_for_token(&application.spark_conf) {
            TokenState::NotAsked
        } else if self.token_secrets.contains_key(&token_secret_name(name))
            || self.trusted_tokens.contains(name)
        {
            TokenState::Kept
        } else if self.tokens.contains_key(name) {
            TokenState::Remembered
        } else {
            TokenState::Unknown
        }
    }

    pub(super) fn put_token(&mut self, secret: TokenSecret) -> Vec<String> {
        let instance = secret.instance.clone();
        self.tokens.insert(instance.clone(), secret.token.clone());
        self.token_secrets.insert(secret.meta.name.clone(), Arc::new(secret));
        if !self.applications.contains_key(&instance) {
            self.token_secrets_left.insert(instance.clone());
        }
        self.look_at_driver(&instance);
        self.pool_of_instance(&instance)
    }

    /// The token is remembered for as long as the instance is there: its driver knows no other.
    pub(super) fn remove_token(&mut self, secret: &str) -> Vec<String> {
        let Some(secret) = self.token_secrets.remove(secret) else { return Vec::new() };
        if !self.applications.contains_key(&secret.instance) {
            self.tokens.remove(&secret.instance);
            self.token_secrets_left.remove(&secret.instance);
        }
        self.look_at_driver(&secret.instance);
        self.pool_of_instance(&secret.instance)
    }

    pub(super) fn forget_token(&mut self, instance: &str) {
        if self.token_secrets.contains_key(&token_secret_name(instance)) {
            self.token_secrets_left.insert(instance.to_owned());
        } else {
            self.tokens.remove(instance);
        }
    }

    /// Instances of the pool that are gone, while the Secret with their token is not: the next one of the name would find it
    /// and lose it to the garbage collector.
    pub(super) fn token_secrets_without_instance(&self, pool: &str) -> impl Iterator<Item = &str> {
        let is_of_pool = move |name: &&str| name.rsplit_once('-').is_some_and(|(of, _)| of == pool);
        self.token_secrets_left.iter().map(String::as_str).filter(is_of_pool)
    }

    fn pool_of_instance(&self, instance: &str) -> Vec<String> {
        self.applications.get(instance).map(|application| application.pool.clone()).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Object;
    use super::*;
    use crate::model::connect_server::TOKEN_SETTING;
    use crate::model::fixtures::{application, connect_pool, driver, token_secret};
    use crate::model::{InstancePhase, Kind};

    /// A running instance `p-0` that asks for a token.
    fn running() -> Inventory {
        let mut inventory = Inventory::default();
        inventory.put(Object::Pool(connect_pool("p")));
        let application = application("p-0").with_conf(TOKEN_SETTING, "p-0-token:token");
        inventory.put(Object::Application(application));
        inventory.put(Object::Pod(driver("p-0").at_ip("10.0.0.1")));
        inventory
    }

    fn state(inventory: &Inventory) -> TokenState {
        inventory.instance("p-0").unwrap().token
    }

    #[test]
    fn a_token_that_comes_touches_its_pool() {
        let mut inventory = running();
        assert_eq!(state(&inventory), TokenState::Unknown);
        assert_eq!(inventory.put(Object::Token(token_secret("p-0", "t"))), ["p"]);
        assert_eq!(state(&inventory), TokenState::Kept);
        assert_eq!(inventory.token("p-0"), Some(&InstanceToken::new("t")));
    }

    #[test]
    fn a_token_outlives_its_secret_but_not_its_instance() {
        let mut inventory = running();
        inventory.put(Object::Token(token_secret("p-0", "t")));
        assert_eq!(inventory.remove(Kind::Token, "p-0-token"), ["p"]);
        assert_eq!(state(&inventory), TokenState::Remembered);
        assert!(inventory.token("p-0").is_some());
        inventory.remove(Kind::Application, "p-0");
        assert_eq!(inventory.token("p-0"), None);
    }

    #[test]
    fn with_its_instance_gone_the_secret_is_the_last_to_know_the_token() {
        let mut inventory = running();
        inventory.put(Object::Token(token_secret("p-0", "t")));
        inventory.remove(Kind::Application, "p-0");
        assert!(inventory.token("p-0").is_some());
        inventory.remove(Kind::Token, "p-0-token");
        assert_eq!(inventory.token("p-0"), None);
    }

    #[test]
    fn a_server_whose_token_nobody_knows_is_lost() {
        let mut inventory = running();
        assert_eq!(inventory.instance("p-0").unwrap().phase, InstancePhase::Starting);
        inventory.server_answers("uid-of-p-0-driver");
        let instance = inventory.instance("p-0").unwrap();
        assert_eq!(instance.phase, InstancePhase::Failed);
        assert_eq!(
            instance.message.as_deref(),
            Some(
                "its token is lost, since Secret p-0-token was deleted: nobody can reach its server any more"
            )
        );
        inventory.put(Object::Token(token_secret("p-0", "t")));
        assert_eq!(inventory.instance("p-0").unwrap().phase, InstancePhase::Ready);
    }
}
