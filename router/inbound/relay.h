/* One request on its way to the homeserver and its answer on the way back, with back-pressure both
 * ways; a homeserver that is restarting is waited for. */
#pragma once

#include "base/metrics.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "net/loop.h"
#include "proto/arena.h"
#include "proto/own.h"
#include "proto/reject.h"
#include "proto/writer.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    RELAY_WAITING_MAX = 256 * 1024, /* bytes that may wait one way before their source is paused */
    RELAY_RETRY_MS = 250,           /* between two tries of an upstream that refuses */
};

struct relay_ops {
    /* The answer's status is there. May be NULL. */
    void (*on_status)(void *arg);
    /* The whole answer was held back, as relay_hold asked: relay.answer and relay.held. The
     * request is the caller's to answer now, and the relay is over. */
    void (*on_held)(void *arg);
    /* The answer has gone to the peer, or why it could not: REJECT_NONE or a row, for which the
     * peer was refused or, if the answer had begun, cut. The request and the relay are over. */
    void (*on_over)(void *arg, enum reject why);
};

/* All fields but those named are the relay's own. */
struct relay {
    const struct relay_ops *ops;
    void *arg;
    struct metrics *metrics;
    struct arena *arena;
    struct http_exchange *exchange;
    struct http_pool *pool;
    struct http_head request;
    struct span body; /* if it has_body */
    bool has_body;    /* the request's body is at hand, or it has none: it can be sent again */
    bool holds;       /* the answer is to be held back */
    struct http_call *call; /* NULL: none under way */
    struct timer retry;
    uint64_t started_us;      /* monotonic */
    uint64_t patience_end_us; /* monotonic; a refused request is tried again before that */
    struct http_head answer;  /* of a held answer; in the arena */
    struct writer held;
};

struct relay_options {
    const struct relay_ops *ops;
    void *arg;
    struct loop *loop;
    struct metrics *metrics; /* of this thread */
    struct arena *arena;     /* lives as long as the relay */
    struct http_exchange *exchange;
    struct http_pool *pool;
    const struct http_head *request; /* as it goes upstream */
    const struct span *body;         /* the whole; NULL: it comes by relay_body, if there is one */
    bool holds;                      /* up to REPLY_BODY_SIZE_MAX; a longer one passes */
    uint32_t patience_s;
};

/* Everything but `options` itself is borrowed until the relay is over. No callback comes from
 * inside. False if the request cannot be sent as it is; then none comes at all. */
MUST_CHECK bool relay_start(struct relay *relay, const struct relay_options *options);

/* Of a request whose body is not at hand. */
void relay_body(struct relay *relay, struct span bytes);
void relay_body_end(struct relay *relay);

/* The peer took all output. */
void relay_drained(struct relay *relay);

/* Gives up what is under way; afterwards, and after on_held or on_over, only this may be called. */
void relay_fini(struct relay *relay);
