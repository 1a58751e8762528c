"""Envoy is killed and started again."""

import os
import signal



def test_queries_work_again_at_once(shells, remote_url, pyhive, beeline, environment, objects, users):
    user = users[0]
    pyspark = shells("pyspark", remote_url(user))
    pyspark.say("SELECT concat('before', '-done')")
    pyspark.until("before-done", 90)
    pyhive("SELECT 1", user).succeeded()
    before = {session["metadata"]["uid"] for session in objects("sis")}

    killed = environment.pid("envoy")
    os.killpg(killed, signal.SIGKILL)
    environment.up()
    assert environment.pid("envoy") != killed

    # No client tries again here: the first request of each is answered.
    assert pyhive("SELECT current_user()", user).succeeded().out == f"{user}\n"
    assert beeline("SELECT current_user()", user).succeeded().rows()[1] == [user]
    pyspark.say("SELECT concat('after', '-done')")
    pyspark.until("after-done", 15)
    assert "FAILED" not in pyspark.text
    assert {session["metadata"]["uid"] for session in objects("sis")} == before, "in the same sessions"
