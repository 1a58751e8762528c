use super::*;

fn password(user: &str, password: &str) -> Credentials {
    Credentials::password(user, password)
}

#[test]
fn different_credentials_have_different_keys() {
    let logins = Logins::new();
    let all = [
        password("anna", "pw"),
        password("anna", "pW"),
        password("annap", "w"),
        password("", "annapw"),
        Credentials::Token("annapw".into()),
        Credentials::Token("".into()),
        password("", ""),
    ];
    let keys: std::collections::HashSet<_> = all.iter().map(|credentials| logins.key(credentials)).collect();
    assert_eq!(keys.len(), all.len());
    assert_ne!(logins.key(&all[0]), Logins::new().key(&all[0]), "the key is each process's own");
}

/// As of a script that logs in with another password each time.
#[test]
fn no_more_logins_are_remembered_than_there_may_be() {
    let logins = Logins::new();
    let key = |n: u64| logins.key(&password("anna", &n.to_string()));
    for n in 0..MAX_ENTRIES + 1_000 {
        logins.remember(key(n), Remembered::Refused(AuthnError::WrongPassword), Duration::from_secs(60));
    }
    logins.entries.run_pending_tasks();
    assert_eq!(logins.entries.entry_count(), MAX_ENTRIES);
}
