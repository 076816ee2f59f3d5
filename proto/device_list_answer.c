#include "proto/device_list_answer.h"

#include "proto/base64.h"

#include <stdlib.h>

enum { KEY_NAME_MAX = 512 /* bytes of "curve25519:" and a device id; a longer id has no keys */ };

static bool decode_key(uint8_t out[DLH_KEY_SIZE], const struct json_value *keys,
                       struct span algorithm, struct span device_id)
{
    char name[KEY_NAME_MAX];
    size_t size = algorithm.size + device_id.size;
    size_t n = 0;

    if (size > sizeof name) {
        return false;
    }
    memcpy(name, algorithm.data, algorithm.size);
    if (device_id.size != 0) {
        memcpy(name + algorithm.size, device_id.data, device_id.size);
    }
    struct span text = json_get_string(keys, span_of(name, size));
    return text.data != NULL && base64_decode(out, DLH_KEY_SIZE, &n, text) && n == DLH_KEY_SIZE;
}

static void decode_device(struct device_entry *out, struct span device_id,
                          const struct json_value *identity)
{
    const struct json_value *keys = json_get(identity, SPAN_LIT("keys"));

    out->device_id = device_id;
    out->counts = decode_key(out->curve25519, keys, SPAN_LIT("curve25519:"), device_id) &&
                  decode_key(out->ed25519, keys, SPAN_LIT("ed25519:"), device_id);
}

struct device_ref {
    const struct device_entry *entry;
};

/* By id; entries of one id in the answer's order. */
static int compare_ids(const void *a, const void *b)
{
    const struct device_ref *left = a;
    const struct device_ref *right = b;
    int order = span_compare(left->entry->device_id, right->entry->device_id);

    return order != 0 ? order : (left->entry > right->entry) - (left->entry < right->entry);
}

/* Of several entries of one id only the last counts, and only it stays. */
static bool drop_repeated(struct device_list_answer *answer, struct arena *arena)
{
    uint32_t n = answer->n_devices;
    struct device_ref *sorted = arena_calloc(arena, n, sizeof *sorted);
    struct device_entry *kept = arena_calloc(arena, n, sizeof *kept);
    uint32_t n_kept = 0;

    if (sorted == NULL || kept == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        sorted[i].entry = &answer->devices[i];
    }
    if (n > 1) {
        qsort(sorted, n, sizeof *sorted, compare_ids);
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct device_entry *entry = sorted[i].entry;
        if (i + 1 == n || !span_equal(entry->device_id, sorted[i + 1].entry->device_id)) {
            kept[n_kept++] = *entry;
        }
    }
    answer->devices = kept;
    answer->n_devices = n_kept;
    return true;
}

bool device_list_answer_decode(struct device_list_answer *out, struct arena *arena,
                               const struct json_value *root)
{
    const struct json_value *devices = json_get(root, SPAN_LIT("devices"));
    struct json_iter iter = json_iterate(devices);
    const struct json_value *device;

    *out = (struct device_list_answer){.user_id = json_get_string(root, SPAN_LIT("user_id"))};
    if (out->user_id.data == NULL || !json_is_array(devices)) {
        return false;
    }
    out->has_stream_id = json_integer(&out->stream_id, json_get(root, SPAN_LIT("stream_id")));
    out->devices = arena_calloc(arena, json_size(devices), sizeof *out->devices);
    while (out->devices != NULL && json_next(&iter, NULL, &device)) {
        struct span device_id = json_get_string(device, SPAN_LIT("device_id"));
        if (device_id.data == NULL) {
            return false;
        }
        decode_device(&out->devices[out->n_devices++], device_id,
                      json_get(device, SPAN_LIT("keys")));
    }
    return out->devices != NULL && drop_repeated(out, arena);
}

static bool decode_user(struct device_list_answer *out, struct arena *arena, struct span user_id,
                        const struct json_value *devices)
{
    struct json_iter iter = json_iterate(devices);
    struct span device_id;
    const struct json_value *identity;

    *out = (struct device_list_answer){.user_id = user_id};
    out->devices = arena_calloc(arena, json_size(devices), sizeof *out->devices);
    if (out->devices == NULL || !json_is_object(devices)) {
        return false;
    }
    while (json_next(&iter, &device_id, &identity)) {
        decode_device(&out->devices[out->n_devices++], device_id, identity);
    }
    return drop_repeated(out, arena);
}

bool keys_query_answer_decode(struct device_list_answer **out, uint32_t *n, struct arena *arena,
                              const struct json_value *root)
{
    const struct json_value *users = json_get(root, SPAN_LIT("device_keys"));
    struct json_iter iter = json_iterate(users);
    struct span user_id;
    const struct json_value *devices;

    *n = 0;
    *out = arena_calloc(arena, json_size(users), sizeof **out);
    if (*out == NULL || !json_is_object(users)) {
        return false;
    }
    while (json_next(&iter, &user_id, &devices)) {
        if (!decode_user(&(*out)[(*n)++], arena, user_id, devices)) {
            return false;
        }
    }
    return true;
}

bool device_list_answer_hash(struct dlh *out, struct dlh_sum *sum,
                             const struct device_list_answer *answer)
{
    *sum = (struct dlh_sum){0};
    for (uint32_t i = 0; i < answer->n_devices; i++) {
        const struct device_entry *device = &answer->devices[i];
        struct dlh_device hash;
        if (!device->counts) {
            continue;
        }
        if (!dlh_device(&hash, device->device_id, device->curve25519, device->ed25519)) {
            return false;
        }
        dlh_sum_add(sum, &hash);
    }
    return dlh_finish(out, sum, answer->user_id);
}
