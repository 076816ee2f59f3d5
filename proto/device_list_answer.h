/* What homeservers answer about device lists: GET /user/devices and POST /user/keys/query. */
#pragma once

#include "proto/arena.h"
#include "proto/dlh.h"
#include "proto/json.h"
#include "proto/own.h"
#include "proto/span.h"

#include <stdbool.h>
#include <stdint.h>

struct device_entry {
    struct span device_id;
    bool counts; /* has both identity keys, of 32 bytes each; only such devices enter the hash */
    uint8_t curve25519[DLH_KEY_SIZE];
    uint8_t ed25519[DLH_KEY_SIZE];
};

struct device_list_answer {
    struct span user_id;
    bool has_stream_id;
    int64_t stream_id; /* the server-wide position on Synapse, the user's on others */
    struct device_entry *devices;
    uint32_t n_devices;
};

/* The answer to GET /_matrix/federation/v1/user/devices/{userId}. A device that is listed twice
 * counts once, as listed last. False for another shape or if the arena is full. Spans point into
 * the document's arena. Source: server-server API, "Device Management". */
MUST_CHECK bool device_list_answer_decode(struct device_list_answer *out, struct arena *arena,
                                          const struct json_value *root);

/* The answer to POST /_matrix/federation/v1/user/keys/query or /_matrix/client/v3/keys/query: one
 * list per user, in the answer's order, without stream ids. Source: server-server API, "End-to-End
 * Encryption". */
MUST_CHECK bool keys_query_answer_decode(struct device_list_answer **out, uint32_t *n,
                                         struct arena *arena, const struct json_value *root);

/* False for a list that has no hash: more than DLH_DEVICES_MAX devices that count. */
MUST_CHECK bool device_list_answer_hash(struct dlh *out, struct dlh_sum *sum,
                                        const struct device_list_answer *answer);
