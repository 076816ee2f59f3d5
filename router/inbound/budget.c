#include "inbound/budget.h"

#include "base/clock.h"
#include "base/table.h"
#include "proto/check.h"

#include <stdlib.h>
#include <string.h>

enum {
    CLASS_SMALL,
    CLASS_LARGE,
    CLASS_COUNT,
    ADDRESS_SIZE = 16,    /* bytes of a key */
    IPV6_CLIENT_SIZE = 8, /* bytes: a /64 is one client's */
};

/* Whoever bytes are charged to, for as long as a request is open that may be. */
struct budget_account {
    struct table *table;
    size_t n_holds;
    uint64_t held;
    size_t key_size;
    char key[];
};

struct budgets {
    struct loop *loop;
    struct metrics *metrics;
    struct budget_limits limits;
    uint64_t held, peak;
    uint64_t held_by_large;
    uint64_t parsing;
    struct table accounts[BUDGET_COUNT]; /* BUDGET_PROCESS's is empty */
    struct list waiting[CLASS_COUNT];    /* oldest first */
    bool is_full[CLASS_COUNT];           /* one waits for the process: newcomers go behind it */
    struct loop_task task;               /* something was given back */
};

static uint64_t at_least(uint64_t value, uint64_t min)
{
    return value > min ? value : min;
}

struct budget_limits budget_limits_for(uint64_t request_bytes, size_t n_threads, size_t n_servers)
{
    uint64_t process = at_least(request_bytes / n_threads, BUDGET_PROCESS_MIN);

    return (struct budget_limits){
        .process = process,
        .large = process - process / 8,
        .address = at_least(process / 8, BUDGET_ONE_REQUEST),
        .origin = at_least(process / 4, BUDGET_ONE_REQUEST),
        .server_min = BUDGET_ONE_REQUEST,
        .shares_servers = n_servers > 1,
        .parse = at_least(BUDGET_PARSE_ALL / n_threads, BODY_MAX),
    };
}

static void on_given_back(struct loop_task *task);

struct budgets *budgets_new(struct loop *loop, struct metrics *metrics,
                            const struct budget_limits *limits)
{
    struct budgets *budgets = calloc(1, sizeof *budgets);

    CHECK(budgets != NULL);
    budgets->loop = loop;
    budgets->metrics = metrics;
    budgets->limits = *limits;
    budgets->task.run = on_given_back;
    for (size_t i = 0; i < BUDGET_COUNT; i++) {
        table_init(&budgets->accounts[i]);
    }
    for (size_t i = 0; i < CLASS_COUNT; i++) {
        list_init(&budgets->waiting[i]);
    }
    return budgets;
}

/* Whoever waits may fit now. */
static void look_again(struct budgets *budgets)
{
    if (!list_is_empty(&budgets->waiting[CLASS_SMALL]) ||
        !list_is_empty(&budgets->waiting[CLASS_LARGE])) {
        loop_defer(budgets->loop, &budgets->task);
    }
}

void budgets_set(struct budgets *budgets, const struct budget_limits *limits)
{
    budgets->limits = *limits;
    look_again(budgets);
}

void budgets_free(struct budgets *budgets)
{
    if (budgets == NULL) {
        return;
    }
    CHECK(budgets->held == 0 && budgets->parsing == 0);
    loop_task_cancel(&budgets->task);
    for (size_t i = 0; i < BUDGET_COUNT; i++) {
        CHECK(budgets->accounts[i].n == 0);
        table_fini(&budgets->accounts[i]);
    }
    free(budgets);
}

uint64_t budgets_held(const struct budgets *budgets)
{
    return budgets->held;
}

uint64_t budgets_take_peak(struct budgets *budgets)
{
    uint64_t peak = budgets->peak;

    budgets->peak = budgets->held;
    return peak;
}

static struct budget_account *account_ref(struct budgets *budgets, enum budget kind,
                                          struct span key)
{
    struct table *table = &budgets->accounts[kind];
    struct budget_account *account = table_get(table, key);

    if (account == NULL) {
        account = malloc(sizeof *account + key.size);
        CHECK(account != NULL);
        *account = (struct budget_account){.table = table, .key_size = key.size};
        memcpy(account->key, key.data, key.size);
        table_put(table, key, account);
    }
    account->n_holds++;
    return account;
}

static void account_unref(struct budget_account *account)
{
    if (account != NULL && --account->n_holds == 0) {
        CHECK(account->held == 0);
        table_remove(account->table, span_of(account->key, account->key_size));
        free(account);
    }
}

static struct budget_account *account_of_address(struct budgets *budgets,
                                                 const struct in6_addr *address)
{
    char key[ADDRESS_SIZE] = {0};

    memcpy(key, address->s6_addr, IN6_IS_ADDR_V4MAPPED(address) ? ADDRESS_SIZE : IPV6_CLIENT_SIZE);
    return account_ref(budgets, BUDGET_ADDRESS, span_of(key, sizeof key));
}

static void on_waited(void *arg)
{
    struct budget_hold *hold = arg;

    list_remove(&hold->link);
    look_again(hold->budgets); /* others may stand behind it */
    hold->ops->on_refused(hold->arg, hold->blocked_by);
}

void budget_open(struct budget_hold *hold, struct budgets *budgets,
                 const struct budget_parties *parties, const struct budget_ops *ops, void *arg)
{
    *hold = (struct budget_hold){
        .budgets = budgets, .ops = ops, .arg = arg, .is_large = parties->is_large};
    if (parties->address != NULL) {
        hold->accounts[BUDGET_ADDRESS] = account_of_address(budgets, parties->address);
    }
    hold->accounts[BUDGET_SERVER] = account_ref(budgets, BUDGET_SERVER, parties->server);
    timer_init(&hold->timer, budgets->loop, on_waited, hold);
}

static void show(const struct budgets *budgets)
{
    metrics_gauge_set(budgets->metrics, GAUGE_queue_bytes, (int64_t)budgets->held);
}

static void take(struct budget_hold *hold, uint64_t n)
{
    struct budgets *budgets = hold->budgets;

    hold->held += n;
    budgets->held += n;
    budgets->held_by_large += hold->is_large ? n : 0;
    budgets->peak = at_least(budgets->held, budgets->peak);
    for (size_t i = 0; i < BUDGET_COUNT; i++) {
        if (hold->accounts[i] != NULL) {
            hold->accounts[i]->held += n;
        }
    }
    show(budgets);
}

void budget_release(struct budget_hold *hold, uint64_t n)
{
    CHECK(n <= hold->held);
    hold->held -= n;
    hold->budgets->held -= n;
    hold->budgets->held_by_large -= hold->is_large ? n : 0;
    for (size_t i = 0; i < BUDGET_COUNT; i++) {
        if (hold->accounts[i] != NULL) {
            hold->accounts[i]->held -= n;
        }
    }
    show(hold->budgets);
    look_again(hold->budgets);
}

void budget_close(struct budget_hold *hold)
{
    if (hold->budgets == NULL) {
        return;
    }
    list_remove(&hold->link);
    budget_release(hold, hold->held);
    for (size_t i = 0; i < BUDGET_COUNT; i++) {
        account_unref(hold->accounts[i]);
    }
    account_unref(hold->next_origin);
    timer_fini(&hold->timer);
    *hold = (struct budget_hold){0};
}

static bool fits(const struct budget_account *account, uint64_t n, uint64_t limit)
{
    return account == NULL || account->held + n <= limit;
}

/* What one hosted server may hold: as much as it leaves free, so that there is always room for one
 * more. One alone may have half, two a third each. Source: dynamic queue thresholds of shared
 * memory switches (Choudhury and Hahne 1998), with alpha = 1. */
static uint64_t server_limit(const struct budgets *budgets, uint64_t limit, uint64_t n)
{
    uint64_t held = budgets->held + n;

    if (!budgets->limits.shares_servers) {
        return UINT64_MAX;
    }
    return at_least(held < limit ? limit - held : 0, budgets->limits.server_min);
}

/* Sets blocked_by if not. */
static bool has_room(struct budget_hold *hold)
{
    const struct budgets *budgets = hold->budgets;
    const struct budget_limits *limits = &budgets->limits;
    uint64_t limit = hold->is_large ? limits->large : limits->process;
    uint64_t n = hold->wants;

    if (hold->next_origin != NULL) {
        hold->blocked_by = BUDGET_ORIGIN;
        return fits(hold->next_origin, hold->held, limits->origin);
    }
    if (budgets->held + n > limit) {
        hold->blocked_by = BUDGET_PROCESS;
    } else if (!fits(hold->accounts[BUDGET_ADDRESS], n, limits->address)) {
        hold->blocked_by = BUDGET_ADDRESS;
    } else if (!fits(hold->accounts[BUDGET_SERVER], n, server_limit(budgets, limit, n))) {
        hold->blocked_by = BUDGET_SERVER;
    } else if (!fits(hold->accounts[BUDGET_ORIGIN], n, limits->origin)) {
        hold->blocked_by = BUDGET_ORIGIN;
    } else {
        return true;
    }
    return false;
}

static void move(struct budget_hold *hold)
{
    struct budget_account *address = TAKE(hold->accounts[BUDGET_ADDRESS]);

    if (address != NULL) {
        address->held -= hold->held;
        account_unref(address);
        look_again(hold->budgets);
    }
    hold->accounts[BUDGET_ORIGIN] = TAKE(hold->next_origin);
    hold->accounts[BUDGET_ORIGIN]->held += hold->held;
}

static void take_wanted(struct budget_hold *hold)
{
    take(hold, hold->wants);
    hold->wants = 0;
    if (hold->next_origin != NULL) {
        move(hold);
    }
}

static void wait_begins(struct budget_hold *hold)
{
    struct budgets *budgets = hold->budgets;
    size_t class = hold->is_large ? CLASS_LARGE : CLASS_SMALL;
    uint64_t waited_ms = hold->waited_us / 1000;

    list_append(&budgets->waiting[class], &hold->link);
    if (hold->blocked_by == BUDGET_PROCESS) {
        budgets->is_full[class] = true;
    }
    hold->waits_since_us = clock_monotonic_us();
    timer_start(&hold->timer, waited_ms < BUDGET_WAIT_MS ? BUDGET_WAIT_MS - waited_ms : 0);
    metrics_add_by(budgets->metrics, COUNTER_BY_budget_waits_total, hold->blocked_by, 1);
}

/* Takes it from those that wait. */
static void wait_ends(struct budget_hold *hold)
{
    list_remove(&hold->link);
    timer_stop(&hold->timer);
    hold->waited_us += clock_monotonic_us() - hold->waits_since_us;
}

static bool is_full(const struct budgets *budgets, size_t class)
{
    return budgets->is_full[class] && !list_is_empty(&budgets->waiting[class]);
}

static bool goes_behind_others(const struct budget_hold *hold)
{
    return is_full(hold->budgets, CLASS_SMALL) ||
           (hold->is_large && is_full(hold->budgets, CLASS_LARGE));
}

bool budget_charge(struct budget_hold *hold, uint64_t n)
{
    CHECK(!budget_is_waiting(hold) && hold->wants == 0);
    hold->wants = n;
    if (goes_behind_others(hold)) {
        hold->blocked_by = BUDGET_PROCESS;
    } else if (has_room(hold)) {
        take_wanted(hold);
        return true;
    }
    wait_begins(hold);
    return false;
}

bool budget_is_waiting(const struct budget_hold *hold)
{
    return link_is_linked(&hold->link);
}

bool budget_charge_now(struct budget_hold *hold, uint64_t n)
{
    const struct budgets *budgets = hold->budgets;
    const struct budget_limits *limits = &budgets->limits;
    uint64_t for_small = limits->process - limits->large;

    take(hold, n);
    hold->wants -= n < hold->wants ? n : hold->wants;
    if (hold->is_large && budgets->held_by_large > limits->large + for_small / 2) {
        return false;
    }
    return budgets->held <= limits->process + limits->process / 8;
}

bool budget_move_to_origin(struct budget_hold *hold, struct span origin)
{
    CHECK(!budget_is_waiting(hold) && hold->accounts[BUDGET_ORIGIN] == NULL);
    hold->next_origin = account_ref(hold->budgets, BUDGET_ORIGIN, origin);
    if (has_room(hold)) {
        take_wanted(hold);
        return true;
    }
    wait_begins(hold);
    return false;
}

/* Charges, in their order, those that fit now. Whoever waits for an account of its own holds up
 * nobody else; whoever waits for the process does. */
static void charge_class(struct budgets *budgets, size_t class, struct list *charged)
{
    struct list *waiting = &budgets->waiting[class];
    struct link *next;

    for (struct link *link = list_first(waiting); link != NULL; link = next) {
        struct budget_hold *hold = LIST_ENTRY(link, struct budget_hold, link);
        next = list_next(waiting, link);
        if (goes_behind_others(hold)) {
            return;
        }
        if (has_room(hold)) {
            take_wanted(hold);
            wait_ends(hold);
            list_append(charged, link);
        } else if (hold->blocked_by == BUDGET_PROCESS) {
            budgets->is_full[class] = true;
        }
    }
}

static void on_given_back(struct loop_task *task)
{
    struct budgets *budgets = LIST_ENTRY(task, struct budgets, task);
    struct list charged;
    struct link *link;

    list_init(&charged);
    memset(budgets->is_full, 0, sizeof budgets->is_full);
    charge_class(budgets, CLASS_SMALL, &charged);
    charge_class(budgets, CLASS_LARGE, &charged);
    while ((link = list_take_first(&charged)) != NULL) {
        struct budget_hold *hold = LIST_ENTRY(link, struct budget_hold, link);
        hold->ops->on_charged(hold->arg);
    }
}

bool budget_parse_begin(struct budgets *budgets, uint64_t n)
{
    if (budgets->parsing + n > budgets->limits.parse) {
        return false;
    }
    budgets->parsing += n;
    return true;
}

void budget_parse_end(struct budgets *budgets, uint64_t n)
{
    CHECK(n <= budgets->parsing);
    budgets->parsing -= n;
}
