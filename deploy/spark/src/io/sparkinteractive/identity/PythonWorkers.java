package io.sparkinteractive.identity;

import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.spark.sql.SparkSession;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.sparkproject.connect.grpc.Grpc;
import org.sparkproject.connect.grpc.ServerCall;

/**
 * The Python processes that Spark starts beside this server for {@code foreachBatch} and for listeners of streaming
 * queries. Each works for one session, and calls the server back at localhost. Here each is given the token of its session
 * in its environment, and is known again by it.
 *
 * <p>Workers of UDFs and of Python data sources do not call the server, and are given nothing.
 */
final class PythonWorkers {
  private static final Logger LOG = LoggerFactory.getLogger(PythonWorkers.class);

  /** Spark sets it for those workers, and for no other process: {@code sc://localhost:15002/;user_id=alice}. */
  private static final String URL = "SPARK_CONNECT_LOCAL_URL";
  private static final String USER = ";user_id=";

  // What would make a session that the gateway does not know of, and end one behind its back.
  private static final Set<String> CLOSED = Set.of("CloneSession", "ReleaseSession");

  private final WorkerTokens tokens = new WorkerTokens();

  /** From now on, workers are given tokens. */
  void begin() {
    try {
      ProcessEnvironment.addToChildren(this::variables);
    } catch (ReflectiveOperationException | RuntimeException e) {
      LOG.warn("foreachBatch and streaming listeners in Python cannot use Spark here, since no token reaches them", e);
    }
  }

  /** The session and the user of the worker that calls; null if it is no worker. */
  Caller caller(ServerCall<?, ?> call, List<String> authorization) throws Refusal {
    if (authorization.size() != 1) {
      return null;
    }
    Caller worker = tokens.caller(authorization.get(0), call.getAttributes().get(Grpc.TRANSPORT_ATTR_REMOTE_ADDR));
    String method = call.getMethodDescriptor().getBareMethodName();
    if (worker != null && CLOSED.contains(method)) {
      throw Refusal.denied(
          "The Python code of a streaming query works inside its session: it can neither end it nor clone it. "
              + method + " is for the program that opened the session.");
    }
    return worker;
  }

  private Map<String, String> variables(String name, String value) {
    int user = URL.equals(name) ? value.indexOf(USER) : -1;
    if (user < 0) {
      return Collections.emptyMap();
    }
    try {
      Object session = ConnectSessions.ofThisThread();
      if (session != null) {
        return variables(value.substring(0, user + USER.length()), session);
      }
      LOG.warn("a Python worker gets no token, since its session is not known");
    } catch (ReflectiveOperationException | RuntimeException e) {
      LOG.warn("a Python worker gets no token", e);
    }
    return Collections.emptyMap();
  }

  private Map<String, String> variables(String upToUser, Object session) throws ReflectiveOperationException {
    String token = tokens.of(session);
    // Spark writes the name as it is, and a name with one of ;=/#? in it would make another URL of it.
    String user = ConnectSessions.caller(session).user();
    String url = upToUser + URLEncoder.encode(user, StandardCharsets.UTF_8).replace("+", "%20");
    Map<String, String> variables = new HashMap<>();
    if (SparkSession.active().version().startsWith("3.")) {
      url += ";authorization=Bearer%20" + token; // PySpark 3.5 knows no other way, and prints the URL to the driver's log
    } else {
      variables.put(IdentityInterceptor.TOKEN, token); // under this name a client of Spark 4 looks for its token
    }
    variables.put(URL, url);
    return variables;
  }
}
