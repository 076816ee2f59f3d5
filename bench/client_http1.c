#include "bench/client.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool client_http1_write(struct client *client)
{
    struct call *call = &client->calls[0];

    while (call->is_busy && call->n_sent < call->request->size) {
        size_t n = 0;
        enum wire_result result = wire_write(&n, &client->wire, call->request->wire + call->n_sent,
                                             call->request->size - call->n_sent);
        if (result != WIRE_OK) {
            return result == WIRE_AGAIN;
        }
        call->n_sent += n;
    }
    return true;
}

/* The value of a line that has this name, lower case; NULL if it has another. */
static const char *value_if(const char *line, const char *name)
{
    size_t size = strlen(name);

    if (strncasecmp(line, name, size) != 0 || line[size] != ':') {
        return NULL;
    }
    return line + size + 1 + strspn(line + size + 1, " ");
}

/* The head is whole and ends with a NUL. False for what this client cannot read. */
static bool take_head(struct client *client)
{
    struct call *call = &client->calls[0];
    bool has_length = false;

    if (strncmp(client->head, "HTTP/1.", 7) != 0 || strlen(client->head) < 12) {
        return false;
    }
    call->status = (int)strtol(client->head + 9, NULL, 10);
    client->body_left = 0;
    for (const char *line = client->head; (line = strstr(line, "\r\n")) != NULL;) {
        line += 2;
        const char *length = value_if(line, "content-length");
        const char *connection = value_if(line, "connection");
        if (length != NULL) {
            client->body_left = strtoull(length, NULL, 10);
            has_length = true;
        } else if (connection != NULL && strncasecmp(connection, "close", 5) == 0) {
            client->closes = true;
        } else if (value_if(line, "transfer-encoding") != NULL) {
            return false;
        }
    }
    client->is_in_body = call->status >= 200;
    return has_length || call->status < 200 || call->status == 204;
}

/* Takes of the data what belongs to the head. */
static bool read_head(struct client *client, const char **data, size_t *size)
{
    size_t room = CLIENT_HEAD_MAX - 1 - client->n_head;
    size_t had = client->n_head;
    size_t n = *size < room ? *size : room;

    memcpy(client->head + had, *data, n);
    size_t from = had < 3 ? 0 : had - 3;
    const char *end = memmem(client->head + from, had + n - from, "\r\n\r\n", 4);
    if (end == NULL) {
        client->n_head += n;
        *data += n;
        *size -= n;
        return n < room;
    }
    size_t head_size = (size_t)(end - client->head) + 4;
    client->head[head_size] = '\0';
    *data += head_size - had;
    *size -= head_size - had;
    client->n_head = 0;
    return take_head(client);
}

bool client_http1_read(struct client *client, const char *data, size_t size)
{
    struct call *call = &client->calls[0];

    while (size > 0 || client->is_in_body) {
        if (!call->is_busy) {
            return false; /* an answer that nobody asked for */
        }
        if (!client->is_in_body && !read_head(client, &data, &size)) {
            return false;
        }
        if (!client->is_in_body) {
            continue;
        }
        size_t n = size < client->body_left ? size : (size_t)client->body_left;
        writer_bytes(&call->body, span_of(data, n));
        data += n;
        size -= n;
        client->body_left -= n;
        if (client->body_left > 0) {
            return true;
        }
        client->is_in_body = false;
        if (call->n_sent < call->request->size) {
            client->closes = true; /* refused before all was sent: what is left may not follow */
        }
        client_answered(call);
    }
    return true;
}
