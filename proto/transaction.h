/* A federation transaction, seen as its EDUs. */
#pragma once

#include "proto/arena.h"
#include "proto/json.h"
#include "proto/own.h"
#include "proto/reject.h"
#include "proto/span.h"

#include <stdint.h>

/* Source: server-server API, "Transactions". */
enum { TRANSACTION_PDUS_MAX = 50, TRANSACTION_EDUS_MAX = 100 };

enum edu_type {
    EDU_TO_DEVICE,
    EDU_DEVICE_LIST_UPDATE,
    EDU_TYPING,
    EDU_RECEIPT,
    EDU_PRESENCE,
    EDU_SIGNING_KEY_UPDATE,
    EDU_OTHER,
    EDU_TYPE_COUNT
};

/* For metrics. */
const char *edu_type_label(enum edu_type type);

struct edu {
    enum edu_type type;
    enum unjudged unjudged;           /* if not UNJUDGED_NONE, the rest may be incomplete */
    const struct json_value *content; /* an object */
    /* Of EDU_TO_DEVICE only. */
    struct span sender;
    struct span message_id;
    struct span message_type;
    const struct json_value *messages; /* {user id: {device id: anything}} */
};

struct transaction {
    struct span origin;
    enum unjudged unjudged; /* of the transaction as a whole */
    uint32_t n_pdus;
    uint32_t n_edus;
    struct edu *edus;
};

/* Linear in the number of values; everything points into the document or the arena. What is
 * provably wrong is a row; what is merely odd, or did not fit into the arena, is marked unjudged.
 * Source: limits.md, "Transactions". */
MUST_CHECK enum reject transaction_decode(struct transaction *out, struct arena *arena,
                                          const struct json_value *root,
                                          struct span authenticated_origin);
