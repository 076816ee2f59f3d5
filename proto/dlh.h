/* The device-list hash dlh1: docs/protocol.md, section 1. A hint, not evidence. */
#pragma once

#include "proto/own.h"
#include "proto/span.h"
#include "proto/writer.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    DLH_KEY_SIZE = 32,         /* bytes of a Curve25519 or Ed25519 public key */
    DLH_HASH_SIZE = 16,        /* bytes */
    DLH_DEVICE_ID_MAX = 65535, /* bytes; its length is hashed as a 16-bit integer */
    DLH_DEVICES_MAX = 1000,    /* a longer list has no hash; Synapse ignores such lists too */
};

/* The hash of a whole list, in its canonical big-endian form. */
struct dlh {
    uint8_t bytes[DLH_HASH_SIZE];
};

/* The hash of one device, a 128-bit integer. */
struct dlh_device {
    uint64_t low, high;
};

/* The running state of a list: the sum of its devices' hashes mod 2^128, and how many. */
struct dlh_sum {
    uint64_t low, high;
    uint32_t n;
};

/* False if the device id is longer than DLH_DEVICE_ID_MAX: such a device has no hash. */
MUST_CHECK bool dlh_device(struct dlh_device *out, struct span device_id,
                           const uint8_t curve25519[DLH_KEY_SIZE],
                           const uint8_t ed25519[DLH_KEY_SIZE]);

/* Both O(1). A device that is removed must have been added. */
void dlh_sum_add(struct dlh_sum *sum, const struct dlh_device *device);
void dlh_sum_remove(struct dlh_sum *sum, const struct dlh_device *device);

/* False if the user id is too long or the list has more than DLH_DEVICES_MAX devices. */
MUST_CHECK bool dlh_finish(struct dlh *out, const struct dlh_sum *sum, struct span user_id);

/* "dlh1:" and 32 lower-case hex digits. */
void dlh_write(struct writer *out, const struct dlh *hash);

/* False for anything dlh_write does not write: that is no claim, never an error. */
MUST_CHECK bool dlh_parse(struct dlh *out, struct span text);
