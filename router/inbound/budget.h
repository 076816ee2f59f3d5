/* How many bytes the requests in flight of one thread may hold, and who waits when they are too
 * many. Source: limits.md, "Budgets". */
#pragma once

#include "base/list.h"
#include "base/metrics.h"
#include "net/loop.h"
#include "proto/own.h"
#include "proto/span.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BODY_MAX = 13107200,             /* bytes of a transaction. Source: Synapse, MAX_REQUEST_SIZE */
    BUDGET_STEP = LOOP_SCRATCH_SIZE, /* bytes charged at a time: as many as one read may bring */
    BUDGET_ONE_REQUEST = BODY_MAX + 64 * 1024, /* bytes: a body of full size, and a head */
    BUDGET_PROCESS_MIN = 32 << 20,             /* bytes of one thread, however many there are */
    BUDGET_PARSE_ALL = 64 << 20,               /* bytes of bodies in all threads */
    BUDGET_WAIT_MS = 5000,                     /* of one request, in all */
};

/* Of one thread, in bytes. */
struct budget_limits {
    uint64_t process;
    uint64_t large;      /* of `process`, for requests that are more than one step; the rest keeps
                            small ones from standing behind them */
    uint64_t address;    /* of one address */
    uint64_t origin;     /* of one origin */
    uint64_t server_min; /* what one hosted server may hold whatever others do */
    bool shares_servers; /* one hosted server may hold as much as it leaves free, and no more */
    uint64_t parse;      /* of bodies whose documents are in memory */
};

/* A thread's part of what the operator allows in all, and never less than two bodies of full
 * size. */
struct budget_limits budget_limits_for(uint64_t request_bytes, size_t n_threads, size_t n_servers);

struct budgets;

struct budgets *budgets_new(struct loop *loop, struct metrics *metrics,
                            const struct budget_limits *limits);
void budgets_set(struct budgets *budgets, const struct budget_limits *limits);
void budgets_free(struct budgets *budgets); /* nothing may be held any more; NULL is fine */
uint64_t budgets_held(const struct budgets *budgets);

/* The most that was held at once since the last call. */
uint64_t budgets_take_peak(struct budgets *budgets);

/* Both from the loop, neither from inside a budget_ function. */
struct budget_ops {
    void (*on_charged)(void *arg);                    /* what it waited for */
    void (*on_refused)(void *arg, enum budget which); /* it has waited long enough */
};

struct budget_account;

/* What one request holds. All fields are the budget's own. */
struct budget_hold {
    struct budgets *budgets; /* NULL: not open */
    const struct budget_ops *ops;
    void *arg;
    struct budget_account *accounts[BUDGET_COUNT]; /* NULL: none of this kind is charged */
    struct budget_account *next_origin;            /* waits to be charged */
    uint64_t held;                                 /* bytes */
    uint64_t wants;                                /* bytes, while it waits */
    struct link link;                              /* of those that wait */
    enum budget blocked_by;
    bool is_large;
    uint64_t waits_since_us; /* monotonic */
    uint64_t waited_us;      /* before that */
    struct timer timer;
};

/* Whose a request is. */
struct budget_parties {
    const struct in6_addr *address; /* the client's; NULL: not known */
    struct span server;             /* the hosted one's name */
    bool is_large;                  /* it may become more than one step */
};

/* Holds nothing yet. The hold stays where it is until it is closed. */
void budget_open(struct budget_hold *hold, struct budgets *budgets,
                 const struct budget_parties *parties, const struct budget_ops *ops, void *arg);
void budget_close(struct budget_hold *hold); /* nothing happens to one that is all zero */

/* Charges n bytes more, to all at once. False if it has to wait for that: then one of the ops is
 * called, and meanwhile nothing but budget_charge_now, _release and _close may be. */
MUST_CHECK bool budget_charge(struct budget_hold *hold, uint64_t n);
bool budget_is_waiting(const struct budget_hold *hold);

/* For bytes that are here already: charges them whatever the budgets say, and takes them off what
 * it waits for. False if that is now too much even so, and the request must end: an eighth more
 * than the process may hold, or for a large one half of what is kept for small ones. */
bool budget_charge_now(struct budget_hold *hold, uint64_t n);

void budget_release(struct budget_hold *hold, uint64_t n);

/* The signature was verified: what is held is charged to the origin, no longer to the address.
 * False if that has to wait, as budget_charge does. */
MUST_CHECK bool budget_move_to_origin(struct budget_hold *hold, struct span origin);

/* For a document that is to be made of a body of n bytes; false if there are too many. */
MUST_CHECK bool budget_parse_begin(struct budgets *budgets, uint64_t n);
void budget_parse_end(struct budgets *budgets, uint64_t n);
