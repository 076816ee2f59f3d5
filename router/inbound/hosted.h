/* The hosted servers: which there are, and which of them a request is for. */
#pragma once

#include "base/table.h"
#include "net/http_client.h"
#include "proto/own.h"
#include "proto/span.h"
#include "proto/xmatrix.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hosted_upstream {
    const char *host;
    uint16_t port;
    struct http_pool *pool;
};

struct hosted_server {
    struct span name;         /* the Matrix server name, undelegated */
    const char *const *hosts; /* what Host may say */
    size_t n_hosts;
    struct hosted_upstream *upstreams; /* at least one */
    size_t n_upstreams;
    bool authenticates_upstream; /* the homeserver's 2xx is trusted, nothing verified here */
    bool refuses_spoofed_sender;
    const struct signing_key *key; /* NULL: lists are not read */
};

/* A thread's servers. Whoever uses them across callbacks holds a reference, so that a new
 * configuration takes nothing away from what is in flight. */
struct hosted;

/* The servers, all they point to, and `release_arg` belong to it: `release` runs with the last
 * reference. */
struct hosted *hosted_new(struct hosted_server *servers, size_t n, void (*release)(void *arg),
                          void *release_arg);
struct hosted *hosted_ref(struct hosted *hosted);
void hosted_unref(struct hosted *hosted); /* NULL is fine */

/* NULL if it is not hosted here. */
const struct hosted_server *hosted_by_name(const struct hosted *hosted, struct span name);

/* By a Host or :authority value: host and port exactly first, then the host alone. */
const struct hosted_server *hosted_by_host(const struct hosted *hosted, struct span host);

bool hosted_has_host(const struct hosted_server *server, struct span host);

/* The same for every request of an origin, so that one worker of the homeserver sees all of its
 * transactions; the origin may be empty. */
const struct hosted_upstream *hosted_upstream_for(const struct hosted_server *server,
                                                  struct span origin);
