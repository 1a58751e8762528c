"""Python code that runs beside a Spark Connect server: foreachBatch and listeners of streaming queries, which call the server
back, data sources and UDFs, which do not. All of it under the default, `identity: Enforced`; and what one user's code could
try against another user."""

import base64
import json
import uuid

import pyspark.sql.connect.proto as pb
import pytest

from clients import CONNECT_CLASS, NAMES, fetch, template
from connect_wire import call, config_get, config_set, head

TOKEN = "SPARK_CONNECT_AUTHENTICATE_TOKEN"
KEY = "spark.sql.session.mine"

# A table with seven rows, a view that only this session has, and a way to run a streaming query over the table once.
INCOMING = """
import json, os, time
spark.range(7).write.mode("overwrite").saveAsTable("incoming")
spark.range(3).createOrReplaceTempView("mine")
def stream(each):
    query = spark.readStream.table("incoming").writeStream.foreachBatch(each).trigger(availableNow=True).start()
    query.awaitTermination()
    assert query.exception() is None, query.exception()
"""

FOREACH_BATCH = (
    INCOMING
    + """
here = spark.session_id
def each(batch, number):
    session = batch.sparkSession
    mine = session.table("mine").count()
    user = session.sql("SELECT current_user()").collect()[0][0]
    row = (number, batch.count(), mine, user, session.session_id == here)
    session.createDataFrame([row], "batch long, rows long, mine long, user string, here boolean").createTempView("told")
stream(each)
(told,) = spark.table("told").collect()
print(told.batch, told.rows, told.mine, told.here, told.user == spark.sql("SELECT current_user()").collect()[0][0])
"""
)

# Waits for what listeners tell after a query's end.
WAIT = """
def eventually(told):
    deadline = time.monotonic() + 30
    while not told():
        assert time.monotonic() < deadline, "the listener has heard nothing"
        time.sleep(0.1)
"""

LISTENER = """
from pyspark.sql.streaming import StreamingQueryListener
class Listener(StreamingQueryListener):
    def onQueryStarted(self, event): pass
    def onQueryProgress(self, event):
        mine = self.spark.table("mine").count()
        rows = event.progress.numInputRows
        self.spark.createDataFrame([(rows, mine)], "rows long, mine long").createOrReplaceTempView("heard")
    def onQueryTerminated(self, event): pass
"""

# What a PySpark 3.5 client sends: the listener itself, for a worker of the server. One of 4.x listens in its own process.
ADD_TO_SERVER = """
import pyspark.sql.connect.proto as pb
from pyspark.serializers import CloudPickleSerializer
from pyspark.util import PythonEvalType
command = pb.Command()
add = command.streaming_query_manager_command.add_listener
add.id = "mine"
add.python_listener_payload.command = CloudPickleSerializer().dumps(Listener())
add.python_listener_payload.python_ver = "%d.%d" % sys.version_info[:2]
spark.client.execute_command(command)
"""

HEARD = """
stream(lambda batch, number: batch.count())
eventually(lambda: spark.catalog.tableExists("heard"))
print(*spark.table("heard").collect()[0])
"""

DATA_SOURCE = """
import os
from pyspark.sql.datasource import DataSource, DataSourceReader, SimpleDataSourceStreamReader
class Reader(DataSourceReader):
    def read(self, partition):
        yield ("batch", os.environ.get("%(token)s"))
class StreamReader(SimpleDataSourceStreamReader):
    def initialOffset(self): return {"at": 0}
    def read(self, start): return iter([("stream", os.environ.get("%(token)s"))] if start["at"] == 0 else []), {"at": 1}
    def readBetweenOffsets(self, start, end): return iter([("stream", os.environ.get("%(token)s"))])
class Source(DataSource):
    @classmethod
    def name(cls): return "mine"
    def schema(self): return "kind string, `planned with token %%s` string" %% (os.environ.get("%(token)s") is not None)
    def reader(self, schema): return Reader()
    def simpleStreamReader(self, schema): return StreamReader()
spark.dataSource.register(Source)
frame = spark.read.format("mine").load()
print(frame.columns[1], *frame.collect()[0])
writer = spark.readStream.format("mine").load().writeStream.format("memory").queryName("streamed")
writer.trigger(once=True).start().awaitTermination()
print(*spark.table("streamed").collect()[0])
from pyspark.sql.connect.functions import udf
print(*spark.range(1).select(udf(lambda: str(os.environ.get("%(token)s")))()).collect()[0])
""" % {"token": TOKEN}

# A shell whose user lets a batch tell what its process has: its environment and its arguments.
SEEN = (
    INCOMING
    + """
def each(batch, number):
    arguments = open("/proc/self/cmdline").read().split(chr(0))
    seen = json.dumps([dict(os.environ), arguments])
    batch.sparkSession.createDataFrame([(seen,)], "seen string").createOrReplaceTempView("seen")
stream(each)
print("SEEN", spark.table("seen").collect()[0][0], flush=True)
"""
)


@pytest.fixture(scope="module")
def pool(module_pool):
    """One driver for all of its users, with Spark's own pages."""
    shown = {"spark.ui.enabled": "true", "spark.ui.port": "4040"}
    spec = {"spec": template(CONNECT_CLASS, sparkConf=shown)}
    return module_pool("streaming", "connect", replicas={"min": 1, "max": 1}, sparkApplicationTemplate=spec)


@pytest.fixture
def url(remote_url, pool):
    return lambda user, **more: remote_url(user, host=f"{pool}{NAMES}", more=more)


def test_foreach_batch_works_in_the_session_of_its_user(pyspark, url, users):
    assert pyspark(FOREACH_BATCH, url(users[0])).succeeded().out == "0 7 3 True True\n"


def test_a_listener_in_a_client_of_4_x_works(pyspark, url, users):
    add = "spark.streams.addListener(Listener())"
    ran = pyspark(INCOMING + WAIT + LISTENER + add + HEARD, url(users[0])).succeeded()
    assert ran.out == "7 3\n"


def test_a_listener_in_the_server_works_in_the_session_of_its_user(pyspark, url, users):
    ran = pyspark(INCOMING + WAIT + LISTENER + ADD_TO_SERVER + HEARD, url(users[0])).succeeded()
    assert ran.out == "7 3\n"


def test_data_sources_and_udfs_work_and_are_given_no_token(pyspark, url, users):
    ran = pyspark(DATA_SOURCE, url(users[0])).succeeded()
    assert ran.out.splitlines() == ["planned with token False batch None", "stream None", "None"]


@pytest.fixture(scope="module")
def driver(objects, eventually, pool):
    """The address of the pool's only driver, and the token of its instance."""

    def found():
        return [pod for pod in objects("pods", f"-lsparkinteractive.io/pool={pool}") if pod["status"].get("podIP")]

    (pod,) = eventually(found, 60, "a driver")
    name = f"{pod['metadata']['labels']['sparkinteractive.io/instance']}-token"
    (secret,) = [secret for secret in objects("secrets") if secret["metadata"]["name"] == name]
    return pod["status"]["podIP"], base64.b64decode(secret["data"]["token"]).decode()


class Worker:
    """What Python code in a worker of alice's session could use."""

    def __init__(self, session: str, environment: dict[str, str], arguments: list[str]):
        self.session = session
        self.environment = environment
        self.arguments = arguments
        self.token = environment[TOKEN]
        self.login = [("authorization", f"Bearer {self.token}")]


@pytest.fixture
def worker(shells, url, users):
    """A worker of alice, whose session goes on."""
    session = str(uuid.uuid4())
    shell = shells("pyspark", url(users[0], session_id=session))
    shell.says(f"!exec({SEEN!r})", "SEEN", 90)
    line = next(line for line in shell.text.splitlines() if line.startswith("SEEN"))
    return Worker(session, *json.loads(line.removeprefix("SEEN ")))


@pytest.fixture
def victim(shells, url, users):
    """A session of bob on the same driver, with a setting."""
    session = str(uuid.uuid4())
    shells("pyspark", url(users[1], session_id=session)).says(f'!spark.conf.set("{KEY}", "his"); print("SET")', "SET", 90)
    return session


@pytest.fixture
def server(driver):
    """server(method, message, headers) is a call of a program beside the driver, at the server's own address."""
    return lambda method, message, headers: call(f"{driver[0]}:15002", method, message, headers)


def another_session(session):
    return f"This ConfigRequest names another session than the one that was checked, {session}."


def test_a_worker_has_nothing_of_the_instance(worker, driver):
    everything = json.dumps([worker.environment, worker.arguments])
    assert driver[1] not in everything
    assert worker.token not in json.dumps(worker.arguments), "all users of a machine see them"
    assert worker.token not in worker.environment["SPARK_CONNECT_LOCAL_URL"], "which the worker prints to the driver's log"


def test_the_token_of_a_worker_opens_its_own_session_only(worker, victim, server, users):
    alice, bob = users
    gateway = [("x-spark-session-id", victim), ("x-spark-session-user-bin", bob.encode())]
    for headers in (worker.login, worker.login + gateway):
        for user in (alice, bob):
            answer = server("Config", config_get(victim, KEY, user=user), headers)
            assert answer.refused("PERMISSION_DENIED") == another_session(worker.session)
            answer = server("Config", config_set(victim, KEY, "hers", user=user), headers)
            assert answer.refused("PERMISSION_DENIED") == another_session(worker.session)


def test_a_worker_is_the_user_of_its_session_whatever_it_says(worker, victim, server, driver, users):
    alice, bob = users
    server("Config", config_set(worker.session, KEY, "hers", user=bob), worker.login).pairs()
    gateway = [("authorization", f"Bearer {driver[1]}"), ("x-spark-session-id", worker.session)]
    for user, value in ((alice, "hers"), (bob, "")):
        headers = [*gateway, ("x-spark-session-user-bin", user.encode())]
        assert server("Config", config_get(worker.session, KEY), headers).pairs() == {KEY: value}


def test_nothing_else_that_a_worker_sees_opens_anything(worker, victim, server, users):
    values = {*worker.environment.values(), *worker.arguments} - {worker.token}
    gateway = [("x-spark-session-id", victim), ("x-spark-session-user-bin", users[1].encode())]
    for value in filter(lambda value: value.isascii() and value.isprintable(), values):
        answer = server("Config", config_get(victim, KEY), [("authorization", f"Bearer {value}"), *gateway])
        assert answer.code == "UNAUTHENTICATED", value
    for headers in (gateway, worker.login * 2 + gateway):
        assert server("Config", config_get(victim, KEY), headers).code == "UNAUTHENTICATED"


CLOSED = {"CloneSession": pb.CloneSessionRequest, "ReleaseSession": pb.ReleaseSessionRequest}


@pytest.mark.parametrize("method", CLOSED)
def test_a_worker_makes_and_ends_no_session(worker, server, method):
    answer = server(method, CLOSED[method](**head(worker.session)).SerializeToString(), worker.login)
    assert answer.refused("PERMISSION_DENIED") == (
        "The Python code of a streaming query works inside its session: it can neither end it nor clone it."
        f" {method} is for the program that opened the session."
    )
    server("Config", config_get(worker.session, KEY), worker.login).pairs()


def test_the_gateway_does_not_take_the_token_of_a_worker(worker, environment, pool):
    address, authority = f"127.0.0.1:{environment.port}", f"{pool}{NAMES}:{environment.port}"
    answer = call(address, "Config", config_get(worker.session, KEY), worker.login, authority=authority)
    assert answer.code == "UNAUTHENTICATED"


def test_the_token_ends_with_the_session(worker, kubectl, objects, server, eventually):
    server("Config", config_get(worker.session, KEY), worker.login).pairs()
    (session,) = [s["metadata"]["name"] for s in objects("sis") if s.get("status", {}).get("sessionId") == worker.session]
    kubectl("delete", "sis", session)
    question = config_get(worker.session, KEY)
    answer = eventually(lambda: (a := server("Config", question, worker.login)).code != "OK" and a, 30, "a refusal")
    assert answer.refused("UNAUTHENTICATED") == "The session that this Python worker was started for has ended."


def test_neither_sql_nor_pages_nor_the_log_show_the_token(worker, environment, driver, pyspark, url, users):
    questions = [
        f"SELECT java_method('java.lang.System', 'getenv', '{TOKEN}')",
        "SELECT java_method('org.apache.spark.sql.connect.config.Connect', 'getAuthenticateToken')",
        "SET",
        "SET -v",
    ]
    script = f"for question in {questions!r}:\n    print(spark.sql(question).collect())\nprint(spark.conf.getAll)"
    said = [pyspark(script, url(user)).succeeded().out for user in users]
    pages = [fetch(f"http://{driver[0]}:4040/{page}/") for page in ("environment", "connect", "SQL", "StreamingQuery")]
    logs = [file.read_text(errors="replace") for file in (environment.state / "logs").glob("*-driver.log")]
    assert any("worker is starting with url" in log for log in logs)
    for text in (*said, *pages, *logs):
        assert worker.token not in text
        assert driver[1] not in text
    for text in said:
        assert text.splitlines()[:2] == [
            f"[Row(java_method(java.lang.System, getenv, {TOKEN})='null')]",
            "[Row(java_method(org.apache.spark.sql.connect.config.Connect, getAuthenticateToken)='None')]",
        ]
