package io.sparkinteractive.identity;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import org.sparkproject.connect.grpc.Metadata;
import org.sparkproject.connect.grpc.Status;
import org.sparkproject.connect.protobuf.CodedOutputStream;

/** Why a call is refused, for the one who called and for the log: never with a secret in it. */
final class Refusal extends Exception {
  private static final long serialVersionUID = 1;
  private static final Metadata.Key<byte[]> DETAILS =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

  private final Status.Code code;

  private Refusal(Status.Code code, String message) {
    super(message, null, false, false); // it is expected, and nobody reads its stack
    this.code = code;
  }

  static Refusal unauthenticated(String message) {
    return new Refusal(Status.Code.UNAUTHENTICATED, message);
  }

  static Refusal denied(String message) {
    return new Refusal(Status.Code.PERMISSION_DENIED, message);
  }

  Status status() {
    return code.toStatus().withDescription(getMessage());
  }

  /** A google.rpc.Status: without it PySpark shows a dump of its own objects in the place of the message. */
  Metadata trailers() {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    CodedOutputStream out = CodedOutputStream.newInstance(bytes);
    try {
      out.writeInt32(1, code.value());
      out.writeString(2, getMessage());
      out.flush();
    } catch (IOException e) {
      throw new UncheckedIOException(e); // memory does not fail so
    }
    Metadata trailers = new Metadata();
    trailers.put(DETAILS, bytes.toByteArray());
    return trailers;
  }
}
