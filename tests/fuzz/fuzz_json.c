/* Any bytes: either an error, or a document that can be walked whole within its limits; and the
 * same as yyjson says. */
#include "proto/canonical.h"
#include "proto/check.h"
#include "proto/json.h"
#include "proto/writer.h"

#include <stdint.h>
#include <stdlib.h>

#include <yyjson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    ARENA_CAP = 1 << 20,         /* bytes */
    ORACLE_ARENA_CAP = 64 << 20, /* bytes; enough for whatever it is given */
    NEARLY_DEEP = JSON_MAX_DEPTH - 2,
    NEARLY_MANY = JSON_MAX_VALUES - 10,
    MANY_SELDOM = 256, /* one input in so many: it is slow */
};

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

struct container {
    const struct json_value *value;
    struct json_iter iter;
    struct span last_name;
    bool has_last_name, is_unsorted, is_unsorted_inside;
};

static struct container container_of(const struct json_value *value)
{
    return (struct container){.value = value, .iter = json_iterate(value)};
}

static void note_name(struct container *container, struct span name)
{
    container->is_unsorted =
        container->is_unsorted || (container->has_last_name && container->iter.is_object &&
                                   span_compare(container->last_name, name) >= 0);
    container->last_name = name;
    container->has_last_name = true;
}

/* Whether the names ascend, looked at one by one, is what was noted while reading. */
static void check_order(const struct json_value *root)
{
    struct container stack[JSON_MAX_DEPTH + 1];
    size_t depth = 0;
    struct span name;
    const struct json_value *value;

    stack[depth++] = container_of(root);
    while (depth > 0) {
        struct container *top = &stack[depth - 1];
        if (json_next(&top->iter, &name, &value)) {
            note_name(top, name);
            stack[depth] = container_of(value);
            depth += json_size(value) > 0 ? 1 : 0;
            continue;
        }
        bool is_odd = top->is_unsorted || top->is_unsorted_inside;
        CHECK(json_is_sorted(top->value) == !top->is_unsorted);
        CHECK(json_is_sorted_throughout(top->value) == !is_odd);
        depth--;
        if (depth > 0) {
            stack[depth - 1].is_unsorted_inside = stack[depth - 1].is_unsorted_inside || is_odd;
        }
    }
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

/* What a document that yyjson has read is to json_parse. In its array a container is before what
 * is inside it, and says where the next value after it is. */
static enum json_error limits_of(yyjson_doc *doc)
{
    yyjson_val *root = yyjson_doc_get_root(doc);
    size_t n_values = yyjson_doc_get_val_count(doc);
    yyjson_val *ends[JSON_MAX_DEPTH];
    size_t depth = 0;

    if (n_values > JSON_MAX_VALUES) {
        return JSON_TOO_MANY;
    }
    for (yyjson_val *val = root; val < root + n_values; val++) {
        while (depth > 0 && val >= ends[depth - 1]) {
            depth--;
        }
        if (yyjson_is_ctn(val) && depth == JSON_MAX_DEPTH) {
            return JSON_TOO_DEEP;
        }
        if (yyjson_is_ctn(val)) {
            ends[depth++] = unsafe_yyjson_get_next(val);
        }
    }
    return JSON_OK;
}

static void check_text(struct span text, yyjson_val *val)
{
    struct span expected = span_of(unsafe_yyjson_get_str(val), unsafe_yyjson_get_len(val));

    CHECK(text.data != NULL && span_equal(text, expected));
}

static enum json_type type_of(yyjson_val *val)
{
    switch (yyjson_get_type(val)) {
    case YYJSON_TYPE_BOOL:
        return JSON_BOOL;
    case YYJSON_TYPE_RAW:
        return JSON_NUMBER;
    case YYJSON_TYPE_STR:
        return JSON_STRING;
    case YYJSON_TYPE_ARR:
        return JSON_ARRAY;
    case YYJSON_TYPE_OBJ:
        return JSON_OBJECT;
    default:
        CHECK(yyjson_is_null(val));
        return JSON_NULL;
    }
}

static void check_same(const struct json_value *value, yyjson_val *val)
{
    enum json_type type = json_type(value);

    CHECK(type == type_of(val));
    if (type == JSON_STRING || type == JSON_NUMBER) {
        check_text(type == JSON_STRING ? json_string(value) : json_number_token(value), val);
    }
    CHECK(json_bool(value) == yyjson_get_bool(val));
    CHECK(json_size(value) == (yyjson_is_ctn(val) ? unsafe_yyjson_get_len(val) : 0));
}

/* Value by value, in the order of the text. */
static void check_same_tree(const struct json_value *root, yyjson_doc *doc)
{
    struct json_iter stack[JSON_MAX_DEPTH + 1];
    yyjson_val *val = yyjson_doc_get_root(doc);
    const yyjson_val *end = val + yyjson_doc_get_val_count(doc);
    size_t depth = 0;
    struct span name;
    const struct json_value *value = root;

    check_same(root, val++);
    stack[depth++] = json_iterate(root);
    while (depth > 0) {
        if (!json_next(&stack[depth - 1], &name, &value)) {
            depth--;
            continue;
        }
        if (stack[depth - 1].is_object) {
            check_text(name, val++);
        }
        check_same(value, val++);
        stack[depth] = json_iterate(value);
        depth += json_size(value) > 0 ? 1 : 0;
    }
    CHECK(val == end);
}

static void check_against_oracle(char *text, size_t size)
{
    struct arena arena;
    const struct json_value *root;
    yyjson_doc *doc = yyjson_read_opts(text, size, YYJSON_READ_NUMBER_AS_RAW, NULL, NULL);

    arena_init(&arena, ORACLE_ARENA_CAP);
    enum json_error error = json_parse(&root, &arena, span_of(text, size));
    CHECK(error == (doc == NULL ? JSON_MALFORMED : limits_of(doc)));
    CHECK((root != NULL) == (error == JSON_OK));
    if (error == JSON_OK) {
        check_same_tree(root, doc);
        check_order(root);
        CHECK(json_is_canonical(root) == (canonical_check(span_of(text, size)) == CANONICAL_YES));
    }
    yyjson_doc_free(doc);
    arena_fini(&arena);
}

/* What is put around an input: the first, n times before and after it, and the last. */
struct frame {
    struct span first;
    struct span before;
    struct span after;
    struct span last;
    size_t n;
};

static char *append(char *to, struct span bytes)
{
    if (bytes.size > 0) {
        memcpy(to, bytes.data, bytes.size);
    }
    return to + bytes.size;
}

/* In memory of exactly the size of the text. */
static void check_framed(struct span input, const struct frame *frame)
{
    size_t size = frame->first.size + frame->n * (frame->before.size + frame->after.size) +
                  frame->last.size + input.size;
    char *text = malloc(size);
    CHECK(size == 0 || text != NULL);
    char *at = append(text, frame->first);

    for (size_t i = 0; i < frame->n; i++) {
        at = append(at, frame->before);
    }
    at = append(at, input);
    for (size_t i = 0; i < frame->n; i++) {
        at = append(at, frame->after);
    }
    at = append(at, frame->last);
    CHECK(at == text + size);
    check_against_oracle(text, size);
    free(text);
}

static size_t sum_of(struct span input)
{
    size_t sum = 0;

    for (size_t i = 0; i < input.size; i++) {
        sum += (uint8_t)input.data[i];
    }
    return sum;
}

/* The input itself, and where a limit is near. */
static void check_everywhere(struct span input)
{
    static const struct frame few[] = {
        {.n = 0},
        {.before = SPAN_INIT("["), .after = SPAN_INIT("]"), .n = NEARLY_DEEP},
        {.before = SPAN_INIT("{\"\":["), .after = SPAN_INIT("]}"), .n = NEARLY_DEEP / 2},
    };
    static const struct frame many = {.first = SPAN_INIT("["),
                                      .before = SPAN_INIT("1,"),
                                      .last = SPAN_INIT("]"),
                                      .n = NEARLY_MANY};

    for (size_t i = 0; i < sizeof few / sizeof few[0]; i++) {
        check_framed(input, &few[i]);
    }
    if (sum_of(input) % MANY_SELDOM == 1) {
        check_framed(input, &many);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct writer w;
    const struct json_value *root = NULL;

    check_everywhere(span_of(data, size));
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
