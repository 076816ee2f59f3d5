/* The head of an HTTP/2 request, put together from its fields and judged as one of HTTP/1.1 would
 * be. For net/ alone. */
#pragma once

#include "net/http_head.h"
#include "proto/own.h"
#include "proto/reject.h"

#include <stdbool.h>

struct h2_head {
    struct head_builder *builder;
    struct writer pseudo; /* method, scheme, authority and host, in the order they came */
    struct {
        size_t at, size;
    } method, scheme, authority, host; /* in pseudo; size 0: not there */
    bool has_host;                     /* it was written */
    enum reject why;                   /* the first thing wrong */
};

struct h2_head *h2_head_new(void);
void h2_head_free(struct h2_head *h); /* NULL is fine */

/* What a connection's requests may say, in flags. */
enum h2_scheme { H2_SCHEME_HTTP = 1, H2_SCHEME_HTTPS = 2 };

/* In the order they come: the library has seen to it that pseudo-fields come first, once each, and
 * that names and values are such. */
void h2_head_add(struct h2_head *h, struct span name, struct span value);

/* Sets all of *out, which lives as long as the head, or says what is wrong with it. `schemes`:
 * those of enum h2_scheme that it may have; `ends`: no body follows. Source: limits.md, "HTTP/2".
 */
enum reject h2_head_finish(struct h2_head *h, struct http_head *out, unsigned schemes, bool ends);
