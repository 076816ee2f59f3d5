#include "proto/canonical.h"

#include "proto/json_text.h"

#include <stdint.h>

enum step { STEP_VALUE, STEP_CLOSED, STEP_BAD };

/* A container that is open, and the last name seen in it, as it stands in the text. */
struct level {
    struct span last_name;
    bool is_object;
    bool has_members;
};

static bool take(struct span *rest, char c)
{
    if (rest->size == 0 || rest->data[0] != c) {
        return false;
    }
    *rest = span_skip(*rest, 1);
    return true;
}

static bool take_literal(struct span *rest, struct span literal)
{
    bool is_there = span_starts_with(*rest, literal);

    *rest = span_skip(*rest, is_there ? literal.size : 0);
    return is_there;
}

static bool take_number(struct span *rest)
{
    size_t n = json_number_length(*rest);

    *rest = span_skip(*rest, n);
    return n > 0;
}

/* Bytes of the escape or multi-byte character that the text begins with; 0 if it is not canonical.
 */
static size_t special_length(struct span text)
{
    size_t length = 0;

    if (text.data[0] == '\\') {
        return json_canonical_escape(&length, text) < 0 ? 0 : length;
    }
    return json_multibyte_length(text); /* 0 for a control character too */
}

/* *out is what stands between the quotes, still escaped. */
static bool take_string(struct span *out, struct span *rest)
{
    size_t n = 0;

    if (!take(rest, '"')) {
        return false;
    }
    while (true) {
        n += json_plain_length(span_skip(*rest, n));
        if (n == rest->size || rest->data[n] == '"') {
            break;
        }
        size_t special = special_length(span_skip(*rest, n));
        if (special == 0) {
            return false;
        }
        n += special;
    }
    *out = span_of(rest->data, n);
    *rest = span_skip(*rest, n);
    return take(rest, '"');
}

static bool take_scalar(struct span *rest)
{
    struct span string;

    switch (rest->size == 0 ? 0 : rest->data[0]) {
    case '"':
        return take_string(&string, rest);
    case 'n':
        return take_literal(rest, SPAN_LIT("null"));
    case 't':
        return take_literal(rest, SPAN_LIT("true"));
    case 'f':
        return take_literal(rest, SPAN_LIT("false"));
    default:
        return take_number(rest);
    }
}

static uint8_t next_byte(struct span *name)
{
    size_t length = 1;
    int byte = name->data[0] == '\\' ? json_canonical_escape(&length, *name) : name->data[0];

    *name = span_skip(*name, length);
    return (uint8_t)byte;
}

/* The order of the names meant: "\n" is before "A", though a backslash is after it. */
static bool is_before(struct span a, struct span b)
{
    while (a.size > 0 && b.size > 0) {
        uint8_t left = next_byte(&a);
        uint8_t right = next_byte(&b);
        if (left != right) {
            return left < right;
        }
    }
    return b.size > 0;
}

/* Past the comma, name and colon before the level's next value, or past its end. */
static enum step step_on(struct level *level, struct span *rest)
{
    struct span name = {0};

    if (take(rest, level->is_object ? '}' : ']')) {
        return STEP_CLOSED;
    }
    if (level->has_members && !take(rest, ',')) {
        return STEP_BAD;
    }
    if (level->is_object && (!take_string(&name, rest) || !take(rest, ':') ||
                             (level->has_members && !is_before(level->last_name, name)))) {
        return STEP_BAD;
    }
    level->last_name = name;
    level->has_members = true;
    return STEP_VALUE;
}

enum canonical canonical_check(struct span text)
{
    struct level levels[JSON_MAX_DEPTH];
    size_t depth = 0;

    do {
        bool is_object = take(&text, '{');
        bool is_container = is_object || take(&text, '[');
        if (is_container && depth == JSON_MAX_DEPTH) {
            return CANONICAL_TOO_DEEP;
        }
        if (is_container) {
            levels[depth++] = (struct level){.is_object = is_object};
        } else if (!take_scalar(&text)) {
            return CANONICAL_NO;
        }
        enum step step = STEP_VALUE;
        while (depth > 0 && (step = step_on(&levels[depth - 1], &text)) == STEP_CLOSED) {
            depth--;
        }
        if (step == STEP_BAD) {
            return CANONICAL_NO;
        }
    } while (depth > 0);
    return text.size == 0 ? CANONICAL_YES : CANONICAL_NO;
}
