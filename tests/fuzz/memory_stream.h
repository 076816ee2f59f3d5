/* In the place of net/stream.c, which these programs do not link: a stream whose other end is the
 * fuzz target, without a socket. As there, no callback comes from inside a stream_ function. */
#pragma once

#include "net/stream.h"
#include "proto/check.h"

#include <stdlib.h>

struct stream {
    struct loop *loop;
    struct loop_task task; /* frees the memory */
    struct loop_task kick;
    const struct stream_ops *ops;
    void *arg;
    struct span input; /* of the other end, not read yet */
    uint8_t seen;
    size_t output_size, output_max;
    bool is_ready, is_paused, is_given_up, is_broken, is_dead;
    bool has_eof; /* after the input */
    bool has_end; /* the owner was told */
};

/* The one that was accepted last; NULL once that is dead. */
static inline struct stream **memory_stream_latest(void)
{
    static struct stream *latest;

    return &latest;
}

static inline void memory_stream_free(struct loop_task *task)
{
    free(LIST_ENTRY(task, struct stream, task));
}

static inline void memory_stream_die(struct stream *s)
{
    if (!s->is_dead) {
        s->is_dead = true;
        *memory_stream_latest() = NULL;
        loop_task_cancel(&s->kick);
        loop_task_cancel(&s->task);
        s->task.run = memory_stream_free;
        loop_defer(s->loop, &s->task);
    }
}

static inline void memory_stream_die_at_exit(struct loop_task *task)
{
    memory_stream_die(LIST_ENTRY(task, struct stream, task));
}

static inline void memory_stream_end(struct stream *s, enum stream_end why)
{
    if (!s->has_end) {
        s->has_end = s->is_paused = true;
        s->is_broken = why != STREAM_END_EOF;
        s->ops->on_closed(s->arg, why);
    }
}

/* In memory of its own, so that nobody reads beyond it, or later. */
static inline void memory_stream_read(struct stream *s)
{
    size_t n = s->input.size < LOOP_SCRATCH_SIZE ? s->input.size : LOOP_SCRATCH_SIZE;
    char *bytes = malloc(n);

    CHECK(bytes != NULL);
    memcpy(bytes, s->input.data, n);
    s->input = span_skip(s->input, n);
    s->ops->on_bytes(s->arg, span_of(bytes, n));
    free(bytes);
}

static inline void memory_stream_write_out(struct stream *s)
{
    s->output_size = 0;
    if (s->is_given_up) {
        memory_stream_die(s);
    } else {
        s->ops->on_drained(s->arg);
    }
}

/* One thing after another, each from the loop. */
static inline void memory_stream_go_on(struct loop_task *task)
{
    struct stream *s = LIST_ENTRY(task, struct stream, kick);

    if (!s->is_ready && !s->is_given_up) {
        s->is_ready = true;
        s->ops->on_ready(s->arg);
    } else if (s->is_broken) {
        memory_stream_end(s, STREAM_END_BROKEN);
        return;
    } else if (s->output_size > 0) {
        memory_stream_write_out(s);
    } else if (s->is_given_up) {
        memory_stream_die(s);
    } else if (!s->is_paused && s->input.size > 0) {
        memory_stream_read(s);
    } else if (!s->is_paused && s->has_eof) {
        memory_stream_end(s, STREAM_END_EOF);
        return;
    } else {
        return;
    }
    if (!s->is_dead) {
        loop_defer(s->loop, &s->kick);
    }
}

/* The other end sends; the bytes are borrowed, and stand behind those that were not read yet. */
static inline void memory_stream_give(struct span bytes)
{
    struct stream *s = *memory_stream_latest();

    if (s != NULL) {
        CHECK(s->input.size == 0 || s->input.data + s->input.size == bytes.data);
        s->input = span_of(bytes.data - s->input.size, s->input.size + bytes.size);
        loop_defer(s->loop, &s->kick);
    }
}

static inline void memory_stream_give_eof(void)
{
    struct stream *s = *memory_stream_latest();

    if (s != NULL) {
        s->has_eof = true;
        loop_defer(s->loop, &s->kick);
    }
}

/* Whether there is anything left to be done of itself. */
static inline bool memory_stream_is_busy(void)
{
    const struct stream *s = *memory_stream_latest();

    return s != NULL && link_is_linked(&s->kick.link);
}

struct stream *stream_accept(struct loop *loop, int fd, const struct stream_options *options)
{
    struct stream *s = calloc(1, sizeof *s);

    CHECK(s != NULL && fd < 0 && options->tls == NULL && options->on_client == NULL);
    *s = (struct stream){.loop = loop,
                         .task.run = memory_stream_die_at_exit,
                         .kick.run = memory_stream_go_on,
                         .ops = options->ops,
                         .arg = options->arg,
                         .output_max = options->output_max};
    *memory_stream_latest() = s;
    loop_defer(loop, &s->kick);
    return s;
}

struct stream *stream_connect(struct loop *loop, const struct sockaddr *address, socklen_t size,
                              const struct stream_options *options)
{
    CHECK(loop == NULL && address == NULL && size == 0 && options == NULL);
    return NULL;
}

void stream_hand_over(struct stream *s, const struct stream_ops *ops, void *arg)
{
    s->ops = ops;
    s->arg = arg;
}

bool stream_is_http2(const struct stream *s)
{
    (void)s;
    return false;
}

bool stream_tls_covers(const struct stream *s, struct span host)
{
    (void)s;
    (void)host;
    return true;
}

void stream_write(struct stream *s, struct span bytes)
{
    if (bytes.size == 0 || s->is_broken || s->is_dead) {
        return;
    }
    CHECK(!s->is_given_up);
    for (size_t i = 0; i < bytes.size; i++) {
        s->seen ^= (uint8_t)bytes.data[i]; /* for a sanitizer: it is all there */
    }
    s->output_size += bytes.size;
    s->is_broken = s->output_size > s->output_max;
    loop_defer(s->loop, &s->kick);
}

size_t stream_output_size(const struct stream *s)
{
    return s->output_size;
}

void stream_pause(struct stream *s)
{
    s->is_paused = true;
}

void stream_resume(struct stream *s)
{
    if (s->is_paused && !s->has_end) {
        s->is_paused = false;
        loop_defer(s->loop, &s->kick);
    }
}

void stream_finish(struct stream *s)
{
    if (s->is_dead || s->is_given_up) {
        return;
    }
    if (s->is_broken) {
        memory_stream_die(s);
        return;
    }
    s->is_given_up = true;
    loop_at_exit(s->loop, &s->task);
    loop_defer(s->loop, &s->kick);
}

void stream_cut(struct stream *s)
{
    memory_stream_die(s);
}
