"""Which Spark configuration PySpark's sessions have: of the pool, the quota, the session, and the client."""

import json
import uuid

import pytest

from clients import NAMES, condition

PARTITIONS = "spark.sql.shuffle.partitions"
BATCH = "spark.sql.inMemoryColumnarStorage.batchSize"
LOCKED = "spark.sql.autoBroadcastJoinThreshold"
WAREHOUSE = "spark.sql.warehouse.dir"
MEMORY = "spark.executor.memory"
# Spark itself shows nobody a key that is called a password.
SECRET = "spark.hadoop.example"
VALUE = f"value-{uuid.uuid4().hex}"

POLICY = {
    "defaultSessionConf": {PARTITIONS: "11", BATCH: "111", LOCKED: "1111", SECRET: VALUE, WAREHOUSE: "/x", MEMORY: "4g"},
    "quotas": [{"match": {"groups": ["data-science"]}, "sessionConf": {BATCH: "222"}}],
    "protectedConf": [LOCKED],
}
KEYS = (PARTITIONS, BATCH, LOCKED)
# Nothing is asked of Spark before.
READ = f"print(*[spark.conf.get(key) for key in {KEYS}])"
BY_SET = f"print(*[spark.sql(f'SET {{key}}').collect()[0].value for key in {KEYS}])"


@pytest.fixture(scope="module")
def pool(module_pool) -> str:
    return module_pool("conf", "connect", sessionPolicy=POLICY)


@pytest.fixture
def reads(pyspark, remote_url, pool):
    """reads(user, script, session id="") -> what the script prints in a session of the pool, which stays open."""

    def run(user: str, script: str, session_id: str | None = None) -> str:
        url = remote_url(user, more={"session_id": session_id or str(uuid.uuid4())}, host=pool + NAMES)
        return pyspark(script, url, stop=False).succeeded().out.strip()

    return run


@pytest.mark.parametrize("script", [READ, BY_SET])
def test_the_quota_of_the_users_group_overrides_the_pool(reads, users, script):
    data_scientist, analyst = users
    assert reads(data_scientist, script) == "11 222 1111"
    assert reads(analyst, script) == "11 111 1111"


def test_a_client_s_own_value_wins(reads, users):
    assert reads(users[0], f"spark.conf.set('{PARTITIONS}', '7'); {READ}") == "7 222 1111"


def test_an_id_in_upper_case_is_refused_and_in_lower_case_has_it_all(pyspark, remote_url, reads, pool, objects, users):
    """PySpark sends what the URL says, and to Spark each spelling is a session by itself: this one had no configuration."""
    session_id = str(uuid.uuid4())
    sent = session_id.upper()
    complaint = pyspark(READ, remote_url(users[0], more={"session_id": sent}, host=pool + NAMES)).complaint()
    assert complaint == (
        f"pyspark.errors.exceptions.connect.SparkConnectGrpcException: The session id {sent} has upper-case letters. Spark takes "
        f"an id in another spelling for another session, so send it as {session_id}."
    )
    assert f"{pool}-{session_id}" not in [session["metadata"]["name"] for session in objects("sis")]
    assert reads(users[0], READ, session_id) == "11 222 1111"


def test_a_session_made_by_kubectl_has_its_own_but_no_protected_key(reads, pool, new_session, thing, users):
    own = {PARTITIONS: "33", LOCKED: "3"}
    name = new_session(users[0], pool, groups=["data-science"], sparkConf=own)
    session_id = str(uuid.uuid4())
    assert reads(users[0], READ, session_id) == "33 222 1111"
    status = thing("sis", name)["status"]
    assert status["sessionId"] == session_id
    (refused,) = [refused for refused in status["conf"]["refused"] if refused["key"] == LOCKED]
    because = "because the pool's protectedConf lets no user set it"
    assert refused["reason"] == f"{LOCKED} of the session's sparkConf is not set, {because}"


def test_the_status_says_what_was_set_and_why_not_the_rest(reads, pool, thing, kubectl, environment, users):
    session_id = str(uuid.uuid4())
    assert reads(users[1], f"print(spark.conf.get('{SECRET}'))", session_id) == VALUE
    status = thing("sis", f"{pool}-{session_id}")["status"]
    assert status["state"] == "Active"
    assert status["conf"]["applied"] == sorted([PARTITIONS, BATCH, LOCKED, SECRET])
    reasons = {refused["key"]: refused["reason"] for refused in status["conf"]["refused"]}
    assert reasons == {
        key: f"{key} of the pool's defaultSessionConf is not set, because Spark takes it only when a server starts: it "
        "belongs into the pool's sparkApplicationTemplate"
        for key in (WAREHOUSE, MEMORY)
    }
    assert VALUE not in kubectl("get", "sis,events", "-o", "json")
    assert VALUE not in environment.log("operator")


def test_what_spark_itself_refuses_is_told_in_its_words_but_without_the_value(reads, pool, new_session, thing, users):
    name = new_session(users[0], pool, sparkConf={PARTITIONS: "many-partitions"})
    assert reads(users[0], READ) == "200 111 1111", "Spark's own default"
    reasons = {refused["key"]: refused["reason"] for refused in thing("sis", name)["status"]["conf"]["refused"]}
    words = f'[INVALID_CONF_VALUE.TYPE_MISMATCH] The value \'…\' in the config "{PARTITIONS}" is invalid. '
    assert reasons[PARTITIONS].startswith(words), reasons


def test_a_null_byte_in_a_value_is_refused_in_words(reads, pool, new_session, kubectl, thing, users):
    name = new_session(users[0], pool, sparkConf={PARTITIONS: "33"})
    patch = {"spec": {"sparkConf": {"spark.example": "a\u0000b", "spark.\u0000example": "c"}}}
    kubectl("patch", "sis", name, "--type=merge", "-p", json.dumps(patch))
    assert reads(users[0], READ).startswith("33 ")
    status = thing("sis", name)["status"]
    reasons = {refused["key"]: refused["reason"] for refused in status["conf"]["refused"]}
    for key in ("spark.example", r"spark.\0example"):
        words = f"{key} of the session's sparkConf is not set, because it holds a character that no configuration can have"
        assert reasons[key] == words
    assert condition({"status": status}, "Ready")["status"] == "True"
