/* Ed25519 signatures and the public keys that may make them. */
#pragma once

#include "proto/own.h"
#include "proto/span.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    ED25519_KEY_SIZE = 32,       /* bytes; a seed has as many */
    ED25519_SIGNATURE_SIZE = 64, /* bytes */
};

/* The key must be acceptable. Leaves nothing in OpenSSL's error queue. */
MUST_CHECK bool ed25519_verify(const uint8_t public_key[ED25519_KEY_SIZE],
                               const uint8_t signature[ED25519_SIGNATURE_SIZE],
                               struct span message);

/* False for what is no point of the curve in its one encoding, for points of small order (they
 * sign anything) and for keys whose private half is public. */
MUST_CHECK bool ed25519_key_is_acceptable(const uint8_t public_key[ED25519_KEY_SIZE]);

void ed25519_public_key(uint8_t out[ED25519_KEY_SIZE], const uint8_t seed[ED25519_KEY_SIZE]);

void ed25519_sign(uint8_t out[ED25519_SIGNATURE_SIZE], const uint8_t seed[ED25519_KEY_SIZE],
                  struct span message);
