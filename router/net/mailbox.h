/* Messages to a loop from any thread. */
#pragma once

#include "base/err.h"
#include "net/loop.h"
#include "proto/own.h"

/* Sits inside a message, which owns its bytes and belongs to the receiver once posted. */
struct mail {
    struct mail *next;
    void (*handle)(struct mail *mail); /* for the receiver's on_mail to call, if it likes */
};

struct mailbox;

/* on_mail runs on the loop, once for each mail in the order of posting; NULL: calls its `handle`.
 */
MUST_CHECK enum err mailbox_new(struct mailbox **out, struct loop *loop,
                                void (*on_mail)(void *arg, struct mail *mail), void *arg);

/* Hands over what was still unread. Nobody may post any more. */
void mailbox_free(struct mailbox *box);

/* Any thread. Never blocks, never fails. */
void mailbox_post(struct mailbox *box, struct mail *mail);
