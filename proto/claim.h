/* The claim: what a sender believes a recipient's device list to be. docs/protocol.md, section 2.
 */
#pragma once

#include "proto/dlh.h"
#include "proto/json.h"
#include "proto/own.h"
#include "proto/span.h"
#include "proto/transaction.h"

#include <stdbool.h>
#include <stdint.h>

struct claim {
    bool has_hash;
    bool has_stream;
    bool per_device; /* made inside the devices' contents, not in the EDU's */
    struct dlh hash;
    int64_t stream_id;
    struct span device_id; /* of a per-device claim: the sending device, or empty */
};

enum claim_result {
    CLAIM_NONE,
    CLAIM_USABLE,
    CLAIM_UNUSABLE, /* of unknown prefix or form, or claims that contradict each other */
    CLAIM_RESULT_COUNT
};

/* For metrics. Of a usable claim: "hash" where it has one, else "stream". */
const char *claim_label(enum claim_result result, const struct claim *claim);

/* What the EDU claims about one of its recipients. Looks the user up, linear in their number. */
MUST_CHECK enum claim_result claim_decode(struct claim *out, const struct edu *edu,
                                          struct span user_id);

/* The same where the lookups are done: `entry` is what the EDU-level claims hold for the user or
 * NULL, `devices` the user's {device id: content}. *out is all zero unless CLAIM_USABLE. */
MUST_CHECK enum claim_result claim_judge_form(struct claim *out, const struct json_value *entry,
                                              const struct json_value *devices);
