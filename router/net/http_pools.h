/* A loop's connection pools, one for each upstream, however often the configuration changes. */
#pragma once

#include "net/http_client.h"
#include "net/loop.h"
#include "proto/own.h"

#include <stddef.h>
#include <stdint.h>

struct http_pools;

struct http_pools *http_pools_new(struct loop *loop);
void http_pools_free(struct http_pools *pools); /* no call may be left */

/* The pool of that upstream with these limits, made now if there is none; lives as long as the
 * pools. NULL if it cannot be made. */
struct http_pool *http_pools_get(struct http_pools *pools, const struct http_pool_options *options);

/* Open connections in all. */
size_t http_pools_n_connections(const struct http_pools *pools);
