#include "store/record.h"

#include "proto/check.h"

#include <xxhash.h>

/* These need no allocation and use the SHA instructions of a CPU that has them, as libsodium does
 * not. They are deprecated in favour of EVP, whose set-up takes longer than such a hash. */
#define OPENSSL_API_COMPAT 10100
#include <openssl/sha.h>

static void put_u64(uint8_t out[8], uint64_t value)
{
    for (size_t i = 0; i < 8; i++) {
        out[i] = (uint8_t)(value >> (8 * i));
    }
}

void store_key_make(struct store_key *out, enum store_kind kind, const struct span *parts,
                    size_t n_parts)
{
    SHA256_CTX state;

    CHECK(SHA256_Init(&state) == 1);
    for (size_t i = 0; i < n_parts; i++) {
        uint8_t size[8];
        put_u64(size, parts[i].size);
        CHECK(SHA256_Update(&state, size, sizeof size) == 1 &&
              SHA256_Update(&state, parts[i].data, parts[i].size) == 1);
    }
    out->bytes[0] = (uint8_t)kind;
    CHECK(SHA256_Final(out->bytes + 1, &state) == 1);
}

void record_seal(uint8_t out[RECORD_CHECKSUM_SIZE], struct span payload)
{
    put_u64(out, XXH3_64bits(payload.size == 0 ? "" : payload.data, payload.size));
}

bool record_open(struct span *out_payload, struct span record)
{
    uint8_t want[RECORD_CHECKSUM_SIZE];

    if (record.size < sizeof want) {
        return false;
    }
    *out_payload = span_skip(record, sizeof want);
    record_seal(want, *out_payload);
    return memcmp(want, record.data, sizeof want) == 0;
}
