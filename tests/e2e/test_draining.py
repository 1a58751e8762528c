"""An instance that its administrator empties: it keeps what it has, takes nothing new, and goes with its last session."""

DRAIN = "sparkinteractive.io/drain=true"


def test_a_draining_instance_serves_its_session_to_the_end(
    new_pool, shells, pyspark, remote_url, kubectl, objects, thing, envoy_admin, eventually, users
):
    alice, bob = users
    pool = new_pool("draining", "connect", replicas={"min": 0, "max": 2})
    first, second = f"{pool}-0", f"{pool}-1"
    shell = shells("pyspark", remote_url(alice, host=f"{pool}.test"))
    shell.say("SELECT 'before'")
    shell.until("before", 90)

    kubectl("annotate", "sparkapplication", first, DRAIN)
    eventually(lambda: [i["state"] for i in thing("ssp", pool)["status"]["instances"]] == ["Draining"], 10, "it drains")
    assert pyspark("print(spark.range(3).count())", remote_url(bob, host=f"{pool}.test")).succeeded().out == "3\n"
    placed = {s["spec"]["user"]: s["status"]["assignedInstance"] for s in objects("sis") if s["spec"]["pool"] == pool}
    assert placed == {alice: first, bob: second}

    shell.say("SELECT 'after'")
    shell.until("after", 30)
    assert f"{first}/" in envoy_admin("/clusters?format=json")
    assert "InstanceDraining" in kubectl("get", "events", f"--field-selector=involvedObject.name={pool}")

    [session] = [s["metadata"]["name"] for s in objects("sis") if s["spec"] == {**s["spec"], "user": alice, "pool": pool}]
    kubectl("delete", "sis", session)
    eventually(lambda: not thing("sparkapplication", first), 20, "it goes with its last session")
    eventually(lambda: f"{first}/" not in envoy_admin("/clusters?format=json"), 20, "Envoy has forgotten it")
    assert thing("sparkapplication", second), "the other one stays"
