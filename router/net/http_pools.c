#include "net/http_pools.h"

#include "base/table.h"
#include "proto/check.h"

#include <stdlib.h>
#include <string.h>

enum { HOST_MAX = 255 /* bytes, as a DNS name */ };

struct http_pools {
    struct loop *loop;
    struct table table; /* by what the options say */
};

struct http_pools *http_pools_new(struct loop *loop)
{
    struct http_pools *pools = calloc(1, sizeof *pools);

    CHECK(pools != NULL);
    pools->loop = loop;
    table_init(&pools->table);
    return pools;
}

void http_pools_free(struct http_pools *pools)
{
    struct http_pool *pool;

    if (pools == NULL) {
        return;
    }
    struct table_iter iter = table_iterate(&pools->table);
    while ((pool = table_next(&iter, NULL)) != NULL) {
        http_pool_free(pool);
    }
    table_fini(&pools->table);
    free(pools);
}

/* The limits and the port, then the host, into `key`. */
static struct span key_of(char *key, const struct http_pool_options *options)
{
    struct http_pool_limits limits =
        options->limits != NULL ? *options->limits : http_pool_limits_default;
    size_t size = strlen(options->host);

    CHECK(size <= HOST_MAX);
    memcpy(key, &limits, sizeof limits);
    memcpy(key + sizeof limits, &options->max_connections, sizeof options->max_connections);
    key[sizeof limits + sizeof options->max_connections] = (char)(options->port >> 8);
    key[sizeof limits + sizeof options->max_connections + 1] = (char)(options->port & 0xff);
    memcpy(key + sizeof limits + sizeof options->max_connections + 2, options->host, size);
    return span_of(key, sizeof limits + sizeof options->max_connections + 2 + size);
}

struct http_pool *http_pools_get(struct http_pools *pools, const struct http_pool_options *options)
{
    char bytes[sizeof(struct http_pool_limits) + sizeof options->max_connections + 2 + HOST_MAX];
    struct span key = key_of(bytes, options);
    struct http_pool *pool = table_get(&pools->table, key);

    if (pool == NULL && http_pool_new(&pool, pools->loop, options) == ERR_OK) {
        table_put(&pools->table, key, pool);
    }
    return pool;
}

size_t http_pools_n_connections(const struct http_pools *pools)
{
    struct table_iter iter = table_iterate(&pools->table);
    const struct http_pool *pool;
    size_t n = 0;

    while ((pool = table_next(&iter, NULL)) != NULL) {
        n += http_pool_n_connections(pool);
    }
    return n;
}
