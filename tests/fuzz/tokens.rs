//! Tokens and the public keys they are signed with. The private keys were thrown away.

use std::sync::OnceLock;

use jiff::Timestamp;
use spark_session_operator::authn::{KeySet, TokenRules};

pub struct Signed {
    pub token: &'static str,
    /// What makes the key it is signed with that key: `n` or `x`.
    #[allow(dead_code, reason = "one of two targets needs it")]
    pub public: &'static str,
}

pub const SIGNED: [Signed; 3] = [
    Signed {
        token: "eyJhbGciOiJSUzI1NiIsImtpZCI6InIifQ.eyJpc3MiOiJodHRwczovL2lkcCIsImF1ZCI6WyJzcGFyayJdLCJzdWIiOiJhbm5hIiwiZXhwIjo0MDAwMDAwMDAwLCJncm91cHMiOlsiZGV2Il19.pGNPiGSyLpQLtUfXiN9-p_y89n6miCFmQzfrbrXzwA5ub2ogJfiiyjIsOhN-ML-NTqDrOmrw9-_u-w9TU29kfiA4r-FASUZm7hev4UA0i--5rso9zv47mBX8VSadIEUOzphqzgHbvS_lzbIF2_zBVpoSZCYorZzcZr3geVvhi3uVz3Zng-E2ke_zDf5w6VtAb0KBif2AAuzRu1sDRlySR6Ga-U1pmcqJ-11rDFF6pXeKD7DRzBnXwADslkm3DDTflUlSUQ52yHNL8M3_K_htAuh7TE577b_BZ4R2gmvWCMr27ZISQ2PCcR64TaGCw4F_FqAhvX37hNPJsyGKwyHg1g",
        public: "w-j09lcr-PjRHWzNmBFcIwQBL0u6A9RBeOqmY_M4JmyeZLpEz6c9_nA8Az_Hy7GJkeYh7RbBZYP9k6MkojP112aDShQolfVTNojFoRbV0NZq9foB4QOzVmMoIa3RQTabThH-rMizxAL48ZQlMqs_Mo8Revp-QEyadvwTLjhJNwT4XKKgATB5L8JRfl_Lfg3KqYfPgYo_8bn-ecm3UyU2I5YyvRCi9mE4c1G89ortxX-1zejX8__Jwbv9pMRoDZevOOcjjRpCVx59ZgureQZJuzU9N31TqvoyyIXq_I2mprXLTTMOCk9FdaoNFlCdTtkAoxzaRAbaTaSxP-ekO79DUQ",
    },
    Signed {
        token: "eyJhbGciOiJFUzI1NiIsImtpZCI6ImUifQ.eyJpc3MiOiJodHRwczovL2lkcCIsImF1ZCI6WyJzcGFyayJdLCJzdWIiOiJhbm5hIiwiZXhwIjo0MDAwMDAwMDAwLCJncm91cHMiOlsiZGV2Il19.4YPKHSktWhAW_6-NtHJ2WRyYFtg9lTq8JD-dx2jhMtGi1XNMaBRTsRHhzFeEaEQpNWj6Mpya8itQi05JpVjB6Q",
        public: "GhNLD_h9H-hkOEVS6rUbJmxH8ymc557ZK2GfoTubW9A",
    },
    Signed {
        token: "eyJhbGciOiJFZERTQSIsImtpZCI6ImQifQ.eyJpc3MiOiJodHRwczovL2lkcCIsImF1ZCI6WyJzcGFyayJdLCJzdWIiOiJhbm5hIiwiZXhwIjo0MDAwMDAwMDAwLCJncm91cHMiOlsiZGV2Il19.7Jhv8ovklodzwv19-bgTg-jQPugdBUqhKo5xzAQufHr-v1mKY-6a_eLlCL865fcHbKPWVCvufY-3ZUHhGbV5Bg",
        public: "H6oQ7mccNmQNGENdpd51aVO-8bQQyhBwPvecBRiplGw",
    },
];

/// Under alg `none`, with the RSA key as HMAC's secret, with zeros for an ECDSA signature, and with the key of another
/// kind.
#[allow(dead_code, reason = "one of two targets needs it")]
pub const FORGED: [&str; 4] = [
    "eyJhbGciOiJub25lIiwia2lkIjoiciJ9.eyJpc3MiOiJodHRwczovL2lkcCIsImF1ZCI6WyJzcGFyayJdLCJzdWIiOiJhbm5hIiwiZXhwIjo0MDAwMDAwMDAwLCJncm91cHMiOlsiZGV2Il19.",
    "eyJhbGciOiJIUzI1NiIsImtpZCI6InIifQ.eyJpc3MiOiJodHRwczovL2lkcCIsImF1ZCI6WyJzcGFyayJdLCJzdWIiOiJhbm5hIiwiZXhwIjo0MDAwMDAwMDAwLCJncm91cHMiOlsiZGV2Il19.K7BJZpVvTmKF5PSuoOXz01f3DR3d84Tb-JgvEo-rIFU",
    "eyJhbGciOiJFUzI1NiIsImtpZCI6ImUifQ.eyJpc3MiOiJodHRwczovL2lkcCIsImF1ZCI6WyJzcGFyayJdLCJzdWIiOiJhbm5hIiwiZXhwIjo0MDAwMDAwMDAwLCJncm91cHMiOlsiZGV2Il19.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "eyJhbGciOiJSUzI1NiIsImtpZCI6ImUifQ.eyJpc3MiOiJodHRwczovL2lkcCIsImF1ZCI6WyJzcGFyayJdLCJzdWIiOiJhbm5hIiwiZXhwIjo0MDAwMDAwMDAwLCJncm91cHMiOlsiZGV2Il19.xAvs467e0ZiCA2xH3ete4GqQMXv52LMNIKQstmKMTpnBpCrtYY8YxtBEmzEL6Ecl6X6cVWU1ExD-WSFRGvguiw",
];

#[allow(dead_code, reason = "one of two targets needs it")]
pub fn keys() -> &'static KeySet {
    static KEYS: OnceLock<KeySet> = OnceLock::new();
    KEYS.get_or_init(|| {
        let keys = KeySet::from_json(include_bytes!("corpus/key_set/three-kinds.json"));
        keys.expect("the keys can be read")
    })
}

pub fn rules() -> TokenRules {
    TokenRules {
        issuer: "https://idp".to_owned(),
        audience: Some("spark".to_owned()),
        user_claim: "sub".to_owned(),
        groups_claim: "groups".into(),
        ..TokenRules::default()
    }
}

pub fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}
