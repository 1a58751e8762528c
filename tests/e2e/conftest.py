"""Fixtures: a running environment, and the tools that users and operators have: PySpark, beeline, kubectl, Envoy's admin.

`tests/run e2e` starts an environment of its own, with its variables exported. With one already running:
    eval "$(deploy/local/env)" && "$PYTHON" -m pytest tests/e2e
No test cases here.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LOCAL = REPOSITORY / "deploy" / "local"


@dataclass(frozen=True)
class Ran:
    """A program that ended. `text` is everything it printed, for assertions on messages."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    def rows(self) -> list[list[str]]:
        """The table that beeline or `DataFrame.show()` printed, its header first."""
        lines = [line.strip() for line in self.out.splitlines() if line.strip().startswith("|")]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]

    def succeeded(self) -> "Ran":
        assert self.code == 0, self.text
        return self


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
    """remote_url(user, password=None, more={}) -> a Spark Connect URL; `more` are further parameters of the URL."""

    def url(user: str, password: str | None = None, more: dict[str, str] | None = None) -> str:
        secret = environment.password(user) if password is None else password
        token = base64.b64encode(f"{user}:{secret}".encode()).decode()
        parameters = {"token": token, **(more or {})}
        text = ";".join(f"{key}={urllib.parse.quote(value, safe='')}" for key, value in parameters.items())
        return f"sc://localhost:{environment.port}/;{text}"

    return url


@pytest.fixture(scope="session")
def pyspark(environment) -> Callable[..., Ran]:
    """pyspark(script, url, *args) runs a script with `spark` connected to `url`, in a process of its own."""

    def call(script: str, url: str, *args: str, timeout: float = 120, stop: bool = True) -> Ran:
        begin = "import sys\nfrom pyspark.sql import SparkSession\nspark = SparkSession.builder.remote(sys.argv[1]).getOrCreate()\n"
        end = "\nspark.stop()\n" if stop else "\n"
        return run([environment["PYTHON"], "-W", "ignore", "-c", begin + script + end, url, *args], timeout)

    return call


@pytest.fixture(scope="session")
def beeline(environment) -> Callable[..., Ran]:
    """beeline(sql, user, password=None, path="cliservice", options="") runs SQL over JDBC."""

    def call(
        sql: str,
        user: str,
        password: str | None = None,
        path: str = "cliservice",
        options: str = "",
        timeout: float = 120,
    ) -> Ran:
        secret = environment.password(user) if password is None else password
        url = f"jdbc:hive2://localhost:{environment.port}/default;transportMode=http;httpPath={path}{options}"
        argv = [environment["BEELINE"], "--silent=true", "-u", url, "-n", user, "-p", secret]
        return run([*argv, "-e", sql if sql.rstrip().endswith(";") else f"{sql};"], timeout)

    return call


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
def access_token(environment) -> Callable[[str], str]:
    """access_token(user) -> a JWT from Keycloak by the password grant."""

    def call(user: str) -> str:
        form = {
            "grant_type": "password",
            "client_id": environment["OIDC_CLIENT_ID"],
            "client_secret": (environment.state / "secrets" / "oidc-client-secret").read_text(),
            "username": user,
            "password": environment.password(user),
        }
        url = f"{environment['OIDC_ISSUER']}/protocol/openid-connect/token"
        return json.loads(fetch(url, data=urllib.parse.urlencode(form).encode()))["access_token"]

    return call


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


def run(argv: list, timeout: float = 60, stdin: str | None = None) -> Ran:
    """Without the variables by which a developer's own Spark settings would reach the client."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SPARK_REMOTE", "SPARK_CONF", "PYSPARK_"))}
    source = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout, env=env, **source)
    return Ran(done.returncode, done.stdout, done.stderr)


def fetch(url: str, data: bytes | None = None, timeout: float = 10) -> str:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, data, timeout) as answer:
        return answer.read().decode()
