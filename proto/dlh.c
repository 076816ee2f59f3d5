#include "proto/dlh.h"

#include "proto/check.h"

/* The state for streaming is only complete, and short inputs only fast, when inlined. */
#define XXH_INLINE_ALL
#include <xxhash.h>

static const char device_tag[] = "mx.dlh1"; /* with its NUL: the tag byte of a device is 0x00 */
static const char list_tag[] = "mx.dlh1\x01";
static const char wire_prefix[] = "dlh1:";

enum {
    TAG_SIZE = 8,       /* bytes */
    RECORD_PLAIN = 512, /* bytes of a record that are hashed in one call; longer ones stream */
};

static void put_le(uint8_t *out, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = (uint8_t)(value >> (8 * i));
    }
}

/* tag | u16le length | name | tail */
static XXH128_hash_t hash_record(const char *tag, struct span name, const uint8_t *tail,
                                 size_t tail_size)
{
    uint8_t record[RECORD_PLAIN];
    uint8_t length[2];
    size_t size = TAG_SIZE + sizeof length + name.size + tail_size;

    put_le(length, name.size, sizeof length);
    if (size > sizeof record) {
        XXH3_state_t state;
        XXH3_INITSTATE(&state);
        XXH3_128bits_reset(&state);
        XXH3_128bits_update(&state, tag, TAG_SIZE);
        XXH3_128bits_update(&state, length, sizeof length);
        XXH3_128bits_update(&state, name.data, name.size);
        XXH3_128bits_update(&state, tail, tail_size);
        return XXH3_128bits_digest(&state);
    }
    memcpy(record, tag, TAG_SIZE);
    memcpy(record + TAG_SIZE, length, sizeof length);
    if (name.size != 0) {
        memcpy(record + TAG_SIZE + sizeof length, name.data, name.size);
    }
    memcpy(record + size - tail_size, tail, tail_size);
    return XXH3_128bits(record, size);
}

bool dlh_device(struct dlh_device *out, struct span device_id,
                const uint8_t curve25519[DLH_KEY_SIZE], const uint8_t ed25519[DLH_KEY_SIZE])
{
    uint8_t keys[2 * DLH_KEY_SIZE];

    if (device_id.size > DLH_DEVICE_ID_MAX) {
        return false;
    }
    memcpy(keys, curve25519, DLH_KEY_SIZE);
    memcpy(keys + DLH_KEY_SIZE, ed25519, DLH_KEY_SIZE);
    XXH128_hash_t hash = hash_record(device_tag, device_id, keys, sizeof keys);
    *out = (struct dlh_device){.low = hash.low64, .high = hash.high64};
    return true;
}

void dlh_sum_add(struct dlh_sum *sum, const struct dlh_device *device)
{
    CHECK(sum->n < UINT32_MAX);
    sum->low += device->low;
    sum->high += device->high + (sum->low < device->low ? 1 : 0);
    sum->n++;
}

void dlh_sum_remove(struct dlh_sum *sum, const struct dlh_device *device)
{
    CHECK(sum->n > 0);
    uint64_t borrow = sum->low < device->low ? 1 : 0;
    sum->low -= device->low;
    sum->high -= device->high + borrow;
    sum->n--;
}

bool dlh_finish(struct dlh *out, const struct dlh_sum *sum, struct span user_id)
{
    uint8_t tail[sizeof sum->n + sizeof sum->low + sizeof sum->high];
    XXH128_canonical_t canonical;

    if (user_id.size > UINT16_MAX || sum->n > DLH_DEVICES_MAX) {
        return false;
    }
    put_le(tail, sum->n, 4);
    put_le(tail + 4, sum->low, 8);
    put_le(tail + 12, sum->high, 8);
    XXH128_canonicalFromHash(&canonical, hash_record(list_tag, user_id, tail, sizeof tail));
    memcpy(out->bytes, canonical.digest, sizeof out->bytes);
    return true;
}

void dlh_write(struct writer *out, const struct dlh *hash)
{
    writer_bytes(out, span_str(wire_prefix));
    writer_hex(out, hash->bytes, sizeof hash->bytes);
}

/* The digit's value; sets bits of *odd if it is none. Without a branch: the digits of a hash are in
 * no order that could be foreseen. */
static uint8_t lower_hex(uint8_t *odd, char c)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t value = (uint8_t)(((uint8_t)c & 15) + 9 * ((uint8_t)c >> 6)) & 15;

    *odd |= (uint8_t)(digits[value] ^ c);
    return value;
}

bool dlh_parse(struct dlh *out, struct span text)
{
    struct span prefix = span_str(wire_prefix);
    uint8_t odd = 0;

    if (text.size != prefix.size + 2 * sizeof out->bytes || !span_starts_with(text, prefix)) {
        return false;
    }
    for (size_t i = 0; i < sizeof out->bytes; i++) {
        uint8_t high = lower_hex(&odd, text.data[prefix.size + 2 * i]);
        uint8_t low = lower_hex(&odd, text.data[prefix.size + 2 * i + 1]);
        out->bytes[i] = (uint8_t)(high << 4 | low);
    }
    return odd == 0;
}
