"""Fixtures: a running environment, and the tools that users and operators have: PySpark, beeline, kubectl, Envoy's admin.

`tests/run e2e` starts an environment of its own, with its variables exported. With one already running:
    eval "$(deploy/local/env)" && "$PYTHON" -m pytest tests/e2e
No test cases here.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import signal
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import connect_wire
from clients import (
    NAMES,
    PYHIVE,
    PYHIVE_ONCE,
    PYHIVE_SHELL,
    PYSPARK,
    PYSPARK_SHELL,
    Conversation,
    Ran,
    fetch,
    pool_manifest,
    run,
    session_manifest,
)
from connect_wire import Answer, config_get
from instance_tokens import InstanceTokens

REPOSITORY = Path(__file__).resolve().parents[2]
LOCAL = REPOSITORY / "deploy" / "local"


@dataclass(frozen=True)
class Environment:
    """What `deploy/local/env` says, by name."""

    variables: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.variables[name]

    @property
    def state(self) -> Path:
        return Path(self["SPARK_LOCAL_STATE"])

    @property
    def port(self) -> int:
        return urllib.parse.urlsplit(self["ENVOY_URL"]).port

    def password(self, user: str) -> str:
        users = {self[f"{who}_USER_NAME"]: self[f"{who}_USER_PASSWORD"] for who in ("SPARK", "OTHER")}
        return users[user]

    def pid(self, part: str) -> int:
        return json.loads((self.state / "pids" / f"{part}.json").read_text())["pid"]

    def log(self, part: str) -> str:
        return (self.state / "logs" / f"{part}.log").read_text(errors="replace")

    def up(self) -> None:
        """Starts what does not run. The fixtures that end a part end with this."""
        run([LOCAL / "up", "--state", self.state, "--no-query"], timeout=300).succeeded()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks for secrets in all that the others have left behind comes last."""
    items.sort(key=lambda item: item.path.name == "test_secrets.py")


@pytest.fixture(scope="session")
def environment() -> Environment:
    if "SPARK_REMOTE" not in os.environ:
        pytest.exit('no environment: use tests/run e2e, or eval "$(deploy/local/env)" first', returncode=4)
    return Environment(dict(os.environ))


@pytest.fixture(scope="session")
def users(environment) -> tuple[str, str]:
    """alice, of the group data-science, and bob, of analysts."""
    return environment["SPARK_USER_NAME"], environment["OTHER_USER_NAME"]


@pytest.fixture(scope="session")
def remote_url(environment) -> Callable[..., str]:
    """remote_url(user, password=None, more={}, token=None, host="localhost") -> a Spark Connect URL; `more` are further
    parameters of the URL, `token` takes the place of user and password."""

    def url(
        user: str,
        password: str | None = None,
        more: dict[str, str] | None = None,
        token: str | None = None,
        host: str = "localhost",
    ) -> str:
        secret = environment.password(user) if password is None and token is None else password
        token = token or base64.b64encode(f"{user}:{secret}".encode()).decode()
        # To any other host PySpark sends `token` over TLS only, but every further parameter as a header.
        login = {"token": token} if host == "localhost" else {"authorization": f"Bearer {token}"}
        parameters = {**login, **(more or {})}
        text = ";".join(f"{key}={urllib.parse.quote(value, safe='')}" for key, value in parameters.items())
        return f"sc://{host}:{environment.port}/;{text}"

    return url


@pytest.fixture(scope="session")
def pyspark(environment) -> Callable[..., Ran]:
    """pyspark(script, url, *args, python=None) runs a script with `spark` connected to `url`, in a process of its own."""

    def call(
        script: str, url: str, *args: str, timeout: float = 120, stop: bool = True, python: str | None = None
    ) -> Ran:
        end = "\nspark.stop()\n" if stop else "\n"
        python = python or environment["PYTHON"]
        return run([python, "-W", "ignore", "-c", PYSPARK + script + end, url, *args], timeout)

    return call


@pytest.fixture(scope="session")
def beeline_command(environment, tmp_path_factory) -> Callable[..., tuple[list, dict[str, str]]]:
    """The arguments and the environment variables of a beeline that is connected. Without a user: no -n and no -p."""

    def command(user: str | None, password: str | None, path: str, options: str, host: str) -> tuple[list, dict[str, str]]:
        url = f"jdbc:hive2://{host}:{environment.port}/default;transportMode=http;httpPath={path}{options}"
        argv = [environment["BEELINE"], "--silent=true", "-u", url]
        if user is not None:
            argv += ["-n", user, "-p", environment.password(user) if password is None else password]
        if not host.endswith(NAMES):
            return argv, {}
        hosts = tmp_path_factory.mktemp("java") / "hosts"
        hosts.write_text(f"127.0.0.1 {host}\n")
        return argv, {"SPARK_BEELINE_OPTS": f"-Djdk.net.hosts.file={hosts}"}

    return command


@pytest.fixture(scope="session")
def beeline(beeline_command) -> Callable[..., Ran]:
    """beeline(sql, user, password=None, path="cliservice", options="", host="localhost") runs SQL over JDBC."""

    def call(
        sql: str,
        user: str | None,
        password: str | None = None,
        path: str = "cliservice",
        options: str = "",
        timeout: float = 120,
        host: str = "localhost",
    ) -> Ran:
        argv, env = beeline_command(user, password, path, options, host)
        return run([*argv, "-e", sql if sql.rstrip().endswith(";") else f"{sql};"], timeout, env=env)

    return call


@pytest.fixture(scope="session")
def pyhive(environment) -> Callable[..., Ran]:
    """pyhive(sql, user, password=None, path="cliservice/", host="localhost") prints the rows, one a line. PyHive cannot
    but send a login; user None stands for a program that leaves the header out."""

    def call(
        sql: str,
        user: str | None,
        password: str | None = None,
        path: str = "cliservice/",
        timeout: float = 120,
        host: str = "localhost",
    ) -> Ran:
        login = [] if user is None else [user, environment.password(user) if password is None else password]
        argv = [environment["PYTHON"], "-W", "ignore", "-c", PYHIVE + PYHIVE_ONCE, host, environment.port, path, sql, *login]
        return run(argv, timeout)

    return call


@pytest.fixture
def shells(environment, beeline_command) -> Iterator[Callable[..., Conversation]]:
    """shells("pyspark", url), shells("beeline", user) and shells("pyhive", user) run the SQL that they are told, and end
    with the test. The latter two take path="cliservice" and host="localhost", the first python=None."""
    yield from _shells(environment, beeline_command)


@pytest.fixture(scope="module")
def module_shells(environment, beeline_command) -> Iterator[Callable[..., Conversation]]:
    """The same, for all tests of a file."""
    yield from _shells(environment, beeline_command)


def _shells(environment, beeline_command) -> Iterator[Callable[..., Conversation]]:
    opened: list[Conversation] = []

    def call(
        program: str, login: str, path: str = "cliservice", host: str = "localhost", python: str | None = None
    ) -> Conversation:
        env: dict[str, str] = {}
        if program == "pyspark":
            argv = [python or environment["PYTHON"], "-W", "ignore", "-c", PYSPARK + PYSPARK_SHELL, login]
        elif program == "pyhive":
            argv = [environment["PYTHON"], "-W", "ignore", "-c", PYHIVE + PYHIVE_SHELL, host, environment.port, path, ""]
            argv += [login, environment.password(login)]
        else:
            argv, env = beeline_command(login, None, path, "", host)
        opened.append(Conversation(argv, env))
        return opened[-1]

    yield call
    for shell in opened:
        shell.end()


@pytest.fixture(scope="session")
def pyspark_3_5(environment) -> str:
    """The Python that has PySpark 3.5. From now on drivers can run on a Spark of that version, too."""
    said = run([LOCAL / "spark-3.5", "--state", environment.state], timeout=600).succeeded().out
    (line,) = [line for line in said.splitlines() if "SPARK_3_5_PYTHON=" in line]
    return shlex.split(line.partition("=")[2])[0]


@pytest.fixture(scope="session")
def kubectl(environment) -> Callable[..., str]:
    """kubectl(*args, stdin=None) as admin, in the environment's namespace -> what it printed."""

    def call(*args: str, stdin: str | None = None) -> str:
        return run([environment["KUBECTL"], f"--kubeconfig={environment['KUBECONFIG']}", *args], stdin=stdin).succeeded().out

    return call


@pytest.fixture(scope="session")
def objects(kubectl) -> Callable[..., list[dict]]:
    """objects(kind, *selectors) -> the objects of a kind, as dictionaries."""
    return lambda kind, *args: json.loads(kubectl("get", kind, "-o", "json", *args))["items"]


@pytest.fixture(scope="session")
def thing(kubectl) -> Callable[[str, str], dict]:
    """thing(kind, name) -> the object, or an empty one."""

    def call(kind: str, name: str) -> dict:
        return json.loads(kubectl("get", kind, name, "--ignore-not-found", "-o", "json") or "{}")

    return call


@pytest.fixture
def instances(thing):
    """instances(pool) -> name and state of each, as the pool's status has them."""
    return lambda pool: {it["name"]: it["state"] for it in thing("ssp", pool).get("status", {}).get("instances", [])}


@pytest.fixture(scope="module")
def module_watch(environment) -> Iterator[Callable[[str], Conversation]]:
    """module_watch(session) prints its state and what is said of it, a line for each change, while the file's tests run."""
    said = r"jsonpath={.status.state} {.status.conditions[?(@.type=='Ready')].message}{'\n'}"
    watches: list[Conversation] = []

    def call(name: str) -> Conversation:
        argv = [environment["KUBECTL"], f"--kubeconfig={environment['KUBECONFIG']}", "get", "sis", name, "--watch", "-o", said]
        watches.append(Conversation(argv))
        return watches[-1]

    yield call
    for watch in watches:
        watch.end()


@pytest.fixture(autouse=True)
def sessions_end(kubectl, objects) -> Iterator[None]:
    """The sessions that a test leaves end with it: they would count against their users' quotas."""
    yield from _end_sessions(kubectl, objects)


@pytest.fixture(scope="module", autouse=True)
def module_sessions_end(kubectl, objects) -> Iterator[None]:
    """The same for those that the fixtures of a file leave."""
    yield from _end_sessions(kubectl, objects)


def _end_sessions(kubectl, objects) -> Iterator[None]:
    before = {session["metadata"]["uid"] for session in objects("sis")}
    yield
    left = [s["metadata"]["name"] for s in objects("sis") if s["metadata"]["uid"] not in before]
    if left:
        kubectl("delete", "sis", "--ignore-not-found", *left)


@pytest.fixture
def new_session(kubectl) -> Callable[..., str]:
    """new_session(user, pool, **spec) creates a session as automation does -> its name."""

    def call(user: str, pool: str, **spec) -> str:
        made = f"by-kubectl-{uuid.uuid4().hex[:8]}"
        kubectl("create", "-f", "-", stdin=json.dumps(session_manifest(made, user, pool, **spec)))
        return made

    return call


@pytest.fixture
def new_pool(kubectl) -> Iterator[Callable[..., str]]:
    """new_pool(name, type, **spec) -> its name, made unique; its host is that name with .test. It ends with the test."""
    yield from _pools(kubectl)


@pytest.fixture(scope="module")
def module_pool(kubectl) -> Iterator[Callable[..., str]]:
    """The same, for all tests of a file."""
    yield from _pools(kubectl)


def _pools(kubectl) -> Iterator[Callable[..., str]]:
    made: list[str] = []

    def call(name: str, kind: str, host: str | None = None, **spec) -> str:
        made.append(f"{name}-{uuid.uuid4().hex[:5]}")
        manifest = pool_manifest(made[-1], kind, host or made[-1] + NAMES, **spec)
        kubectl("create", "-f", "-", stdin=json.dumps(manifest))
        return made[-1]

    yield call
    if made:
        kubectl("delete", "ssp", "--ignore-not-found", *made)
    for name in made:
        kubectl("delete", "sis", f"--field-selector=spec.pool={name}")


@pytest.fixture(scope="session")
def used_tokens() -> set[str]:
    """The JWTs that tests have used; `test_secrets.py` looks for them."""
    return set()


@pytest.fixture(scope="session", autouse=True)
def instance_tokens(environment) -> Iterator[Callable[[], set[str]]]:
    """instance_tokens() -> those of all Connect instances of this run, the ones included whose Secrets are gone."""
    with InstanceTokens(environment["KUBECTL"], environment["KUBECONFIG"]) as tokens:
        yield tokens.found


@pytest.fixture(scope="session")
def access_token(environment, used_tokens) -> Callable[..., str]:
    """access_token(user, password=None, public_client=None, scope=None) -> a JWT from Keycloak by the password grant."""

    def call(
        user: str, password: str | None = None, public_client: str | None = None, scope: str | None = None
    ) -> str:
        form = {
            "grant_type": "password",
            "username": user,
            "password": environment.password(user) if password is None else password,
            **({"scope": scope} if scope else {}),
        }
        if public_client:
            form["client_id"] = public_client
        else:
            form["client_id"] = environment["OIDC_CLIENT_ID"]
            form["client_secret"] = (environment.state / "secrets" / "oidc-client-secret").read_text()
        url = f"{environment['OIDC_ISSUER']}/protocol/openid-connect/token"
        token = json.loads(fetch(url, data=urllib.parse.urlencode(form).encode()))["access_token"]
        used_tokens.add(token)
        return token

    return call


@pytest.fixture(scope="session")
def short_lived_token(environment) -> str:
    """A JWT of the first user that was valid for one second when Keycloak signed it."""
    admin = f"http://{urllib.parse.urlsplit(environment['OIDC_ISSUER']).netloc}"
    realm = f"{admin}/admin/realms/{environment['OIDC_ISSUER'].rpartition('/')[2]}"
    secret = (environment.state / "secrets" / "keycloak-admin").read_text()
    login = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": secret}
    answer = fetch(f"{admin}/realms/master/protocol/openid-connect/token", data=urllib.parse.urlencode(login).encode())
    as_admin = {"authorization": f"Bearer {json.loads(answer)['access_token']}", "content-type": "application/json"}
    client = {
        "id": str(uuid.uuid4()),
        "clientId": f"e2e-{uuid.uuid4().hex[:8]}",
        "publicClient": True,
        "directAccessGrantsEnabled": True,
        "attributes": {"access.token.lifespan": "1"},
    }
    user = environment["SPARK_USER_NAME"]
    grant = {"grant_type": "password", "client_id": client["clientId"], "username": user, "password": environment.password(user)}
    fetch(f"{realm}/clients", json.dumps(client).encode(), headers=as_admin)
    try:
        form = urllib.parse.urlencode(grant).encode()
        return json.loads(fetch(f"{environment['OIDC_ISSUER']}/protocol/openid-connect/token", data=form))["access_token"]
    finally:
        fetch(f"{realm}/clients/{client['id']}", headers=as_admin, method="DELETE")


@pytest.fixture(scope="session")
def envoy_admin(environment) -> Callable[..., str]:
    """envoy_admin("/clusters") -> what Envoy's admin interface says."""
    return lambda path: fetch(environment["ENVOY_ADMIN_URL"] + path)


@pytest.fixture(scope="session")
def metrics(environment) -> Callable[[], str]:
    return lambda: fetch(environment["OPERATOR_METRICS_URL"] + "/metrics")


@pytest.fixture
def operator_down(environment) -> Callable[[], None]:
    """operator_down() kills the operator as a crash would; it runs again when the test is over."""

    def call() -> None:
        os.killpg(environment.pid("operator"), signal.SIGKILL)

    yield call
    environment.up()


@pytest.fixture
def restart_operator(environment) -> Callable[[], None]:
    """restart_operator() kills the operator and returns when the new one is ready."""

    def call() -> None:
        os.killpg(environment.pid("operator"), signal.SIGKILL)
        environment.up()

    return call


@pytest.fixture(scope="session")
def on_spark(thing):
    """on_spark(name, session_id=None) of a Connect session that has a place -> a function that asks its driver for it, or
    for the Spark session of one of its clients, without Envoy."""

    def place(name: str, session_id: str | None = None) -> Callable[[], Answer]:
        session = thing("sis", name)
        user, status = session["spec"]["user"], session["status"]
        session_id = session_id or status["sessionId"]
        token = base64.b64decode(thing("secret", f"{status['assignedInstance']}-token")["data"]["token"]).decode()
        headers = [("authorization", f"Bearer {token}"), ("x-spark-session-id", session_id)]
        headers.append(("x-spark-session-user-bin", user.encode()))
        question = config_get(session_id, "spark.app.name", user=user)
        return lambda: connect_wire.call(status["endpoint"], "Config", question, headers)

    return place


@pytest.fixture(scope="session")
def kill_driver(environment) -> Callable[[str], None]:
    """kill_driver(application) ends the JVM of a SparkApplication's driver as the kernel's memory killer would."""

    def call(application: str) -> None:
        for file in (environment.state / "drivers").glob("*/driver.json"):
            record = json.loads(file.read_text())
            if record["app"] == application and record["phase"] == "RUNNING":
                os.killpg(record["pid"], signal.SIGKILL)
                return
        raise AssertionError(f"no driver of {application} runs")

    return call


@pytest.fixture(scope="session")
def eventually() -> Callable:
    """eventually(test, seconds, what) waits until test() is true, and returns what it returned."""

    def call(test: Callable, seconds: float = 30, what: str = "condition"):
        deadline = time.monotonic() + seconds
        while True:
            found = test()
            if found:
                return found
            assert time.monotonic() < deadline, f"{what}: not after {seconds} s"
            time.sleep(0.2)

    return call
