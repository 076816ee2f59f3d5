/* Reads one JSON document per line and prints its canonical form, or "!" where it has none; for
 * comparing with other implementations. Aborts where canonical_check disagrees with that form. */
#include "proto/canonical.h"
#include "proto/check.h"

#include <stdio.h>
#include <stdlib.h>

enum { ARENA_CAP = 64 << 20, OUTPUT_MAX = 16 << 20 };

int main(void)
{
    char *line = NULL;
    size_t capacity = 0;
    struct arena arena;
    struct writer w;

    arena_init(&arena, ARENA_CAP);
    writer_init(&w, OUTPUT_MAX);
    for (ssize_t size = 0; (size = getline(&line, &capacity, stdin)) > 0;) {
        const struct json_value *root = NULL;
        struct span text = span_of(line, (size_t)size - 1);
        arena_reset(&arena);
        writer_reset(&w);
        if (json_parse(&root, &arena, text) != JSON_OK || !canonical_encode(&w, &arena, root)) {
            writer_reset(&w);
            writer_char(&w, '!');
        }
        bool is_canonical = span_equal(writer_span(&w), text);
        CHECK((canonical_check(text) == CANONICAL_YES) == is_canonical);
        writer_char(&w, '\n');
        fwrite(w.data, 1, w.size, stdout);
    }
    free(line);
    writer_fini(&w);
    arena_fini(&arena);
    return 0;
}
