#include "lists/device_list.h"

#include "proto/check.h"
#include "store/fields.h"

enum {
    RECORD_VERSION = 1,
    FLAG_PUSHED = 1,
    NAME_MAX_BYTES = 65535, /* lengths are 16 bits */
};

static void write_name(struct writer *w, struct span name)
{
    if (name.size > NAME_MAX_BYTES) {
        w->failed = true;
        return;
    }
    field_write_uint(w, name.size, 2);
    writer_bytes(w, name);
}

static void write_hash(struct writer *w, const struct dlh *hash)
{
    writer_bytes(w, span_of(hash->bytes, sizeof hash->bytes));
}

static void read_hash(struct dlh *out, struct field_reader *r)
{
    field_read_bytes(out->bytes, r, sizeof out->bytes);
}

static struct device_hash read_device(struct field_reader *r)
{
    struct device_hash device;

    device.device_id = field_read_span(r, field_read_uint(r, 2));
    device.hash.low = field_read_uint(r, 8);
    device.hash.high = field_read_uint(r, 8);
    return device;
}

bool device_list_next_device(struct device_hash *out, struct span *devices)
{
    struct field_reader r = {.left = *devices};

    if (devices->size == 0) {
        return false;
    }
    *out = read_device(&r);
    *devices = r.left;
    return !r.failed;
}

void device_list_encode(struct writer *out, const struct device_list *list)
{
    CHECK(list->n_history <= DEVICE_LIST_HISTORY_MAX);
    field_write_uint(out, RECORD_VERSION, 1);
    field_write_uint(out, list->pushed ? FLAG_PUSHED : 0, 1);
    write_name(out, list->server);
    write_name(out, list->user_id);
    write_hash(out, &list->current);
    field_write_i64(out, list->position);
    field_write_i64(out, list->first_position);
    field_write_i64(out, list->read_started_ms);
    field_write_i64(out, list->changed_ms);
    field_write_uint(out, list->n_history, 1);
    for (uint32_t i = 0; i < list->n_history; i++) {
        write_hash(out, &list->history[i].hash);
        field_write_i64(out, list->history[i].last_true);
        field_write_i64(out, list->history[i].first_replaced);
        field_write_i64(out, list->history[i].when_ms);
    }
    writer_bytes(out, list->devices);
}

static void read_history(struct device_list *out, struct field_reader *r)
{
    out->n_history = (uint32_t)field_read_uint(r, 1);
    if (out->n_history > DEVICE_LIST_HISTORY_MAX) {
        r->failed = true;
        out->n_history = 0;
    }
    for (uint32_t i = 0; i < out->n_history; i++) {
        struct past_list *past = &out->history[i];
        read_hash(&past->hash, r);
        past->last_true = field_read_i64(r);
        past->first_replaced = field_read_i64(r);
        past->when_ms = field_read_i64(r);
    }
}

/* The sum is not stored: it is that of the devices. */
static bool read_devices(struct device_list *out, struct field_reader *r)
{
    struct span devices = r->left;
    struct device_hash device;
    struct dlh hash;

    out->devices = devices;
    while (out->sum.n <= DLH_DEVICES_MAX && device_list_next_device(&device, &devices)) {
        dlh_sum_add(&out->sum, &device.hash);
    }
    return devices.size == 0 && dlh_finish(&hash, &out->sum, out->user_id) &&
           memcmp(&hash, &out->current, sizeof hash) == 0;
}

bool device_list_decode(struct device_list *out, struct span record)
{
    struct field_reader r = {.left = record};

    *out = (struct device_list){0};
    bool known = field_read_uint(&r, 1) == RECORD_VERSION;
    uint64_t flags = field_read_uint(&r, 1);
    out->pushed = flags == FLAG_PUSHED;
    out->server = field_read_span(&r, field_read_uint(&r, 2));
    out->user_id = field_read_span(&r, field_read_uint(&r, 2));
    read_hash(&out->current, &r);
    out->position = field_read_i64(&r);
    out->first_position = field_read_i64(&r);
    out->read_started_ms = field_read_i64(&r);
    out->changed_ms = field_read_i64(&r);
    read_history(out, &r);
    return known && flags <= FLAG_PUSHED && !r.failed && read_devices(out, &r);
}

bool list_update_from_answer(struct list_update *out, struct arena *arena,
                             const struct device_list_answer *answer)
{
    struct writer w;

    *out = (struct list_update){.user_id = answer->user_id, .position = DEVICE_LIST_NO_POSITION};
    if (answer->has_stream_id && answer->stream_id >= 0) {
        out->position = answer->stream_id;
    }
    if (!device_list_answer_hash(&out->hash, &out->sum, answer)) {
        return false;
    }
    writer_init(&w, DEVICE_LIST_RECORD_MAX);
    for (uint32_t i = 0; i < answer->n_devices; i++) {
        const struct device_entry *entry = &answer->devices[i];
        struct dlh_device hash;
        if (entry->counts &&
            dlh_device(&hash, entry->device_id, entry->curve25519, entry->ed25519)) {
            write_name(&w, entry->device_id);
            field_write_uint(&w, hash.low, 8);
            field_write_uint(&w, hash.high, 8);
        }
    }
    out->devices = w.failed ? (struct span){0} : arena_copy(arena, writer_span(&w));
    writer_fini(&w);
    return out->devices.data != NULL;
}

static bool has_position(int64_t position)
{
    return position != DEVICE_LIST_NO_POSITION;
}

/* True if the update says nothing newer than what is stored. Servers with a constant position are
 * told apart by when the read began. */
static bool is_outdated(const struct device_list *old, const struct list_update *update)
{
    if (update->source == LIST_SOURCE_PUSH) {
        return false;
    }
    if (old->pushed) {
        return true;
    }
    if (has_position(old->position) && has_position(update->position) &&
        old->position != update->position) {
        return update->position < old->position;
    }
    return update->started_ms < old->read_started_ms;
}

static void remember(struct device_list *next, const struct device_list *old,
                     const struct list_update *update)
{
    uint32_t n_kept =
        old->n_history < DEVICE_LIST_HISTORY_MAX ? old->n_history : DEVICE_LIST_HISTORY_MAX - 1;

    next->history[0] = (struct past_list){.hash = old->current,
                                          .last_true = old->position,
                                          .first_replaced = update->position,
                                          .when_ms = update->finished_ms};
    memcpy(&next->history[1], old->history, n_kept * sizeof old->history[0]);
    next->n_history = n_kept + 1;
}

static struct device_list first_list(const struct list_update *update)
{
    return (struct device_list){
        .server = update->server,
        .user_id = update->user_id,
        .current = update->hash,
        .sum = update->sum,
        .position = update->position,
        .first_position = update->position,
        .read_started_ms = update->started_ms,
        .changed_ms = update->finished_ms,
        .pushed = update->source == LIST_SOURCE_PUSH,
        .devices = update->devices,
    };
}

enum list_applied device_list_apply(struct device_list *next, const struct device_list *old,
                                    const struct list_update *update)
{
    if (old != NULL && is_outdated(old, update)) {
        *next = *old;
        return LIST_KEPT;
    }
    *next = first_list(update);
    if (old == NULL) {
        return LIST_STORED;
    }
    if (memcmp(&old->current, &update->hash, sizeof update->hash) != 0) {
        remember(next, old, update);
        return LIST_STORED;
    }
    memcpy(next->history, old->history, sizeof next->history);
    next->n_history = old->n_history;
    next->changed_ms = old->changed_ms;
    if (has_position(old->first_position)) {
        next->first_position = old->first_position;
    }
    return LIST_STORED;
}
