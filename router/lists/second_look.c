#include "lists/second_look.h"

#include "base/table.h"
#include "lists/judge.h"
#include "proto/check.h"

#include <stdlib.h>

struct second_looks {
    struct loop *loop;
    struct list_reader *reader;
    struct metrics *metrics;
    struct table looks; /* by what write_key writes */
};

struct look {
    struct second_looks *looks;
    struct timer timer;
    struct list_read read;
    struct list_read_request request;
    struct claim claim; /* without its device id */
    struct span key;
    char bytes[]; /* of the key, and the origin */
};

/* Who made the claim is left out: what it is then does not depend on that. */
static void write_key(struct writer *out, const struct list_read_request *request,
                      const struct claim *claim)
{
    const struct dlh hash = claim->has_hash ? claim->hash : (struct dlh){0};
    const int64_t stream_id = claim->has_stream ? claim->stream_id : 0;

    writer_char(out, claim->has_hash ? 'h' : ' ');
    writer_char(out, claim->has_stream ? 's' : ' ');
    writer_bytes(out, span_of(hash.bytes, sizeof hash.bytes));
    writer_bytes(out, span_of(&stream_id, sizeof stream_id));
    writer_bytes(out, request->server);
    writer_char(out, '\0'); /* in no server name */
    writer_bytes(out, request->user_id);
}

struct second_looks *second_looks_new(struct loop *loop, struct list_reader *reader,
                                      struct metrics *metrics)
{
    struct second_looks *looks = calloc(1, sizeof *looks);

    CHECK(looks != NULL);
    looks->loop = loop;
    looks->reader = reader;
    looks->metrics = metrics;
    table_init(&looks->looks);
    return looks;
}

static void look_free(struct look *look)
{
    list_read_cancel(look->looks->reader, &look->read);
    timer_fini(&look->timer);
    table_remove(&look->looks->looks, look->key);
    free(look);
}

void second_looks_free(struct second_looks *looks)
{
    struct look *look;

    if (looks == NULL) {
        return;
    }
    struct table_iter iter = table_iterate(&looks->looks);
    while ((look = table_next(&iter, NULL)) != NULL) {
        look_free(look);
    }
    table_fini(&looks->looks);
    free(looks);
}

/* A read that tells nothing is not counted. */
static void on_read(void *arg, const struct device_list *after)
{
    struct look *look = arg;
    bool still_differs;

    if (after != NULL) {
        metrics_add_by(look->looks->metrics, COUNTER_BY_second_reads_total,
                       judge_read(&still_differs, after, &look->claim), 1);
    }
    look_free(look);
}

static void on_settled(void *arg)
{
    struct look *look = arg;

    list_read_start(look->looks->reader, &look->read, &look->request, on_read, look);
}

/* `bytes` are the key's, and then the origin's. */
static struct look *look_new(struct span bytes, const struct list_read_request *request)
{
    struct look *look = calloc(1, sizeof *look + bytes.size);

    CHECK(look != NULL);
    memcpy(look->bytes, bytes.data, bytes.size);
    size_t key_size = bytes.size - request->origin.size;
    size_t user_at = key_size - request->user_id.size;
    size_t server_at = user_at - 1 - request->server.size;
    look->key = span_of(look->bytes, key_size);
    look->request =
        (struct list_read_request){.server = span_of(look->bytes + server_at, request->server.size),
                                   .user_id = span_of(look->bytes + user_at, request->user_id.size),
                                   .origin = span_of(look->bytes + key_size, request->origin.size),
                                   .may_wait = true};
    return look;
}

void second_looks_add(struct second_looks *looks, const struct list_read_request *request,
                      const struct claim *claim, uint32_t settle_ms)
{
    AUTO(writer_fini) struct writer bytes;

    writer_init(&bytes, SIZE_MAX);
    write_key(&bytes, request, claim);
    if (looks->looks.n >= SECOND_LOOKS_MAX ||
        table_get(&looks->looks, writer_span(&bytes)) != NULL) {
        return;
    }
    writer_bytes(&bytes, request->origin);
    struct look *look = look_new(writer_span(&bytes), request);
    look->looks = looks;
    look->claim = *claim;
    look->claim.device_id = (struct span){0};
    CHECK(table_put(&looks->looks, look->key, look) == NULL);
    timer_init(&look->timer, looks->loop, on_settled, look);
    timer_start(&look->timer, settle_ms);
}
