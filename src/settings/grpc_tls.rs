//! Flags about the control channel's TLS.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use crate::control_channel::TlsFiles;

/// Changed files are picked up without a restart.
#[derive(Args, Debug)]
#[command(next_help_heading = "TLS of --grpc-addr")]
pub struct GrpcTlsArgs {
    /// Certificate of the gRPC server, PEM, with its intermediates. Read again when it changes.
    #[arg(long, value_name = "FILE")]
    grpc_tls_cert_file: Option<PathBuf>,

    /// Private key of that certificate, PEM.
    #[arg(long, value_name = "FILE")]
    grpc_tls_key_file: Option<PathBuf>,

    /// CA that signs the certificates of Envoys, PEM. With it a client without such a certificate is refused (mTLS).
    #[arg(long, value_name = "FILE")]
    grpc_client_ca_file: Option<PathBuf>,
}

impl GrpcTlsArgs {
    pub fn validate(self) -> anyhow::Result<Option<TlsFiles>> {
        let flags = [
            ("--grpc-tls-cert-file", self.grpc_tls_cert_file.is_some()),
            ("--grpc-tls-key-file", self.grpc_tls_key_file.is_some()),
            ("--grpc-client-ca-file", self.grpc_client_ca_file.is_some()),
        ];
        match (self.grpc_tls_cert_file, self.grpc_tls_key_file, self.grpc_client_ca_file) {
            (None, None, None) => Ok(None),
            (Some(certificate), Some(key), client_ca) => Ok(Some(TlsFiles { certificate, key, client_ca })),
            _ => {
                let named = |wanted: bool| {
                    // Only certificate and key can be missing: the CA may be left out.
                    let flags = flags
                        .iter()
                        .filter(|(flag, given)| *given == wanted && (wanted || *flag != flags[2].0));
                    flags.map(|(flag, _)| *flag).collect::<Vec<_>>().join(" and ")
                };
                let missing = named(false);
                let verb = if missing.contains(" and ") { "are" } else { "is" };
                bail!(
                    "{missing} {verb} missing beside {}: give certificate, key and client CA for mTLS, certificate and key for \
                     TLS without client certificates, or none of them for plaintext",
                    named(true)
                )
            }
        }
    }
}
