"""The operator is killed while queries run: none is cut, and everything goes on from what the API server and Envoy know."""

import re
import uuid

SECONDS = 15
# Runs that long, and prints a word that does not stand in the query itself.
SLOW = f"SELECT concat('slow', '-done'), java_method('java.lang.Thread', 'sleep', {SECONDS}000L)"


def test_queries_outlive_the_operator(
    shells, remote_url, restart_operator, environment, envoy_admin, thing, objects, eventually, users
):
    user = users[0]
    session_id = str(uuid.uuid4())
    pyspark, beeline = shells("pyspark", remote_url(user, more={"session_id": session_id})), shells("beeline", user)
    for shell in (pyspark, beeline):
        shell.say("SELECT concat('fast', '-done');" if shell is beeline else "SELECT concat('fast', '-done')")
        shell.until("fast-done", 90)
    before = {session["metadata"]["uid"]: session["status"]["assignedInstance"] for session in objects("sis")}

    pyspark.say(SLOW)
    beeline.say(f"{SLOW};")
    for pool in ("connect", "thrift"):
        running = rf"^{pool}-\d+/.*::rq_active::[1-9]"
        eventually(lambda: re.search(running, envoy_admin("/clusters"), re.M), 10, f"a query runs in pool {pool}")
    killed = environment.pid("operator")
    restart_operator()
    assert environment.pid("operator") != killed

    pyspark.until("slow-done", SECONDS + 30)
    beeline.until("slow-done", SECONDS + 30)
    for shell in (pyspark, beeline):
        shell.say("SELECT concat('next', '-done');" if shell is beeline else "SELECT concat('next', '-done')")
        shell.until("next-done", 30)
        assert "FAILED" not in shell.text and "Error" not in shell.text, shell.text
    after = {session["metadata"]["uid"]: session["status"]["assignedInstance"] for session in objects("sis")}
    assert after == before, "the same sessions on the same instances"
    assert thing("sis", f"connect-{session_id}")["status"]["state"] == "Active"


def test_a_pool_made_while_the_operator_was_down_is_served(operator_down, environment, new_pool, pyhive, thing, users):
    operator_down()
    pool = new_pool("meanwhile", "thrift", access={"users": ["nobody"]})
    environment.up()
    assert f"User {users[0]} may not use pool {pool}." in pyhive("SELECT 1", users[0], host=f"{pool}.test").complaint()
