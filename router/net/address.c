#include "net/address.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct range {
    uint8_t prefix[4]; /* the first bytes */
    unsigned bits;
};

static const struct range closed_ipv4[] = {
    {{0, 0, 0, 0}, 8},      {{10, 0, 0, 0}, 8},     {{100, 64, 0, 0}, 10}, {{127, 0, 0, 0}, 8},
    {{169, 254, 0, 0}, 16}, {{172, 16, 0, 0}, 12},  {{192, 0, 0, 0}, 24},  {{192, 0, 2, 0}, 24},
    {{192, 88, 99, 0}, 24}, {{192, 168, 0, 0}, 16}, {{198, 18, 0, 0}, 15}, {{198, 51, 100, 0}, 24},
    {{203, 0, 113, 0}, 24}, {{224, 0, 0, 0}, 3}, /* multicast, reserved, broadcast */
};

static const struct range unicast = {{0x20}, 3}; /* all of IPv6 that anybody was given */

static const struct range closed_ipv6[] = {
    {{0x20, 0x01}, 23}, /* Teredo, benchmarks and other special uses */
    {{0x20, 0x01, 0x0d, 0xb8}, 32},
    {{0x3f, 0xff}, 20}, /* documentation */
};

static bool is_in(const uint8_t *address, const struct range *range)
{
    for (unsigned bit = 0; bit < range->bits; bit += 8) {
        unsigned left = range->bits - bit;
        uint8_t mask = (uint8_t)(left >= 8 ? 0xffU : 0xff00U >> left);
        if ((address[bit / 8] & mask) != range->prefix[bit / 8]) {
            return false;
        }
    }
    return true;
}

static bool is_in_any(const uint8_t *address, const struct range *ranges, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (is_in(address, &ranges[i])) {
            return true;
        }
    }
    return false;
}

struct in6_addr address_of(const struct sockaddr *address)
{
    struct in6_addr out = IN6ADDR_ANY_INIT;

    if (address->sa_family == AF_INET6) {
        memcpy(&out, (const char *)address + offsetof(struct sockaddr_in6, sin6_addr), sizeof out);
    } else if (address->sa_family == AF_INET) {
        out.s6_addr[10] = out.s6_addr[11] = 0xff;
        memcpy(&out.s6_addr[12], (const char *)address + offsetof(struct sockaddr_in, sin_addr), 4);
    }
    return out;
}

static char *write_byte(char *out, uint8_t byte)
{
    if (byte >= 100) {
        *out++ = (char)('0' + byte / 100);
    }
    if (byte >= 10) {
        *out++ = (char)('0' + byte / 10 % 10);
    }
    *out++ = (char)('0' + byte % 10);
    return out;
}

/* IPv4 by hand: inet_ntop has sprintf do it, which would be a fortieth of what a small request
 * takes. */
struct span address_text(char out[INET6_ADDRSTRLEN], const struct in6_addr *address)
{
    const uint8_t *bytes = address->s6_addr;
    char *end = out;

    if (!IN6_IS_ADDR_V4MAPPED(address)) {
        return span_str(inet_ntop(AF_INET6, address, out, INET6_ADDRSTRLEN));
    }
    for (size_t i = 12; i < sizeof address->s6_addr; i++) {
        if (i > 12) {
            *end++ = '.';
        }
        end = write_byte(end, bytes[i]);
    }
    return span_of(out, (size_t)(end - out));
}

bool address_parse(struct in6_addr *out, const char *text)
{
    struct sockaddr_in ipv4 = {.sin_family = AF_INET};

    if (inet_pton(AF_INET, text, &ipv4.sin_addr) == 1) {
        *out = address_of((const struct sockaddr *)&ipv4);
        return true;
    }
    return inet_pton(AF_INET6, text, out) == 1;
}

bool address_is_public(const struct in6_addr *address)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};
    static const uint8_t six_to_four[2] = {0x20, 0x02};
    const uint8_t *bytes = address->s6_addr;
    const uint8_t *ipv4 = NULL;

    if (memcmp(bytes, mapped, sizeof mapped) == 0 || memcmp(bytes, nat64, sizeof nat64) == 0) {
        ipv4 = bytes + 12;
    } else if (memcmp(bytes, six_to_four, sizeof six_to_four) == 0) {
        ipv4 = bytes + 2;
    }
    if (ipv4 != NULL) {
        return !is_in_any(ipv4, closed_ipv4, sizeof closed_ipv4 / sizeof closed_ipv4[0]);
    }
    return is_in(bytes, &unicast) &&
           !is_in_any(bytes, closed_ipv6, sizeof closed_ipv6 / sizeof closed_ipv6[0]);
}
