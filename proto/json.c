#include "proto/json.h"

#include "proto/check.h"
#include "proto/json_text.h"

#include <endian.h>
#include <stdlib.h>

enum { INTEGER_DIGITS_MAX = 16 /* of 2^53 - 1 */ };
/* Source: Matrix specification, appendices, "Canonical JSON". */
static const int64_t integer_max = (INT64_C(1) << 53) - 1;

/* The values of a document, and the names of members, stand in one array in the order of the
 * text: a container, then all that is inside it. */
struct json_value {
    uint8_t type;  /* enum json_type */
    uint8_t flags; /* UNSORTED and so on */
    uint32_t size; /* bytes of a string or number, members or elements, 1 for true */
    union {
        const char *text; /* of a string or number */
        size_t extent;    /* of a container: values from itself to its end */
    };
};

enum {
    UNSORTED = 1,        /* the names do not ascend strictly */
    UNSORTED_INSIDE = 2, /* those of an object inside do not */
    ODD_SPELLING = 4,    /* of a document: with white space, or an escape that need not be */
};

/* A container that is open. */
struct level {
    uint32_t at;        /* where its value is */
    uint32_t last_name; /* where that is */
    uint64_t last_prefix;
};

enum step {
    STEP_VALUE,  /* a value is to come */
    STEP_OPENED, /* a container has begun */
    STEP_DONE,   /* a value is over */
    STEP_BAD,
};

struct reader {
    const char *at;
    const char *end;
    struct arena *arena;
    struct json_value *values;
    size_t room; /* values */
    size_t n_values;
    size_t depth; /* containers that are open */
    size_t deepest;
    struct level *levels; /* of each; those over JSON_MAX_DEPTH share the last place */
    struct level *top;    /* the innermost's */
    uint8_t *kinds;       /* a bit for each: whether it is an object */
    size_t kinds_size;
    bool is_object; /* the innermost */
    bool has_no_room;
    bool has_odd_spelling;
};

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline struct span rest_of(const struct reader *r)
{
    return span_of(r->at, (size_t)(r->end - r->at));
}

APART static char skip_space(struct reader *r)
{
    const char *from = r->at;

    while (r->at < r->end &&
           (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t')) {
        r->at++;
    }
    r->has_odd_spelling = r->has_odd_spelling || r->at > from;
    if (r->at == r->end) {
        return '\0';
    }
    return *r->at;
}

/* The next that is no white space; NUL, which begins nothing, at the end. */
static inline char next_char(struct reader *r)
{
    if (r->at < r->end && *r->at > ' ') {
        return *r->at;
    }
    return skip_space(r);
}

/* Values over JSON_MAX_VALUES, which are not for reading, share the last place. */
APART static bool make_room(struct reader *r)
{
    size_t room = least(2 * r->room, JSON_MAX_VALUES + 1);
    struct json_value *values;

    if (r->room > JSON_MAX_VALUES) {
        r->n_values = JSON_MAX_VALUES;
        return true;
    }
    values = arena_realloc(r->arena, r->values, r->room * sizeof *values, room * sizeof *values);
    if (values == NULL) {
        r->has_no_room = true;
        return false;
    }
    r->values = values;
    r->room = room;
    return true;
}

/* False if there is no room. */
static inline bool add_value(struct reader *r, struct json_value value)
{
    if (r->n_values == r->room && !make_room(r)) {
        return false;
    }
    r->values[r->n_values++] = value;
    return true;
}

static inline bool add_text(struct reader *r, enum json_type type, struct span text)
{
    return add_value(r, (struct json_value){
                            .type = (uint8_t)type, .size = (uint32_t)text.size, .text = text.data});
}

APART static bool grow_kinds(struct reader *r)
{
    uint8_t *kinds = arena_calloc(r->arena, 2, r->kinds_size);

    if (kinds == NULL) {
        r->has_no_room = true;
        return false;
    }
    memcpy(kinds, r->kinds, r->kinds_size);
    r->kinds = kinds;
    r->kinds_size *= 2;
    return true;
}

/* The level of the innermost container is at the top. */
static inline void set_top(struct reader *r)
{
    r->top = &r->levels[least(r->depth - 1, JSON_MAX_DEPTH)];
}

static inline enum step open_container(struct reader *r, enum json_type type)
{
    uint8_t bit = (uint8_t)(1U << r->depth % 8);

    if ((r->depth == 8 * r->kinds_size && !grow_kinds(r)) ||
        !add_value(r, (struct json_value){.type = (uint8_t)type})) {
        return STEP_BAD;
    }
    r->is_object = type == JSON_OBJECT;
    r->kinds[r->depth / 8] &= (uint8_t)~bit;
    r->kinds[r->depth / 8] |= r->is_object ? bit : 0;
    r->depth++;
    set_top(r);
    r->top->at = (uint32_t)(r->n_values - 1);
    r->deepest = r->depth > r->deepest ? r->depth : r->deepest;
    r->at++;
    return STEP_OPENED;
}

static enum step close_container(struct reader *r)
{
    struct json_value *container = &r->values[r->top->at];
    uint8_t flags = container->flags;

    container->extent = r->n_values - (size_t)(container - r->values);
    r->depth--;
    if (r->depth > 0) {
        set_top(r);
        r->values[r->top->at].flags |= flags == 0 ? 0 : UNSORTED_INSIDE;
        r->is_object = (r->kinds[(r->depth - 1) / 8] >> (r->depth - 1) % 8 & 1) != 0;
    }
    r->at++;
    return STEP_DONE;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Of the text "\uXXXX"; -1 if it does not begin so. */
static int32_t code_unit(struct span text)
{
    int32_t unit = 0;

    if (text.size < 6 || text.data[0] != '\\' || text.data[1] != 'u') {
        return -1;
    }
    for (size_t i = 2; i < 6; i++) {
        int digit = hex_digit(text.data[i]);
        if (digit < 0) {
            return -1;
        }
        unit = unit * 16 + digit;
    }
    return unit;
}

/* Bytes of the "\u" or pair of them that the text begins with; 0 if it begins with none. */
static size_t unicode_escape_length(int32_t *code_point, struct span text)
{
    int32_t first = code_unit(text);
    int32_t second = -1;

    *code_point = first;
    if (first < 0xd800 || first > 0xdfff) {
        return first < 0 ? 0 : 6;
    }
    if (first <= 0xdbff) {
        second = code_unit(span_skip(text, 6));
    }
    if (second < 0xdc00 || second > 0xdfff) {
        return 0;
    }
    *code_point = 0x10000 + (first - 0xd800) * 0x400 + (second - 0xdc00);
    return 12;
}

/* What a backslash before the letter means; 0 if it is no such letter. */
static char escaped_char(char letter)
{
    switch (letter) {
    case '"':
    case '\\':
    case '/':
        return letter;
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return 0;
    }
}

/* Bytes of the escape that the text, a backslash, begins with; 0 if it is none. */
static size_t escape_length(int32_t *code_point, struct span text)
{
    *code_point = text.size < 2 ? 0 : escaped_char(text.data[1]);
    return *code_point != 0 ? 2 : unicode_escape_length(code_point, text);
}

/* Writes at most 4 bytes, and never more than the escape had; returns how many. */
static size_t encode_utf8(char *out, int32_t code_point)
{
    size_t n = code_point < 0x80 ? 1 : code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    const uint8_t firsts[] = {0, 0, 0xc0, 0xe0, 0xf0};

    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code_point & 0x3f));
        code_point >>= 6;
    }
    out[0] = (char)(firsts[n] | code_point);
    return n;
}

/* What a string means that was found valid. The data is NULL if there is no room. */
static struct span unescape(struct arena *arena, struct span text)
{
    char *out = arena_alloc(arena, text.size);
    size_t n = 0;
    size_t length;
    int32_t code_point;

    for (size_t i = 0; out != NULL && i < text.size; i += length) {
        length = 1;
        if (text.data[i] == '\\') {
            length = escape_length(&code_point, span_skip(text, i));
            n += encode_utf8(out + n, code_point);
        } else {
            out[n++] = text.data[i];
        }
    }
    return span_of(out, n);
}

/* Whether neither an escape nor a multi-byte character begins there. */
static bool is_ascii_at(struct span text, size_t n)
{
    return n < text.size && text.data[n] != '\\' && (uint8_t)text.data[n] < 0x80;
}

/* Bytes of the escape or multi-byte character that the text begins with; 0 if it is malformed. */
static size_t odd_char_length(struct reader *r, bool *is_escape, struct span text)
{
    int32_t code_point;
    size_t length;

    *is_escape = text.data[0] == '\\';
    if (!*is_escape) {
        return json_multibyte_length(text);
    }
    r->has_odd_spelling = r->has_odd_spelling || json_canonical_escape(&length, text) < 0;
    return escape_length(&code_point, text);
}

/* Bytes before the quote that ends the string, which is plain up to `n`; SIZE_MAX if it is
 * malformed. */
static size_t string_length(struct reader *r, bool *has_escapes, struct span text, size_t n)
{
    bool is_escape;

    *has_escapes = false;
    while (n < text.size && text.data[n] != '"') {
        size_t length = odd_char_length(r, &is_escape, span_skip(text, n));
        if (length == 0) {
            return SIZE_MAX;
        }
        *has_escapes |= is_escape;
        n += length;
        n += is_ascii_at(text, n) ? json_plain_length(span_skip(text, n)) : 0;
    }
    return n < text.size ? n : SIZE_MAX;
}

/* One that is plain up to `n` only. */
APART static bool read_odd_string(struct reader *r, struct span text, size_t n)
{
    bool has_escapes;
    size_t length = string_length(r, &has_escapes, text, n);

    if (length == SIZE_MAX) {
        return false;
    }
    r->at = text.data + length + 1;
    text.size = length;
    if (has_escapes && r->n_values <= JSON_MAX_VALUES) {
        text = unescape(r->arena, text);
        r->has_no_room = text.data == NULL;
    }
    return !r->has_no_room && add_text(r, JSON_STRING, text);
}

static inline bool read_string(struct reader *r)
{
    struct span text = span_of(r->at + 1, (size_t)(r->end - r->at) - 1);
    size_t n = json_plain_length(text);

    if (n == text.size || text.data[n] != '"') {
        return read_odd_string(r, text, n);
    }
    r->at = text.data + n + 1;
    return add_text(r, JSON_STRING, span_of(text.data, n));
}

static enum step read_number(struct reader *r)
{
    struct span token = rest_of(r);

    token.size = json_number_length(token);
    r->at += token.size;
    return token.size > 0 && add_text(r, JSON_NUMBER, token) ? STEP_DONE : STEP_BAD;
}

static enum step read_literal(struct reader *r, struct span literal, struct json_value value)
{
    if (!span_starts_with(rest_of(r), literal) || !add_value(r, value)) {
        return STEP_BAD;
    }
    r->at += literal.size;
    return STEP_DONE;
}

static enum step read_value(struct reader *r)
{
    switch (next_char(r)) {
    case '{':
        return open_container(r, JSON_OBJECT);
    case '[':
        return open_container(r, JSON_ARRAY);
    case '"':
        return read_string(r) ? STEP_DONE : STEP_BAD;
    case 't':
        return read_literal(r, SPAN_LIT("true"), (struct json_value){JSON_BOOL, 0, 1, {NULL}});
    case 'f':
        return read_literal(r, SPAN_LIT("false"), (struct json_value){JSON_BOOL, 0, 0, {NULL}});
    case 'n':
        return read_literal(r, SPAN_LIT("null"), (struct json_value){JSON_NULL, 0, 0, {NULL}});
    default:
        return read_number(r);
    }
}

static uint64_t be32_at(const char *at)
{
    uint32_t word;

    memcpy(&word, at, sizeof word);
    return be32toh(word);
}

/* The first eight bytes, zeros after the end: where two differ the names are in the same order. */
static inline uint64_t prefix_of(const char *text, size_t size)
{
    uint64_t prefix = 0;

    if (size >= 8) {
        return be32_at(text) << 32 | be32_at(text + 4);
    }
    if (size >= 4) {
        return be32_at(text) << 32 | be32_at(text + size - 4) << (64 - 8 * size);
    }
    for (size_t i = 0; i < size; i++) {
        prefix |= (uint64_t)(uint8_t)text[i] << (56 - 8 * i);
    }
    return prefix;
}

static bool is_after(const struct json_value *name, const struct json_value *last)
{
    return span_compare(span_of(last->text, last->size), span_of(name->text, name->size)) < 0;
}

/* Marks the object if the name just read does not come after the one before it. */
static inline void note_order(struct reader *r)
{
    struct level *level = r->top;
    struct json_value *container = &r->values[level->at];
    const struct json_value *name = &r->values[r->n_values - 1];
    uint64_t prefix = prefix_of(name->text, name->size);
    bool ascends = container->size == 1 || prefix > level->last_prefix ||
                   (prefix == level->last_prefix && is_after(name, &r->values[level->last_name]));

    container->flags |= ascends ? 0 : UNSORTED;
    level->last_prefix = prefix;
    level->last_name = (uint32_t)(r->n_values - 1);
}

/* Of an object: the name and the colon. */
static inline enum step begin_member(struct reader *r)
{
    r->values[r->top->at].size++;
    if (r->is_object) {
        if (next_char(r) != '"' || !read_string(r) || next_char(r) != ':') {
            return STEP_BAD;
        }
        note_order(r);
        r->at++;
    }
    return STEP_VALUE;
}

static enum step first_member(struct reader *r)
{
    return next_char(r) == (r->is_object ? '}' : ']') ? close_container(r) : begin_member(r);
}

static enum step next_member(struct reader *r)
{
    char c = next_char(r);

    if (c == ',') {
        r->at++;
        return begin_member(r);
    }
    return c == (r->is_object ? '}' : ']') ? close_container(r) : STEP_BAD;
}

/* True if the text is one value. */
static bool read_document(struct reader *r)
{
    enum step step = STEP_VALUE;

    while (step != STEP_BAD) {
        if (step == STEP_VALUE) {
            step = read_value(r);
        } else if (step == STEP_OPENED) {
            step = first_member(r);
        } else if (r->depth > 0) {
            step = next_member(r);
        } else {
            (void)next_char(r);
            return r->at == r->end;
        }
    }
    return false;
}

enum json_error json_parse(const struct json_value **out, struct arena *arena, struct span text)
{
    enum { VALUES_MIN = 8, BYTES_PER_VALUE = 32 /* a guess */ };
    struct level levels[JSON_MAX_DEPTH + 1];
    uint8_t kinds[JSON_MAX_DEPTH / 8] = {0};
    struct reader r = {
        .at = text.data,
        .end = text.size == 0 ? text.data : text.data + text.size,
        .arena = arena,
        .room = least(VALUES_MIN + text.size / BYTES_PER_VALUE, JSON_MAX_VALUES + 1),
        .levels = levels,
        .kinds = kinds,
        .kinds_size = sizeof kinds,
    };

    *out = NULL;
    r.values = arena_alloc(arena, r.room * sizeof *r.values);
    if (r.values == NULL || text.size > UINT32_MAX) {
        return JSON_NO_ROOM;
    }
    if (!read_document(&r)) {
        return r.has_no_room ? JSON_NO_ROOM : JSON_MALFORMED;
    }
    if (r.n_values > JSON_MAX_VALUES || r.deepest > JSON_MAX_DEPTH) {
        return r.n_values > JSON_MAX_VALUES ? JSON_TOO_MANY : JSON_TOO_DEEP;
    }
    r.values[0].flags |= r.has_odd_spelling ? ODD_SPELLING : 0;
    *out = r.values;
    return JSON_OK;
}

static bool is_a(const struct json_value *value, enum json_type type)
{
    return value != NULL && value->type == type;
}

enum json_type json_type(const struct json_value *value)
{
    return value == NULL ? JSON_NULL : (enum json_type)value->type;
}

bool json_is_object(const struct json_value *value)
{
    return is_a(value, JSON_OBJECT);
}

bool json_is_array(const struct json_value *value)
{
    return is_a(value, JSON_ARRAY);
}

bool json_is_string(const struct json_value *value)
{
    return is_a(value, JSON_STRING);
}

bool json_bool(const struct json_value *value)
{
    return is_a(value, JSON_BOOL) && value->size != 0;
}

struct span json_string(const struct json_value *value)
{
    return is_a(value, JSON_STRING) ? span_of(value->text, value->size) : (struct span){0};
}

struct span json_number_token(const struct json_value *value)
{
    return is_a(value, JSON_NUMBER) ? span_of(value->text, value->size) : (struct span){0};
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

static bool is_container(const struct json_value *value)
{
    return value != NULL && value->type >= JSON_ARRAY;
}

static size_t extent_of(const struct json_value *value)
{
    return is_container(value) ? value->extent : 1;
}

size_t json_size(const struct json_value *value)
{
    return is_container(value) ? value->size : 0;
}

const struct json_value *json_get(const struct json_value *object, struct span name)
{
    size_t left = json_is_object(object) && name.data != NULL ? object->size : 0;
    const struct json_value *at = left == 0 ? NULL : object + 1;

    for (; left > 0; left--) {
        if (at->size == name.size && memcmp(at->text, name.data, name.size) == 0) {
            return at + 1;
        }
        at += 1 + extent_of(at + 1);
    }
    return NULL;
}

struct span json_get_string(const struct json_value *object, struct span name)
{
    return json_string(json_get(object, name));
}

static bool has_flags(const struct json_value *value, unsigned flags)
{
    return is_container(value) && (value->flags & flags) != 0;
}

bool json_is_sorted(const struct json_value *value)
{
    return !has_flags(value, UNSORTED);
}

bool json_is_sorted_throughout(const struct json_value *value)
{
    return !has_flags(value, UNSORTED | UNSORTED_INSIDE);
}

bool json_is_canonical(const struct json_value *root)
{
    return (root->flags & (UNSORTED | UNSORTED_INSIDE | ODD_SPELLING)) == 0;
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

    if (n < 2 || json_is_sorted(object)) {
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
    if (!is_container(container)) {
        return (struct json_iter){0};
    }
    return (struct json_iter){container + 1, container->size, json_is_object(container)};
}

bool json_next(struct json_iter *iter, struct span *name, const struct json_value **value)
{
    if (iter->left == 0) {
        return false;
    }
    if (name != NULL) {
        *name = iter->is_object ? json_string(iter->at) : (struct span){0};
    }
    *value = iter->at + (iter->is_object ? 1 : 0);
    iter->at = *value + extent_of(*value);
    iter->left--;
    return true;
}
