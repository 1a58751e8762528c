/* Gives a process the view of the network that it has inside a Pod: one address.
 *
 * Preloaded into a driver. A bind() to the wildcard address becomes a bind() to $POD_ADDRESS. Without it two Thrift servers
 * cannot run on one machine: in HTTP mode they ignore hive.server2.thrift.bind.host and take the port on every address.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

typedef int (*bind_function)(int, const struct sockaddr *, socklen_t);

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
