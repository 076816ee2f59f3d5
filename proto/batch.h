/* The to-device messages of a transaction, regrouped by recipient. */
#pragma once

#include "proto/arena.h"
#include "proto/claim.h"
#include "proto/own.h"
#include "proto/span.h"
#include "proto/transaction.h"

#include <stdbool.h>
#include <stdint.h>

struct message {
    struct span device_id; /* or "*" */
    struct span msgid;     /* org.matrix.msgid, or empty */
};

/* All that one sender sent to one recipient under one claim: what gets one verdict. */
struct offer {
    struct span sender;
    struct claim claim;
    enum claim_result claim_result;
    struct span *message_ids; /* of the EDUs */
    uint32_t n_message_ids;
    struct message *messages;
    uint32_t n_messages;
};

/* All for one recipient. */
struct batch {
    struct span user_id;
    struct offer *offers; /* in order of first appearance */
    uint32_t n_offers;
};

struct batches {
    struct batch *batches; /* in order of first appearance */
    uint32_t n;
    /* Recipients of EDUs, counted as often as they are named: */
    uint32_t n_not_hosted;
    uint32_t n_odd_identifier;
    uint32_t n_unusable; /* claims */
};

/* Of the EDUs that are not marked unjudged. Linear in the number of values. False if the arena is
 * full: then nothing is judged. */
MUST_CHECK bool batches_build(struct batches *out, struct arena *arena,
                              const struct transaction *transaction, struct span hosted_server);
