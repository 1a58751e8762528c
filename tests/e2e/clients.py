"""What the tests run: programs that end, programs that are talked to, and the manifests of pools. No fixtures, no test cases."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
import urllib.request
from dataclasses import dataclass

CONNECT_CLASS = "org.apache.spark.sql.connect.service.SparkConnectServer"
THRIFT_CLASS = "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"
MAIN_CLASS = {"connect": CONNECT_CLASS, "thrift": THRIFT_CLASS}

# There is no name resolution for pools' hosts on this machine. Names that end in .test stand for 127.0.0.1; the server
# is told the name, as it would be with DNS.
NAMES = ".test"

# `spark`, connected to the URL that is the first argument.
PYSPARK = """\
import sys
from urllib.parse import urlsplit
from pyspark.sql import SparkSession
url, authority, host = sys.argv[1], urlsplit(sys.argv[1]).netloc, urlsplit(sys.argv[1]).hostname
if host.endswith(".test"):
    from pyspark.sql.connect import client
    from pyspark.sql.connect.session import SparkSession
    builder = getattr(client, "DefaultChannelBuilder", client.ChannelBuilder)  # the second is PySpark 3.5's
    channel = builder(url.replace(host, "127.0.0.1", 1), [("grpc.default_authority", authority)])
    builder = SparkSession.builder.channelBuilder(channel)
else:
    builder = SparkSession.builder.remote(url)
spark = builder.getOrCreate()
"""

# Runs each line of its input as SQL, and as Python those that begin with an exclamation mark.
PYSPARK_SHELL = """
for line in sys.stdin:
    try:
        if line.startswith("!"):
            exec(line[1:])
        else:
            print(*[" ".join(map(str, row)) for row in spark.sql(line).collect()], sep="\\n", flush=True)
    except Exception as error:
        print("FAILED", type(error).__name__, error, flush=True)
"""

# `cursor`. Arguments: host, port, path, SQL, and the two parts of a login where there is one.
PYHIVE = """\
import base64, socket, sys
import thrift.transport.THttpClient
from pyhive import hive
host, port, path, sql, *login = sys.argv[1:]
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda name, *more, **named: resolve("127.0.0.1" if name.endswith(".test") else name, *more, **named)
transport = thrift.transport.THttpClient.THttpClient(f"http://{host}:{port}/{path}")
if login:
    hive.Connection._set_authorization_header(transport, *login)
connection = hive.connect(thrift_transport=transport, username=login[0] if login else None)
cursor = connection.cursor()
"""

PYHIVE_ONCE = """
cursor.execute(sql)
for row in cursor.fetchall():
    print(*row)
"""

# Runs each line of its input as SQL, and closes its connection with the end of its input.
PYHIVE_SHELL = """
for line in sys.stdin:
    try:
        cursor.execute(line)
        print(*[" ".join(map(str, row)) for row in cursor.fetchall()], sep="\\n", flush=True)
    except Exception as error:
        print("FAILED", type(error).__name__, error, flush=True)
connection.close()
"""


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

    def complaint(self) -> str:
        """The line in which a client that failed tells its user why: beeline's first, a Python program's last."""
        assert self.code != 0, f"this should have failed:\n{self.text}"
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        return next((line for line in lines if line.startswith("Error:")), lines[-1])


# How shells tell that what they were told last has failed, up to the end of the line.
COMPLAINT = re.compile(r"^(FAILED|Error:).*\n", re.M)


class Conversation:
    """A program that goes on running: it is told lines, and what it prints is looked through for words."""

    def __init__(self, argv: list, env: dict[str, str] | None = None):
        self.process = subprocess.Popen(
            [str(a) for a in argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            env={**clean_environment(), **(env or {})},
            start_new_session=True,
        )
        self.printed: list[str] = []
        self.news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self.news:
                self.printed.append(line)
                self.news.notify_all()
        with self.news:
            self.news.notify_all()

    @property
    def text(self) -> str:
        return "".join(self.printed)

    def say(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def until(self, words: str, seconds: float) -> None:
        """Returns when `words` were printed; says what was printed instead when the program ends or the time is over."""
        self._until(words, seconds, "^(FAILED|Error:)")

    def fails(self, seconds: float) -> str:
        """Returns the first complaint that was not returned before, as soon as there is one."""
        self._until(COMPLAINT, seconds)
        first = next(n for n, line in enumerate(self.printed) if COMPLAINT.search(line))
        told, self.printed = self.printed[first], self.printed[first + 1 :]
        return told.strip()

    def says(self, line: str, words: str, seconds: float) -> None:
        self.say(line)
        self.until(words, seconds)

    def _until(self, words: str | re.Pattern, seconds: float, trouble: str | None = None) -> None:
        deadline = time.monotonic() + seconds
        with self.news:
            while not re.search(re.escape(words) if isinstance(words, str) else words, self.text):
                assert self.process.poll() is None, f"ended without printing {words!r}:\n{self.text}"
                assert not (trouble and re.search(trouble, self.text, re.M)), f"{words!r} was not printed:\n{self.text}"
                left = deadline - time.monotonic()
                assert left > 0, f"{words!r} was not printed within {seconds} s:\n{self.text}"
                self.news.wait(min(left, 1))

    def finish(self, seconds: float) -> None:
        """The end of its input: what its user types last."""
        self.process.stdin.close()
        assert self.process.wait(seconds) == 0, self.text

    def end(self) -> None:
        """Kills it: a client that vanishes."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def run(argv: list, timeout: float = 60, stdin: str | None = None, env: dict[str, str] | None = None) -> Ran:
    source = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    environment = {**clean_environment(), **(env or {})}
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout, env=environment, **source)
    return Ran(done.returncode, done.stdout, done.stderr)


def fetch(
    url: str,
    data: bytes | None = None,
    timeout: float = 10,
    headers: dict[str, str] | None = None,
    method: str | None = None,
) -> str:
    request = urllib.request.Request(url, data, headers or {}, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout) as answer:
        return answer.read().decode()


def clean_environment() -> dict[str, str]:
    """Without the variables by which a developer's own Spark settings would reach the client."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("SPARK_REMOTE", "SPARK_CONF", "PYSPARK_"))}


def template(main_class: str, **more) -> dict:
    """The spec of a SparkApplication, as in deploy/local/pools.yaml. Its `sparkVersion` decides what the dev node starts."""
    return {
        "type": "Scala",
        "mode": "cluster",
        "sparkVersion": "4.1.4",
        "mainClass": main_class,
        "mainApplicationFile": "local:///opt/spark/spark-internal",
        "restartPolicy": {"type": "Never"},
        "driver": {"cores": 1, "memory": "768m"},
        "executor": {"instances": 1, "cores": 1, "memory": "512m"},
        **more,
    }


def pool_manifest(name: str, kind: str, host: str, **spec) -> dict:
    """A pool that starts when somebody comes; `spec` are fields that are different."""
    fields = {
        "type": kind,
        "host": host,
        "replicas": {"min": 0, "max": 1},
        "sparkApplicationTemplate": {"spec": template(MAIN_CLASS[kind])},
        **spec,
    }
    return _manifest("SparkSessionPool", name, fields)


def session_manifest(object_name: str, user: str, pool: str, /, **spec) -> dict:
    return _manifest("SparkInteractiveSession", object_name, {"user": user, "pool": pool, **spec})


def _manifest(kind: str, name: str, spec: dict) -> dict:
    return {"apiVersion": "sparkinteractive.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def condition(thing: dict, kind: str) -> dict:
    """A condition of an object, or an empty one."""
    conditions = thing.get("status", {}).get("conditions", [])
    return next((found for found in conditions if found["type"] == kind), {})
