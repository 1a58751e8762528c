use std::collections::BTreeSet;
use std::net::SocketAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::Stream;
use http::uri::PathAndQuery;
use prost::Message;
use prost::bytes::Bytes;
use tonic::client::Grpc;
use tonic::metadata::{
    AsciiMetadataKey, AsciiMetadataValue, BinaryMetadataKey, BinaryMetadataValue, MetadataMap,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::stand_in::{BYTES, Head, POD, RECEIVED, Raw, UserContext};

/// A Spark Connect client: a connection, a login, and a session id of its own.
#[derive(Clone)]
pub struct ConnectClient {
    channel: Channel,
    pub session: Uuid,
    user: String,
    metadata: MetadataMap,
}

/// What the stand-in says of a request that has reached it.
#[derive(Debug)]
pub struct Arrived(MetadataMap);

impl Arrived {
    /// The driver Pod.
    pub fn pod(&self) -> &str {
        self.text(POD).expect("an answer of the stand-in")
    }

    pub fn bytes(&self) -> usize {
        self.text(BYTES).expect("an answer of the stand-in").parse().unwrap()
    }

    /// Names of all headers that arrived.
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.as_ref().keys().filter_map(|name| name.as_str().strip_prefix(RECEIVED)).collect()
    }

    /// The request's header, as it was when it arrived.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.text(&format!("{RECEIVED}{name}"))
    }

    /// The same, decoded, for a header whose name ends in `-bin`.
    pub fn binary_header(&self, name: &str) -> Option<Vec<u8>> {
        let value = self.0.get_bin(format!("{RECEIVED}{name}"))?;
        Some(value.to_bytes().unwrap().to_vec())
    }

    fn text(&self, name: &str) -> Option<&str> {
        Some(self.0.get(name)?.to_str().unwrap())
    }
}

impl ConnectClient {
    pub async fn new(envoy: SocketAddr, host: &str, user: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{envoy}")).unwrap();
        let endpoint = endpoint.origin(format!("http://{host}").parse().unwrap());
        Self::on(endpoint.connect().await.expect("Envoy listens"), user)
    }

    pub fn on(channel: Channel, user: &str) -> Self {
        let token = BASE64_STANDARD.encode(format!("{user}:password"));
        let (session, user, metadata) = (Uuid::new_v4(), user.to_owned(), MetadataMap::new());
        Self { channel, session, user, metadata }.with_header("authorization", &format!("Bearer {token}"))
    }

    /// The same client with one more header in each request.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        let name: AsciiMetadataKey = name.parse().unwrap();
        let value: AsciiMetadataValue = value.parse().unwrap();
        self.metadata.insert(name, value);
        self
    }

    /// The same client, which asks the stand-in for something in each request.
    pub fn asking(self, what: &str, number: u64) -> Self {
        self.with_header("user-agent", &format!("{what}/{number}"))
    }

    /// The same client with one more header in each request, whose value is not text.
    pub fn with_binary_header(mut self, name: &str, value: &[u8]) -> Self {
        let name: BinaryMetadataKey = name.parse().unwrap();
        self.metadata.insert_bin(name, BinaryMetadataValue::from_bytes(value));
        self
    }

    /// The same, beside one of this name that is there already.
    pub fn and_header(mut self, name: &str, value: &str) -> Self {
        let name: AsciiMetadataKey = name.parse().unwrap();
        self.metadata.append(name, value.parse().unwrap());
        self
    }

    /// The same user on the same connection, with another session.
    pub fn another_session(&self) -> Self {
        Self { session: Uuid::new_v4(), ..self.clone() }
    }

    /// The same user on the same connection, back in a session that there is.
    pub fn of_session(self, session: Uuid) -> Self {
        Self { session, ..self }
    }

    /// Its program ends without a word. Of several clients on one connection, the last one closes it.
    pub fn leave(self) -> Uuid {
        self.session
    }

    /// Another user on the same connection, as behind a load balancer.
    pub fn beside(&self, user: &str) -> Self {
        Self::on(self.channel.clone(), user)
    }

    /// What every Spark Connect client asks first.
    pub async fn config(&self) -> Result<Arrived, Status> {
        self.unary("Config", &[]).await
    }

    /// What clients send after each query, and some of them long after.
    pub async fn release_execute(&self) -> Result<Arrived, Status> {
        self.unary("ReleaseExecute", &[]).await
    }

    /// With this message instead.
    pub async fn config_of(&self, message: impl Into<Bytes>) -> Result<Arrived, Status> {
        let request = self.request(message.into());
        let response = self.ready().await?.unary(request, path("Config"), Raw).await?;
        Ok(arrived(&response))
    }

    /// What `spark.stop()` sends.
    pub async fn release_session(&self) -> Result<Arrived, Status> {
        self.unary("ReleaseSession", &[]).await
    }

    /// With a plan of that many bytes.
    pub async fn analyze_plan(&self, plan: &[u8]) -> Result<Arrived, Status> {
        self.unary("AnalyzePlan", plan).await
    }

    /// In as many messages as there are chunks.
    pub async fn add_artifacts(
        &self,
        chunks: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Arrived, Status> {
        let path = path("AddArtifacts");
        let response = self.ready().await?.client_streaming(self.request(chunks), path, Raw).await?;
        Ok(arrived(&response))
    }

    /// Its headers have come when this returns.
    pub async fn execute_plan(&self) -> Result<(Arrived, Streaming<Bytes>), Status> {
        let request = self.request(self.message(&[]));
        let response = self.ready().await?.server_streaming(request, path("ExecutePlan"), Raw).await?;
        Ok((arrived(&response), response.into_inner()))
    }

    /// A request message of this session, with that as its third field.
    pub fn message(&self, payload: &[u8]) -> Bytes {
        let head = Head {
            session_id: self.session.to_string(),
            user_context: Some(UserContext { user_id: self.user.clone() }),
        };
        let mut message = head.encode_to_vec();
        if !payload.is_empty() {
            // Field 3, length-delimited.
            message.push(3 << 3 | 2);
            prost::encode_length_delimiter(payload.len(), &mut message).unwrap();
            message.extend_from_slice(payload);
        }
        message.into()
    }

    async fn unary(&self, method: &str, payload: &[u8]) -> Result<Arrived, Status> {
        let request = self.request(self.message(payload));
        let response = self.ready().await?.unary(request, path(method), Raw).await?;
        Ok(arrived(&response))
    }

    async fn ready(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(format!("no connection: {error}")))?;
        Ok(grpc)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        request
    }
}

fn path(method: &str) -> PathAndQuery {
    format!("/spark.connect.SparkConnectService/{method}").parse().unwrap()
}

fn arrived<T>(response: &Response<T>) -> Arrived {
    Arrived(response.metadata().clone())
}
