"""Which Spark configuration JDBC sessions have: of the pool, the quota, the session, and the client."""

import json
import uuid

import pytest

from clients import run, session_manifest

PARTITIONS = "spark.sql.shuffle.partitions"
BATCH = "spark.sql.inMemoryColumnarStorage.batchSize"
LOCKED = "spark.sql.autoBroadcastJoinThreshold"

POLICY = {
    "defaultSessionConf": {
        PARTITIONS: "11",
        BATCH: "111",
        LOCKED: "1111",
        "spark.hadoop.example": "pool's",
        "spark.executor.memory": "4g",  # of the Go operator's examples: no session can change it
    },
    "quotas": [{"match": {"groups": ["data-science"]}, "sessionConf": {BATCH: "222"}}],
    "protectedConf": [LOCKED, "spark.hadoop.*"],
}

# Arguments: host, port, path, user, password, keys; its input is the configuration as JSON. Prints the values, one a line.
PYHIVE_WITH_CONFIGURATION = """\
import json, socket, sys
import thrift.transport.THttpClient
from pyhive import hive
host, port, path, user, password, *keys = sys.argv[1:]
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda name, *more, **named: resolve("127.0.0.1" if name.endswith(".test") else name, *more, **named)
transport = thrift.transport.THttpClient.THttpClient(f"http://{host}:{port}/{path}")
hive.Connection._set_authorization_header(transport, user, password)
cursor = hive.connect(thrift_transport=transport, username=user, configuration=json.load(sys.stdin)).cursor()
for key in keys:
    cursor.execute(f"SET {key}")
    print(cursor.fetchall()[0][1])
"""


@pytest.fixture(scope="module")
def pool(module_pool, users, pyhive) -> str:
    """A pool with POLICY, whose instance runs."""
    pool = module_pool("conf", "thrift", sessionPolicy=POLICY)
    pyhive("SELECT 1", users[1], host=f"{pool}.test").succeeded()
    return pool


@pytest.fixture
def in_beeline(beeline, pool):
    """in_beeline(user, *keys, options="", path="cliservice") -> what `SET key` shows a session of beeline, key by key."""

    def call(user: str, *keys: str, options: str = "", path: str = "cliservice") -> list[str]:
        sql = ";".join(f"SET {key}" for key in keys)
        rows = beeline(sql, user, path=path, options=options, host=f"{pool}.test").succeeded().rows()
        return [value for key, value in rows if key != "key"]

    return call


@pytest.fixture
def in_pyhive(environment, pool):
    """in_pyhive(user, *keys, configuration={}) -> the same in PyHive."""

    def call(user: str, *keys: str, configuration: dict[str, str] | None = None, path: str = "cliservice") -> list[str]:
        argv = [environment["PYTHON"], "-W", "ignore", "-c", PYHIVE_WITH_CONFIGURATION, f"{pool}.test", environment.port, path]
        return run([*argv, user, environment.password(user), *keys], stdin=json.dumps(configuration or {})).succeeded().out.splitlines()

    return call


def test_the_quota_of_the_users_group_overrides_the_pool(in_beeline, in_pyhive, users):
    data_scientist, analyst = users
    for of in (in_beeline, in_pyhive):
        assert of(data_scientist, PARTITIONS, BATCH, LOCKED) == ["11", "222", "1111"]
        assert of(analyst, PARTITIONS, BATCH, LOCKED) == ["11", "111", "1111"]


def test_a_client_s_own_value_wins(in_beeline, in_pyhive, users):
    assert in_beeline(users[0], PARTITIONS, BATCH, options=f"?{PARTITIONS}=7") == ["7", "222"]
    assert in_beeline(users[0], PARTITIONS, BATCH, options=f"#{PARTITIONS}=8") == ["8", "222"]
    assert in_pyhive(users[0], PARTITIONS, BATCH, configuration={f"set:hiveconf:{PARTITIONS}": "9"}) == ["9", "222"]


def test_pyhive_s_configuration_without_prefix_is_nothing_to_spark(in_pyhive, users):
    assert in_pyhive(users[0], PARTITIONS, configuration={PARTITIONS: "9"}) == ["11"]


@pytest.mark.parametrize("sign", ["?", "#"])
def test_a_protected_key_in_a_jdbc_url_has_no_effect(in_beeline, users, sign):
    options = f"{sign}{LOCKED}=1;spark.hadoop.example=mine;{PARTITIONS}=7"
    assert in_beeline(users[0], LOCKED, "spark.hadoop.example", PARTITIONS, options=options) == ["1111", "pool's", "7"]


@pytest.mark.parametrize("form", ["set:hiveconf:{}", "set:hivevar:{}", "set:{}", "set: hiveconf:{}", "{}"])
def test_a_protected_key_has_no_effect_in_any_form(in_pyhive, users, form):
    assert in_pyhive(users[0], LOCKED, configuration={form.format(LOCKED): "1"}) == ["1111"]


def test_a_session_made_by_kubectl_has_its_own(in_beeline, in_pyhive, pool, kubectl, thing, eventually, users):
    """One for each client: with its last connection a session ends."""

    def made() -> str:
        own = {PARTITIONS: "33", LOCKED: "3", "spark.executor.cores": "9"}
        name = f"by-kubectl-{uuid.uuid4().hex[:8]}"
        manifest = session_manifest(name, users[0], pool)
        manifest["spec"] |= {"name": name, "groups": ["data-science"], "sparkConf": own}
        kubectl("create", "-f", "-", stdin=json.dumps(manifest))
        eventually(lambda: thing("sis", name).get("status", {}).get("state") == "Active", 10, "the session is placed")
        return f"cliservice/{name}"

    for of in (in_beeline, in_pyhive):
        assert of(users[0], PARTITIONS, BATCH, LOCKED, path=made()) == ["33", "222", "1111"]
    assert in_beeline(users[0], PARTITIONS, options=f"?{PARTITIONS}=7", path=made()) == ["7"]


def test_the_operator_s_log_says_what_was_refused_but_no_value(environment, in_beeline, pool, users):
    value = f"value-{uuid.uuid4().hex}"
    in_beeline(users[0], LOCKED, options=f"?spark.hadoop.example={value}")
    log = environment.log("operator")
    assert "spark.hadoop.example of the client is not set, because the pool's protectedConf lets no user set it" in log
    assert "spark.executor.memory of the pool's defaultSessionConf is not set, because Spark takes it only when" in log
    assert value not in log


def test_much_configuration_passes(in_pyhive, users):
    much = {f"set:hiveconf:example.{n}": "x" * 1000 for n in range(500)}
    assert in_pyhive(users[0], "example.499", PARTITIONS, configuration=much) == ["x" * 1000, "11"]


def test_too_much_is_refused_in_words(in_pyhive, users):
    too_much = {f"set:hiveconf:example.{n}": "x" * 1000 for n in range(1500)}
    with pytest.raises(AssertionError, match="The request that opens the session is longer than 1024 KiB"):
        in_pyhive(users[0], PARTITIONS, configuration=too_much)


def test_a_client_s_own_mark_changes_nothing(beeline, pool, users):
    """Neither does it come to Spark, nor does a call that is none become an OpenSession."""
    marked = ";http.header.x-spark-open-session=1"
    assert beeline("SELECT 1", users[0], options=marked, host=f"{pool}.test").succeeded().rows()[1] == ["1"]
