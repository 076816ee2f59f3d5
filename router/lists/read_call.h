/* One read of a device list: a signed GET /user/devices, and what its answer says. */
#pragma once

#include "base/err.h"
#include "lists/device_list.h"
#include "lists/reader.h"
#include "net/loop.h"
#include "proto/own.h"
#include "proto/span.h"

#include <stdint.h>

struct read_call;

struct read_call_options {
    struct loop *loop;
    const struct read_source *source; /* with a key; borrowed for read_call_start */
    struct span server, user_id;      /* live as long as the call */
    uint32_t within_ms;               /* for everything */
    /* From the loop, once; the call is over then. NULL: it failed, and that was logged. The update
     * is valid for the call. */
    void (*on_done)(void *arg, const struct list_update *update);
    void *arg;
};

/* ERR_CONFIG: the request cannot be sent, and on_done is not called. */
MUST_CHECK enum err read_call_start(struct read_call **out,
                                    const struct read_call_options *options);
void read_call_cancel(struct read_call *call); /* on_done is not called */
