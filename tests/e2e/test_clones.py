"""`spark.cloneSession()`: a copy is where its original is, whoever chooses its id, and counts as a session."""

import uuid

import pytest

from clients import NAMES

VIEW = "spark.sql('SELECT 42 AS answer').createTempView('mine'); spark.conf.set('spark.sql.shuffle.partitions', '7')\n"
# What `clone` sees of its original, and that the two are apart from then on.
LOOK = """
print(clone.sql("SELECT * FROM mine").collect()[0].answer, clone.conf.get("spark.sql.shuffle.partitions"))
clone.conf.set("spark.sql.shuffle.partitions", "8")
clone.sql("SELECT 43 AS answer").createOrReplaceTempView("mine")
print(spark.sql("SELECT * FROM mine").collect()[0].answer, spark.conf.get("spark.sql.shuffle.partitions"))
print(spark.session_id, clone.session_id)
"""
INHERITED, APART = "42 7", "42 7"


@pytest.fixture(scope="module")
def pool(module_pool, kubectl) -> str:
    """Two instances: a session that is placed anew goes to the one with fewer sessions."""
    policy = {"defaultSessionConf": {"spark.sql.shuffle.partitions": "11"}, "maxSessionsPerUser": 4}
    pool = module_pool("clones", "connect", replicas={"min": 2, "max": 2}, sessionPolicy=policy)
    kubectl("wait", f"ssp/{pool}", "--for=jsonpath={.status.readyReplicas}=2", "--timeout=90s")
    return pool


@pytest.fixture
def url(remote_url, pool, users):
    return lambda **more: remote_url(users[0], more=more, host=pool + NAMES)


@pytest.mark.parametrize("chosen_by", ["Spark's part", "the client"])
def test_a_clone_sees_the_views_of_its_original(pyspark, url, pool, thing, chosen_by):
    own = str(uuid.uuid4())
    argument = f"'{own}'" if chosen_by == "the client" else ""
    ran = pyspark(f"{VIEW}clone = spark.cloneSession({argument})\n{LOOK}", url(), stop=False).succeeded()
    inherited, apart, ids = ran.out.splitlines()
    assert (inherited, apart) == (INHERITED, APART)
    parent, clone = ids.split()
    assert chosen_by != "the client" or clone == own
    found = {of: thing("sis", f"{pool}-{of}") for of in (parent, clone)}
    assert found[clone]["spec"]["clonedFrom"] == f"{pool}-{parent}"
    assert found[clone]["status"]["state"] == "Active"
    assert found[clone]["status"]["assignedInstance"] == found[parent]["status"]["assignedInstance"]


def test_a_clone_of_a_clone_and_the_end_of_both(pyspark, url, pool, thing):
    script = f"""{VIEW}
clone = spark.cloneSession().cloneSession()
spark.stop()
print(clone.sql("SELECT * FROM mine").collect()[0].answer)
clone.client.release_session()  # as clone.stop() would, if PySpark 4.1.4 had not a fault there
print(clone.session_id)
"""
    answer, clone = pyspark(script, url(), stop=False).succeeded().out.split()
    assert answer == "42"
    assert thing("sis", f"{pool}-{clone}")["status"]["state"] == "Terminated"


def test_a_clone_counts_and_is_refused_in_words(pyspark, url, pool, users):
    script = """
spark.range(1).collect()
for n in range(4):
    spark.cloneSession()
"""
    told = pyspark(script, url(), stop=False).text
    assert f"Quota exceeded: user {users[0]} may have 4 session(s) in pool {pool} at the same time, and has 4" in told, told


def test_a_clone_of_a_named_session_stays_with_it(pyspark, url, pool, users, objects):
    name = f"etl-{uuid.uuid4().hex[:5]}"
    script = f"""{VIEW}
clone = spark.cloneSession()
print(clone.sql("SELECT * FROM mine").collect()[0].answer)
"""
    ran = pyspark(script, url(**{"x-spark-session": name}), stop=False).succeeded()
    assert ran.out.split() == ["42"]
    (session,) = [s for s in objects("sis", f"--field-selector=spec.pool={pool}") if s["spec"].get("name") == name]
    assert len(session["status"]["clientSessionIds"]) == 2


def test_another_user_s_id_is_not_taken(pyspark, remote_url, url, pool, users):
    of_bob = str(uuid.uuid4())
    pyspark("spark.range(1).collect()", remote_url(users[1], more={"session_id": of_bob}, host=pool + NAMES), stop=False).succeeded()
    told = pyspark(f"spark.range(1).collect(); spark.cloneSession('{of_bob}')", url(), stop=False).text
    assert f"Spark session {of_bob} belongs to another user" in told, told


def test_what_was_deleted_cannot_be_cloned(shells, url, pool, kubectl):
    session_id = str(uuid.uuid4())
    shell = shells("pyspark", url(session_id=session_id))
    shell.says("!print(spark.range(3).count(), 'rows', flush=True)", "3 rows\n", 60)
    kubectl("delete", "sis", f"{pool}-{session_id}")
    # PySpark shows what this call is refused for as gRPC does, in several lines.
    attempt = r"try:\n    spark.cloneSession()\nexcept Exception as error:\n    print(error.details(), flush=True)"
    shell.says(f'!exec("{attempt}")', "The session was deleted (kubectl delete). Start a new session.", 15)
