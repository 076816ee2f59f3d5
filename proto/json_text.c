#include "proto/json_text.h"

#include <stdbool.h>

enum { BLOCK_SIZE = 64 };

/* The same for each byte on its own, and without a branch, so that compilers make it vector
 * instructions. */
static bool block_is_plain(const char *at)
{
    uint8_t marks = 0;

    for (size_t i = 0; i < BLOCK_SIZE; i++) {
        uint8_t c = (uint8_t)at[i];
        marks |= (uint8_t)(c | ((c ^ 2) - 0x21) | ((c ^ '\\') - 1));
    }
    return marks < 0x80;
}

static size_t plain_blocks_length(struct span text)
{
    size_t n = 0;

    while (text.size - n >= BLOCK_SIZE && block_is_plain(text.data + n)) {
        n += BLOCK_SIZE;
    }
    return n;
}

size_t json_plain_length_from(struct span text, size_t n)
{
    n += plain_blocks_length(span_skip(text, n));
    while (text.size - n >= JSON_WORD_SIZE) {
        uint64_t marks = json_mark_odd(text.data + n);
        if (marks != 0) {
            return n + json_unmarked_length(marks);
        }
        n += JSON_WORD_SIZE;
    }
    while (n < text.size && json_is_plain(text.data[n])) {
        n++;
    }
    return n;
}

/* Whether the second byte rules out overlong forms, surrogates and what is above U+10FFFF.
 * Source: Unicode, table 3-7, "Well-Formed UTF-8 Byte Sequences". */
static bool second_byte_is_valid(uint8_t first, uint8_t second)
{
    uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;

    return second >= low && second <= high;
}

size_t json_multibyte_length(struct span text)
{
    uint8_t first = text.size == 0 ? 0 : (uint8_t)text.data[0];
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

static bool is_at(struct span text, size_t n, char c)
{
    return n < text.size && text.data[n] == c;
}

static size_t digits_length(struct span text, size_t from)
{
    size_t n = from;

    while (n < text.size && text.data[n] >= '0' && text.data[n] <= '9') {
        n++;
    }
    return n - from;
}

/* Of the fraction or exponent after its first byte; 0 if there are no digits. */
static size_t with_digits(struct span text, size_t from, size_t length)
{
    size_t digits = digits_length(text, from + length);

    return digits == 0 ? 0 : length + digits;
}

size_t json_number_length(struct span text)
{
    size_t sign = is_at(text, 0, '-') ? 1 : 0;
    size_t whole = is_at(text, sign, '0') ? 1 : digits_length(text, sign);
    size_t n = sign + whole;

    if (whole == 0) {
        return 0;
    }
    if (is_at(text, n, '.')) {
        size_t fraction = with_digits(text, n, 1);
        if (fraction == 0) {
            return 0;
        }
        n += fraction;
    }
    if (is_at(text, n, 'e') || is_at(text, n, 'E')) {
        bool has_sign = is_at(text, n + 1, '+') || is_at(text, n + 1, '-');
        size_t exponent = with_digits(text, n, has_sign ? 2 : 1);
        return exponent == 0 ? 0 : n + exponent;
    }
    return n;
}

int json_canonical_escape(size_t *length, struct span text)
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
