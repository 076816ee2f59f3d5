#include "proto/canonical.h"

#include "proto/check.h"

#include <stdlib.h>

struct member {
    struct span name;
    const struct json_value *value;
};

/* A container that is being written: its members, sorted if it is an object, and how far it got. */
struct level {
    struct member *members;
    size_t n;
    size_t next;
    bool is_object;
};

static int compare_members(const void *a, const void *b)
{
    const struct member *left = a;
    const struct member *right = b;
    int order = span_compare(left->name, right->name);

    /* Members stand in the document's order in memory, and so do their values. */
    return order != 0 ? order : (left->value > right->value) - (left->value < right->value);
}

/* Of several members of one name keeps the last. */
static size_t drop_repeated(struct member *members, size_t n)
{
    size_t n_kept = 0;

    for (size_t i = 0; i < n; i++) {
        if (i + 1 == n || !span_equal(members[i].name, members[i + 1].name)) {
            members[n_kept++] = members[i];
        }
    }
    return n_kept;
}

static bool open_level(struct level *out, struct arena *arena, const struct json_value *container)
{
    struct json_iter iter = json_iterate(container);
    size_t n = json_size(container);

    *out = (struct level){.is_object = json_is_object(container), .n = n};
    out->members = arena_calloc(arena, n, sizeof *out->members);
    if (out->members == NULL) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        CHECK(json_next(&iter, &out->members[i].name, &out->members[i].value));
    }
    if (out->is_object && n > 1) {
        qsort(out->members, n, sizeof *out->members, compare_members);
        out->n = drop_repeated(out->members, n);
    }
    return true;
}

static void write_scalar(struct writer *out, const struct json_value *value)
{
    switch (json_type(value)) {
    case JSON_NULL:
        writer_bytes(out, SPAN_LIT("null"));
        break;
    case JSON_BOOL:
        writer_bytes(out, json_bool(value) ? SPAN_LIT("true") : SPAN_LIT("false"));
        break;
    case JSON_NUMBER:
        writer_bytes(out, json_number_token(value));
        break;
    case JSON_STRING:
        writer_json_string(out, json_string(value));
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        CHECK(false); /* containers are levels */
    }
}

static bool is_container(const struct json_value *value)
{
    return json_is_array(value) || json_is_object(value);
}

/* The next value of the level, its comma and name written; NULL at the end, its bracket written. */
static const struct json_value *next_value(struct level *level, struct writer *out)
{
    if (level->next == level->n) {
        writer_char(out, level->is_object ? '}' : ']');
        return NULL;
    }
    const struct member *member = &level->members[level->next++];
    if (level->next > 1) {
        writer_char(out, ',');
    }
    if (level->is_object) {
        writer_json_string(out, member->name);
        writer_char(out, ':');
    }
    return member->value;
}

bool canonical_encode(struct writer *out, struct arena *arena, const struct json_value *value)
{
    struct level levels[JSON_MAX_DEPTH] = {0};
    size_t depth = 0;

    while (true) {
        if (value == NULL) {
            depth--;
        } else if (!is_container(value)) {
            write_scalar(out, value);
        } else if (depth == JSON_MAX_DEPTH || !open_level(&levels[depth], arena, value)) {
            return false;
        } else {
            writer_char(out, levels[depth++].is_object ? '{' : '[');
        }
        if (depth == 0) {
            return !out->failed;
        }
        value = next_value(&levels[depth - 1], out);
    }
}

static bool is_odd_number(const struct json_value *value)
{
    struct span token = json_number_token(value);

    for (size_t i = 0; i < token.size; i++) {
        if (token.data[i] != '-' && (token.data[i] < '0' || token.data[i] > '9')) {
            return true;
        }
    }
    return span_equal(token, SPAN_LIT("-0"));
}

static size_t push(struct json_iter *levels, size_t depth, const struct json_value *container)
{
    CHECK(depth < JSON_MAX_DEPTH); /* json_parse lets nothing deeper through */
    levels[depth] = json_iterate(container);
    return depth + 1;
}

bool canonical_has_odd_number(const struct json_value *value)
{
    struct json_iter levels[JSON_MAX_DEPTH];
    size_t depth = 0;

    if (!is_container(value)) {
        return is_odd_number(value);
    }
    levels[depth++] = json_iterate(value);
    while (depth > 0) {
        if (!json_next(&levels[depth - 1], NULL, &value)) {
            depth--;
        } else if (is_odd_number(value)) {
            return true;
        } else if (json_size(value) > 0) {
            depth = push(levels, depth, value);
        }
    }
    return false;
}
