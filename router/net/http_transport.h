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

/* What an answer's head says of its body, and how much of that is still to come. */
struct http_answer_body {
    bool is_sent; /* false: none goes out, whatever the handler gives */
    bool has_length;
    uint64_t left; /* bytes, if it has_length */
};

/* Of an answer to that method; content_length is -1 where it is not known. */
struct http_answer_body http_answer_body(struct span method, unsigned status,
                                         int64_t content_length);

/* For bytes of it that the handler gives. False: nothing is to be sent. */
MUST_CHECK bool http_answer_take(struct http_answer_body *body, struct span bytes);

/* Whether the handler has given less than the head says. */
bool http_answer_is_short(const struct http_answer_body *body);

/* Whether a response of that status to that method has a body at all. Source: RFC 9110 6.4.1. */
bool http_may_have_body(struct span method, unsigned status);
