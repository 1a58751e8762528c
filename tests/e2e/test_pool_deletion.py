"""Deleting a pool."""

import json
import uuid

from clients import condition


def test_a_deleted_pool_takes_its_servers_with_it(
    new_pool, pyspark, remote_url, kubectl, objects, thing, envoy_admin, environment, eventually, users
):
    pool = new_pool("deleted", "connect")
    label = ("-l", f"sparkinteractive.io/pool={pool}")
    session_id = str(uuid.uuid4())
    url = remote_url(users[0], more={"session_id": session_id}, host=f"{pool}.test")
    pyspark("spark.range(1).collect()", url, stop=False).succeeded()
    assert len(objects("sparkapplications", *label)) == len(objects("pods", *label)) == 1
    assert len(drivers(environment, pool)) == 1
    assert f"{pool}-0/" in envoy_admin("/clusters")

    kubectl("delete", "ssp", pool)
    eventually(lambda: not objects("sparkapplications", *label), 30, "its SparkApplications are gone")
    eventually(lambda: not objects("pods", *label), 30, "its driver Pods are gone")
    eventually(lambda: not drivers(environment, pool), 30, "its JVMs are gone")
    eventually(lambda: f"{pool}-0/" not in envoy_admin("/clusters"), 10, "Envoy has forgotten them")

    session = thing("sis", f"{pool}-{session_id}")
    assert session["status"]["state"] == "Terminated"
    ready = condition(session, "Ready")
    assert (ready["reason"], ready["message"]) == ("PoolDeleted", f"Pool {pool} was deleted.")
    assert f"No pool has host {pool}.test." in pyspark("spark.range(1).collect()", url).complaint()


def drivers(environment, pool: str) -> list[int]:
    """Process ids of the JVMs that run for a pool."""
    records = [json.loads(file.read_text()) for file in (environment.state / "drivers").glob("*/driver.json")]
    pids = [record["pid"] for record in records if record["app"].startswith(f"{pool}-")]
    return [pid for pid in pids if alive(pid)]


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
