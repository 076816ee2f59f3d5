#include "inbound/key_record.h"

#include "proto/check.h"
#include "store/fields.h"

enum { RECORD_VERSION = 1 };

static void write_name(struct writer *w, struct span name)
{
    CHECK(name.size > 0 && name.size <= UINT8_MAX);
    field_write_uint(w, name.size, 1);
    writer_bytes(w, name);
}

static struct span read_name(struct field_reader *r)
{
    struct span name = field_read_span(r, field_read_uint(r, 1));

    r->failed = r->failed || name.size == 0;
    return name;
}

static void read_key(struct key_record_key *out, struct field_reader *r)
{
    out->key_id = read_name(r);
    field_read_bytes(out->key, r, sizeof out->key);
    out->valid_until_ms = field_read_i64(r);
    uint64_t ban = field_read_uint(r, 1);
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
        field_write_i64(out, key->valid_until_ms);
        writer_char(out, key->is_banned ? 1 : 0);
    }
}

bool key_record_decode(struct key_record *out, struct span bytes)
{
    struct field_reader r = {.left = bytes};

    bool is_known = field_read_uint(&r, 1) == RECORD_VERSION;
    out->server = read_name(&r);
    out->n_keys = (uint32_t)field_read_uint(&r, 1);
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
