package io.sparkinteractive.identity;

import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.util.HashMap;
import java.util.Map;

/**
 * The environment variables of this process, as the JDK keeps them for {@code System.getenv} and for child processes. The
 * JDK lets nobody change them, so this goes by reflection into its class of the same name; Spark opens that package to
 * everybody on the command line of every driver (JavaModuleOptions).
 *
 * <p>The kernel's copy, /proc/self/environ, stays as it is.
 */
final class ProcessEnvironment {
  private static final String JDK = "java.lang.ProcessEnvironment";

  private ProcessEnvironment() {}

  /**
   * Takes a variable out of what {@code System.getenv} answers and child processes inherit. Otherwise a line of SQL would
   * show it, {@code SELECT java_method('java.lang.System', 'getenv', …)}.
   */
  static void forget(String name) throws ReflectiveOperationException {
    ((Map<?, ?>) variables().get(null)).keySet().removeIf(key -> name.equals(key.toString()));
  }

  /** From now on this is asked about each variable that a child process is given beside those it inherits. */
  static void addToChildren(Addition addition) throws ReflectiveOperationException {
    Field field = variables();
    HashMap<Object, Object> inherited = new Inherited((Map<?, ?>) field.get(null), addition, new Encoded());
    // The field is final, so that only Unsafe can write it. The JDK reads it anew for every child.
    Class<?> unsafeClass = Class.forName("sun.misc.Unsafe");
    Field theUnsafe = unsafeClass.getDeclaredField("theUnsafe");
    theUnsafe.setAccessible(true);
    Object unsafe = theUnsafe.get(null);
    Object base = unsafeClass.getMethod("staticFieldBase", Field.class).invoke(unsafe, field);
    Object offset = unsafeClass.getMethod("staticFieldOffset", Field.class).invoke(unsafe, field);
    unsafeClass
        .getMethod("putObjectVolatile", Object.class, long.class, Object.class)
        .invoke(unsafe, base, offset, inherited);
  }

  private static Field variables() throws ReflectiveOperationException {
    Field field = Class.forName(JDK).getDeclaredField("theEnvironment");
    field.setAccessible(true);
    return field;
  }

  /** What else a child process is given. */
  interface Addition {
    /** The variables to set because of this one. Called in the thread that starts the child; must not throw. */
    Map<String, String> to(String name, String value);
  }

  /** The JDK copies it for each child. */
  private static final class Inherited extends HashMap<Object, Object> {
    private static final long serialVersionUID = 1;
    private final transient Addition addition;
    private final transient Encoded encoded;

    Inherited(Map<?, ?> variables, Addition addition, Encoded encoded) {
      super(variables);
      this.addition = addition;
      this.encoded = encoded;
    }

    @Override
    public Object clone() {
      return new OfChild(this);
    }
  }

  private static final class OfChild extends HashMap<Object, Object> {
    private static final long serialVersionUID = 1;
    private final transient Inherited inherited;

    OfChild(Inherited inherited) {
      super(inherited);
      this.inherited = inherited;
    }

    @Override
    public Object put(Object name, Object value) {
      Object before = super.put(name, value);
      Encoded encoded = inherited.encoded;
      inherited
          .addition
          .to(name.toString(), value.toString())
          .forEach((key, text) -> super.put(encoded.name(key), encoded.value(text)));
      return before;
    }
  }

  /** The JDK keeps names and values as bytes, in classes of its own. */
  private static final class Encoded {
    private final Method name = valueOf("Variable");
    private final Method value = valueOf("Value");

    Encoded() throws ReflectiveOperationException {}

    Object name(String text) {
      return call(name, text);
    }

    Object value(String text) {
      return call(value, text);
    }

    private static Method valueOf(String type) throws ReflectiveOperationException {
      Method method = Class.forName(JDK + "$" + type).getDeclaredMethod("valueOf", String.class);
      method.setAccessible(true);
      return method;
    }

    private static Object call(Method method, String text) {
      try {
        return method.invoke(null, text);
      } catch (ReflectiveOperationException e) {
        throw new IllegalStateException(e);
      }
    }
  }
}
