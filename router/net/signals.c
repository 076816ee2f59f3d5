#include "net/signals.h"

#include "proto/check.h"

#include <event2/event.h>
#include <sys/signalfd.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct signals {
    int fd;
    struct event *event;
    void (*on_signal)(void *arg, int number);
    void *arg;
};

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct signals *signals = arg;
    struct signalfd_siginfo info;

    (void)what;
    while (read(fd, &info, sizeof info) == (ssize_t)sizeof info) {
        signals->on_signal(signals->arg, (int)info.ssi_signo);
    }
}

enum err signals_new(struct signals **out, struct loop *loop, const int *numbers, size_t n,
                     void (*on_signal)(void *arg, int number), void *arg)
{
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < n; i++) {
        sigaddset(&set, numbers[i]);
    }
    CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0) {
        return err_raise(ERR_IO, "signalfd: %s", strerrordesc_np(errno));
    }
    struct signals *signals = calloc(1, sizeof *signals);
    CHECK(signals != NULL);
    signals->fd = fd;
    signals->on_signal = on_signal;
    signals->arg = arg;
    signals->event = event_new(loop_base(loop), fd, EV_READ | EV_PERSIST, on_readable, signals);
    CHECK(signals->event != NULL && event_add(signals->event, NULL) == 0);
    *out = signals;
    return ERR_OK;
}

void signals_free(struct signals *signals)
{
    if (signals != NULL) {
        event_free(signals->event);
        close(signals->fd);
        free(signals);
    }
}
