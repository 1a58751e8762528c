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
