//! An etcd of its own, whose data a test copies and puts back, as a backup does. Not on the disk for sure: like the one of
//! `deploy/local`, it does not wait for it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::api_server::command_of;
use super::process::{Process, free_port, log_file};
use super::wait::until;

pub struct Etcd {
    process: Option<Process>,
    command: Vec<String>,
    address: SocketAddr,
    folder: TempDir,
    scenario: String,
    http: reqwest::Client,
}

impl Etcd {
    /// As `deploy/local/up` has started the first one, on other ports and without data.
    pub async fn start(scenario: &str) -> Self {
        let (address, peers) = (free_port(), free_port());
        let folder = tempfile::tempdir().unwrap();
        let mut command = command_of("etcd");
        command.truncate(1);
        command.extend([
            format!("--data-dir={}", folder.path().join("data").display()),
            format!("--listen-client-urls=http://{address}"),
            format!("--advertise-client-urls=http://{address}"),
            format!("--listen-peer-urls=http://{peers}"),
            format!("--initial-advertise-peer-urls=http://{peers}"),
            format!("--initial-cluster=default=http://{peers}"),
            "--unsafe-no-fsync".to_owned(),
        ]);
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut etcd = Self { process: None, command, address, folder, scenario: scenario.to_owned(), http };
        etcd.start_again().await;
        etcd
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn kill(&mut self) {
        self.process = None;
    }

    pub async fn start_again(&mut self) {
        let log = log_file(&self.scenario, "etcd");
        self.process = Some(Process::start(&self.command[0], &self.command[1..], log));
        let url = format!("{}/health", self.url());
        until("etcd answers", async || {
            self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()).then_some(())
        })
        .await;
    }

    /// Of one that does not run.
    pub fn back_up(&self) {
        assert!(self.process.is_none());
        copy(&self.data(), &self.backup());
    }

    /// Puts back what [`back_up`](Self::back_up) has copied.
    pub fn restore(&self) {
        assert!(self.process.is_none());
        fs::remove_dir_all(self.data()).unwrap();
        copy(&self.backup(), &self.data());
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn backup(&self) -> PathBuf {
        self.folder.path().join("backup")
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}
