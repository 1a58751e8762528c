package io.sparkinteractive.identity;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.List;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.sparkproject.connect.grpc.ForwardingServerCall.SimpleForwardingServerCall;
import org.sparkproject.connect.grpc.ForwardingServerCallListener.SimpleForwardingServerCallListener;
import org.sparkproject.connect.grpc.Metadata;
import org.sparkproject.connect.grpc.ServerCall;
import org.sparkproject.connect.grpc.ServerCallHandler;
import org.sparkproject.connect.grpc.ServerInterceptor;
import org.sparkproject.connect.grpc.Status;

/**
 * Lets a Spark Connect server believe its gateway, and nobody else, about who calls.
 *
 * <p>Every call must carry this instance's token. Every message of Spark Connect must then be for the session that the
 * gateway checked, and runs as the user whom the gateway logged in, whatever the message says. It sees messages as Spark
 * does, after parsing: the head of a request, which the gateway checks, can be contradicted by what follows it.
 *
 * <p>The server's own Python workers call it without the gateway. Each carries the token of its session instead
 * ({@link PythonWorkers}), and its messages are for that session and run as its user.
 *
 * <p>What it does not do: know users, decide who may use a session, or hold back code that runs inside this JVM. Whatever
 * it is unsure of, it refuses.
 */
public final class IdentityInterceptor implements ServerInterceptor {
  static final String TOKEN = "SPARK_CONNECT_AUTHENTICATE_TOKEN";
  static final String CONNECT = "spark.connect.SparkConnectService";

  private static final Logger LOG = LoggerFactory.getLogger(IdentityInterceptor.class);
  private static final byte[] EXPECTED = expected(System.getenv(TOKEN));
  private static final PythonWorkers WORKERS = new PythonWorkers();

  // Spark makes this object before it reads the variable for a check of its own. That check would turn workers away, which
  // do not have the token of the instance; the one here is the same, and knows workers too.
  static {
    try {
      ProcessEnvironment.forget(TOKEN);
    } catch (ReflectiveOperationException | RuntimeException e) {
      LOG.warn("whoever runs SQL here can read the variable {}: {}", TOKEN, e.toString());
    }
    WORKERS.begin();
  }

  private static final Metadata.Key<String> AUTHORIZATION = ascii("authorization");
  private static final Metadata.Key<String> SESSION = ascii("x-spark-session-id");
  // Binary, since header values are ASCII and names of users are not; gRPC has taken the base64 off.
  private static final Metadata.Key<byte[]> USER =
      Metadata.Key.of("x-spark-session-user-bin", Metadata.BINARY_BYTE_MARSHALLER);

  @Override
  public <Q, R> ServerCall.Listener<Q> interceptCall(
      ServerCall<Q, R> call, Metadata headers, ServerCallHandler<Q, R> next) {
    Caller caller = null;
    try {
      boolean connect = CONNECT.equals(call.getMethodDescriptor().getServiceName());
      caller = connect ? WORKERS.caller(call, all(headers, AUTHORIZATION)) : null;
      if (caller == null) {
        requireToken(headers);
        caller = connect ? caller(headers) : null;
      }
    } catch (Refusal refusal) {
      close(call, refusal);
      return new ServerCall.Listener<Q>() {};
    }
    // Reflection and health checks know no sessions.
    return caller == null
        ? next.startCall(call, headers)
        : checked(Running.told(call, headers, caller), headers, next, caller);
  }

  private static <Q, R> ServerCall.Listener<Q> checked(
      ServerCall<Q, R> call, Metadata headers, ServerCallHandler<Q, R> next, Caller caller) {
    Refusable<Q, R> refusable = new Refusable<>(call);
    return new SimpleForwardingServerCallListener<Q>(next.startCall(refusable, headers)) {
      @Override
      public void onMessage(Q message) {
        if (refusable.refused) {
          return;
        }
        Q said;
        try {
          said = caller.says(message);
        } catch (Refusal refusal) {
          refusable.refuse(refusal);
          super.onCancel(); // so that the handler of a stream removes what it has taken in so far
          return;
        }
        super.onMessage(said);
      }

      @Override
      public void onHalfClose() {
        if (!refusable.refused) {
          super.onHalfClose();
        }
      }

      @Override
      public void onCancel() {
        if (!refusable.refused) {
          super.onCancel();
        }
      }

      @Override
      public void onComplete() {
        if (!refusable.refused) {
          super.onComplete();
        }
      }
    };
  }

  /** A call whose handler can no longer answer once it was refused: closing it twice would be an error. */
  private static final class Refusable<Q, R> extends SimpleForwardingServerCall<Q, R> {
    private volatile boolean refused;

    Refusable(ServerCall<Q, R> call) {
      super(call);
    }

    void refuse(Refusal refusal) {
      refused = true;
      IdentityInterceptor.close(delegate(), refusal);
    }

    @Override
    public void sendMessage(R message) {
      if (!refused) {
        super.sendMessage(message);
      }
    }

    @Override
    public void close(Status status, Metadata trailers) {
      if (!refused) {
        super.close(status, trailers);
      }
    }
  }

  private static void requireToken(Metadata headers) throws Refusal {
    if (EXPECTED == null) {
      throw Refusal.unauthenticated(noToken());
    }
    List<String> found = all(headers, AUTHORIZATION);
    if (found.isEmpty()) {
      throw Refusal.unauthenticated(
          "This Spark server takes requests from its gateway only, and this one carries no token of the instance."
              + " Connect to the host of the pool instead.");
    }
    // Looked at even if there are several, and compared in constant time: an answer must not tell how near a guess was.
    boolean right = true;
    for (String value : found) {
      right &= MessageDigest.isEqual(EXPECTED, value.getBytes(StandardCharsets.UTF_8));
    }
    if (!right || found.size() != 1) {
      throw Refusal.unauthenticated(
          "This Spark server takes requests from its gateway only, and this one does not carry the token of the"
              + " instance. Connect to the host of the pool instead.");
    }
  }

  private static Caller caller(Metadata headers) throws Refusal {
    String session = single(headers, SESSION);
    String user;
    try {
      user = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(single(headers, USER))).toString();
    } catch (CharacterCodingException e) {
      throw Refusal.denied("The header " + USER.name() + ", which the gateway sets, is not UTF-8.");
    }
    if (session.isEmpty() || user.isEmpty()) {
      throw Refusal.denied("The gateway named no " + (user.isEmpty() ? "user." : "session."));
    }
    return new Caller(session, user);
  }

  private static <T> T single(Metadata headers, Metadata.Key<T> key) throws Refusal {
    List<T> found = all(headers, key);
    if (found.size() == 1) {
      return found.get(0);
    }
    throw Refusal.denied(
        "The header " + key.name() + ", which the gateway sets, must be there once, and is there " + found.size()
            + " times.");
  }

  private static <T> List<T> all(Metadata headers, Metadata.Key<T> key) {
    List<T> found = new ArrayList<>();
    Iterable<T> values = headers.getAll(key);
    if (values != null) {
      values.forEach(found::add);
    }
    return found;
  }

  private static void close(ServerCall<?, ?> call, Refusal refusal) {
    LOG.warn("refused {}: {}", call.getMethodDescriptor().getFullMethodName(), refusal.getMessage());
    call.close(refusal.status(), refusal.trailers());
  }

  private static byte[] expected(String token) {
    if (token == null || token.isEmpty()) {
      LOG.error(noToken());
      return null;
    }
    return ("Bearer " + token).getBytes(StandardCharsets.UTF_8);
  }

  private static String noToken() {
    return "This Spark server refuses every request: the environment variable " + TOKEN
        + " is not set, so it cannot tell its gateway from others.";
  }

  private static Metadata.Key<String> ascii(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }
}
