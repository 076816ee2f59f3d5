#include "net/fetch.h"

#include "net/address.h"
#include "proto/check.h"
#include "proto/writer.h"

#include <curl/curl.h>
#include <event2/event.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CONNECT_MS_MAX = 5000 };

struct fetcher {
    struct loop *loop;
    CURLM *multi;
    struct timer timer; /* as libcurl asks */
    size_t n_fetches;
};

struct fetch {
    struct fetcher *fetcher;
    CURL *easy;
    struct curl_slist *headers, *connect_to;
    struct writer body;
    bool allow_private;
    bool (*allow_address)(void *arg, const struct in6_addr *address);
    void *allow_arg;
    void (*done)(void *arg, enum err result, int status, struct span body);
    void *arg;
};

static void fetch_free(struct fetch *fetch)
{
    if (fetch->easy != NULL) {
        curl_multi_remove_handle(fetch->fetcher->multi, fetch->easy);
        curl_easy_cleanup(fetch->easy);
    }
    curl_slist_free_all(fetch->headers);
    curl_slist_free_all(fetch->connect_to);
    writer_fini(&fetch->body);
    fetch->fetcher->n_fetches--;
    free(fetch);
}

static enum err result_of(CURLcode code, const struct fetch *fetch)
{
    switch ((int)code) {
    case CURLE_OK:
        return ERR_OK;
    case CURLE_OPERATION_TIMEDOUT:
        return ERR_TIMEOUT;
    case CURLE_FILESIZE_EXCEEDED:
        return ERR_FULL;
    case CURLE_WRITE_ERROR:
        return fetch->body.failed ? ERR_FULL : ERR_CLOSED;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        return ERR_TLS;
    default:
        return ERR_CLOSED;
    }
}

/* The handler may start and cancel fetches, so the fetch is out of libcurl's hands by then. */
static void complete(struct fetch *fetch, CURLcode code)
{
    enum err result = result_of(code, fetch);
    long status = 0;

    curl_easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_multi_remove_handle(fetch->fetcher->multi, fetch->easy);
    curl_easy_cleanup(TAKE(fetch->easy));
    fetch->done(fetch->arg, result, (int)status,
                result == ERR_OK ? writer_span(&fetch->body) : span_of(NULL, 0));
    fetch_free(fetch);
}

static void complete_all(struct fetcher *fetcher)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(fetcher->multi, &left)) != NULL) {
        struct fetch *fetch;
        CURLcode code = message->data.result;
        if (message->msg == CURLMSG_DONE) {
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &fetch);
            complete(fetch, code);
        }
    }
}

static void act(struct fetcher *fetcher, curl_socket_t fd, int what)
{
    int running;

    CHECK(curl_multi_socket_action(fetcher->multi, fd, what, &running) == CURLM_OK);
    complete_all(fetcher);
}

static void on_timer(void *arg)
{
    act(arg, CURL_SOCKET_TIMEOUT, 0);
}

static void on_socket_event(evutil_socket_t fd, short what, void *arg)
{
    act(arg, fd,
        ((what & EV_READ) != 0 ? CURL_CSELECT_IN : 0) |
            ((what & EV_WRITE) != 0 ? CURL_CSELECT_OUT : 0));
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct fetcher *fetcher = arg;
    struct event *watch = socket_arg;
    int events = EV_PERSIST;

    (void)easy;
    if (watch != NULL) {
        event_free(watch);
        curl_multi_assign(fetcher->multi, fd, NULL);
    }
    if (what == CURL_POLL_REMOVE) {
        return 0;
    }
    events |= what == CURL_POLL_OUT ? 0 : EV_READ;
    events |= what == CURL_POLL_IN ? 0 : EV_WRITE;
    watch = event_new(loop_base(fetcher->loop), fd, (short)events, on_socket_event, fetcher);
    CHECK(watch != NULL && event_add(watch, NULL) == 0);
    curl_multi_assign(fetcher->multi, fd, watch);
    return 0;
}

static int on_timeout_asked(CURLM *multi, long ms, void *arg)
{
    struct fetcher *fetcher = arg;

    (void)multi;
    if (ms < 0) {
        timer_stop(&fetcher->timer);
    } else {
        timer_start(&fetcher->timer, (uint64_t)ms);
    }
    return 0;
}

enum err fetcher_new(struct fetcher **out, struct loop *loop)
{
    struct fetcher *fetcher = calloc(1, sizeof *fetcher);

    CHECK(fetcher != NULL);
    fetcher->loop = loop;
    fetcher->multi = curl_multi_init();
    if (fetcher->multi == NULL) {
        free(fetcher);
        return err_raise(ERR_IO, "curl_multi_init failed");
    }
    timer_init(&fetcher->timer, loop, on_timer, fetcher);
    curl_multi_setopt(fetcher->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(fetcher->multi, CURLMOPT_SOCKETDATA, fetcher);
    curl_multi_setopt(fetcher->multi, CURLMOPT_TIMERFUNCTION, on_timeout_asked);
    curl_multi_setopt(fetcher->multi, CURLMOPT_TIMERDATA, fetcher);
    *out = fetcher;
    return ERR_OK;
}

void fetcher_free(struct fetcher *fetcher)
{
    if (fetcher == NULL) {
        return;
    }
    CHECK(fetcher->n_fetches == 0);
    curl_multi_cleanup(fetcher->multi);
    timer_fini(&fetcher->timer);
    free(fetcher);
}

static size_t on_write(char *bytes, size_t size, size_t n, void *arg)
{
    struct fetch *fetch = arg;

    writer_bytes(&fetch->body, span_of(bytes, size * n));
    return fetch->body.failed ? 0 : size * n;
}

/* A name may resolve to anything, so the address is judged when it is dialled. */
static curl_socket_t on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct fetch *fetch = arg;
    struct in6_addr in6 = address_of(&address->addr);

    (void)purpose;
    if (!fetch->allow_private && !address_is_public(&in6) &&
        (fetch->allow_address == NULL || !fetch->allow_address(fetch->allow_arg, &in6))) {
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static bool add_header(struct fetch *fetch, const struct http_header *header)
{
    struct writer line;
    struct curl_slist *longer = NULL;

    if (!http_name_is_valid(header->name) || !http_value_is_valid(header->value)) {
        return false;
    }
    writer_init(&line, HTTP_HEADER_BYTES_MAX);
    writer_bytes(&line, header->name);
    /* libcurl's way to say that a header is there and empty. */
    writer_bytes(&line, header->value.size > 0 ? SPAN_LIT(": ") : SPAN_LIT(";"));
    writer_bytes(&line, header->value);
    writer_char(&line, '\0');
    if (!line.failed) {
        longer = curl_slist_append(fetch->headers, line.data);
    }
    writer_fini(&line);
    if (longer != NULL) {
        fetch->headers = longer;
    }
    return longer != NULL;
}

static void set_options(struct fetch *fetch, const struct fetch_request *request)
{
    CURL *easy = fetch->easy;
    long connect_ms =
        request->timeout_ms < CONNECT_MS_MAX ? (long)request->timeout_ms : (long)CONNECT_MS_MAX;

    curl_easy_setopt(easy, CURLOPT_PRIVATE, fetch);
    curl_easy_setopt(easy, CURLOPT_URL, request->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https,http");
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, request->max_redirects > 0 ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)request->max_redirects);
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* nor what the environment says */
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, connect_ms);
    curl_easy_setopt(easy, CURLOPT_MAXFILESIZE, (long)request->max_bytes);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    /* A connection kept from another fetch might lead where this one may not go. */
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, fetch);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, fetch);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, fetch->headers);
    if (request->ca_file != NULL) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, request->ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    if (fetch->connect_to != NULL) {
        curl_easy_setopt(easy, CURLOPT_CONNECT_TO, fetch->connect_to);
    }
}

static bool prepare(struct fetch *fetch, const struct fetch_request *request)
{
    char connect_to[300];

    for (size_t i = 0; i < request->n_headers; i++) {
        if (!add_header(fetch, &request->headers[i])) {
            return false;
        }
    }
    if (request->connect_to != NULL) {
        snprintf(connect_to, sizeof connect_to, "::%s", request->connect_to);
        fetch->connect_to = curl_slist_append(NULL, connect_to);
        CHECK(fetch->connect_to != NULL);
    }
    fetch->easy = curl_easy_init();
    CHECK(fetch->easy != NULL);
    set_options(fetch, request);
    return curl_multi_add_handle(fetch->fetcher->multi, fetch->easy) == CURLM_OK;
}

enum err fetch_start(struct fetch **out, struct fetcher *fetcher,
                     const struct fetch_request *request,
                     void (*done)(void *arg, enum err result, int status, struct span body),
                     void *arg)
{
    struct fetch *fetch = calloc(1, sizeof *fetch);

    CHECK(fetch != NULL);
    *fetch = (struct fetch){
        .fetcher = fetcher,
        .allow_private = request->allow_private,
        .allow_address = request->allow_address,
        .allow_arg = request->allow_arg,
        .done = done,
        .arg = arg,
    };
    fetcher->n_fetches++;
    writer_init(&fetch->body, request->max_bytes);
    if (!prepare(fetch, request)) {
        fetch_free(fetch);
        return err_raise(ERR_CONFIG, "a fetch cannot be made as it is asked for");
    }
    *out = fetch;
    return ERR_OK;
}

void fetch_cancel(struct fetch *fetch)
{
    fetch_free(fetch);
}
