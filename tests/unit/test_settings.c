#include "settings.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/check.h"

enum {
    DIR_SIZE = 32,        /* bytes */
    PATH_SIZE = 64,       /* bytes */
    PROBLEMS_MAX = 65536, /* bytes */
    KEY_FILE_SIZE = 4096, /* bytes of a key file that is too large */
    N_REFS = 10000,
    N_THREADS = 2,
};

#define SEED   "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA0"
#define KEY    "ed25519 r1 " SEED
#define OTHER  "ed25519 r2 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define CONFIG "f.yaml"
#define BEGIN  "data_dir: data\nlisten:\n  federation: {address: \"127.0.0.1:0\"}\nservers:\n"
#define SERVER(name, port, more)                                                                   \
    "  - name: " name "\n    upstreams: [\"http://127.0.0.1:" port "\"]\n" more
#define SIGNS(file) "    signing: {key_file: " file "}\n"

struct fixture {
    char dir[DIR_SIZE];
    struct settings *settings;
    struct writer problems;
};

static void path_of(char path[PATH_SIZE], const struct fixture *f, const char *name)
{
    snprintf(path, PATH_SIZE, "%s/%s", f->dir, name);
}

static void write_file(const struct fixture *f, const char *name, struct span bytes)
{
    char path[PATH_SIZE];

    path_of(path, f, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes.data, 1, bytes.size, file), bytes.size);
    assert_int_equal(fclose(file), 0);
}

static void fixture_init(struct fixture *f, const char *config)
{
    *f = (struct fixture){.dir = "/tmp/freshet-test-XXXXXX"};
    assert_non_null(mkdtemp(f->dir));
    write_file(f, CONFIG, span_str(config));
    writer_init(&f->problems, PROBLEMS_MAX);
}

static void fixture_fini(struct fixture *f)
{
    static const char *const names[] = {CONFIG, "a.key", "b.key"};
    char path[PATH_SIZE];

    settings_unref(f->settings);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        path_of(path, f, names[i]);
        remove(path);
    }
    assert_int_equal(rmdir(f->dir), 0);
    writer_fini(&f->problems);
}

static enum err load(struct fixture *f)
{
    char path[PATH_SIZE];

    path_of(path, f, CONFIG);
    return settings_load(&f->settings, path, &f->problems);
}

static bool says(const struct fixture *f, const char *text)
{
    return f->problems.size > 0 &&
           memmem(f->problems.data, f->problems.size, text, strlen(text)) != NULL;
}

static size_t count_lines(const struct fixture *f)
{
    size_t n = 0;

    for (size_t i = 0; i < f->problems.size; i++) {
        n += f->problems.data[i] == '\n' ? 1 : 0;
    }
    return n;
}

#define ONE_SERVER BEGIN SERVER("a.example", "8008", SIGNS("a.key"))

static void a_key_is_read_whatever_ends_its_line(void **state)
{
    static const char *const texts[] = {KEY, KEY "\n", KEY "\r\n", KEY "\n\n"};
    struct signing_key expected;
    struct fixture f;

    (void)state;
    assert_true(signing_key_parse(&expected, SPAN_LIT(KEY)));
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        fixture_init(&f, ONE_SERVER);
        write_file(&f, "a.key", span_str(texts[i]));
        assert_int_equal(load(&f), ERR_OK);
        assert_int_equal(f.problems.size, 0);
        const struct signing_key *key = &f.settings->keys[0];
        assert_true(span_equal(key->key_id, SPAN_LIT("ed25519:r1")));
        assert_memory_equal(key->seed, expected.seed, sizeof key->seed);
        assert_memory_equal(key->public_key, expected.public_key, sizeof key->public_key);
        assert_string_equal(f.settings->config->servers[0].name, "a.example");
        fixture_fini(&f);
    }
}

static void each_server_has_its_own_key_or_none(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, BEGIN SERVER("a.example", "8008", SIGNS("a.key")) SERVER(
                         "b.example", "8009", "") SERVER("c.example", "8010", SIGNS("b.key")));
    write_file(&f, "a.key", SPAN_LIT(KEY "\n"));
    write_file(&f, "b.key", SPAN_LIT(OTHER "\n"));
    assert_int_equal(load(&f), ERR_OK);
    assert_true(span_equal(f.settings->keys[0].key_id, SPAN_LIT("ed25519:r1")));
    assert_int_equal(f.settings->keys[1].key_id.size, 0);
    assert_true(span_equal(f.settings->keys[2].key_id, SPAN_LIT("ed25519:r2")));
    fixture_fini(&f);
}

static const struct {
    const char *what;
    struct span text;
} bad_rows[] = {
    {"nothing", SPAN_INIT("")},
    {"a line end", SPAN_INIT("\n")},
    {"two keys", SPAN_INIT(KEY "\n" OTHER "\n")},
    {"a key and a comment", SPAN_INIT(KEY "\n#\n")},
    {"a comment and a key", SPAN_INIT("#\n" KEY "\n")},
    {"a seed too short", SPAN_INIT("ed25519 r1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3\n")},
    {"a seed too long", SPAN_INIT("ed25519 r1 AAAA" SEED "\n")},
    {"a seed that is no base64", SPAN_INIT("ed25519 r1 !" SEED "\n")},
    {"no seed", SPAN_INIT("ed25519 r1\n")},
    {"no version", SPAN_INIT("ed25519 " SEED "\n")},
    {"a word more", SPAN_INIT(KEY " x\n")},
    {"another algorithm", SPAN_INIT("rsa r1 " SEED "\n")},
    {"a NUL", SPAN_INIT(KEY "\0\n")},
};

static void assert_refused(struct fixture *f, const char *what, const char *why)
{
    char path[PATH_SIZE];

    path_of(path, f, "a.key");
    if (load(f) != ERR_CONFIG || f->settings != NULL || !says(f, path) || !says(f, why) ||
        count_lines(f) != 1 || says(f, SEED)) {
        fail_msg("%s: %.*s", what, (int)f->problems.size, f->problems.data);
    }
}

static void what_is_no_key_is_refused_with_the_files_name(void **state)
{
    struct fixture f;

    (void)state;
    for (size_t i = 0; i < sizeof bad_rows / sizeof bad_rows[0]; i++) {
        fixture_init(&f, ONE_SERVER);
        write_file(&f, "a.key", bad_rows[i].text);
        assert_refused(&f, bad_rows[i].what, "is not one line 'ed25519 VERSION SEED'");
        fixture_fini(&f);
    }
}

/* A key and line ends up to that size. */
static void write_padded_key(const struct fixture *f, size_t size)
{
    char text[KEY_FILE_SIZE];

    CHECK(size <= sizeof text);
    memset(text, '\n', sizeof text);
    memcpy(text, KEY, sizeof KEY - 1);
    write_file(f, "a.key", span_of(text, size));
}

static void a_file_too_long_is_refused_even_if_it_begins_with_a_key(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, ONE_SERVER);
    write_padded_key(&f, KEY_FILE_SIZE);
    assert_refused(&f, "too long", "is not one line");
    write_padded_key(&f, KEY_FILE_SIZE - 1);
    assert_int_equal(load(&f), ERR_OK);
    fixture_fini(&f);
}

static void a_file_that_is_not_there_is_said(void **state)
{
    char path[PATH_SIZE];
    struct fixture f;

    (void)state;
    fixture_init(&f, ONE_SERVER);
    assert_refused(&f, "missing", "cannot be read");
    fixture_fini(&f);
    fixture_init(&f, ONE_SERVER);
    path_of(path, &f, "a.key");
    assert_int_equal(mkdir(path, 0700), 0);
    assert_refused(&f, "a folder", "is not one line");
    fixture_fini(&f);
}

static void every_wrong_file_is_said_and_one_is_enough(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, BEGIN SERVER("a.example", "8008", SIGNS("a.key"))
                         SERVER("b.example", "8009", SIGNS("b.key")));
    assert_int_equal(load(&f), ERR_CONFIG);
    assert_true(says(&f, "/a.key: ") && says(&f, "/b.key: "));
    assert_int_equal(count_lines(&f), 2);
    writer_reset(&f.problems);
    write_file(&f, "b.key", SPAN_LIT(KEY));
    assert_int_equal(load(&f), ERR_CONFIG);
    assert_true(says(&f, "/a.key: ") && !says(&f, "/b.key: "));
    assert_null(f.settings);
    fixture_fini(&f);
}

static void a_wrong_configuration_is_said_too(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, "data_dir: [\n");
    assert_int_equal(load(&f), ERR_CONFIG);
    assert_true(says(&f, CONFIG));
    assert_null(f.settings);
    fixture_fini(&f);
    settings_unref(NULL);
}

static void *use(void *arg)
{
    struct settings *settings = arg;

    for (int i = 0; i < N_REFS; i++) {
        CHECK(settings_ref(settings) == settings);
        CHECK(settings->keys[0].key_id.size > 0 && settings->config->n_servers == 1);
        settings_unref(settings);
    }
    settings_unref(settings);
    return NULL;
}

static void threads_share_them_and_the_last_one_frees_them(void **state)
{
    pthread_t threads[N_THREADS];
    struct fixture f;

    (void)state;
    fixture_init(&f, ONE_SERVER);
    write_file(&f, "a.key", SPAN_LIT(KEY));
    assert_int_equal(load(&f), ERR_OK);
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, use, settings_ref(f.settings)), 0);
    }
    settings_unref(f.settings);
    f.settings = NULL;
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_read_whatever_ends_its_line),
        cmocka_unit_test(each_server_has_its_own_key_or_none),
        cmocka_unit_test(what_is_no_key_is_refused_with_the_files_name),
        cmocka_unit_test(a_file_too_long_is_refused_even_if_it_begins_with_a_key),
        cmocka_unit_test(a_file_that_is_not_there_is_said),
        cmocka_unit_test(every_wrong_file_is_said_and_one_is_enough),
        cmocka_unit_test(a_wrong_configuration_is_said_too),
        cmocka_unit_test(threads_share_them_and_the_last_one_frees_them),
    };

    return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
