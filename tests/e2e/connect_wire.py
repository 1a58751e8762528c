"""Spark Connect as a client of one's own would speak it: any bytes, any headers. No fixtures, no test cases."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
import pyspark.sql.connect.proto as pb
from google.protobuf.any_pb2 import Any
from google.rpc.status_pb2 import Status

SERVICE = "spark.connect.SparkConnectService"


@dataclass(frozen=True)
class Answer:
    code: str
    text: str
    # What PySpark would show: the message of grpc-status-details-bin.
    shown: str
    messages: list[bytes]
    # What stands there beside the message.
    details: list[Any]

    def refused(self, code: str) -> str:
        """The words of a refusal, which are the same for every client."""
        assert self.code == code, self
        assert self.shown == self.text, self
        return self.text

    def pairs(self) -> dict[str, str]:
        """What a Config call answered."""
        assert self.code == "OK", self
        return {pair.key: pair.value for message in self.messages for pair in pb.ConfigResponse.FromString(message).pairs}


def call(
    address: str,
    method: str,
    messages: bytes | list[bytes],
    headers: list[tuple],
    authority: str | None = None,
    compression: grpc.Compression | None = None,
    timeout: float = 60,
    user_agent: str | None = None,
) -> Answer:
    """One call with these bytes as its messages; `method` without a service is one of Spark Connect."""
    path = method if method.startswith("/") else f"/{SERVICE}/{method}"
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    options += [("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]
    options += [("grpc.default_authority", authority)] if authority else []
    options += [("grpc.primary_user_agent", user_agent)] if user_agent else []
    messages = [messages] if isinstance(messages, bytes) else messages
    with grpc.insecure_channel(address, options) as channel:
        # On the wire every kind of call is a stream of messages.
        running = channel.stream_stream(path)(iter(messages), metadata=headers, compression=compression, timeout=timeout)
        answers = []
        try:
            answers.extend(running)
        except grpc.RpcError:
            pass
        status = _status(running.trailing_metadata())
        return Answer(running.code().name, running.details(), status.message, answers, list(status.details))


def head(session: str, user: str = "whoever") -> dict:
    """The first two fields of every message of Spark Connect."""
    return {"session_id": session, "user_context": pb.UserContext(user_id=user, user_name=user)}


def config_set(session: str, key: str, value: str, user: str = "whoever") -> bytes:
    pairs = [pb.KeyValue(key=key, value=value)]
    operation = pb.ConfigRequest.Operation(set=pb.ConfigRequest.Set(pairs=pairs))
    return pb.ConfigRequest(**head(session, user), operation=operation).SerializeToString()


def config_get(session: str, key: str, user: str = "whoever") -> bytes:
    operation = pb.ConfigRequest.Operation(get_option=pb.ConfigRequest.GetOption(keys=[key]))
    return pb.ConfigRequest(**head(session, user), operation=operation).SerializeToString()


def artifact(session: str, name: str, data: bytes = b"x") -> bytes:
    chunk = pb.AddArtifactsRequest.ArtifactChunk(data=data, crc=0)
    one = pb.AddArtifactsRequest.SingleChunkArtifact(name=name, data=chunk)
    batch = pb.AddArtifactsRequest.Batch(artifacts=[one])
    return pb.AddArtifactsRequest(**head(session), batch=batch).SerializeToString()


def again(session: str | None = None, user: str | None = None) -> bytes:
    """Fields 1 and 2 once more. Behind a message they override its own: that is how a head is forged."""
    context = pb.UserContext(user_id=user, user_name=user) if user else None
    return pb.ConfigRequest(session_id=session or "", user_context=context).SerializeToString()


def _status(trailers) -> Status:
    return Status.FromString(dict(trailers or ()).get("grpc-status-details-bin", b""))
