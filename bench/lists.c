#include "bench/lists.h"

#include "bench/mix.h"
#include "proto/base64.h"
#include "proto/check.h"

enum { USER_ID_MAX = 255, DEVICE_ID_DIGITS = 5 };

enum key_kind { CURVE25519, ED25519 };

void lists_write_user_id(struct writer *out, const struct lists *lists, uint32_t user)
{
    writer_bytes(out, SPAN_LIT("@u"));
    writer_u64(out, user);
    writer_char(out, ':');
    writer_bytes(out, lists->server);
}

void lists_write_device_id(struct writer *out, uint32_t device)
{
    char digits[DEVICE_ID_DIGITS];

    for (size_t i = sizeof digits; i > 0; i--) {
        digits[i - 1] = (char)('0' + device % 10);
        device /= 10;
    }
    writer_bytes(out, SPAN_LIT("BENCH"));
    writer_bytes(out, span_of(digits, sizeof digits));
}

bool lists_find_user(uint32_t *out, const struct lists *lists, struct span user_id)
{
    uint64_t user = 0;
    size_t at = 2;

    if (!span_starts_with(user_id, SPAN_LIT("@u"))) {
        return false;
    }
    while (at < user_id.size && at < 12 && user_id.data[at] >= '0' && user_id.data[at] <= '9') {
        user = user * 10 + (uint64_t)(user_id.data[at++] - '0');
    }
    *out = (uint32_t)user;
    return at > 2 && at < user_id.size && user_id.data[at] == ':' && user < lists->n_users &&
           span_equal(span_skip(user_id, at + 1), lists->server);
}

int64_t lists_stream_id(uint32_t version)
{
    return (int64_t)LISTS_STREAM_ID_FIRST + version;
}

static void make_key(uint8_t out[DLH_KEY_SIZE], uint32_t user, uint32_t device, enum key_kind kind)
{
    uint64_t state = (uint64_t)user << 32 | (uint64_t)device << 1 | (uint64_t)kind;

    mix_fill(out, DLH_KEY_SIZE, &state);
}

static void write_key(struct writer *out, struct span algorithm, uint32_t user, uint32_t device,
                      enum key_kind kind)
{
    uint8_t key[DLH_KEY_SIZE];

    make_key(key, user, device, kind);
    writer_char(out, '"');
    writer_bytes(out, algorithm);
    lists_write_device_id(out, device);
    writer_bytes(out, SPAN_LIT("\":\""));
    base64_encode(out, key, sizeof key);
    writer_char(out, '"');
}

static void write_device(struct writer *out, const struct lists *lists, uint32_t user,
                         uint32_t device)
{
    writer_bytes(out, SPAN_LIT("{\"device_id\":\""));
    lists_write_device_id(out, device);
    writer_bytes(out, SPAN_LIT("\",\"keys\":{\"algorithms\":[\"m.olm.v1.curve25519-aes-sha2\","
                               "\"m.megolm.v1.aes-sha2\"],\"device_id\":\""));
    lists_write_device_id(out, device);
    writer_bytes(out, SPAN_LIT("\",\"keys\":{"));
    write_key(out, SPAN_LIT("curve25519:"), user, device, CURVE25519);
    writer_char(out, ',');
    write_key(out, SPAN_LIT("ed25519:"), user, device, ED25519);
    writer_bytes(out, SPAN_LIT("},\"signatures\":{},\"user_id\":\""));
    lists_write_user_id(out, lists, user);
    writer_bytes(out, SPAN_LIT("\"}}"));
}

void lists_write_answer(struct writer *out, const struct lists *lists, uint32_t user,
                        uint32_t version)
{
    writer_bytes(out, SPAN_LIT("{\"devices\":["));
    for (uint32_t device = 0; device < lists->n_devices + version; device++) {
        if (device > 0) {
            writer_char(out, ',');
        }
        write_device(out, lists, user, device);
    }
    writer_bytes(out, SPAN_LIT("],\"stream_id\":"));
    writer_i64(out, lists_stream_id(version));
    writer_bytes(out, SPAN_LIT(",\"user_id\":\""));
    lists_write_user_id(out, lists, user);
    writer_bytes(out, SPAN_LIT("\"}"));
}

void lists_hash(struct dlh *out, const struct lists *lists, uint32_t user, uint32_t version)
{
    struct dlh_sum sum = {0};
    struct writer id;

    writer_init(&id, USER_ID_MAX);
    for (uint32_t device = 0; device < lists->n_devices + version; device++) {
        uint8_t curve25519[DLH_KEY_SIZE];
        uint8_t ed25519[DLH_KEY_SIZE];
        struct dlh_device hash;
        make_key(curve25519, user, device, CURVE25519);
        make_key(ed25519, user, device, ED25519);
        writer_reset(&id);
        lists_write_device_id(&id, device);
        CHECK(dlh_device(&hash, writer_span(&id), curve25519, ed25519));
        dlh_sum_add(&sum, &hash);
    }
    writer_reset(&id);
    lists_write_user_id(&id, lists, user);
    CHECK(!id.failed && dlh_finish(out, &sum, writer_span(&id)));
    writer_fini(&id);
}
