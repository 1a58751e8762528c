"""Several programs of one user: with a name they share a session, without one each has its own."""

import re

import pytest

PARTITIONS = "spark.sql.shuffle.partitions"
NAME = {"x-spark-session": "etl"}
SET = f"SET {PARTITIONS}"


@pytest.fixture
def etl(objects, users):
    """etl() -> the object of the user's session of that name."""

    def find() -> dict:
        of_user = objects("sis", f"--field-selector=spec.user={users[0]},spec.pool=connect")
        (found,) = [session for session in of_user if session["spec"].get("name") == "etl"]
        return found

    return find


def test_two_programs_share_a_session_and_the_last_one_ends_it(
    shells, remote_url, new_session, etl, objects, eventually, users
):
    name = new_session(users[0], "connect", name="etl", sparkConf={PARTITIONS: "33"})
    first, second = (shells("pyspark", remote_url(users[0], more=NAME)) for _ in range(2))
    for shell in (first, second):
        shell.says(SET, f"{PARTITIONS} 33\n", 90)
    session = etl()
    assert session["metadata"]["name"] == name, "the one that was made for them"
    ids = session["status"]["clientSessionIds"]
    assert len(ids) == 2 and sorted(ids) == sorted(session["status"]["preparedSessionIds"])
    of_user = objects("sis", f"--field-selector=spec.user={users[0]},spec.pool=connect,status.state=Active")
    assert [other["metadata"]["name"] for other in of_user] == [name], "one place for both"

    first.say("CREATE TEMPORARY VIEW mine AS SELECT concat('first', '-view') AS word")
    first.says("SELECT word FROM mine", "first-view", 30)
    second.say("SELECT word FROM mine")
    assert "[TABLE_OR_VIEW_NOT_FOUND]" in second.fails(30), "each has temporary views of its own"

    first.says("!spark.stop(); print('stopped', flush=True)", "stopped", 30)
    eventually(lambda: len(etl()["status"]["clientSessionIds"]) == 1, 5, "the first one is gone from the list")
    second.says("SELECT concat('second', '-goes-on')", "second-goes-on", 30)
    assert etl()["status"]["state"] == "Active"

    second.says("!spark.stop(); print('stopped', flush=True)", "stopped", 30)
    eventually(lambda: etl()["status"]["state"] == "Terminated", 5, "the last one ends it")
    (ready,) = etl()["status"]["conditions"]
    assert (ready["reason"], ready["message"]) == ("Released", "The client ended the session.")


def test_a_program_goes_on_where_another_one_left_off(pyspark, remote_url, etl, users):
    pyspark("spark.range(1).collect()", remote_url(users[0], more=NAME), stop=False).succeeded()
    mine = remote_url(users[0], more={"session_id": etl()["status"]["sessionId"]})
    pyspark("spark.sql(\"SELECT 'kept' AS word\").createTempView('left')", mine, stop=False).succeeded()
    assert pyspark("print(spark.table('left').collect()[0].word)", mine, stop=False).succeeded().out == "kept\n"
    assert etl()["status"]["state"] == "Active"


def test_five_notebooks_of_one_user_work_side_by_side(shells, remote_url, objects, users):
    notebooks = [shells("pyspark", remote_url(users[0])) for _ in range(5)]
    for n, notebook in enumerate(notebooks):
        notebook.say(f"CREATE TEMPORARY VIEW mine AS SELECT concat('view-', '{n}') AS word")
    for rows in (2000, 1000):
        for notebook in notebooks:
            notebook.say(f"SELECT max(word), count(DISTINCT id % {rows}) FROM mine, range(100000)")
        for n, notebook in enumerate(notebooks):
            notebook.until(f"view-{n} {rows}\n", 120)
    active = objects("sis", f"--field-selector=spec.user={users[0]},spec.pool=connect,status.state=Active")
    assert len(active) == 5
    assert len({session["status"]["sessionId"] for session in active}) == 5
    assert not any(re.search("FAILED", notebook.text) for notebook in notebooks)
