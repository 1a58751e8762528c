"""The order in which everything is obtained and started: independent parts side by side, each waiting for what it needs."""

from __future__ import annotations

import concurrent.futures
import os
from pathlib import Path

from . import commands, control_plane, envoy, keycloak, session_operator, spark
from .parts import Parts
from .prerequisites import Tools
from .progress import Progress
from .services import Services
from .settings import LOCAL, Settings


class BringUp:
    def __init__(self, settings: Settings, tools: Tools, progress: Progress):
        self.settings = settings
        self.tools = tools
        self.progress = progress
        self.parts = Parts(settings, tools)
        self.services = Services(settings)

    def run(self) -> None:
        with concurrent.futures.ThreadPoolExecutor(max_workers=12) as pool:
            futures = self._submit(pool)
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
            except BaseException:
                for future in futures:
                    future.cancel()
                commands.abandon()
                raise

    def _submit(self, pool) -> list[concurrent.futures.Future]:
        context, only = self.settings.context, self.settings.only
        cluster = pool.submit(self._existing_cluster if context else self._own_cluster)
        futures = [cluster]
        if only == "api":
            return futures
        python = pool.submit(self._python)
        futures.append(python)
        if only == "envoy":
            return futures
        if not context:
            futures.append(pool.submit(lambda: self._dev_node(python, cluster)))
        if only == "all":
            login = pool.submit(self._keycloak)
            # After the cluster's: a Go build and a cargo build each use every core.
            binary = pool.submit(lambda: (cluster.result(), self._build_operator())[1])
            operator = pool.submit(lambda: self._operator(binary, cluster, login, python))
            proxy = pool.submit(lambda: self._envoy(python, operator))
            futures += [login, binary, operator, proxy]
        return futures

    def _own_cluster(self) -> control_plane.Applier:
        with self.progress.step("build etcd and Kubernetes") as step:
            binaries = self.parts.kubernetes()
            kubectl = self.parts.kubectl()
            crd = self.parts.spark_application_crd()
            step.outcome = self.parts.outcome("kubernetes")
        applier = control_plane.Applier(self.settings, kubectl)
        with self.progress.step("start etcd and Kubernetes") as step:
            control_plane.start(self.settings, self.services, binaries)
            commands.wait_for("the Kubernetes API is ready", applier.ready, 60, self.services.running("apiserver"))
            step.outcome = self.services.outcome("apiserver")
        self._apply(applier, crd)
        return applier

    def _existing_cluster(self) -> control_plane.Applier:
        applier = control_plane.Applier(self.settings, self.parts.kubectl())
        with self.progress.step(f"cluster {self.settings.context}") as step:
            control_plane.use_context(self.settings, applier.kubectl_binary)
            applier.ready() or applier.kubectl("version")  # the second says what is wrong
            applier.kubectl("get", "crd", "sparkapplications.sparkoperator.k8s.io")
            step.outcome = "reached"
        self._apply(applier, None)
        return applier

    def _apply(self, applier: control_plane.Applier, crd: Path | None) -> None:
        with self.progress.step("apply CRDs, rights, pools") as step:
            applier.apply_definitions(crd)
            if self.settings.only == "all":
                applier.apply_rights()
                applier.apply_pools()
            step.outcome = "applied"

    def _python(self) -> Path:
        with self.progress.step("Spark, Envoy (pip)") as step:
            venv = self.parts.python()
            self.parts.pod_address_library()
            step.outcome = self.parts.outcome("python")
        spark.write_beeline(self.settings, venv, self.tools.java_home)
        return venv

    def _dev_node(self, python, cluster) -> None:
        python.result()
        with self.progress.step("class-data-sharing archives") as step:
            archives = spark.archives(self.parts)
            step.outcome = "recorded" if "archives" in self.parts.built else "from the cache"
        cluster.result()
        with self.progress.step("start the dev node") as step:
            argv = spark.dev_node_command(self.settings, spark.installation(self.parts, archives))
            env = {"PYTHONPATH": str(LOCAL)}
            if "DEV_NODE_MASTER" in os.environ:
                env["DEV_NODE_MASTER"] = os.environ["DEV_NODE_MASTER"]
            sources = sorted((LOCAL / "sparklocal" / "dev_node").glob("*.py"))
            self.services.ensure("dev-node", argv, ["kubelet"], env=env, files=sources)
            step.outcome = self.services.outcome("dev-node")

    def _keycloak(self) -> None:
        with self.progress.step("Keycloak (mvn)") as step:
            distribution = self.parts.keycloak()
            step.outcome = self.parts.outcome("keycloak")
        with self.progress.step("start Keycloak") as step:
            keycloak.start(self.settings, self.services, distribution, self.tools.java_home)
            step.outcome = self.services.outcome("keycloak")

    def _build_operator(self) -> Path:
        with self.progress.step("build the operator (cargo)") as step:
            binary = self.parts.operator()
            step.outcome = "new binary" if "operator" in self.parts.built else "unchanged"
        return binary

    def _operator(self, binary, cluster, login, python) -> None:
        built, _, _, _ = binary.result(), cluster.result(), login.result(), python.result()
        with self.progress.step("build the jar for Spark (javac)") as step:
            jar = spark.identity_jar(self.parts)
            step.outcome = self.parts.outcome("identity")
        with self.progress.step("start the operator") as step:
            session_operator.start(self.settings, self.services, built, jar)
            step.outcome = self.services.outcome("operator")

    def _envoy(self, python, operator) -> None:
        venv, _ = python.result(), operator.result()
        with self.progress.step("start Envoy") as step:
            envoy.start(self.settings, self.services, venv)
            step.outcome = self.services.outcome("envoy")
