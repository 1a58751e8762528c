package io.sparkinteractive.identity;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.Collection;
import java.util.Map;
import org.apache.spark.sql.SparkSession;
import scala.Option;

/**
 * The sessions of this Spark Connect server, as Spark itself holds them. Spark shows them to nobody, so they are read by
 * reflection, by the names of Spark 3.5 and of Spark 4.
 *
 * <p>It changes nothing, and keeps nothing: a session that has ended is no longer found.
 */
final class ConnectSessions {
  private static final String SERVICE = "org.apache.spark.sql.connect.service.SparkConnectService$";

  private ConnectSessions() {}

  /** The session in which this thread works, as a SessionHolder; null in a thread that works for none. */
  static Object ofThisThread() throws ReflectiveOperationException {
    Option<SparkSession> active = SparkSession.getActiveSession();
    if (active.isDefined()) {
      for (Object holder : holders()) {
        if (get(holder, "session") == active.get()) {
          return holder;
        }
      }
    }
    return null;
  }

  /** Whether this very session is still there. Another one of the same user and id is not the same session. */
  static boolean has(Object holder) throws ReflectiveOperationException {
    for (Object one : holders()) {
      if (one == holder) {
        return true;
      }
    }
    return false;
  }

  static Caller caller(Object holder) throws ReflectiveOperationException {
    return new Caller((String) get(holder, "sessionId"), (String) get(holder, "userId"));
  }

  private static Collection<?> holders() throws ReflectiveOperationException {
    Object service = Class.forName(SERVICE).getField("MODULE$").get(null);
    Object sessions;
    try {
      sessions = get(get(service, "sessionManager"), "sessionStore");
    } catch (NoSuchMethodException spark3) {
      sessions = get(get(service, "userSessionMapping"), "asMap"); // a cache of Guava
    }
    return ((Map<?, ?>) sessions).values();
  }

  private static Object get(Object of, String name) throws ReflectiveOperationException {
    Method method = method(of.getClass(), name);
    method.setAccessible(true);
    try {
      return method.invoke(of);
    } catch (InvocationTargetException e) {
      throw new ReflectiveOperationException(name + " of " + of.getClass().getName() + " failed", e.getCause());
    }
  }

  /** The method of this class, or of the class it extends where that one has it. */
  private static Method method(Class<?> type, String name) throws NoSuchMethodException {
    for (Class<?> one = type; one != null; one = one.getSuperclass()) {
      try {
        return one.getDeclaredMethod(name);
      } catch (NoSuchMethodException e) {
        // It may stand further up.
      }
    }
    throw new NoSuchMethodException(type.getName() + " has no " + name);
  }
}
