#include "net/handshake_limit.h"

#include "base/bucket.h"
#include "base/random.h"
#include "proto/check.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum {
    PREFIX_IPV4 = 15, /* bytes of ::ffff:a.b.c.d that a /24 has */
    PREFIX_IPV6 = 6,  /* bytes of a /48 */
    PREFIX_MAX = 16,  /* bytes */
};

struct slot {
    uint8_t network[PREFIX_MAX]; /* the rest zero */
    struct bucket bucket;
    bool is_used;
};

struct handshake_limit {
    uint64_t seed; /* random, so that nobody can choose networks that meet in a set */
    struct slot slots[HANDSHAKE_SETS][HANDSHAKE_WAYS];
};

struct handshake_limit *handshake_limit_new(void)
{
    struct handshake_limit *limit = calloc(1, sizeof *limit);

    CHECK(limit != NULL);
    random_bytes(&limit->seed, sizeof limit->seed);
    return limit;
}

void handshake_limit_free(struct handshake_limit *limit)
{
    free(limit);
}

/* The network's slot, or the one that is to become its slot. */
static struct slot *find(struct slot *set, const uint8_t network[PREFIX_MAX], uint64_t now_us)
{
    struct slot *best = NULL;
    uint64_t best_tokens = 0;

    for (size_t i = 0; i < HANDSHAKE_WAYS; i++) {
        if (!set[i].is_used) {
            bucket_init(&set[i].bucket, HANDSHAKES_PER_S, HANDSHAKES_BURST);
            return &set[i];
        }
        if (memcmp(set[i].network, network, PREFIX_MAX) == 0) {
            return &set[i];
        }
        uint64_t tokens = bucket_tokens(&set[i].bucket, now_us);
        if (best == NULL || tokens > best_tokens) {
            best = &set[i];
            best_tokens = tokens;
        }
    }
    return best;
}

bool handshake_limit_take(struct handshake_limit *limit, const struct in6_addr *address,
                          uint64_t now_us)
{
    uint8_t network[PREFIX_MAX] = {0};

    memcpy(network, address->s6_addr, IN6_IS_ADDR_V4MAPPED(address) ? PREFIX_IPV4 : PREFIX_IPV6);
    uint64_t hash = XXH3_64bits_withSeed(network, sizeof network, limit->seed);
    struct slot *slot = find(limit->slots[hash % HANDSHAKE_SETS], network, now_us);
    memcpy(slot->network, network, sizeof network);
    slot->is_used = true;
    return bucket_take(&slot->bucket, now_us);
}
