"""Notes the token of every Connect instance while the tests run: its Secret goes with the instance. No test cases."""

from __future__ import annotations

import base64
import subprocess
import threading

SECRETS = ["get", "secrets", "--field-selector=type=sparkinteractive.io/instance-token"]
TOKEN = r'-o=jsonpath={.data.token}{"\n"}'


class InstanceTokens:
    def __init__(self, kubectl: str, kubeconfig: str):
        self.argv = [kubectl, f"--kubeconfig={kubeconfig}", *SECRETS, TOKEN, "--watch"]
        self.tokens: set[str] = set()
        self.over = False
        self.watch: subprocess.Popen | None = None
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "InstanceTokens":
        self._begin()
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.over = True
        self.watch.kill()
        self.thread.join(timeout=10)

    def found(self) -> set[str]:
        return set(self.tokens)

    def _begin(self) -> None:
        self.watch = subprocess.Popen(self.argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def _follow(self) -> None:
        while True:
            for line in filter(None, map(str.strip, self.watch.stdout)):
                self.tokens.add(base64.b64decode(line).decode())
            self.watch.wait()
            if self.over:
                return
            self._begin()  # the API server ends a watch after a while; a new one starts with what there is
