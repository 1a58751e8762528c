"""A JVM client's foreachBatch: Spark runs its classes inside the driver's own process, where they need no token."""

import base64
import os
from pathlib import Path

from clients import run

PROGRAM = """
import org.apache.spark.api.java.function.VoidFunction2;
import org.apache.spark.sql.*;
import org.apache.spark.sql.streaming.*;

public class Batches {
  public static class Each implements VoidFunction2<Dataset<Row>, Long> {
    public void call(Dataset<Row> batch, Long number) throws AnalysisException {
      // In the session of the query, which Spark copies from the one that started it.
      String mine = "(SELECT count(*) FROM mine) AS mine";
      batch.sparkSession().sql("SELECT " + batch.count() + ", " + mine).createOrReplaceGlobalTempView("told");
    }
  }

  public static void main(String[] arguments) throws Exception {
    SparkSession spark = SparkSession.builder().remote(arguments[0]).getOrCreate();
    spark.addArtifact(arguments[1]);
    spark.range(7).write().mode("overwrite").saveAsTable("incoming_of_jvm");
    spark.range(3).createOrReplaceTempView("mine");
    DataStreamWriter<Row> writer = spark.readStream().table("incoming_of_jvm").writeStream();
    writer.foreachBatch(new Each()).trigger(Trigger.AvailableNow()).start().awaitTermination();
    System.out.println(spark.table("global_temp.told").collectAsList());
    spark.sql("DROP VIEW global_temp.told");
    spark.stop();
    System.exit(0);
  }
}
"""
# With the server's own classes on the class path the client would start a Spark of its own.
SERVER = ("spark-sql_", "spark-catalyst_", "spark-connect_", "spark-hive", "spark-mllib", "spark-pipelines")
PACKAGES = ("java.nio", "java.lang", "java.lang.invoke", "java.util")
OPENED = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in PACKAGES]


def test_foreach_batch_of_a_jvm_client_works(environment, users, tmp_path):
    spark, java = Path(os.environ["SPARK_HOME"]) / "jars", Path(os.environ["JAVA_HOME"]) / "bin"
    (client,) = spark.glob("connect-repl/spark-connect-client-jvm_*.jar")
    class_path = ":".join([str(client), *(str(jar) for jar in spark.glob("*.jar") if not jar.name.startswith(SERVER))])
    (tmp_path / "Batches.java").write_text(PROGRAM)
    run([java / "javac", "-cp", class_path, "-d", tmp_path / "classes", tmp_path / "Batches.java"]).succeeded()
    run([java / "jar", "--create", "--file", tmp_path / "batches.jar", "-C", tmp_path / "classes", "."]).succeeded()

    login = base64.b64encode(f"{users[0]}:{environment.password(users[0])}".encode()).decode().rstrip("=")
    url = f"sc://localhost:{environment.port}/;authorization=Bearer%20{login}"
    argv = [java / "java", *OPENED, "-cp", f"{tmp_path}/batches.jar:{class_path}", "Batches", url, tmp_path / "batches.jar"]
    assert run(argv, timeout=120).succeeded().out == "[[7,3]]\n"
