/* Any document: its canonical form parses again and is its own canonical form, and the one-pass
 * check says of a text that it is canonical exactly if encoding it gives the same bytes. */
#include "proto/canonical.h"
#include "proto/check.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_CAP = 4 << 20, OUTPUT_MAX = 1 << 20 };

static enum json_error encode(struct writer *out, struct arena *arena, struct span text)
{
    const struct json_value *root = NULL;
    enum json_error error = json_parse(&root, arena, text);

    if (error == JSON_OK && !canonical_encode(out, arena, root)) {
        error = JSON_NO_ROOM;
    }
    return error;
}

static void check_form(struct arena *arena, const struct writer *first, struct span text)
{
    struct span form = writer_span(first);
    struct writer second;

    writer_init(&second, OUTPUT_MAX);
    CHECK(encode(&second, arena, form) == JSON_OK);
    CHECK(span_equal(form, writer_span(&second)));
    CHECK(canonical_check(form) == CANONICAL_YES);
    CHECK(canonical_check(text) == (span_equal(form, text) ? CANONICAL_YES : CANONICAL_NO));
    writer_fini(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_of(data, size);
    struct arena arena;
    struct writer first;

    arena_init(&arena, ARENA_CAP);
    writer_init(&first, OUTPUT_MAX);
    enum json_error error = encode(&first, &arena, text);
    if (error == JSON_OK) {
        check_form(&arena, &first, text);
    }
    CHECK(error != JSON_MALFORMED || canonical_check(text) != CANONICAL_YES);
    CHECK(error != JSON_TOO_DEEP || canonical_check(text) != CANONICAL_YES);
    writer_fini(&first);
    arena_fini(&arena);
    return 0;
}
