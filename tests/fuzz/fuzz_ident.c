/* Any text: a user id that parses is made of its two parts, and its server name is valid. */
#include "proto/check.h"
#include "proto/ident.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct user_id id;
    struct span text = span_of(data, size);

    if (user_id_parse(&id, text)) {
        CHECK(id.localpart.size + id.server.size + 2 == size && span_equal(id.whole, text));
        CHECK(server_name_is_valid(id.server));
    }
    CHECK(!server_name_is_valid(text) || size <= IDENT_MAX);
    return 0;
}
