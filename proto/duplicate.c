#include "proto/duplicate.h"

#include "proto/check.h"

/* Whatever the order of the names. */
static enum duplicate search(struct duplicate_scratch *scratch, const struct json_value *object)
{
    struct json_iter iter = json_iterate(object);
    struct span name;
    const struct json_value *value;

    if (!span_index_reset(&scratch->names, scratch->arena, json_size(object))) {
        return DUPLICATE_NO_ROOM;
    }
    for (uint32_t n = 0; json_next(&iter, &name, &value); n++) {
        if (span_index_put(&scratch->names, name) != n) {
            return DUPLICATE_FOUND;
        }
    }
    return DUPLICATE_NONE;
}

enum duplicate duplicate_among(struct duplicate_scratch *scratch, const struct json_value *object)
{
    return json_is_sorted(object) ? DUPLICATE_NONE : search(scratch, object);
}

static size_t push(struct json_iter *levels, size_t depth, const struct json_value *container)
{
    CHECK(depth < JSON_MAX_DEPTH); /* json_parse lets nothing deeper through */
    levels[depth] = json_iterate(container);
    return depth + 1;
}

enum duplicate duplicate_inside(struct duplicate_scratch *scratch, const struct json_value *value)
{
    struct json_iter levels[JSON_MAX_DEPTH];
    enum duplicate found = duplicate_among(scratch, value);
    size_t depth = 0;

    if (json_is_sorted_throughout(value)) {
        return DUPLICATE_NONE;
    }
    levels[depth++] = json_iterate(value);
    while (depth > 0 && found == DUPLICATE_NONE) {
        if (!json_next(&levels[depth - 1], NULL, &value)) {
            depth--;
        } else if (json_size(value) > 0) {
            depth = push(levels, depth, value);
            found = duplicate_among(scratch, value);
        }
    }
    return found;
}
