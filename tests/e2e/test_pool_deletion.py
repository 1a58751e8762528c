"""Deleting pools while somebody uses them."""

import json

from clients import NAMES, condition


def test_deleted_pools_take_their_sessions_and_servers_with_them(
    new_pool, shells, remote_url, kubectl, objects, thing, envoy_admin, environment, eventually, users
):
    pools = {kind: new_pool("deleted", kind) for kind in ("connect", "thrift")}
    host = {kind: pool + NAMES for kind, pool in pools.items()}
    shell = {
        "connect": shells("pyspark", remote_url(users[0], host=host["connect"])),
        "thrift": shells("pyhive", users[0], host=host["thrift"]),
    }
    sessions = {}
    for kind in pools:
        shell[kind].say("SELECT concat('first', '-done')")
    for kind, pool in pools.items():
        shell[kind].until("first-done", 90)
        (session,) = objects("sis", f"--field-selector=spec.pool={pool}")
        sessions[kind] = session["metadata"]["name"]
        label = ("-l", f"sparkinteractive.io/pool={pool}")
        assert len(objects("sparkapplications", *label)) == len(objects("pods", *label)) == 1
        assert len(drivers(environment, pool)) == 1
        assert f"{pool}-0/" in envoy_admin("/clusters")

    kubectl("delete", "ssp", *pools.values())
    for kind, pool in pools.items():
        label = ("-l", f"sparkinteractive.io/pool={pool}")
        eventually(lambda: not objects("sparkapplications", *label), 30, "its SparkApplications are gone")
        eventually(lambda: not objects("pods", *label), 30, "its driver Pods are gone")
        eventually(lambda: not drivers(environment, pool), 30, "its JVMs are gone")
        eventually(lambda: f"{pool}-0/" not in envoy_admin("/clusters"), 10, "Envoy has forgotten them")

        session = thing("sis", sessions[kind])
        assert session["status"]["state"] == "Terminated"
        ready = condition(session, "Ready")
        assert (ready["reason"], ready["message"]) == ("PoolDeleted", f"Pool {pool} was deleted, and the session with it.")
        events = kubectl("get", "events", f"--field-selector=involvedObject.name={sessions[kind]}")
        assert "SessionTerminating" in events and "SessionTerminated" in events, "it was released on Spark first"

        shell[kind].say("SELECT 1")
        told = shell[kind].fails(30)
        print(told)
        assert ready["message"] in told


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
