/* Calls and upstream connections, as the halves of the HTTP client see them. For net/ alone. */
#pragma once

#include "net/http_client.h"
#include "net/http_head.h"
#include "net/resolve.h"
#include "net/stream.h"

#include <llhttp.h>

struct http_pool {
    struct loop *loop;
    struct http_pool_limits limits;
    char *host_header; /* "name:port" */
    uint32_t max_connections;
    size_t n_connections;
    struct list idle;  /* upstreams, the one used last first */
    struct list busy;  /* upstreams */
    struct list queue; /* calls without a connection, the oldest first */
    struct resolver *resolver;
    struct resolve_answer addresses; /* n is 0 while unknown */
    size_t next_address;
    bool is_numeric; /* the addresses never change */
};

struct http_call {
    struct link link; /* of the pool's queue */
    struct loop_task task;
    struct http_pool *pool;
    const struct http_call_ops *ops;
    void *arg;
    struct http_upstream *upstream; /* NULL in the queue */
    struct timer timer;             /* of the queue, the response's head or its body */
    struct writer request;          /* the head */
    struct writer waiting;          /* body that was given before there was a connection */
    struct span body;               /* given whole */
    uint64_t body_left;             /* of content_length, still to be given */
    bool is_head_method, is_chunked;
    bool body_was_whole;   /* or there was none */
    bool request_is_whole; /* everything was given to us */
    bool is_paused, has_head, is_over;
    bool was_retried;
    size_t n_refused; /* addresses tried in vain */
};

/* One connection. */
struct http_upstream {
    struct link link; /* idle or busy */
    struct loop_task task;
    struct http_pool *pool;
    struct stream *stream;
    struct http_call *call; /* NULL: idle */
    struct timer idle;
    llhttp_t parser;
    struct head_builder *builder;
    struct http_head head;
    uint32_t n_calls;
    unsigned n_informational;
    bool is_ready, is_closed;
    bool has_bytes;   /* of this response */
    bool is_final;    /* the head was not a 1xx */
    bool is_complete; /* the response's end was seen */
};

/* Gives the call this connection and sends what there is of it. */
void http_upstream_attach(struct http_upstream *upstream, struct http_call *call);

/* Connects for the call. */
void http_upstream_open(struct http_pool *pool, struct http_call *call);

/* Gone at once; its call, if any, is no longer its. */
void http_upstream_close(struct http_upstream *upstream);

/* Calls that wait get connections, as far as there are any. */
void http_pool_dispatch(struct http_pool *pool);

/* The output has gone: more of the body may come, or the response's time begins. */
void http_call_go_on(struct http_call *call);
void http_call_fail(struct http_call *call, enum http_call_failure failure);
void http_call_retire(struct http_call *call); /* no callback follows */
