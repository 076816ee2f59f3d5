/* Any target: what is relayed stays below the three relayed trees and has no dot segment. */
#include "inbound/route.h"
#include "proto/check.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum reject why = REJECT_NONE;
    struct span target = span_of(data, size);
    enum route_class class = route_classify(&why, SPAN_LIT("PUT"), target);

    CHECK((class == ROUTE_REFUSED) == (why != REJECT_NONE));
    if (class != ROUTE_REFUSED) {
        CHECK(span_starts_with(target, SPAN_LIT("/_matrix/")));
        const char *query = memchr(target.data, '?', target.size);
        size_t path_size = query == NULL ? target.size : (size_t)(query - target.data);
        CHECK(memmem(target.data, path_size, "/../", 4) == NULL);
    }
    return 0;
}
