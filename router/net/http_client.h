/* Kept-alive HTTP/1.1 connections to one upstream, and the calls made over them. */
#pragma once

#include "base/err.h"
#include "net/http.h"
#include "net/loop.h"
#include "proto/own.h"

#include <stdbool.h>
#include <stdint.h>

struct http_call;
struct http_pool;

enum http_call_failure {
    HTTP_CALL_REFUSED,         /* no connection: the upstream got nothing */
    HTTP_CALL_CUT_BEFORE_HEAD, /* it may have got the request */
    HTTP_CALL_CUT,             /* after on_head */
    HTTP_CALL_TIMEOUT,
    HTTP_CALL_MALFORMED, /* the answer is not HTTP/1.1 as we take it */
    HTTP_CALL_FAILURE_COUNT
};
const char *http_call_failure_label(enum http_call_failure failure);

/* Always called from the loop, never from inside http_call_start. The call is over, and not to be
 * touched any more, after on_end, on_failed or http_call_cancel. */
struct http_call_ops {
    /* The final response's, valid until the call is over. has_content_length only if a body of that
     * length follows or would have followed (HEAD). */
    void (*on_head)(void *arg, const struct http_head *head);
    void (*on_body)(void *arg, struct span bytes); /* valid for the call */
    void (*on_end)(void *arg);
    void (*on_failed)(void *arg, enum http_call_failure failure);
    void (*on_drained)(void *arg); /* all output was handed to the kernel; may be NULL */
};

/* In ms. */
struct http_pool_limits {
    uint32_t connect_ms;
    uint32_t queue_ms; /* waiting for one of max_connections */
    uint32_t head_ms;  /* from the end of the request to the response's head */
    uint32_t body_ms;  /* without a byte of the response's body, while not paused */
    uint32_t write_ms; /* without progress */
    uint32_t idle_ms;
};
extern const struct http_pool_limits http_pool_limits_default;

struct http_pool_options {
    const char *host; /* name or address; copied */
    uint16_t port;
    uint32_t max_connections;
    const struct http_pool_limits *limits; /* NULL: the default; copied */
};

MUST_CHECK enum err http_pool_new(struct http_pool **out, struct loop *loop,
                                  const struct http_pool_options *options);
void http_pool_free(struct http_pool *pool); /* no call may be left */
size_t http_pool_n_connections(const struct http_pool *pool);

/* Copies the head. Its framing, Connection and Expect headers are left out: a body follows, given
 * by http_call_body and _end, if has_content_length (and it is not 0) or chunked. Host is added if
 * it is not among the headers. Hop-by-hop headers are the caller's to leave out. ERR_CONFIG: the
 * head cannot be sent (a control in a value, say), and nothing was. */
MUST_CHECK enum err http_call_start(struct http_call **out, struct http_pool *pool,
                                    const struct http_head *head, const struct http_call_ops *ops,
                                    void *arg);

/* With the whole body, which must outlive the call. */
MUST_CHECK enum err http_call_start_with_body(struct http_call **out, struct http_pool *pool,
                                              const struct http_head *head, struct span body,
                                              const struct http_call_ops *ops, void *arg);

/* Copied, even before there is a connection: see http_call_output_size. Exactly content_length
 * bytes in all if that was said: cancel a call whose body breaks off. */
void http_call_body(struct http_call *call, struct span bytes);
void http_call_body_end(struct http_call *call);

/* Bytes of request that wait for the upstream. Pause the source above some size of yours, go on at
 * on_drained; above HTTP_CALL_OUTPUT_MAX the call fails. */
size_t http_call_output_size(const struct http_call *call);
enum { HTTP_CALL_OUTPUT_MAX = 32 << 20 };

/* Stops reading the response; LOOP_SCRATCH_SIZE bytes of it and on_end may still come. */
void http_call_pause(struct http_call *call);
void http_call_resume(struct http_call *call);

void http_call_cancel(struct http_call *call);
