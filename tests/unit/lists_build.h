/* Device lists and updates for tests: a list is told apart by the one device it has. */
#pragma once

#include "lists/device_list.h"
#include "proto/check.h"

#define LISTS_SERVER SPAN_LIT("a.example")
#define LISTS_USER   SPAN_LIT("@alice:a.example")

/* A read that saw the list with this one device at this position. */
static inline struct list_update update_of(struct arena *arena, const char *device,
                                           int64_t position, int64_t started_ms)
{
    struct device_entry *entry = arena_calloc(arena, 1, sizeof *entry);
    struct list_update update;

    CHECK(entry != NULL);
    entry->device_id = span_str(device);
    entry->counts = true;
    struct device_list_answer answer = {.user_id = LISTS_USER,
                                        .has_stream_id = position >= 0,
                                        .stream_id = position,
                                        .devices = entry,
                                        .n_devices = 1};
    CHECK(list_update_from_answer(&update, arena, &answer));
    update.server = LISTS_SERVER;
    update.source = LIST_SOURCE_READ;
    update.started_ms = started_ms;
    update.finished_ms = started_ms + 5;
    return update;
}

static inline struct dlh hash_of(const char *device)
{
    struct arena arena;

    arena_init(&arena, 1 << 16);
    struct dlh hash = update_of(&arena, device, 1, 0).hash;
    arena_fini(&arena);
    return hash;
}
