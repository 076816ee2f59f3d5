#include "net/ask.h"

#include "base/clock.h"
#include "proto/check.h"
#include "proto/writer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum {
    N_PORTS = 3,
    N_NAMES = 60,
    N_HELD = 16,         /* questions to be answered later */
    NAME_SIZE = 24,      /* bytes */
    TEXT_MAX = 1 << 17,  /* bytes of a question or an answer */
    LONG_SIZE = 100000,  /* bytes */
    PATIENCE_MS = 20000, /* that anything may take, also under a sanitizer */
};

/* A loop's port, and what it was asked. */
struct owner {
    struct ask_port *port;
    bool answers_at_once; /* with the question, and which port it is */
    unsigned n_questions;
    struct writer question; /* the latest */
    struct asker held[N_HELD];
    size_t n_held;
    char index;
};

/* One question of ours. */
struct question {
    struct ask ask;
    unsigned n_answers;
    struct writer answer; /* the latest */
};

struct fixture {
    struct loop *loop;
    struct ask_ring *ring;
    struct owner owners[N_PORTS];
};

static void keep(struct writer *out, struct span bytes)
{
    writer_reset(out);
    writer_bytes(out, bytes);
}

static void answer(struct owner *owner, struct asker asker)
{
    struct writer text;

    writer_init(&text, TEXT_MAX);
    writer_bytes(&text, writer_span(&owner->question));
    writer_char(&text, owner->index);
    ask_answer(owner->port, asker, writer_span(&text));
    memset(text.data, '#', text.size); /* copied */
    writer_fini(&text);
}

static void on_question(void *arg, struct asker asker, struct span question)
{
    struct owner *owner = arg;

    owner->n_questions++;
    keep(&owner->question, question);
    if (owner->answers_at_once) {
        answer(owner, asker);
    } else {
        CHECK(owner->n_held < N_HELD);
        owner->held[owner->n_held++] = asker;
    }
}

static void on_answer(void *arg, struct span text)
{
    struct question *q = arg;

    CHECK(q->ask.id == 0);
    q->n_answers++;
    keep(&q->answer, text);
}

static void question_init(struct question *q)
{
    *q = (struct question){.n_answers = 0};
    writer_init(&q->answer, TEXT_MAX);
}

static void question_fini(struct question *q)
{
    writer_fini(&q->answer);
}

static void start(struct question *q, const struct owner *from, const char *name,
                  struct span question)
{
    unsigned n_before = q->n_answers;

    ask_start(from->port, &q->ask, span_str(name), question, on_answer, q);
    assert_int_equal(q->n_answers, n_before); /* nothing from inside */
}

static void owner_init(struct owner *owner, struct ask_ring *ring, size_t index, struct loop *loop)
{
    *owner = (struct owner){.answers_at_once = true, .index = (char)('0' + index)};
    writer_init(&owner->question, TEXT_MAX);
    assert_int_equal(ask_port_new(&owner->port, ring, index, loop, on_question, owner), ERR_OK);
}

static void owner_fini(struct owner *owner)
{
    ask_port_free(owner->port);
    writer_fini(&owner->question);
}

static void fixture_init(struct fixture *f)
{
    assert_int_equal(loop_new(&f->loop), ERR_OK);
    f->ring = ask_ring_new(N_PORTS);
    for (size_t i = 0; i < N_PORTS; i++) {
        owner_init(&f->owners[i], f->ring, i, f->loop);
    }
}

static void fixture_fini(struct fixture *f)
{
    for (size_t i = 0; i < N_PORTS; i++) {
        owner_fini(&f->owners[i]);
    }
    ask_ring_free(f->ring);
    loop_free(f->loop);
}

static unsigned n_questions(const struct fixture *f)
{
    unsigned n = 0;

    for (size_t i = 0; i < N_PORTS; i++) {
        n += f->owners[i].n_questions;
    }
    return n;
}

static void run_until_asked(struct fixture *f, unsigned n)
{
    uint64_t end_us = clock_monotonic_us() + PATIENCE_MS * UINT64_C(1000);

    while (n_questions(f) < n) {
        loop_run_for(f->loop, 5);
        assert_true(clock_monotonic_us() < end_us);
    }
}

static void run_until_answered(struct fixture *f, const struct question *q, unsigned n)
{
    uint64_t end_us = clock_monotonic_us() + PATIENCE_MS * UINT64_C(1000);

    while (q->n_answers < n) {
        loop_run_for(f->loop, 5);
        assert_true(clock_monotonic_us() < end_us);
    }
}

/* All that is on its way arrives. */
static void run_a_while(struct fixture *f)
{
    for (int i = 0; i < 5; i++) {
        loop_run_for(f->loop, 5);
    }
}

/* The one port that has been asked something since all were at zero. */
static size_t the_one_asked(const struct fixture *f)
{
    size_t asked = N_PORTS;

    for (size_t i = 0; i < N_PORTS; i++) {
        if (f->owners[i].n_questions > 0) {
            assert_int_equal(asked, N_PORTS);
            asked = i;
        }
    }
    assert_in_range(asked, 0, N_PORTS - 1);
    return asked;
}

static void a_name_has_the_same_owner_for_every_asker(void **state)
{
    size_t n_names[N_PORTS] = {0};
    struct question q;
    struct fixture f;
    char name[NAME_SIZE];

    (void)state;
    fixture_init(&f);
    question_init(&q);
    for (unsigned i = 0; i < N_NAMES; i++) {
        snprintf(name, sizeof name, "server%u.example", i);
        for (size_t from = 0; from < N_PORTS; from++) {
            f.owners[from].n_questions = 0;
        }
        for (size_t from = 0; from < N_PORTS; from++) {
            start(&q, &f.owners[from], name, span_str(name));
            run_until_answered(&f, &q, i * N_PORTS + (unsigned)from + 1);
        }
        size_t owner = the_one_asked(&f);
        assert_int_equal(f.owners[owner].n_questions, N_PORTS);
        assert_int_equal(q.answer.data[q.answer.size - 1], f.owners[owner].index);
        n_names[owner]++;
    }
    for (size_t i = 0; i < N_PORTS; i++) {
        assert_in_range(n_names[i], N_NAMES / N_PORTS / 2, N_NAMES / N_PORTS * 2);
    }
    question_fini(&q);
    fixture_fini(&f);
}

static void questions_and_answers_of_any_size_arrive_as_they_were(void **state)
{
    static const size_t sizes[] = {0, 1, LONG_SIZE};
    char *bytes = malloc(LONG_SIZE);
    struct question q;
    struct fixture f;

    (void)state;
    CHECK(bytes != NULL);
    fixture_init(&f);
    question_init(&q);
    for (unsigned i = 0; i < 3; i++) {
        memset(bytes, 'a' + (int)i, LONG_SIZE);
        start(&q, &f.owners[0], "name", span_of(bytes, sizes[i]));
        memset(bytes, '#', LONG_SIZE); /* copied */
        run_until_answered(&f, &q, i + 1);
        assert_int_equal(q.answer.size, sizes[i] + 1);
        for (size_t k = 0; k < sizes[i]; k++) {
            assert_int_equal(q.answer.data[k], 'a' + (int)i);
        }
    }
    question_fini(&q);
    fixture_fini(&f);
    free(bytes);
}

static void questions_may_be_answered_later_and_in_any_order(void **state)
{
    enum { N = 4 };
    struct question q[N];
    struct fixture f;

    (void)state;
    fixture_init(&f);
    for (size_t i = 0; i < N_PORTS; i++) {
        f.owners[i].answers_at_once = false;
    }
    for (int i = 0; i < N; i++) {
        question_init(&q[i]);
        start(&q[i], &f.owners[i % N_PORTS], "name", SPAN_LIT("?"));
    }
    run_until_asked(&f, N);
    struct owner *owner = &f.owners[the_one_asked(&f)];
    for (int i = N - 1; i >= 0; i--) {
        char text = (char)('A' + i);
        ask_answer(owner->port, owner->held[i], span_of(&text, 1));
        assert_int_equal(q[i].n_answers, 0); /* nothing from inside */
    }
    for (int i = 0; i < N; i++) {
        run_until_answered(&f, &q[i], 1);
        assert_int_equal(q[i].answer.size, 1);
        assert_int_equal(q[i].answer.data[0], 'A' + i);
    }
    run_a_while(&f);
    for (int i = 0; i < N; i++) {
        assert_int_equal(q[i].n_answers, 1);
        question_fini(&q[i]);
    }
    fixture_fini(&f);
}

/* The answer finds that the asker and its memory are gone. */
static void an_answer_to_a_cancelled_question_is_dropped(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    for (int i = 0; i < 2; i++) {
        struct question *q = malloc(sizeof *q);
        CHECK(q != NULL);
        question_init(q);
        for (size_t k = 0; k < N_PORTS; k++) {
            f.owners[k].answers_at_once = i == 0;
            f.owners[k].n_questions = 0;
        }
        start(q, &f.owners[1], "name", SPAN_LIT("?"));
        if (i == 1) {
            run_until_asked(&f, 1);
        }
        ask_cancel(f.owners[1].port, &q->ask);
        assert_int_equal(q->ask.id, 0);
        ask_cancel(f.owners[1].port, &q->ask); /* is not on its way any more */
        assert_int_equal(q->n_answers, 0);
        question_fini(q);
        free(q);
        run_until_asked(&f, 1);
        if (i == 1) {
            struct owner *owner = &f.owners[the_one_asked(&f)];
            answer(owner, owner->held[0]);
        }
        run_a_while(&f);
    }
    fixture_fini(&f);
}

static void a_question_asked_again_gets_no_answer_to_the_one_before(void **state)
{
    struct question q;
    struct fixture f;

    (void)state;
    fixture_init(&f);
    question_init(&q);
    for (size_t i = 0; i < N_PORTS; i++) {
        f.owners[i].answers_at_once = false;
    }
    start(&q, &f.owners[0], "name", SPAN_LIT("1"));
    ask_cancel(f.owners[0].port, &q.ask);
    start(&q, &f.owners[0], "name", SPAN_LIT("2"));
    run_until_asked(&f, 2);
    struct owner *owner = &f.owners[the_one_asked(&f)];
    ask_answer(owner->port, owner->held[0], SPAN_LIT("old"));
    run_a_while(&f);
    assert_int_equal(q.n_answers, 0);
    ask_answer(owner->port, owner->held[1], SPAN_LIT("new"));
    run_until_answered(&f, &q, 1);
    assert_true(span_equal(writer_span(&q.answer), SPAN_LIT("new")));
    question_fini(&q);
    fixture_fini(&f);
}

/* Also when it comes twice, which it should not. */
static void an_answered_question_is_forgotten(void **state)
{
    struct question q;
    struct fixture f;

    (void)state;
    fixture_init(&f);
    question_init(&q);
    for (size_t i = 0; i < N_PORTS; i++) {
        f.owners[i].answers_at_once = false;
    }
    start(&q, &f.owners[2], "name", SPAN_LIT("?"));
    run_until_asked(&f, 1);
    struct owner *owner = &f.owners[the_one_asked(&f)];
    ask_answer(owner->port, owner->held[0], SPAN_LIT("first"));
    run_until_answered(&f, &q, 1);
    ask_cancel(f.owners[2].port, &q.ask); /* is not on its way any more */
    ask_answer(owner->port, owner->held[0], SPAN_LIT("second"));
    run_a_while(&f);
    assert_int_equal(q.n_answers, 1);
    question_fini(&q);
    fixture_fini(&f);
}

static void what_is_not_read_or_not_answered_goes_with_the_ports(void **state)
{
    struct question held;
    struct question unread;
    struct question answered;
    struct fixture f;

    (void)state;
    fixture_init(&f);
    question_init(&held);
    question_init(&unread);
    question_init(&answered);
    for (size_t i = 0; i < N_PORTS; i++) {
        f.owners[i].answers_at_once = false;
    }
    start(&held, &f.owners[0], "name", SPAN_LIT("?"));
    start(&answered, &f.owners[1], "name", SPAN_LIT("?"));
    run_until_asked(&f, 2);
    struct owner *owner = &f.owners[the_one_asked(&f)];
    ask_answer(owner->port, owner->held[1], SPAN_LIT("never read"));
    for (unsigned i = 0; i < N_PORTS; i++) {
        start(&unread, &f.owners[i], "name", SPAN_LIT("never read either"));
    }
    for (size_t i = 0; i < N_PORTS; i++) {
        ask_port_free(f.owners[i].port);
        f.owners[i].port = NULL; /* may be freed too */
    }
    assert_int_equal(n_questions(&f), 2);
    assert_int_equal(held.n_answers + unread.n_answers + answered.n_answers, 0);
    fixture_fini(&f);
    question_fini(&held);
    question_fini(&unread);
    question_fini(&answered);
}

enum {
    N_THREADS = 2,
    N_ASKS = 1000, /* of each thread */
    N_AT_ONCE = 4,
};

struct thread;

struct slot {
    struct ask ask;
    struct thread *thread;
    unsigned number; /* the question's text */
};

/* Asks the other, and answers it: some at once, some later. */
struct thread {
    pthread_t id;
    struct loop *loop;
    struct ask_port *port;
    const char *name; /* the other owns it */
    struct slot slots[N_AT_ONCE];
    unsigned n_asked, n_answered, n_questions;
    struct {
        struct asker asker;
        unsigned number;
    } held[N_AT_ONCE];
    size_t n_held;
    atomic_uint *n_done;
    bool is_late;
};

static void on_slot_answer(void *arg, struct span text);

static void ask_next(struct slot *slot)
{
    struct thread *t = slot->thread;

    if (t->n_asked < N_ASKS) {
        slot->number = t->n_asked++;
        ask_start(t->port, &slot->ask, span_str(t->name),
                  span_of(&slot->number, sizeof slot->number), on_slot_answer, slot);
    }
}

static void on_slot_answer(void *arg, struct span text)
{
    struct slot *slot = arg;
    struct thread *t = slot->thread;
    unsigned number;

    CHECK(text.size == sizeof number && pthread_equal(t->id, pthread_self()));
    memcpy(&number, text.data, sizeof number);
    CHECK(number == slot->number + N_ASKS);
    if (++t->n_answered == N_ASKS) {
        atomic_fetch_add(t->n_done, 1);
    }
    ask_next(slot);
}

static void answer_number(struct thread *t, struct asker asker, unsigned number)
{
    number += N_ASKS;
    ask_answer(t->port, asker, span_of(&number, sizeof number));
}

static void on_thread_question(void *arg, struct asker asker, struct span question)
{
    struct thread *t = arg;
    unsigned number;

    CHECK(question.size == sizeof number && pthread_equal(t->id, pthread_self()));
    memcpy(&number, question.data, sizeof number);
    t->n_questions++;
    if (number % 3 == 0) {
        CHECK(t->n_held < N_AT_ONCE);
        t->held[t->n_held].asker = asker;
        t->held[t->n_held++].number = number;
    } else {
        answer_number(t, asker, number);
    }
}

static void *run_thread(void *arg)
{
    struct thread *t = arg;
    uint64_t end_us = clock_monotonic_us() + PATIENCE_MS * UINT64_C(1000);

    t->id = pthread_self();
    for (size_t i = 0; i < N_AT_ONCE; i++) {
        t->slots[i].thread = t;
        ask_next(&t->slots[i]);
    }
    while (atomic_load(t->n_done) < N_THREADS && !t->is_late) {
        loop_run_for(t->loop, 2);
        while (t->n_held > 0) {
            t->n_held--;
            answer_number(t, t->held[t->n_held].asker, t->held[t->n_held].number);
        }
        t->is_late = clock_monotonic_us() > end_us;
    }
    return NULL;
}

/* The first name of that port. */
static void find_name(char name[NAME_SIZE], size_t port)
{
    struct question q;
    struct loop *loop;
    struct owner owners[N_THREADS];
    struct ask_ring *ring = ask_ring_new(N_THREADS);

    assert_int_equal(loop_new(&loop), ERR_OK);
    question_init(&q);
    for (size_t i = 0; i < N_THREADS; i++) {
        owner_init(&owners[i], ring, i, loop);
    }
    for (unsigned i = 0; owners[port].n_questions == 0 && i < N_NAMES; i++) {
        snprintf(name, NAME_SIZE, "server%u.example", i);
        start(&q, &owners[0], name, SPAN_LIT("?"));
        for (int k = 0; k < PATIENCE_MS && q.n_answers == i; k++) {
            loop_run_for(loop, 1);
        }
    }
    assert_int_equal(owners[port].n_questions, 1);
    for (size_t i = 0; i < N_THREADS; i++) {
        owner_fini(&owners[i]);
    }
    question_fini(&q);
    ask_ring_free(ring);
    loop_free(loop);
}

static void threads_ask_each_other(void **state)
{
    struct ask_ring *ring = ask_ring_new(N_THREADS);
    struct thread threads[N_THREADS] = {0};
    char names[N_THREADS][NAME_SIZE];
    pthread_t ids[N_THREADS];
    atomic_uint n_done = 0;

    (void)state;
    for (size_t i = 0; i < N_THREADS; i++) {
        find_name(names[i], 1 - i);
        threads[i].name = names[i];
        threads[i].n_done = &n_done;
        assert_int_equal(loop_new(&threads[i].loop), ERR_OK);
        assert_int_equal(ask_port_new(&threads[i].port, ring, i, threads[i].loop,
                                      on_thread_question, &threads[i]),
                         ERR_OK);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_create(&ids[i], NULL, run_thread, &threads[i]), 0);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_join(ids[i], NULL), 0);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        assert_int_equal(threads[i].n_answered, N_ASKS);
        assert_int_equal(threads[i].n_questions, N_ASKS);
        ask_port_free(threads[i].port);
        loop_free(threads[i].loop);
    }
    ask_ring_free(ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_has_the_same_owner_for_every_asker),
        cmocka_unit_test(questions_and_answers_of_any_size_arrive_as_they_were),
        cmocka_unit_test(questions_may_be_answered_later_and_in_any_order),
        cmocka_unit_test(an_answer_to_a_cancelled_question_is_dropped),
        cmocka_unit_test(a_question_asked_again_gets_no_answer_to_the_one_before),
        cmocka_unit_test(an_answered_question_is_forgotten),
        cmocka_unit_test(what_is_not_read_or_not_answered_goes_with_the_ports),
        cmocka_unit_test(threads_ask_each_other),
    };

    return cmocka_run_group_tests_name("ask", tests, NULL, NULL);
}
