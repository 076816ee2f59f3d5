#include "proto/srv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define HEADER(n_records) "\x01\x02\x81\x80\0\1\0" n_records "\0\0\0\0"
#define QUESTION          "\1a\4test\0\0\x21\0\1"
#define RECORD(ttl, size) "\xc0\x0c\0\x21\0\1\0\0\0" ttl "\0" size
#define OTHER(type)       "\xc0\x0c\0" type "\0\1\0\0\0\1\0\4zzzz"

static void an_answer_becomes_records(void **state)
{
    static const struct {
        const char *name;
        struct span message;
        const char *target; /* of the first; NULL: there is none */
        uint32_t ttl_s;
        bool is_answer;
    } rows[] = {
        {"no record", SPAN_INIT(HEADER("\0") QUESTION), NULL, UINT32_MAX, true},
        {"one", SPAN_INIT(HEADER("\1") QUESTION RECORD("\x3c", "\x0d") "\0\1\0\2\x21\0\1b\3c-_\0"),
         "b.c-_", 60, true},
        {"the target is the root",
         SPAN_INIT(HEADER("\1") QUESTION RECORD("\x3c", "\7") "\0\1\0\2\x21\0\0"), "", 60, true},
        {"a pointer back",
         SPAN_INIT(HEADER("\1") QUESTION RECORD("\x3c", "\x0a") "\0\1\0\2\x21\0\1b\xc0\x0c"),
         "b.a.test", 60, true},
        {"a pointer to itself",
         SPAN_INIT(HEADER("\1") QUESTION RECORD("\x3c", "\x08") "\0\1\0\2\x21\0\xc0\x2a"), NULL,
         UINT32_MAX, true},
        {"a pointer forward",
         SPAN_INIT(HEADER("\1") QUESTION RECORD("\x3c", "\x08") "\0\1\0\2\x21\0\xc0\x30"
                                                                "zzzzzzzz"),
         NULL, UINT32_MAX, true},
        {"a target with a slash",
         SPAN_INIT(HEADER("\1") QUESTION RECORD("\x3c", "\x0b") "\0\1\0\2\x21\0\3b/c\0"), NULL,
         UINT32_MAX, true},
        {"a target with a NUL",
         SPAN_INIT(HEADER("\1") QUESTION RECORD("\x3c", "\x0b") "\0\1\0\2\x21\0\3b\0c\0"), NULL,
         UINT32_MAX, true},
        {"another type before it",
         SPAN_INIT(HEADER("\2") QUESTION OTHER("\1") RECORD("\5", "\x09") "\0\1\0\2\x21\0\1b\0"),
         "b", 5, true},
        {"the least TTL counts",
         SPAN_INIT(HEADER("\2") QUESTION RECORD("\5", "\x09") "\0\1\0\2\x21\0\1b\0" RECORD(
             "\4", "\x09") "\0\1\0\2\x21\0\1c\0"),
         "b", 4, true},
        {"cut in the target",
         SPAN_INIT(HEADER("\1") QUESTION RECORD("\x3c", "\x0d") "\0\1\0\2\x21\0\1b\3c"), NULL, 0,
         false},
        {"cut in the question", SPAN_INIT(HEADER("\0") "\1a\4te"), NULL, 0, false},
        {"a header alone", SPAN_INIT("\1\2\x81\x80\0\1\0\1"), NULL, 0, false},
        {"nothing", SPAN_INIT(""), NULL, 0, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct srv_answer answer;
        bool is_answer = srv_answer_decode(&answer, rows[i].message);
        bool has_target = is_answer && answer.n > 0;
        if (is_answer != rows[i].is_answer || has_target != (rows[i].target != NULL) ||
            (is_answer && answer.ttl_s != rows[i].ttl_s) ||
            (has_target && strcmp(answer.records[0].target, rows[i].target) != 0)) {
            fail_msg("row failed: %s", rows[i].name);
        }
        if (has_target) {
            assert_int_equal(answer.records[0].priority, 1);
            assert_int_equal(answer.records[0].weight, 2);
            assert_int_equal(answer.records[0].port, 0x2100);
        }
    }
}

static void of_too_many_those_to_be_tried_first_are_kept(void **state)
{
    static const struct span head = SPAN_INIT(HEADER("\x0d") QUESTION);
    static const struct span one = SPAN_INIT(RECORD("\x3c", "\x09") "\0\0\0\0\0\1\1b\0");
    static const uint8_t priorities[] = {20, 20, 21, 20, 20, 22, 20, 20, 2, 30, 0, 20, 1};
    static const uint8_t kept[SRV_RECORDS_MAX] = {0, 1, 2, 20, 20, 20, 20, 20};
    char message[512];
    size_t size = head.size;
    struct srv_answer answer;

    (void)state;
    memcpy(message, head.data, head.size);
    for (size_t i = 0; i < sizeof priorities; i++) {
        memcpy(message + size, one.data, one.size);
        size += one.size;
        message[size - 8] = (char)priorities[i];
    }
    assert_true(srv_answer_decode(&answer, span_of(message, size)));
    assert_int_equal(answer.n, SRV_RECORDS_MAX);
    srv_answer_order(&answer, 1);
    for (size_t i = 0; i < SRV_RECORDS_MAX; i++) {
        assert_int_equal(answer.records[i].priority, kept[i]);
    }
}

static struct srv_record record(uint16_t priority, uint16_t weight, uint16_t port)
{
    return (struct srv_record){.priority = priority, .weight = weight, .port = port, .target = "a"};
}

static void priorities_come_before_weights(void **state)
{
    const struct srv_answer answer = {.n = 5,
                                      .records = {record(20, 65535, 1), record(10, 0, 2),
                                                  record(10, 900, 3), record(10, 100, 4),
                                                  record(5, 0, 5)}};
    unsigned n_second[6] = {0};

    (void)state;
    for (uint64_t seed = 0; seed < 10000; seed++) {
        struct srv_answer ordered = answer;
        srv_answer_order(&ordered, seed);
        assert_int_equal(ordered.records[0].port, 5);
        assert_int_equal(ordered.records[4].port, 1);
        n_second[ordered.records[1].port]++;
    }
    assert_in_range(n_second[3], 8700, 9300);
    assert_in_range(n_second[4], 700, 1300);
    assert_in_range(n_second[2], 1, 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_becomes_records),
        cmocka_unit_test(of_too_many_those_to_be_tried_first_are_kept),
        cmocka_unit_test(priorities_come_before_weights),
    };

    return cmocka_run_group_tests_name("srv", tests, NULL, NULL);
}
