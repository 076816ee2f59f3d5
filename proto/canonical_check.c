#include "proto/canonical.h"

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

static bool take_digits(struct span *rest)
{
    size_t n = 0;

    while (n < rest->size && rest->data[n] >= '0' && rest->data[n] <= '9') {
        n++;
    }
    *rest = span_skip(*rest, n);
    return n > 0;
}

/* Any number token of RFC 8259, section 6. */
static bool take_number(struct span *rest)
{
    (void)take(rest, '-');
    if (!take(rest, '0') && !take_digits(rest)) {
        return false;
    }
    if (take(rest, '.') && !take_digits(rest)) {
        return false;
    }
    if (!take(rest, 'e') && !take(rest, 'E')) {
        return true;
    }
    if (!take(rest, '+')) {
        (void)take(rest, '-');
    }
    return take_digits(rest);
}

/* The byte meant by the escape that the text begins with, if that is its canonical spelling; -1
 * otherwise. */
static int escaped_byte(size_t *length, struct span text)
{
    static const char letters[] = "btnfr\"\\";
    static const char meanings[] = "\b\t\n\f\r\"\\";
    static const char digits[] = "0123456789abcdef";
    const char *letter = text.size < 2 ? NULL : memchr(letters, text.data[1], sizeof letters - 1);

    *length = letter != NULL ? 2 : sizeof "\\u00xx" - 1;
    if (letter != NULL) {
        return meanings[letter - letters];
    }
    if (text.size < *length || memcmp(text.data + 1, "u00", 3) != 0 ||
        (text.data[4] != '0' && text.data[4] != '1')) {
        return -1;
    }
    const char *digit = memchr(digits, text.data[5], sizeof digits - 1);
    if (digit == NULL) {
        return -1;
    }
    int byte = (text.data[4] - '0') * 16 + (int)(digit - digits);
    return memchr(meanings, byte, sizeof meanings - 1) == NULL ? byte : -1;
}

/* Whether the second byte rules out overlong forms, surrogates and what is above U+10FFFF.
 * Source: Unicode, table 3-7, "Well-Formed UTF-8 Byte Sequences". */
static bool second_byte_is_valid(uint8_t first, uint8_t second)
{
    uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;

    return second >= low && second <= high;
}

/* Bytes of the multi-byte character that the text begins with; 0 if it is not valid UTF-8. */
static size_t utf8_length(struct span text)
{
    uint8_t first = (uint8_t)text.data[0];
    size_t n = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;

    if (first < 0xc2 || first > 0xf4 || text.size < n ||
        !second_byte_is_valid(first, (uint8_t)text.data[1])) {
        return 0;
    }
    for (size_t i = 2; i < n; i++) {
        if (((uint8_t)text.data[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return n;
}

static bool is_plain(char c)
{
    return c >= 0x20 && (uint8_t)c < 0x80 && c != '"' && c != '\\';
}

/* Of eight bytes, whether all are plain; keys and ciphertext are nearly always. */
static bool eight_are_plain(const char *at)
{
    const uint64_t ones = UINT64_MAX / 255;
    const uint64_t tops = ones * 0x80;
    uint64_t word;

    memcpy(&word, at, sizeof word);
    uint64_t quote = word ^ ones * '"';
    uint64_t backslash = word ^ ones * '\\';
    /* x - 1 sets the top bit of a byte that is 0 (or has it already, which is not plain either). */
    return ((word | (word - ones * 0x20) | (quote - ones) | (backslash - ones)) & tops) == 0;
}

static size_t plain_length(struct span text)
{
    size_t n = 0;

    while (text.size - n >= sizeof(uint64_t) && eight_are_plain(text.data + n)) {
        n += sizeof(uint64_t);
    }
    while (n < text.size && is_plain(text.data[n])) {
        n++;
    }
    return n;
}

/* Bytes of the escape or multi-byte character that the text begins with; 0 if it is not canonical.
 */
static size_t special_length(struct span text)
{
    size_t length = 0;

    if (text.data[0] == '\\') {
        return escaped_byte(&length, text) < 0 ? 0 : length;
    }
    return utf8_length(text); /* 0 for a control character too */
}

/* *out is what stands between the quotes, still escaped. */
static bool take_string(struct span *out, struct span *rest)
{
    size_t n = 0;

    if (!take(rest, '"')) {
        return false;
    }
    while (true) {
        n += plain_length(span_skip(*rest, n));
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
    int byte = name->data[0] == '\\' ? escaped_byte(&length, *name) : name->data[0];

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
