/* One request and what is known of it so far. For inbound/ alone. */
#pragma once

#include "inbound/budget.h"
#include "inbound/forward.h"
#include "inbound/inbound.h"
#include "inbound/relay.h"
#include "inbound/route.h"
#include "proto/arena.h"
#include "proto/batch.h"
#include "proto/json.h"
#include "proto/reject.h"
#include "proto/transaction.h"
#include "proto/verdict.h"
#include "proto/xmatrix.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    /* Bytes for everything that is derived from one request: the document of a body of full size
     * and of JSON_MAX_VALUES values fits. */
    EXCHANGE_ARENA_MAX = 96 << 20,
    XMATRIX_MAX = 8, /* Authorization headers of one request: a server signs with few keys */
    READS_MAX = 128, /* lists read for one transaction; there are budgets besides */
};

struct inbound {
    struct inbound_parts parts;
    struct inbound_settings settings;
    struct budgets *budgets;
};

enum step_result {
    STEP_NEXT,
    STEP_WAIT, /* exchange_run is called when there is news, and this step again */
    STEP_DONE, /* the exchange is over, and gone */
};

struct exchange;
struct judging;

struct step {
    const char *name;
    enum step_result (*run)(struct exchange *ex);
};

struct exchange {
    struct inbound *inbound;
    struct http_exchange *http;
    const struct http_head *head;
    const struct step *steps; /* ends with a row without a function */
    struct hosted *hosted;    /* a reference */
    const struct hosted_server *server;
    uint64_t began_us; /* monotonic */
    enum route_class class;
    struct arena arena;

    /* identify */
    struct xmatrix *xmatrix;
    size_t n_xmatrix;
    struct span origin; /* as the peer says; empty without X-Matrix */
    struct forward_peer peer;
    struct in6_addr client; /* the peer, or who stands behind a trusted proxy */
    bool has_client;        /* false if only trusted proxies are known */

    /* read */
    struct budget_hold budget; /* what the request may hold */
    uint64_t body_charged;     /* bytes, with those it waits for */
    struct writer body;
    bool body_is_whole;
    uint64_t whole_us; /* monotonic, when it was */

    /* authenticate, decode, batch */
    struct arena document;  /* what is derived from the body */
    uint64_t parse_charged; /* bytes of the body whose document there is */
    bool is_parsed;
    enum json_error parse_error;
    const struct json_value *root; /* only with JSON_OK */
    enum { KEY_NOT_TRIED, KEY_FETCHING, KEY_TRIED } key_state;
    struct key_wait key_wait;
    enum unjudged unjudged; /* the transaction as a whole */
    struct transaction transaction;
    struct batches batches;

    struct judging *judging; /* NULL: nothing to judge */

    /* relay, reply */
    enum { RELAY_NOT_STARTED, RELAY_RUNNING, RELAY_HELD } relay_state;
    struct relay relay;
};

/* Runs steps until one waits or is done. */
void exchange_run(struct exchange *ex);

/* Refuses the request, counts it and ends the exchange: STEP_DONE. */
enum step_result exchange_reject(struct exchange *ex, enum reject why);

/* Nothing will be read of the document any more, nor of what was made of it. */
void exchange_forget_document(struct exchange *ex);

/* Ends an exchange whose request is over. */
void exchange_free(struct exchange *ex);

/* Counts a transaction, or `n` things in it, as relayed without a verdict. */
void exchange_count_unjudged(struct exchange *ex, enum unjudged why, uint64_t n);

/* The first step of all: which server, whose request, from where. */
enum reject identify(struct exchange *ex);

/* One signature that holds is enough. If none does, a header whose key is banned has the request
 * refused, whatever the others are; a key that is not to be had leaves it to the homeserver. */
enum step_result step_authenticate(struct exchange *ex);

/* Parses the body, once. REJECT_NOT_JSON for what is none, or no object; else *unjudged is
 * UNJUDGED_NONE if ex->root is there, or why it is not. */
enum reject exchange_parse(struct exchange *ex, enum unjudged *unjudged);

/* Begins to judge the batches: what the cache can tell is told, for the rest reads begin. */
enum step_result step_judge(struct exchange *ex);

/* Whether the answer may carry verdicts, so that it has to be held. */
bool judging_wants_answer(const struct exchange *ex);

/* The homeserver's status is there: from now on reads are waited for lists.wait_ms. */
void judging_status_came(struct exchange *ex);

/* False while a read that is still waited for is under way; exchange_run is called when it is not.
 */
bool judging_is_done(const struct exchange *ex);

/* Counts the verdicts and begins the second looks; once, when it is done or not waited for. */
void judging_settle(struct exchange *ex);
const struct judgement *judging_verdicts(const struct exchange *ex, size_t *n);
void judging_fini(struct exchange *ex);
