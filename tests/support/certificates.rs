//! Certificate authorities of tests, and files as a mounted Secret has them.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

/// The name in the operator's certificate.
pub const OPERATOR: &str = "spark-session-operator";

static MADE: AtomicUsize = AtomicUsize::new(1);

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, both PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        // Every CA has a name of its own: of two with one name, which one signed is a matter of luck.
        let name = format!("CA {}", MADE.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// For the operator: with its DNS name.
    pub fn server(&self) -> Issued {
        self.host(OPERATOR)
    }

    pub fn host(&self, name: &str) -> Issued {
        self.sign(CertificateParams::new([name.to_owned()]).unwrap())
    }

    /// With an issuer that is no certificate to Envoy, but to us: it says X.509 v1, and has what only v3 has.
    #[allow(dead_code, reason = "not every test that includes this file needs it")]
    pub fn refused_by_envoy_alone(&self, name: &str) -> Issued {
        let mut issuer = self.0.der().to_vec();
        let v3 = [0xa0, 3, 2, 1, 2];
        let version = issuer.windows(v3.len()).position(|bytes| bytes == v3).unwrap();
        issuer[version + v3.len() - 1] = 0;
        let Issued { certificate, key } = self.host(name);
        let issuer = pem::encode(&pem::Pem::new("CERTIFICATE", issuer));
        Issued { certificate: format!("{certificate}{issuer}"), key }
    }

    /// For an Envoy.
    pub fn client(&self) -> Issued {
        self.sign(CertificateParams::default())
    }

    /// For an Envoy, years ago.
    #[allow(dead_code, reason = "not every test that includes this file needs it")]
    pub fn expired_client(&self) -> Issued {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// Writes `tls.crt`, `tls.key` and `ca.crt` as a kubelet does: into a folder of their own, to which one
/// rename of a symbolic link then leads.
pub fn mount(folder: &Path, issued: &Issued, authority: &str) {
    let number = fs::read_dir(folder).unwrap().count();
    let data = folder.join(format!("..{number}"));
    fs::create_dir(&data).unwrap();
    for (name, text) in [("tls.crt", &*issued.certificate), ("tls.key", &issued.key), ("ca.crt", authority)] {
        fs::write(data.join(name), text).unwrap();
        if !folder.join(name).is_symlink() {
            std::os::unix::fs::symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
        }
    }
    std::os::unix::fs::symlink(data.file_name().unwrap(), folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}
