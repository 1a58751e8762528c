use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;

/// Between two looks at the files. A kubelet takes about a minute to bring a changed Secret, so
/// nothing is gained by a file watch, which mounted Secrets' symlinks also make brittle.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// PEM files, as a Secret of type kubernetes.io/tls holds them when it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, followed by its intermediates.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// CAs of client certificates. With it a client without a certificate is refused.
    pub client_ca: Option<PathBuf>,
}

/// The TLS configuration of new connections, kept up to date with the files. Connections that exist
/// keep the configuration with which they began.
#[derive(Debug)]
pub struct Certificates {
    files: TlsFiles,
    current: watch::Sender<Arc<ServerConfig>>,
    /// What the files last held, good or bad, so that the same bad files are told of once.
    tried: Mutex<Result<blake3::Hash, String>>,
}

/// What a look at the files came to.
#[derive(Debug)]
pub enum Reload {
    Unchanged,
    Replaced,
    /// The new files cannot be used; what was loaded before stays.
    Kept(anyhow::Error),
}

impl Certificates {
    /// Fails in words that name the flag and the file.
    pub fn load(files: TlsFiles) -> anyhow::Result<Arc<Self>> {
        let contents = Contents::read(&files)?;
        let config = contents.server_config(&files)?;
        Ok(Arc::new(Self {
            tried: Mutex::new(Ok(contents.fingerprint())),
            files,
            current: watch::Sender::new(Arc::new(config)),
        }))
    }

    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.borrow())
    }

    /// Tells when `current` is another.
    pub fn changes(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.current.subscribe()
    }

    /// Looks at the files once.
    pub fn reload(&self) -> Reload {
        let contents = Contents::read(&self.files);
        let found = contents.as_ref().map(Contents::fingerprint).map_err(|error| format!("{error:#}"));
        {
            let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
            if *tried == found {
                return Reload::Unchanged;
            }
            *tried = found;
        }
        match contents.and_then(|contents| contents.server_config(&self.files)) {
            Ok(config) => {
                self.current.send_replace(Arc::new(config));
                Reload::Replaced
            }
            Err(error) => Reload::Kept(error),
        }
    }

    /// Follows the files for ever.
    pub async fn follow(self: Arc<Self>) -> anyhow::Result<()> {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let certificates = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || certificates.reload()).await;
            match looked.context("the reload of the control channel's certificates failed")? {
                Reload::Unchanged => {}
                Reload::Replaced => tracing::info!("the control channel's certificates were reloaded"),
                Reload::Kept(error) => tracing::warn!(
                    error = format!("{error:#}"),
                    "the control channel's new certificates cannot be used; the old ones stay until the \
                     files change again"
                ),
            }
        }
    }
}

/// The files' bytes, read together.
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Contents {
    fn read(files: &TlsFiles) -> anyhow::Result<Self> {
        let read = |flag: &str, path: &Path| {
            fs::read(path).with_context(|| format!("{flag} {} cannot be read", path.display()))
        };
        Ok(Self {
            certificate: read(CERTIFICATE, &files.certificate)?,
            key: read(KEY, &files.key)?,
            client_ca: files.client_ca.as_deref().map(|path| read(CLIENT_CA, path)).transpose()?,
        })
    }

    fn fingerprint(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for part in [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()] {
            let part = part.map(Vec::as_slice).unwrap_or_default();
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        hasher.finalize()
    }

    fn server_config(&self, files: &TlsFiles) -> anyhow::Result<ServerConfig> {
        let chain = certificates(&self.certificate, CERTIFICATE, &files.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| anyhow!("{KEY} {} holds no private key: {error}", files.key.display()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match (&self.client_ca, &files.client_ca) {
            (Some(pem), Some(path)) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(pem, CLIENT_CA, path)? {
                    roots.add(authority).with_context(|| {
                        format!("{CLIENT_CA} {} holds a certificate that is no CA", path.display())
                    })?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).with_context(|| {
            format!(
                "{CERTIFICATE} {} and {KEY} {} do not go together",
                files.certificate.display(),
                files.key.display()
            )
        })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would skip the check of its certificate, and with it a replaced CA.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

const CERTIFICATE: &str = "--grpc-tls-cert-file";
const KEY: &str = "--grpc-tls-key-file";
const CLIENT_CA: &str = "--grpc-client-ca-file";

fn certificates(pem: &[u8], flag: &str, path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| anyhow!("{flag} {} is no whole PEM file: {error}", path.display()))?;
    ensure!(!chain.is_empty(), "{flag} {} holds no certificate", path.display());
    Ok(chain)
}
