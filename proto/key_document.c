#include "proto/key_document.h"

#include "proto/base64.h"
#include "proto/canonical.h"
#include "proto/duplicate.h"
#include "proto/json.h"
#include "proto/writer.h"

#include <stdlib.h>

static const struct span algorithm = SPAN_INIT("ed25519:");

struct member {
    struct span name;
    const struct json_value *value;
};

static int compare_members(const void *a, const void *b)
{
    return span_compare(((const struct member *)a)->name, ((const struct member *)b)->name);
}

/* All members but those a signature does not cover, in canonical order. */
static struct member *signed_members(size_t *n, struct arena *arena, const struct json_value *root)
{
    struct member *members = arena_calloc(arena, json_size(root), sizeof *members);
    struct json_iter iter = json_iterate(root);
    struct member member;

    *n = 0;
    while (members != NULL && json_next(&iter, &member.name, &member.value)) {
        if (!span_equal(member.name, SPAN_LIT("signatures")) &&
            !span_equal(member.name, SPAN_LIT("unsigned"))) {
            members[(*n)++] = member;
        }
    }
    if (*n > 1) {
        qsort(members, *n, sizeof *members, compare_members);
    }
    return members;
}

/* What a JSON object's signature is made over. Source: Matrix specification, appendices, "Signing
 * JSON". */
static bool write_signed(struct writer *out, struct arena *arena, const struct json_value *root)
{
    size_t n = 0;
    const struct member *members = signed_members(&n, arena, root);

    if (members == NULL) {
        return false;
    }
    writer_char(out, '{');
    for (size_t i = 0; i < n; i++) {
        if (i > 0) {
            writer_char(out, ',');
        }
        writer_json_string(out, members[i].name);
        writer_char(out, ':');
        if (!canonical_encode(out, arena, members[i].value)) {
            return false;
        }
    }
    writer_char(out, '}');
    return !out->failed;
}

/* False for what is no Ed25519 key by its form. */
static bool decode_key(struct verify_key *out, struct span key_id, const struct json_value *value)
{
    struct span text = json_get_string(value, SPAN_LIT("key"));
    size_t n = 0;

    if (!span_starts_with(key_id, algorithm) ||
        !base64_decode(out->key, sizeof out->key, &n, text) || n != sizeof out->key) {
        return false;
    }
    out->key_id = key_id;
    out->is_banned = !ed25519_key_is_acceptable(out->key);
    return true;
}

/* Leaves out what is no key. */
static bool decode_keys(struct key_document *out, struct arena *arena,
                        const struct json_value *verify_keys)
{
    struct json_iter iter = json_iterate(verify_keys);
    struct span key_id;
    const struct json_value *value;

    if (!json_is_object(verify_keys) || json_size(verify_keys) > KEY_DOCUMENT_KEYS_MAX) {
        return false;
    }
    out->keys = arena_calloc(arena, json_size(verify_keys), sizeof *out->keys);
    while (out->keys != NULL && json_next(&iter, &key_id, &value)) {
        if (decode_key(&out->keys[out->n_keys], key_id, value)) {
            out->n_keys++;
        }
    }
    return out->n_keys > 0;
}

static bool is_signed(const struct key_document *document, const struct json_value *signatures,
                      struct span message)
{
    uint8_t signature[ED25519_SIGNATURE_SIZE];

    for (uint32_t i = 0; i < document->n_keys; i++) {
        const struct verify_key *key = &document->keys[i];
        struct span text = json_get_string(signatures, key->key_id);
        size_t n = 0;
        if (!key->is_banned && base64_decode(signature, sizeof signature, &n, text) &&
            n == sizeof signature && ed25519_verify(key->key, signature, message)) {
            return true;
        }
    }
    return false;
}

static bool check_signature(const struct key_document *document, struct arena *arena,
                            const struct json_value *root)
{
    const struct json_value *signatures =
        json_get(json_get(root, SPAN_LIT("signatures")), document->server_name);
    AUTO(writer_fini) struct writer message;

    /* No canonical form is longer than six times the text: an escape for each byte. */
    writer_init(&message, (size_t)6 * KEY_DOCUMENT_SIZE_MAX);
    return write_signed(&message, arena, root) &&
           is_signed(document, signatures, writer_span(&message));
}

bool key_document_decode(struct key_document *out, struct arena *arena, struct span body,
                         struct span server_name)
{
    struct duplicate_scratch scratch = {.arena = arena};
    const struct json_value *root = NULL;

    *out = (struct key_document){0};
    /* With a name given twice the signature might cover another value than the one read. */
    if (body.size > KEY_DOCUMENT_SIZE_MAX || json_parse(&root, arena, body) != JSON_OK ||
        !json_is_object(root) || duplicate_inside(&scratch, root) != DUPLICATE_NONE) {
        return false;
    }
    out->server_name = json_get_string(root, SPAN_LIT("server_name"));
    return out->server_name.data != NULL && span_equal(out->server_name, server_name) &&
           json_integer(&out->valid_until_ts, json_get(root, SPAN_LIT("valid_until_ts"))) &&
           decode_keys(out, arena, json_get(root, SPAN_LIT("verify_keys"))) &&
           check_signature(out, arena, root);
}

const struct verify_key *key_document_find(const struct key_document *document, struct span key_id)
{
    for (uint32_t i = 0; i < document->n_keys; i++) {
        if (span_equal(document->keys[i].key_id, key_id)) {
            return &document->keys[i];
        }
    }
    return NULL;
}
