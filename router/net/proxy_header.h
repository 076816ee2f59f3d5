/* The header that a load balancer puts before a connection to say whose it is: PROXY protocol,
 * version 2 (binary). Source: haproxy, doc/proxy-protocol.txt, 2.2. */
#pragma once

#include "proto/own.h"
#include "proto/span.h"

#include <netinet/in.h>

#include <stdbool.h>
#include <stddef.h>

enum {
    PROXY_SIGNATURE_SIZE = 12, /* bytes */
    PROXY_FIXED_SIZE = 16,     /* bytes, with the signature: then the size is known */
    /* Bytes in all: what a sender may count on to arrive at once, and a receiver to be enough.
     * Source: the same, 2, "536 bytes". */
    PROXY_HEADER_MAX = 536,
};

/* "\r\n\r\n\0\r\nQUIT\n": no ClientHello and no request begins so. */
extern const struct span proxy_signature;

enum proxy_result {
    PROXY_MORE, /* not whole yet: `size` bytes in all are needed to know more */
    PROXY_WHOLE,
    PROXY_BAD, /* not the signature, or what comes after it is malformed or not supported */
};

struct proxy_header {
    size_t size;             /* bytes, with what is attached and not looked at */
    bool has_address;        /* else the connection's own is the client's: a health check */
    struct in6_addr address; /* of the client; IPv4 as ::ffff:a.b.c.d */
};

/* Whatever comes after the header is left alone. */
MUST_CHECK enum proxy_result proxy_header_decode(struct proxy_header *out, struct span bytes);
