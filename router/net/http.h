/* What a request or a response says before its body, whatever carries it. */
#pragma once

#include "proto/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Source: limits.md, "HTTP/1.1". */
enum {
    HTTP_HEADERS_MAX = 100,            /* fields */
    HTTP_HEADER_BYTES_MAX = 32 * 1024, /* names and values, with 4 bytes for each ": " and CRLF */
    HTTP_TARGET_MAX = 8 * 1024,        /* bytes */
};

struct http_header {
    struct span name, value; /* the value without the white space around it */
};

struct http_head {
    struct span method, target; /* of a request; the target is origin-form, bytes as sent, or "*" */
    uint16_t status;            /* of a response */
    const struct http_header *headers;
    size_t n_headers;
    bool has_content_length;
    bool chunked; /* a body of unknown length follows */
    uint64_t content_length;
};

/* The value of the first header of that name (in any case); NULL data if there is none. */
struct span http_header_find(const struct http_head *head, struct span name);

/* How many headers have that name. */
size_t http_header_count(const struct http_head *head, struct span name);

/* True for what belongs to one connection alone and is never relayed: Connection, Keep-Alive, TE,
 * Trailer, Transfer-Encoding, Upgrade, Proxy-Authenticate, Proxy-Authorization, Proxy-Connection.
 * Source: RFC 9110 7.6.1 and RFC 2616 13.5.1. */
bool http_header_is_hop_by_hop(struct span name);

/* The same, or named by a Connection header of this head. */
bool http_head_is_hop_by_hop(const struct http_head *head, struct span name);

/* True if a Connection header of this head names the token, in any case. */
bool http_head_connection_has(const struct http_head *head, struct span token);

/* True if the token is among those of a comma-separated list, in any case. */
bool http_list_has(struct span value, struct span token);

/* Without the spaces and tabs around it. */
struct span http_trim(struct span text);

/* Well-formed to be sent: a token, and a value without controls other than HTAB. */
bool http_name_is_valid(struct span name);
bool http_value_is_valid(struct span value);

/* "Not Found"; empty for a status that has no name here. */
struct span http_reason(unsigned status);
