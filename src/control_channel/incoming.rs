use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::Stream;
use rustls::{CertificateError, Error as TlsError};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::{Certificates, Connection};
use crate::telemetry::Repeats;

/// Of one handshake. An Envoy needs milliseconds.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Handshakes at the same time. One more gives up the oldest, so that silent clients cannot keep
/// others out.
const MAX_HANDSHAKES: usize = 512;
/// After a failed accept: out of file descriptors, most likely, which ends only when others close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A client that is refused again for the same reason is told of in the log this often.
const REPEAT_AFTER: Duration = Duration::from_secs(60);
/// Clients and reasons told of in that time.
const MAX_TOLD: usize = 256;

/// The control channel's listening socket, and the handshakes of those who came.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    /// `None`: plaintext.
    certificates: Option<Arc<Certificates>>,
    handshakes: JoinSet<Result<Connection, Refused>>,
    oldest_first: VecDeque<AbortHandle>,
    pub(super) max_handshakes: usize,
    told: HashMap<(IpAddr, String), Instant>,
    given_up: Repeats<()>,
}

#[derive(Debug)]
pub(super) struct Refused {
    from: SocketAddr,
    /// `None`: it went away by itself, as health checks of ports do.
    pub(super) why: Option<String>,
}

impl Incoming {
    pub async fn bind(address: SocketAddr, certificates: Option<Arc<Certificates>>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("--grpc-addr {address} cannot be bound"))?;
        Ok(Self {
            listener,
            certificates,
            handshakes: JoinSet::new(),
            oldest_first: VecDeque::new(),
            max_handshakes: MAX_HANDSHAKES,
            told: HashMap::new(),
            given_up: Repeats::default(),
        })
    }

    /// Where it listens, with the port that was chosen for port 0.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Connections that are ready to be served. It never ends; dropping it closes the socket and ends
    /// the handshakes.
    pub fn into_stream(self) -> impl Stream<Item = Result<Connection, Infallible>> {
        futures::stream::unfold(self, |mut incoming| async {
            let connection = incoming.next().await;
            Some((Ok(connection), incoming))
        })
    }

    async fn next(&mut self) -> Connection {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, from)) => if let Some(connection) = self.accepted(stream, from) {
                        return connection;
                    },
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the control channel cannot be accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(handshake) = self.handshakes.join_next() => match handshake {
                    Ok(Ok(connection)) => return connection,
                    Ok(Err(refused)) => self.tell(refused),
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => tracing::error!(%error, "a handshake on the control channel failed"),
                },
            }
        }
    }

    fn accepted(&mut self, stream: TcpStream, from: SocketAddr) -> Option<Connection> {
        // ACKs and answers are small: waiting for more to send would cost 40 ms each.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%from, %error, "a connection ended at once");
            return None;
        }
        let Some(certificates) = &self.certificates else {
            return Some(Connection::Plain(stream));
        };
        self.oldest_first.retain(|handshake| !handshake.is_finished());
        if self.oldest_first.len() >= self.max_handshakes
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            if let Some(more) = self.given_up.note((), Instant::now()) {
                tracing::warn!(
                    limit = self.max_handshakes,
                    more,
                    "too many unfinished TLS handshakes: the oldest is given up"
                );
            }
            oldest.abort();
        }
        let acceptor = TlsAcceptor::from(certificates.current());
        self.oldest_first.push_back(self.handshakes.spawn(handshake(acceptor, stream, from)));
        None
    }

    fn tell(&mut self, Refused { from, why }: Refused) {
        let Some(why) = why else {
            return tracing::debug!(%from, "a client went away during the TLS handshake");
        };
        let now = Instant::now();
        self.told.retain(|_, at| now.duration_since(*at) < REPEAT_AFTER);
        let key = (from.ip(), why);
        if self.told.len() < MAX_TOLD && !self.told.contains_key(&key) {
            tracing::warn!(%from, "refused a client of the control channel: {}", key.1);
            self.told.insert(key, now);
        }
    }
}

pub(super) async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    from: SocketAddr,
) -> Result<Connection, Refused> {
    match timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Ok(Connection::Tls(Box::new(stream))),
        Ok(Err(error)) => Err(Refused { from, why: why_refused(&error) }),
        Err(_) => Err(Refused { from, why: Some(format!("no TLS handshake within {HANDSHAKE_LIMIT:?}")) }),
    }
}

/// For the log: what whoever runs that client has to change.
fn why_refused(error: &io::Error) -> Option<String> {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>())?;
    let why = match tls {
        TlsError::NoCertificatesPresented => {
            "it shows no client certificate: start that Envoy with envoy/bootstrap-mtls.yaml".to_owned()
        }
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "no CA in --grpc-client-ca-file has signed its client certificate".to_owned()
        }
        TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its client certificate has expired".to_owned()
        }
        TlsError::InvalidMessage(_) => {
            "it does not speak TLS: start that Envoy with envoy/bootstrap-mtls.yaml".to_owned()
        }
        TlsError::NoApplicationProtocol => "it does not offer HTTP/2 (ALPN h2)".to_owned(),
        TlsError::AlertReceived(alert) => {
            format!("it refuses the operator's certificate (TLS alert {alert:?})")
        }
        other => other.to_string(),
    };
    Some(why)
}
