/* Any bytes as a key document: refused, or it is of that server, gives a key that may sign, and
 * tells those that may not. */
#include "proto/check.h"
#include "proto/json.h"
#include "proto/key_document.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_CAP = 4 << 20 };

static void check_key(const struct key_document *document, const struct verify_key *key)
{
    CHECK(ed25519_key_is_acceptable(key->key) == !key->is_banned);
    CHECK(key_document_find(document, key->key_id) == key);
}

static void check_document(const struct key_document *document, struct span server_name)
{
    bool has_usable = false;

    CHECK(span_equal(document->server_name, server_name));
    CHECK(document->n_keys > 0 && document->n_keys <= KEY_DOCUMENT_KEYS_MAX);
    for (uint32_t i = 0; i < document->n_keys; i++) {
        check_key(document, &document->keys[i]);
        has_usable = has_usable || !document->keys[i].is_banned;
    }
    CHECK(has_usable);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_of(data, size);
    struct arena arena;
    struct key_document document;
    const struct json_value *root = NULL;

    arena_init(&arena, ARENA_CAP);
    if (json_parse(&root, &arena, text) == JSON_OK) {
        struct span name = json_get_string(root, SPAN_LIT("server_name"));
        if (key_document_decode(&document, &arena, text, name)) {
            check_document(&document, name);
        }
    } else {
        CHECK(!key_document_decode(&document, &arena, text, SPAN_LIT("b.example")));
    }
    arena_fini(&arena);
    return 0;
}
