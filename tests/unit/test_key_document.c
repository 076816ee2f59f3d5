#include "proto/key_document.h"

#include "proto/base64.h"
#include "proto/check.h"
#include "proto/writer.h"

#include "data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { ARENA_CAP = 4 << 20, OUTPUT_MAX = 1 << 20 };

#define BANNED "l/O9hxMVKB6Lg+3Hqf0FQQZhVESQcMzbPN1Cz2nM3og"
#define NAME   "b.example"

/* The neutral element: with itself as R and 0 as S it signs anything. */
#define SMALL_ORDER "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

static const uint8_t seed[ED25519_KEY_SIZE] = {1, 2, 3};

/* Pieces of a document; %K stands for the seed's public key. */
struct row {
    const char *name;
    const char *signed_text; /* canonical, with its closing brace */
    const char *extra;       /* members before it that are not signed, or "" */
    const char *signer_id;
    int n_keys; /* 0: refused */
};

#define OLD            "\"old_verify_keys\":{},\"server_name\":\"" NAME "\",\"valid_until_ts\":1700000000000,"
#define KEYS(keys)     "{" OLD "\"verify_keys\":{" keys "}}"
#define KEY(id)        GIVEN(id, "%K")
#define GIVEN(id, key) "\"" id "\":{\"key\":\"" key "\"}"

static const struct row rows[] = {
    {"a document", KEYS(KEY("ed25519:1")), "", "ed25519:1", 1},
    {"with members that are not signed", KEYS(KEY("ed25519:1")), "\"unsigned\":{\"a\":1},",
     "ed25519:1", 1},
    {"with white space", KEYS(KEY("ed25519:1")), " ", "ed25519:1", 1},
    {"with odd keys beside",
     KEYS(KEY(
         "ed25519:1") ",\"ed25519:2\":7,\"ed25519:3\":{\"key\":\"AA\"},\"rsa:1\":{\"key\":\"%K\"}"),
     "", "ed25519:1", 1},
    {"with two keys", KEYS(KEY("ed25519:1") "," KEY("ed25519:2")), "", "ed25519:2", 2},
    {"with a member nobody knows", "{" OLD "\"verify_keys\":{" KEY("ed25519:1") "},\"z\":[1.5]}",
     "", "ed25519:1", 1},
    {"signed by a key it does not give", KEYS(KEY("ed25519:1")), "", "ed25519:2", 0},
    {"without keys", KEYS(""), "", "ed25519:1", 0},
    {"of another server",
     "{\"server_name\":\"c.example\",\"valid_until_ts\":1,\"verify_keys\":{" KEY("ed25519:1") "}}",
     "", "ed25519:1", 0},
    {"without an end", "{\"server_name\":\"" NAME "\",\"verify_keys\":{" KEY("ed25519:1") "}}", "",
     "ed25519:1", 0},
    {"with a name given twice", KEYS(KEY("ed25519:1")), "\"verify_keys\":{},", "ed25519:1", 0},
    {"with a member added after signing", KEYS(KEY("ed25519:1")), "\"a\":1,", "ed25519:1", 0},
};

static void write_key(struct writer *out)
{
    uint8_t key[ED25519_KEY_SIZE];

    ed25519_public_key(key, seed);
    base64_encode(out, key, sizeof key);
}

static void write_signed(struct writer *out, const char *text)
{
    for (const char *mark = strstr(text, "%K"); mark != NULL; mark = strstr(text, "%K")) {
        writer_bytes(out, span_of(text, (size_t)(mark - text)));
        write_key(out);
        text = mark + 2;
    }
    writer_bytes(out, span_str(text));
}

/* `forged` stands in the signature's place; NULL: the seed signs. */
static void write_signed_by(struct writer *out, const struct row *row, const uint8_t *forged)
{
    struct writer text;
    uint8_t signature[ED25519_SIGNATURE_SIZE];

    writer_init(&text, OUTPUT_MAX);
    write_signed(&text, row->signed_text);
    if (forged != NULL) {
        memcpy(signature, forged, sizeof signature);
    } else {
        ed25519_sign(signature, seed, writer_span(&text));
    }
    writer_bytes(out, SPAN_LIT("{"));
    writer_bytes(out, span_str(row->extra));
    writer_bytes(out, SPAN_LIT("\"signatures\":{\"" NAME "\":{\""));
    writer_bytes(out, span_str(row->signer_id));
    writer_bytes(out, SPAN_LIT("\":\""));
    base64_encode(out, signature, sizeof signature);
    writer_bytes(out, SPAN_LIT("\"}},"));
    writer_bytes(out, span_skip(writer_span(&text), 1));
    writer_fini(&text);
}

static void write_document(struct writer *out, const struct row *row)
{
    write_signed_by(out, row, NULL);
}

static void every_document_is_read_as_the_row_says(void **state)
{
    struct arena arena;
    struct writer text;
    struct key_document document;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    writer_init(&text, OUTPUT_MAX);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        writer_reset(&text);
        write_document(&text, &rows[i]);
        bool is_read = key_document_decode(&document, &arena, writer_span(&text), SPAN_LIT(NAME));
        if (is_read != (rows[i].n_keys > 0) ||
            (is_read && document.n_keys != (uint32_t)rows[i].n_keys)) {
            fail_msg("row failed: %s: %.*s", rows[i].name, (int)text.size, text.data);
        }
    }
    writer_fini(&text);
    arena_fini(&arena);
}

static void a_document_gives_its_parts(void **state)
{
    struct arena arena;
    struct writer text;
    struct key_document document;
    uint8_t key[ED25519_KEY_SIZE];

    (void)state;
    arena_init(&arena, ARENA_CAP);
    writer_init(&text, OUTPUT_MAX);
    write_document(&text, &rows[0]);
    ed25519_public_key(key, seed);
    assert_true(key_document_decode(&document, &arena, writer_span(&text), SPAN_LIT(NAME)));
    assert_int_equal(document.valid_until_ts, 1700000000000);
    assert_true(span_equal(document.server_name, SPAN_LIT(NAME)));
    assert_memory_equal(key_document_find(&document, SPAN_LIT("ed25519:1"))->key, key, sizeof key);
    assert_null(key_document_find(&document, SPAN_LIT("ed25519:2")));
    assert_false(key_document_decode(&document, &arena, writer_span(&text), SPAN_LIT("c.example")));
    assert_false(key_document_decode(&document, &arena, SPAN_LIT("[]"), SPAN_LIT(NAME)));
    assert_false(key_document_decode(&document, &arena, SPAN_LIT(""), SPAN_LIT(NAME)));
    writer_fini(&text);
    arena_fini(&arena);
}

#define BESIDE(key) KEYS(KEY("ed25519:1") "," GIVEN("ed25519:2", key))

static const struct row banned_beside[] = {
    {"whose private half is public", BESIDE(BANNED), "", "ed25519:1", 2},
    {"of small order", BESIDE(SMALL_ORDER), "", "ed25519:1", 2},
    {"no point of the curve", BESIDE("AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), "",
     "ed25519:1", 2},
    {"another encoding of a point", BESIDE("8P///////////////////////////////////////38"), "",
     "ed25519:1", 2},
};

static void a_banned_key_is_given_as_banned(void **state)
{
    struct arena arena;
    struct writer text;
    struct key_document document;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    writer_init(&text, OUTPUT_MAX);
    for (size_t i = 0; i < sizeof banned_beside / sizeof banned_beside[0]; i++) {
        writer_reset(&text);
        write_document(&text, &banned_beside[i]);
        if (!key_document_decode(&document, &arena, writer_span(&text), SPAN_LIT(NAME)) ||
            document.n_keys != (uint32_t)banned_beside[i].n_keys ||
            key_document_find(&document, SPAN_LIT("ed25519:1"))->is_banned ||
            !key_document_find(&document, SPAN_LIT("ed25519:2"))->is_banned) {
            fail_msg("row failed: %s: %.*s", banned_beside[i].name, (int)text.size, text.data);
        }
    }
    writer_fini(&text);
    arena_fini(&arena);
}

static const struct row signed_by_banned[] = {
    {"alone, of small order", KEYS(GIVEN("ed25519:2", SMALL_ORDER)), "", "ed25519:2", 0},
    {"alone, its private half public", KEYS(GIVEN("ed25519:2", BANNED)), "", "ed25519:2", 0},
    {"a good one beside that did not sign", BESIDE(SMALL_ORDER), "", "ed25519:2", 0},
    {"two", KEYS(GIVEN("ed25519:1", BANNED) "," GIVEN("ed25519:2", SMALL_ORDER)), "", "ed25519:2",
     0},
};

static void what_banned_keys_alone_signed_is_no_document(void **state)
{
    static const uint8_t forged[ED25519_SIGNATURE_SIZE] = {1};
    struct arena arena;
    struct writer text;
    struct key_document document;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    writer_init(&text, OUTPUT_MAX);
    for (size_t i = 0; i < sizeof signed_by_banned / sizeof signed_by_banned[0]; i++) {
        writer_reset(&text);
        write_signed_by(&text, &signed_by_banned[i], forged);
        if (key_document_decode(&document, &arena, writer_span(&text), SPAN_LIT(NAME))) {
            fail_msg("row failed: %s: %.*s", signed_by_banned[i].name, (int)text.size, text.data);
        }
    }
    writer_fini(&text);
    arena_fini(&arena);
}

/* tests/data/key_document.json was signed by python3-signedjson. */
static void what_another_implementation_signed_is_accepted(void **state)
{
    struct arena arena;
    struct key_document document;
    char text[4096];

    (void)state;
    arena_init(&arena, ARENA_CAP);
    FILE *file = fopen(TEST_DATA "/key_document.json", "rbe");
    CHECK(file != NULL);
    size_t size = fread(text, 1, sizeof text, file);
    fclose(file);
    assert_true(key_document_decode(&document, &arena, span_of(text, size), SPAN_LIT(NAME)));
    assert_int_equal(document.n_keys, 2);
    assert_false(key_document_find(&document, SPAN_LIT("ed25519:1"))->is_banned);
    assert_true(key_document_find(&document, SPAN_LIT("ed25519:2"))->is_banned);
    arena_fini(&arena);
}

static void any_byte_changed_breaks_the_signature_or_the_document(void **state)
{
    struct arena arena;
    struct writer text;
    struct key_document document;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    writer_init(&text, OUTPUT_MAX);
    write_document(&text, &rows[0]);
    for (size_t i = 0; i < text.size; i++) {
        text.data[i] ^= 4;
        if (key_document_decode(&document, &arena, writer_span(&text), SPAN_LIT(NAME))) {
            fail_msg("byte %zu can be changed", i);
        }
        text.data[i] ^= 4;
        arena_reset(&arena);
    }
    writer_fini(&text);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_document_is_read_as_the_row_says),
        cmocka_unit_test(a_document_gives_its_parts),
        cmocka_unit_test(a_banned_key_is_given_as_banned),
        cmocka_unit_test(what_banned_keys_alone_signed_is_no_document),
        cmocka_unit_test(what_another_implementation_signed_is_accepted),
        cmocka_unit_test(any_byte_changed_breaks_the_signature_or_the_document),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
