//! Serves the jar with the interceptor (`deploy/spark`) to the drivers, over plain HTTP: it is code that anybody may
//! read, and drivers have no certificate yet when they fetch it.
//!
//! Knows nothing of what is in the jar, and not which pools name it (`plan::application`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use axum::Router;
use axum::http::header;
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use crate::telemetry::serve_http;

/// Path of the URL that drivers are given.
const JAR_PATH: &str = "/spark-session-identity.jar";

/// Where the jar is and where it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityJar {
    pub file: PathBuf,
    pub listen_addr: SocketAddr,
}

impl IdentityJar {
    /// Reads the file: a jar that is missing is told at the start, and not by every driver.
    pub fn load(&self) -> anyhow::Result<Vec<u8>> {
        read(&self.file).with_context(|| format!("--identity-jar {}", self.file.display()))
    }

    pub async fn serve(self, jar: Vec<u8>, stop: CancellationToken) -> anyhow::Result<()> {
        let jar = axum::body::Bytes::from(jar);
        let answer = move || async move { ([(header::CONTENT_TYPE, "application/java-archive")], jar) };
        let router = Router::new().route(JAR_PATH, get(answer));
        serve_http(self.listen_addr, router, stop, "--identity-jar-addr").await
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let jar = std::fs::read(file)?;
    ensure!(jar.starts_with(b"PK"), "this is no jar file");
    Ok(jar)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn jar(content: &[u8]) -> (tempfile::NamedTempFile, IdentityJar) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let jar = IdentityJar { file: file.path().to_owned(), listen_addr: ([127, 0, 0, 1], 0).into() };
        (file, jar)
    }

    #[test]
    fn a_jar_that_cannot_be_served_is_told_at_the_start() {
        let (file, not_a_jar) = jar(b"#!/bin/sh");
        let error = format!("{:#}", not_a_jar.load().unwrap_err());
        assert_eq!(error, format!("--identity-jar {}: this is no jar file", file.path().display()));
        let missing = IdentityJar { file: "/nowhere/x.jar".into(), ..not_a_jar };
        let error = format!("{:#}", missing.load().unwrap_err());
        assert_eq!(error, "--identity-jar /nowhere/x.jar: No such file or directory (os error 2)");
        assert_eq!(jar(b"PK\x03\x04").1.load().unwrap(), b"PK\x03\x04");
    }
}
