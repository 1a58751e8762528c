"""Pools that cannot start a server: what their users and their administrators are told.

Each pool fails while its clients wait; all of them wait side by side, since a failure takes the time of three attempts.
"""

import json
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from clients import CONNECT_CLASS, MAIN_CLASS, THRIFT_CLASS, condition, template

CLIENTS = {"pyspark": "connect", "beeline": "thrift", "pyhive": "thrift"}

# Seconds: enough for a JVM to get as far as listening at the wrong port.
START_TIMEOUT = 25

# What is wrong with each pool.
FAULTS = {
    # The API server refuses a SparkApplication like this.
    "refused": lambda kind: {"sparkApplicationTemplate": {"spec": template(MAIN_CLASS[kind], driver="x")}},
    # The driver fails.
    "failing": lambda kind: {"sparkApplicationTemplate": {"spec": template("org.example.Missing")}},
    # The driver runs for ever, but serves the other protocol, at another port.
    "silent": lambda kind: {
        "sparkApplicationTemplate": {"spec": template(THRIFT_CLASS if kind == "connect" else CONNECT_CLASS)},
        "sessionPolicy": {"startTimeoutSeconds": START_TIMEOUT},
    },
}


@pytest.fixture(autouse=True)
def sessions_end():
    """Sessions end with the file here: while one test ends, the clients of others wait."""


@pytest.fixture(scope="module")
def pools(module_pool) -> dict[tuple[str, str], str]:
    """By fault and client. Silent pools are each client's own: one that comes later would find an instance that has failed."""
    made = {}
    for fault, spec in FAULTS.items():
        for client, kind in CLIENTS.items():
            shared = fault != "silent" and kind == "thrift" and made.get((fault, "beeline"))
            made[fault, client] = shared or module_pool(fault, kind, **spec(kind))
    return made


@pytest.fixture(scope="module")
def complaints(pools, pyspark, beeline, pyhive, remote_url, environment) -> dict[tuple[str, str], Future[str]]:
    """What each client's user is told by each pool. Each client has a session of its own."""

    def complaint(client: str, pool: str) -> str:
        user, host = environment["SPARK_USER_NAME"], f"{pool}.test"
        if client == "pyspark":
            return pyspark("spark.range(1).collect()", remote_url(user, host=host)).complaint()
        call = {"beeline": beeline, "pyhive": pyhive}[client]
        return call("SELECT 1", user, path=f"cliservice/{client}", host=host).complaint()

    with ThreadPoolExecutor() as threads:
        yield {
            (fault, client): threads.submit(complaint, client, pools[fault, client])
            for fault in FAULTS
            for client in CLIENTS
        }


@pytest.mark.parametrize("client", CLIENTS)
def test_a_template_that_is_refused(pools, complaints, thing, client):
    pool = pools["refused", client]
    complaint = complaints["refused", client].result()
    assert f"Pool {pool} cannot start an instance: the API server refuses the sparkApplicationTemplate: " in complaint
    assert 'spec.driver: Invalid value: "string"' in complaint, "the API server's own words"
    assert "The administrator of the pool has to correct it." in complaint

    ready = condition(thing("ssp", pool), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "TemplateRefused")
    assert "spec.driver" in ready["message"]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_server_that_never_answers(pools, complaints, client):
    pool, kind = pools["silent", client], CLIENTS[client]
    complaint = complaints["silent", client].result()
    cause = f"instance {pool}-0 is starting: its server does not answer at "
    assert f"No instance of pool {pool} was ready within {START_TIMEOUT} s: {cause}" in complaint
    assert {"connect": ":15002 yet", "thrift": ":10001 yet"}[kind] in complaint


@pytest.mark.parametrize("client", CLIENTS)
def test_a_user_waits_once_and_not_again_for_each_call_of_the_client(pools, complaints, environment, client):
    complaints["silent", client].result()
    log = environment.log("operator").splitlines()
    made = [line for line in log if "session created" in line and pools["silent", client] in line]
    assert len(made) == 1, made


def test_envoy_does_not_give_up_a_held_check(complaints, envoy_admin):
    """Its retries of checks, which outlive the operator, come with a time limit for each try."""
    for complaint in complaints.values():
        complaint.result()
    counter = "cluster.spark-session-operator.upstream_rq_per_try_timeout"
    assert envoy_admin(f"/stats?filter=^{counter}$").split() == [f"{counter}:", "0"]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_driver_that_fails(pools, complaints, thing, client):
    pool = pools["failing", client]
    complaint = complaints["failing", client].result()
    assert f"Pool {pool} cannot start an instance, 3 in a row failed. The last: instance {pool}-2 failed: " in complaint
    assert "org.example.Missing" in complaint, "the driver's own words"

    ready = condition(thing("ssp", pool), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "InstanceFailed")
    assert "org.example.Missing" in ready["message"]


def test_the_pools_events_tell_the_same(pools, complaints, kubectl):
    for complaint in complaints.values():
        complaint.result()
    refused = kubectl("get", "events", f"--field-selector=involvedObject.name={pools['refused', 'pyspark']}")
    assert "TemplateRefused" in refused and "spec.driver" in refused
    failing = kubectl("get", "events", f"--field-selector=involvedObject.name={pools['failing', 'pyspark']}")
    assert "InstanceFailed" in failing and "org.example.Missing" in failing


def test_a_pool_whose_template_was_corrected_works(new_pool, kubectl, thing, pyspark, remote_url, eventually, users):
    """Nobody has to restart anything, or to wait for the next attempt."""
    pool = new_pool("corrected", "connect", **FAULTS["refused"]("connect"))
    url = remote_url(users[0], host=f"{pool}.test")
    pyspark("spark.range(1).collect()", url).complaint()
    good = [{"op": "replace", "path": "/spec/sparkApplicationTemplate/spec", "value": template(CONNECT_CLASS)}]
    kubectl("patch", "ssp", pool, "--type=json", "-p", json.dumps(good))
    eventually(lambda: condition(thing("ssp", pool), "Ready").get("reason") != "TemplateRefused", 10, "the condition is gone")
    assert pyspark("print(spark.range(3).count())", url).succeeded().out == "3\n"
