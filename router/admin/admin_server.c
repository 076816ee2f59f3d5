#include "admin/admin_server.h"

#include "base/clock.h"
#include "base/log.h"
#include "net/http_server.h"
#include "net/mailbox.h"
#include "proto/check.h"

#include <stdlib.h>

struct admin_listener {
    struct admin_server *server;
    struct http_listener *http; /* NULL: not open */
    bool takes_pushes;
};

struct admin_server {
    struct admin_context context;
    struct mailbox *mailbox; /* of pushes whose commit is over */
    struct admin_listener operations, admin;
};

/* One request. It ends with its answer or with its peer, except that a push taken by the journal
 * stays until its mail has come back. */
struct call {
    struct mail mail;
    struct admin_listener *listener;
    struct http_exchange *exchange; /* the loop's thread; NULL: the peer is gone */
    struct admin_request request;   /* its body is not set before the request is whole */
    struct writer body;             /* of a push; no other body is kept */
    uint64_t body_bytes;            /* of any request, so far */
    bool is_push, is_with_journal;
    enum err result; /* of the commit; the journal thread's before the mail */
};

static void call_free(struct call *call)
{
    writer_fini(&call->body);
    free(call);
}

/* Source: RFC 9110 15.5.6, which wants it in every 405. */
static struct span allowed_methods(const struct call *call)
{
    struct admin_request push = {.method = SPAN_LIT("PUT"), .target = call->request.target};

    return call->listener->takes_pushes && admin_is_push(&push) ? SPAN_LIT("GET, PUT")
                                                                : SPAN_LIT("GET");
}

static void respond(const struct call *call, const struct admin_answer *answer)
{
    const struct http_header headers[] = {
        {SPAN_LIT("Content-Type"), span_str(answer->content_type)},
        {SPAN_LIT("Allow"), allowed_methods(call)},
    };

    http_respond(call->exchange, (unsigned)answer->status, headers, answer->status == 405 ? 2 : 1,
                 writer_span(&answer->body));
}

static void count_refused(void *arg, enum reject why)
{
    struct admin_listener *listener = arg;

    metrics_add_by(listener->server->context.metrics, COUNTER_BY_refused_total, why, 1);
}

static void refuse(struct call *call, enum reject why)
{
    count_refused(call->listener, why);
    http_respond_reject(call->exchange, why);
    call_free(call);
}

static void on_head(struct http_exchange *ex, const struct http_head *head)
{
    struct call *call = calloc(1, sizeof *call);

    CHECK(call != NULL);
    call->listener = ex->arg;
    call->exchange = ex;
    call->request = (struct admin_request){.method = head->method, .target = head->target};
    call->is_push = call->listener->takes_pushes && admin_is_push(&call->request);
    writer_init(&call->body, ADMIN_BODY_MAX);
    ex->user = call;
    if (head->has_content_length && head->content_length > ADMIN_BODY_MAX) {
        refuse(call, REJECT_BODY_TOO_LARGE);
    }
}

static void on_body(struct http_exchange *ex, struct span bytes)
{
    struct call *call = ex->user;

    call->body_bytes += bytes.size;
    if (call->body_bytes > ADMIN_BODY_MAX) {
        refuse(call, REJECT_BODY_TOO_LARGE);
    } else if (call->is_push) {
        writer_bytes(&call->body, bytes);
    }
}

/* On the journal thread. */
static void on_committed(void *arg, enum err result)
{
    struct call *call = arg;

    call->result = result;
    mailbox_post(call->listener->server->mailbox, &call->mail);
}

static void on_mail(struct mail *mail)
{
    struct call *call = LIST_ENTRY(mail, struct call, mail);
    struct admin_answer answer;

    admin_answer_init(&answer);
    admin_push_done(&answer, &call->listener->server->context, call->result);
    if (call->exchange != NULL) {
        respond(call, &answer);
    }
    admin_answer_fini(&answer);
    call_free(call);
}

/* True: the call waits for the journal. Set before, since the mail may be posted at once. */
static bool push(struct admin_answer *out, struct call *call)
{
    call->mail.handle = on_mail;
    call->request.body = writer_span(&call->body);
    call->is_with_journal = admin_push(out, &call->listener->server->context, &call->request,
                                       clock_ms(), on_committed, call);
    writer_fini(&call->body);
    return call->is_with_journal;
}

static void on_end(struct http_exchange *ex)
{
    struct call *call = ex->user;
    struct admin_answer answer;
    bool waits = false;

    admin_answer_init(&answer);
    if (call->is_push) {
        waits = push(&answer, call);
    } else {
        admin_read(&answer, &call->listener->server->context, &call->request, clock_ms());
    }
    if (!waits) {
        respond(call, &answer);
        call_free(call);
    }
    admin_answer_fini(&answer);
}

static void on_drained(struct http_exchange *ex)
{
    (void)ex;
}

static void on_abort(struct http_exchange *ex)
{
    struct call *call = ex->user;

    if (call->is_with_journal) {
        call->exchange = NULL;
    } else {
        call_free(call);
    }
}

static const struct http_server_ops ops = {
    .on_head = on_head,
    .on_body = on_body,
    .on_end = on_end,
    .on_drained = on_drained,
    .on_abort = on_abort,
    .on_refused = count_refused,
};

static enum err open_operations(struct admin_server *server,
                                const struct admin_server_options *options)
{
    const struct http_listener_options listen = {
        .address = options->operations_host, .port = options->operations_port, .only_http1 = true};
    enum err err = http_listener_open(&server->operations.http, options->loop, &listen, &ops,
                                      &server->operations);

    if (err != ERR_OK) {
        return err_raise(err,
                         "no operations listener on %s, port %u: give listen.operations.address an "
                         "address of this machine and a port that nothing else listens on",
                         options->operations_host, options->operations_port);
    }
    log_event(LOG_INFO, "listening", F_STR("listener", "operations"),
              F_STR("address", options->operations_host),
              F_U64("port", http_listener_port(server->operations.http)));
    return ERR_OK;
}

static enum err open_admin(struct admin_server *server, const struct admin_server_options *options)
{
    const struct http_listener_options listen = {.unix_path = options->admin_socket,
                                                 .only_http1 = true};
    enum err err =
        http_listener_open(&server->admin.http, options->loop, &listen, &ops, &server->admin);

    if (err != ERR_OK) {
        return err_raise(err,
                         "no admin socket at %s: give listen.admin.socket a path of at most 107 "
                         "bytes in a folder that exists and that this user may write to",
                         options->admin_socket);
    }
    log_event(LOG_INFO, "listening", F_STR("listener", "admin"),
              F_STR("path", options->admin_socket));
    return ERR_OK;
}

enum err admin_server_new(struct admin_server **out, const struct admin_server_options *options,
                          const struct admin_context *context)
{
    struct admin_server *server = calloc(1, sizeof *server);

    CHECK(server != NULL);
    server->context = *context;
    server->operations = (struct admin_listener){.server = server};
    server->admin = (struct admin_listener){.server = server, .takes_pushes = true};
    enum err err = mailbox_new(&server->mailbox, options->loop, NULL, NULL);
    if (err == ERR_OK && options->operations_host != NULL) {
        err = open_operations(server, options);
    }
    if (err == ERR_OK && options->admin_socket != NULL) {
        err = open_admin(server, options);
    }
    if (err != ERR_OK) {
        admin_server_free(server);
        return err;
    }
    *out = server;
    return ERR_OK;
}

uint16_t admin_server_operations_port(const struct admin_server *server)
{
    return server->operations.http == NULL ? 0 : http_listener_port(server->operations.http);
}

void admin_server_free(struct admin_server *server)
{
    if (server == NULL) {
        return;
    }
    http_listener_free(server->operations.http);
    http_listener_free(server->admin.http);
    mailbox_free(server->mailbox);
    free(server);
}
