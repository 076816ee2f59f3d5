/* One request on its way to the homeserver and its answer on the way back, with back-pressure both
 * ways; a homeserver that is restarting is waited for. */
#pragma once

#include "base/metrics.h"
#include "inbound/gate.h"
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
    RELAY_WHOLE_MAX = 256 * 1024,   /* bytes of an announced body that are kept to be sent again */
    RELAY_RESENDS_MAX = 6,          /* of a request that was cut off before its answer began */
    RELAY_RESEND_MS = 250,          /* before the first of them; twice as long before each other */
    RELAY_HELD_MS = 50 * 1000,      /* for what was held: holding and upstream together */
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

/* Where the request's body is. */
enum relay_body {
    RELAY_BODY_NONE,
    RELAY_BODY_WHOLE,   /* at hand, so that it can be sent again */
    RELAY_BODY_COMING,  /* small: it is taken in before the request is sent */
    RELAY_BODY_STREAMED /* as it comes, once there is a connection */
};

/* All its own. */
struct relay {
    const struct relay_ops *ops;
    void *arg;
    struct gates *gates;
    struct metrics *metrics;
    struct arena *arena;
    struct http_exchange *exchange;
    struct http_pool *pool;
    struct http_head request;
    enum relay_body body_is;
    struct span body;    /* RELAY_BODY_WHOLE */
    struct writer taken; /* what came of the body before it could be sent */
    bool body_ended;
    bool is_connected; /* RELAY_BODY_STREAMED: bytes of it may have reached the upstream */
    bool is_resendable;
    bool is_resending;      /* waits for its time */
    bool holds;             /* the answer is to be held back */
    struct http_call *call; /* NULL: none under way */
    struct gate_wait wait;
    enum reject last_failure;
    unsigned n_resends;
    struct timer timer;       /* see on_timer */
    uint64_t started_us;      /* monotonic */
    uint64_t patience_end_us; /* monotonic; a refused request is tried again before that */
    struct http_head answer;  /* of a held answer; in the arena */
    struct writer held;
};

struct relay_options {
    const struct relay_ops *ops;
    void *arg;
    struct loop *loop;
    struct gates *gates;
    struct metrics *metrics; /* of this thread */
    struct arena *arena;     /* lives as long as the relay */
    struct http_exchange *exchange;
    struct http_pool *pool;
    const struct http_head *request; /* as it goes upstream */
    const struct span *body;         /* the whole; NULL: it comes by relay_body, if there is one */
    bool is_resendable; /* also when it was cut off before its answer began, since doing it twice is
                           doing it once */
    bool holds;         /* up to REPLY_BODY_SIZE_MAX; a longer one passes */
    uint32_t patience_s;
};

/* Everything but `options` itself is borrowed until the relay is over. No callback comes from
 * inside. False if the request cannot be sent as it is; then none comes at all. */
MUST_CHECK bool relay_start(struct relay *relay, const struct relay_options *options);

/* Of a request whose body is not at hand. Either may end the relay, with on_over. */
void relay_body(struct relay *relay, struct span bytes);
void relay_body_end(struct relay *relay);

/* The peer took all output. */
void relay_drained(struct relay *relay);

/* Gives up what is under way; afterwards, and after on_held or on_over, only this may be called. */
void relay_fini(struct relay *relay);
