//! The gRPC service to which Envoy brings the calls that open a session (ext_proc), and no others. `xds::open_session` says
//! what reaches it. Into Thrift's OpenSession it puts the session's Spark configuration, and reads the handle in the
//! answer; into Spark Connect's CloneSession it puts the clone's id, where the client leaves that to the server.
//!
//! Which session it is comes from the check of the same request, as the metadata that `allow` gave it, never from the
//! client. What cannot be answered is refused: to end Envoy's stream without an error would let the request pass as it
//! is. Answers pass as they are, whatever becomes of the handle.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as Part;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response as Answer;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    BodyMutation, BodyResponse, CommonResponse, HeaderMutation, HttpBody, ImmediateResponse,
    ProcessingRequest, ProcessingResponse, body_mutation,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::value::Kind;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::allow::CLONE;
use super::ext_authz::defect;
use super::{deny, headers};
use crate::fair_share::{FairShares, Limits};
use crate::model::{
    ConfRefusal, ConfSource, Denial, DenialKind, Opening, RefusedConf, SessionConf, ThriftHead,
};
use crate::spark::thrift_session::{self, SessionHandle};
use crate::spark::{connect_head, thrift_head, thrift_open_session, thrift_open_session_conf};
use crate::telemetry::panic_text;
use crate::xds::EXT_AUTHZ;

/// The longest OpenSession call that is read, in bytes: what Envoy buffers by default. Usual ones have a few hundred.
pub const MAX_BODY: usize = 1 << 20;

/// Of all OpenSession calls that wait for their sessions' configuration.
const MOST_BYTES_WAITING: usize = 64 << 20;

/// Whoever knows the sessions and their pools; in production `broker::ThriftSessions`.
pub trait Openings: Send + Sync + 'static {
    /// Tells, by its end, that the call is over: it was answered, or will not be.
    type OnItsWay: Send;

    /// What the session that is being opened shall have.
    fn opens(
        &self,
        opening: &Opening,
    ) -> impl Future<Output = Result<(SessionConf, Self::OnItsWay), Denial>> + Send;

    /// It was opened. The client waits for its answer until this has ended.
    fn opened(
        &self,
        opening: &Opening,
        on_its_way: Self::OnItsWay,
        handle: SessionHandle,
    ) -> impl Future<Output = ()> + Send;
}

/// `envoy.service.ext_proc.v3.ExternalProcessor`, with the configuration that `openings` knows.
pub fn open_session_service<O: Openings>(openings: Arc<O>) -> ExternalProcessorServer<OpenSessions<O>> {
    let limits = Limits { most: MOST_BYTES_WAITING, shares_of_one: usize::MAX };
    ExternalProcessorServer::new(OpenSessions { openings, waiting: FairShares::new(limits) })
}

pub struct OpenSessions<O> {
    openings: Arc<O>,
    /// By user.
    waiting: Arc<FairShares<String>>,
}

#[tonic::async_trait]
impl<O: Openings> ExternalProcessor for OpenSessions<O> {
    type ProcessStream = BoxStream<'static, Result<ProcessingResponse, Status>>;

    /// One stream is one HTTP request and its response. Each message is answered before the next is read.
    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let (openings, waiting) = (Arc::clone(&self.openings), Arc::clone(&self.waiting));
        let exchange = Exchange { openings, waiting, opening: None };
        let answers =
            stream::unfold((request.into_inner(), exchange), |(mut messages, mut exchange)| async {
                let message = messages.next().await?;
                let answer = match message {
                    Ok(message) => exchange.answer(message).await,
                    Err(status) => Err(status),
                };
                Some((answer, (messages, exchange)))
            });
        Ok(Response::new(answers.boxed()))
    }
}

/// One HTTP request and its response.
struct Exchange<O: Openings> {
    openings: Arc<O>,
    waiting: Arc<FairShares<String>>,
    /// From the request, when it has passed.
    opening: Option<(Opening, O::OnItsWay)>,
}

impl<O: Openings> Exchange<O> {
    async fn answer(&mut self, message: ProcessingRequest) -> Result<ProcessingResponse, Status> {
        let opening = opening(&message);
        let answer = match message.request {
            Some(Part::RequestBody(body)) => match text(message.metadata_context.as_ref(), CLONE) {
                Some(id) => clone(&id, &body)?,
                None => self.request(opening, &body).await,
            },
            Some(Part::ResponseBody(body)) => self.response(&body).await,
            _ => return Err(Status::invalid_argument("only bodies are looked at here")),
        };
        Ok(ProcessingResponse { response: Some(answer), ..ProcessingResponse::default() })
    }

    async fn request(&mut self, opening: Option<Opening>, body: &HttpBody) -> Answer {
        let opened = open(&*self.openings, &self.waiting, opening.as_ref(), body);
        let opened = AssertUnwindSafe(opened).catch_unwind().await;
        let opened = opened.unwrap_or_else(|panic| {
            tracing::error!(panic = panic_text(&*panic), "an OpenSession ended in a panic: it is refused");
            Err(defect())
        });
        match opened {
            Ok((replacement, on_its_way)) => {
                self.opening = opening.zip(Some(on_its_way));
                Answer::RequestBody(pass(replacement))
            }
            Err(denial) => refuse(&denial, &body.body),
        }
    }

    async fn response(&mut self, body: &HttpBody) -> Answer {
        // Only the first part of an answer that comes in several can hold the handle.
        if let Some((opening, on_its_way)) = self.opening.take() {
            match thrift_session::opened(&body.body) {
                Ok(Some(handle)) => {
                    let noted = self.openings.opened(&opening, on_its_way, handle);
                    let noted = AssertUnwindSafe(noted).catch_unwind().await;
                    if let Err(panic) = noted {
                        let panic = panic_text(&*panic);
                        tracing::error!(panic, "the answer to an OpenSession ended in a panic: it passes");
                    }
                }
                Ok(None) => tracing::debug!(session = opening.session, "Spark has opened no session"),
                Err(error) => {
                    tracing::debug!(session = opening.session, %error, "an answer to OpenSession tells no handle");
                }
            }
        }
        Answer::ResponseBody(pass(None))
    }
}

/// The call with the id that the check of the same request gave a place to. What cannot be read has been refused there.
fn clone(id: &str, body: &HttpBody) -> Result<Answer, Status> {
    let id = id.parse().map_err(|_| Status::internal("the clone's id is none"))?;
    if !body.end_of_stream {
        return Err(Status::invalid_argument("a CloneSession call does not come whole"));
    }
    let call = connect_head::with_clone_id(&body.body, id);
    let call = call.map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(Answer::RequestBody(pass(Some(call))))
}

/// The call as the server shall see it, or `None` if it is right already; and the sign that it is on its way.
async fn open<O: Openings>(
    openings: &O,
    waiting: &Arc<FairShares<String>>,
    opening: Option<&Opening>,
    body: &HttpBody,
) -> Result<(Option<Vec<u8>>, O::OnItsWay), Denial> {
    if !body.end_of_stream || body.body.len() > MAX_BODY {
        let message = format!(
            "The request that opens the session is longer than {} KiB. Put less configuration into the connection's URL.",
            MAX_BODY / 1024
        );
        return Err(Denial::new(DenialKind::BadRequest, message));
    }
    let opening = opening.ok_or_else(|| {
        tracing::error!("Envoy sent an OpenSession without the metadata of its check: it is refused");
        defect()
    })?;
    let call = thrift_open_session::read(&body.body)
        .map_err(|error| Denial::new(DenialKind::BadRequest, error.to_string()))?;
    let opens = waiting.wait(|| opening.user.clone(), body.body.len(), openings.opens(opening)).await;
    let (conf, on_its_way) = opens.map_err(|_| {
        let message = "Too many connections are being opened at the moment, and this one was not. Connect again in a few \
                       seconds.";
        Denial::new(DenialKind::TooManyWaiting, message)
    })??;
    let merged =
        thrift_open_session_conf::merge(call.configuration(), &conf.set, |key| conf.protected.contains(key));
    tell(opening, &conf, &merged.withheld);
    if !merged.changed {
        return Ok((None, on_its_way));
    }
    let entries: Vec<_> = merged.entries.iter().map(|(key, value)| (&**key, &**value)).collect();
    let call = call.with_configuration(&entries).ok_or_else(|| {
        tracing::error!(session = opening.session, "more configuration than an OpenSession can hold");
        defect()
    })?;
    Ok((Some(call), on_its_way))
}

/// Says what was refused. Keys only: a value may be a password.
fn tell<'a>(opening: &Opening, conf: &SessionConf, withheld: impl IntoIterator<Item = &'a String>) {
    let withheld = withheld.into_iter().map(|key| RefusedConf {
        key: key.clone(),
        asked_by: ConfSource::Client,
        because: ConfRefusal::Protected,
    });
    for refused in conf.refused.iter().cloned().chain(withheld) {
        tracing::info!(session = opening.session, pool = opening.pool, user = opening.user, "{refused}");
    }
}

/// What the check of this request found out; `None` if it did not go with it.
fn opening(request: &ProcessingRequest) -> Option<Opening> {
    let text = |key: &str| text(request.metadata_context.as_ref(), key);
    let cluster = text("cluster");
    Some(Opening { session: text("session")?, pool: text("pool")?, user: text("user")?, cluster })
}

fn text(metadata: Option<&Metadata>, key: &str) -> Option<String> {
    match metadata?.filter_metadata.get(EXT_AUTHZ)?.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

fn pass(replacement: Option<Vec<u8>>) -> BodyResponse {
    let mutation = |body| BodyMutation { mutation: Some(body_mutation::Mutation::Body(body)) };
    BodyResponse {
        response: Some(CommonResponse {
            body_mutation: replacement.map(mutation),
            ..CommonResponse::default()
        }),
    }
}

fn refuse(denial: &Denial, body: &[u8]) -> Answer {
    // The check has read this head before. If it is not one any more, an exception without a name is still words.
    let head = thrift_head::read(body).unwrap_or_else(|_| ThriftHead {
        method: "OpenSession".to_owned(),
        sequence_id: 0,
        session_handle: None,
    });
    let content_type = headers::set("content-type", "application/x-thrift");
    Answer::ImmediateResponse(ImmediateResponse {
        status: Some(HttpStatus { code: 200 }),
        headers: Some(HeaderMutation { set_headers: vec![content_type], ..HeaderMutation::default() }),
        body: deny::thrift_reply(denial, &head).into_bytes(),
        details: "open_session_refused".to_owned(),
        ..ImmediateResponse::default()
    })
}

#[cfg(test)]
#[path = "open_session_tests.rs"]
mod tests;
