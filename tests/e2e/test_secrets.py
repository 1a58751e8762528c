"""Nothing of a credential reaches Spark, an object in the API, or a log: of the logins below, and, since this file is run
last (`conftest.py`), of all that the other tests have left behind."""

import base64
import json
import re
import subprocess
from pathlib import Path

import pytest

from clients import CONNECT_CLASS, NAMES, THRIFT_CLASS, fetch, template

KINDS = "ssp,sis,sparkapplications,pods,events,configmaps,leases"
TOKEN_TYPE = "sparkinteractive.io/instance-token"
WRONG = "a-wrong-password-of-mine"
# Of deploy/local/sparklocal/keycloak.py: those with whom other tests log in.
OTHERS = {"mallory": "mallory-password", "trent": "trent-password", "jürgen": "pä:ss:wört €"}
# Of whatever user and by whatever test: three parts of base64url, of which the first two begin with `{"`.
ANY_JWT = re.compile(rb"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}")
# As the tests name the passwords of users whom they make: <name>-<hexadecimal>-password.
ANY_PASSWORD = re.compile(rb"[a-z]+-[0-9a-f]{4,}-password")
CONNECT_PAGES = ("environment/", "connect/", "jobs/", "stages/", "executors/", "SQL/")
THRIFT_PAGES = ("environment/", "sqlserver/", "jobs/", "executors/", "SQL/")


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
def shown(module_pool) -> dict[str, str]:
    """A pool of each kind whose drivers have Spark's own pages."""
    page = {"spark.ui.enabled": "true", "spark.ui.port": "4040"}
    specs = {"connect": template(CONNECT_CLASS, sparkConf=page), "thrift": template(THRIFT_CLASS, sparkConf=page)}
    return {
        kind: module_pool(f"shown-{kind}", kind, replicas={"min": 1, "max": 1}, sparkApplicationTemplate={"spec": spec})
        for kind, spec in specs.items()
    }


@pytest.fixture(scope="module")
def logins(environment, pyspark, beeline, pyhive, remote_url, access_token, used_tokens, users, shown) -> dict[str, bytes]:
    """Logs in, rightly and wrongly, with every client -> what must be found nowhere."""
    user = users[0]
    token = access_token(user)
    collect = "spark.range(1).collect()"
    pyspark(collect, remote_url(user)).succeeded()
    pyspark(collect, remote_url(user, token=token)).succeeded()
    pyspark(collect, remote_url(user, more={"x-spark-username": user, "x-spark-password": environment.password(user)})).succeeded()
    pyspark(collect, remote_url(user, host=shown["connect"] + NAMES)).succeeded()
    pyspark(collect, remote_url(user, WRONG)).complaint()
    beeline("SELECT 1", user).succeeded()
    beeline("SELECT 1", user, WRONG).complaint()
    pyhive("SELECT 1", user).succeeded()
    pyhive("SELECT 1", user, host=shown["thrift"] + NAMES).succeeded()
    pyhive("SELECT 1", user, token).succeeded()
    pyhive("SELECT 1", user, path=f"cliservice/?password={environment.password(user)}").succeeded()
    client_secret = (environment.state / "secrets" / "oidc-client-secret").read_bytes()
    found = {"the secret of the operator's client": client_secret}
    found |= {f"token {number}": token.rpartition(".")[2].encode() for number, token in enumerate(sorted(used_tokens))}
    for name, secret in [*((user, environment.password(user)) for user in users), *OTHERS.items(), (user, WRONG)]:
        found |= {f"{form} ({name}, {secret})": value for form, value in forms(name, secret).items()}
    return found


@pytest.fixture(scope="module")
def everything(logins, instance_tokens, eventually) -> dict[str, bytes]:
    """The logins, and the tokens of all instances that there have been."""
    tokens = eventually(instance_tokens, 10, "the tokens of instances")
    found = dict(logins)
    for number, token in enumerate(sorted(tokens)):
        assert len(token) >= 43
        found[f"instance token {number}"] = token.encode()
        found[f"base64 of instance token {number}"] = base64.b64encode(token.encode()).rstrip(b"=")
    return found


def assert_free(content: bytes, secrets: dict[str, bytes], place: str) -> None:
    for name, value in secrets.items():
        at = content.find(value)
        assert at < 0, f"{place} holds {name}: …{content[max(0, at - 200) : at + 80]!r}…"
    for name, pattern in (("a JWT", ANY_JWT), ("a password", ANY_PASSWORD)):
        found = pattern.search(content)
        assert not found, f"{place} holds {name}: …{content[max(0, found.start() - 200) : found.end()]!r}…"


def test_no_log_holds_a_credential(environment, everything):
    logs = [file for file in (environment.state / "logs").glob("*.log") if not file.name.startswith("build-")]
    assert {"operator.log", "envoy.log"} <= {file.name for file in logs}
    assert any(file.name.endswith("-driver.log") for file in logs)
    for file in logs:
        assert_free(file.read_bytes(), everything, file.name)


def test_no_object_holds_a_credential(kubectl, everything):
    assert_free(kubectl("get", KINDS, "-o", "yaml").encode(), everything, f"kubectl get {KINDS}")


def test_no_secret_holds_a_login_and_only_its_own_one_an_instance_s_token(objects, logins, everything):
    for secret in objects("secrets"):
        own = secret["type"] == TOKEN_TYPE
        assert_free(json.dumps(secret).encode(), logins if own else everything, secret["metadata"]["name"])
        assert not own or list(secret["data"]) == ["token"]


def test_envoy_shows_no_credential(envoy_admin, everything):
    for path in ("/config_dump?include_eds", "/stats", "/stats/prometheus", "/clusters", "/certs"):
        assert_free(envoy_admin(path).encode(), everything, f"Envoy's {path}")


def test_the_operator_s_metrics_hold_no_credential(metrics, everything):
    assert_free(metrics().encode(), everything, "the operator's /metrics")


@pytest.mark.parametrize(("kind", "pages"), [("connect", CONNECT_PAGES), ("thrift", THRIFT_PAGES)])
def test_spark_s_own_pages_show_no_credential(objects, users, everything, shown, kind, pages):
    (pod,) = objects("pods", f"-lsparkinteractive.io/pool={shown[kind]}")
    ui = f"http://{pod['status']['podIP']}:4040"
    (application,) = json.loads(fetch(f"{ui}/api/v1/applications"))
    api = f"api/v1/applications/{application['id']}"
    for path in (*pages, f"{api}/environment", f"{api}/allexecutors", f"{api}/jobs"):
        page = fetch(f"{ui}/{path}").encode()
        assert_free(page, everything, f"{kind}: {path}")
        if path in ("connect/", "sqlserver/"):
            assert users[0].encode() in page, "the page of the sessions, on which this user is"


def test_no_command_line_holds_a_credential(environment, everything):
    """All users of a machine see them."""
    records = [*(environment.state / "pids").glob("*.json"), *(environment.state / "drivers").glob("*/driver.json")]
    looked_at = 0
    for file in records:
        command = Path(f"/proc/{json.loads(file.read_text())['pid']}/cmdline")
        if command.exists():
            assert_free(command.read_bytes(), everything, f"the command line of {file}")
            looked_at += 1
    assert looked_at >= 6


def test_no_memory_of_spark_holds_a_login(environment, logins, tmp_path):
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
