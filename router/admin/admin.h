/* What the operations listener and the admin socket answer, whatever carries the requests. */
#pragma once

#include "base/err.h"
#include "base/metrics.h"
#include "lists/lists.h"
#include "proto/own.h"
#include "proto/span.h"
#include "proto/writer.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    ADMIN_BODY_MAX = 8 << 20,    /* bytes; a list of 1,000 devices with names takes about 1 MiB */
    ADMIN_ARENA_MAX = 64 << 20,  /* bytes for one request while it is handled */
    ADMIN_ANSWER_MAX = 16 << 20, /* bytes */
};

/* Borrowed; all of it belongs to the thread that handles the requests, or is safe on any. */
struct admin_context {
    struct store *store;
    struct lists *lists;                /* of this thread */
    struct metrics *metrics;            /* of this thread */
    struct metrics *const *all_metrics; /* of every thread, this one too */
    size_t n_metrics;
    const atomic_bool *is_draining;
    bool (*is_hosted)(void *arg, struct span server); /* by the configuration in force */
    void *arg;
};

struct admin_request {
    struct span method, target; /* as on the request line */
    struct span body;
};

struct admin_answer {
    int status;               /* HTTP */
    const char *content_type; /* constant text */
    struct writer body;
};

void admin_answer_init(struct admin_answer *answer);
void admin_answer_fini(struct admin_answer *answer);

/* Reading: /livez, /readyz, /metrics and a user's device list. Anything else is 404, any method
 * but GET is 405. */
void admin_read(struct admin_answer *out, const struct admin_context *context,
                const struct admin_request *request, int64_t now_ms);

/* True if the request is one for admin_push, false if it is one for admin_read. */
bool admin_is_push(const struct admin_request *request);

/* Takes a pushed device list. True: it is on its way to the disk, `done` comes on the journal
 * thread, exactly once, and then admin_push_done says the answer; nothing of the request is used
 * any more. False: *out is the answer, and `done` never comes. */
MUST_CHECK bool admin_push(struct admin_answer *out, const struct admin_context *context,
                           const struct admin_request *request, int64_t now_ms,
                           void (*done)(void *arg, enum err result), void *done_arg);

/* The answer to a push after its commit; on the context's thread. */
void admin_push_done(struct admin_answer *out, const struct admin_context *context,
                     enum err result);
