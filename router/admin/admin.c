#include "admin/admin.h"

#include "admin/endpoint.h"
#include "admin/list_json.h"
#include "proto/device_list_answer.h"
#include "proto/ident.h"
#include "proto/reject.h"

#include <string.h>

void admin_answer_init(struct admin_answer *answer)
{
    memset(answer, 0, sizeof *answer);
    writer_init(&answer->body, ADMIN_ANSWER_MAX);
}

void admin_answer_fini(struct admin_answer *answer)
{
    writer_fini(&answer->body);
}

static void answer_text(struct admin_answer *out, int status, const char *content_type,
                        struct span text)
{
    out->status = status;
    out->content_type = content_type;
    writer_reset(&out->body);
    writer_bytes(&out->body, text);
}

static void answer_error(struct admin_answer *out, int status, const char *errcode,
                         const char *text)
{
    answer_text(out, status, "application/json", span_of(NULL, 0));
    matrix_error_write(&out->body, errcode, text);
}

static void answer_ready(struct admin_answer *out, const struct admin_context *context)
{
    bool has_failed = store_failed(context->store);
    bool is_draining = atomic_load(context->is_draining);

    if (!has_failed && !is_draining) {
        answer_text(out, 200, "application/json", SPAN_LIT("{\"ready\":true,\"reasons\":[]}"));
        return;
    }
    answer_text(out, 503, "application/json", SPAN_LIT("{\"ready\":false,\"reasons\":["));
    if (has_failed) {
        writer_bytes(&out->body, SPAN_LIT("\"store_failed\""));
    }
    if (has_failed && is_draining) {
        writer_char(&out->body, ',');
    }
    if (is_draining) {
        writer_bytes(&out->body, SPAN_LIT("\"draining\""));
    }
    writer_bytes(&out->body, SPAN_LIT("]}"));
}

static void answer_metrics(struct admin_answer *out, const struct admin_context *context)
{
    answer_text(out, 200, "text/plain; version=0.0.4", span_of(NULL, 0));
    metrics_write(&out->body, context->all_metrics, context->n_metrics);
}

static void answer_list(struct admin_answer *out, const struct admin_context *context,
                        const struct endpoint_target *target, int64_t now_ms)
{
    struct device_list list;
    struct arena arena;

    arena_init(&arena, ADMIN_ARENA_MAX);
    enum err result = lists_get(&list, context->lists, &arena, target->server, target->user);
    if (result == ERR_OK) {
        answer_text(out, 200, "application/json", span_of(NULL, 0));
        list_json_write(&out->body, &list, now_ms);
    } else if (result == ERR_NOT_FOUND) {
        answer_error(out, 404, "M_NOT_FOUND", "No device list of this user is known");
    } else {
        answer_error(out, 503, "M_UNKNOWN", "The store cannot be read");
    }
    arena_fini(&arena);
}

/* False, with the answer, if the path is not about a server that is hosted here. */
static bool is_ours(struct admin_answer *out, const struct admin_context *context,
                    const struct endpoint_target *target)
{
    if (target->endpoint == ENDPOINT_NONE) {
        answer_error(out, 404, "M_UNRECOGNIZED", "There is nothing at this path");
        return false;
    }
    if (target->endpoint == ENDPOINT_DEVICES && !context->is_hosted(context->arg, target->server)) {
        answer_error(out, 404, "M_NOT_FOUND", "This server is not hosted here");
        return false;
    }
    return true;
}

void admin_read(struct admin_answer *out, const struct admin_context *context,
                const struct admin_request *request, int64_t now_ms)
{
    struct endpoint_target target;

    endpoint_find(&target, request->target);
    if (!is_ours(out, context, &target)) {
        return;
    }
    if (!span_equal(request->method, SPAN_LIT("GET"))) {
        answer_error(out, 405, "M_UNRECOGNIZED", "This can only be read here");
    } else if (target.endpoint == ENDPOINT_LIVEZ) {
        answer_text(out, 200, "application/json", SPAN_LIT("{\"alive\":true}"));
    } else if (target.endpoint == ENDPOINT_READYZ) {
        answer_ready(out, context);
    } else if (target.endpoint == ENDPOINT_METRICS) {
        answer_metrics(out, context);
    } else {
        answer_list(out, context, &target, now_ms);
    }
    if (out->body.failed) {
        answer_error(out, 500, "M_TOO_LARGE", "The answer is too long");
    }
}

bool admin_is_push(const struct admin_request *request)
{
    struct endpoint_target target;

    endpoint_find(&target, request->target);
    return target.endpoint == ENDPOINT_DEVICES && span_equal(request->method, SPAN_LIT("PUT"));
}

/* NULL, or what is wrong with the body for this user. */
static const char *update_from_body(struct list_update *out, struct arena *arena,
                                    const struct endpoint_target *target, struct span body)
{
    const struct json_value *root = NULL;
    struct device_list_answer answer;
    struct user_id user;

    if (!user_id_parse(&user, target->user) || !span_equal(user.server, target->server)) {
        return "The user is not of this server";
    }
    if (json_parse(&root, arena, body) != JSON_OK) {
        return "The body is not JSON, or too large";
    }
    if (!device_list_answer_decode(&answer, arena, root)) {
        return "The body is not an answer to /user/devices";
    }
    if (!span_equal(answer.user_id, target->user)) {
        return "The body is about another user";
    }
    return list_update_from_answer(out, arena, &answer) ? NULL : "The list has too many devices";
}

static void answer_not_taken(struct admin_answer *out, enum err result)
{
    if (result == ERR_FULL) {
        answer_error(out, 503, "M_LIMIT_EXCEEDED", "The store, or the queue before it, is full");
    } else {
        answer_error(out, 503, "M_UNKNOWN", "The store has failed");
    }
}

bool admin_push(struct admin_answer *out, const struct admin_context *context,
                const struct admin_request *request, int64_t now_ms,
                void (*done)(void *arg, enum err result), void *done_arg)
{
    struct endpoint_target target;
    struct list_update update;
    struct arena arena;

    endpoint_find(&target, request->target);
    if (!is_ours(out, context, &target)) {
        return false;
    }
    arena_init(&arena, ADMIN_ARENA_MAX);
    const char *wrong = update_from_body(&update, &arena, &target, request->body);
    enum err result = ERR_OK;
    if (wrong != NULL) {
        answer_error(out, 400, "M_BAD_JSON", wrong);
    } else {
        update.server = target.server;
        update.source = LIST_SOURCE_PUSH;
        update.started_ms = now_ms;
        update.finished_ms = now_ms;
        result = lists_submit_update(context->lists, &update, done, done_arg);
    }
    arena_fini(&arena);
    if (result != ERR_OK) {
        answer_not_taken(out, result);
    }
    return wrong == NULL && result == ERR_OK;
}

void admin_push_done(struct admin_answer *out, const struct admin_context *context, enum err result)
{
    if (result != ERR_OK) {
        answer_not_taken(out, result);
        return;
    }
    metrics_add(context->metrics, COUNTER_list_pushes_total, 1);
    answer_text(out, 200, "application/json", SPAN_LIT("{}"));
}
