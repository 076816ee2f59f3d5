#include "net/ask.h"

#include "base/table.h"
#include "net/mailbox.h"
#include "proto/check.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct ask_ring {
    size_t n;
    struct mailbox **boxes; /* by port */
};

struct ask_port {
    struct ask_ring *ring;
    uint32_t index;
    uint64_t next_id;
    struct table asks; /* by id */
    bool is_closing;
    void (*on_question)(void *arg, struct asker asker, struct span question);
    void *arg;
};

struct ask_mail {
    struct mail mail;
    bool is_answer;
    struct asker asker;
    size_t size;
    char bytes[];
};

struct ask_ring *ask_ring_new(size_t n)
{
    struct ask_ring *ring = calloc(1, sizeof *ring);

    CHECK(ring != NULL && n > 0);
    ring->n = n;
    ring->boxes = calloc(n, sizeof(struct mailbox *));
    CHECK(ring->boxes != NULL);
    return ring;
}

void ask_ring_free(struct ask_ring *ring)
{
    if (ring != NULL) {
        free(ring->boxes);
        free(ring);
    }
}

static void post(const struct ask_port *port, size_t to, struct asker asker, bool is_answer,
                 struct span bytes)
{
    struct ask_mail *mail = malloc(sizeof *mail + bytes.size);

    CHECK(mail != NULL);
    *mail = (struct ask_mail){.is_answer = is_answer, .asker = asker, .size = bytes.size};
    if (bytes.size != 0) {
        memcpy(mail->bytes, bytes.data, bytes.size);
    }
    mailbox_post(port->ring->boxes[to], &mail->mail);
}

static struct span key_of(const uint64_t *id)
{
    return span_of(id, sizeof *id);
}

static void take_answer(struct ask_port *port, const struct ask_mail *mail)
{
    struct ask *ask = table_remove(&port->asks, key_of(&mail->asker.id));

    if (ask != NULL) {
        ask->id = 0;
        ask->on_answer(ask->arg, span_of(mail->bytes, mail->size));
    }
}

static void on_mail(void *arg, struct mail *mail)
{
    struct ask_port *port = arg;
    struct ask_mail *self = LIST_ENTRY(mail, struct ask_mail, mail);

    if (port->is_closing) {
        free(self);
        return;
    }
    if (self->is_answer) {
        take_answer(port, self);
    } else {
        port->on_question(port->arg, self->asker, span_of(self->bytes, self->size));
    }
    free(self);
}

enum err ask_port_new(struct ask_port **out, struct ask_ring *ring, size_t index, struct loop *loop,
                      void (*on_question)(void *arg, struct asker asker, struct span question),
                      void *arg)
{
    struct ask_port *port = calloc(1, sizeof *port);

    CHECK(port != NULL && index < ring->n && ring->boxes[index] == NULL);
    enum err result = mailbox_new(&ring->boxes[index], loop, on_mail, port);
    if (result != ERR_OK) {
        free(port);
        return result;
    }
    port->ring = ring;
    port->index = (uint32_t)index;
    port->on_question = on_question;
    port->arg = arg;
    table_init(&port->asks);
    *out = port;
    return ERR_OK;
}

void ask_port_free(struct ask_port *port)
{
    if (port == NULL) {
        return;
    }
    port->is_closing = true;
    mailbox_free(port->ring->boxes[port->index]);
    port->ring->boxes[port->index] = NULL;
    table_fini(&port->asks);
    free(port);
}

void ask_start(struct ask_port *port, struct ask *ask, struct span name, struct span question,
               void (*on_answer)(void *arg, struct span answer), void *arg)
{
    *ask = (struct ask){.id = ++port->next_id, .on_answer = on_answer, .arg = arg};
    CHECK(table_put(&port->asks, key_of(&ask->id), ask) == NULL);
    post(port, XXH3_64bits(name.data, name.size) % port->ring->n,
         (struct asker){port->index, ask->id}, false, question);
}

void ask_cancel(struct ask_port *port, struct ask *ask)
{
    if (ask->id != 0) {
        table_remove(&port->asks, key_of(&ask->id));
        ask->id = 0;
    }
}

void ask_answer(struct ask_port *port, struct asker asker, struct span answer)
{
    CHECK(asker.port < port->ring->n);
    post(port, asker.port, asker, true, answer);
}
