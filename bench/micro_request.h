/* One transaction as load sends it, and the device lists of those it names, for bench/micro. Apart
 * because the `struct lists` of load and that of the router are two things. */
#pragma once

#include "proto/span.h"
#include "proto/writer.h"

#include <stdint.h>

enum { MICRO_N_USERS = 1000, MICRO_N_SHAPES = 3 };

#define MICRO_SERVER SPAN_LIT("a.example")

struct micro_request {
    struct span body, path, authorization;
    struct span origin;
    const uint8_t *public_key;
    struct micro_source *source; /* of all that */
};

const char *micro_shape_name(unsigned shape);

/* Of shape 0, 1, ...; each of its EDUs with a claim of the current list. */
void micro_request_init(struct micro_request *out, unsigned shape);
void micro_request_fini(struct micro_request *request);

/* The answer to GET /user/devices for user 0, 1, ... */
void micro_write_list(struct writer *out, uint32_t user);
