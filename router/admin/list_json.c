#include "admin/list_json.h"

/* ,"name": */
static void write_name(struct writer *out, const char *name)
{
    writer_char(out, ',');
    writer_json_string(out, span_str(name));
    writer_char(out, ':');
}

static void write_number(struct writer *out, const char *name, int64_t value)
{
    write_name(out, name);
    writer_i64(out, value);
}

static void write_position(struct writer *out, const char *name, int64_t position)
{
    if (position == DEVICE_LIST_NO_POSITION) {
        write_name(out, name);
        writer_bytes(out, SPAN_LIT("null"));
    } else {
        write_number(out, name, position);
    }
}

/* Clocks are set back at times; an age is never negative. */
static void write_age(struct writer *out, const char *name, int64_t then_ms, int64_t now_ms)
{
    write_number(out, name, now_ms > then_ms ? now_ms - then_ms : 0);
}

/* "hash":"dlh1:..." without a comma before it. */
static void write_hash(struct writer *out, const struct dlh *hash)
{
    writer_bytes(out, SPAN_LIT("\"hash\":\""));
    dlh_write(out, hash);
    writer_char(out, '"');
}

static void write_device_hash(struct writer *out, const struct dlh_device *hash)
{
    uint8_t bytes[DLH_HASH_SIZE];

    for (unsigned i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(hash->high >> (56 - 8 * i));
        bytes[8 + i] = (uint8_t)(hash->low >> (56 - 8 * i));
    }
    writer_hex(out, bytes, sizeof bytes);
}

static void write_devices(struct writer *out, struct span devices)
{
    struct device_hash device;
    bool is_first = true;

    write_name(out, "devices");
    writer_char(out, '[');
    while (device_list_next_device(&device, &devices)) {
        if (!is_first) {
            writer_char(out, ',');
        }
        is_first = false;
        writer_bytes(out, SPAN_LIT("{\"device_id\":"));
        writer_json_string(out, device.device_id);
        writer_bytes(out, SPAN_LIT(",\"hash\":\""));
        write_device_hash(out, &device.hash);
        writer_bytes(out, SPAN_LIT("\"}"));
    }
    writer_char(out, ']');
}

static void write_history(struct writer *out, const struct device_list *list, int64_t now_ms)
{
    write_name(out, "history");
    writer_char(out, '[');
    for (uint32_t i = 0; i < list->n_history; i++) {
        const struct past_list *past = &list->history[i];
        writer_bytes(out, i > 0 ? SPAN_LIT(",{") : SPAN_LIT("{"));
        write_hash(out, &past->hash);
        write_position(out, "last_true", past->last_true);
        write_position(out, "first_replaced", past->first_replaced);
        write_age(out, "age_ms", past->when_ms, now_ms);
        writer_char(out, '}');
    }
    writer_char(out, ']');
}

void list_json_write(struct writer *out, const struct device_list *list, int64_t now_ms)
{
    writer_char(out, '{');
    write_hash(out, &list->current);
    write_name(out, "user_id");
    writer_json_string(out, list->user_id);
    write_name(out, "source");
    writer_bytes(out, list->pushed ? SPAN_LIT("\"pushed\"") : SPAN_LIT("\"read\""));
    write_age(out, "age_ms", list->read_started_ms, now_ms);
    write_age(out, "unchanged_for_ms", list->changed_ms, now_ms);
    write_position(out, "stream_id", list->position);
    write_devices(out, list->devices);
    write_history(out, list, now_ms);
    writer_char(out, '}');
}
