use std::fs;
use std::path::PathBuf;

use spark_session_operator::control_channel::TlsFiles;
use tempfile::TempDir;

use super::bootstrap::filled_in;
use super::certificates::{Authority, Issued, OPERATOR, mount};

/// The files of a control channel with mTLS: two mounted Secrets and what Envoy's bootstrap names.
pub struct MutualTls {
    folder: TempDir,
}

impl MutualTls {
    pub fn new(authority: &Authority) -> Self {
        let mutual_tls = Self { folder: TempDir::new().unwrap() };
        for name in ["operator", "envoy", "sds"] {
            fs::create_dir(mutual_tls.path(name)).unwrap();
        }
        mutual_tls.replace(&authority.server(), &authority.client(), &authority.pem());
        for name in ["sds-certificate.yaml", "sds-ca.yaml"] {
            fs::write(mutual_tls.path("sds").join(name), filled_in(name, &mutual_tls.values())).unwrap();
        }
        mutual_tls
    }

    pub fn replace(&self, server: &Issued, client: &Issued, authorities: &str) {
        mount(&self.path("operator"), server, authorities);
        mount(&self.path("envoy"), client, authorities);
    }

    pub fn of_operator(&self) -> TlsFiles {
        let folder = self.path("operator");
        TlsFiles {
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
            client_ca: Some(folder.join("ca.crt")),
        }
    }

    pub fn flags(&self) -> Vec<String> {
        let files = self.of_operator();
        let flags = [
            ("--grpc-tls-cert-file", files.certificate),
            ("--grpc-tls-key-file", files.key),
            ("--grpc-client-ca-file", files.client_ca.unwrap()),
        ];
        flags.into_iter().flat_map(|(flag, file)| [flag.to_owned(), file.display().to_string()]).collect()
    }

    /// For the files of `envoy/`.
    pub fn values(&self) -> [(&'static str, String); 3] {
        let folder = |name: &str| self.path(name).display().to_string();
        [("TLS_DIR", folder("envoy")), ("SDS_DIR", folder("sds")), ("OPERATOR_NAME", OPERATOR.to_owned())]
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
