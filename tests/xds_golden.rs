//! What becomes of a few clusters in Envoy, word for word.
//!
//! `tests/golden/xds/in/<case>.yaml` holds pools, sessions, applications, Pods and Secrets as the API server shows
//! them, `out/<case>.yaml` every resource that Envoy is given for them.
//! `UPDATE_GOLDEN=1 cargo test --test xds_golden` writes the outputs anew and deletes those without an input.
#![allow(clippy::unwrap_used, clippy::panic)] // Also in helpers, which clippy does not take for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Pod, Secret};
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use spark_session_operator::api::{SparkApplication, SparkInteractiveSession, SparkSessionPool};
use spark_session_operator::model::{Inventory, Object, Policy, TlsOff, TlsPolicy};
use spark_session_operator::operator::Watched;
use spark_session_operator::xds::{
    EnvoySettings, Kind, RequestRates, Resource, Snapshot, TlsListener, translate,
};

const LUA_PROGRAM: &str = include_str!("../src/xds/finished_operations.lua");

/// A case: manifests as the API server shows them, and the flags of the operator that matter to Envoy.
#[derive(Default)]
struct Case {
    objects: Vec<Object>,
    flags: Flags,
}

/// A document of kind `Flags`; without it everything has its default.
#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Flags {
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    tls_default_secret: Option<String>,
    #[serde(default)]
    without_plaintext: bool,
    #[serde(default)]
    without_tls: bool,
}

impl Case {
    fn read(text: &str) -> anyhow::Result<Self> {
        let mut case = Self::default();
        for document in serde_saphyr::from_multiple::<Value>(text)? {
            match document["kind"].as_str() {
                Some("SparkSessionPool") => case.add::<SparkSessionPool>(document)?,
                Some("SparkInteractiveSession") => case.add::<SparkInteractiveSession>(document)?,
                Some("SparkApplication") => case.add::<SparkApplication>(document)?,
                Some("Pod") => case.add::<Pod>(document)?,
                Some("Secret") => case.add::<Secret>(document)?,
                Some("Flags") => case.flags = serde_json::from_value(document)?,
                other => anyhow::bail!("no object of kind {other:?} is watched"),
            }
        }
        Ok(case)
    }

    fn add<K: Watched + DeserializeOwned>(&mut self, manifest: Value) -> anyhow::Result<()> {
        let name = manifest["metadata"]["name"].clone();
        let object = serde_json::from_value::<K>(manifest)?.into_domain();
        self.objects.push(object.with_context(|| format!("{name} is none of the operator's"))?);
        Ok(())
    }

    fn translate(self) -> Snapshot {
        let default_secret = self.flags.tls_default_secret;
        let off = self.flags.without_tls.then_some(TlsOff::NoListener);
        let mut inventory =
            Inventory::with_policy(Policy { tls: TlsPolicy { default_secret, off }, ..Policy::default() });
        for object in self.objects {
            inventory.put(object);
        }
        let settings = EnvoySettings {
            listen_addr: (!self.flags.without_plaintext).then_some(([0, 0, 0, 0], 10_000).into()),
            tls: (!self.flags.without_tls)
                .then_some(TlsListener { listen_addr: ([0, 0, 0, 0], 10_443).into() }),
            request_rates: RequestRates {
                in_all: NonZeroU32::new(10_000),
                of_an_address: NonZeroU32::new(1000),
            },
            ext_authz_timeout: Duration::from_secs(130),
            max_body_head: 8192,
            activity_report_interval: Duration::from_secs(15),
            control_cluster: "spark-session-operator".to_owned(),
        };
        translate(&inventory.routing(), &settings)
    }
}

#[test]
fn every_case_gives_its_golden_output() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/xds");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let envoy = envoys_messages();
    let mut expected = BTreeSet::new();
    let mut wrong = Vec::new();

    for input in yaml_files(&directory.join("in")) {
        let text = fs::read_to_string(&input).unwrap();
        let case = Case::read(&text).unwrap_or_else(|e| panic!("{}: {e}", input.display()));
        let now = print(&case.translate(), &envoy);
        let output = directory.join("out").join(input.file_name().unwrap());
        let before = fs::read_to_string(&output).unwrap_or_default();
        refuse_a_new_body_under_an_old_version(&before, &now);
        if before != now {
            if update {
                fs::write(&output, now).unwrap();
            } else {
                wrong.push(first_difference(&output, &before, &now));
            }
        }
        expected.insert(output);
    }
    for output in yaml_files(&directory.join("out")) {
        if !expected.contains(&output) {
            if update {
                fs::remove_file(&output).unwrap();
            } else {
                wrong.push(format!("{}: has no input any more", output.display()));
            }
        }
    }

    assert!(wrong.is_empty(), "{}\nUPDATE_GOLDEN=1 writes them anew.", wrong.join("\n"));
}

fn print(snapshot: &Snapshot, envoy: &DescriptorPool) -> String {
    let mut documents = Vec::new();
    for kind in Kind::ALL {
        for (name, resource) in snapshot.of(kind) {
            documents.push(serde_json::json!({
                "kind": kind.to_string(),
                "name": name,
                "version": resource.version.as_str(),
                "resource": expand(resource, envoy),
            }));
        }
    }
    documents.iter().map(|it| format!("---\n{}", serde_saphyr::to_string(it).unwrap())).collect()
}

/// As canonical JSON: `Any` opened, keys of maps in order.
fn expand(resource: &Resource, envoy: &DescriptorPool) -> serde_json::Value {
    let name = resource.body.type_url.rsplit('/').next().unwrap();
    let message = envoy.get_message_by_name(name).unwrap_or_else(|| panic!("Envoy has no {name}"));
    let message = DynamicMessage::decode(message, resource.body.value.as_slice()).unwrap();
    let mut value = serde_json::to_value(&message).unwrap();
    abridge(&mut value);
    value
}

/// Every listener has the whole program: its digest is enough to tell a change.
fn abridge(value: &mut Value) {
    match value {
        Value::String(text) if text.ends_with(LUA_PROGRAM) => {
            let digest = blake3::hash(text.as_bytes()).to_hex();
            *text = format!("src/xds/beginning.lua, src/xds/finished_operations.lua, BLAKE3 {digest}");
        }
        Value::Array(values) => values.iter_mut().for_each(abridge),
        Value::Object(fields) => fields.values_mut().for_each(abridge),
        _ => {}
    }
}

/// An Envoy that reconnects after an upgrade compares versions only.
fn refuse_a_new_body_under_an_old_version(before: &str, now: &str) {
    let resources = |text: &str| -> BTreeMap<String, String> {
        let documents = text.split("---\n").filter(|document| !document.is_empty());
        documents
            .map(|document| {
                let (head, body): (Vec<&str>, Vec<&str>) = document
                    .lines()
                    .partition(|line| ["kind:", "name:", "versi"].iter().any(|key| line.starts_with(key)));
                (head.join("\n"), body.join("\n"))
            })
            .collect()
    };
    let old = resources(before);
    for (head, body) in resources(now) {
        if let Some(was) = old.get(&head) {
            assert!(
                *was == body,
                "a changed resource keeps its version: raise REVISION in snapshot.rs\n{head}"
            );
        }
    }
}

fn first_difference(output: &Path, before: &str, now: &str) -> String {
    let mut lines = before.lines().chain(std::iter::repeat("(nothing)")).zip(now.lines()).enumerate();
    let Some((number, (was, is))) = lines.find(|(_, (was, is))| was != is) else {
        return format!("{}: ends too late", output.display());
    };
    format!("{}:{}:\n  golden: {was}\n  now:    {is}", output.display(), number + 1)
}

fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

/// The descriptors of all messages, which the crate envoy-types carries beside the code made of them.
fn envoys_messages() -> DescriptorPool {
    let file = package_directory("envoy-types").join("src/generated/types.bin");
    let bytes = fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    DescriptorPool::decode(bytes.as_slice()).unwrap()
}

/// Where cargo keeps the source of a dependency.
fn package_directory(name: &str) -> PathBuf {
    // Only this platform's packages: those of others need not be downloaded.
    let rustc = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(rustc.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline", "--locked", "--filter-platform", host])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == name).unwrap();
    Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned()
}
