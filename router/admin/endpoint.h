/* Which of our own endpoints a request means. */
#pragma once

#include "proto/own.h"
#include "proto/span.h"

#include <stdbool.h>

enum endpoint {
    ENDPOINT_NONE,
    ENDPOINT_LIVEZ,
    ENDPOINT_READYZ,
    ENDPOINT_METRICS,
    ENDPOINT_DEVICES, /* /admin/v1/servers/{server}/users/{user}/devices */
};

enum { ENDPOINT_NAME_MAX = 255 /* bytes of a server name or user id */ };

struct endpoint_target {
    enum endpoint endpoint;
    /* ENDPOINT_DEVICES: decoded, and valid as identifiers; they point into `text`. */
    struct span server, user;
    char text[2 * ENDPOINT_NAME_MAX];
};

/* The target as in the request line; a query is ignored. ENDPOINT_NONE for anything unknown,
 * including a server name or user id that is none. Not to be copied: it points into itself. */
void endpoint_find(struct endpoint_target *out, struct span target);
