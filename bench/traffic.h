/* Transactions as real servers send them, signed ahead of time. */
#pragma once

#include "bench/lists.h"
#include "bench/origins.h"
#include "proto/span.h"

#include <stddef.h>
#include <stdint.h>

enum shape {
    SHAPE_EDU2K,    /* one to-device EDU for one device: 2 KB in all */
    SHAPE_EDU10,    /* 10 to-device EDUs of 1.5 KB, each for another user */
    SHAPE_EDU100,   /* 100 of them */
    SHAPE_FULL,     /* 50 PDUs of 3 KB beside such 100 EDUs: all that a transaction may hold */
    SHAPE_DENDRITE, /* 100 EDUs of 1.5 KB, one for each device of 20 users (with 5 devices each) */
    SHAPE_STORM,    /* 100 EDUs of 1.5 KB from as many senders for one device of user 0 */
};

extern const char *const shape_names[]; /* by enum shape; ends with NULL */

struct traffic_options {
    enum shape shape;
    const struct origins *origins;
    const struct lists *lists; /* one for each hosted server; transaction i is for server i mod n */
    uint32_t n_servers;
    uint32_t version;       /* of the lists that is current */
    uint32_t fresh_percent; /* of the transactions: all their EDUs claim the current list */
    uint32_t stale_percent; /* likewise, the one before */
    uint64_t run_id;        /* in all ids, so that no two runs send the same */
};

/* A signed transaction as it goes over an HTTP/1.1 connection, and where its parts are. */
struct request {
    char *wire;
    uint32_t size, head_size;
    uint32_t path_at, path_size;
    uint32_t authorization_at, authorization_size;
    uint32_t n_fresh, n_stale; /* verdicts that a router owes for it */
};

static inline struct span request_body(const struct request *r)
{
    return span_of(r->wire + r->head_size, r->size - r->head_size);
}

/* Transactions that are sent in turn, over and over. */
struct traffic {
    struct request *requests;
    uint32_t n;
    size_t bytes; /* of memory */
    uint64_t body_bytes;
};

/* Makes as many as fit into max_bytes of memory, at most n_max and at least one of each origin
 * where n_max is not below that. */
void traffic_init(struct traffic *out, const struct traffic_options *options, uint64_t n_max,
                  size_t max_bytes);

/* One empty transaction of each origin: whoever wants to check it has to fetch its key. */
void traffic_init_primers(struct traffic *out, const struct traffic_options *options);
void traffic_fini(struct traffic *traffic);
