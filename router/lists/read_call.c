#include "lists/read_call.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/check.h"
#include "proto/device_list_answer.h"
#include "proto/json.h"

#include <stdlib.h>

/* Bytes for an answer taken apart: beside a copy of its text 16 for each value, which may be two
 * bytes of text. One with more than JSON_MAX_VALUES values is refused anyway. */
enum { ARENA_CAP = 8 * LIST_READ_BODY_MAX };

struct read_call {
    struct http_call *http;
    struct timer timer;
    struct span server, user_id;
    int64_t started_ms; /* wall clock */
    struct writer body;
    void (*on_done)(void *arg, const struct list_update *update);
    void *arg;
};

static void call_free(struct read_call *call)
{
    timer_fini(&call->timer);
    writer_fini(&call->body);
    free(call);
}

void read_call_cancel(struct read_call *call)
{
    http_call_cancel(call->http);
    call_free(call);
}

/* The HTTP call is over. */
static void finish(struct read_call *call, const struct list_update *update)
{
    call->on_done(call->arg, update);
    call_free(call);
}

static void log_failure(const struct read_call *call, const char *why, unsigned status)
{
    log_event(LOG_WARN, "list_read_failed", F_SPAN("server", call->server), F_STR("why", why),
              F_U64("status", status));
}

/* Of an answer that is not wanted any further. */
static void give_up(struct read_call *call, const char *why, unsigned status)
{
    log_failure(call, why, status);
    http_call_cancel(call->http);
    finish(call, NULL);
}

static void on_expired(void *arg)
{
    give_up(arg, "timeout", 0);
}

static void on_head(void *arg, const struct http_head *head)
{
    struct read_call *call = arg;

    if (head->status != 200) {
        give_up(call, "status", head->status);
    } else if (head->has_content_length && head->content_length > LIST_READ_BODY_MAX) {
        give_up(call, "too_large", head->status);
    }
}

static void on_body(void *arg, struct span bytes)
{
    struct read_call *call = arg;

    writer_bytes(&call->body, bytes);
    if (call->body.failed) {
        give_up(call, "too_large", 200);
    }
}

static void on_failed(void *arg, enum http_call_failure failure)
{
    struct read_call *call = arg;

    log_failure(call, http_call_failure_label(failure), 0);
    finish(call, NULL);
}

/* NULL, or what is wrong with the answer. */
static const char *decode(struct list_update *out, struct arena *arena,
                          const struct read_call *call)
{
    const struct json_value *root;
    struct device_list_answer answer;

    if (json_parse(&root, arena, writer_span(&call->body)) != JSON_OK) {
        return "not_json";
    }
    if (!device_list_answer_decode(&answer, arena, root)) {
        return "shape";
    }
    if (!span_equal(answer.user_id, call->user_id)) {
        return "other_user";
    }
    if (!list_update_from_answer(out, arena, &answer)) {
        return "no_hash";
    }
    out->server = call->server;
    out->source = LIST_SOURCE_READ;
    out->started_ms = call->started_ms;
    out->finished_ms = clock_ms();
    return NULL;
}

static void on_end(void *arg)
{
    struct read_call *call = arg;
    struct list_update update;
    struct arena arena;

    arena_init(&arena, ARENA_CAP);
    const char *wrong = decode(&update, &arena, call);
    if (wrong != NULL) {
        log_failure(call, wrong, 200);
    }
    finish(call, wrong == NULL ? &update : NULL);
    arena_fini(&arena);
}

static const struct http_call_ops ops = {
    .on_head = on_head, .on_body = on_body, .on_end = on_end, .on_failed = on_failed};

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

/* Everything but RFC 3986's unreserved characters is escaped: the id stays one segment. */
static void write_target(struct writer *out, struct span user_id)
{
    static const char digits[] = "0123456789ABCDEF";

    writer_bytes(out, SPAN_LIT("/_matrix/federation/v1/user/devices/"));
    for (size_t i = 0; i < user_id.size; i++) {
        char c = user_id.data[i];
        if (is_unreserved(c)) {
            writer_char(out, c);
        } else {
            writer_char(out, '%');
            writer_char(out, digits[(uint8_t)c >> 4]);
            writer_char(out, digits[(uint8_t)c & 15]);
        }
    }
}

static enum err send_request(struct read_call *call, const struct read_source *source)
{
    AUTO(writer_fini) struct writer target;
    AUTO(writer_fini) struct writer authorization;

    writer_init(&target, HTTP_TARGET_MAX);
    writer_init(&authorization, HTTP_HEADER_BYTES_MAX);
    write_target(&target, call->user_id);
    const struct xmatrix_request request = {.method = SPAN_LIT("GET"),
                                            .uri = writer_span(&target),
                                            .origin = call->server,
                                            .destination = call->server};
    xmatrix_sign(&authorization, source->key, &request);
    if (target.failed || authorization.failed) {
        return err_raise(ERR_CONFIG, "a list read is too long to be asked for");
    }
    const struct http_header headers[] = {
        {SPAN_LIT("Host"), call->server},
        {SPAN_LIT("Authorization"), writer_span(&authorization)},
    };
    const struct http_head head = {.method = request.method,
                                   .target = request.uri,
                                   .headers = headers,
                                   .n_headers = sizeof headers / sizeof headers[0]};
    return http_call_start(&call->http, source->pool, &head, &ops, call);
}

enum err read_call_start(struct read_call **out, const struct read_call_options *options)
{
    struct read_call *call = calloc(1, sizeof *call);

    CHECK(call != NULL && options->source->key != NULL);
    call->server = options->server;
    call->user_id = options->user_id;
    call->on_done = options->on_done;
    call->arg = options->arg;
    call->started_ms = clock_ms();
    writer_init(&call->body, LIST_READ_BODY_MAX);
    timer_init(&call->timer, options->loop, on_expired, call);
    enum err result = send_request(call, options->source);
    if (result != ERR_OK) {
        call_free(call);
        return result;
    }
    timer_start(&call->timer, options->within_ms);
    *out = call;
    return ERR_OK;
}
