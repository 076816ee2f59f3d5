#include "inbound/key_attempts.h"

#include "proto/check.h"

#include <stdlib.h>

void key_attempts_init(struct key_attempts *attempts, size_t max, uint64_t lately_us)
{
    *attempts = (struct key_attempts){.max = max, .lately_us = lately_us};
    table_init(&attempts->by_server);
    list_init(&attempts->by_age);
}

struct span key_attempt_server(const struct key_attempt *attempt)
{
    return span_of(attempt->server, attempt->size);
}

static void forget(struct key_attempts *attempts, struct key_attempt *attempt)
{
    CHECK(!attempt->is_running);
    CHECK(table_remove(&attempts->by_server, key_attempt_server(attempt)) == attempt);
    list_remove(&attempt->by_age);
    free(attempt);
}

static void forget_old(struct key_attempts *attempts, uint64_t now_us)
{
    struct link *link;

    while ((link = list_first(&attempts->by_age)) != NULL) {
        struct key_attempt *oldest = LIST_ENTRY(link, struct key_attempt, by_age);
        if (oldest->is_running || now_us - oldest->began_us < attempts->lately_us) {
            return;
        }
        forget(attempts, oldest);
    }
}

void key_attempts_fini(struct key_attempts *attempts)
{
    struct link *link;

    while ((link = list_first(&attempts->by_age)) != NULL) {
        forget(attempts, LIST_ENTRY(link, struct key_attempt, by_age));
    }
    table_fini(&attempts->by_server);
}

struct key_attempt *key_attempts_find(struct key_attempts *attempts, struct span server,
                                      uint64_t now_us)
{
    forget_old(attempts, now_us);
    return table_get(&attempts->by_server, server);
}

struct key_attempt *key_attempts_begin(struct key_attempts *attempts, struct span server,
                                       uint64_t now_us)
{
    forget_old(attempts, now_us);
    if (attempts->by_server.n >= attempts->max) {
        return NULL;
    }
    struct key_attempt *attempt = calloc(1, sizeof *attempt + server.size);
    CHECK(attempt != NULL);
    attempt->began_us = now_us;
    attempt->is_running = true;
    attempt->size = server.size;
    memcpy(attempt->server, server.data, server.size);
    list_init(&attempt->waiting);
    list_append(&attempts->by_age, &attempt->by_age);
    CHECK(table_put(&attempts->by_server, server, attempt) == NULL);
    return attempt;
}
