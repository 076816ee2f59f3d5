/* Any request target: what is found is a server name and a user id, inside its own buffer. */
#include "admin/endpoint.h"
#include "proto/check.h"
#include "proto/ident.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct endpoint_target found;
    struct user_id user;

    endpoint_find(&found, span_of(data, size));
    if (found.endpoint == ENDPOINT_DEVICES) {
        CHECK(server_name_is_valid(found.server));
        CHECK(user_id_parse(&user, found.user));
        CHECK(found.user.data >= found.text &&
              found.user.data + found.user.size <= found.text + sizeof found.text);
    }
    return 0;
}
