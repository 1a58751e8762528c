"""How the interceptor gets into a driver: over HTTP, beside the jars of the template, or not at all."""

import json
import os
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest

from clients import CONNECT_CLASS, NAMES, template


@pytest.fixture(scope="module")
def served(environment):
    """The URL of the operator's folder with the jar."""
    return f"http://127.0.0.1:{json.loads((environment.state / 'environment.json').read_text())['ports']['identity-jar']}"


def test_the_operator_serves_the_jar_and_nothing_else(served):
    with urllib.request.urlopen(f"{served}/spark-session-identity.jar") as answer:
        assert answer.read() == Path(os.environ["SPARK_IDENTITY_JAR"]).read_bytes()
    for path in ("", "spark-session-identity.jar/x", "../secrets/oidc-client-secret", "metrics"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{served}/{path}")


@pytest.mark.parametrize("way", ["deps", "sparkConf"])
def test_the_jars_of_the_template_come_along(module_pool, pyspark, remote_url, users, served, way):
    """spark-submit forgets one of the two ways when both are used."""
    mine = f"{os.environ['SPARK_HOME']}/jars/" + next(n for n in os.listdir(f"{os.environ['SPARK_HOME']}/jars") if "zstd" in n)
    spec = template(CONNECT_CLASS, **({"deps": {"jars": [mine]}} if way == "deps" else {"sparkConf": {"spark.jars": mine}}))
    pool = module_pool(f"jars-{way.lower()}", "connect", sparkApplicationTemplate={"spec": spec})
    ran = pyspark('print(spark.conf.get("spark.jars"))', remote_url(users[0], host=pool + NAMES)).succeeded()
    assert [jar.rpartition("/")[2] for jar in ran.out.strip().split(",")] == [Path(mine).name, "spark-session-identity.jar"]


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("{served}/another.jar", "java.io.FileNotFoundException: {served}/another.jar"),
        ("http://127.0.0.1:1/spark-session-identity.jar", "java.net.ConnectException: Connection refused"),
    ],
)
def test_a_driver_without_its_jar_fails_and_says_why(kubectl, thing, eventually, served, url, cause):
    name = f"no-jar-{uuid.uuid4().hex[:5]}"
    spec = template(CONNECT_CLASS, sparkConf={"spark.jars": url.format(served=served)})
    manifest = {"apiVersion": "sparkoperator.k8s.io/v1beta2", "kind": "SparkApplication", "metadata": {"name": name}}
    kubectl("create", "-f", "-", stdin=json.dumps({**manifest, "spec": spec}))

    def failed():
        state = thing("sparkapplication", name).get("status", {}).get("applicationState", {})
        return state.get("state") == "FAILED" and state["errorMessage"]

    assert cause.format(served=served) in eventually(failed, 60, "the application fails")
    kubectl("delete", "sparkapplication", name, "--wait=false")
