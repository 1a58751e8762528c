"""The jar of deploy/spark in a real Spark Connect server, without Envoy and operator: what it lets through, and how it refuses."""

import os
import socket
import subprocess
import uuid

import grpc
import pyspark.sql.connect.proto as pb
import pytest

from clients import CONNECT_CLASS, run
from connect_wire import SERVICE, again, artifact, call, config_get, config_set, head

TOKEN = "t0ken-of-this-instance"
KEY = "spark.sql.session.mine"
MEGABYTES_20 = "x" * (20 << 20)

NO_TOKEN = (
    "This Spark server takes requests from its gateway only, and this one carries no token of the instance."
    " Connect to the host of the pool instead."
)
WRONG_TOKEN = (
    "This Spark server takes requests from its gateway only, and this one does not carry the token of the instance."
    " Connect to the host of the pool instead."
)
NOT_SET = (
    "This Spark server refuses every request: the environment variable SPARK_CONNECT_AUTHENTICATE_TOKEN is not set,"
    " so it cannot tell its gateway from others."
)

# A whole session, with the headers that Envoy would set. Arguments: address, token, user.
SESSION = """\
import collections, sys, tempfile, uuid, grpc
from pyspark.errors import AnalysisException
from pyspark.sql.connect.client import DefaultChannelBuilder
from pyspark.sql.connect.session import SparkSession
address, token, user = sys.argv[1:]
session = str(uuid.uuid4())
headers = [("authorization", f"Bearer {token}"), ("x-spark-session-id", session), ("x-spark-session-user-bin", user.encode())]
Details = collections.namedtuple("Details", "method timeout metadata credentials wait_for_ready compression")
class Gateway(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamUnaryClientInterceptor):
    def _call(self, go_on, call, request):
        metadata = [*(call.metadata or []), *headers]
        return go_on(Details(call.method, call.timeout, metadata, call.credentials, None, None), request)
    intercept_unary_unary = intercept_unary_stream = intercept_stream_unary = _call
channel = DefaultChannelBuilder(f"sc://{address}/;session_id={session}")
channel.add_interceptor(Gateway())
spark = SparkSession.builder.channelBuilder(channel).config("spark.sql.shuffle.partitions", "3").getOrCreate()
"""
WHOLE = """
print(spark.range(100).filter("id % 2 = 0").count(), spark.conf.get("spark.sql.shuffle.partitions"))
spark.createDataFrame([(i, "x" * 1000) for i in range(20000)], "id int, text string").createTempView("rows")
print(spark.sql("SELECT count(DISTINCT id) FROM rows").collect()[0][0])
try:
    spark.sql("SELECT nonsense FROM rows").collect()
except AnalysisException as error:
    print(error.getCondition())
with tempfile.NamedTemporaryFile(suffix=".txt") as file:
    file.write(b"y" * 100_000); file.flush()
    spark.addArtifact(file.name, file=True)
print(spark.interruptAll())
for variable in ("SPARK_CONNECT_AUTHENTICATE_TOKEN", "SPARK_LOCAL_IP"):
    print(spark.sql(f"SELECT java_method('java.lang.System', 'getenv', '{variable}')").collect()[0][0])
spark.stop()
"""
FOREACH_BATCH = """
spark.range(7).write.saveAsTable("incoming")
spark.range(3).createOrReplaceTempView("mine")
def each(batch, number):
    row = (batch.count(), batch.sparkSession.table("mine").count())
    batch.sparkSession.createDataFrame([row], "rows long, mine long").createTempView("told")
query = spark.readStream.table("incoming").writeStream.foreachBatch(each).trigger(availableNow=True).start()
query.awaitTermination()
print(*spark.table("told").collect()[0])
spark.stop()
"""


@pytest.fixture(autouse=True)
def sessions_end():
    """This file has nothing to do with the environment's sessions."""


@pytest.fixture(scope="module", autouse=True)
def module_sessions_end():
    """The same."""


@pytest.fixture(scope="module")
def start(tmp_path_factory, eventually):
    """start(token, more={}) -> the address of a Spark Connect server with the jar, and the file of its log."""
    running = []

    def begin(token, more=None):
        folder = tmp_path_factory.mktemp("driver")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        confs = {
            "spark.jars": os.environ["SPARK_IDENTITY_JAR"],
            "spark.connect.grpc.interceptor.classes": "io.sparkinteractive.identity.IdentityInterceptor",
            "spark.connect.grpc.binding.address": "127.0.0.1",
            "spark.connect.grpc.binding.port": port,
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.ui.enabled": "false",
            "spark.local.dir": folder / "local",
            "spark.sql.warehouse.dir": folder / "warehouse",
            **(more or {}),
        }
        argv = [f"{os.environ['SPARK_HOME']}/bin/spark-submit", "--master", "local[1]", "--driver-memory", "768m"]
        argv += ["--class", CONNECT_CLASS, *(part for key, value in confs.items() for part in ("--conf", f"{key}={value}"))]
        env = {"PATH": os.environ["PATH"], "JAVA_HOME": os.environ["JAVA_HOME"], "SPARK_LOCAL_IP": "127.0.0.1"}
        env["PYSPARK_PYTHON"] = os.environ["PYTHON"]
        if token:
            env["SPARK_CONNECT_AUTHENTICATE_TOKEN"] = token
        log = folder / "log"
        with open(log, "wb") as output:
            jvm = subprocess.Popen(
                [*argv, "spark-internal"], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd=folder
            )
        running.append(jvm)

        def answers():
            assert jvm.poll() is None, log.read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        eventually(answers, 60, "the server answers")
        return f"127.0.0.1:{port}", log

    yield begin
    for jvm in running:
        jvm.terminate()
        jvm.wait(timeout=30)


@pytest.fixture(scope="module")
def server(start):
    return start(TOKEN)[0]


@pytest.fixture
def session():
    return str(uuid.uuid4())


def headers(session, user="alice", token=TOKEN):
    """What Envoy sets."""
    return [
        ("authorization", f"Bearer {token}"),
        ("x-spark-session-id", session),
        ("x-spark-session-user-bin", user.encode()),
    ]


def other_session(method, session):
    """What a message for another session than `session` is answered."""
    return f"This {method}Request names another session than the one that was checked, {session}."


def running(address, session, asks="?", user="alice"):
    """What the head of an answer says of executions that are under way in the session."""
    context = pb.UserContext(user_id="whoever")
    command = pb.Command(streaming_query_manager_command=pb.StreamingQueryManagerCommand(active=True))
    plan = pb.Plan(command=command)
    question = pb.ExecutePlanRequest(session_id=session, user_context=context, plan=plan, client_type="spark-session-operator")
    metadata = [*headers(session, user), *([("x-spark-session-running", asks)] if asks else [])]
    with grpc.insecure_channel(address) as channel:
        answer = channel.unary_stream(f"/{SERVICE}/ExecutePlan")(question.SerializeToString(), metadata=metadata)
        list(answer)
        return dict(answer.initial_metadata()).get("x-spark-session-running")


def test_it_tells_who_asks_what_runs_in_their_own_session(server, session, eventually):
    assert (running(server, session), running(server, session, asks=None)) == ("0", None)
    sleep = pb.SQL(query="SELECT java_method('java.lang.Thread', 'sleep', 5000L)")
    options = pb.ExecutePlanRequest.RequestOption(reattach_options=pb.ReattachOptions(reattachable=True))
    plan = pb.ExecutePlanRequest(
        session_id=session,
        user_context=pb.UserContext(user_id="whoever"),
        operation_id=str(uuid.uuid4()),
        plan=pb.Plan(root=pb.Relation(sql=sleep)),
        request_options=[options],
    )
    with grpc.insecure_channel(server) as channel:
        execution = channel.unary_stream(f"/{SERVICE}/ExecutePlan")(plan.SerializeToString(), metadata=headers(session))
        eventually(lambda: running(server, session) == "1", 5, "it runs")
        execution.cancel()
    # Its client has gone, and Spark goes on.
    assert running(server, session) == "1"
    assert (running(server, str(uuid.uuid4())), running(server, session, user="bob")) == ("0", "0")
    # Spark keeps the result for five minutes, in case that its client comes back.
    eventually(lambda: running(server, session) == "0", 30, "it has ended")


def test_a_call_without_the_token_is_refused(server, session):
    answer = call(server, "Config", config_get(session, KEY), headers(session)[1:])
    assert answer.refused("UNAUTHENTICATED") == NO_TOKEN


@pytest.mark.parametrize("token", ["t0ken-of-that-instance", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), ""])
def test_a_call_with_another_token_is_refused(server, session, token):
    answer = call(server, "Config", config_get(session, KEY), headers(session, token=token))
    assert answer.refused("UNAUTHENTICATED") == WRONG_TOKEN


def test_two_tokens_are_refused_even_if_the_first_is_right(server, session):
    answer = call(server, "Config", config_get(session, KEY), [*headers(session), ("authorization", f"Bearer {TOKEN}")])
    assert answer.refused("UNAUTHENTICATED") == WRONG_TOKEN


def test_a_token_that_only_spark_was_told_of_is_refused(start, session):
    """The setting beats the variable in Spark's own check."""
    address, _ = start(TOKEN, {"spark.connect.authenticate.token": "of-the-template"})
    answer = call(address, "Config", config_get(session, KEY), headers(session, token="of-the-template"))
    assert answer.refused("UNAUTHENTICATED") == WRONG_TOKEN
    assert call(address, "Config", config_get(session, KEY), headers(session)).code == "UNAUTHENTICATED"


@pytest.mark.parametrize(("name", "count"), [(n, c) for n in ("x-spark-session-id", "x-spark-session-user-bin") for c in (0, 2)])
def test_each_header_must_be_there_once(server, session, name, count):
    rest = [header for header in headers(session) if header[0] != name]
    value = dict(headers(session))[name]
    answer = call(server, "Config", config_get(session, KEY), [*rest, *([(name, value)] * count)])
    expected = f"The header {name}, which the gateway sets, must be there once, and is there {count} times."
    assert answer.refused("PERMISSION_DENIED") == expected


def test_a_name_that_is_not_utf_8_is_refused(server, session):
    answer = call(server, "Config", config_get(session, KEY), [*headers(session)[:2], ("x-spark-session-user-bin", b"\xff")])
    expected = "The header x-spark-session-user-bin, which the gateway sets, is not UTF-8."
    assert answer.refused("PERMISSION_DENIED") == expected


@pytest.mark.parametrize(("who", "user", "of"), [("user", "", "uuid"), ("session", "alice", "")])
def test_an_empty_identity_is_refused(server, session, who, user, of):
    answer = call(server, "Config", config_get(session, KEY), headers(session if of else "", user))
    assert answer.refused("PERMISSION_DENIED") == f"The gateway named no {who}."


@pytest.mark.parametrize("service", ["grpc.health.v1.Health/Check", "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"])
def test_other_services_need_the_token_and_no_session(server, service):
    assert call(server, f"/{service}", b"", []).code in ("UNAUTHENTICATED", "UNIMPLEMENTED")
    assert call(server, f"/{service}", b"", headers("")[:1]).code in ("OK", "UNIMPLEMENTED")


METHODS = {
    "ExecutePlan": pb.ExecutePlanRequest,
    "AnalyzePlan": pb.AnalyzePlanRequest,
    "Config": pb.ConfigRequest,
    "AddArtifacts": pb.AddArtifactsRequest,
    "ArtifactStatus": pb.ArtifactStatusesRequest,
    "Interrupt": pb.InterruptRequest,
    "ReattachExecute": pb.ReattachExecuteRequest,
    "ReleaseExecute": pb.ReleaseExecuteRequest,
    "ReleaseSession": pb.ReleaseSessionRequest,
    "FetchErrorDetails": pb.FetchErrorDetailsRequest,
    "CloneSession": pb.CloneSessionRequest,
}


def test_no_method_of_spark_connect_is_left_out():
    assert set(METHODS) == {method.name for method in pb.base_pb2.DESCRIPTOR.services_by_name["SparkConnectService"].methods}


@pytest.mark.parametrize("method", METHODS)
def test_no_method_reaches_another_session(server, session, method):
    name = METHODS[method].DESCRIPTOR.name.removesuffix("Request")
    for said in (str(uuid.uuid4()), "", session[:-1], session + "0", session.upper()):
        request = METHODS[method](**head(said)).SerializeToString()
        assert call(server, method, request, headers(session)).refused("PERMISSION_DENIED") == other_session(name, session)


@pytest.mark.parametrize("victim", [str(uuid.uuid4()), None], ids=["another", "capitals"])
@pytest.mark.parametrize("value", ["small", MEGABYTES_20], ids=["small", "20 MB"])
def test_a_session_id_further_on_in_the_message_does_not_pass(server, session, value, victim):
    """Capitals are those of another session in Spark, which nobody would count or end."""
    victim = victim or session.upper()
    forged = config_set(session, KEY, value) + again(session=victim)
    answer = call(server, "Config", forged, headers(session))
    assert answer.refused("PERMISSION_DENIED") == other_session("Config", session)
    assert call(server, "Config", config_get(victim, KEY), headers(victim)).pairs() == {KEY: ""}


@pytest.mark.parametrize("value", ["small", MEGABYTES_20], ids=["small", "20 MB"])
def test_a_user_further_on_in_the_message_changes_nothing(server, session, value):
    call(server, "Config", config_set(session, KEY, value) + again(session=session, user="bob"), headers(session)).pairs()
    assert call(server, "Config", config_get(session, KEY), headers(session, "alice")).pairs() == {KEY: value}
    assert call(server, "Config", config_get(session, KEY), headers(session, "bob")).pairs() == {KEY: ""}


def test_the_user_is_the_one_of_the_header(server, session):
    call(server, "Config", config_set(session, KEY, "hers", user="u1"), headers(session, "alice")).pairs()
    assert call(server, "Config", config_get(session, KEY, user="u2"), headers(session, "alice")).pairs() == {KEY: "hers"}
    assert call(server, "Config", config_get(session, KEY, user="u1"), headers(session, "bob")).pairs() == {KEY: ""}


def test_a_name_outside_ascii_is_a_user_like_others(server, session):
    call(server, "Config", config_set(session, KEY, "hers"), headers(session, "Zoë,=\n")).pairs()
    assert call(server, "Config", config_get(session, KEY), headers(session, "Zoë,=\n")).pairs() == {KEY: "hers"}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_every_message_of_a_stream_is_looked_at(server, session, place):
    sessions = [session] * 3
    sessions[place] = str(uuid.uuid4())
    stream = [artifact(said, f"files/{n}.txt") for n, said in enumerate(sessions)]
    answer = call(server, "AddArtifacts", stream, headers(session))
    assert answer.refused("PERMISSION_DENIED") == other_session("AddArtifacts", session)


def test_a_whole_session_works(server):
    argv = [os.environ["PYTHON"], "-W", "ignore", "-c", SESSION + WHOLE, server, TOKEN, "alice"]
    said = run(argv, timeout=90).succeeded().out.splitlines()
    assert said[:4] == ["50 3", "20000", "UNRESOLVED_COLUMN.WITH_SUGGESTION", "[]"]
    assert said[4:] == ["null", "127.0.0.1"], "the token cannot be asked for in SQL, and other variables can"


def test_foreach_batch_works_for_users_of_every_name(server):
    """Spark puts the name into a URL as it is, in which each of these characters has a meaning."""
    argv = [os.environ["PYTHON"], "-W", "ignore", "-c", SESSION + FOREACH_BATCH, server, TOKEN, "Zoë;token=x/?#%41 \n+@b"]
    assert run(argv, timeout=90).succeeded().out == "7 3\n"


def test_a_server_without_a_token_refuses_everything_and_says_why(start, session):
    address, log = start(None)
    for token in ("", "null", TOKEN):
        answer = call(address, "Config", config_get(session, KEY), headers(session, token=token))
        assert answer.refused("UNAUTHENTICATED") == NOT_SET
    assert f"ERROR IdentityInterceptor: {NOT_SET}" in log.read_text()
