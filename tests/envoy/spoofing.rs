//! What a client says is not what Envoy routes by, and not what Spark believes.

use super::pools::{self, HOST};
use super::world::World;

const CLUSTER: &str = spark_session_operator::xds::CLUSTER_HEADER;
const SESSION_ID: &str = spark_session_operator::xds::SESSION_ID_HEADER;
const USER: &str = spark_session_operator::xds::USER_HEADER;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_routing_header_of_a_client_never_steers() {
    let connect = pools::one_session_each(pools::connect("connect", HOST));
    let thrift = pools::one_session_each(pools::thrift("thrift", HOST));
    World::run("spoofing", vec![connect, thrift], &[], async move |world| {
        let eve = world.connect(HOST, "eve").await;
        assert_eq!(eve.config().await.unwrap().pod(), "connect-0-driver");
        let victim = world.connect(HOST, "ana").await;
        assert_eq!(victim.config().await.unwrap().pod(), "connect-1-driver");
        let victims = world.envoy.cluster_versions().await;
        let victims = victims.keys().find(|name| name.starts_with("connect-1/")).expect("ana's instance");

        let answer = eve.clone().with_header(CLUSTER, victims).config().await.unwrap();
        assert_eq!(answer.pod(), "connect-0-driver");
        assert_eq!(answer.header(CLUSTER), None, "our routing is no business of Spark");

        let thrift = world.thrift(HOST, "eve").with_header(CLUSTER, victims);
        let answer = thrift.call("OpenSession").await.unwrap();
        assert_eq!(answer.pod(), "thrift-0-driver");
        assert_eq!(answer.header(CLUSTER), None);

        // Nor where no answer of the operator would take the header's place.
        for (path, status) in
            [("/", 404), ("/cliservice/a%20b", 400), ("/spark.connect.SparkConnectService/Config", 400)]
        {
            let url = format!("http://{}{path}", world.envoy.listens);
            let request = reqwest::Client::builder().no_proxy().build().unwrap().post(url);
            let request = request.header("host", HOST).basic_auth("eve", Some("password"));
            let answer = request.header(CLUSTER, victims).send().await.unwrap();
            assert!(!answer.headers().contains_key(super::stand_in::POD), "{path} led to Spark");
            assert_eq!(answer.status(), status, "{path}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_server_hears_from_us_alone_who_asks() {
    let pool = pools::one_session_each(pools::connect("connect", HOST));
    World::run("identity", vec![pool], &[], async move |world| {
        let (eve, ana) = (world.connect(HOST, "eve").await, world.connect(HOST, "ana").await);
        let of_ana = ana.config().await.unwrap();
        assert_eq!(of_ana.binary_header(USER).as_deref(), Some("ana".as_bytes()));
        let id = of_ana.header(SESSION_ID).expect("her session").to_owned();
        let forged = eve.with_binary_header(USER, b"ana").with_header(SESSION_ID, &id);
        let forged = forged.config().await.unwrap();
        assert_eq!(forged.binary_header(USER).as_deref(), Some("eve".as_bytes()));
        assert_ne!(forged.header(SESSION_ID), Some(id.as_str()));
        assert_ne!(
            forged.header("authorization"),
            of_ana.header("authorization"),
            "each instance has its own"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_and_orders_in_the_url_do_not_reach_spark() {
    let pools = vec![pools::connect("connect", HOST), pools::thrift("thrift", HOST)];
    World::run("hygiene", pools, &[], async move |world| {
        let client = world.connect(HOST, "ana").await;
        let private = [
            ("cookie", "a=b"),
            ("x-spark-password", "hunter2"),
            // A client's orders to Envoy: this one would end its own queries.
            ("x-envoy-upstream-rq-timeout-ms", "300"),
        ];
        let client = private.iter().fold(client, |client, (name, value)| client.with_header(name, value));
        let answer = client.config().await.unwrap();
        for (name, _) in private {
            assert_eq!(answer.header(name), None, "{name}");
        }
        let token = answer.header("authorization").expect("the instance asks for its token");
        assert!(token.starts_with("Bearer ") && token.len() > 40, "the instance's, not ana's: {token}");
        let thrift = world.thrift(HOST, "ana").with_query("doAs=eve").with_header("cookie", "a=b");
        let answer = thrift.call("OpenSession").await.unwrap();
        assert_eq!(answer.header("path"), Some("/cliservice"));
        assert_eq!(answer.header("authorization"), Some("Basic YW5hOng="), "ana:x");
        assert_eq!(answer.header("cookie"), None);
    })
    .await;
}
