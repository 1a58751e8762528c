package io.sparkinteractive.identity;

import org.sparkproject.connect.protobuf.Descriptors.Descriptor;
import org.sparkproject.connect.protobuf.Descriptors.FieldDescriptor;
import org.sparkproject.connect.protobuf.Message;

/**
 * The session and the user that a call is for, as the gateway or the token of a worker says. Knows requests by the names of
 * their fields only, so that one class serves every request of every Spark version; a request without these fields is refused.
 */
final class Caller {
  private final String session;
  private final String user;

  Caller(String session, String user) {
    this.session = session;
    this.user = user;
  }

  String user() {
    return user;
  }

  /** Whether this is their session, as Spark writes both. */
  boolean is(String user, String session) {
    return this.user.equals(user) && this.session.equals(session);
  }

  /** The message as this caller says it: in this session, or not at all, and as this user. */
  <Q> Q says(Q request) throws Refusal {
    if (!(request instanceof Message)) {
      throw Refusal.denied("This message cannot be looked into, so nobody knows whose it is.");
    }
    Message message = (Message) request;
    Descriptor type = message.getDescriptorForType();
    FieldDescriptor sessionId = field(type, "session_id", FieldDescriptor.JavaType.STRING);
    FieldDescriptor context = field(type, "user_context", FieldDescriptor.JavaType.MESSAGE);
    // Letter by letter, as Spark does: the same UUID in another case is another session there.
    if (!session.equals((String) message.getField(sessionId))) {
      // Without what the message says: it may be long, and it may be somebody else's.
      throw Refusal.denied(
          "This " + type.getName() + " names another session than the one that was checked, " + session + ".");
    }
    // Read, changed and put back, so that what else is in it stays.
    Message.Builder mine = ((Message) message.getField(context)).toBuilder();
    for (String name : new String[] {"user_id", "user_name"}) {
      mine.setField(field(context.getMessageType(), name, FieldDescriptor.JavaType.STRING), user);
    }
    @SuppressWarnings("unchecked") // a builder builds what it was made from
    Q said = (Q) message.toBuilder().setField(context, mine.build()).build();
    return said;
  }

  private static FieldDescriptor field(Descriptor type, String name, FieldDescriptor.JavaType kind) throws Refusal {
    FieldDescriptor field = type.findFieldByName(name);
    if (field == null || field.isRepeated() || field.getJavaType() != kind) {
      throw Refusal.denied(
          "A " + type.getName() + " of this Spark version has no " + name + ", so nobody knows whose it is.");
    }
    return field;
  }
}
