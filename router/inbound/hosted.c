#include "inbound/hosted.h"

#include "inbound/route.h"
#include "proto/check.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { HOST_MAX = 300 /* bytes of a Host value with its port; a longer one is nobody's */ };

struct hosted {
    unsigned n_refs;
    struct hosted_server *servers;
    struct table by_name;
    struct table by_host; /* lower case */
    void (*release)(void *arg);
    void *release_arg;
};

/* Empty if it is too long. */
static struct span lower(char out[HOST_MAX], struct span host)
{
    return host.size > HOST_MAX ? span_of(out, 0) : span_lower(out, host);
}

static void add(struct hosted *hosted, struct hosted_server *server)
{
    char host[HOST_MAX];

    CHECK(server->n_upstreams > 0);
    table_put(&hosted->by_name, server->name, server);
    for (size_t i = 0; i < server->n_hosts; i++) {
        table_put(&hosted->by_host, lower(host, span_str(server->hosts[i])), server);
    }
}

struct hosted *hosted_new(struct hosted_server *servers, size_t n, void (*release)(void *arg),
                          void *release_arg)
{
    struct hosted *hosted = calloc(1, sizeof *hosted);

    CHECK(hosted != NULL);
    hosted->n_refs = 1;
    hosted->servers = servers;
    hosted->release = release;
    hosted->release_arg = release_arg;
    table_init(&hosted->by_name);
    table_init(&hosted->by_host);
    for (size_t i = 0; i < n; i++) {
        add(hosted, &servers[i]);
    }
    return hosted;
}

struct hosted *hosted_ref(struct hosted *hosted)
{
    hosted->n_refs++;
    return hosted;
}

void hosted_unref(struct hosted *hosted)
{
    if (hosted == NULL || --hosted->n_refs > 0) {
        return;
    }
    table_fini(&hosted->by_name);
    table_fini(&hosted->by_host);
    hosted->release(hosted->release_arg);
    free(hosted);
}

const struct hosted_server *hosted_by_name(const struct hosted *hosted, struct span name)
{
    return table_get(&hosted->by_name, name);
}

const struct hosted_server *hosted_by_host(const struct hosted *hosted, struct span host)
{
    char bytes[HOST_MAX];
    struct span key = lower(bytes, host);
    const struct hosted_server *server = table_get(&hosted->by_host, key);

    return server != NULL ? server : table_get(&hosted->by_host, route_host_without_port(key));
}

bool hosted_has_host(const struct hosted_server *server, struct span host)
{
    for (size_t i = 0; i < server->n_hosts; i++) {
        if (route_host_matches(span_str(server->hosts[i]), host)) {
            return true;
        }
    }
    return false;
}

const struct hosted_upstream *hosted_upstream_for(const struct hosted_server *server,
                                                  struct span origin)
{
    uint64_t hash = origin.size == 0 ? 0 : XXH3_64bits(origin.data, origin.size);

    return &server->upstreams[hash % server->n_upstreams];
}
