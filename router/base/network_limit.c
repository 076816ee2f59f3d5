#include "base/network_limit.h"

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

struct network_limit {
    uint64_t seed; /* random, so that nobody can choose networks that meet in a set */
    size_t n_sets;
    uint32_t per_s, burst;
    struct slot slots[]; /* NETWORK_LIMIT_WAYS of each set */
};

struct network_limit *network_limit_new(size_t n_sets, uint32_t per_s, uint32_t burst)
{
    struct network_limit *limit =
        calloc(1, sizeof *limit + n_sets * NETWORK_LIMIT_WAYS * sizeof limit->slots[0]);

    CHECK(limit != NULL && n_sets > 0);
    limit->n_sets = n_sets;
    limit->per_s = per_s;
    limit->burst = burst;
    random_bytes(&limit->seed, sizeof limit->seed);
    return limit;
}

void network_limit_free(struct network_limit *limit)
{
    free(limit);
}

/* The network's slot, or the one that is to become its slot. */
static struct slot *find(const struct network_limit *limit, struct slot *set,
                         const uint8_t network[PREFIX_MAX], uint64_t now_us)
{
    struct slot *best = NULL;
    uint64_t best_tokens = 0;

    for (size_t i = 0; i < NETWORK_LIMIT_WAYS; i++) {
        if (!set[i].is_used) {
            bucket_init(&set[i].bucket, limit->per_s, limit->burst);
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

bool network_limit_take(struct network_limit *limit, const struct in6_addr *address,
                        uint64_t now_us)
{
    uint8_t network[PREFIX_MAX] = {0};

    memcpy(network, address->s6_addr, IN6_IS_ADDR_V4MAPPED(address) ? PREFIX_IPV4 : PREFIX_IPV6);
    size_t set = XXH3_64bits_withSeed(network, sizeof network, limit->seed) % limit->n_sets;
    struct slot *slot = find(limit, &limit->slots[set * NETWORK_LIMIT_WAYS], network, now_us);
    memcpy(slot->network, network, sizeof network);
    slot->is_used = true;
    return bucket_take(&slot->bucket, now_us);
}
