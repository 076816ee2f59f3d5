#include "bench/client.h"

#include "proto/check.h"

#include <stdlib.h>
#include <string.h>

#include <nghttp2/nghttp2.h>

enum {
    WRITE_SIZE = 64 * 1024, /* bytes of frames gathered for one write */
    WINDOW = 1 << 20,       /* bytes that a server may send before we have read them */
    N_HEADERS = 7,
    LENGTH_SIZE = 21,
};

/* NOLINTNEXTLINE(readability-function-size): the library says what the parameters are. */
static ssize_t on_need_body(nghttp2_session *session, int32_t stream_id, uint8_t *out, size_t size,
                            uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct call *call = source->ptr;
    struct span left = span_skip(request_body(call->request), call->n_sent);
    size_t n = left.size < size ? left.size : size;

    (void)session;
    (void)stream_id;
    (void)arg;
    memcpy(out, left.data, n);
    call->n_sent += n;
    if (n == left.size) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

/* NOLINTNEXTLINE(readability-function-size): the library says what the parameters are. */
static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *arg)
{
    struct call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

    (void)flags;
    (void)arg;
    if (call != NULL && span_equal(span_of(name, name_size), SPAN_LIT(":status"))) {
        call->status = 0;
        for (size_t i = 0; i < value_size; i++) {
            call->status = call->status * 10 + (value[i] - '0');
        }
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data,
                   size_t size, void *arg)
{
    struct call *call = nghttp2_session_get_stream_user_data(session, stream_id);

    (void)flags;
    (void)arg;
    if (call != NULL) {
        writer_bytes(&call->body, span_of(data, size));
    }
    return 0;
}

static int on_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code, void *arg)
{
    struct call *call = nghttp2_session_get_stream_user_data(session, stream_id);

    (void)arg;
    if (call == NULL || !call->is_busy) {
        return 0;
    }
    if (call->status == 0 || (error_code != NGHTTP2_NO_ERROR && call->status < 300)) {
        client_lost(call);
    } else {
        client_answered(call);
    }
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct client *client = arg;

    (void)session;
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        client->closes = true;
    }
    return 0;
}

bool client_http2_open(struct client *client)
{
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                               {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW}};
    nghttp2_session_callbacks *callbacks = NULL;

    CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    CHECK(nghttp2_session_client_new(&client->h2, callbacks, client) == 0);
    nghttp2_session_callbacks_del(callbacks);
    return nghttp2_submit_settings(client->h2, NGHTTP2_FLAG_NONE, settings,
                                   sizeof settings / sizeof settings[0]) == 0 &&
           nghttp2_session_set_local_window_size(client->h2, NGHTTP2_FLAG_NONE, 0, WINDOW * 4) == 0;
}

void client_http2_close(struct client *client)
{
    nghttp2_session_del(client->h2);
    client->h2 = NULL;
}

/* The library takes pointers to what it will not change. */
static uint8_t *unconst(const char *text)
{
    return (uint8_t *)(uintptr_t)text;
}

static nghttp2_nv header(const char *name, struct span value)
{
    return (nghttp2_nv){unconst(name), unconst(value.data), strlen(name), value.size,
                        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

static bool submit(struct client *client, struct call *call)
{
    const struct request *r = call->request;
    const nghttp2_data_provider provider = {.source.ptr = call, .read_callback = on_need_body};
    struct writer length;

    writer_init(&length, LENGTH_SIZE);
    writer_u64(&length, request_body(r).size);
    nghttp2_nv headers[N_HEADERS] = {
        header(":method", SPAN_LIT("PUT")),
        header(":scheme", client->wire.ssl != NULL ? SPAN_LIT("https") : SPAN_LIT("http")),
        header(":authority", span_str(client->options->servers[client_server(client)])),
        header(":path", span_of(r->wire + r->path_at, r->path_size)),
        header("authorization", span_of(r->wire + r->authorization_at, r->authorization_size)),
        header("content-type", SPAN_LIT("application/json")),
        header("content-length", writer_span(&length)),
    };
    headers[N_HEADERS - 1].flags = NGHTTP2_NV_FLAG_NO_COPY_NAME;
    call->stream_id = nghttp2_submit_request(client->h2, NULL, headers, N_HEADERS, &provider, call);
    call->is_submitted = true;
    writer_fini(&length);
    return call->stream_id > 0;
}

static bool submit_new(struct client *client)
{
    for (uint32_t i = 0; i < client->options->n_streams; i++) {
        struct call *call = &client->calls[i];
        if (call->is_busy && !call->is_submitted && !submit(client, call)) {
            return false;
        }
    }
    return true;
}

/* Frames into `out`, as many as one write should take. */
static bool gather(struct client *client)
{
    while (client->out.size < WRITE_SIZE) {
        const uint8_t *frames = NULL;
        ssize_t n = nghttp2_session_mem_send(client->h2, &frames);
        if (n <= 0) {
            return n == 0;
        }
        writer_bytes(&client->out, span_of(frames, (size_t)n));
    }
    return true;
}

bool client_http2_write(struct client *client)
{
    if (!submit_new(client)) {
        return false;
    }
    for (;;) {
        if (client->n_out_sent == client->out.size) {
            writer_reset(&client->out);
            client->n_out_sent = 0;
            if (!gather(client)) {
                return false;
            }
        }
        if (client->out.size == 0) {
            return true;
        }
        size_t n = 0;
        enum wire_result result =
            wire_write(&n, &client->wire, client->out.data + client->n_out_sent,
                       client->out.size - client->n_out_sent);
        if (result != WIRE_OK) {
            return result == WIRE_AGAIN;
        }
        client->n_out_sent += n;
    }
}

bool client_http2_read(struct client *client, const char *data, size_t size)
{
    ssize_t n = nghttp2_session_mem_recv(client->h2, (const uint8_t *)data, size);

    return n == (ssize_t)size;
}
