/* The operations listener and the admin socket: HTTP around admin.h. */
#pragma once

#include "admin/admin.h"
#include "base/err.h"
#include "net/loop.h"
#include "proto/own.h"

#include <stdint.h>

struct admin_server;

struct admin_server_options {
    struct loop *loop;
    const char *operations_host; /* an address; NULL: no operations listener */
    uint16_t operations_port;    /* 0: any free one */
    const char *admin_socket;    /* path; NULL: none */
};

/* The operations listener answers what admin_read answers, the admin socket takes pushes too. The
 * context is copied, what it points to is borrowed. */
MUST_CHECK enum err admin_server_new(struct admin_server **out,
                                     const struct admin_server_options *options,
                                     const struct admin_context *context);
uint16_t admin_server_operations_port(const struct admin_server *server); /* 0: no listener */

/* A push whose commit is under way is not answered any more. After journal_stop: what was taken
 * has completed then. */
void admin_server_free(struct admin_server *server);
