#include "inbound/key_record.h"

#include "proto/check.h"

enum { RECORD_VERSION = 1 };

static void write_name(struct writer *w, struct span name)
{
    CHECK(name.size > 0 && name.size <= UINT8_MAX);
    writer_char(w, (char)(uint8_t)name.size);
    writer_bytes(w, name);
}

static void write_i64(struct writer *w, int64_t value)
{
    for (unsigned shift = 0; shift < 64; shift += 8) {
        writer_char(w, (char)(uint8_t)((uint64_t)value >> shift));
    }
}

/* What is left of a record; the first failure sticks. */
struct reader {
    struct span left;
    bool failed;
};

static struct span take(struct reader *r, size_t size)
{
    if (r->failed || size > r->left.size) {
        r->failed = true;
        return (struct span){0};
    }
    struct span taken = span_of(r->left.data, size);
    r->left = span_skip(r->left, size);
    return taken;
}

static uint8_t read_byte(struct reader *r)
{
    struct span byte = take(r, 1);

    return byte.size == 1 ? (uint8_t)byte.data[0] : 0;
}

static struct span read_name(struct reader *r)
{
    struct span name = take(r, read_byte(r));

    r->failed = r->failed || name.size == 0;
    return name;
}

static int64_t read_i64(struct reader *r)
{
    struct span bytes = take(r, 8);
    uint64_t bits = 0;
    int64_t value;

    for (size_t i = 0; i < bytes.size; i++) {
        bits |= (uint64_t)(uint8_t)bytes.data[i] << (8 * i);
    }
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void read_key(struct key_record_key *out, struct reader *r)
{
    out->key_id = read_name(r);
    struct span key = take(r, sizeof out->key);
    if (key.size == sizeof out->key) {
        memcpy(out->key, key.data, key.size);
    }
    out->valid_until_ms = read_i64(r);
    uint8_t ban = read_byte(r);
    r->failed = r->failed || ban > 1;
    out->is_banned = ban == 1;
}

bool key_record_from_document(struct key_record *out, const struct key_document *document,
                              int64_t now_ms, int64_t max_valid_ms)
{
    int64_t until_ms = now_ms + max_valid_ms;

    if (until_ms > document->valid_until_ts) {
        until_ms = document->valid_until_ts;
    }
    CHECK(document->n_keys <= KEY_DOCUMENT_KEYS_MAX);
    *out = (struct key_record){.server = document->server_name};
    for (uint32_t i = 0; i < document->n_keys; i++) {
        const struct verify_key *key = &document->keys[i];
        if (key->key_id.size <= KEY_RECORD_ID_MAX) {
            struct key_record_key *kept = &out->keys[out->n_keys++];
            kept->key_id = key->key_id;
            memcpy(kept->key, key->key, sizeof kept->key);
            kept->valid_until_ms = until_ms;
            kept->is_banned = key->is_banned;
        }
    }
    return out->n_keys > 0 && now_ms <= until_ms;
}

void key_record_encode(struct writer *out, const struct key_record *record)
{
    CHECK(record->n_keys > 0 && record->n_keys <= KEY_DOCUMENT_KEYS_MAX);
    writer_char(out, RECORD_VERSION);
    write_name(out, record->server);
    writer_char(out, (char)record->n_keys);
    for (uint32_t i = 0; i < record->n_keys; i++) {
        const struct key_record_key *key = &record->keys[i];
        write_name(out, key->key_id);
        writer_bytes(out, span_of(key->key, sizeof key->key));
        write_i64(out, key->valid_until_ms);
        writer_char(out, key->is_banned ? 1 : 0);
    }
}

bool key_record_decode(struct key_record *out, struct span bytes)
{
    struct reader r = {.left = bytes};

    bool is_known = read_byte(&r) == RECORD_VERSION;
    out->server = read_name(&r);
    out->n_keys = read_byte(&r);
    if (!is_known || r.failed || out->n_keys == 0 || out->n_keys > KEY_DOCUMENT_KEYS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < out->n_keys; i++) {
        read_key(&out->keys[i], &r);
    }
    return !r.failed && r.left.size == 0 && server_name_is_valid(out->server);
}

const struct key_record_key *key_record_find(const struct key_record *record, struct span key_id,
                                             int64_t now_ms)
{
    for (uint32_t i = 0; i < record->n_keys; i++) {
        const struct key_record_key *key = &record->keys[i];
        if (span_equal(key->key_id, key_id) && now_ms <= key->valid_until_ms) {
            return key;
        }
    }
    return NULL;
}
