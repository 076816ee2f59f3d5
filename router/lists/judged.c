#include "lists/judged.h"

#include "base/random.h"
#include "proto/check.h"

#include <stdint.h>
#include <stdlib.h>
#include <xxhash.h>

struct judged {
    uint64_t seed;                /* random, so that nobody can choose whom to push out */
    uint64_t slots[JUDGED_SLOTS]; /* hashes; 0 is free */
};

struct judged *judged_new(void)
{
    struct judged *judged = calloc(1, sizeof *judged);

    CHECK(judged != NULL);
    random_bytes(&judged->seed, sizeof judged->seed);
    return judged;
}

void judged_free(struct judged *judged)
{
    free(judged);
}

static uint64_t add(uint64_t hash, struct span part)
{
    uint64_t with_size = XXH3_64bits_withSeed(&part.size, sizeof part.size, hash);

    return part.size == 0 ? with_size : XXH3_64bits_withSeed(part.data, part.size, with_size);
}

static uint64_t hash_of(const struct judged *judged, const struct judged_claim *what)
{
    const struct claim *claim = what->claim;
    uint64_t hash = add(judged->seed, what->server);

    hash = add(hash, what->user_id);
    hash = add(hash, what->origin);
    hash = add(hash, span_of(what->list->bytes, sizeof what->list->bytes));
    hash = add(hash, span_of(claim->hash.bytes, claim->has_hash ? sizeof claim->hash.bytes : 0));
    hash = add(hash, span_of(&claim->stream_id, claim->has_stream ? sizeof claim->stream_id : 0));
    return hash;
}

void judged_remember(struct judged *judged, const struct judged_claim *what)
{
    uint64_t hash = hash_of(judged, what);

    judged->slots[hash % JUDGED_SLOTS] = hash;
}

bool judged_before(const struct judged *judged, const struct judged_claim *what)
{
    uint64_t hash = hash_of(judged, what);

    return hash != 0 && judged->slots[hash % JUDGED_SLOTS] == hash;
}
