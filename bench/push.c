#include "bench/push.h"

#include "bench/tool.h"
#include "proto/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    CONNECTIONS = 32, /* so that the router commits many lists at once */
    ANSWER_MAX = 16 * 1024,
    LIST_MAX = 1024 * 1024, /* bytes */
};

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof address.sun_path) {
        die("%s: too long for a socket", path);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        die_of_errno(path);
    }
    return fd;
}

static void write_name(struct writer *out, struct span name)
{
    for (size_t i = 0; i < name.size; i++) {
        switch (name.data[i]) {
        case '@':
            writer_bytes(out, SPAN_LIT("%40"));
            break;
        case ':':
            writer_bytes(out, SPAN_LIT("%3A"));
            break;
        default:
            writer_char(out, name.data[i]);
        }
    }
}

static void write_push(struct writer *out, const struct lists *lists, uint32_t user,
                       uint32_t version)
{
    struct writer body;
    struct writer id;

    writer_init(&body, LIST_MAX);
    writer_init(&id, LIST_MAX);
    lists_write_answer(&body, lists, user, version);
    lists_write_user_id(&id, lists, user);
    writer_bytes(out, SPAN_LIT("PUT /admin/v1/servers/"));
    write_name(out, lists->server);
    writer_bytes(out, SPAN_LIT("/users/"));
    write_name(out, writer_span(&id));
    writer_bytes(out, SPAN_LIT("/devices HTTP/1.1\r\nHost: admin\r\n"
                               "Content-Type: application/json\r\nContent-Length: "));
    writer_u64(out, body.size);
    writer_bytes(out, SPAN_LIT("\r\n\r\n"));
    writer_bytes(out, writer_span(&body));
    CHECK(!out->failed);
    writer_fini(&body);
    writer_fini(&id);
}

static void send_push(int fd, const struct lists *lists, uint32_t user, uint32_t version)
{
    struct writer message;
    size_t sent = 0;

    writer_init(&message, LIST_MAX);
    write_push(&message, lists, user, version);
    while (sent < message.size) {
        ssize_t n = send(fd, message.data + sent, message.size - sent, MSG_NOSIGNAL);
        if (n < 0) {
            die_of_errno("the admin socket");
        }
        sent += (size_t)n;
    }
    writer_fini(&message);
}

static size_t length_in(const char *head)
{
    const char *found = strcasestr(head, "\r\ncontent-length:");

    return found == NULL ? 0 : strtoul(found + strlen("\r\ncontent-length:"), NULL, 10);
}

static void receive_answer(int fd)
{
    char answer[ANSWER_MAX + 1];
    size_t n = 0;

    for (;;) {
        ssize_t got = recv(fd, answer + n, ANSWER_MAX - n, 0);
        if (got <= 0) {
            die("the admin socket was closed");
        }
        n += (size_t)got;
        answer[n] = '\0';
        const char *end = strstr(answer, "\r\n\r\n");
        if (end != NULL && n >= (size_t)(end - answer) + 4 + length_in(answer)) {
            break;
        }
    }
    if (strncmp(answer, "HTTP/1.1 2", 10) != 0) {
        die("a list was refused: %s", answer);
    }
}

static void push_version(const int fds[CONNECTIONS], const struct lists *lists, uint32_t version)
{
    for (uint32_t user = 0; user < lists->n_users; user += CONNECTIONS) {
        uint32_t left = lists->n_users - user;
        uint32_t n = left < CONNECTIONS ? left : CONNECTIONS;
        for (uint32_t i = 0; i < n; i++) {
            send_push(fds[i], lists, user + i, version);
        }
        for (uint32_t i = 0; i < n; i++) {
            receive_answer(fds[i]);
        }
    }
}

uint64_t push_lists(const char *socket_path, const struct lists *lists, uint32_t version)
{
    uint32_t first = version > 0 ? version - 1 : 0;
    int fds[CONNECTIONS];

    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        fds[i] = connect_to(socket_path);
    }
    for (uint32_t v = first; v <= version; v++) {
        push_version(fds, lists, v);
    }
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        close(fds[i]);
    }
    return (uint64_t)lists->n_users * (version - first + 1);
}
