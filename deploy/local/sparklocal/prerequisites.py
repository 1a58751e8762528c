"""What the machine has to bring: checked before anything is obtained, all that is missing named at once."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .failure import Failure

# Spark 4.1 runs on these. On newer ones the server starts, but every query fails inside Arrow.
JAVA_VERSIONS = (17, 21)

HINTS = {
    "cargo": "Rust: https://rustup.rs (the version is in rust-toolchain.toml)",
    "cc": "a C compiler: the package gcc or build-essential of your distribution",
    "go": "Go 1.24 or newer, which builds etcd and Kubernetes: https://go.dev/dl, or your distribution's package",
    "openssl": "openssl: your distribution's package",
    "mvn": "Maven, which fetches Keycloak: the package maven of your distribution",
    "venv": "Python's venv module: the package python3-venv of your distribution",
    "kubectl": "kubectl: https://kubernetes.io/docs/tasks/tools",
}


@dataclass(frozen=True)
class Tools:
    java_home: Path | None
    kubectl: str | None  # None: none on PATH, so it is built


def check(only: str, context: str | None) -> Tools:
    """Raises one Failure that names everything that is missing for what `up` is about to do."""
    missing = []
    if platform.system() != "Linux":
        missing.append("Linux: each driver gets a loopback address of its own, which only Linux gives to anyone")
    needed = [] if context else ["go"]
    if only == "all" or not context:
        needed += ["openssl"]
    if only == "all":
        needed += ["cargo", "mvn"]
    if only != "api":
        needed += ["cc"]
    missing += [HINTS[tool] for tool in needed if not shutil.which(tool)]
    if context and not shutil.which("kubectl"):
        missing.append(HINTS["kubectl"])
    java_home = None
    if only != "api":
        missing += _missing_venv()
        java_home = find_java()
        if not java_home:
            wanted = " or ".join(map(str, JAVA_VERSIONS))
            missing.append(f"Java {wanted} with its compiler: the package openjdk-17-jdk-headless, or set JAVA_HOME to one")
    if missing:
        raise Failure("this machine lacks:\n" + "\n".join(f"  - {line}" for line in missing))
    return Tools(java_home, shutil.which("kubectl"))


def find_java() -> Path | None:
    """JAVA_HOME, the one on PATH, then those under /usr/lib/jvm: the first with a compiler whose version Spark runs on."""
    candidates = []
    if os.environ.get("JAVA_HOME"):
        candidates.append(Path(os.environ["JAVA_HOME"]))
    on_path = shutil.which("java")
    if on_path:
        candidates.append(Path(on_path).resolve().parent.parent)
    candidates += sorted(Path("/usr/lib/jvm").glob("*"))
    for home in candidates:
        if java_version(home) in JAVA_VERSIONS and os.access(home / "bin" / "javac", os.X_OK):
            return home.resolve()
    return None


def java_version(home: Path) -> int | None:
    java = home / "bin" / "java"
    if not os.access(java, os.X_OK):
        return None
    said = subprocess.run([str(java), "-version"], capture_output=True, text=True).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found.group(1)) if found else None


def _missing_venv() -> list[str]:
    try:
        import ensurepip  # noqa: F401  Debian has venv without ensurepip when python3-venv is not installed
        import venv  # noqa: F401
    except ImportError:
        return [HINTS["venv"]]
    return []
