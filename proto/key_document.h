/* The keys that a homeserver publishes: GET /_matrix/key/v2/server. */
#pragma once

#include "proto/arena.h"
#include "proto/ed25519.h"
#include "proto/own.h"
#include "proto/span.h"

#include <stdbool.h>
#include <stdint.h>

struct verify_key {
    struct span key_id; /* "ed25519:" and more */
    uint8_t key[ED25519_KEY_SIZE];
    bool is_banned; /* not acceptable: whoever signs with it is nobody */
};

struct key_document {
    struct span server_name;
    int64_t valid_until_ts; /* ms since 1970, as published: the caller caps and compares it */
    struct verify_key *keys;
    uint32_t n_keys; /* at least 1 that is not banned */
};

enum {
    KEY_DOCUMENT_SIZE_MAX = 64 * 1024, /* bytes. Source: design.md, section 5 */
    KEY_DOCUMENT_KEYS_MAX = 32,        /* verify keys; bounds the signatures that are tried */
};

/* False unless it is the document of that server, signed by one of the keys it gives that is not
 * banned: signed by banned ones alone it is anybody's. Spans point into the body or the arena.
 * Source: server-server API, "Publishing Keys". */
MUST_CHECK bool key_document_decode(struct key_document *out, struct arena *arena, struct span body,
                                    struct span server_name);

/* NULL if it has no such key. */
const struct verify_key *key_document_find(const struct key_document *document, struct span key_id);
