/* The keys that servers sign with: from memory, from the store, or fetched from the server itself,
 * which one worker does for all. */
#pragma once

#include "base/err.h"
#include "base/metrics.h"
#include "net/ask.h"
#include "net/loop.h"
#include "proto/ed25519.h"
#include "proto/own.h"
#include "proto/span.h"
#include "store/journal.h"
#include "store/store.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Source: limits.md, "Budgets"; design.md, section 5. */
enum {
    KEYRING_FETCH_MS = 10 * 1000,    /* for everything a fetch takes */
    KEYRING_REFETCH_S = 5 * 60,      /* at most one fetch per server in that time */
    KEYRING_VALID_S = 7 * 24 * 3600, /* a key is used no longer after it was fetched */
    KEYRING_SERVERS_MAX = 20000,     /* whose keys are kept in memory, per worker */
    KEYRING_BYTES_MAX = 32 << 20,    /* of their records, likewise */
    KEYRING_FETCHES_MAX = 256,       /* at once, per worker */
    KEYRING_ATTEMPTS_MAX = 100000,   /* remembered for KEYRING_REFETCH_S, per worker */
    /* Of the fetches per second, a client's network may begin one in so many, and at once one in so
     * many: whoever makes up names leaves most of them to others. */
    KEYRING_NETWORK_PART = 4,
    KEYRING_NETWORK_BURST_PART = 2,
    KEYRING_NETWORK_SETS = 256, /* of networks, per worker; 56 KiB in all */
};

struct keyring;

/* Borrowed for the keyring's life; `arg` goes to the callbacks. */
struct keyring_options {
    struct loop *loop;
    struct store *store;
    struct journal *journal;
    struct metrics *metrics; /* of this thread */
    struct ask_ring *ring;   /* for keyrings alone */
    size_t index;            /* in the ring */
    const char *ca_file;     /* PEM; NULL: the system's */
    const char *connect_to;  /* "host:port" to dial for every server but those hosted here, for
                                tests; NULL: as the name says */
    const char *dns_servers; /* "127.0.0.1:53,[::1]:53"; NULL: the system's */
    uint32_t fetches_per_s;  /* this worker's share */
    /* Asked for an address that is not public, as dialled. */
    bool (*allow_address)(void *arg, const struct in6_addr *address);
    /* True for a server that is hosted here: *host and *port are its upstream (borrowed for the
     * call), which is asked in cleartext. */
    bool (*upstream_of)(void *arg, struct span server, const char **host, uint16_t *port);
    void *arg;
};

MUST_CHECK enum err keyring_new(struct keyring **out, const struct keyring_options *options);
void keyring_free(struct keyring *keyring); /* no key_wait may be left */

void keyring_set_budget(struct keyring *keyring, uint32_t fetches_per_s);

enum key_standing {
    KEY_UNKNOWN, /* or not valid any more */
    KEY_USABLE,
    KEY_BANNED, /* the server publishes it, and nothing signed with it is believed */
};

/* How a key stands at now_ms (wall clock); out_key is set only if it is usable. Does not wait. */
MUST_CHECK enum key_standing keyring_get(struct keyring *keyring, uint8_t out_key[ED25519_KEY_SIZE],
                                         struct span server, struct span key_id, int64_t now_ms);

/* Inside something of the caller's that lives until on_done or keyring_cancel. */
struct key_wait {
    struct ask ask;
    struct keyring *keyring;
    void (*on_done)(void *arg);
    void *arg;
    bool is_over_network; /* at on_done: nothing was fetched, since the client's network had its
                             share */
};

/* Has the server's keys fetched, if that was not tried in the last KEYRING_REFETCH_S and the budget
 * allows; else takes over the newest that the asked worker has. on_done comes from the loop, once,
 * within KEYRING_FETCH_MS and a little: then keyring_get tells what there is. `server` is a valid
 * server name, and copied. `client` is who asks for something in its name; NULL if that is not
 * known. */
void keyring_refresh(struct keyring *keyring, struct key_wait *wait, struct span server,
                     const struct in6_addr *client, void (*on_done)(void *arg), void *arg);
void keyring_cancel(struct keyring *keyring, struct key_wait *wait);
