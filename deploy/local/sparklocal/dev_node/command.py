"""SparkApplication, variables -> the command that runs its driver. Pure: reads no files and starts nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CONNECT = "org.apache.spark.sql.connect.service.SparkConnectServer"
THRIFT = "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"

# Set by whoever launches a driver, so a template's values would never have had an effect.
LAUNCHER_KEYS = ("spark.master", "spark.submit.deployMode", "spark.driver.host", "spark.driver.bindAddress")


@dataclass(frozen=True)
class Installation:
    """What is the same for every driver of an environment."""

    spark_home: Path
    # Beginning of a SparkApplication's sparkVersion -> where that Spark lies, or will.
    other_spark_homes: dict[str, Path]
    java_home: Path
    python: Path  # for Spark's Python workers; has what PySpark's Connect client needs
    pod_address_library: Path
    master: str
    archives: dict[str, Path]  # main class -> class-data-sharing archive; of spark_home

    def home_of(self, app: dict) -> Path:
        """What the application's image would have."""
        version = str(app["spec"].get("sparkVersion") or "")
        found = (folder for start, folder in self.other_spark_homes.items() if f"{version}.".startswith(f"{start}."))
        return next(found, self.spark_home)


@dataclass(frozen=True)
class Command:
    argv: list[str]
    env: dict[str, str]


def driver_command(app: dict, address: str, folder: Path, variables: dict[str, str], with_: Installation) -> Command:
    """In the precedence of the Spark Operator: its flags (`--jars`) beat sparkConf, and so do the fields of the driver."""
    spec = app["spec"]
    driver = spec.get("driver") or {}
    main_class = spec.get("mainClass")
    home = with_.home_of(app)
    argv = [str(home / "bin" / "spark-submit"), "--master", with_.master]
    if driver.get("memory"):
        argv += ["--driver-memory", driver["memory"]]
    if main_class:
        argv += ["--class", main_class]
    jars = (spec.get("deps") or {}).get("jars")
    if jars:
        argv += ["--jars", ",".join(jars)]
    for key, value in _confs(app, address, folder, with_).items():
        argv += ["--conf", f"{key}={value}"]
    argv.append(_application_file(spec))
    argv += spec.get("arguments") or []
    return Command(argv, _environment(variables, address, home, with_))


def _confs(app: dict, address: str, folder: Path, with_: Installation) -> dict[str, str]:
    spec = app["spec"]
    driver = spec.get("driver") or {}
    confs = {
        "spark.app.name": app["metadata"]["name"],
        # A second driver on the machine would find the port of the first one's page taken, and try the next.
        "spark.ui.enabled": "false",
        "spark.sql.warehouse.dir": f"{folder}/warehouse",
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={folder}/metastore_db;create=true",
    }
    confs.update({key: str(value) for key, value in (spec.get("sparkConf") or {}).items()})
    for key in LAUNCHER_KEYS:
        confs.pop(key, None)
    if driver.get("javaOptions"):
        confs["spark.driver.extraJavaOptions"] = driver["javaOptions"]
    archive = with_.archives.get(spec.get("mainClass", ""))
    if archive and with_.home_of(app) == with_.spark_home:
        sharing = f"-XX:SharedArchiveFile={archive} -Xlog:cds=off"
        confs["spark.driver.defaultJavaOptions"] = f"{sharing} {confs.get('spark.driver.defaultJavaOptions', '')}".strip()
    confs.update(
        {
            "spark.driver.host": address,
            "spark.driver.bindAddress": address,
            "spark.local.dir": f"{folder}/local",
            # The servers bind the wildcard address by default, which inside a Pod is the Pod's.
            "spark.connect.grpc.binding.address": address,
            "spark.hadoop.hive.server2.thrift.bind.host": address,
        }
    )
    return confs


def _application_file(spec: dict) -> str:
    """Spark's own servers need no application file; anything else is a file on this machine."""
    file = spec.get("mainApplicationFile") or ""
    if spec.get("mainClass") in (CONNECT, THRIFT) or file.endswith("spark-internal"):
        return "spark-internal"
    return file.removeprefix("local://")


def _environment(variables: dict[str, str], address: str, home: Path, with_: Installation) -> dict[str, str]:
    return {
        # As an image would set it, which a template can override.
        "PYSPARK_PYTHON": str(with_.python),
        **variables,
        "JAVA_HOME": str(with_.java_home),
        "SPARK_HOME": str(home),
        # On the class path, and a class-data-sharing archive fits one class path only, so not a folder per driver.
        "SPARK_CONF_DIR": str(home / "conf"),
        "SPARK_LOCAL_IP": address,
        "POD_ADDRESS": address,
        "LD_PRELOAD": str(with_.pod_address_library),
    }
