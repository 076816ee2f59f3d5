/* Any bytes as a .well-known document and as the headers that came with it: a delegation is a valid
 * server name, a lifetime is at least -1. */
#include "proto/check.h"
#include "proto/ident.h"
#include "proto/well_known.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_CAP = 4 << 20, NOW_S = 1795604534 };

/* Up to the first line end is Cache-Control, up to the next Expires. */
static struct span take_line(struct span *text)
{
    const char *end = text->size == 0 ? NULL : memchr(text->data, '\n', text->size);
    size_t n = end == NULL ? text->size : (size_t)(end - text->data);
    struct span line = span_of(text->data, n);

    *text = span_skip(*text, end == NULL ? n : n + 1);
    return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_of(data, size);
    struct arena arena;
    struct span name;

    struct span cache_control = take_line(&text);
    struct span expires = take_line(&text);
    CHECK(http_lifetime_s(cache_control, expires, NOW_S) >= -1);
    CHECK(http_lifetime_s(expires, cache_control, 0) >= -1);
    arena_init(&arena, ARENA_CAP);
    if (well_known_decode(&name, &arena, text)) {
        CHECK(server_name_is_valid(name) && text.size <= WELL_KNOWN_SIZE_MAX);
    }
    arena_fini(&arena);
    return 0;
}
