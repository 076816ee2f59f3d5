/* X-Matrix: how a homeserver signs a request. */
#pragma once

#include "proto/arena.h"
#include "proto/ed25519.h"
#include "proto/own.h"
#include "proto/reject.h"
#include "proto/span.h"
#include "proto/writer.h"

#include <stdbool.h>
#include <stdint.h>

struct xmatrix {
    struct span origin;      /* a valid server name */
    struct span destination; /* never empty, but data is NULL where the header has none */
    struct span key_id;      /* "ed25519:" and more, printable ASCII */
    struct span sig_text;    /* as it stood in the header */
    uint8_t signature[ED25519_SIGNATURE_SIZE];
};

/* Whether the value of an Authorization header is of this scheme at all. */
bool xmatrix_is_scheme(struct span header_value);

/* REJECT_NONE or REJECT_BAD_XMATRIX. The spans point into the header or, where it had escapes,
 * into the arena. Source: server-server API, "Request Authentication". */
MUST_CHECK enum reject xmatrix_parse(struct xmatrix *out, struct arena *arena,
                                     struct span header_value);

struct xmatrix_request {
    struct span method;
    struct span uri; /* path and query, exactly as on the wire */
    struct span origin;
    struct span destination;
    struct span content; /* canonical JSON; data is NULL where the request has none */
};

/* What the signature is made over. */
void xmatrix_signed_bytes(struct writer *out, const struct xmatrix_request *request);

enum { SIGNING_KEY_ID_MAX = 128 /* bytes */ };

/* Not to be copied: key_id points into it. */
struct signing_key {
    uint8_t seed[ED25519_KEY_SIZE];
    uint8_t public_key[ED25519_KEY_SIZE];
    struct span key_id; /* "ed25519:VERSION" */
    char text[SIGNING_KEY_ID_MAX];
};

/* One line of Synapse's signing key file: "ed25519 VERSION SEED", the seed in base64. */
MUST_CHECK bool signing_key_parse(struct signing_key *out, struct span line);

/* Writes the value of the Authorization header. */
void xmatrix_sign(struct writer *out, const struct signing_key *key,
                  const struct xmatrix_request *request);
