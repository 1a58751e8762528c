//! A Spark Connect server for tests: it keeps what it is asked, and refuses what it is told to refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::vec::IntoIter;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::HeaderMap;
use tokio::net::TcpListener;
use tokio_stream::Iter;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

use super::connect_client::Server;
use super::connect_messages::{
    ActiveResult, ConfigRequest, ConfigResponse, ExecutePlanRequest, ExecutePlanResponse, InterruptRequest,
    InterruptResponse, InterruptType, ReleaseSessionRequest, ReleaseSessionResponse, StreamingQueryInstance,
    StreamingQueryInstanceId, StreamingQueryManagerCommandResult, UserContext,
};

#[derive(Clone)]
pub struct FakeConnect {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub struct State {
    /// Keys that it does not take, and its words for it. `{}` becomes the value.
    pub refused: BTreeMap<&'static str, &'static str>,
    /// Answers everything so.
    pub broken: Option<(Code, &'static str)>,
    /// Does not know what `silent` is, and has no ReleaseSession.
    pub is_3_5: bool,
    /// Takes calls and never answers.
    pub hangs: bool,
    pub calls: Vec<Call>,
    /// By user and session.
    pub conf: BTreeMap<(String, String), BTreeMap<String, String>>,
    pub released: BTreeSet<(String, String)>,
    /// Id and name of what runs, in every session.
    pub streaming_queries: Vec<(&'static str, Option<&'static str>)>,
    /// Ends its answer to that question before it has said it.
    pub says_nothing: bool,
    /// As our interceptor tells it.
    pub executions: Option<usize>,
    /// Sessions in which everything was interrupted.
    pub interrupted: BTreeSet<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub method: &'static str,
    pub user: String,
    pub session_id: String,
    pub silent: bool,
    pub keys: Vec<String>,
    pub headers: BTreeMap<String, String>,
}

impl FakeConnect {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(fake.clone());
        tokio::spawn(server.serve_with_incoming(incoming));
        fake
    }

    pub fn server(&self) -> Server {
        Server { address: self.address, token: None }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn refuses(self, key: &'static str, words: &'static str) -> Self {
        self.state().refused.insert(key, words);
        self
    }

    pub fn breaks(&self, code: Code, words: &'static str) {
        self.state().broken = Some((code, words));
    }

    fn call(&self, method: &'static str, head: (String, Option<UserContext>), headers: &HeaderMap) -> Call {
        let text = |name: &str| Some((name.to_owned(), headers.get(name)?.to_str().unwrap().to_owned()));
        Call {
            method,
            session_id: head.0,
            user: head.1.unwrap_or_default().user_id,
            silent: false,
            keys: Vec::new(),
            headers: [
                "authorization",
                "x-spark-session-id",
                "x-spark-session-user-bin",
                "x-spark-session-running",
            ]
            .into_iter()
            .filter_map(text)
            .collect(),
        }
    }

    async fn until_it_answers(&self) -> Result<(), Status> {
        let (hangs, broken) = {
            let state = self.state();
            (state.hangs, state.broken)
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        broken.map_or(Ok(()), |(code, words)| Err(Status::new(code, words)))
    }

    async fn config(self, request: Request<ConfigRequest>) -> Result<Response<ConfigResponse>, Status> {
        let (headers, _, message) = request.into_parts();
        let set = message.operation.unwrap().set.unwrap();
        let head = (message.session_id.clone(), message.user_context);
        let mut call = self.call("Config", head, &headers.into_headers());
        call.silent = set.silent.unwrap_or(false);
        call.keys = set.pairs.iter().map(|pair| pair.key.clone()).collect();
        let session = (call.user.clone(), call.session_id.clone());
        let silent = call.silent && !self.state().is_3_5;
        self.state().calls.push(call);
        self.until_it_answers().await?;
        let mut state = self.state();
        let mut warnings = Vec::new();
        for pair in set.pairs {
            let value = pair.value.unwrap();
            match state.refused.get(&*pair.key).map(|words| words.replace("{}", &value)) {
                Some(words) if silent => {
                    warnings.push(format!("Failed to set {} to {value} due to {words}", pair.key));
                }
                Some(words) => return Err(Status::internal(words)),
                None => {
                    state.conf.entry(session.clone()).or_default().insert(pair.key, value);
                }
            }
        }
        Ok(Response::new(ConfigResponse { session_id: message.session_id, warnings }))
    }

    /// Knows one plan: the question for active streaming queries.
    async fn execute(
        self,
        request: Request<ExecutePlanRequest>,
    ) -> Result<Response<Iter<IntoIter<Result<ExecutePlanResponse, Status>>>>, Status> {
        let (headers, _, message) = request.into_parts();
        let command = message.plan.unwrap().command.unwrap().streaming_query_manager_command.unwrap();
        assert_eq!(command.active, Some(true));
        let head = (message.session_id.clone(), message.user_context);
        let call = self.call("ExecutePlan", head, &headers.into_headers());
        self.state().calls.push(call);
        self.until_it_answers().await?;
        let state = self.state();
        let active_queries = state.streaming_queries.iter().map(|(id, name)| StreamingQueryInstance {
            id: Some(StreamingQueryInstanceId { id: (*id).to_owned() }),
            name: name.map(str::to_owned),
        });
        let active = Some(ActiveResult { active_queries: active_queries.collect() });
        let progress =
            ExecutePlanResponse { session_id: message.session_id, ..ExecutePlanResponse::default() };
        let result = ExecutePlanResponse {
            streaming_query_manager_command_result: Some(StreamingQueryManagerCommandResult { active }),
            ..progress.clone()
        };
        let parts = if state.says_nothing { vec![Ok(progress)] } else { vec![Ok(progress), Ok(result)] };
        let mut answer = Response::new(tokio_stream::iter(parts));
        if let Some(executions) = state.executions {
            answer.metadata_mut().insert("x-spark-session-running", executions.to_string().parse().unwrap());
        }
        Ok(answer)
    }

    async fn release(
        self,
        request: Request<ReleaseSessionRequest>,
    ) -> Result<Response<ReleaseSessionResponse>, Status> {
        let (headers, _, message) = request.into_parts();
        let head = (message.session_id.clone(), message.user_context);
        let call = self.call("ReleaseSession", head, &headers.into_headers());
        let session = (call.user.clone(), call.session_id.clone());
        self.state().calls.push(call);
        self.until_it_answers().await?;
        if self.state().is_3_5 {
            let words = "Method not found: spark.connect.SparkConnectService/ReleaseSession";
            return Err(Status::unimplemented(words));
        }
        self.state().released.insert(session);
        Ok(Response::new(ReleaseSessionResponse { session_id: message.session_id }))
    }

    async fn interrupt(
        self,
        request: Request<InterruptRequest>,
    ) -> Result<Response<InterruptResponse>, Status> {
        let (headers, _, message) = request.into_parts();
        let head = (message.session_id.clone(), message.user_context);
        let call = self.call("Interrupt", head, &headers.into_headers());
        let session = (call.user.clone(), call.session_id.clone());
        self.state().calls.push(call);
        self.until_it_answers().await?;
        assert_eq!(message.interrupt_type, i32::from(InterruptType::All));
        self.state().interrupted.insert(session);
        Ok(Response::new(InterruptResponse { session_id: message.session_id }))
    }
}

impl NamedService for FakeConnect {
    const NAME: &'static str = "spark.connect.SparkConnectService";
}

impl tonic::codegen::Service<http::Request<tonic::body::Body>> for FakeConnect {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let fake = self.clone();
        async move {
            Ok(match request.uri().path().rsplit('/').next() {
                Some("Config") => Grpc::new(ProstCodec::default()).unary(Config(fake), request).await,
                Some("ExecutePlan") => {
                    Grpc::new(ProstCodec::default()).server_streaming(Execute(fake), request).await
                }
                Some("Interrupt") => Grpc::new(ProstCodec::default()).unary(Interrupt(fake), request).await,
                _ => Grpc::new(ProstCodec::default()).unary(Release(fake), request).await,
            })
        }
        .boxed()
    }
}

struct Config(FakeConnect);
struct Execute(FakeConnect);
struct Interrupt(FakeConnect);
struct Release(FakeConnect);

impl ServerStreamingService<ExecutePlanRequest> for Execute {
    type Response = ExecutePlanResponse;
    type ResponseStream = Iter<IntoIter<Result<ExecutePlanResponse, Status>>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<ExecutePlanRequest>) -> Self::Future {
        self.0.clone().execute(request).boxed()
    }
}

impl UnaryService<ConfigRequest> for Config {
    type Response = ConfigResponse;
    type Future = BoxFuture<'static, Result<Response<ConfigResponse>, Status>>;

    fn call(&mut self, request: Request<ConfigRequest>) -> Self::Future {
        self.0.clone().config(request).boxed()
    }
}

impl UnaryService<InterruptRequest> for Interrupt {
    type Response = InterruptResponse;
    type Future = BoxFuture<'static, Result<Response<InterruptResponse>, Status>>;

    fn call(&mut self, request: Request<InterruptRequest>) -> Self::Future {
        self.0.clone().interrupt(request).boxed()
    }
}

impl UnaryService<ReleaseSessionRequest> for Release {
    type Response = ReleaseSessionResponse;
    type Future = BoxFuture<'static, Result<Response<ReleaseSessionResponse>, Status>>;

    fn call(&mut self, request: Request<ReleaseSessionRequest>) -> Self::Future {
        self.0.clone().release(request).boxed()
    }
}
