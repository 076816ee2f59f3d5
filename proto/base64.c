#include "proto/base64.h"

static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    if (c == '+' || c == '-') {
        return 62;
    }
    return c == '/' || c == '_' ? 63 : -1;
}

/* Without its padding, which if given must fill the last group of four. */
static bool strip_padding(struct span *text)
{
    size_t whole = text->size;

    while (text->size > 0 && whole - text->size < 2 && text->data[text->size - 1] == '=') {
        text->size--;
    }
    return (text->size == whole || whole % 4 == 0) && text->size % 4 != 1;
}

bool base64_decode(uint8_t *out, size_t capacity, size_t *n, struct span text)
{
    uint32_t bits = 0;
    unsigned n_bits = 0;

    *n = 0;
    if (!strip_padding(&text)) {
        return false;
    }
    for (size_t i = 0; i < text.size; i++) {
        int value = sextet(text.data[i]);
        if (value < 0) {
            return false;
        }
        bits = bits << 6 | (uint32_t)value;
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
