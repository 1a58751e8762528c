/* Gives a process the view of the network that it has inside a Pod: one address.
 *
 * Preloaded into a driver. A bind() to the wildcard address becomes a bind() to $POD_ADDRESS. Without it two Thrift servers
 * cannot run on one machine: in HTTP mode they ignore hive.server2.thrift.bind.host and take the port on every address.
 *
 * A connect() to 127.0.0.1 goes to $POD_ADDRESS where something listens on that port there. In a Pod a server on the
 * wildcard address answers at localhost too, which is where Spark's Python workers call the Connect server.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef int (*bind_function)(int, const struct sockaddr *, socklen_t);
typedef int (*connect_function)(int, const struct sockaddr *, socklen_t);

int bind(int fd, const struct sockaddr *address, socklen_t length) {
  bind_function real = (bind_function)dlsym(RTLD_NEXT, "bind");
  const char *text = getenv("POD_ADDRESS");
  struct in_addr pod;
  if (address == NULL || text == NULL || inet_pton(AF_INET, text, &pod) != 1) return real(fd, address, length);

  if (address->sa_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
    struct sockaddr_in changed;
    memcpy(&changed, address, sizeof changed);
    if (changed.sin_addr.s_addr == htonl(INADDR_ANY)) {
      changed.sin_addr = pod;
      return real(fd, (struct sockaddr *)&changed, sizeof changed);
    }
  }
  if (address->sa_family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
    struct sockaddr_in6 changed;
    memcpy(&changed, address, sizeof changed);
    if (IN6_IS_ADDR_UNSPECIFIED(&changed.sin6_addr)) {
      memset(&changed.sin6_addr, 0, sizeof changed.sin6_addr);
      changed.sin6_addr.s6_addr[10] = 0xff;
      changed.sin6_addr.s6_addr[11] = 0xff;
      memcpy(&changed.sin6_addr.s6_addr[12], &pod, sizeof pod);
      return real(fd, (struct sockaddr *)&changed, sizeof changed);
    }
  }
  return real(fd, address, length);
}

/* Whether a server listens there. With SO_REUSEADDR only a listening socket is in the way of a bind(). */
static int listens(struct in_addr pod, in_port_t port) {
  bind_function real = (bind_function)dlsym(RTLD_NEXT, "bind");
  struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = port, .sin_addr = pod};
  int on = 1, before = errno;
  int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (probe < 0) return 0;
  setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  int taken = real(probe, (struct sockaddr *)&there, sizeof there) != 0 && errno == EADDRINUSE;
  close(probe);
  errno = before;
  return taken;
}

int connect(int fd, const struct sockaddr *address, socklen_t length) {
  connect_function real = (connect_function)dlsym(RTLD_NEXT, "connect");
  const char *text = getenv("POD_ADDRESS");
  struct in_addr pod;
  if (address == NULL || text == NULL || inet_pton(AF_INET, text, &pod) != 1) return real(fd, address, length);

  if (address->sa_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
    struct sockaddr_in changed;
    memcpy(&changed, address, sizeof changed);
    if (changed.sin_addr.s_addr == htonl(INADDR_LOOPBACK) && listens(pod, changed.sin_port)) {
      changed.sin_addr = pod;
      return real(fd, (struct sockaddr *)&changed, sizeof changed);
    }
  }
  /* gRPC has one kind of socket for both families, and writes 127.0.0.1 as ::ffff:127.0.0.1. */
  if (address->sa_family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
    struct sockaddr_in6 changed;
    struct in_addr mapped;
    memcpy(&changed, address, sizeof changed);
    memcpy(&mapped, &changed.sin6_addr.s6_addr[12], sizeof mapped);
    if (IN6_IS_ADDR_V4MAPPED(&changed.sin6_addr) && mapped.s_addr == htonl(INADDR_LOOPBACK) && listens(pod, changed.sin6_port)) {
      memcpy(&changed.sin6_addr.s6_addr[12], &pod, sizeof pod);
      return real(fd, (struct sockaddr *)&changed, sizeof changed);
    }
  }
  return real(fd, address, length);
}
