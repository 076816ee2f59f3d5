#include "lists/read_budget.h"

#include "base/bucket.h"
#include "proto/check.h"

#include <stdlib.h>

void read_budget_init(struct read_budget *budget)
{
    table_init(&budget->servers);
    table_init(&budget->shares);
}

static bool is_full(const struct bucket *bucket, uint64_t now_us)
{
    return bucket_tokens(bucket, now_us) == bucket->burst;
}

/* A bucket that is full is the same as a new one, so nothing is lost with it. */
static void drop_buckets(struct table *buckets, bool only_full, uint64_t now_us)
{
    struct table_iter iter = table_iterate(buckets);
    struct span key;
    struct bucket *bucket;

    while ((bucket = table_next(&iter, &key)) != NULL) {
        if (!only_full || is_full(bucket, now_us)) {
            table_remove(buckets, key);
            free(bucket);
        }
    }
}

void read_budget_fini(struct read_budget *budget)
{
    drop_buckets(&budget->servers, false, 0);
    drop_buckets(&budget->shares, false, 0);
    table_fini(&budget->servers);
    table_fini(&budget->shares);
}

static struct bucket *bucket_new(struct table *buckets, struct span key, uint64_t now_us)
{
    struct bucket *bucket = malloc(sizeof *bucket);

    CHECK(bucket != NULL);
    if (buckets->n >= READ_BUDGET_MAX) {
        drop_buckets(buckets, true, now_us);
    }
    if (buckets->n >= READ_BUDGET_MAX) {
        drop_buckets(buckets, false, now_us);
    }
    CHECK(table_put(buckets, key, bucket) == NULL);
    return bucket;
}

static struct bucket *bucket_of(struct table *buckets, struct span key, uint32_t per_s,
                                uint64_t now_us)
{
    struct bucket *bucket = table_get(buckets, key);
    bool is_new = bucket == NULL;

    if (is_new) {
        bucket = bucket_new(buckets, key, now_us);
    }
    if (is_new || bucket->per_s != per_s) {
        bucket_init(bucket, per_s, per_s);
    }
    return bucket;
}

/* Taken, or made, only where the server has a token, so an origin without any costs no memory. */
static bool take_share(struct read_budget *budget, const struct list_read_request *request,
                       uint32_t reads_per_s, uint64_t now_us)
{
    AUTO(writer_fini) struct writer key;
    uint32_t share = reads_per_s / 2 > 0 ? reads_per_s / 2 : 1;

    writer_init(&key, SIZE_MAX);
    writer_bytes(&key, request->server);
    writer_char(&key, '\0'); /* in no server name */
    writer_bytes(&key, request->origin);
    return bucket_take(bucket_of(&budget->shares, writer_span(&key), share, now_us), now_us);
}

bool read_budget_take(struct read_budget *budget, const struct list_read_request *request,
                      uint32_t reads_per_s, uint64_t now_us)
{
    uint32_t per_s = reads_per_s > 0 ? reads_per_s : 1;
    struct bucket *server = bucket_of(&budget->servers, request->server, per_s, now_us);
    uint64_t n = bucket_tokens(server, now_us);

    if (n == 0 || (request->may_wait && 2 * n < server->burst) ||
        !take_share(budget, request, per_s, now_us)) {
        return false;
    }
    CHECK(bucket_take(server, now_us));
    return true;
}
