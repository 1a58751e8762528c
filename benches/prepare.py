"""Obtains what benches/control_plane needs besides cargo's own work, and prints it as variables for a shell.

Started by benches/run. It uses the parts of deploy/local: their cache, and the environment that `deploy/local/up --only
api` has left in the state folder, if the measurement needs Kubernetes.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import shutil
import sys
from pathlib import Path

BENCHES = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCHES.parent / "deploy" / "local"))

from sparklocal import commands, control_plane, settings  # noqa: E402
from sparklocal.failure import Failure  # noqa: E402
from sparklocal.parts import Parts  # noqa: E402
from sparklocal.prerequisites import Tools  # noqa: E402


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--state", type=Path, required=True)
    arguments.add_argument("--api", action="store_true", help="an API server runs: give the operator its rights there")
    arguments.add_argument("--impyla", action="store_true", help="install impyla, which tests do not need")
    arguments.add_argument("--go", action="store_true", help="build go-control-plane's server")
    chosen = arguments.parse_args()
    here = settings.load(chosen.state.resolve()) or settings.Settings(state=chosen.state.resolve(), ports={})
    here.make_folders()
    parts = Parts(here, Tools(None, shutil.which("kubectl")))
    try:
        export("ENVOY", next(parts.python().glob("lib/python3*/site-packages/envoy/_bin/envoy")))
        if chosen.go:
            export("GO_CONTROL_PLANE", go_control_plane(parts))
        if chosen.impyla:
            export("IMPYLA", impyla(parts))
        if chosen.api:
            control_plane.Applier(here, parts.kubectl()).apply_rights()
            export("KUBECONFIG", here.admin_kubeconfig)
            export("OPERATOR_KUBECONFIG", here.operator_kubeconfig)
    except Failure as failure:
        print(f"benches/run: {failure.render()}", file=sys.stderr)
        return 1
    return 0


def go_control_plane(parts: Parts) -> Path:
    source = BENCHES / "go-control-plane"
    digest = hashlib.sha256(b"".join((source / name).read_bytes() for name in ("main.go", "go.mod", "go.sum")))

    def build(folder: Path, log: Path) -> None:
        print("building go-control-plane", file=sys.stderr)
        command = ["go", "build", "-trimpath", "-o", f"{folder}/", "."]
        commands.build(command, log, cwd=source, env={"CGO_ENABLED": "0"})

    return parts.obtain("go-control-plane", digest.hexdigest()[:10], build) / "go-control-plane"


def impyla(parts: Parts) -> Path:
    """A folder for sys.path, beside what the local environment has installed."""
    requirements = BENCHES / "requirements-rows.txt"
    python = parts.python() / "bin" / "python"

    def build(folder: Path, log: Path) -> None:
        command = [str(python), "-m", "pip", "install", "--no-deps", "--target", str(folder), "-r", str(requirements)]
        commands.build(command, log)

    return parts.obtain("impyla", hashlib.sha256(requirements.read_bytes()).hexdigest()[:10], build)


def export(name: str, value: Path) -> None:
    print(f"export {name}={shlex.quote(str(value))}")


if __name__ == "__main__":
    sys.exit(main())
