"""Envoy carries all users of a driver over shared HTTP/2 connections, which Spark's Netty ends for what it does not like in
one request: headers of more than 10,240 bytes, trailers of that size, metadata that is no base64."""

import base64
import uuid

import grpc
import pyspark.sql.connect.proto as pb
import pytest

from connect_wire import SERVICE, call, config_get, head

SLOW = "SELECT java_method('java.lang.Thread', 'sleep', 8000L)"
# Envoy has a connection for each of its two workers, and which of them serves a client is chance.
TIMES = 8


@pytest.fixture
def login(environment):
    """login(user) -> the header by which a client of one's own logs in."""

    def header(user: str) -> tuple[str, str]:
        secret = base64.b64encode(f"{user}:{environment.password(user)}".encode()).decode()
        return ("authorization", f"Bearer {secret}")

    return header


@pytest.fixture
def address(environment) -> str:
    return f"localhost:{environment.port}"


@pytest.fixture
def running_query(address, login, users):
    """bob's query, when Spark has begun it. Calling it waits for its end, and tells the gRPC status."""
    session = str(uuid.uuid4())
    plan = pb.Plan(root=pb.Relation(sql=pb.SQL(query=SLOW)))
    request = pb.ExecutePlanRequest(**head(session), plan=plan).SerializeToString()
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]) as channel:
        metadata = [login(users[1])]
        answers = channel.unary_stream(f"/{SERVICE}/ExecutePlan")(request, metadata=metadata, timeout=120)
        next(answers)

        def end() -> str:
            try:
                for _ in answers:
                    pass
            except grpc.RpcError:
                pass
            return f"{answers.code().name} {answers.details()}"

        yield end


def test_a_long_header_of_one_user_ends_no_query_of_another(running_query, address, login, users):
    alice, session = login(users[0]), str(uuid.uuid4())
    question = config_get(session, "spark.app.name")
    for _ in range(TIMES):
        # As a tracing proxy adds it, and as an attacker does.
        harmless = [("baggage", "x" * 20_000), ("tracestate", "x" * 20_000), ("x-b3-bin", b"\xff" * 9000)]
        assert call(address, "Config", question, [alice, *harmless]).code == "OK"
    assert running_query() == "OK "


def test_who_sends_a_long_header_that_spark_reads_hears_why(running_query, address, login, users):
    alice, session = login(users[0]), str(uuid.uuid4())
    question = config_get(session, "spark.app.name")
    for _ in range(TIMES):
        refused = call(address, "Config", question, [alice], user_agent="x" * 20_000)
        words = refused.refused("INVALID_ARGUMENT")
        assert words.startswith(
            "This request was not passed on to Spark, because its headers are too long: Spark would get "
        ), words
        assert "at most 4096 are allowed. The header user-agent is the longest part, with 200" in words
        assert words.endswith("Make it shorter and try again.")
    assert running_query() == "OK "
