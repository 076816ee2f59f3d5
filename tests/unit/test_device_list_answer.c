#include "proto/device_list_answer.h"

#include "cli.h"
#include "proto/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define CURVE "janMsVrB6Bhi4uzGdyOvFBCdOgClhYqh4Edmrrdp6Ns"
#define ED    "BUxqQKPkHN2ltry+zWeAstygWAcFDU54oEGC6H4FUHU"
#define KEYS                                                                                       \
    "{\"keys\":{\"curve25519:AAAAAAAAAA\":\"" CURVE "\",\"ed25519:AAAAAAAAAA\":\"" ED "\"}}"
#define DEVICE "{\"device_id\":\"AAAAAAAAAA\",\"keys\":" KEYS "}"
#define OTHER                                                                                      \
    "{\"device_id\":\"BBBBBBBBBB\",\"keys\":{\"keys\":{"                                           \
    "\"curve25519:BBBBBBBBBB\":\"BwIBDvi0US9DpA+H7qPdfPTtSTfeg2PqjJEHoFyiDaQ\","                   \
    "\"ed25519:BBBBBBBBBB\":\"3uL3qLZOnRDX34HGSoKfuo5UhjEVCC3L8E1jOiCfvDQ\"}}}"
/* The vectors "two devices", "one device" and "empty list". */
#define TWO   "@alice:a.example dlh1:c2f39cfe6d860b761906c1e373cb683c\n"
#define ONE   "@alice:a.example dlh1:69c171c09bdd8e700c7b824315290fdd\n"
#define EMPTY "@alice:a.example dlh1:df9f509a924bae6a78095ed37895106c\n"

struct row {
    const char *name;
    const char *text;
    int status;
    const char *printed;
};

static const struct row rows[] = {
    {"one device", "{\"user_id\":\"@alice:a.example\",\"stream_id\":5,\"devices\":[" DEVICE "]}", 0,
     ONE},
    {"two devices, in no order",
     "{\"user_id\":\"@alice:a.example\",\"devices\":[" OTHER "," DEVICE "]}", 0, TWO},
    {"a device that is listed twice around another",
     "{\"user_id\":\"@alice:a.example\",\"devices\":[" DEVICE "," OTHER "," DEVICE "]}", 0, TWO},
    {"a device that is listed twice",
     "{\"user_id\":\"@alice:a.example\",\"devices\":[" DEVICE "," DEVICE "]}", 0, ONE},
    {"a device whose last entry has no keys",
     "{\"user_id\":\"@alice:a.example\",\"devices\":[" DEVICE ",{\"device_id\":\"AAAAAAAAAA\"}]}",
     0, EMPTY},
    {"a device without keys",
     "{\"user_id\":\"@alice:a.example\",\"devices\":[{\"device_id\":\"X\"},{\"device_id\":\"\"}]}",
     0, EMPTY},
    {"no devices", "{\"user_id\":\"@alice:a.example\",\"devices\":[]}", 0, EMPTY},
    {"a key query",
     "{\"device_keys\":{\"@alice:a.example\":{\"AAAAAAAAAA\":" KEYS "},\"@bob:a.example\":{}}}", 0,
     ONE "@bob:a.example dlh1:"},
    {"a key query about nobody", "{\"device_keys\":{}}", 0, ""},
    {"a device without an id", "{\"user_id\":\"@a:b\",\"devices\":[{}]}", 1, ""},
    {"another shape", "[]", 1, ""},
    {"a key query of another shape", "{\"device_keys\":{\"@a:b\":[]}}", 1, ""},
    {"not JSON", "{", 1, ""},
    {"nothing", "", 1, ""},
};

/* Runs `freshet hash` over a file with that text. */
static int hash(const char *text, char *printed, size_t capacity)
{
    char path[] = "/tmp/freshet-test-XXXXXX";
    const char *argv[] = {"freshet", "hash", path, NULL};
    FILE *out = tmpfile();
    FILE *err = tmpfile();
    int fd = mkstemp(path);

    CHECK(fd >= 0 && out != NULL && err != NULL);
    FILE *file = fdopen(fd, "wb");
    CHECK(file != NULL);
    fputs(text, file);
    fclose(file);
    int status = cli_run(3, argv, out, err);
    CHECK(fseek(out, 0, SEEK_SET) == 0);
    printed[fread(printed, 1, capacity - 1, out)] = '\0';
    assert_true((status == 0) == (ftell(err) == 0));
    fclose(out);
    fclose(err);
    remove(path);
    return status;
}

static void every_answer_is_hashed_as_the_row_says(void **state)
{
    char printed[1024];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int status = hash(rows[i].text, printed, sizeof printed);
        if (status != rows[i].status ||
            strncmp(printed, rows[i].printed, strlen(rows[i].printed)) != 0) {
            fail_msg("row failed: %s, status %d, printed %s", rows[i].name, status, printed);
        }
    }
}

static void the_stream_id_is_read_where_it_is_one(void **state)
{
    struct arena arena;
    struct device_list_answer answer;
    const struct json_value *root;

    (void)state;
    arena_init(&arena, 1 << 16);
    assert_int_equal(json_parse(&root, &arena,
                                SPAN_LIT("{\"user_id\":\"@a:b\",\"stream_id\":7,\"devices\":[]}")),
                     JSON_OK);
    assert_true(device_list_answer_decode(&answer, &arena, root));
    assert_true(answer.has_stream_id && answer.stream_id == 7);
    assert_int_equal(
        json_parse(&root, &arena,
                   SPAN_LIT("{\"user_id\":\"@a:b\",\"stream_id\":7.5,\"devices\":[]}")),
        JSON_OK);
    assert_true(device_list_answer_decode(&answer, &arena, root));
    assert_false(answer.has_stream_id);
    arena_fini(&arena);
}

static void a_wrong_call_prints_the_help(void **state)
{
    const char *wrong[] = {"freshet", "hush", NULL};
    const char *right[] = {"freshet", "--help", NULL};
    FILE *out = tmpfile();
    FILE *err = tmpfile();

    (void)state;
    CHECK(out != NULL && err != NULL);
    assert_int_equal(cli_run(2, wrong, out, err), 2);
    assert_true(ftell(out) == 0 && ftell(err) > 0);
    assert_int_equal(cli_run(2, right, out, err), 0);
    assert_true(ftell(out) > 0);
    fclose(out);
    fclose(err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_answer_is_hashed_as_the_row_says),
        cmocka_unit_test(the_stream_id_is_read_where_it_is_one),
        cmocka_unit_test(a_wrong_call_prints_the_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
