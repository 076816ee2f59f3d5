#include "inbound/gate.h"

#include "base/table.h"
#include "proto/check.h"

#include <stdlib.h>

/* There is one only while the upstream is away. */
struct gate {
    struct gates *gates;
    const struct http_pool *pool;
    struct list small, large;
    struct timer timer;
    uint32_t n_next; /* requests of the next step; 0: probing */
};

struct gates {
    struct loop *loop;
    struct table table; /* by pool */
    size_t n_waiting;
};

static struct span key_of(const struct http_pool *const *pool)
{
    return span_of(pool, sizeof *pool);
}

struct gates *gates_new(struct loop *loop)
{
    struct gates *gates = calloc(1, sizeof *gates);

    CHECK(gates != NULL);
    gates->loop = loop;
    table_init(&gates->table);
    return gates;
}

static bool is_empty(const struct gate *gate)
{
    return list_is_empty(&gate->small) && list_is_empty(&gate->large);
}

static void gate_free(struct gate *gate)
{
    table_remove(&gate->gates->table, key_of(&gate->pool));
    timer_fini(&gate->timer);
    free(gate);
}

void gates_free(struct gates *gates)
{
    struct gate *gate;

    if (gates == NULL) {
        return;
    }
    CHECK(gates->n_waiting == 0);
    struct table_iter iter = table_iterate(&gates->table);
    while ((gate = table_next(&iter, NULL)) != NULL) {
        gate_free(gate);
    }
    table_fini(&gates->table);
    free(gates);
}

bool gates_are_open(const struct gates *gates, const struct http_pool *pool)
{
    return gates->table.n == 0 || table_get(&gates->table, key_of(&pool)) == NULL;
}

/* The callback may enter again, or free anything but the gate. */
static void let_one_through(struct gate *gate)
{
    struct link *first = list_first(&gate->small);

    if (first == NULL) {
        first = list_first(&gate->large);
    }
    CHECK(first != NULL);
    struct gate_wait *wait = LIST_ENTRY(first, struct gate_wait, link);
    gate_leave(wait);
    wait->on_go(wait->arg);
}

static void on_timer(void *arg)
{
    struct gate *gate = arg;
    uint32_t n = gate->n_next > 0 ? gate->n_next : 1;

    if (gate->n_next > 0 && gate->n_next <= UINT32_MAX / 2) {
        gate->n_next *= 2;
    }
    for (; n > 0 && !is_empty(gate); n--) {
        let_one_through(gate);
    }
    if (is_empty(gate)) {
        gate_free(gate); /* who was let through and is refused makes a new one */
    } else {
        timer_start(&gate->timer, gate->n_next > 0 ? GATE_OPENING_MS : GATE_PROBE_MS);
    }
}

static struct gate *gate_new(struct gates *gates, const struct http_pool *pool)
{
    struct gate *gate = calloc(1, sizeof *gate);

    CHECK(gate != NULL);
    gate->gates = gates;
    gate->pool = pool;
    list_init(&gate->small);
    list_init(&gate->large);
    timer_init(&gate->timer, gates->loop, on_timer, gate);
    timer_start(&gate->timer, GATE_PROBE_MS);
    table_put(&gates->table, key_of(&pool), gate);
    return gate;
}

void gate_enter(struct gates *gates, struct gate_wait *wait, const struct http_pool *pool,
                size_t body_size, bool is_first)
{
    struct gate *gate = table_get(&gates->table, key_of(&pool));

    if (gate == NULL) {
        gate = gate_new(gates, pool);
    }
    wait->gate = gate;
    struct list *list = body_size <= GATE_SMALL ? &gate->small : &gate->large;
    if (is_first) {
        gate->n_next = 0; /* it was refused: probing again */
        list_prepend(list, &wait->link);
    } else {
        list_append(list, &wait->link);
    }
    gates->n_waiting++;
}

void gate_leave(struct gate_wait *wait)
{
    if (wait->gate != NULL) {
        list_remove(&wait->link);
        wait->gate->gates->n_waiting--;
        wait->gate = NULL;
    }
}

void gates_answered(struct gates *gates, const struct http_pool *pool)
{
    struct gate *gate = gates->table.n == 0 ? NULL : table_get(&gates->table, key_of(&pool));

    if (gate != NULL && gate->n_next == 0) {
        gate->n_next = 1;
        timer_start(&gate->timer, 0);
    }
}

size_t gates_n_waiting(const struct gates *gates)
{
    return gates->n_waiting;
}
