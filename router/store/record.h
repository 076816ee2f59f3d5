/* What a stored record looks like, and how its key is made. */
#pragma once

#include "proto/own.h"
#include "proto/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first byte of a key. */
enum store_kind { STORE_KEY = 'k', STORE_LIST = 'l', STORE_META = 'm' };

enum {
    STORE_KEY_SIZE = 33,           /* bytes: the kind and a SHA-256 */
    RECORD_CHECKSUM_SIZE = 8,      /* bytes: XXH3 of the payload, little endian */
    RECORD_PAYLOAD_MAX = 16 << 20, /* bytes; far above anything we store */
};

struct store_key {
    uint8_t bytes[STORE_KEY_SIZE];
};

/* The kind and the SHA-256 of the parts, each with its length before it: LMDB's keys end at 511
 * bytes, names do not. The names themselves belong into the record. */
void store_key_make(struct store_key *out, enum store_kind kind, const struct span *parts,
                    size_t n_parts);

/* Writes the checksum of the payload. */
void record_seal(uint8_t out[RECORD_CHECKSUM_SIZE], struct span payload);

/* False if the record is too short or not what was sealed. */
MUST_CHECK bool record_open(struct span *out_payload, struct span record);
