#include "proto/json.h"

#include "proto/check.h"

#include <stdlib.h>

#include <yyjson.h>

enum { INTEGER_DIGITS_MAX = 16 /* of 2^53 - 1 */ };
/* Source: Matrix specification, appendices, "Canonical JSON". */
static const int64_t integer_max = (INT64_C(1) << 53) - 1;

static yyjson_val *val_of(const struct json_value *value)
{
    /* The library's readers take pointers to non-const and never write through them. */
    union {
        const struct json_value *from;
        yyjson_val *to;
    } cast = {.from = value};
    return cast.to;
}

static const struct json_value *value_of(yyjson_val *val)
{
    return (const struct json_value *)val;
}

static void *alc_malloc(void *ctx, size_t size)
{
    return arena_alloc(ctx, size);
}

static void *alc_realloc(void *ctx, void *old, size_t old_size, size_t size)
{
    return arena_realloc(ctx, old, old_size, size);
}

static void alc_free(void *ctx, void *ptr)
{
    (void)ctx;
    (void)ptr;
}

/* Values of a document stand in one array in the order of the text, so limits are checked by one
 * pass over it: each container says where the next value after it stands. */
static enum json_error check_limits(yyjson_doc *doc)
{
    yyjson_val *const root = yyjson_doc_get_root(doc);
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
        if (!yyjson_is_ctn(val)) {
            continue;
        }
        if (depth == JSON_MAX_DEPTH) {
            return JSON_TOO_DEEP;
        }
        ends[depth++] = unsafe_yyjson_get_next(val);
    }
    return JSON_OK;
}

enum json_error json_parse(const struct json_value **out, struct arena *arena, struct span text)
{
    const yyjson_alc alc = {alc_malloc, alc_realloc, alc_free, arena};
    yyjson_read_err error;
    union {
        const char *from;
        char *to; /* written to only with YYJSON_READ_INSITU */
    } data = {.from = text.data == NULL ? "" : text.data};

    *out = NULL;
    yyjson_doc *doc = yyjson_read_opts(data.to, text.size, YYJSON_READ_NUMBER_AS_RAW, &alc, &error);
    if (doc == NULL) {
        return error.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION ? JSON_NO_ROOM : JSON_MALFORMED;
    }
    *out = value_of(yyjson_doc_get_root(doc));
    return check_limits(doc);
}

enum json_type json_type(const struct json_value *value)
{
    switch (yyjson_get_type(val_of(value))) {
    case YYJSON_TYPE_NULL:
        return JSON_NULL;
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
        CHECK(value == NULL); /* a parsed value always has one of the types above */
        return JSON_NULL;
    }
}

bool json_is_object(const struct json_value *value)
{
    return yyjson_is_obj(val_of(value));
}

bool json_is_array(const struct json_value *value)
{
    return yyjson_is_arr(val_of(value));
}

bool json_is_string(const struct json_value *value)
{
    return yyjson_is_str(val_of(value));
}

bool json_bool(const struct json_value *value)
{
    return yyjson_get_bool(val_of(value));
}

struct span json_string(const struct json_value *value)
{
    yyjson_val *val = val_of(value);

    return yyjson_is_str(val) ? span_of(yyjson_get_str(val), yyjson_get_len(val))
                              : (struct span){0};
}

struct span json_number_token(const struct json_value *value)
{
    yyjson_val *val = val_of(value);

    return yyjson_is_raw(val) ? span_of(yyjson_get_raw(val), yyjson_get_len(val))
                              : (struct span){0};
}

bool json_integer(int64_t *out, const struct json_value *value)
{
    struct span token = json_number_token(value);
    bool is_negative = token.size > 0 && token.data[0] == '-';
    struct span digits = span_skip(token, is_negative ? 1 : 0);
    int64_t magnitude = 0;

    if (digits.size == 0 || digits.size > INTEGER_DIGITS_MAX) {
        return false;
    }
    for (size_t i = 0; i < digits.size; i++) {
        if (digits.data[i] < '0' || digits.data[i] > '9') {
            return false;
        }
        magnitude = magnitude * 10 + (digits.data[i] - '0');
    }
    if (magnitude > integer_max || (is_negative && magnitude == 0)) {
        return false;
    }
    *out = is_negative ? -magnitude : magnitude;
    return true;
}

size_t json_size(const struct json_value *value)
{
    return yyjson_is_ctn(val_of(value)) ? yyjson_get_len(val_of(value)) : 0;
}

const struct json_value *json_get(const struct json_value *object, struct span name)
{
    return value_of(yyjson_obj_getn(val_of(object), name.data, name.size));
}

struct span json_get_string(const struct json_value *object, struct span name)
{
    return json_string(json_get(object, name));
}

static int compare_names(const void *a, const void *b)
{
    return span_compare(*(const struct span *)a, *(const struct span *)b);
}

static bool sorted_has_duplicate(struct span *names, size_t n)
{
    qsort(names, n, sizeof *names, compare_names);
    for (size_t i = 1; i < n; i++) {
        if (span_equal(names[i - 1], names[i])) {
            return true;
        }
    }
    return false;
}

bool json_has_duplicate(const struct json_value *object)
{
    size_t n = json_is_object(object) ? json_size(object) : 0;
    struct json_iter iter = json_iterate(object);
    const struct json_value *value;
    struct span few[16];

    if (n < 2) {
        return false;
    }
    /* n <= JSON_MAX_VALUES, so this is our own small allocation. */
    struct span *names = n <= sizeof few / sizeof few[0] ? few : calloc(n, sizeof *names);
    CHECK(names != NULL);
    for (size_t i = 0; i < n && json_next(&iter, &names[i], &value); i++) {
    }
    bool found = sorted_has_duplicate(names, n);
    if (names != few) {
        free(names);
    }
    return found;
}

struct json_iter json_iterate(const struct json_value *container)
{
    yyjson_val *val = val_of(container);

    if (!yyjson_is_ctn(val)) {
        return (struct json_iter){0};
    }
    return (struct json_iter){value_of(val + 1), yyjson_get_len(val), yyjson_is_obj(val)};
}

bool json_next(struct json_iter *iter, struct span *name, const struct json_value **value)
{
    if (iter->left == 0) {
        return false;
    }
    yyjson_val *val = val_of(iter->at);
    if (name != NULL) {
        *name = iter->is_object ? json_string(iter->at) : (struct span){0};
    }
    val = iter->is_object ? val + 1 : val;
    *value = value_of(val);
    iter->at = value_of(unsafe_yyjson_get_next(val));
    iter->left--;
    return true;
}
