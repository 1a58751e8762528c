"""The installed Spark: where it lies, its class-data-sharing archives, and one query through each protocol."""

from __future__ import annotations

import base64
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from . import commands, ports, processes
from .dev_node.addresses import listening, network
from .dev_node.command import CONNECT, THRIFT, Installation, driver_command
from .failure import Failure
from .parts import Parts, digest
from .settings import REPOSITORY, Settings

ARCHIVES = {CONNECT: "connect", THRIFT: "thrift"}
IDENTITY_JAR = "spark-session-identity.jar"
JDBC_OPTIONS = "transportMode=http;httpPath=cliservice"


def home(venv: Path) -> Path:
    return next(venv.glob("lib/python3*/site-packages/pyspark"))


def remote_url(settings: Settings, user: str) -> str:
    """PySpark sends `token=` without TLS only to the host called localhost. The token is base64 of user:password."""
    token = quote(base64.b64encode(f"{user}:{settings.passwords[user]}".encode()), safe="")
    return f"sc://localhost:{settings.ports['envoy']}/;token={token}"


def jdbc_url(settings: Settings) -> str:
    return f"jdbc:hive2://localhost:{settings.ports['envoy']}/default;{JDBC_OPTIONS}"


def write_beeline(settings: Settings, venv: Path, java_home: Path) -> Path:
    """A beeline that needs nothing of its caller's environment."""
    wrapper = settings.state / "beeline"
    spark_home = shlex.quote(str(home(venv)))
    wrapper.write_text(
        "#!/bin/sh\n# Runs Spark's beeline with the Java and the Spark of this environment.\n"
        f"JAVA_HOME={shlex.quote(str(java_home))} SPARK_HOME={spark_home}\n"
        "export JAVA_HOME SPARK_HOME\n"
        f'exec {spark_home}/bin/beeline "$@"\n'
    )
    wrapper.chmod(0o755)
    return wrapper


def query_connect(settings: Settings, venv: Path, url: str, timeout: float = 150) -> str:
    program = (
        "import sys\nfrom pyspark.sql import SparkSession\n"
        "spark = SparkSession.builder.remote(sys.argv[1]).getOrCreate()\n"
        "spark.sql(\"SELECT count(*) AS rows FROM range(1000)\").show()\n"
        "spark.stop()\n"
    )
    return _run([str(venv / "bin" / "python"), "-W", "ignore", "-c", program, url], timeout, "PySpark")


def query_thrift(beeline: Path, url: str, user: str, password: str, timeout: float = 150) -> str:
    sql = "SELECT current_user() AS user, count(*) AS rows FROM range(1000);"
    return _run([str(beeline), "--silent=true", "-u", url, "-n", user, "-p", password, "-e", sql], timeout, "beeline")


def _run(argv: list[str], timeout: float, name: str) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("SPARK_", "PYSPARK_"))}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, env=env)
    except subprocess.TimeoutExpired:
        raise Failure(f"{name} got no answer within {timeout:.0f} s") from None
    if done.returncode:
        raise Failure(f"{name} failed:\n{done.stdout[-1500:]}{done.stderr[-3000:]}")
    return "\n".join(line for line in done.stdout.splitlines() if line.lstrip().startswith(("+", "|")))


def installation(parts: Parts, archives: dict[str, Path]) -> Installation:
    return Installation(
        spark_home=home(parts.python()),
        other_spark_homes={"3.5": parts.spark_3_5_home()},
        java_home=parts.tools.java_home,
        python=parts.python() / "bin" / "python",
        pod_address_library=parts.pod_address_library(),
        master="local[1]",
        archives=archives,
    )


def identity_jar(parts: Parts) -> Path:
    """What the operator serves and each Connect server loads; see deploy/spark."""
    folder = REPOSITORY / "deploy" / "spark"
    venv = parts.python()

    def build(into: Path, log: Path) -> None:
        java = {"JAVA_HOME": str(parts.tools.java_home)}
        commands.build([str(folder / "build"), str(home(venv)), str(into / IDENTITY_JAR)], log, env=java)

    sources = sorted(folder.glob("src/**/*.java"))
    return parts.obtain("identity", digest(folder / "build", *sources), build) / IDENTITY_JAR


def archives(parts: Parts) -> dict[str, Path]:
    """Class-data-sharing archives: they halve the start of a server. Each is recorded once, by running one query."""
    venv = parts.python()
    # An archive fits exactly the jars, the Java and the class path that it was recorded with (see dev_node/command.py).
    java = parts.tools.java_home
    version = f"{venv.name}-{java.name}"

    def record(folder: Path, log: Path) -> None:
        for main_class, name in ARCHIVES.items():
            _record(parts, main_class, folder / f"{name}.jsa", log.with_name(f"build-archive-{name}.log"))

    folder = parts.obtain("archives", version, record)
    return {main_class: folder / f"{name}.jsa" for main_class, name in ARCHIVES.items()}


def _record(parts: Parts, main_class: str, archive: Path, log: Path) -> None:
    port = 15002
    address = next(a for a in (f"{network(parts.settings.seed)}.{n}" for n in range(200, 255)) if not listening(a))
    conf = {
        "spark.connect.grpc.binding.port": str(port),
        "spark.hadoop.hive.server2.transport.mode": "http",
        "spark.hadoop.hive.server2.thrift.http.port": str(port),
        "spark.driver.extraJavaOptions": f"-XX:ArchiveClassesAtExit={archive}",
    }
    spec = {"mainClass": main_class, "driver": {"memory": "768m"}, "sparkConf": conf}
    with tempfile.TemporaryDirectory(dir=parts.settings.state) as scratch:
        folder = Path(scratch)
        app = {"metadata": {"name": "archive"}, "spec": spec}
        command = driver_command(app, address, folder, {}, installation(parts, {}))
        pid_file = parts.settings.state / "pids" / f"archive-{archive.stem}.json"
        process = processes.start(pid_file, command.argv, log, command.env, folder)
        try:
            commands.wait_for("the server answers", lambda: ports.answers(port, address), 120, process)
            venv = parts.python()
            if main_class == CONNECT:
                query_connect(parts.settings, venv, f"sc://{address}:{port}")
            else:
                beeline = write_beeline(parts.settings, venv, parts.tools.java_home)
                query_thrift(beeline, f"jdbc:hive2://{address}:{port}/default;{JDBC_OPTIONS}", "archive", "x")
        finally:
            processes.stop(pid_file, grace=60)  # the archive is written on the way out
    if not archive.exists():
        raise Failure(f"no class-data-sharing archive was written for {main_class}", log)


def dev_node_command(settings: Settings, with_: Installation) -> list[str]:
    return [
        sys.executable,
        *("-m", "sparklocal.dev_node"),
        *("--kubeconfig", str(settings.admin_kubeconfig)),
        *("--namespace", settings.namespace),
        *("--state", str(settings.state)),
        *("--seed", settings.seed),
        *("--spark-home", str(with_.spark_home)),
        *(f"--other-spark-home={version}={folder}" for version, folder in with_.other_spark_homes.items()),
        *("--java-home", str(with_.java_home)),
        *("--python", str(with_.python)),
        *("--pod-address-library", str(with_.pod_address_library)),
        *("--kubelet-port", str(settings.ports["kubelet"])),
        *("--connect-archive", str(with_.archives[CONNECT])),
        *("--thrift-archive", str(with_.archives[THRIFT])),
    ]
