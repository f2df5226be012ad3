/* Clients by address. An address is all that is known of them here; no byte that they sent is
 * looked at. */
#include "daemon/guest.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define HALF_OF_IPV6 8u /* bytes: the network; the rest is the client's to choose */

struct guest guest_of(const struct sockaddr_storage *from)
{
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)from;
    const struct sockaddr_in *four = (const struct sockaddr_in *)from;
    struct guest guest;
    char text[INET6_ADDRSTRLEN] = "unknown";
    if (from->ss_family == AF_INET6) {
        struct in6_addr net = six->sin6_addr;
        memset(net.s6_addr + HALF_OF_IPV6, 0, HALF_OF_IPV6);
        inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof(text));
        snprintf(guest.name, sizeof(guest.name), "IPv6:%s", text);
        inet_ntop(AF_INET6, &net, text, sizeof(text));
        snprintf(guest.key, sizeof(guest.key), "IPv6:%s/64", text);
        return guest;
    }
    if (from->ss_family == AF_INET)
        inet_ntop(AF_INET, &four->sin_addr, text, sizeof(text));
    snprintf(guest.name, sizeof(guest.name), "%s", text);
    snprintf(guest.key, sizeof(guest.key), "%s", text);
    return guest;
}
