#include "net/mailbox.h"

#include "proto/check.h"

#include <event2/event.h>
#include <sys/eventfd.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mailbox {
    _Atomic(struct mail *) newest; /* a stack, linked from new to old */
    int fd;                        /* readable while there may be mail */
    struct event *event;
    void (*on_mail)(void *arg, struct mail *mail);
    void *arg;
};

static struct mail *take_all_oldest_first(struct mailbox *box)
{
    struct mail *mail = atomic_exchange_explicit(&box->newest, NULL, memory_order_acquire);
    struct mail *oldest = NULL;

    while (mail != NULL) {
        struct mail *older = mail->next;
        mail->next = oldest;
        oldest = mail;
        mail = older;
    }
    return oldest;
}

static void deliver(struct mailbox *box)
{
    struct mail *mail = take_all_oldest_first(box);

    while (mail != NULL) {
        struct mail *next = mail->next;
        mail->next = NULL;
        if (box->on_mail != NULL) {
            box->on_mail(box->arg, mail);
        } else {
            mail->handle(mail);
        }
        mail = next;
    }
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    uint64_t count;

    (void)what;
    /* Before taking the mail: a post from now on makes it readable again. */
    ssize_t n = read(fd, &count, sizeof count);
    CHECK(n == (ssize_t)sizeof count || errno == EAGAIN);
    deliver(arg);
}

enum err mailbox_new(struct mailbox **out, struct loop *loop,
                     void (*on_mail)(void *arg, struct mail *mail), void *arg)
{
    struct mailbox *box = calloc(1, sizeof *box);

    CHECK(box != NULL);
    box->on_mail = on_mail;
    box->arg = arg;
    box->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (box->fd < 0) {
        free(box);
        return err_raise(ERR_IO, "eventfd: %s", strerrordesc_np(errno));
    }
    box->event = event_new(loop_base(loop), box->fd, EV_READ | EV_PERSIST, on_readable, box);
    CHECK(box->event != NULL && event_add(box->event, NULL) == 0);
    *out = box;
    return ERR_OK;
}

void mailbox_free(struct mailbox *box)
{
    if (box == NULL) {
        return;
    }
    deliver(box);
    event_free(box->event);
    close(box->fd);
    free(box);
}

void mailbox_post(struct mailbox *box, struct mail *mail)
{
    const uint64_t one = 1;
    struct mail *older = atomic_load_explicit(&box->newest, memory_order_relaxed);

    do {
        mail->next = older;
    } while (!atomic_compare_exchange_weak_explicit(&box->newest, &older, mail,
                                                    memory_order_release, memory_order_relaxed));
    if (older == NULL) {
        CHECK(write(box->fd, &one, sizeof one) == (ssize_t)sizeof one);
    }
}
