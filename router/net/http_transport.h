/* What carries an exchange: http_respond_* and the like come here. For net/ alone. */
#pragma once

#include "net/http_server.h"
#include "proto/writer.h"

/* Each as the function of http_server.h that is named so; the exchange is live. */
struct http_transport {
    void (*respond_head)(struct http_exchange *ex, unsigned status,
                         const struct http_header *headers, size_t n_headers,
                         int64_t content_length);
    void (*respond_body)(struct http_exchange *ex, struct span bytes);
    void (*respond_end)(struct http_exchange *ex);
    void (*respond_reject)(struct http_exchange *ex, enum reject why);
    void (*respond_cut)(struct http_exchange *ex);
    void (*read_pause)(struct http_exchange *ex, bool is_paused);
    size_t (*output_size)(const struct http_exchange *ex);
    bool (*output_is_full)(const struct http_exchange *ex);
    void (*close_after)(struct http_exchange *ex);
    struct in6_addr (*peer_address)(const struct http_exchange *ex);
    bool (*tls_covers)(const struct http_exchange *ex, struct span host);
};

enum { HTTP_ERROR_BODY_MAX = 1024 /* bytes */ };

/* The body of an answer that is an error: {"errcode":...,"error":...}. */
void http_write_error(struct writer *out, enum reject why);
extern const struct http_header http_error_type;

/* Whether a response of that status to that method has a body at all. Source: RFC 9110 6.4.1. */
bool http_may_have_body(struct span method, unsigned status);
