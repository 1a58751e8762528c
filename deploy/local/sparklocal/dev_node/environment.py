"""SparkApplication and Secrets -> the environment variables of its driver. Pure: reads no files and asks nobody."""

from __future__ import annotations

import base64
from dataclasses import dataclass

ENV_CONF = "spark.kubernetes.driverEnv."
SECRET_CONF = "spark.kubernetes.driver.secretKeyRef."


class MissingSecret(Exception):
    """In the words of kubelet, which are what a user of the cluster would read."""


@dataclass(frozen=True)
class SecretKey:
    secret: str
    key: str
    optional: bool = False


def secret_keys(app: dict) -> dict[str, SecretKey]:
    """Variable -> where its value lies. The Spark Operator gives envSecretKeyRefs to spark-submit after sparkConf, so they
    win; its webhook adds `env` to what Spark has made of both."""
    spec = app["spec"]
    driver = spec.get("driver") or {}
    found = {}
    for name, value in _with_prefix(spec, SECRET_CONF).items():
        secret, _, key = str(value).partition(":")
        found[name] = SecretKey(secret, key)
    for name, reference in (driver.get("envSecretKeyRefs") or {}).items():
        found[name] = SecretKey(reference["name"], reference["key"])
    for item in driver.get("env") or []:
        reference = (item.get("valueFrom") or {}).get("secretKeyRef")
        if reference:
            found[item["name"]] = SecretKey(reference.get("name", ""), reference["key"], reference.get("optional", False))
        else:
            found.pop(item["name"], None)  # the last of two variables with one name counts
    return found


def variables(app: dict, secrets: dict[str, dict]) -> dict[str, str]:
    """Raises MissingSecret where kubelet would not start the container."""
    spec = app["spec"]
    driver = spec.get("driver") or {}
    found = _with_prefix(spec, ENV_CONF)
    found.update(driver.get("envVars") or {})
    found.update({item["name"]: item["value"] for item in driver.get("env") or [] if "value" in item})
    for name, wanted in secret_keys(app).items():
        value = _value(wanted, secrets, app["metadata"]["namespace"])
        if value is not None:
            found[name] = value
    return {name: str(value) for name, value in found.items()}


def _value(wanted: SecretKey, secrets: dict[str, dict], namespace: str) -> str | None:
    secret = secrets.get(wanted.secret)
    data = (secret or {}).get("data") or {}
    if wanted.key in data:
        return base64.b64decode(data[wanted.key]).decode(errors="surrogateescape")
    if wanted.optional:
        return None
    if secret is None:
        raise MissingSecret(f'secret "{wanted.secret}" not found')
    raise MissingSecret(f"couldn't find key {wanted.key} in Secret {namespace}/{wanted.secret}")


def _with_prefix(spec: dict, prefix: str) -> dict[str, str]:
    confs = spec.get("sparkConf") or {}
    return {key.removeprefix(prefix): value for key, value in confs.items() if key.startswith(prefix)}
