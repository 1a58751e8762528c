"""Obtains or builds what the environment runs, once per machine, into the cache. Starts nothing.

Each part lies in a folder whose name holds its version; a stamp written last says that it is whole, and a lock keeps two
runs from building the same part. (Built in place rather than moved there: a virtual environment cannot be moved.)
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Callable

from . import commands
from .failure import Failure
from .prerequisites import Tools
from .settings import LOCAL, REPOSITORY, Settings

KUBERNETES = "1.34.4"
SPARK_OPERATOR = "v2.4.0"
KEYCLOAK = "26.4.0"
SPARK_3_5 = "3.5.7"  # the same as in requirements-spark-3.5.txt

SPARK_3_5_REQUIREMENTS = LOCAL / "requirements-spark-3.5.txt"

STAMP = ".complete"


class Parts:
    def __init__(self, settings: Settings, tools: Tools):
        self.settings = settings
        self.tools = tools
        self.built: set[str] = set()

    def obtain(self, name: str, version: str, build: Callable[[Path, Path], None]) -> Path:
        """The folder of a part; `build(folder, log)` fills it when the cache does not have it."""
        folder = self.settings.cache / f"{name}-{version}"
        with self.locked(name):
            if not (folder / STAMP).exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                log = self.settings.logs / f"build-{name}.log"
                log.unlink(missing_ok=True)
                build(folder, log)
                (folder / STAMP).touch()
                self.built.add(name)
        return folder

    def locked(self, name: str):
        locks = self.settings.cache / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        handle = open(locks / name, "w")
        fcntl.flock(handle, fcntl.LOCK_EX)  # closing the handle, or dying, releases it
        return handle

    def outcome(self, name: str) -> str:
        return "built" if name in self.built else "from the cache"

    # etcd, kube-apiserver, kube-controller-manager; kubectl only where the machine has none

    def kubernetes(self) -> Path:
        packages = [
            "go.etcd.io/etcd/server/v3",
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
        ]
        return self.obtain("kubernetes", self._go_version(), lambda folder, log: self._go_build(packages, folder, log))

    def kubectl(self) -> str:
        if self.tools.kubectl:
            return self.tools.kubectl
        package = ["k8s.io/kubernetes/cmd/kubectl"]
        return str(self.obtain("kubectl", self._go_version(), lambda f, log: self._go_build(package, f, log)) / "kubectl")

    def _go_version(self) -> str:
        return f"{KUBERNETES}-{digest(LOCAL / 'tools' / 'go.mod', LOCAL / 'tools' / 'go.sum')}"

    def _go_build(self, packages: list[str], folder: Path, log: Path) -> None:
        major, minor, _ = KUBERNETES.split(".")
        # Without these the server calls itself v0.0.0-master and kubectl refuses to compare versions.
        names = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor}
        flags = " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in names.items())
        command = ["go", "build", "-trimpath", "-ldflags", f"-s -w {flags}", "-o", f"{folder}/", *packages]
        commands.build(command, log, cwd=LOCAL / "tools", env={"CGO_ENABLED": "0"})

    def spark_application_crd(self) -> Path:
        """The Spark Operator's own CRD, out of its Go module."""

        def build(folder: Path, log: Path) -> None:
            module = f"github.com/kubeflow/spark-operator/v2@{SPARK_OPERATOR}"
            said = json.loads(commands.output_of(["go", "mod", "download", "-json", module], timeout=600))
            name = "sparkoperator.k8s.io_sparkapplications.yaml"
            source = Path(said["Dir"]) / "charts" / "spark-operator-chart" / "crds" / name
            shutil.copyfile(source, folder / name)

        return self.obtain("spark-operator-crd", SPARK_OPERATOR, build)

    # Spark with its clients, Envoy, pytest

    def python(self) -> Path:
        """The virtual environment's folder."""
        requirements = LOCAL / "requirements.txt"
        return self.obtain("python", _venv_version(requirements), lambda folder, log: _venv(requirements, folder, log))

    # Spark 3.5, whose Python package has everything but the Connect server

    def spark_3_5(self) -> Path:
        """The virtual environment's folder."""

        def build(folder: Path, log: Path) -> None:
            _venv(SPARK_3_5_REQUIREMENTS, folder, log)
            jars = next(folder.glob("lib/python3*/site-packages/pyspark")) / "jars"
            artifact = f"org.apache.spark:spark-connect_2.12:{SPARK_3_5}:jar"
            copy = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={jars}"]
            commands.build(copy, log, cwd=folder, env={"JAVA_HOME": str(self.tools.java_home)})

        return self.obtain("spark-3.5", _venv_version(SPARK_3_5_REQUIREMENTS), build)

    def spark_3_5_home(self) -> Path:
        """Where it lies, or would."""
        venv = self.settings.cache / f"spark-3.5-{_venv_version(SPARK_3_5_REQUIREMENTS)}"
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return venv / "lib" / python / "site-packages" / "pyspark"

    def pod_address_library(self) -> Path:
        source = LOCAL / "sparklocal" / "dev_node" / "pod_address.c"

        def build(folder: Path, log: Path) -> None:
            library = folder / "pod_address.so"
            commands.build(["cc", "-shared", "-fPIC", "-O2", "-Wall", "-o", str(library), str(source), "-ldl"], log)

        return self.obtain("pod-address", digest(source), build) / "pod_address.so"

    def keycloak(self) -> Path:
        """Keycloak, unpacked and prepared for its file database, so that a start need not prepare it again."""

        def build(folder: Path, log: Path) -> None:
            artifact = f"org.keycloak:keycloak-quarkus-dist:{KEYCLOAK}:tar.gz"
            # Through mvn, not a download of our own: it knows the user's mirrors and proxies.
            copy = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
            java = {"JAVA_HOME": str(self.tools.java_home)}
            commands.build(copy, log, cwd=folder, env=java)
            archive = folder / f"keycloak-quarkus-dist-{KEYCLOAK}.tar.gz"
            commands.build(["tar", "-xzf", str(archive), "--strip-components=1", "-C", str(folder)], log)
            archive.unlink()
            commands.build([str(folder / "bin" / "kc.sh"), "build", "--db=dev-file"], log, env=java)

        return self.obtain("keycloak", KEYCLOAK, build)

    def operator(self) -> Path:
        """Builds the operator and puts the binary into the state folder, where another clone's build cannot replace it."""
        target = Path(os.environ.get("CARGO_TARGET_DIR") or self.settings.cache / "cargo-target")
        profile = "release" if self.settings.release else "debug"
        log = self.settings.logs / "build-operator.log"
        log.unlink(missing_ok=True)
        command = ["cargo", "build", "--locked", "--bin", "spark-session-operator"]
        with self.locked("cargo"):
            extra = ["--release"] if self.settings.release else []
            commands.build(command + extra, log, cwd=REPOSITORY, env={"CARGO_TARGET_DIR": str(target)})
            built = target / profile / "spark-session-operator"
            mine = self.settings.state / "spark-session-operator"
            if not built.exists():
                raise Failure("cargo built no binary spark-session-operator", log)
            if not mine.exists() or mine.stat().st_mtime_ns != built.stat().st_mtime_ns:
                temporary = mine.with_suffix(".new")
                shutil.copy2(built, temporary)
                temporary.replace(mine)  # a running one keeps its old file
                self.built.add("operator")
        return mine


def _venv_version(requirements: Path) -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}-{digest(requirements)}"


def _venv(requirements: Path, folder: Path, log: Path) -> None:
    commands.build([sys.executable, "-m", "venv", str(folder)], log)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    commands.build([*pip, "--requirement", str(requirements)], log)


def digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:10]
