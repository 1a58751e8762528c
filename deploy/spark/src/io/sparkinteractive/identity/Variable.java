package io.sparkinteractive.identity;

import java.lang.reflect.Field;
import java.util.Map;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** A variable of this process's environment that nobody else is to read. */
final class Variable {
  private static final Logger LOG = LoggerFactory.getLogger(Variable.class);

  private Variable() {}

  /**
   * Takes it out of what {@code System.getenv} answers and child processes inherit. Otherwise a line of SQL would show it,
   * {@code SELECT java_method('java.lang.System', 'getenv', …)}. The kernel's copy, /proc/self/environ, stays.
   */
  static void forget(String name) {
    try {
      // Spark opens this package to everybody on the command line of every driver (JavaModuleOptions).
      Field field = Class.forName("java.lang.ProcessEnvironment").getDeclaredField("theEnvironment");
      field.setAccessible(true);
      ((Map<?, ?>) field.get(null)).keySet().removeIf(key -> name.equals(key.toString()));
    } catch (ReflectiveOperationException | RuntimeException e) {
      LOG.warn("whoever runs SQL here can read the variable {}: {}", name, e.toString());
    }
  }
}
