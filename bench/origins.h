/* The simulated homeservers that send: their names and keys follow from their numbers. */
#pragma once

#include "proto/ed25519.h"
#include "proto/span.h"
#include "proto/writer.h"
#include "proto/xmatrix.h"

#include <netinet/in.h>
#include <stdint.h>

enum { ORIGIN_NAME_MAX = 255 /* bytes */, ORIGINS_MAX = 1000000 };

struct origin {
    char *name;
    size_t name_size;
    uint8_t seed[ED25519_KEY_SIZE];
    uint8_t public_key[ED25519_KEY_SIZE];
};

struct origins {
    struct origin *all;
    uint32_t n;
};

/* Origin i is "127.16.0.0:PORT" + i: each has an address of its own on the loopback interface, so
 * whoever fetches its keys needs no DNS, and one listener serves them all. */
void origins_init(struct origins *origins, uint32_t n, uint16_t port);

/* One, of that name. */
void origins_init_named(struct origins *origins, const char *name);
void origins_fini(struct origins *origins);

/* NULL if it is nobody's. */
const struct origin *origins_find(const struct origins *origins, struct in_addr address);

static inline struct span origin_name(const struct origin *origin)
{
    return span_of(origin->name, origin->name_size);
}

/* The answer to GET /_matrix/key/v2/server. */
void origins_write_key_document(struct writer *out, const struct origins *origins, uint32_t i);

/* The value of the Authorization header. */
void origin_authorize(struct writer *out, const struct origin *origin,
                      const struct xmatrix_request *request);
