#include "proto/dlh.h"

#include "proto/base64.h"

#include "data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { ARENA_CAP = 1 << 20 };

static bool decode_key(uint8_t out[DLH_KEY_SIZE], const struct json_value *device, const char *name)
{
    size_t n = 0;
    struct span text = json_get_string(device, span_str(name));

    return text.data != NULL && base64_decode(out, DLH_KEY_SIZE, &n, text) && n == DLH_KEY_SIZE;
}

static void add_if_it_counts(struct dlh_sum *sum, const struct json_value *device)
{
    uint8_t curve25519[DLH_KEY_SIZE];
    uint8_t ed25519[DLH_KEY_SIZE];
    struct dlh_device hash;

    if (decode_key(curve25519, device, "curve25519") && decode_key(ed25519, device, "ed25519")) {
        assert_true(
            dlh_device(&hash, json_get_string(device, SPAN_LIT("device_id")), curve25519, ed25519));
        dlh_sum_add(sum, &hash);
    }
}

static void check_vector(const struct json_value *vector)
{
    struct dlh_sum sum = {0};
    struct dlh got;
    struct dlh want;
    const struct json_value *device;
    struct json_iter devices = json_iterate(json_get(vector, SPAN_LIT("devices")));

    while (json_next(&devices, NULL, &device)) {
        add_if_it_counts(&sum, device);
    }
    assert_true(dlh_parse(&want, json_get_string(vector, SPAN_LIT("hash"))));
    assert_true(dlh_finish(&got, &sum, json_get_string(vector, SPAN_LIT("user_id"))));
    if (memcmp(&got, &want, sizeof got) != 0) {
        struct span name = json_get_string(vector, SPAN_LIT("name"));
        print_error("row failed: %.*s\n", (int)name.size, name.data);
    }
    assert_memory_equal(&got, &want, sizeof got);
}

static void every_vector_hashes_as_written(void **state)
{
    struct arena arena;
    const struct json_value *vector;
    size_t n = 0;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    const struct json_value *root = data_json(&arena, TEST_DATA "/dlh1.json");
    struct json_iter cases = json_iterate(json_get(root, SPAN_LIT("cases")));
    while (json_next(&cases, NULL, &vector)) {
        check_vector(vector);
        n++;
    }
    assert_int_equal(n, 12);
    arena_fini(&arena);
}

static void what_was_added_can_be_taken_away_in_any_order(void **state)
{
    const uint8_t key[DLH_KEY_SIZE] = {1, 2, 3};
    struct dlh_device devices[100];
    struct dlh_sum sum = {0};

    (void)state;
    for (size_t i = 0; i < 100; i++) {
        char id = (char)i;
        assert_true(dlh_device(&devices[i], span_of(&id, 1), key, key));
        dlh_sum_add(&sum, &devices[i]);
    }
    for (size_t i = 0; i < 100; i++) {
        dlh_sum_remove(&sum, &devices[i * 7 % 100]);
    }
    assert_true(sum.n == 0 && sum.low == 0 && sum.high == 0);
}

static void a_long_device_id_streams_to_another_hash_than_its_prefix(void **state)
{
    static char id[DLH_DEVICE_ID_MAX + 1];
    const uint8_t key[DLH_KEY_SIZE] = {0};
    struct dlh_device whole;
    struct dlh_device part;

    (void)state;
    assert_true(dlh_device(&whole, span_of(id, DLH_DEVICE_ID_MAX), key, key));
    assert_true(dlh_device(&part, span_of(id, DLH_DEVICE_ID_MAX - 1), key, key));
    assert_true(whole.low != part.low);
    assert_false(dlh_device(&whole, span_of(id, sizeof id), key, key));
}

static void a_list_of_more_than_1000_devices_has_no_hash(void **state)
{
    struct dlh out;

    (void)state;
    assert_true(dlh_finish(&out, &(struct dlh_sum){.n = 1000}, SPAN_LIT("@a:b")));
    assert_false(dlh_finish(&out, &(struct dlh_sum){.n = 1001}, SPAN_LIT("@a:b")));
}

static void other_forms_are_no_claim(void **state)
{
    static const char *const rows[] = {
        "",
        "dlh1:",
        "dlh1:df9f509a924bae6a78095ed37895106",
        "dlh1:df9f509a924bae6a78095ed37895106cc",
        "dlh1:DF9F509A924BAE6A78095ED37895106C",
        "dlh2:df9f509a924bae6a78095ed37895106c",
        "dlh1:df9f509a924bae6a78095ed37895106g",
    };
    struct dlh out;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (dlh_parse(&out, span_str(rows[i]))) {
            fail_msg("row failed: %s", rows[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_vector_hashes_as_written),
        cmocka_unit_test(what_was_added_can_be_taken_away_in_any_order),
        cmocka_unit_test(a_long_device_id_streams_to_another_hash_than_its_prefix),
        cmocka_unit_test(a_list_of_more_than_1000_devices_has_no_hash),
        cmocka_unit_test(other_forms_are_no_claim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
