/* One fetch of a server's key document: where it is found, and that it is the server's own. */
#pragma once

#include "base/err.h"
#include "base/metrics.h"
#include "inbound/key_record.h"
#include "net/discovery.h"
#include "net/fetch.h"
#include "proto/own.h"
#include "proto/span.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

/* The same for every fetch; borrowed while one runs. */
struct key_fetch_options {
    struct discovery *discovery;
    struct fetcher *fetcher;
    uint32_t timeout_ms;     /* for everything */
    int64_t max_valid_ms;    /* that a key may be used */
    struct metrics *metrics; /* of this thread */
    /* True for a server that is asked in cleartext at *host and *port. */
    bool (*upstream_of)(void *arg, struct span server, const char **host, uint16_t *port);
    void *arg;
};

struct key_fetch;

/* `server` is a valid server name, and copied. `done` runs once, from the loop: with the keys,
 * valid for the call, or NULL after a failure. Any error: it cannot be begun, and `done` never
 * comes. Whatever failed was logged and counted with its reason. */
MUST_CHECK enum err key_fetch_start(struct key_fetch **out, const struct key_fetch_options *options,
                                    struct span server,
                                    void (*done)(void *arg, const struct key_record *record),
                                    void *arg);
void key_fetch_cancel(struct key_fetch *fetch); /* `done` does not come */
