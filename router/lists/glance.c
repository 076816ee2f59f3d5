#include "lists/glance.h"

#include "base/random.h"
#include "proto/check.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <xxhash.h>

enum {
    GROUPS = 65536, /* so many that a busy list seldom spoils others' */
    SET_SIZE = 2,
    SETS = GLANCES_MAX / SET_SIZE,
};

struct list_marks {
    uint64_t seed; /* random, so that nobody can choose names that fall together */
    atomic_uint_least64_t counts[GROUPS];
};

struct glance_entry {
    struct list_glance glance;
    uint64_t mark;
    uint16_t server_size, user_size;
    char names[]; /* server and user */
};

/* Each list belongs into one set, which keeps the last ones that were put there, newest first. */
struct glances {
    struct list_marks *marks;
    struct glance_entry *sets[SETS][SET_SIZE];
};

struct list_marks *list_marks_new(void)
{
    struct list_marks *marks = calloc(1, sizeof *marks);

    CHECK(marks != NULL);
    random_bytes(&marks->seed, sizeof marks->seed);
    return marks;
}

void list_marks_free(struct list_marks *marks)
{
    free(marks);
}

static uint64_t hash_of(const struct list_marks *marks, struct span server, struct span user_id)
{
    uint64_t of_server = XXH3_64bits_withSeed(server.data, server.size, marks->seed);

    return XXH3_64bits_withSeed(user_id.data, user_id.size, of_server);
}

void list_marks_changed(struct list_marks *marks, struct span server, struct span user_id)
{
    atomic_fetch_add(&marks->counts[hash_of(marks, server, user_id) % GROUPS], 1);
}

static uint64_t mark_at(const struct list_marks *marks, uint64_t hash)
{
    return atomic_load(&marks->counts[hash % GROUPS]);
}

struct glances *glances_new(struct list_marks *marks)
{
    struct glances *glances = calloc(1, sizeof *glances);

    CHECK(glances != NULL);
    glances->marks = marks;
    return glances;
}

void glances_free(struct glances *glances)
{
    for (size_t i = 0; glances != NULL && i < GLANCES_MAX; i++) {
        free(glances->sets[i / SET_SIZE][i % SET_SIZE]);
    }
    free(glances);
}

static bool is_of(const struct glance_entry *entry, struct span server, struct span user_id)
{
    return span_equal(span_of(entry->names, entry->server_size), server) &&
           span_equal(span_of(entry->names + entry->server_size, entry->user_size), user_id);
}

/* Its place in the set, SET_SIZE if it is not there. */
static size_t find(struct glance_entry *const *set, struct span server, struct span user_id)
{
    size_t at = 0;

    while (at < SET_SIZE && (set[at] == NULL || !is_of(set[at], server, user_id))) {
        at++;
    }
    return at;
}

bool glances_get(struct list_glance *out, const struct glances *glances, struct span server,
                 struct span user_id)
{
    uint64_t hash = hash_of(glances->marks, server, user_id);
    struct glance_entry *const *set = glances->sets[hash % SETS];
    size_t at = find(set, server, user_id);

    if (at == SET_SIZE || set[at]->mark != mark_at(glances->marks, hash)) {
        return false;
    }
    *out = set[at]->glance;
    return true;
}

uint64_t glances_mark(const struct glances *glances, struct span server, struct span user_id)
{
    return mark_at(glances->marks, hash_of(glances->marks, server, user_id));
}

static struct glance_entry *entry_new(struct span server, struct span user_id)
{
    struct glance_entry *entry = malloc(sizeof *entry + server.size + user_id.size);

    CHECK(entry != NULL);
    entry->server_size = (uint16_t)server.size;
    entry->user_size = (uint16_t)user_id.size;
    memcpy(entry->names, server.data, server.size);
    memcpy(entry->names + server.size, user_id.data, user_id.size);
    return entry;
}

/* A new entry at the front of the set, in place of its last. */
static void push(struct glance_entry **set, struct glance_entry *entry)
{
    free(set[SET_SIZE - 1]);
    memmove(set + 1, set, (SET_SIZE - 1) * sizeof *set);
    set[0] = entry;
}

void glances_put(struct glances *glances, const struct device_list *list, uint64_t mark)
{
    uint64_t hash = hash_of(glances->marks, list->server, list->user_id);
    struct glance_entry **set = glances->sets[hash % SETS];

    if (list->server.size > UINT16_MAX || list->user_id.size > UINT16_MAX) {
        return;
    }
    size_t at = find(set, list->server, list->user_id);
    if (at == SET_SIZE) {
        at = 0;
        push(set, entry_new(list->server, list->user_id));
    }
    set[at]->glance = (struct list_glance){
        .current = list->current, .read_started_ms = list->read_started_ms, .pushed = list->pushed};
    set[at]->mark = mark;
}
