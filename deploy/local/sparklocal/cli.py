"""The commands: up, down, status, env, spark-3.5. Reads flags and prints; what is done stands in the other modules."""

from __future__ import annotations

import argparse
import fcntl
import shlex
import shutil
import signal
import sys
from pathlib import Path

from . import envoy, flags, parts, prerequisites, settings, spark, status
from .bring_up import BringUp
from .failure import Failure
from .prerequisites import Tools
from .progress import Progress
from .settings import CLIENT_ID, Settings


def main(argv: list[str]) -> int:
    commands = {"up": up, "down": down, "status": show_status, "env": show_env, "spark-3.5": obtain_spark_3_5}
    args = flags.parse(argv)
    # `kill` then takes the same way out as Ctrl-C, and builds are ended with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return commands[args.command](args)
    except Failure as failure:
        print(f"\n{args.command} failed: {failure.render()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; what was started goes on until deploy/local/down", file=sys.stderr)
        return 130


def up(args: argparse.Namespace) -> int:
    chosen = settings.choose(args)
    tools = prerequisites.check(chosen.only, chosen.context)
    chosen.make_folders()
    progress = Progress()
    with _locked(chosen.state):
        chosen.save()
        run = BringUp(chosen, tools, progress)
        run.run()
        if chosen.only == "all":
            if args.query:
                _query(chosen, run.parts, progress)
            _tell(chosen, run.parts)
    print(f"up after {progress.total():.0f} s; stop it with deploy/local/down{_state_flag(args)}", file=sys.stderr)
    return 0


def _query(chosen: Settings, built: parts.Parts, progress: Progress) -> None:
    """The proof that it works: each starts a server where none runs, through Envoy, as alice."""
    venv = built.python()
    with progress.step("query: PySpark") as step:
        rows = spark.query_connect(chosen, venv, spark.remote_url(chosen, "alice"))
        step.outcome = "answered"
    progress.note(rows)
    with progress.step("query: JDBC") as step:
        rows = spark.query_thrift(chosen.state / "beeline", spark.jdbc_url(chosen), "alice", chosen.passwords["alice"])
        step.outcome = "answered"
    progress.note(rows)


def _tell(chosen: Settings, built: parts.Parts) -> None:
    python = built.python() / "bin" / "python"
    print(
        f"""
PySpark   SparkSession.builder.remote("{spark.remote_url(chosen, 'alice')}").getOrCreate()
          with {python}
JDBC      {spark.jdbc_url(chosen)}
          {chosen.state}/beeline -u '{spark.jdbc_url(chosen)}' -n alice -p '{chosen.passwords['alice']}'
kubectl   kubectl --kubeconfig {chosen.admin_kubeconfig} get ssp,sis,sparkapplications,pods
operator  {chosen.state}/spark-session-operator --help
a shell   eval "$(deploy/local/env --state {chosen.state})"
"""
    )


def down(args: argparse.Namespace) -> int:
    chosen = settings.load(Path(args.state).resolve())
    if not chosen:
        print(f"nothing was started from {args.state}", file=sys.stderr)
        return 0
    with _locked(chosen.state):
        stopped = status.down(chosen, args.purge, _kubectl(chosen))
        if args.purge:
            _lock_file(chosen.state).unlink()
    print(f"stopped: {', '.join(stopped) or 'nothing ran'}", file=sys.stderr)
    return 0


def show_status(args: argparse.Namespace) -> int:
    """Exit code 0 only when everything that `up` started is well, so that scripts can ask."""
    chosen = _required(args)
    rows = [("PART", "PID", "HEALTH", "ADDRESS", "LOG"), *status.rows(chosen)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]))
    return 0 if all(row[2] == "ok" for row in rows[1:]) else 1


def show_env(args: argparse.Namespace) -> int:
    chosen = _required(args)
    for name, value in variables(chosen).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def obtain_spark_3_5(args: argparse.Namespace) -> int:
    chosen = _required(args)
    venv = parts.Parts(chosen, Tools(prerequisites.find_java(), None)).spark_3_5()
    for name, value in {"SPARK_3_5_HOME": spark.home(venv), "SPARK_3_5_PYTHON": venv / "bin" / "python"}.items():
        print(f"export {name}={shlex.quote(str(value))}")
    return 0


def variables(chosen: Settings) -> dict[str, str]:
    found = {
        "KUBECONFIG": str(chosen.admin_kubeconfig),
        "KUBECTL": _kubectl(chosen) or "kubectl",
        "SPARK_LOCAL_STATE": str(chosen.state),
    }
    if chosen.only == "api":
        return found
    java_home = prerequisites.find_java()
    built = parts.Parts(chosen, Tools(java_home, None))
    venv = built.python()
    found |= {"PYTHON": str(venv / "bin" / "python"), "SPARK_HOME": str(spark.home(venv)), "JAVA_HOME": str(java_home)}
    found["ENVOY_BINARY"] = str(envoy.binary(venv))
    if chosen.only in ("envoy", "cluster"):
        return found
    users = list(chosen.passwords.items())
    return found | {
        "SPARK_REMOTE": spark.remote_url(chosen, users[0][0]),
        "JDBC_URL": spark.jdbc_url(chosen),
        "SPARK_USER_NAME": users[0][0],
        "SPARK_USER_PASSWORD": users[0][1],
        "OTHER_USER_NAME": users[1][0],
        "OTHER_USER_PASSWORD": users[1][1],
        "OIDC_ISSUER": chosen.issuer,
        "OIDC_CLIENT_ID": CLIENT_ID,
        "ENVOY_URL": chosen.envoy_url,
        "ENVOY_ADMIN_URL": f"http://127.0.0.1:{chosen.ports['envoy-admin']}",
        "OPERATOR_URL": f"http://127.0.0.1:{chosen.ports['operator-health']}",
        "OPERATOR_METRICS_URL": f"http://127.0.0.1:{chosen.ports['operator-metrics']}",
        "BEELINE": str(chosen.state / "beeline"),
        "SPARK_IDENTITY_JAR": str(spark.identity_jar(built)),
    }


def _required(args: argparse.Namespace) -> Settings:
    chosen = settings.load(Path(args.state).resolve())
    if not chosen:
        raise Failure(f"no environment in {args.state}", hint="Start one with deploy/local/up.")
    return chosen


def _kubectl(chosen: Settings) -> str | None:
    return shutil.which("kubectl") or next(map(str, chosen.cache.glob("kubectl-*/kubectl")), None)


def _locked(state: Path):
    """One `up` or `down` at a time for one environment. Closing the handle, or dying, releases it."""
    handle = open(_lock_file(state), "w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Failure(f"another up or down is at work in {state}") from None
    return handle


def _lock_file(state: Path) -> Path:
    """Beside the state folder, which `down --purge` removes."""
    return state.parent / f".{state.name}.lock"


def _state_flag(args: argparse.Namespace) -> str:
    return "" if args.state == str(flags.DEFAULT_STATE) else f" --state {shlex.quote(args.state)}"
