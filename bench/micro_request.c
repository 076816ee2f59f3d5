#include "bench/micro_request.h"

#include "bench/lists.h"
#include "bench/origins.h"
#include "bench/traffic.h"
#include "proto/check.h"

#include <stdlib.h>

enum { N_DEVICES = 5, VERSION = 1, PORT = 8448 };

/* Those that differ for the router. */
static const enum shape shapes[MICRO_N_SHAPES] = {SHAPE_EDU2K, SHAPE_EDU100, SHAPE_FULL};

struct micro_source {
    struct origins origins;
    struct lists lists;
    struct traffic traffic;
};

static const struct lists users = {SPAN_INIT("a.example"), MICRO_N_USERS, N_DEVICES};

const char *micro_shape_name(unsigned shape)
{
    return shape_names[shapes[shape]];
}

void micro_request_init(struct micro_request *out, unsigned shape)
{
    struct micro_source *source = calloc(1, sizeof *source);

    CHECK(source != NULL);
    source->lists = users;
    origins_init(&source->origins, 1, PORT);
    const struct traffic_options options = {
        .shape = shapes[shape],
        .origins = &source->origins,
        .lists = &source->lists,
        .n_servers = 1,
        .version = VERSION,
        .fresh_percent = 100,
    };
    traffic_init(&source->traffic, &options, 1, 0);
    const struct request *r = &source->traffic.requests[0];
    *out = (struct micro_request){
        .body = request_body(r),
        .path = span_of(r->wire + r->path_at, r->path_size),
        .authorization = span_of(r->wire + r->authorization_at, r->authorization_size),
        .origin = origin_name(&source->origins.all[0]),
        .public_key = source->origins.all[0].public_key,
        .source = source,
    };
}

void micro_request_fini(struct micro_request *request)
{
    traffic_fini(&request->source->traffic);
    origins_fini(&request->source->origins);
    free(request->source);
    *request = (struct micro_request){0};
}

void micro_write_list(struct writer *out, uint32_t user)
{
    lists_write_answer(out, &users, user, VERSION);
}
