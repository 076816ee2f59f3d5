/* First: it defines a LIST_ENTRY of its own for a while. */
#include <event2/event_struct.h>

#include "net/stream.h"

#include "net/proxy_reader.h"
#include "net/tls.h"
#include "proto/check.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    TLS_RECORD_MAX = 16 * 1024, /* bytes. Source: RFC 8446 5.1 */
    LINGER_MS = 2000,           /* input is dropped this long after the last byte of output */
    LINGER_BYTES_MAX = 1 << 20, /* and no more than this */
};

enum stream_state {
    STREAM_CONNECTING,
    STREAM_HANDSHAKING,
    STREAM_OPEN,
    STREAM_FINISHING, /* given up, output left */
    STREAM_LINGERING, /* given up, nothing left to send */
    STREAM_DEAD,      /* closed; the memory goes once no callback is inside it */
};

struct stream {
    struct loop *loop;
    struct loop_task task; /* frees the memory; before that, closes at the loop's end */
    struct loop_task kick; /* goes on without waiting for the socket */
    const struct stream_ops *ops;
    void *arg;
    int fd;
    SSL *ssl;                   /* NULL: cleartext */
    struct proxy_reader *proxy; /* NULL: none, or its header has been read */
    bool (*on_client)(void *arg, const struct in6_addr *client);
    enum stream_state state;
    bool is_accepted, is_paused, is_given_up;
    bool read_wants_write, write_wants_read; /* TLS 1.3 key updates */
    bool is_blocked;                         /* the kernel takes no more output for now */
    bool output_failed; /* what is written goes nowhere; input may still be there to be read */
    bool is_broken;     /* on_closed is due */
    bool reads_again;   /* TLS may hold input that the socket is silent of */
    uint32_t write_ms;
    size_t output_max;
    size_t lingered;         /* bytes dropped */
    struct evbuffer *output; /* NULL while empty */
    struct event readable, writable;
    struct timer timer; /* until it is ready, for output to go on, to linger */
};

enum io { IO_DONE, IO_AGAIN, IO_EOF, IO_BROKEN };

static void arm(struct event *event, bool wanted)
{
    short what = (short)(event_get_events(event) & (EV_READ | EV_WRITE));

    if (wanted == (event_pending(event, what, NULL) != 0)) {
        return;
    }
    CHECK((wanted ? event_add(event, NULL) : event_del(event)) == 0);
}

/* What the kernel should tell us about. */
static void arm_both(struct stream *s)
{
    bool is_shaking = s->state == STREAM_HANDSHAKING;
    bool reads = (s->state == STREAM_OPEN && !s->is_paused) || s->state == STREAM_LINGERING;

    if (s->state == STREAM_DEAD || s->state == STREAM_CONNECTING) {
        return;
    }
    arm(&s->readable, (is_shaking && !s->read_wants_write) || (reads && !s->read_wants_write) ||
                          s->write_wants_read);
    arm(&s->writable, (s->output != NULL && s->is_blocked && !is_shaking && !s->write_wants_read) ||
                          s->read_wants_write);
}

static void free_memory(struct loop_task *task)
{
    free(LIST_ENTRY(task, struct stream, task));
}

static void destroy(struct stream *s)
{
    if (s->state == STREAM_DEAD) {
        return;
    }
    s->state = STREAM_DEAD;
    event_del(&s->readable);
    event_del(&s->writable);
    timer_fini(&s->timer);
    tls_free(s->ssl);
    free(s->proxy);
    ERR_clear_error();
    if (s->fd >= 0) {
        close(s->fd);
    }
    if (s->output != NULL) {
        evbuffer_free(s->output);
    }
    loop_task_cancel(&s->kick);
    loop_task_cancel(&s->task);
    s->task.run = free_memory;
    loop_defer(s->loop, &s->task);
}

static void destroy_at_exit(struct loop_task *task)
{
    destroy(LIST_ENTRY(task, struct stream, task));
}

/* Why a stream was never ready. One that a peer opened and left without a word is nobody's fault.
 */
static enum stream_end unready_end(const struct stream *s, enum stream_end why)
{
    bool has_begun = s->ssl != NULL && BIO_number_read(SSL_get_rbio(s->ssl)) > 0;

    if (!s->is_accepted || why == STREAM_END_REFUSED) {
        return STREAM_END_REFUSED;
    }
    if (why == STREAM_END_TIMEOUT) {
        return STREAM_END_TIMEOUT;
    }
    return has_begun ? STREAM_END_TLS : STREAM_END_REFUSED;
}

/* The end of a stream that somebody owns is theirs to handle; otherwise it just goes. */
static void end(struct stream *s, enum stream_end why)
{
    if (s->state == STREAM_DEAD) {
        return;
    }
    if (s->is_given_up) {
        destroy(s);
        return;
    }
    if (s->state < STREAM_OPEN) {
        why = unready_end(s, why);
    }
    event_del(&s->readable);
    event_del(&s->writable);
    timer_stop(&s->timer);
    loop_task_cancel(&s->kick);
    s->is_paused = true;
    s->is_broken = why != STREAM_END_EOF; /* after that, output can still go */
    s->ops->on_closed(s->arg, why);
}

static enum io tls_result(struct stream *s, int result, bool *wants_other)
{
    bool is_write = wants_other == &s->write_wants_read;

    switch (SSL_get_error(s->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        *wants_other = is_write;
        return IO_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        *wants_other = !is_write;
        return IO_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return IO_EOF;
    default:
        ERR_clear_error();
        return IO_BROKEN;
    }
}

static enum io read_some(size_t *out, struct stream *s, char *buffer, size_t size)
{
    *out = 0;
    if (s->ssl != NULL) {
        s->read_wants_write = false;
        ERR_clear_error();
        int result = SSL_read_ex(s->ssl, buffer, size, out);
        return result == 1 ? IO_DONE : tls_result(s, result, &s->read_wants_write);
    }
    ssize_t n = recv(s->fd, buffer, size, 0);
    if (n > 0) {
        *out = (size_t)n;
        return IO_DONE;
    }
    if (n == 0) {
        return IO_EOF;
    }
    return errno == EAGAIN || errno == EINTR ? IO_AGAIN : IO_BROKEN;
}

/* The socket is silent of what TLS has taken from it already. */
static bool tls_holds_input(const struct stream *s)
{
    return s->ssl != NULL && SSL_has_pending(s->ssl) == 1;
}

/* One recv, or as many TLS records as fit and seem to be there: after a full one more are likely,
 * and asking in vain would cost a system call for each small request. */
static enum io read_scratch(size_t *out, struct stream *s)
{
    char *scratch = loop_scratch(s->loop);
    bool may_be_more;
    enum io io;
    size_t got;

    *out = 0;
    do {
        io = read_some(&got, s, scratch + *out, LOOP_SCRATCH_SIZE - *out);
        *out += got;
        may_be_more = (s->ssl != NULL && got == TLS_RECORD_MAX) || tls_holds_input(s);
    } while (io == IO_DONE && may_be_more && *out < LOOP_SCRATCH_SIZE);
    return io;
}

static void read_again(struct stream *s)
{
    s->reads_again = true;
    loop_defer(s->loop, &s->kick);
}

static void linger_input(struct stream *s)
{
    size_t n;
    enum io io = read_scratch(&n, s);

    s->lingered += n;
    if (io == IO_EOF || io == IO_BROKEN || s->lingered > LINGER_BYTES_MAX) {
        destroy(s);
        return;
    }
    arm_both(s);
}

static void read_input(struct stream *s)
{
    size_t n;
    enum io io = read_scratch(&n, s);

    if (n > 0) {
        s->ops->on_bytes(s->arg, span_of(loop_scratch(s->loop), n));
    }
    if (s->state == STREAM_DEAD) {
        return;
    }
    if (io == IO_EOF || io == IO_BROKEN) {
        end(s, io == IO_EOF ? STREAM_END_EOF : STREAM_END_BROKEN);
        return;
    }
    arm_both(s);
    if (io == IO_DONE && s->state == STREAM_OPEN && !s->is_paused && tls_holds_input(s)) {
        read_again(s);
    }
}

static enum io write_some(struct stream *s)
{
    if (s->ssl != NULL) {
        size_t size = evbuffer_get_length(s->output);
        size_t n;
        size = size < TLS_RECORD_MAX ? size : TLS_RECORD_MAX;
        const unsigned char *bytes = evbuffer_pullup(s->output, (ev_ssize_t)size);
        CHECK(bytes != NULL);
        s->write_wants_read = false;
        ERR_clear_error();
        int result = SSL_write_ex(s->ssl, bytes, size, &n);
        if (result != 1) {
            return tls_result(s, result, &s->write_wants_read);
        }
        CHECK(evbuffer_drain(s->output, n) == 0);
        return IO_DONE;
    }
    if (evbuffer_write(s->output, s->fd) > 0) {
        return IO_DONE;
    }
    return errno == EAGAIN || errno == EINTR ? IO_AGAIN : IO_BROKEN;
}

static void start_lingering(struct stream *s)
{
    if (s->ssl != NULL) {
        ERR_clear_error();
        SSL_shutdown(s->ssl);
        ERR_clear_error();
    }
    if (shutdown(s->fd, SHUT_WR) != 0) {
        destroy(s);
        return;
    }
    s->state = STREAM_LINGERING;
    s->read_wants_write = s->write_wants_read = false;
    timer_start(&s->timer, LINGER_MS);
    arm_both(s);
    read_again(s); /* TLS may hold input already */
}

static void after_output(struct stream *s)
{
    evbuffer_free(s->output);
    s->output = NULL;
    s->write_wants_read = false;
    timer_stop(&s->timer);
    if (s->state == STREAM_FINISHING) {
        start_lingering(s);
        return;
    }
    s->ops->on_drained(s->arg);
}

/* A peer that answers early and closes resets us, yet its answer is here to be read. */
static void give_up_output(struct stream *s)
{
    if (s->is_given_up || s->is_paused) {
        end(s, STREAM_END_BROKEN);
        return;
    }
    evbuffer_free(s->output);
    s->output = NULL;
    s->output_failed = true;
    timer_stop(&s->timer);
    arm_both(s);
    read_again(s);
}

static void write_output(struct stream *s)
{
    enum io io = IO_DONE;
    bool has_progress = false;

    while (io == IO_DONE && s->output != NULL && evbuffer_get_length(s->output) > 0) {
        io = write_some(s);
        has_progress = has_progress || io == IO_DONE;
    }
    s->is_blocked = io == IO_AGAIN;
    if (io == IO_BROKEN || io == IO_EOF) {
        give_up_output(s);
        return;
    }
    if (io == IO_AGAIN && (has_progress || !timer_is_running(&s->timer))) {
        timer_start(&s->timer, s->write_ms);
    }
    if (s->output != NULL && io == IO_DONE) {
        after_output(s);
    }
    if (s->state != STREAM_DEAD) {
        arm_both(s);
    }
}

static void become_ready(struct stream *s)
{
    timer_stop(&s->timer);
    s->read_wants_write = s->write_wants_read = false;
    s->state = s->is_given_up ? STREAM_FINISHING : STREAM_OPEN;
    if (s->output != NULL) {
        timer_start(&s->timer, s->write_ms);
        loop_defer(s->loop, &s->kick);
    } else if (s->is_given_up) {
        start_lingering(s);
        return;
    }
    if (!s->is_given_up) {
        s->ops->on_ready(s->arg);
    }
    if (s->state == STREAM_OPEN && s->ssl != NULL && !s->is_paused) {
        read_again(s); /* early bytes came with the handshake */
    }
    arm_both(s);
}

/* False if the stream does not go on now. */
static bool read_proxy_header(struct stream *s)
{
    struct proxy_header header;
    enum proxy_read result = proxy_read(&header, s->proxy, s->fd);
    bool has_news = result == PROXY_READ_BAD || (result == PROXY_READ_DONE && header.has_address);

    if (result == PROXY_READ_AGAIN) {
        arm_both(s);
        return false;
    }
    free(s->proxy);
    s->proxy = NULL;
    if (has_news && (s->is_given_up ||
                     !s->on_client(s->arg, result == PROXY_READ_BAD ? NULL : &header.address))) {
        end(s, STREAM_END_REFUSED);
        return false;
    }
    return true;
}

static void shake(struct stream *s)
{
    if (s->proxy != NULL && !read_proxy_header(s)) {
        return;
    }
    if (s->ssl == NULL) {
        become_ready(s);
        return;
    }
    s->read_wants_write = false;
    ERR_clear_error();
    int result = SSL_do_handshake(s->ssl);
    if (result == 1) {
        tls_established(s->ssl);
        become_ready(s);
        return;
    }
    if (tls_result(s, result, &s->read_wants_write) != IO_AGAIN) {
        end(s, STREAM_END_BROKEN);
        return;
    }
    arm_both(s);
}

static void finish_connecting(struct stream *s)
{
    int error = 0;
    socklen_t size = sizeof error;

    if (s->fd < 0 || getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) {
        end(s, STREAM_END_REFUSED);
        return;
    }
    s->state = STREAM_HANDSHAKING;
    arm(&s->writable, false);
    shake(s);
}

static void go_on_reading(struct stream *s)
{
    if (s->state == STREAM_LINGERING) {
        linger_input(s);
    } else if (s->state == STREAM_OPEN && !s->is_paused) {
        read_input(s);
    }
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct stream *s = arg;
    bool reads_too = s->read_wants_write;

    (void)fd;
    (void)what;
    if (s->state == STREAM_CONNECTING) {
        finish_connecting(s);
        return;
    }
    if (s->state == STREAM_HANDSHAKING) {
        shake(s);
        return;
    }
    if (s->output != NULL) {
        write_output(s);
    }
    if (reads_too) {
        go_on_reading(s);
    }
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct stream *s = arg;

    (void)fd;
    (void)what;
    if (s->state == STREAM_HANDSHAKING) {
        shake(s);
        return;
    }
    if (s->write_wants_read && s->output != NULL) {
        write_output(s);
    }
    go_on_reading(s);
}

static void on_kick(struct loop_task *task)
{
    struct stream *s = LIST_ENTRY(task, struct stream, kick);
    bool reads_again = s->reads_again;

    s->reads_again = false;
    if (s->is_broken) {
        end(s, STREAM_END_BROKEN);
        return;
    }
    if (s->state == STREAM_HANDSHAKING) {
        shake(s);
        return;
    }
    if (s->output != NULL && !s->write_wants_read) {
        write_output(s);
    }
    if (reads_again) {
        go_on_reading(s);
    }
}

static void on_timeout(void *arg)
{
    end(arg, STREAM_END_TIMEOUT);
}

static struct stream *stream_new(struct loop *loop, int fd, const struct stream_options *options)
{
    struct stream *s = calloc(1, sizeof *s);
    const int on = 1;

    CHECK(s != NULL);
    *s = (struct stream){.loop = loop,
                         .ops = options->ops,
                         .arg = options->arg,
                         .fd = fd,
                         .write_ms = options->write_ms,
                         .output_max = options->output_max};
    s->task.run = destroy_at_exit;
    s->kick.run = on_kick;
    CHECK(event_assign(&s->readable, loop_base(loop), fd, EV_READ | EV_PERSIST, on_readable, s) ==
          0);
    CHECK(event_assign(&s->writable, loop_base(loop), fd, EV_WRITE | EV_PERSIST, on_writable, s) ==
          0);
    timer_init(&s->timer, loop, on_timeout, s);
    if (fd >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* fails on a Unix socket */
    }
    timer_start(&s->timer, options->ready_ms);
    return s;
}

struct stream *stream_accept(struct loop *loop, int fd, const struct stream_options *options)
{
    struct stream *s = stream_new(loop, fd, options);

    s->is_accepted = true;
    s->state = STREAM_HANDSHAKING;
    s->on_client = options->on_client;
    if (options->on_client != NULL) {
        s->proxy = calloc(1, sizeof *s->proxy);
        CHECK(s->proxy != NULL);
    }
    if (options->tls != NULL) {
        s->ssl = tls_accepting(options->tls, fd);
        s->is_broken = s->ssl == NULL;
    }
    loop_defer(s->loop, &s->kick);
    return s;
}

struct stream *stream_connect(struct loop *loop, const struct sockaddr *address, socklen_t size,
                              const struct stream_options *options)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct stream *s = stream_new(loop, fd, options);

    s->state = STREAM_CONNECTING;
    s->is_broken = fd < 0;
    if (fd >= 0 && connect(fd, address, size) != 0 && errno != EINPROGRESS) {
        s->is_broken = true;
    }
    if (fd >= 0 && options->tls != NULL) {
        s->ssl = tls_connecting(options->tls, fd, options->tls_name);
        s->is_broken = s->is_broken || s->ssl == NULL;
    }
    if (s->is_broken) {
        loop_defer(s->loop, &s->kick);
    } else {
        arm(&s->writable, true);
    }
    return s;
}

void stream_hand_over(struct stream *s, const struct stream_ops *ops, void *arg)
{
    s->ops = ops;
    s->arg = arg;
}

bool stream_is_http2(const struct stream *s)
{
    const unsigned char *name;
    unsigned size = 0;

    if (s->ssl != NULL) {
        SSL_get0_alpn_selected(s->ssl, &name, &size);
    }
    return size == 2 && memcmp(name, "h2", 2) == 0;
}

bool stream_tls_covers(const struct stream *s, struct span host)
{
    return s->ssl == NULL || tls_covers(s->ssl, tls_host_name(host));
}

/* False if output goes nowhere. */
static bool begin_output(struct stream *s, size_t size)
{
    if (size == 0 || s->is_broken || s->output_failed || s->state == STREAM_DEAD) {
        return false;
    }
    CHECK(!s->is_given_up);
    if (stream_output_size(s) + size > s->output_max) {
        s->is_broken = true;
        loop_defer(s->loop, &s->kick);
        return false;
    }
    if (s->output == NULL) {
        s->output = evbuffer_new();
        CHECK(s->output != NULL);
    }
    if (s->state == STREAM_OPEN) {
        loop_defer(s->loop, &s->kick);
    }
    return true;
}

void stream_write(struct stream *s, struct span bytes)
{
    if (begin_output(s, bytes.size)) {
        CHECK(evbuffer_add(s->output, bytes.data, bytes.size) == 0);
    }
}

void stream_write_borrowed(struct stream *s, struct span bytes)
{
    if (begin_output(s, bytes.size)) {
        CHECK(evbuffer_add_reference(s->output, bytes.data, bytes.size, NULL, NULL) == 0);
    }
}

size_t stream_output_size(const struct stream *s)
{
    return s->output == NULL ? 0 : evbuffer_get_length(s->output);
}

void stream_pause(struct stream *s)
{
    s->is_paused = true;
    arm_both(s);
}

void stream_resume(struct stream *s)
{
    if (!s->is_paused) {
        return;
    }
    s->is_paused = false;
    arm_both(s);
    if (s->state == STREAM_OPEN && tls_holds_input(s)) {
        read_again(s);
    }
}

void stream_finish(struct stream *s)
{
    if (s->state == STREAM_DEAD || s->is_given_up) {
        return;
    }
    if (s->is_broken || s->fd < 0) {
        destroy(s);
        return;
    }
    s->is_given_up = true;
    loop_at_exit(s->loop, &s->task);
    if (s->state != STREAM_OPEN) {
        return; /* goes on once it is ready */
    }
    if (s->output == NULL) {
        start_lingering(s);
        return;
    }
    s->state = STREAM_FINISHING;
    timer_start(&s->timer, s->write_ms);
    arm_both(s);
    loop_defer(s->loop, &s->kick);
}

void stream_cut(struct stream *s)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};

    if (s->state != STREAM_DEAD && s->fd >= 0) {
        setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    destroy(s);
}
