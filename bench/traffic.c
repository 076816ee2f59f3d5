#include "bench/traffic.h"

#include "base/clock.h"
#include "bench/mix.h"
#include "proto/check.h"
#include "proto/names.h"

#include <stdlib.h>
#include <string.h>

enum {
    BODY_MAX = 4 * 1024 * 1024, /* bytes */
    EDUS_FEW = 10,
    EDUS_MAX = 100,         /* source: server-server API, "Transactions" */
    PDUS_MAX = 50,          /* likewise */
    EDU_SIZE = 1500,        /* bytes */
    LONE_EDU_SIZE = 1940,   /* bytes: with the transaction around it about 2,021 */
    PDU_SIZE = 3000,        /* bytes */
    NOISE_SIZE = 64 * 1024, /* bytes of base64 that ciphertexts are cut from */
    CIPHERTEXT_MIN = 64,    /* bytes */
    PERCENT_STEP = 61,      /* has no divisor in common with 100 */
    ID_SIZE = 24,           /* hex digits of a message id */
};

/* A prime above the number of users: multiples of it visit them all, in no order of theirs. */
static const uint64_t user_step = 2654435761;

const char *const shape_names[] = {"edu2k", "edu10", "edu100", "full", "dendrite", "storm", NULL};

enum claims { CLAIMS_ABSENT, CLAIMS_FRESH, CLAIMS_STALE };

struct maker {
    const struct traffic_options *options;
    uint64_t number; /* of the transaction */
    uint64_t n_recipients;
    uint64_t random;
    enum claims claims;
    const struct origin *origin;
    const struct lists *lists;
    struct writer body, head, tail, authorization;
    char noise[NOISE_SIZE];
};

static void make_noise(struct maker *m)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < sizeof m->noise; i++) {
        m->noise[i] = alphabet[mix_next(&m->random) % 64];
    }
}

static void write_noise(struct writer *out, struct maker *m, size_t size)
{
    while (size > 0) {
        size_t from = mix_next(&m->random) % (sizeof m->noise / 2);
        size_t n = size < sizeof m->noise - from ? size : sizeof m->noise - from;
        writer_bytes(out, span_of(m->noise + from, n));
        size -= n;
    }
}

static void write_text(struct writer *out, const char *text)
{
    writer_bytes(out, span_str(text));
}

static void write_id(struct writer *out, struct maker *m)
{
    uint8_t id[ID_SIZE / 2];

    mix_fill(id, sizeof id, &m->random);
    writer_hex(out, id, sizeof id);
}

static void write_sender(struct writer *out, const struct maker *m, uint32_t sender)
{
    write_text(out, "@s");
    writer_u64(out, sender);
    writer_char(out, ':');
    writer_bytes(out, origin_name(m->origin));
}

static void write_claim(struct writer *out, const struct maker *m, uint32_t user)
{
    uint32_t version = m->options->version - (m->claims == CLAIMS_STALE ? 1 : 0);
    struct dlh hash;

    if (m->claims == CLAIMS_ABSENT) {
        return;
    }
    lists_hash(&hash, m->lists, user, version);
    write_text(out, "\"" NAME_DEVICE_LISTS "\":{\"");
    lists_write_user_id(out, m->lists, user);
    write_text(out, "\":{\"hash\":\"");
    dlh_write(out, &hash);
    write_text(out, "\",\"stream_id\":");
    writer_i64(out, lists_stream_id(version));
    write_text(out, "}},");
}

/* What is around the ciphertext, canonical. */
static void write_edu_head(struct writer *out, struct maker *m, uint32_t user, uint32_t device)
{
    write_text(out, "{\"content\":{");
    write_claim(out, m, user);
    write_text(out, "\"message_id\":\"");
    write_id(out, m);
    write_text(out, "\",\"messages\":{\"");
    lists_write_user_id(out, m->lists, user);
    write_text(out, "\":{\"");
    lists_write_device_id(out, device);
    write_text(out, "\":{\"algorithm\":\"m.olm.v1.curve25519-aes-sha2\",\"ciphertext\":{\"");
    write_noise(out, m, 43);
    write_text(out, "\":{\"body\":\"");
}

static void write_edu_tail(struct writer *out, struct maker *m, uint32_t sender)
{
    write_text(out, "\",\"type\":1}},\"org.matrix.msgid\":\"");
    write_id(out, m);
    write_text(out, "\",\"sender_key\":\"");
    write_noise(out, m, 43);
    write_text(out, "\"}}},\"sender\":\"");
    write_sender(out, m, sender);
    write_text(out, "\",\"type\":\"m.room.encrypted\"},\"edu_type\":\"m.direct_to_device\"}");
}

/* Head, noise and tail, `size` bytes in all where that is possible. */
static void join(struct maker *m, size_t size)
{
    size_t around = m->head.size + m->tail.size;
    size_t inside = size > around + CIPHERTEXT_MIN ? size - around : CIPHERTEXT_MIN;

    writer_bytes(&m->body, writer_span(&m->head));
    write_noise(&m->body, m, inside);
    writer_bytes(&m->body, writer_span(&m->tail));
    writer_reset(&m->head);
    writer_reset(&m->tail);
}

struct recipient {
    uint32_t user, device, sender;
};

static uint32_t next_user(struct maker *m)
{
    return (uint32_t)(m->n_recipients++ * user_step % m->lists->n_users);
}

static struct recipient recipient_of(struct maker *m, uint32_t edu, uint32_t last_user)
{
    uint32_t n_devices = m->lists->n_devices > 0 ? m->lists->n_devices : 1;

    if (m->options->shape == SHAPE_STORM) {
        return (struct recipient){.sender = edu};
    }
    if (m->options->shape == SHAPE_DENDRITE) {
        return (struct recipient){.user = edu % n_devices == 0 ? next_user(m) : last_user,
                                  .device = edu % n_devices};
    }
    return (struct recipient){.user = next_user(m)};
}

static uint32_t n_edus(enum shape shape)
{
    switch (shape) {
    case SHAPE_EDU2K:
        return 1;
    case SHAPE_EDU10:
        return EDUS_FEW;
    case SHAPE_EDU100:
    case SHAPE_FULL:
    case SHAPE_DENDRITE:
    case SHAPE_STORM:
        break;
    }
    return EDUS_MAX;
}

static void write_edus(struct maker *m)
{
    uint32_t n = n_edus(m->options->shape);
    struct recipient to = {0};

    for (uint32_t i = 0; i < n; i++) {
        to = recipient_of(m, i, to.user);
        write_edu_head(&m->head, m, to.user, to.device);
        write_edu_tail(&m->tail, m, to.sender);
        if (i > 0) {
            writer_char(&m->body, ',');
        }
        join(m, n == 1 ? LONE_EDU_SIZE : EDU_SIZE);
    }
}

static void write_pdu(struct maker *m, uint32_t depth)
{
    struct writer *out = &m->head;

    write_text(out, "{\"auth_events\":[\"$");
    write_noise(out, m, 43);
    write_text(out, "\",\"$");
    write_noise(out, m, 43);
    write_text(out, "\"],\"content\":{\"algorithm\":\"m.megolm.v1.aes-sha2\",\"ciphertext\":\"");
    out = &m->tail;
    write_text(out, "\",\"session_id\":\"");
    write_noise(out, m, 43);
    write_text(out, "\"},\"depth\":");
    writer_u64(out, 1000 + depth);
    write_text(out, ",\"hashes\":{\"sha256\":\"");
    write_noise(out, m, 43);
    write_text(out, "\"},\"origin_server_ts\":");
    writer_i64(out, clock_ms());
    write_text(out, ",\"prev_events\":[\"$");
    write_noise(out, m, 43);
    write_text(out, "\"],\"room_id\":\"!bench:");
    writer_bytes(out, origin_name(m->origin));
    write_text(out, "\",\"sender\":\"");
    write_sender(out, m, 0);
    write_text(out, "\",\"signatures\":{\"");
    writer_bytes(out, origin_name(m->origin));
    write_text(out, "\":{\"ed25519:bench\":\"");
    write_noise(out, m, 86);
    write_text(out, "\"}},\"type\":\"m.room.encrypted\"}");
    join(m, PDU_SIZE);
}

static void write_body(struct maker *m, bool is_primer)
{
    writer_reset(&m->body);
    write_text(&m->body, "{\"edus\":[");
    if (!is_primer) {
        write_edus(m);
    }
    write_text(&m->body, "],\"origin\":\"");
    writer_bytes(&m->body, origin_name(m->origin));
    write_text(&m->body, "\",\"origin_server_ts\":");
    writer_i64(&m->body, clock_ms());
    write_text(&m->body, ",\"pdus\":[");
    for (uint32_t i = 0; i < PDUS_MAX && m->options->shape == SHAPE_FULL && !is_primer; i++) {
        if (i > 0) {
            writer_char(&m->body, ',');
        }
        write_pdu(m, i);
    }
    write_text(&m->body, "]}");
    CHECK(!m->body.failed);
}

/* Batches of an EDU's recipient, sender and claim: docs/protocol.md, section 3. */
static uint32_t n_verdicts(const struct traffic_options *options)
{
    uint32_t n_devices = options->lists->n_devices > 0 ? options->lists->n_devices : 1;
    uint32_t n = n_edus(options->shape);

    if (options->shape == SHAPE_STORM) {
        return n;
    }
    if (options->shape == SHAPE_DENDRITE) {
        n = (n + n_devices - 1) / n_devices;
    }
    return n < options->lists->n_users ? n : options->lists->n_users;
}

static void write_path(struct writer *out, const struct maker *m, bool is_primer)
{
    uint8_t run_id[sizeof m->options->run_id];

    memcpy(run_id, &m->options->run_id, sizeof run_id);
    write_text(out, "/_matrix/federation/v1/send/");
    write_text(out, is_primer ? "p" : "t");
    writer_hex(out, run_id, sizeof run_id);
    writer_char(out, '-');
    writer_u64(out, m->number);
}

static void write_head(struct maker *m, struct request *out, bool is_primer)
{
    struct writer *head = &m->head;

    write_text(head, "PUT ");
    out->path_at = (uint32_t)head->size;
    write_path(head, m, is_primer);
    out->path_size = (uint32_t)head->size - out->path_at;
    const struct xmatrix_request request = {
        .method = SPAN_LIT("PUT"),
        .uri = span_of(head->data + out->path_at, out->path_size),
        .origin = origin_name(m->origin),
        .destination = m->lists->server,
        .content = writer_span(&m->body),
    };
    writer_reset(&m->authorization);
    origin_authorize(&m->authorization, m->origin, &request);
    write_text(head, " HTTP/1.1\r\nHost: ");
    writer_bytes(head, m->lists->server);
    write_text(head, "\r\nAuthorization: ");
    out->authorization_at = (uint32_t)head->size;
    writer_bytes(head, writer_span(&m->authorization));
    out->authorization_size = (uint32_t)head->size - out->authorization_at;
    write_text(head, "\r\nContent-Type: application/json\r\nContent-Length: ");
    writer_u64(head, m->body.size);
    write_text(head, "\r\n\r\n");
}

static void make_request(struct request *out, struct maker *m, bool is_primer)
{
    uint64_t percent = m->number * PERCENT_STEP % 100;

    *out = (struct request){0};
    m->origin = &m->options->origins->all[m->number % m->options->origins->n];
    m->lists = &m->options->lists[m->number % m->options->n_servers];
    m->claims = percent < m->options->fresh_percent                               ? CLAIMS_FRESH
                : percent < m->options->fresh_percent + m->options->stale_percent ? CLAIMS_STALE
                                                                                  : CLAIMS_ABSENT;
    write_body(m, is_primer);
    write_head(m, out, is_primer);
    out->head_size = (uint32_t)m->head.size;
    out->size = (uint32_t)(m->head.size + m->body.size);
    out->n_fresh = m->claims == CLAIMS_FRESH && !is_primer ? n_verdicts(m->options) : 0;
    out->n_stale = m->claims == CLAIMS_STALE && !is_primer ? n_verdicts(m->options) : 0;
    out->wire = malloc(out->size);
    CHECK(out->wire != NULL);
    memcpy(out->wire, m->head.data, m->head.size);
    memcpy(out->wire + m->head.size, m->body.data, m->body.size);
    writer_reset(&m->head);
    m->number++;
}

static struct maker *maker_new(const struct traffic_options *options)
{
    struct maker *m = calloc(1, sizeof *m);

    CHECK(m != NULL && options->lists->n_users < user_step);
    m->options = options;
    m->random = options->run_id;
    writer_init(&m->body, BODY_MAX);
    writer_init(&m->head, BODY_MAX);
    writer_init(&m->tail, BODY_MAX);
    writer_init(&m->authorization, BODY_MAX);
    make_noise(m);
    return m;
}

static void maker_free(struct maker *m)
{
    writer_fini(&m->body);
    writer_fini(&m->head);
    writer_fini(&m->tail);
    writer_fini(&m->authorization);
    free(m);
}

static struct request *next_slot(struct traffic *traffic, uint32_t *capacity)
{
    if (traffic->n == *capacity) {
        *capacity = *capacity == 0 ? 1024 : *capacity * 2;
        traffic->requests = reallocarray(traffic->requests, *capacity, sizeof *traffic->requests);
        CHECK(traffic->requests != NULL);
    }
    return &traffic->requests[traffic->n++];
}

static void make_all(struct traffic *out, const struct traffic_options *options, uint64_t n_max,
                     size_t max_bytes, bool is_primer)
{
    struct maker *m = maker_new(options);
    uint32_t capacity = 0;

    *out = (struct traffic){0};
    while (out->n < n_max && (out->n < options->origins->n || out->n < options->n_servers ||
                              out->bytes < max_bytes)) {
        struct request *r = next_slot(out, &capacity);
        make_request(r, m, is_primer);
        out->bytes += sizeof *r + r->size;
        out->body_bytes += r->size - r->head_size;
    }
    maker_free(m);
}

void traffic_init(struct traffic *out, const struct traffic_options *options, uint64_t n_max,
                  size_t max_bytes)
{
    make_all(out, options, n_max, max_bytes, false);
}

void traffic_init_primers(struct traffic *out, const struct traffic_options *options)
{
    make_all(out, options, options->origins->n, 0, true);
}

void traffic_fini(struct traffic *traffic)
{
    for (uint32_t i = 0; i < traffic->n; i++) {
        free(traffic->requests[i].wire);
    }
    free(traffic->requests);
    *traffic = (struct traffic){0};
}
