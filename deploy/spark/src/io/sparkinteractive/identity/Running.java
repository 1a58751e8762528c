package io.sparkinteractive.identity;

import org.apache.spark.sql.connect.service.ExecuteInfo;
import org.apache.spark.sql.connect.service.SparkConnectService$;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.sparkproject.connect.grpc.ForwardingServerCall.SimpleForwardingServerCall;
import org.sparkproject.connect.grpc.Metadata;
import org.sparkproject.connect.grpc.ServerCall;
import scala.Option;
import scala.collection.Iterable;
import scala.collection.Iterator;

/**
 * Tells whoever asks how many executions are under way in their own session: no call of Spark Connect lists them. The
 * operator asks before it ends a session that nobody uses.
 */
final class Running {
  /** In a request it asks; in the head of the answer it has the number. */
  private static final Metadata.Key<String> RUNNING =
      Metadata.Key.of("x-spark-session-running", Metadata.ASCII_STRING_MARSHALLER);

  /** How the operator's own requests name their client: a question is nothing that runs. */
  private static final String OPERATOR = "spark-session-operator";

  private static final Logger LOG = LoggerFactory.getLogger(Running.class);

  private Running() {}

  /** The call, which tells the number in its answer if that is asked for. Without one the number is not known. */
  static <Q, R> ServerCall<Q, R> told(ServerCall<Q, R> call, Metadata headers, Caller caller) {
    if (!headers.containsKey(RUNNING)) {
      return call;
    }
    return new SimpleForwardingServerCall<Q, R>(call) {
      @Override
      public void sendHeaders(Metadata answer) {
        try {
          answer.put(RUNNING, Integer.toString(count(caller)));
        } catch (RuntimeException | LinkageError e) {
          LOG.warn("cannot tell what runs in a session: {}", e.toString());
        }
        super.sendHeaders(answer);
      }
    };
  }

  private static int count(Caller caller) {
    // Nothing, or when the last one ended.
    Option<? extends Iterable<ExecuteInfo>> active =
        SparkConnectService$.MODULE$.executionManager().listActiveExecutions().toOption();
    int count = 0;
    if (active.isDefined()) {
      for (Iterator<ExecuteInfo> all = active.get().iterator(); all.hasNext(); ) {
        ExecuteInfo it = all.next();
        if (caller.is(it.userId(), it.sessionId()) && runs(it) && !OPERATOR.equals(it.request().getClientType())) {
          count++;
        }
      }
    }
    return count;
  }

  /** Spark lists an execution until its client has fetched all of its result, or was gone for some minutes. */
  private static boolean runs(ExecuteInfo execution) {
    switch (execution.status().toString()) {
      case "Finished":
      case "Failed":
      case "Canceled":
      case "Closed":
        return false;
      default:
        return true;
    }
  }
}
