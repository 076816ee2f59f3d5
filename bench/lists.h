/* The device lists of the simulated users: both tools make the same ones, from nothing but numbers.
 */
#pragma once

#include "proto/dlh.h"
#include "proto/own.h"
#include "proto/span.h"
#include "proto/writer.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    LISTS_STREAM_ID_FIRST = 1000, /* of version 0; each version has the next */
    LISTS_VERSIONS_MAX = 100,
    LISTS_DEVICES_MAX = DLH_DEVICES_MAX - LISTS_VERSIONS_MAX,
};

/* The users u0, u1, ... of one homeserver. In version v each has n_devices + v devices. */
struct lists {
    struct span server;
    uint32_t n_users;
    uint32_t n_devices;
};

void lists_write_user_id(struct writer *out, const struct lists *lists, uint32_t user);
void lists_write_device_id(struct writer *out, uint32_t device);

/* False if it is none of the users. */
MUST_CHECK bool lists_find_user(uint32_t *out, const struct lists *lists, struct span user_id);

int64_t lists_stream_id(uint32_t version);

/* The answer to GET /_matrix/federation/v1/user/devices/{userId}. */
void lists_write_answer(struct writer *out, const struct lists *lists, uint32_t user,
                        uint32_t version);

void lists_hash(struct dlh *out, const struct lists *lists, uint32_t user, uint32_t version);
