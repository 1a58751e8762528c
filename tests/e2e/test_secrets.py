"""Nothing of a credential reaches Spark, an object in the API, or a log."""

import base64
import json
import subprocess

import pytest

KINDS = "ssp,sis,sparkapplications,pods,events,configmaps,secrets"


def forms(user: str, secret: str) -> dict[str, bytes]:
    """What a log, an object or a heap would hold if it held this login."""
    both = f"{user}:{secret}".encode()
    return {
        "the password": secret.encode(),
        "base64 of the login": base64.b64encode(both).rstrip(b"="),
        "base64 of the password": base64.b64encode(secret.encode()).rstrip(b"="),
        "the password in UTF-16": secret.encode("utf-16-le"),
    }


@pytest.fixture(scope="module")
def logins(environment, pyspark, beeline, pyhive, remote_url, access_token) -> dict[str, bytes]:
    """Logs in, rightly and wrongly, with every client -> what must be found nowhere."""
    user = environment["SPARK_USER_NAME"]
    token = access_token(user)
    collect, wrong = "spark.range(1).collect()", "a-wrong-password-of-mine"
    pyspark(collect, remote_url(user)).succeeded()
    pyspark(collect, remote_url(user, token=token)).succeeded()
    pyspark(collect, remote_url(user, more={"x-spark-username": user, "x-spark-password": environment.password(user)})).succeeded()
    pyspark(collect, remote_url(user, wrong)).complaint()
    beeline("SELECT 1", user).succeeded()
    beeline("SELECT 1", user, wrong).complaint()
    pyhive("SELECT 1", user).succeeded()
    pyhive("SELECT 1", user, token).succeeded()
    pyhive("SELECT 1", user, path=f"cliservice/?password={environment.password(user)}").succeeded()
    signature = token.rpartition(".")[2].encode()
    client_secret = (environment.state / "secrets" / "oidc-client-secret").read_bytes()
    found = {"the token": signature, "the secret of the operator's client": client_secret}
    for name, secret in (("right", environment.password(user)), ("wrong", wrong)):
        found |= {f"{form} ({name})": value for form, value in forms(user, secret).items()}
    return found


def assert_free(content: bytes, logins: dict[str, bytes], place: str) -> None:
    for name, value in logins.items():
        at = content.find(value)
        assert at < 0, f"{place} holds {name}: …{content[max(0, at - 200) : at + 80]!r}…"


def test_no_log_holds_a_credential(environment, logins):
    logs = [file for file in (environment.state / "logs").glob("*.log") if not file.name.startswith("build-")]
    assert {"operator.log", "envoy.log"} <= {file.name for file in logs}
    assert any(file.name.endswith("-driver.log") for file in logs)
    for file in logs:
        assert_free(file.read_bytes(), logins, file.name)


def test_no_object_holds_a_credential(kubectl, logins):
    assert_free(kubectl("get", KINDS, "-o", "yaml").encode(), logins, f"kubectl get {KINDS}")


def test_envoy_shows_no_credential(envoy_admin, logins):
    for path in ("/config_dump?include_eds", "/stats", "/clusters"):
        assert_free(envoy_admin(path).encode(), logins, f"Envoy's {path}")


def test_no_memory_of_spark_holds_a_credential(environment, logins, tmp_path):
    """Its whole heap, in which the headers of the last requests lie around."""
    jcmd = f"{environment['JAVA_HOME']}/bin/jcmd"
    dumped = 0
    for file in (environment.state / "drivers").glob("*/driver.json"):
        record = json.loads(file.read_text())
        if record["phase"] != "RUNNING" or not record["app"].startswith(("connect-", "thrift-")):
            continue
        heap = tmp_path / f"{record['app']}.hprof"
        dump = [jcmd, str(record["pid"]), "GC.heap_dump", "-all", str(heap)]
        subprocess.run(dump, check=True, capture_output=True, timeout=60)
        content = heap.read_bytes()
        heap.unlink()
        if record["app"].startswith("thrift-"):
            told = base64.b64encode(f"{environment['SPARK_USER_NAME']}:x".encode())
            assert told in content, "headers can be found, and this is the one that Envoy sends"
        assert_free(content, logins, f"the heap of {record['app']}")
        dumped += 1
    assert dumped >= 2
