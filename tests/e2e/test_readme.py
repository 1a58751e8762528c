"""What the documents tell people to type works as it stands there. Only names of the examples are replaced, by tables."""

from __future__ import annotations

import base64
import json
import random
import shlex
import string
import uuid
from urllib.parse import quote

import pytest

import snippets
from clients import CONNECT_CLASS, Ran, run, template
from keycloak_admin import KeycloakAdmin

EXAMPLE_LOGIN = "alice:my-password"
# Commands that are left out, by how they start, and why.
LEFT_OUT = {
    "deploy/local/down": "it would end the environment in which the tests run",
    "envoy -c": "it runs until it is stopped; tests/envoy and deploy/local/up start it so",
    "spark-session-operator run": "it runs until it is stopped; deploy/local/up starts it with these flags",
}


def snippet(name: str) -> str:
    (found,) = [snippet for snippet in snippets.all_snippets() if snippet.test == name]
    return found.text


def test_every_snippet_is_tested_or_says_why_not():
    found = snippets.all_snippets()
    assert [s.place for s in found if not s.test and not s.reason] == [], "no comment says how these are tested"
    tested = [s.test for s in found if s.test]
    assert sorted(tested) == sorted(set(tested)), "two snippets have one test"
    functions = {name.removeprefix("test_") for name in globals()}
    assert [name for name in tested if name not in functions] == [], "these tests are missing"
    lines = [line for s in found if s.test for line in s.text.splitlines()]
    stale = [start for start in LEFT_OUT if not any(line.startswith(start) for line in lines)]
    assert stale == [], "no snippet has these commands"


@pytest.mark.parametrize(
    ("text", "place", "test", "reason"),
    [
        ("<!-- test: a -->\n```sh\nls\n```\n", "D:2", "a", None),
        ("x\n\n<!-- not tested: it is long -->\n```text\nls\n```\n", "D:4", None, "it is long"),
        ("<!-- test: a -->\n\n```sh\nls\n```\n", "D:3", None, None),
        ("```\nls\n```\n", "D:1", None, None),
    ],
)
def test_a_block_is_marked_by_the_comment_right_before_it(text, place, test, reason):
    (found,) = snippets.in_text("D", text)
    assert (found.place, found.test, found.reason, found.text) == (place, test, reason, "ls\n")


@pytest.fixture(scope="module")
def keycloak(environment) -> KeycloakAdmin:
    return KeycloakAdmin(environment["OIDC_ISSUER"], environment.state / "secrets" / "keycloak-admin")


@pytest.fixture(scope="module", params=["", "=", "=="], ids=["no-padding", "one", "two"])
def login(request, keycloak):
    """user:password whose base64 has this padding, and both of the characters that mean something else in a URL."""
    user = f"readme-{uuid.uuid4().hex[:6]}"
    while True:
        password = "".join(random.choices(string.ascii_letters + string.digits + ">?~", k=random.randint(12, 14)))
        encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
        if encoded.rstrip("=") + request.param == encoded and "/" in encoded and "+" in encoded:
            break
    user_id = keycloak.create_user(user, password)
    yield user, password
    keycloak.delete_user(user_id)


@pytest.fixture(scope="module")
def commands(environment, tmp_path_factory):
    """A folder with the programs under the names by which the documents call them."""
    folder = tmp_path_factory.mktemp("bin")
    operator = environment.state / "spark-session-operator"
    programs = {"kubectl": "KUBECTL", "beeline": "BEELINE", "python": "PYTHON", "envoy": "ENVOY_BINARY"}
    paths = {name: environment[variable] for name, variable in programs.items()}
    paths |= {"spark-session-operator": operator, "keytool": f"{environment['JAVA_HOME']}/bin/keytool"}
    for name, path in paths.items():
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.quote(str(path))} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def shell(environment, commands):
    """shell(text, folder) runs what a person would type, and stops at the first command that fails."""

    def call(text: str, folder=snippets.REPOSITORY, stdin: str | None = None, timeout: float = 180) -> Ran:
        for start in LEFT_OUT:
            text = snippets.without(text, start) if f"\n{start}" in f"\n{text}" else text
        path = f"{commands}:{environment['PATH']}"
        program = f"cd {shlex.quote(str(folder))}\n{text}"
        # `run` takes the variables away by which a developer's own Spark settings would reach a client.
        return run(["bash", "-euo", "pipefail", "-c", program], timeout, stdin, {"PATH": path}).succeeded()

    return call


def as_user(login: tuple[str, str], environment) -> dict[str, str]:
    return {EXAMPLE_LOGIN: ":".join(login), "spark.example.com:443": f"localhost:{environment.port}"}


def test_pyspark(environment, login):
    program = snippets.replaced(snippet("pyspark"), as_user(login, environment))
    ran = run([environment["PYTHON"], "-W", "ignore", "-c", program], 150).succeeded()
    assert ran.rows() == [["1"], ["1"]]


def test_pyspark_without_tls(environment, login):
    beginning, _, _ = snippet("pyspark").partition("spark = ")
    program = beginning + snippet("pyspark_without_tls") + "print(*spark.range(3).collect(), sep='\\n')\n"
    table = {EXAMPLE_LOGIN: ":".join(login), "spark.example.com:80": f"localhost:{environment.port}"}
    ran = run([environment["PYTHON"], "-W", "ignore", "-c", snippets.replaced(program, table)], 150).succeeded()
    assert ran.out.split() == ["Row(id=0)", "Row(id=1)", "Row(id=2)"]


def test_jdbc_url(environment, users):
    url = snippets.replaced(snippet("jdbc_url").strip(), {"spark.example.com:80": f"localhost:{environment.port}"})
    user = users[0]
    argv = [environment["BEELINE"], "--silent=true", "-u", url, "-n", user, "-p", environment.password(user)]
    assert run([*argv, "-e", "SELECT current_user();"], 150).succeeded().rows()[1] == [user]


def test_beeline(environment, login, shell):
    user, password = login
    table = {
        "-n alice": f"--silent=true -n {user}",
        "my-password": shlex.quote(password),
        "spark.example.com:80": f"localhost:{environment.port}",
    }
    ran = shell(snippets.replaced(snippet("beeline"), table), stdin="SELECT current_user();\n")
    assert ran.rows()[1] == [user]


def test_pyhive(environment, login):
    table = {EXAMPLE_LOGIN: ":".join(login), "spark.example.com:80": f"localhost:{environment.port}"}
    program = snippets.replaced(snippet("pyhive"), table)
    assert run([environment["PYTHON"], "-W", "ignore", "-c", program], 150).succeeded().out == "[(1,)]\n"


# The pool of the README, under another name and with a template that starts something here


@pytest.fixture(scope="module")
def pool_name():
    return f"readme-{uuid.uuid4().hex[:5]}"


@pytest.fixture(scope="module")
def readme_pool(kubectl, pool_name, tmp_path_factory):
    """-> a file with it. It is applied while the tests run that need it."""
    table = {"name: connect": f"name: {pool_name}", "spark.example.com": f"{pool_name}.test"}
    spec = json.dumps(template(CONNECT_CLASS))
    manifest = snippets.replaced(snippet("pool"), {**table, "spec: {}": f"spec: {spec}"})
    file = tmp_path_factory.mktemp("pool") / "pool.yaml"
    file.write_text(manifest)
    kubectl("apply", "--server-side", "-f", str(file))
    yield file
    kubectl("delete", "ssp", pool_name)


def test_pool(kubectl, thing, readme_pool, pool_name):
    as_printed = snippets.replaced(snippet("pool"), {"name: connect": f"name: {uuid.uuid4()}"})
    kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=as_printed)
    assert thing("ssp", pool_name)["spec"]["sessionPolicy"]["quotas"][0]["maxSessionsPerUser"] == 20


def test_session(kubectl):
    kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=snippet("session"))


def test_kubectl(kubectl, thing, readme_pool, pool_name, shell):
    session = f"nightly-{uuid.uuid4().hex[:5]}"
    table = {"name: nightly": f"name: {session}", "pool: connect": f"pool: {pool_name}"}
    kubectl("create", "-f", "-", stdin=snippets.replaced(snippet("session"), table))
    table = {
        "ssp/connect": f"ssp/{pool_name}",
        "ssp connect": f"ssp {pool_name}",
        "--pool connect": f"--pool {pool_name}",
        "connect-0": f"{pool_name}-0",
        "nightly": session,
    }
    ran = shell(snippets.replaced(snippet("kubectl"), table), timeout=600)
    for words in (
        f"sparksessionpool.sparkinteractive.io/{pool_name} condition met",
        f"sparksessionpool.sparkinteractive.io/{pool_name} scaled",
        f'sparkinteractivesession.sparkinteractive.io "{session}" deleted',
        f"sparkapplication.sparkoperator.k8s.io/{pool_name}-0 annotated",
    ):
        assert words in ran.out, ran.text
    assert "Events:" in ran.out and f"session   {session} of user alice" in ran.out, ran.text


def test_simulate(readme_pool, pool_name, shell, tmp_path):
    def record(time: str, event: str) -> str:
        named = {"user": "alice", "pool": pool_name, "session": "s"}
        return json.dumps({"timestamp": f"2026-11-30T{time}Z", "event": event, **named}) + "\n"

    (tmp_path / "audit.jsonl").write_text(record("09:00:10", "SessionCreated") + record("09:30:10", "SessionEnded"))
    (tmp_path / "pool.yaml").write_text(readme_pool.read_text())
    ran = shell(snippets.replaced(snippet("simulate"), {"ssp connect": f"ssp {pool_name}"}), tmp_path)
    assert "1 session(s) of 1 user(s)" in ran.out and "2000 session(s)" in ran.out, ran.text


def test_tls(kubectl, readme_pool, pool_name, shell, tmp_path):
    host, secret = f"{pool_name}.test", f"tls-{uuid.uuid4().hex[:5]}"
    run(certificate(host, tmp_path, "key.pem", "fullchain.pem")).succeeded()
    table = {"spark-example-com": secret, "ssp connect": f"ssp {pool_name}"}
    try:
        shell(snippets.replaced(snippet("tls"), table), tmp_path)
        kubectl("wait", f"ssp/{pool_name}", "--for=condition=CertificateReady")
    finally:
        kubectl("delete", "secret", secret, "--ignore-not-found")


def certificate(host: str, folder, key: str, cert: str) -> list[str]:
    """Signed by itself, so that it is its own CA."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split()
    names = ["-subj", "/CN=spark", "-addext", f"subjectAltName=DNS:{host}"]
    return [*command, *names, "-keyout", str(folder / key), "-out", str(folder / cert)]


@pytest.fixture(scope="module")
def tls_of_localhost(kubectl, module_pool, tmp_path_factory):
    """-> the folder with ca.crt, and another host with this certificate: Java asks no server by name (SNI) whose name has
    no dot. The pools of `localhost` have the certificate meanwhile."""
    folder = tmp_path_factory.mktemp("ca")
    host = f"internal-{uuid.uuid4().hex[:5]}.test"
    run(certificate(f"localhost,DNS:{host}", folder, "ca.key", "ca.crt")).succeeded()
    secret = {"tls": {"secretName": host}}
    kubectl("create", "secret", "tls", host, f"--cert={folder}/ca.crt", f"--key={folder}/ca.key")
    pools = ["connect", "thrift", module_pool("internal", "thrift", host=host, **secret)]
    for pool in pools[:2]:
        kubectl("patch", "ssp", pool, "--type=merge", "-p", json.dumps({"spec": secret}))
    try:
        for pool in pools:
            for ready in ("CertificateReady", "Programmed"):
                kubectl("wait", f"ssp/{pool}", f"--for=condition={ready}")
        yield folder, host
    finally:
        for pool in pools[:2]:
            kubectl("patch", "ssp", pool, "--type=json", "-p", '[{"op": "remove", "path": "/spec/tls"}]')
        kubectl("delete", "secret", host)


@pytest.fixture
def tls_port(environment) -> int:
    return json.loads((environment.state / "environment.json").read_text())["ports"]["envoy-tls"]


def test_internal_ca(environment, users, shell, tls_of_localhost, tls_port):
    user = users[0]
    password = environment.password(user)
    login = quote(base64.b64encode(f"{user}:{password}".encode()), safe="")
    folder, host = tls_of_localhost
    (folder / "hosts").write_text(f"127.0.0.1 {host}\n")
    table = {
        "sc://spark.example.com:443": f"sc://localhost:{tls_port}",
        "jdbc:hive2://spark.example.com:443": f"jdbc:hive2://{host}:{tls_port}",
        "YWxpY2U6bXktcGFzc3dvcmQ": login,
        "-n alice -p my-password": f"--silent=true -n {user} -p {password}",
    }
    resolved = f"export SPARK_BEELINE_OPTS=-Djdk.net.hosts.file={folder}/hosts\n"
    ran = shell(resolved + snippets.replaced(snippet("internal_ca"), table), folder)
    assert ran.rows() == [["1"], ["1"], ["1"], ["1"]], ran.text


def test_pyhive_and_an_internal_ca(environment, users, tls_of_localhost, tls_port):
    """As the table in the README says it."""
    login = f"{users[0]}:{environment.password(users[0])}"
    table = {
        EXAMPLE_LOGIN: login,
        '"http://spark.example.com:80/cliservice"': f'"https://localhost:{tls_port}/cliservice", cafile="ca.crt"',
    }
    program = f"import os\nos.chdir({str(tls_of_localhost[0])!r})\n" + snippets.replaced(snippet("pyhive"), table)
    assert run([environment["PYTHON"], "-W", "ignore", "-c", program], 150).succeeded().out == "[(1,)]\n"


# The other documents


def test_local_environment(environment, shell):
    state = shlex.quote(str(environment.state))
    table = {
        "deploy/local/env": f"deploy/local/env --state {state}",
        "target/local/spark-session-operator": f"{state}/spark-session-operator",
        "deploy/local/status": f"deploy/local/status --state {state}",
    }
    ran = shell(snippets.replaced(snippet("local_environment"), table))
    assert "simulate" in ran.out and "envoy-admin" in ran.out or "envoy " in ran.out, ran.text


def test_local_commands(environment, shell):
    state = shlex.quote(str(environment.state))
    table = {f"deploy/local/{word} ": f"deploy/local/{word} --state {state} " for word in ("env", "up    ")}
    table["deploy/local/status"] = f"deploy/local/status --state {state}"
    ran = shell(snippets.replaced(snippet("local_commands"), table), timeout=300)
    assert "export SPARK_REMOTE=" in ran.out and "up after" in ran.err, ran.text


def test_interceptor(environment, shell, tmp_path):
    jar = tmp_path / "spark-session-identity.jar"
    environ = f"export SPARK_HOME={shlex.quote(environment['SPARK_HOME'])} JAVA_HOME={shlex.quote(environment['JAVA_HOME'])}\n"
    shell(environ + snippets.replaced(snippet("interceptor"), {jar.name: str(jar)}))
    with open(environment["SPARK_IDENTITY_JAR"], "rb") as served:
        assert jar.read_bytes() == served.read(), "the same sources give the same bytes"


def test_envoy_by_hand(shell, tmp_path):
    ran = shell(snippets.replaced(snippet("envoy_by_hand"), {"/tmp/": f"{tmp_path}/"}))
    assert f"configuration '{tmp_path}/envoy.yaml' OK" in ran.text, ran.text


def test_control_channel_certificates(kubectl, shell, tmp_path):
    namespace = f"readme-{uuid.uuid4().hex[:5]}"
    kubectl("create", "namespace", namespace)
    try:
        shell(snippets.replaced(snippet("control_channel_certificates"), {"spark-dev": namespace, "/tmp/": f"{tmp_path}/"}))
        found = json.loads(kubectl("get", "secrets", "-n", namespace, "-o", "json"))["items"]
        keys = {secret["metadata"]["name"]: sorted(secret["data"]) for secret in found}
    finally:
        kubectl("delete", "namespace", namespace, "--wait=false")
    three = ["ca.crt", "tls.crt", "tls.key"]
    assert keys == {"control-channel-operator": three, "control-channel-envoy": three}


def test_control_channel_by_hand(shell, tmp_path):
    variables = "\n".join(snippet("envoy_by_hand").splitlines()[:2])
    beginning = f"envoy/make-certificates {tmp_path}/control-channel\n{variables}\n"
    text = snippets.replaced(snippet("control_channel_by_hand"), {"/tmp/": f"{tmp_path}/"})
    ran = shell(f"{beginning}{text}envoy --mode validate -c {tmp_path}/envoy.yaml\n")
    assert f"configuration '{tmp_path}/envoy.yaml' OK" in ran.text, ran.text
