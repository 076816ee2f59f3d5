#include "proto/xmatrix.h"

#include "proto/base64.h"
#include "proto/canonical.h"
#include "proto/transaction.h"

#include "data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { ARENA_CAP = 1 << 20, OUTPUT_MAX = 1 << 20 };

#define SIG  "mYOYUZV78HBrpRNBJlggarxm1IJ7FeomDmX+f4Am9IZhCn/YnUyrRq1MW+N/ZHpSB81THpJcvqTv7kxamFQcAw"
#define SEED "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA0"

static void decode_exactly(uint8_t *out, size_t size, struct span text)
{
    size_t n = 0;

    assert_true(base64_decode(out, size, &n, text));
    assert_int_equal(n, size);
}

/* What a receiver does with a request: its header, its key, its signature, its body's form. */
static bool accepts(struct arena *arena, const struct json_value *root,
                    const struct json_value *vector)
{
    struct xmatrix header;
    struct xmatrix_request request = {0};
    struct transaction transaction;
    const struct json_value *body = NULL;
    uint8_t key[ED25519_KEY_SIZE];
    AUTO(writer_fini) struct writer content;
    AUTO(writer_fini) struct writer message;

    writer_init(&content, OUTPUT_MAX);
    writer_init(&message, OUTPUT_MAX);
    struct span text = json_get_string(vector, SPAN_LIT("body"));
    if (xmatrix_parse(&header, arena, json_get_string(vector, SPAN_LIT("header"))) != REJECT_NONE ||
        !span_equal(header.destination, json_get_string(root, SPAN_LIT("destination"))) ||
        !span_equal(header.origin, json_get_string(root, SPAN_LIT("origin"))) ||
        !span_equal(header.key_id, SPAN_LIT("ed25519:1"))) {
        return false;
    }
    if (text.data != NULL) {
        assert_int_equal(json_parse(&body, arena, text), JSON_OK);
        if (transaction_decode(&transaction, arena, body, header.origin) != REJECT_NONE) {
            return false;
        }
        assert_true(canonical_encode(&content, arena, body));
        request.content = writer_span(&content);
    }
    request.method = json_get_string(vector, SPAN_LIT("method"));
    request.uri = json_get_string(vector, SPAN_LIT("uri"));
    request.origin = header.origin;
    request.destination = header.destination;
    xmatrix_signed_bytes(&message, &request);
    decode_exactly(key, sizeof key, json_get_string(root, SPAN_LIT("public_key")));
    return ed25519_key_is_acceptable(key) &&
           ed25519_verify(key, header.signature, writer_span(&message));
}

static void every_vector_is_accepted_or_refused_as_written(void **state)
{
    struct arena arena;
    const struct json_value *vector;
    size_t n = 0;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    const struct json_value *root = data_json(&arena, TEST_DATA "/xmatrix.json");
    struct json_iter cases = json_iterate(json_get(root, SPAN_LIT("cases")));
    while (json_next(&cases, NULL, &vector)) {
        struct span name = json_get_string(vector, SPAN_LIT("name"));
        if (accepts(&arena, root, vector) != json_bool(json_get(vector, SPAN_LIT("accept")))) {
            fail_msg("row failed: %.*s", (int)name.size, name.data);
        }
        n++;
    }
    assert_int_equal(n, 20);
    arena_fini(&arena);
}

struct header_row {
    const char *name;
    struct span header;
    enum reject why;
};

#define REST ",key=\"ed25519:1\",sig=\"" SIG "\""

static const struct header_row header_rows[] = {
    {"no destination", SPAN_INIT("X-Matrix origin=a.example" REST), REJECT_NONE},
    {"a tab after the scheme, empty elements, space around the equals sign",
     SPAN_INIT("X-Matrix\t,, origin = \"a.example\" ,," REST ", "), REJECT_NONE},
    {"a port", SPAN_INIT("X-Matrix origin=a.example:8448" REST), REJECT_NONE},
    {"an IPv6 address", SPAN_INIT("X-Matrix origin=\"[::1]:8448\"" REST), REJECT_NONE},
    {"an unknown parameter twice, once empty",
     SPAN_INIT("X-Matrix x=\"\",x=1,origin=a.example" REST), REJECT_NONE},
    {"a quoted comma and quote", SPAN_INIT("X-Matrix x=\"a,\\\"b\",origin=a" REST), REJECT_NONE},
    {"another scheme with the same beginning", SPAN_INIT("X-MatrixX origin=a" REST),
     REJECT_BAD_XMATRIX},
    {"the scheme alone", SPAN_INIT("X-Matrix"), REJECT_BAD_XMATRIX},
    {"no origin", SPAN_INIT("X-Matrix x=1" REST), REJECT_BAD_XMATRIX},
    {"an empty origin", SPAN_INIT("X-Matrix origin=\"\"" REST), REJECT_BAD_XMATRIX},
    {"an origin that is no server name", SPAN_INIT("X-Matrix origin=\"a/b\"" REST),
     REJECT_BAD_XMATRIX},
    {"an empty destination", SPAN_INIT("X-Matrix destination=,origin=a" REST), REJECT_BAD_XMATRIX},
    {"a destination given twice", SPAN_INIT("X-Matrix destination=b,Destination=b,origin=a" REST),
     REJECT_BAD_XMATRIX},
    {"a quote without its end", SPAN_INIT("X-Matrix origin=a" REST ",x=\"y"), REJECT_BAD_XMATRIX},
    {"an escape at the end", SPAN_INIT("X-Matrix origin=a" REST ",x=\"y\\\""), REJECT_BAD_XMATRIX},
    {"a name without a value", SPAN_INIT("X-Matrix origin=a,x" REST), REJECT_BAD_XMATRIX},
    {"a value without a name", SPAN_INIT("X-Matrix origin=a,=x" REST), REJECT_BAD_XMATRIX},
    {"no comma between", SPAN_INIT("X-Matrix origin=\"a\"x=y" REST), REJECT_BAD_XMATRIX},
    {"a quote inside a plain value", SPAN_INIT("X-Matrix origin=a\"b\"" REST), REJECT_BAD_XMATRIX},
    {"another algorithm", SPAN_INIT("X-Matrix origin=a,key=\"rsa:1\",sig=" SIG),
     REJECT_BAD_XMATRIX},
    {"no key version", SPAN_INIT("X-Matrix origin=a,key=\"ed25519:\",sig=" SIG),
     REJECT_BAD_XMATRIX},
    {"a key id with a control character",
     SPAN_INIT("X-Matrix origin=a,key=\"ed25519:\x7f\",sig=" SIG), REJECT_BAD_XMATRIX},
    {"a signature that is one byte too long",
     SPAN_INIT("X-Matrix origin=a,key=ed25519:1,sig=" SIG "AA"), REJECT_BAD_XMATRIX},
};

static void every_header_is_judged_as_the_row_says(void **state)
{
    struct arena arena;
    struct xmatrix header;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    for (size_t i = 0; i < sizeof header_rows / sizeof header_rows[0]; i++) {
        if (xmatrix_parse(&header, &arena, header_rows[i].header) != header_rows[i].why) {
            fail_msg("row failed: %s", header_rows[i].name);
        }
    }
    assert_int_equal(xmatrix_parse(&header, &arena, header_rows[0].header), REJECT_NONE);
    assert_null(header.destination.data);
    assert_true(span_equal(header.sig_text, SPAN_LIT(SIG)));
    arena_fini(&arena);
}

static void what_is_signed_verifies_and_nothing_else(void **state)
{
    const struct xmatrix_request request = {
        .method = SPAN_LIT("GET"),
        .uri = SPAN_LIT("/_matrix/federation/v1/user/devices/%40alice%3Aalice.example"),
        .origin = SPAN_LIT("bob.example"),
        .destination = SPAN_LIT("alice.example"),
    };
    struct signing_key key;
    struct writer header;

    (void)state;
    writer_init(&header, OUTPUT_MAX);
    assert_true(signing_key_parse(&key, SPAN_LIT("ed25519 1 " SEED "\n")));
    assert_true(span_equal(key.key_id, SPAN_LIT("ed25519:1")));
    xmatrix_sign(&header, &key, &request);
    /* The vector "GET without content". */
    assert_true(span_equal(
        writer_span(&header),
        SPAN_LIT("X-Matrix origin=\"bob.example\",key=\"ed25519:1\",sig=\"Ey1Zw3veL1nswmA1937SB+"
                 "RuhaM4w3FMnyAuL9f7Jid+cZjGUB0GXQibaSsM6q9ZnkI+ozbhhL45WhvheJ2IAQ\","
                 "destination=\"alice.example\"")));
    writer_fini(&header);
}

static void signing_key_lines_of_another_form_are_refused(void **state)
{
    static const char *const rows[] = {
        "",
        "ed25519",
        "ed25519 1",
        "ed25519 1 AAAA",
        "rsa 1 " SEED,
        "ed25519 1 " SEED " x",
        "ed25519 1\x01 " SEED,
        "ed25519 1 " SEED "AA",
    };
    struct signing_key key;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (signing_key_parse(&key, span_str(rows[i]))) {
            fail_msg("row failed: %s", rows[i]);
        }
    }
    assert_true(signing_key_parse(&key, SPAN_LIT("  ed25519\ta_B1\t" SEED "=\r\n")));
    assert_true(span_equal(key.key_id, SPAN_LIT("ed25519:a_B1")));
}

struct key_row {
    const char *name;
    const char *key; /* base64 */
};

static const struct key_row bad_keys[] = {
    {"the banned key", "l/O9hxMVKB6Lg+3Hqf0FQQZhVESQcMzbPN1Cz2nM3og"},
    {"order 1", "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
    {"order 1, the other sign", "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAIA"},
    {"order 2", "7P///////////////////////////////////////38"},
    {"order 2, the other sign", "7P////////////////////////////////////////8"},
    {"order 4", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
    {"order 4, the other sign", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAIA"},
    {"order 8", "JuiVj8KyJ7BFw/SJ8u+Y8NXfrAXTxjM5sTgCiG1T/AU"},
    {"order 8, the other sign", "JuiVj8KyJ7BFw/SJ8u+Y8NXfrAXTxjM5sTgCiG1T/IU"},
    {"order 8, another", "xxdqcD1N2E+6PAt2DRBnDyogU/osOczGTsf9d5KsA3o"},
    {"order 8, another, the other sign", "xxdqcD1N2E+6PAt2DRBnDyogU/osOczGTsf9d5KsA/o"},
    {"order 1, not reduced", "7v///////////////////////////////////////38"},
    {"order 1, not reduced, the other sign", "7v////////////////////////////////////////8"},
    {"order 4, not reduced", "7f///////////////////////////////////////38"},
    {"order 4, not reduced, the other sign", "7f////////////////////////////////////////8"},
    {"not reduced", "8P///////////////////////////////////////38"},
    {"not on the curve", "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
};

static void keys_that_anybody_can_sign_with_are_refused(void **state)
{
    uint8_t key[ED25519_KEY_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof bad_keys / sizeof bad_keys[0]; i++) {
        decode_exactly(key, sizeof key, span_str(bad_keys[i].key));
        if (ed25519_key_is_acceptable(key)) {
            fail_msg("row failed: %s", bad_keys[i].name);
        }
    }
}

static void long_and_short_messages_verify_alike(void **state)
{
    static const size_t sizes[] = {0, 1, 65535, 65536, 200000};
    uint8_t seed[ED25519_KEY_SIZE] = {7};
    uint8_t key[ED25519_KEY_SIZE];
    uint8_t signature[ED25519_SIGNATURE_SIZE];
    char *message = calloc(1, 200001);

    (void)state;
    assert_non_null(message);
    ed25519_public_key(key, seed);
    assert_true(ed25519_key_is_acceptable(key));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        ed25519_sign(signature, seed, span_of(message, sizes[i]));
        assert_true(ed25519_verify(key, signature, span_of(message, sizes[i])));
        assert_false(ed25519_verify(key, signature, span_of(message, sizes[i] + 1)));
        signature[63] ^= 0x80; /* the scalar is not reduced any more */
        assert_false(ed25519_verify(key, signature, span_of(message, sizes[i])));
    }
    free(message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_vector_is_accepted_or_refused_as_written),
        cmocka_unit_test(every_header_is_judged_as_the_row_says),
        cmocka_unit_test(what_is_signed_verifies_and_nothing_else),
        cmocka_unit_test(signing_key_lines_of_another_form_are_refused),
        cmocka_unit_test(keys_that_anybody_can_sign_with_are_refused),
        cmocka_unit_test(long_and_short_messages_verify_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
