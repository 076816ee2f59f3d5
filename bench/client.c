#include "bench/client.h"

#include "proto/check.h"

#include <stdlib.h>
#include <sys/epoll.h>

/* A prime, so that a client that connects again and again comes from everywhere. */
enum { SOURCE_STRIDE = 7919 };

void client_init(struct client *client, const struct client_options *options, uint32_t number)
{
    *client = (struct client){.options = options, .number = number};
    client->calls = calloc(options->n_streams, sizeof *client->calls);
    client->head = options->is_http2 ? NULL : malloc(CLIENT_HEAD_MAX);
    CHECK(client->calls != NULL && (options->is_http2 || client->head != NULL));
    writer_init(&client->out, SIZE_MAX);
    for (uint32_t i = 0; i < options->n_streams; i++) {
        client->calls[i].client = client;
        writer_init(&client->calls[i].body, CLIENT_BODY_MAX);
    }
}

static void shut(struct client *client)
{
    client_http2_close(client);
    wire_close(&client->wire);
    writer_reset(&client->out);
    client->n_out_sent = 0;
    client->n_head = 0;
    client->is_in_body = false;
    client->closes = false;
    client->n_begun = 0;
}

void client_fini(struct client *client)
{
    shut(client);
    for (uint32_t i = 0; i < client->options->n_streams; i++) {
        writer_fini(&client->calls[i].body);
    }
    writer_fini(&client->out);
    free(client->calls);
    free(client->head);
}

uint32_t client_server(const struct client *client)
{
    return client->number % client->options->n_servers;
}

bool client_connect(struct client *client)
{
    if (client->wire.state != WIRE_SHUT) {
        return true;
    }
    uint32_t source = client->number + (uint32_t)client->n_connects * SOURCE_STRIDE;

    client->n_connects++;
    return wire_open(&client->wire, &client->options->target,
                     client->options->servers[client_server(client)], source,
                     client->options->epoll_fd, client);
}

bool client_has_room(const struct client *client)
{
    uint32_t max = client->options->n_calls_max;

    return client->n_busy < client->options->n_streams && !client->closes &&
           (max == 0 || client->n_begun < max);
}

void client_lost(struct call *call)
{
    struct client *client = call->client;

    call->is_busy = false;
    client->n_busy--;
    client->options->ops->on_failure(client->options->arg, call);
}

void client_fail(struct client *client)
{
    shut(client);
    for (uint32_t i = 0; i < client->options->n_streams; i++) {
        struct call *call = &client->calls[i];
        if (call->is_busy) {
            client_lost(call);
        }
    }
}

static bool write_some(struct client *client)
{
    return client->options->is_http2 ? client_http2_write(client) : client_http1_write(client);
}

static struct call *free_call(struct client *client)
{
    for (uint32_t i = 0; i < client->options->n_streams; i++) {
        if (!client->calls[i].is_busy) {
            return &client->calls[i];
        }
    }
    CHECK(false);
    return NULL;
}

void client_begin(struct client *client, const struct request *request, uint64_t intended_ns,
                  uint64_t now_ns)
{
    struct call *call = free_call(client);

    call->request = request;
    call->intended_ns = intended_ns;
    call->begun_ns = now_ns;
    call->n_sent = 0;
    call->status = 0;
    call->is_submitted = false;
    call->is_busy = true;
    writer_reset(&call->body);
    client->n_busy++;
    client->n_begun++;
    if (!client_connect(client) || (client->wire.state == WIRE_OPEN && !write_some(client))) {
        client_fail(client);
    }
}

void client_answered(struct call *call)
{
    struct client *client = call->client;

    call->is_busy = false;
    client->n_busy--;
    client->options->ops->on_answer(client->options->arg, call);
}

/* False at the end of the connection. */
static bool read_all(struct client *client, bool is_ending)
{
    for (;;) {
        size_t n = 0;
        enum wire_result result =
            wire_read(&n, &client->wire, client->options->scratch, CLIENT_READ_SIZE);
        if (result != WIRE_OK) {
            return result == WIRE_AGAIN;
        }
        bool is_well = client->options->is_http2
                           ? client_http2_read(client, client->options->scratch, n)
                           : client_http1_read(client, client->options->scratch, n);
        if (!is_well) {
            return false;
        }
        if (client->wire.ssl == NULL && n < CLIENT_READ_SIZE && !is_ending) {
            return true; /* the socket is empty: more comes with an event */
        }
    }
}

static bool has_had_its_calls(const struct client *client)
{
    uint32_t max = client->options->n_calls_max;

    return client->n_busy == 0 && (client->closes || (max != 0 && client->n_begun >= max));
}

void client_on_event(struct client *client, uint32_t events)
{
    if (client->wire.state == WIRE_SHUT) {
        return;
    }
    if (client->wire.state != WIRE_OPEN) {
        enum wire_result result = wire_advance(&client->wire);
        if (result == WIRE_AGAIN) {
            return;
        }
        if (result == WIRE_CLOSED || (client->options->is_http2 && !client_http2_open(client))) {
            client_fail(client);
            return;
        }
    }
    if (!write_some(client) || !read_all(client, (events & EPOLLRDHUP) != 0) ||
        !write_some(client)) {
        client_fail(client);
    } else if (has_had_its_calls(client)) {
        shut(client);
    }
}
