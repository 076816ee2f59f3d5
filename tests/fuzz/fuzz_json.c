/* Any bytes: either an error, or a document that can be walked whole within its limits. */
#include "proto/check.h"
#include "proto/json.h"
#include "proto/writer.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_CAP = 1 << 20 /* bytes */ };

static void visit(struct span name, const struct json_value *value, struct writer *w)
{
    writer_json_string(w, json_is_string(value) ? json_string(value) : name);
    CHECK(json_type(value) != JSON_NUMBER || json_number_token(value).size > 0);
}

static size_t one_deeper(size_t depth)
{
    CHECK(depth < JSON_MAX_DEPTH);
    return depth + 1;
}

/* Visits every value without recursion; returns how many there are. */
static size_t walk(const struct json_value *root, struct writer *w)
{
    struct json_iter stack[JSON_MAX_DEPTH + 1];
    size_t depth = 0;
    size_t n_values = 1;
    struct span name;
    const struct json_value *value;

    stack[depth++] = json_iterate(root);
    while (depth > 0) {
        if (!json_next(&stack[depth - 1], &name, &value)) {
            depth--;
            continue;
        }
        n_values += stack[depth - 1].is_object ? 2 : 1;
        visit(name, value, w);
        if (json_size(value) > 0) {
            stack[depth] = json_iterate(value);
            depth = one_deeper(depth);
        }
    }
    return n_values;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct writer w;
    const struct json_value *root = NULL;

    arena_init(&arena, ARENA_CAP);
    writer_init(&w, ARENA_CAP);
    if (json_parse(&root, &arena, span_of(data, size)) == JSON_OK) {
        CHECK(walk(root, &w) <= JSON_MAX_VALUES);
        CHECK(arena.used <= ARENA_CAP);
        (void)json_has_duplicate(root);
    }
    writer_fini(&w);
    arena_fini(&arena);
    return 0;
}
