//! A JDBC client asks before every row whether its operation has finished: Envoy repeats Spark's answer for two seconds.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kube::api::DeleteParams;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::pools::{self, HOST};
use super::raw_client::basic;
use super::stand_in::{OPERATION_STATE, POD};
use super::wait::until;
use super::world::World;

const LIFETIME: Duration = Duration::from_secs(2);
/// Envoy's clock counts milliseconds.
const TICK: Duration = Duration::from_millis(5);
const RUNNING: &str = "1";
const FINISHED: &str = "2";

/// One connection that stays open, as hive-jdbc's does.
struct Jdbc {
    stream: TcpStream,
    calls: u32,
}

/// A call, as its client sends it.
struct Call<'a> {
    user: &'a str,
    path: &'a str,
    method: &'a str,
    operation: Uuid,
    state: &'a str,
}

impl Call<'_> {
    fn status(operation: Uuid) -> Self {
        Self { user: "ana", path: "/cliservice", method: "GetOperationStatus", operation, state: FINISHED }
    }
}

#[derive(Debug)]
struct Answer {
    sent: Instant,
    received: Instant,
    number: u32,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn is_spark_s(&self) -> bool {
        self.head.contains(POD)
    }

    /// `{success: {status: {statusCode: SUCCESS}, operationState: FINISHED}}`, in reply to this very call.
    fn says_finished(&self) -> bool {
        let mut expected = b"\x80\x01\0\x02\0\0\0\x12GetOperationStatus".to_vec();
        expected.extend(self.number.to_be_bytes());
        expected.extend(b"\x0c\0\0\x0c\0\x01\x08\0\x01\0\0\0\0\0\x08\0\x02\0\0\0\x02\0\0");
        self.head.starts_with("HTTP/1.1 200 OK")
            && self.head.contains("content-type: application/x-thrift")
            && self.body == expected
    }

    fn says(&self, words: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(words)
    }
}

impl Jdbc {
    async fn connect(envoy: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(envoy).await.unwrap(), calls: 0 }
    }

    async fn ask(&mut self, call: &Call<'_>) -> Answer {
        self.calls += 1;
        let mut body = b"\x80\x01\0\x01".to_vec();
        body.extend(u32::try_from(call.method.len()).unwrap().to_be_bytes());
        body.extend(call.method.as_bytes());
        body.extend(self.calls.to_be_bytes());
        // {req: {operationHandle: {operationId: {guid, secret}, operationType: 0, hasResultSet: true}}}
        body.extend([12, 0, 1, 12, 0, 1, 12, 0, 1]);
        for number in [1, 2] {
            body.extend([11, 0, number, 0, 0, 0, 16]);
            body.extend(call.operation.as_bytes());
        }
        body.extend([0, 8, 0, 2, 0, 0, 0, 0, 2, 0, 3, 1, 0, 0, 0]);
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {}\r\nContent-Type: application/x-thrift\r\n\
             User-Agent: {OPERATION_STATE}/{}\r\nContent-Length: {}\r\n\r\n",
            call.path,
            basic(call.user),
            call.state,
            body.len()
        );
        let sent = Instant::now();
        self.stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        let (head, body) = tokio::time::timeout(Duration::from_secs(30), self.answer()).await.unwrap();
        Answer { sent, received: Instant::now(), number: self.calls, head, body }
    }

    async fn answer(&mut self) -> (String, Vec<u8>) {
        let mut bytes = Vec::new();
        loop {
            assert_ne!(self.stream.read_buf(&mut bytes).await.unwrap(), 0, "Envoy closed the connection");
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.expect("all answers here have a length").parse().unwrap();
            let body = &bytes[end + 4..];
            if body.len() >= length {
                return (head, body[..length].to_vec());
            }
        }
    }

    /// Asks until the answer is not Spark's, but a repetition.
    async fn until_repeated(&mut self, call: &Call<'_>) -> Answer {
        until("the answer is repeated", async || {
            let answer = self.ask(call).await;
            assert!(answer.says_finished(), "{answer:?}");
            (!answer.is_spark_s()).then_some(answer)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_an_operation_has_finished_is_repeated_for_two_seconds_and_then_asked_again() {
    World::run("finished", vec![pools::thrift("thrift", HOST)], &[], async move |world| {
        world.thrift(HOST, "ana").call("OpenSession").await.unwrap();
        let mut jdbc = Jdbc::connect(world.envoy.listens).await;
        let call = Call::status(Uuid::new_v4());
        let (mut of_spark, mut repeated) = (Vec::<Answer>::new(), 0);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(7) {
            let answer = jdbc.ask(&call).await;
            assert!(answer.says_finished(), "{answer:?}");
            match (of_spark.last(), answer.is_spark_s()) {
                (None, false) => panic!("Spark was not asked"),
                (None, true) => of_spark.push(answer),
                (Some(last), true) => {
                    let apart = answer.received - last.sent;
                    assert!(apart + TICK >= LIFETIME, "Spark was asked again after {apart:?}");
                    of_spark.push(answer);
                }
                (Some(last), false) => {
                    let apart = answer.sent.saturating_duration_since(last.received);
                    assert!(apart < LIFETIME + TICK, "the answer was repeated after {apart:?}");
                    repeated += 1;
                }
            }
        }
        assert!(of_spark.len() >= 2, "Spark was asked once in seven seconds");
        assert!(repeated > 0);
        assert_eq!(world.envoy.stat("http.spark.lua.errors").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_same_question_of_the_same_client_gets_a_repeated_answer() {
    World::run("finished-other", vec![pools::thrift("thrift", HOST)], &[], async move |world| {
        world.thrift(HOST, "ana").call("OpenSession").await.unwrap();
        let mut jdbc = Jdbc::connect(world.envoy.listens).await;
        let operation = Uuid::new_v4();
        let call = Call::status(operation);

        // A proxy in front may send the requests of several users on one connection.
        jdbc.until_repeated(&call).await;
        let answer = jdbc.ask(&Call { user: "eve", ..Call::status(operation) }).await;
        assert!(answer.says("Session default of user eve is not open in pool thrift."), "{answer:?}");

        jdbc.until_repeated(&call).await;
        let answer = jdbc.ask(&Call { path: "/cliservice/etl", ..Call::status(operation) }).await;
        assert!(answer.says("Session etl of user ana is not open in pool thrift."), "{answer:?}");

        for other in [
            Call::status(Uuid::new_v4()),
            // The rest of the call is the same.
            Call { method: "CloseOperation", ..Call::status(operation) },
            Call { method: "FetchResults", ..Call::status(operation) },
        ] {
            jdbc.until_repeated(&call).await;
            assert!(jdbc.ask(&other).await.is_spark_s(), "{}", other.method);
            // Whatever comes in between may have changed the answer.
            assert!(jdbc.ask(&call).await.is_spark_s(), "after {}", other.method);
        }

        jdbc.until_repeated(&call).await;
        let mut another = Jdbc::connect(world.envoy.listens).await;
        assert!(another.ask(&call).await.is_spark_s());
        assert_eq!(world.envoy.stat("http.spark.lua.errors").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_runs_is_asked_for_each_time() {
    World::run("finished-running", vec![pools::thrift("thrift", HOST)], &[], async move |world| {
        world.thrift(HOST, "ana").call("OpenSession").await.unwrap();
        let mut jdbc = Jdbc::connect(world.envoy.listens).await;
        for _ in 0..20 {
            let call = Call { state: RUNNING, ..Call::status(Uuid::nil()) };
            let answer = jdbc.ask(&call).await;
            assert!(answer.is_spark_s() && !answer.says_finished(), "{answer:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_session_is_noticed_within_two_seconds() {
    World::run("finished-deleted", vec![pools::thrift("thrift", HOST)], &[], async move |world| {
        world.thrift(HOST, "ana").call("OpenSession").await.unwrap();
        let mut jdbc = Jdbc::connect(world.envoy.listens).await;
        let call = Call::status(Uuid::new_v4());
        jdbc.until_repeated(&call).await;
        let sessions = world.cluster.sessions.list(&Default::default()).await.unwrap();
        let name = sessions.items[0].metadata.name.clone().unwrap();
        world.cluster.sessions.delete(&name, &DeleteParams::default()).await.unwrap();
        let refused = until("another connection hears it", async || {
            let answer = Jdbc::connect(world.envoy.listens).await.ask(&call).await;
            (!answer.says_finished()).then_some(answer)
        })
        .await;
        let words = "The session was deleted (kubectl delete). Start a new session.";
        assert!(refused.says(words), "{refused:?}");
        loop {
            let answer = jdbc.ask(&call).await;
            if !answer.says_finished() {
                assert!(answer.says(words), "{answer:?}");
                break;
            }
            assert!(!answer.is_spark_s(), "the check has let it pass");
            assert!(answer.sent.saturating_duration_since(refused.received) < LIFETIME + TICK);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_answers_do_not_count_towards_the_rate_limit() {
    let flags = ["--envoy-rate-limit", "10"];
    World::run("finished-limit", vec![pools::thrift("thrift", HOST)], &flags, async move |world| {
        world.thrift(HOST, "ana").call("OpenSession").await.unwrap();
        let mut jdbc = Jdbc::connect(world.envoy.listens).await;
        let call = Call::status(Uuid::new_v4());
        let (began, mut repeated) = (Instant::now(), 0);
        for _ in 0..300 {
            let answer = jdbc.ask(&call).await;
            assert!(answer.says_finished(), "{answer:?}");
            repeated += u64::from(!answer.is_spark_s());
        }
        // A burst of 20, and 10 a second.
        let allowed = 20 + 10 * (began.elapsed().as_secs() + 1);
        assert!(repeated > allowed, "{repeated} answers do not show that more than {allowed} are possible");
    })
    .await;
}
