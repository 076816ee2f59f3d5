/* Reads of hosted users' device lists from their homeserver, signed as itself. One worker does all
 * reads of a server, and the others ask it. Of one list at most one read runs and one waits. */
#pragma once

#include "base/err.h"
#include "base/metrics.h"
#include "lists/device_list.h"
#include "lists/lists.h"
#include "net/ask.h"
#include "net/http_client.h"
#include "net/loop.h"
#include "proto/own.h"
#include "proto/span.h"
#include "proto/xmatrix.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LIST_READ_MS = 10 * 1000, /* for one read */
    LIST_READ_BODY_MAX =
        4 << 20, /* bytes of an answer; 1,000 devices with names take about 1 MiB */
};

struct list_reader;

/* How a hosted server is asked. */
struct read_source {
    struct http_pool *pool;        /* lives as long as the reader */
    const struct signing_key *key; /* borrowed for the call; NULL: it cannot be asked */
    uint32_t reads_per_s;          /* of that server, in all */
};

struct list_reader_options {
    struct loop *loop;
    struct lists *lists;     /* of this thread */
    struct metrics *metrics; /* of this thread */
    struct ask_ring *ring;   /* for readers alone */
    size_t index;            /* in the ring */
    /* Asked for each read, also for one that waited. False: not hosted here (any more). */
    bool (*source_of)(void *arg, struct span server, struct read_source *out);
    void *arg;
};

MUST_CHECK enum err list_reader_new(struct list_reader **out,
                                    const struct list_reader_options *options);
void list_reader_free(struct list_reader *reader); /* no list_read may be left */

/* Inside something of the caller's that lives until on_done or list_read_cancel. */
struct list_read {
    struct ask ask;
    /* From the loop, once, after at most two times LIST_READ_MS and a little. The list as the read
     * leaves it, valid for the call, its `devices` left out; already on its way to the store. NULL:
     * there was no read (failed, over the budget, no signing key), or it was of an older state than
     * what is known, or the list is pushed: nothing can be told from it. */
    void (*on_done)(void *arg, const struct device_list *after);
    void *arg;
};

struct list_read_request {
    struct span server, user_id; /* of the hosted server */
    struct span origin;          /* on whose behalf: each has a share of the budget */
    bool may_wait;               /* left out when half of the budget is spent */
};

/* A read that begins after this call; it is shared with others who came before it begins, and then
 * spends nothing of their budgets. Never done from inside this call. All spans are copied. */
void list_read_start(struct list_reader *reader, struct list_read *read,
                     const struct list_read_request *request,
                     void (*on_done)(void *arg, const struct device_list *after), void *arg);
void list_read_cancel(struct list_reader *reader, struct list_read *read);
