//! Spark Connect's service: every method is answered with the least that a client needs. Configuration is kept, and a
//! session that was released answers no more.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use http::{HeaderMap, HeaderName, Uri};
use prost::Message;
use prost::bytes::Bytes;
use spark_session_operator::model::ConnectMethod;
use spark_session_operator::spark::connect_head;
use spark_session_operator::xds::USER_HEADER;
use tokio::sync::watch;
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use super::raw::Raw;
use super::seen::{Seen, SparkSession};
use super::{MEGABYTES, RECEIVED_TRAILER, UNTIL_RELEASED, instance};

/// Spark's own limit of one message.
const MAX_MESSAGE: usize = 128 * 1024 * 1024;

/// By it the operator asks what runs in a session.
const RUNNING_HEADER: &str = "x-spark-session-running";

/// The first fields of every request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Head {
    #[prost(string, tag = "1")]
    pub session_id: String,
    #[prost(message, optional, tag = "2")]
    pub user_context: Option<UserContext>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct UserContext {
    #[prost(string, tag = "1")]
    pub user_id: String,
}

/// The fields that `ExecutePlanResponse` has, of which other responses have the first.
#[derive(Clone, PartialEq, prost::Message)]
struct Reply {
    #[prost(string, tag = "1")]
    session_id: String,
    #[prost(string, tag = "12")]
    operation_id: String,
    /// Which streaming queries run: none.
    #[prost(message, optional, tag = "11")]
    streaming_queries: Option<StreamingQueries>,
    #[prost(message, optional, tag = "14")]
    result_complete: Option<()>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StreamingQueries {
    #[prost(message, optional, tag = "1")]
    active: Option<()>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AddArtifactsReply {
    #[prost(string, tag = "2")]
    session_id: String,
}

/// The fields of `ConfigRequest` that set something.
#[derive(Clone, PartialEq, prost::Message)]
struct ConfigRequest {
    #[prost(message, optional, tag = "3")]
    operation: Option<Operation>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Operation {
    #[prost(message, optional, tag = "1")]
    set: Option<Set>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Set {
    #[prost(map = "string, string", tag = "1")]
    pairs: HashMap<String, String>,
    #[prost(bool, tag = "2")]
    silent: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ConfigReply {
    #[prost(string, tag = "1")]
    session_id: String,
    #[prost(string, repeated, tag = "3")]
    warnings: Vec<String>,
}

#[derive(Clone)]
pub struct ConnectService {
    pub pod: Arc<str>,
    pub streams: watch::Receiver<bool>,
    pub seen: Seen,
}

impl NamedService for ConnectService {
    const NAME: &'static str = "spark.connect.SparkConnectService";
}

impl tonic::codegen::Service<http::Request<tonic::body::Body>> for ConnectService {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let (service, uri) = (self.clone(), request.uri().clone());
        Box::pin(async move {
            // Of all four shapes of a call this is the most general, and on the wire they are one.
            let mut grpc = Grpc::new(Raw).max_decoding_message_size(MAX_MESSAGE);
            Ok(grpc.streaming(Call { service, uri }, request).await)
        })
    }
}

struct Call {
    service: ConnectService,
    uri: Uri,
}

impl StreamingService<Bytes> for Call {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(answer(self.service.clone(), self.uri.clone(), request))
    }
}

type Answer = Response<BoxStream<'static, Result<Bytes, Status>>>;

async fn answer(
    service: ConnectService,
    uri: Uri,
    request: Request<Streaming<Bytes>>,
) -> Result<Answer, Status> {
    let method = connect_head::method(uri.path());
    let Some(method) = method.filter(|method| *method != ConnectMethod::Unknown) else {
        return Err(Status::unimplemented("the stand-in knows only the methods of Spark Connect"));
    };
    let (metadata, _, mut messages) = request.into_parts();
    let (mut head, mut bytes) = (None, 0);
    while let Some(message) = messages.message().await? {
        bytes += message.len();
        head.get_or_insert(message);
    }
    let trailers = messages.trailers().await?.unwrap_or_default().into_headers();
    let message = head.unwrap_or_default();
    let head = Head::decode(message.clone())
        .map_err(|error| Status::invalid_argument(format!("not a request: {error}")))?;

    let session = session(&service, &head, &metadata);
    let headers = metadata.into_headers();
    let mut response = Response::new(match changed(&service.seen, method, &session, message)? {
        Some(warnings) => one(&ConfigReply { session_id: head.session_id, warnings }).boxed(),
        None => replies(method, head.session_id, &headers, service.streams),
    });
    let mut echo = instance::answer_headers(&service.pod, &uri, &headers, bytes);
    for (name, value) in &trailers {
        echo.append(HeaderName::try_from(format!("{RECEIVED_TRAILER}{name}")).unwrap(), value.clone());
    }
    *response.metadata_mut() = MetadataMap::from_headers(echo);
    Ok(response)
}

fn session(service: &ConnectService, head: &Head, metadata: &MetadataMap) -> SparkSession {
    let told = metadata.get_bin(USER_HEADER).and_then(|user| user.to_bytes().ok());
    let told = told.map(|user| String::from_utf8_lossy(&user).into_owned());
    let claimed = || head.user_context.clone().unwrap_or_default().user_id;
    let (pod, id) = (service.pod.to_string(), head.session_id.clone());
    SparkSession { pod, user: told.unwrap_or_else(claimed), id }
}

/// Does what the call asks for. Warnings, where it has set something; Spark's own error, where it cannot be.
fn changed(
    seen: &Seen,
    method: ConnectMethod,
    session: &SparkSession,
    message: Bytes,
) -> Result<Option<Vec<String>>, Status> {
    if method == ConnectMethod::ReleaseSession {
        seen.with(|seen| seen.released.insert(session.clone()));
        return Ok(None);
    }
    if seen.with(|seen| seen.released.contains(session)) {
        return Err(Status::internal(format!(
            "[INVALID_HANDLE.SESSION_CLOSED] The handle {} is invalid. Session was closed. SQLSTATE: HY000",
            session.id
        )));
    }
    let config = (method == ConnectMethod::Config).then(|| ConfigRequest::decode(message).ok()).flatten();
    let Some(set) = config.and_then(|config| config.operation?.set) else { return Ok(None) };
    seen.set(session, set.pairs, set.silent).map(Some).map_err(Status::internal)
}

fn replies(
    method: ConnectMethod,
    session_id: String,
    headers: &HeaderMap,
    mut released: watch::Receiver<bool>,
) -> BoxStream<'static, Result<Bytes, Status>> {
    if method == ConnectMethod::AddArtifacts {
        return one(&AddArtifactsReply { session_id }).boxed();
    }
    let reply = Reply { session_id, ..Reply::default() };
    if headers.contains_key(RUNNING_HEADER) {
        return one(&Reply { streaming_queries: Some(StreamingQueries { active: Some(()) }), ..reply })
            .boxed();
    }
    if !matches!(method, ConnectMethod::ExecutePlan | ConnectMethod::ReattachExecute) {
        let pause = instance::pause(headers);
        return stream::once(tokio::time::sleep(pause)).flat_map(move |()| one(&reply)).boxed();
    }
    let (pause, waits) = (instance::pause(headers), instance::asked(headers, UNTIL_RELEASED).is_some());
    let silence = async move {
        tokio::time::sleep(pause).await;
        if waits {
            // An error means that the stand-in is gone: its streams end as they are.
            let _ = released.wait_for(|released| *released).await;
        }
    };
    let first = Reply { operation_id: "stand-in".to_owned(), ..reply };
    let last = Reply { result_complete: Some(()), ..first.clone() };
    let megabytes = instance::asked(headers, MEGABYTES).unwrap_or(0) as usize;
    let results = stream::repeat(Bytes::from(batch(&first))).take(megabytes).map(Ok);
    one(&first).chain(results).chain(stream::once(silence).flat_map(move |()| one(&last))).boxed()
}

/// A message of one megabyte, in a field that nobody knows.
fn batch(reply: &Reply) -> Vec<u8> {
    let mut message = reply.encode_to_vec();
    prost::encoding::encode_key(1000, prost::encoding::WireType::LengthDelimited, &mut message);
    prost::encoding::encode_varint(1 << 20, &mut message);
    message.resize(message.len() + (1 << 20), 7);
    message
}

fn one<M: Message>(reply: &M) -> impl Stream<Item = Result<Bytes, Status>> + Send + use<M> {
    stream::iter([Ok(Bytes::from(reply.encode_to_vec()))])
}
