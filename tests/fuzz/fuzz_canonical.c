/* Any document: its canonical form parses again and is its own canonical form. */
#include "proto/canonical.h"
#include "proto/check.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_CAP = 4 << 20, OUTPUT_MAX = 1 << 20 };

static bool encode(struct writer *out, struct arena *arena, struct span text)
{
    const struct json_value *root = NULL;

    return json_parse(&root, arena, text) == JSON_OK && canonical_encode(out, arena, root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct writer first;
    struct writer second;

    arena_init(&arena, ARENA_CAP);
    writer_init(&first, OUTPUT_MAX);
    writer_init(&second, OUTPUT_MAX);
    if (encode(&first, &arena, span_of(data, size))) {
        CHECK(encode(&second, &arena, writer_span(&first)));
        CHECK(span_equal(writer_span(&first), writer_span(&second)));
    }
    writer_fini(&second);
    writer_fini(&first);
    arena_fini(&arena);
    return 0;
}
