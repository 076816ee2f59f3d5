#include "proto/base64.h"

enum { NONE = 0xff /* no sextet has the top bit */ };

/* Of each byte, in either alphabet. Source: RFC 4648, 4 and 5. */
static const uint8_t sextets[256] = {
    NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
    NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
    NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, 62,   NONE, 62,   NONE, 63,
    52,   53,   54,   55,   56,   57,   58,   59,   60,   61,   NONE, NONE, NONE, NONE, NONE, NONE,
    NONE, 0,    1,    2,    3,    4,    5,    6,    7,    8,    9,    10,   11,   12,   13,   14,
    15,   16,   17,   18,   19,   20,   21,   22,   23,   24,   25,   NONE, NONE, NONE, NONE, 63,
    NONE, 26,   27,   28,   29,   30,   31,   32,   33,   34,   35,   36,   37,   38,   39,   40,
    41,   42,   43,   44,   45,   46,   47,   48,   49,   50,   51,   NONE, NONE, NONE, NONE, NONE,
    NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
    NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
    NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
    NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
    NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
    NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
    NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
    NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
};

/* Without its padding, which if given must fill the last group of four. */
static bool strip_padding(struct span *text)
{
    size_t whole = text->size;

    while (text->size > 0 && whole - text->size < 2 && text->data[text->size - 1] == '=') {
        text->size--;
    }
    return (text->size == whole || whole % 4 == 0) && text->size % 4 != 1;
}

static uint32_t sextet_at(struct span text, size_t i)
{
    return sextets[(uint8_t)text.data[i]];
}

/* Groups of four that are whole and fit, up to one that is odd; characters taken. */
static size_t decode_groups(uint8_t *out, size_t capacity, struct span text)
{
    size_t n_groups = text.size / 4 < capacity / 3 ? text.size / 4 : capacity / 3;

    for (size_t i = 0; i < n_groups; i++) {
        uint32_t a = sextet_at(text, 4 * i);
        uint32_t b = sextet_at(text, 4 * i + 1);
        uint32_t c = sextet_at(text, 4 * i + 2);
        uint32_t d = sextet_at(text, 4 * i + 3);
        uint32_t bits = a << 18 | b << 12 | c << 6 | d;
        if (((a | b | c | d) & 0x80) != 0) {
            return 4 * i;
        }
        out[3 * i] = (uint8_t)(bits >> 16);
        out[3 * i + 1] = (uint8_t)(bits >> 8);
        out[3 * i + 2] = (uint8_t)bits;
    }
    return 4 * n_groups;
}

bool base64_decode(uint8_t *out, size_t capacity, size_t *n, struct span text)
{
    uint32_t bits = 0;
    unsigned n_bits = 0;

    *n = 0;
    if (!strip_padding(&text)) {
        return false;
    }
    size_t taken = decode_groups(out, capacity, text);
    *n = taken / 4 * 3;
    for (size_t i = taken; i < text.size; i++) {
        uint8_t value = sextets[(uint8_t)text.data[i]];
        if (value == NONE) {
            return false;
        }
        bits = bits << 6 | value;
        n_bits += 6;
        if (n_bits < 8) {
            continue;
        }
        if (*n == capacity) {
            return false;
        }
        n_bits -= 8;
        out[(*n)++] = (uint8_t)(bits >> n_bits);
    }
    return true;
}

void base64_encode(struct writer *out, const uint8_t *bytes, size_t n)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    unsigned n_bits = 0;

    for (size_t i = 0; i < n; i++) {
        bits = bits << 8 | bytes[i];
        n_bits += 8;
        while (n_bits >= 6) {
            n_bits -= 6;
            writer_char(out, alphabet[bits >> n_bits & 63]);
        }
    }
    if (n_bits > 0) {
        writer_char(out, alphabet[bits << (6 - n_bits) & 63]);
    }
}
