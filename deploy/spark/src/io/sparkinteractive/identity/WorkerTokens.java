package io.sparkinteractive.identity;

import java.lang.ref.WeakReference;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The tokens of the Python workers that Spark starts beside this server for {@code foreachBatch} and for listeners of
 * streaming queries. A worker calls the server back, without the gateway that would say who it is.
 *
 * <p>A token stands for one session, and for its user: it opens no other session, it is good on the loopback interface
 * only, and it ends with the session. It is not the token of the instance, which opens every session.
 */
final class WorkerTokens {
  private static final Logger LOG = LoggerFactory.getLogger(WorkerTokens.class);
  private static final int BYTES = 32;

  private final SecureRandom random = new SecureRandom();
  // Every call looks through it, and only the start of a worker changes it.
  private final List<Issued> issued = new CopyOnWriteArrayList<>();

  /** The token for the session of this holder. Each session has one, which all of its workers share. */
  synchronized String of(Object holder) throws ReflectiveOperationException {
    forgetEndedSessions();
    for (Issued one : issued) {
      if (one.holder.get() == holder) {
        return one.token;
      }
    }
    byte[] bytes = new byte[BYTES];
    random.nextBytes(bytes);
    Issued one = new Issued(Base64.getUrlEncoder().withoutPadding().encodeToString(bytes), holder);
    issued.add(one);
    return one.token;
  }

  /** Whom this Authorization header of a call from that address stands for; null if it is not a worker's. */
  Caller caller(String authorization, SocketAddress from) throws Refusal {
    byte[] said = authorization.getBytes(StandardCharsets.UTF_8);
    Issued found = null;
    for (Issued one : issued) {
      if (MessageDigest.isEqual(one.authorization, said)) {
        found = one; // and go on, so that an answer takes as long for every token
      }
    }
    if (found == null || !isLoopback(from)) {
      return null;
    }
    try {
      Object holder = found.holder.get();
      if (holder != null && ConnectSessions.has(holder)) {
        return ConnectSessions.caller(holder);
      }
    } catch (ReflectiveOperationException e) {
      LOG.warn("the sessions of this server cannot be read", e);
      throw Refusal.unauthenticated("The session of this Python worker is not known; the driver's log says why.");
    }
    throw Refusal.unauthenticated("The session that this Python worker was started for has ended.");
  }

  private void forgetEndedSessions() throws ReflectiveOperationException {
    List<Issued> ended = new ArrayList<>();
    for (Issued one : issued) {
      Object holder = one.holder.get();
      if (holder == null || !ConnectSessions.has(holder)) {
        ended.add(one);
      }
    }
    issued.removeAll(ended);
  }

  private static boolean isLoopback(SocketAddress address) {
    return address instanceof InetSocketAddress && ((InetSocketAddress) address).getAddress().isLoopbackAddress();
  }

  /** Holds the session weakly: an ended session's memory must not stay for the sake of its token. */
  private static final class Issued {
    private final String token;
    private final byte[] authorization;
    private final WeakReference<Object> holder;

    Issued(String token, Object holder) {
      this.token = token;
      this.authorization = ("Bearer " + token).getBytes(StandardCharsets.UTF_8);
      this.holder = new WeakReference<>(holder);
    }
  }
}
