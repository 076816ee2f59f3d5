/* How long what begins a piece of JSON text is. Source: RFC 8259. */
#pragma once

#include "proto/span.h"

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    JSON_WORD_SIZE = sizeof(uint64_t),
    JSON_SHORT_SIZE = 4 * JSON_WORD_SIZE, /* of names and ids; longer is ciphertext, mostly */
};

static inline bool json_is_plain(char c)
{
    return c >= 0x20 && (uint8_t)c < 0x80 && c != '"' && c != '\\';
}

/* Of eight bytes, the first the lowest: the top bit of the first that is not plain. Of those after
 * it too, or not: what a subtraction borrows spoils them. */
static inline uint64_t json_mark_odd(const char *at)
{
    const uint64_t ones = UINT64_MAX / 255;        /* 1 in each byte */
    const uint64_t tops = UINT64_MAX / 255 * 0x80; /* the top bit of each */
    uint64_t word;

    memcpy(&word, at, sizeof word);
    word = le64toh(word);
    /* Flipping bit 1 brings the quote, 0x22, next to the control characters, and none of them
     * away. Less than what is subtracted gets the top bit, and so do bytes that have it. */
    return (word | ((word ^ ones * 2) - ones * 0x21) | ((word ^ ones * '\\') - ones)) & tops;
}

/* Bytes below the first that is marked. */
static inline size_t json_unmarked_length(uint64_t marks)
{
    const uint64_t ones = UINT64_MAX / 255;
    uint64_t lower = ((marks & (~marks + 1)) >> 7) - 1;

    return (lower & ones) * ones >> 56;
}

/* json_plain_length of a text whose first n bytes are plain. */
size_t json_plain_length_from(struct span text, size_t n);

/* Bytes of a string before the first that is a quote, a backslash, a control character or not
 * ASCII. */
static inline size_t json_plain_length(struct span text)
{
    size_t n = 0;

    while (n < JSON_SHORT_SIZE && text.size - n >= JSON_WORD_SIZE) {
        uint64_t marks = json_mark_odd(text.data + n);
        if (marks != 0) {
            return n + json_unmarked_length(marks);
        }
        n += JSON_WORD_SIZE;
    }
    return json_plain_length_from(text, n);
}

/* The byte meant by the escape that the text begins with, if that is its spelling in Matrix
 * canonical JSON, and how long it is; -1 otherwise. */
int json_canonical_escape(size_t *length, struct span text);

/* Bytes of the multi-byte UTF-8 character that the text begins with; 0 if it begins with none. */
size_t json_multibyte_length(struct span text);

/* Bytes of the number token that the text begins with; 0 if it begins with none. */
size_t json_number_length(struct span text);
