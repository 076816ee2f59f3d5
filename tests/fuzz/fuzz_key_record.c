/* Any bytes: a record that decodes is of a server and is written back as the same bytes. */
#include "inbound/key_record.h"
#include "proto/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_keys(const struct key_record *record)
{
    CHECK(server_name_is_valid(record->server));
    CHECK(record->n_keys > 0 && record->n_keys <= KEY_DOCUMENT_KEYS_MAX);
    for (uint32_t i = 0; i < record->n_keys; i++) {
        const struct key_record_key *key = &record->keys[i];
        CHECK(key->key_id.size > 0 && key->key_id.size <= KEY_RECORD_ID_MAX);
        CHECK(key_record_find(record, key->key_id, key->valid_until_ms) != NULL);
    }
}

static void check_same_bytes(const struct key_record *record, struct span bytes)
{
    struct writer w;

    writer_init(&w, KEY_RECORD_MAX);
    key_record_encode(&w, record);
    CHECK(!w.failed && span_equal(writer_span(&w), bytes));
    writer_fini(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span bytes = span_of(data, size);
    struct key_record record;

    if (key_record_decode(&record, bytes)) {
        check_keys(&record);
        check_same_bytes(&record, bytes);
    }
    return 0;
}
