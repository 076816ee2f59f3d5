/* The keys of one server as they are stored, and told by one worker to another. */
#pragma once

#include "proto/ed25519.h"
#include "proto/ident.h"
#include "proto/key_document.h"
#include "proto/own.h"
#include "proto/span.h"
#include "proto/writer.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    KEY_RECORD_ID_MAX = 255, /* bytes; a key with a longer id is not kept */
    /* Bytes: version, name and count, then for each key its id, bytes, end and ban. */
    KEY_RECORD_MAX =
        3 + IDENT_MAX + KEY_DOCUMENT_KEYS_MAX * (1 + KEY_RECORD_ID_MAX + ED25519_KEY_SIZE + 8 + 1),
};

struct key_record_key {
    struct span key_id;
    uint8_t key[ED25519_KEY_SIZE];
    int64_t valid_until_ms; /* wall clock; the last at which it is valid, or known to be banned */
    bool is_banned;         /* as in struct verify_key */
};

/* Spans point to wherever it was made from. */
struct key_record {
    struct span server;
    uint32_t n_keys; /* at least 1 */
    struct key_record_key keys[KEY_DOCUMENT_KEYS_MAX];
};

/* What is kept of a document fetched at now_ms (wall clock): each key to the document's end, but
 * for no longer than max_valid_ms. False if there is none now. */
MUST_CHECK bool key_record_from_document(struct key_record *out,
                                         const struct key_document *document, int64_t now_ms,
                                         int64_t max_valid_ms);

/* Sticky in the writer; its cap should be KEY_RECORD_MAX. */
void key_record_encode(struct writer *out, const struct key_record *record);

/* False for anything that key_record_encode does not write. No allocation. */
MUST_CHECK bool key_record_decode(struct key_record *out, struct span bytes);

/* NULL if it has no such key, or not any more at now_ms. The key may be a banned one. */
const struct key_record_key *key_record_find(const struct key_record *record, struct span key_id,
                                             int64_t now_ms);
