#include "net/proxy_reader.h"

#include <sys/socket.h>

#include <errno.h>

/* The line ends that the signature begins with are nothing to HTTP. */
enum { HARMLESS = 4 /* bytes */ };

/* Looks ahead and takes what is of the signature, so that the socket does not keep telling of bytes
 * that wait. */
static enum proxy_read read_signature(struct proxy_reader *r, int fd)
{
    char ahead[PROXY_SIGNATURE_SIZE];
    size_t n_same = 0;
    ssize_t n = recv(fd, ahead, PROXY_SIGNATURE_SIZE - r->size, MSG_PEEK);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return PROXY_READ_AGAIN;
    }
    if (n <= 0) { /* a health check may only connect */
        return r->size == 0 ? PROXY_READ_NONE : PROXY_READ_BAD;
    }
    while (n_same < (size_t)n && ahead[n_same] == proxy_signature.data[r->size + n_same]) {
        n_same++;
    }
    if (n_same > 0 && recv(fd, r->bytes + r->size, n_same, 0) != (ssize_t)n_same) {
        return PROXY_READ_BAD;
    }
    r->size += n_same;
    if (n_same == (size_t)n) {
        return PROXY_READ_DONE;
    }
    return r->size <= HARMLESS ? PROXY_READ_NONE : PROXY_READ_BAD;
}

static enum proxy_read read_rest(struct proxy_header *out, struct proxy_reader *r, int fd)
{
    enum proxy_result result;

    while ((result = proxy_header_decode(out, span_of(r->bytes, r->size))) == PROXY_MORE) {
        ssize_t n = recv(fd, r->bytes + r->size, out->size - r->size, 0);
        if (n <= 0) {
            return n < 0 && (errno == EAGAIN || errno == EINTR) ? PROXY_READ_AGAIN : PROXY_READ_BAD;
        }
        r->size += (size_t)n;
    }
    return result == PROXY_WHOLE ? PROXY_READ_DONE : PROXY_READ_BAD;
}

enum proxy_read proxy_read(struct proxy_header *out, struct proxy_reader *reader, int fd)
{
    while (reader->size < PROXY_SIGNATURE_SIZE) {
        enum proxy_read result = read_signature(reader, fd);
        if (result != PROXY_READ_DONE) {
            return result;
        }
    }
    return read_rest(out, reader, fd);
}
