#include "net/http_transport.h"

#include "proto/check.h"

void http_respond_head(struct http_exchange *ex, unsigned status, const struct http_header *headers,
                       size_t n_headers, int64_t content_length)
{
    CHECK(status >= 200);
    ex->transport->respond_head(ex, status, headers, n_headers, content_length);
}

void http_respond_body(struct http_exchange *ex, struct span bytes)
{
    ex->transport->respond_body(ex, bytes);
}

void http_respond_end(struct http_exchange *ex)
{
    ex->transport->respond_end(ex);
}

void http_respond(struct http_exchange *ex, unsigned status, const struct http_header *headers,
                  size_t n_headers, struct span body)
{
    http_respond_head(ex, status, headers, n_headers, (int64_t)body.size);
    http_respond_body(ex, body);
    http_respond_end(ex);
}

void http_respond_reject(struct http_exchange *ex, enum reject why)
{
    ex->transport->respond_reject(ex, why);
}

void http_respond_cut(struct http_exchange *ex)
{
    ex->transport->respond_cut(ex);
}

void http_read_pause(struct http_exchange *ex)
{
    ex->transport->read_pause(ex, true);
}

void http_read_resume(struct http_exchange *ex)
{
    ex->transport->read_pause(ex, false);
}

size_t http_output_size(const struct http_exchange *ex)
{
    return ex->transport->output_size(ex);
}

bool http_output_is_full(const struct http_exchange *ex)
{
    return ex->transport->output_is_full(ex);
}

void http_close_after(struct http_exchange *ex)
{
    ex->transport->close_after(ex);
}

struct in6_addr http_peer_address(const struct http_exchange *ex)
{
    return ex->transport->peer_address(ex);
}

bool http_tls_covers(const struct http_exchange *ex, struct span host)
{
    return ex->transport->tls_covers(ex, host);
}

const struct http_header http_error_type = {SPAN_INIT("Content-Type"),
                                            SPAN_INIT("application/json")};

void http_write_error(struct writer *out, enum reject why)
{
    const struct reject_row *row = reject_row(why);

    matrix_error_write(out, row->errcode, row->text);
    CHECK(!out->failed);
}

bool http_may_have_body(struct span method, unsigned status)
{
    return status >= 200 && status != 204 && status != 304 && !span_equal(method, SPAN_LIT("HEAD"));
}

struct http_answer_body http_answer_body(struct span method, unsigned status,
                                         int64_t content_length)
{
    return (struct http_answer_body){
        .is_sent = http_may_have_body(method, status),
        .has_length = content_length >= 0 && status != 204,
        .left = content_length < 0 ? 0 : (uint64_t)content_length,
    };
}

bool http_answer_take(struct http_answer_body *body, struct span bytes)
{
    if (!body->is_sent || bytes.size == 0) {
        return false;
    }
    if (body->has_length) {
        CHECK(bytes.size <= body->left);
        body->left -= bytes.size;
    }
    return true;
}

bool http_answer_is_short(const struct http_answer_body *body)
{
    return body->is_sent && body->has_length && body->left > 0;
}
