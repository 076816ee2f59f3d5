#include "store/record.h"

#include "proto/check.h"

#include <sodium.h>
#include <xxhash.h>

static void put_u64(uint8_t out[8], uint64_t value)
{
    for (size_t i = 0; i < 8; i++) {
        out[i] = (uint8_t)(value >> (8 * i));
    }
}

void store_key_make(struct store_key *out, enum store_kind kind, const struct span *parts,
                    size_t n_parts)
{
    crypto_hash_sha256_state state;

    crypto_hash_sha256_init(&state);
    for (size_t i = 0; i < n_parts; i++) {
        uint8_t size[8];
        put_u64(size, parts[i].size);
        crypto_hash_sha256_update(&state, size, sizeof size);
        crypto_hash_sha256_update(&state, (const unsigned char *)parts[i].data, parts[i].size);
    }
    out->bytes[0] = (uint8_t)kind;
    crypto_hash_sha256_final(&state, out->bytes + 1);
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
