use crate::model::{Application, DriverPod, Meta, Pool, Session, TlsSecret, TokenSecret};

/// A watched object.
#[derive(Clone, Debug)]
pub enum Object {
    Pool(Pool),
    Session(Session),
    Application(Application),
    Pod(DriverPod),
    Secret(TlsSecret),
    Token(TokenSecret),
}

impl Object {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Pool(_) => Kind::Pool,
            Self::Session(_) => Kind::Session,
            Self::Application(_) => Kind::Application,
            Self::Pod(_) => Kind::Pod,
            Self::Secret(_) => Kind::Secret,
            Self::Token(_) => Kind::Token,
        }
    }

    pub fn meta(&self) -> &Meta {
        match self {
            Self::Pool(pool) => &pool.meta,
            Self::Session(session) => &session.meta,
            Self::Application(application) => &application.meta,
            Self::Pod(pod) => &pod.meta,
            Self::Secret(secret) => &secret.meta,
            Self::Token(secret) => &secret.meta,
        }
    }
}

/// The kinds of object that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Pool,
    Session,
    Application,
    Pod,
    /// With a certificate.
    Secret,
    /// With an instance's token.
    Token,
}
