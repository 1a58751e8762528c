//! How long it takes until Envoy has one more cluster, beside go-control-plane.
//!
//! Both serve the same resources, made by `xds::translate`, to an Envoy of their own. The clock of either side starts
//! just before its cache is changed and stops when it has read Envoy's ACK. The pushes take turns.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use prost::Message;
use spark_session_operator::model::Kind as Object;
use spark_session_operator::xds::{Kind, Snapshot};

use crate::Size;
use crate::control_plane::ControlPlane;
use crate::domain::{self, free_port};
use crate::envoy::Envoy;
use crate::figures::{Times, millis, verdict};
use crate::process::Process;

const NODE: &str = "ours";
/// Instances of one pool.
const SHARE: usize = 50;

pub async fn measure(size: Size) {
    println!("\none cluster added, push → CDS ACK [ms]");
    println!(
        "  clusters    operator          go-control-plane     goal: faster    from the watch's event on"
    );
    println!("               p50    p99         p50    p99                            p50    p99");
    for clusters in size.of(vec![3, 1_000, 5_000], vec![3, 200]) {
        let figures = push(clusters, size.of(200, 20)).await;
        let [ours, theirs, whole] = &figures;
        let mut goal = verdict(ours.p50() < theirs.p50() && ours.p99() < theirs.p99()).to_owned();
        if clusters == 5_000 {
            goal += &format!(", p99 < 10 {}", verdict(whole.p99() < Duration::from_millis(10)));
        }
        println!(
            "  {clusters:>8} {:>6.2} {:>6.2} {:>11.2} {:>6.2}     {goal:<24} {:>6.2} {:>6.2}",
            millis(ours.p50()),
            millis(ours.p99()),
            millis(theirs.p50()),
            millis(theirs.p99()),
            millis(whole.p50()),
            millis(whole.p99()),
        );
    }
}

/// Times of: our push, go-control-plane's, and our way from the watch's event on.
async fn push(clusters: usize, rounds: usize) -> [Times; 3] {
    let port = free_port();
    let (mut world, known) = domain::filled(port, clusters, SHARE);
    let mut ours = ControlPlane::with_broker(&world.stores);
    let snapshot = ours.translated(&world.stores);
    let mut theirs = GoControlPlane::start(&snapshot);
    ours.publisher.publish(snapshot);

    let our_envoy = Envoy::start(NODE, ours.address, ours.address);
    our_envoy.ready().await;
    for cluster in known.values().flatten() {
        ours.publisher.programmed(Some(NODE), cluster).await;
    }
    // One listener and one address to listen at serve both: their Envoy is refused the port and its clusters are none
    // the worse for it.
    let their_envoy = Envoy::start("theirs", theirs.address, theirs.address);
    theirs.complete();
    their_envoy.ready().await;

    let [mut our_times, mut their_times, mut whole] =
        [const { None }; 3].map(|_: Option<()>| Times::default());
    for round in 0..rounds {
        let seen = Instant::now();
        let (instance, cluster) = world.instance("pool-0");
        let snapshot = ours.translated(&world.stores);
        let before = seen.elapsed();
        let added = snapshot.of(Kind::Cluster)[&cluster].body.encode_to_vec();
        if round % 2 == 1 {
            their_times.add(theirs.tell(&format!("add {}", BASE64_STANDARD.encode(&added))));
        }
        let (publisher, name) = (ours.publisher.clone(), cluster.clone());
        let push = async move {
            let begin = Instant::now();
            publisher.publish(snapshot);
            publisher.programmed(Some(NODE), &name).await;
            begin.elapsed()
        };
        let took = ours.runtime.spawn(push).await.unwrap();
        our_times.add(took);
        whole.add(before + took);
        if round % 2 == 0 {
            their_times.add(theirs.tell(&format!("add {}", BASE64_STANDARD.encode(&added))));
        }

        world.stores.gone(Object::Pod, &format!("{instance}-driver"), 0);
        world.stores.gone(Object::Application, &instance, 0);
        let snapshot = ours.translated(&world.stores);
        ours.publisher.publish(snapshot);
        theirs.tell(&format!("remove {cluster}"));
        // Envoys rest, so that the next push finds no removal before it.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    [our_times, their_times, whole]
}

/// `benches/go-control-plane`, see there for what is said to it.
struct GoControlPlane {
    _process: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl GoControlPlane {
    fn start(snapshot: &Snapshot) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resources");
        let all = Kind::ALL.iter().flat_map(|kind| snapshot.of(*kind).values());
        let resources = all.map(|resource| resource.body.clone()).collect();
        let message = DiscoveryResponse { resources, ..Default::default() };
        std::fs::write(&file, message.encode_to_vec()).unwrap();
        let mut child = Command::new(crate::part("GO_CONTROL_PLANE"))
            .arg("-resources")
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("go-control-plane cannot be started");
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let line = read_line(&mut output);
        let address = line.strip_prefix("listening ").unwrap().parse().unwrap();
        Self { _process: Process(child), input, output, address }
    }

    /// Waits until an Envoy has everything.
    fn complete(&mut self) {
        assert_eq!(read_line(&mut self.output), "complete");
    }

    /// The time from the change of its cache to the ACK.
    fn tell(&mut self, command: &str) -> Duration {
        writeln!(self.input, "{command}").unwrap();
        Duration::from_nanos(read_line(&mut self.output).parse().unwrap())
    }
}

fn read_line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}
