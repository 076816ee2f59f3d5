#include "proto/ed25519.h"

#include "proto/check.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <sodium.h>

/* libsodium has the faster curve, OpenSSL the faster SHA-512; there they meet.
 * Source: facts/performance.md. */
enum { OPENSSL_FROM = 64 * 1024 /* bytes of message */ };

/* l/O9hxMVKB6Lg+3Hqf0FQQZhVESQcMzbPN1Cz2nM3og=
 * Source: Synapse, crypto/keyring.py; ELEMENTSEC-2025-1670. */
static const uint8_t banned_key[ED25519_KEY_SIZE] = {
    0x97, 0xf3, 0xbd, 0x87, 0x13, 0x15, 0x28, 0x1e, 0x8b, 0x83, 0xed, 0xc7, 0xa9, 0xfd, 0x05, 0x41,
    0x06, 0x61, 0x54, 0x44, 0x90, 0x70, 0xcc, 0xdb, 0x3c, 0xdd, 0x42, 0xcf, 0x69, 0xcc, 0xde, 0x88};

/* The neutral element. */
static const uint8_t identity[ED25519_KEY_SIZE] = {1};

static const uint8_t *bytes_of(struct span message)
{
    return (const uint8_t *)(message.data == NULL ? "" : message.data);
}

static bool verify_with_openssl(const uint8_t *public_key, const uint8_t *signature,
                                struct span message)
{
    ERR_set_mark();
    EVP_PKEY *key =
        EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, ED25519_KEY_SIZE);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    CHECK(key != NULL && ctx != NULL);
    bool is_right = EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
                    EVP_DigestVerify(ctx, signature, ED25519_SIGNATURE_SIZE, bytes_of(message),
                                     message.size) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    /* A leftover would be taken for the fault of the next TLS connection of this thread. */
    ERR_pop_to_mark();
    return is_right;
}

bool ed25519_verify(const uint8_t public_key[ED25519_KEY_SIZE],
                    const uint8_t signature[ED25519_SIGNATURE_SIZE], struct span message)
{
    if (message.size >= OPENSSL_FROM) {
        return verify_with_openssl(public_key, signature, message);
    }
    return crypto_sign_verify_detached(signature, bytes_of(message), message.size, public_key) == 0;
}

/* Eight times the point; the cofactor takes every point of small order to the neutral element. */
static bool has_small_order(const uint8_t point[ED25519_KEY_SIZE])
{
    uint8_t sum[ED25519_KEY_SIZE];

    memcpy(sum, point, sizeof sum);
    for (int doubled = 0; doubled < 3; doubled++) {
        CHECK(crypto_core_ed25519_add(sum, sum, sum) == 0);
    }
    return memcmp(sum, identity, sizeof sum) == 0;
}

bool ed25519_key_is_acceptable(const uint8_t public_key[ED25519_KEY_SIZE])
{
    uint8_t encoded[ED25519_KEY_SIZE];

    if (crypto_core_ed25519_add(encoded, public_key, identity) != 0) {
        return false;
    }
    return memcmp(encoded, public_key, sizeof encoded) == 0 && !has_small_order(public_key) &&
           memcmp(public_key, banned_key, sizeof banned_key) != 0;
}

static void secret_of(uint8_t secret[crypto_sign_SECRETKEYBYTES], uint8_t *public_key,
                      const uint8_t *seed)
{
    CHECK(crypto_sign_seed_keypair(public_key, secret, seed) == 0);
}

void ed25519_public_key(uint8_t out[ED25519_KEY_SIZE], const uint8_t seed[ED25519_KEY_SIZE])
{
    uint8_t secret[crypto_sign_SECRETKEYBYTES];

    secret_of(secret, out, seed);
    sodium_memzero(secret, sizeof secret);
}

void ed25519_sign(uint8_t out[ED25519_SIGNATURE_SIZE], const uint8_t seed[ED25519_KEY_SIZE],
                  struct span message)
{
    uint8_t secret[crypto_sign_SECRETKEYBYTES];
    uint8_t public_key[ED25519_KEY_SIZE];

    secret_of(secret, public_key, seed);
    CHECK(crypto_sign_detached(out, NULL, bytes_of(message), message.size, secret) == 0);
    sodium_memzero(secret, sizeof secret);
}
