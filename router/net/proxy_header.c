#include "net/proxy_header.h"

#include <stdint.h>

enum {
    VERSION_2 = 0x20, /* upper half of the 13th byte */
    COMMAND_LOCAL = 0,
    COMMAND_PROXY = 1,
    UNSPECIFIED = 0x00, /* the 14th byte: family and transport */
    TCP_IPV4 = 0x11,
    TCP_IPV6 = 0x21,
    UNIX_STREAM = 0x31,
    ADDRESSES_IPV4 = 12, /* bytes: two addresses and two ports */
    ADDRESSES_IPV6 = 36,
    ADDRESSES_UNIX = 216,
};

const struct span proxy_signature = SPAN_INIT("\r\n\r\n\0\r\nQUIT\n");

static uint8_t byte_at(struct span bytes, size_t at)
{
    return (uint8_t)bytes.data[at];
}

/* Bytes that the addresses of a family take; SIZE_MAX if it is none of ours. */
static size_t addresses_size(uint8_t family)
{
    switch (family) {
    case UNSPECIFIED:
        return 0;
    case TCP_IPV4:
        return ADDRESSES_IPV4;
    case TCP_IPV6:
        return ADDRESSES_IPV6;
    case UNIX_STREAM:
        return ADDRESSES_UNIX;
    default:
        return SIZE_MAX;
    }
}

static void take_address(struct proxy_header *out, uint8_t family, const char *addresses)
{
    out->has_address = family == TCP_IPV4 || family == TCP_IPV6;
    if (family == TCP_IPV6) {
        memcpy(&out->address, addresses, sizeof out->address);
    } else if (family == TCP_IPV4) {
        out->address.s6_addr[10] = out->address.s6_addr[11] = 0xff;
        memcpy(&out->address.s6_addr[12], addresses, 4);
    }
}

enum proxy_result proxy_header_decode(struct proxy_header *out, struct span bytes)
{
    size_t n = bytes.size < PROXY_SIGNATURE_SIZE ? bytes.size : PROXY_SIGNATURE_SIZE;

    *out = (struct proxy_header){.size = PROXY_FIXED_SIZE};
    if (n > 0 && memcmp(bytes.data, proxy_signature.data, n) != 0) {
        return PROXY_BAD;
    }
    if (bytes.size < PROXY_FIXED_SIZE) {
        return PROXY_MORE;
    }
    unsigned command = byte_at(bytes, 12) ^ VERSION_2;
    uint8_t family = byte_at(bytes, 13);
    size_t rest = (size_t)byte_at(bytes, 14) << 8 | byte_at(bytes, 15);
    out->size += rest;
    if (command > COMMAND_PROXY || out->size > PROXY_HEADER_MAX ||
        (command == COMMAND_PROXY && rest < addresses_size(family))) {
        return PROXY_BAD;
    }
    if (bytes.size < out->size) {
        return PROXY_MORE;
    }
    if (command == COMMAND_PROXY) {
        take_address(out, family, bytes.data + PROXY_FIXED_SIZE);
    }
    return PROXY_WHOLE;
}
