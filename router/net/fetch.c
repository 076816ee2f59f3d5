#include "net/fetch.h"

#include "base/clock.h"
#include "net/address.h"
#include "proto/check.h"
#include "proto/ident.h"
#include "proto/writer.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <event2/event.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    CONNECT_MS_MAX = 5000,
    URL_HOST_MAX = 256,    /* bytes */
    HEADER_KEPT_MAX = 256, /* bytes of a header that the caller gets */
    ADDRESS_CACHE_S = 1,   /* of libcurl; each dial has its own name there */
    DIAL_NAME_SIZE = 32,
};

struct fetcher {
    struct loop *loop;
    struct dns *dns;
    CURLM *multi;
    struct timer timer; /* as libcurl asks */
    size_t n_fetches;
    uint64_t n_dials; /* so far */
};

/* A request and, if it is redirected, those that follow: one `easy` after the other. */
struct fetch {
    struct fetcher *fetcher;
    CURL *easy;              /* NULL while addresses are looked up */
    struct dns_query *query; /* NULL while none are */
    struct loop_task task;   /* the end, when nothing else is under way */
    uint64_t end_us;         /* monotonic */
    char *url, *ca_file, *dial_host;
    uint16_t dial_port;
    uint32_t redirects_left;
    struct curl_slist *headers, *connect_to, *resolve;
    struct fetch_dials *dials, own_dials;
    struct writer body;
    size_t head_size; /* bytes, so far */
    bool was_connected, is_internal, has_fixed_place;
    enum fetch_failure failure;    /* what `task` tells */
    bool has_dialled, has_refused; /* an address, since the last redirect */
    struct in6_addr refused;       /* the last one that may not be dialled */
    char detail[CURL_ERROR_SIZE];
    bool (*allow_address)(void *arg, const struct in6_addr *address);
    void *allow_arg;
    void (*done)(void *arg, const struct fetch_answer *answer);
    void *arg;
};

static void drop_easy(struct fetch *fetch)
{
    if (fetch->easy != NULL) {
        curl_multi_remove_handle(fetch->fetcher->multi, fetch->easy);
        curl_easy_cleanup(TAKE(fetch->easy));
    }
    curl_slist_free_all(TAKE(fetch->resolve));
}

static void fetch_free(struct fetch *fetch)
{
    drop_easy(fetch);
    dns_cancel(fetch->query);
    loop_task_cancel(&fetch->task);
    curl_slist_free_all(fetch->headers);
    curl_slist_free_all(fetch->connect_to);
    writer_fini(&fetch->body);
    free(fetch->url);
    free(fetch->ca_file);
    free(fetch->dial_host);
    fetch->fetcher->n_fetches--;
    free(fetch);
}

static uint32_t ms_left(const struct fetch *fetch)
{
    uint64_t now_us = clock_monotonic_us();

    return now_us < fetch->end_us ? (uint32_t)((fetch->end_us - now_us) / 1000) : 0;
}

static struct span detail_of(struct fetch *fetch, enum fetch_failure failure)
{
    if (failure == FETCH_FAILURE_NOT_ALLOWED) {
        inet_ntop(AF_INET6, &fetch->refused, fetch->detail, sizeof fetch->detail);
    }
    return failure == FETCH_FAILURE_NOT_ALLOWED || failure == FETCH_FAILURE_TLS
               ? span_str(fetch->detail)
               : (struct span){0};
}

static void finish(struct fetch *fetch, enum fetch_failure failure, struct fetch_answer answer)
{
    answer.failure = failure;
    answer.detail = detail_of(fetch, failure);
    answer.was_connected = fetch->was_connected;
    fetch->done(fetch->arg, &answer);
    fetch_free(fetch);
}

static enum fetch_failure failure_of(CURLcode code, const struct fetch *fetch)
{
    switch ((int)code) {
    case CURLE_OK:
        return FETCH_FAILURE_NONE;
    case CURLE_OPERATION_TIMEDOUT:
        return FETCH_FAILURE_TIMEOUT;
    case CURLE_COULDNT_CONNECT:
        return fetch->has_refused && !fetch->has_dialled ? FETCH_FAILURE_NOT_ALLOWED
                                                         : FETCH_FAILURE_UNREACHABLE;
    case CURLE_FILESIZE_EXCEEDED:
        return FETCH_FAILURE_TOO_LARGE;
    case CURLE_WRITE_ERROR:
        return fetch->body.failed || fetch->head_size > FETCH_HEAD_MAX ? FETCH_FAILURE_TOO_LARGE
                                                                       : FETCH_FAILURE_CLOSED;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        return FETCH_FAILURE_TLS;
    default:
        return FETCH_FAILURE_CLOSED;
    }
}

static struct span copy_header(char out[HEADER_KEPT_MAX], CURL *easy, const char *name)
{
    struct curl_header *header;

    if (curl_easy_header(easy, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK ||
        strlen(header->value) >= HEADER_KEPT_MAX) {
        return (struct span){0};
    }
    memcpy(out, header->value, strlen(header->value) + 1);
    return span_str(out);
}

static void begin(struct fetch *fetch);

/* False if it is no redirect, or one redirect too many. */
static bool follow(struct fetch *fetch, long status)
{
    char *location = NULL;

    if (fetch->redirects_left == 0 || status < 300 || status > 399) {
        return false;
    }
    curl_easy_getinfo(fetch->easy, CURLINFO_REDIRECT_URL, &location);
    if (location == NULL) {
        return false;
    }
    fetch->redirects_left--;
    free(fetch->url);
    fetch->url = strdup(location);
    CHECK(fetch->url != NULL);
    free(TAKE(fetch->dial_host));
    fetch->own_dials.n = 0;
    writer_reset(&fetch->body);
    drop_easy(fetch);
    begin(fetch);
    return true;
}

/* The times that libcurl takes say less: TLS may have failed after the connection was there. */
static bool was_connected(CURL *easy, CURLcode code)
{
    long port = 0; /* of our own end */

    curl_easy_getinfo(easy, CURLINFO_LOCAL_PORT, &port);
    return code != CURLE_COULDNT_CONNECT && port > 0;
}

/* The handler may start and cancel fetches, so the fetch is out of libcurl's hands by then. */
static void complete(struct fetch *fetch, CURLcode code)
{
    char cache_control[HEADER_KEPT_MAX], expires[HEADER_KEPT_MAX];
    enum fetch_failure failure = failure_of(code, fetch);
    struct fetch_answer answer = {0};
    long status = 0;

    curl_easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &status);
    fetch->was_connected = fetch->was_connected || was_connected(fetch->easy, code);
    if (failure == FETCH_FAILURE_NONE && follow(fetch, status)) {
        return;
    }
    answer.status = (int)status;
    answer.cache_control = copy_header(cache_control, fetch->easy, "Cache-Control");
    answer.expires = copy_header(expires, fetch->easy, "Expires");
    if (failure == FETCH_FAILURE_NONE) {
        answer.body = writer_span(&fetch->body);
    }
    drop_easy(fetch);
    finish(fetch, failure, answer);
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

enum err fetcher_new(struct fetcher **out, struct loop *loop, struct dns *dns)
{
    struct fetcher *fetcher = calloc(1, sizeof *fetcher);

    CHECK(fetcher != NULL);
    fetcher->loop = loop;
    fetcher->dns = dns;
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

/* What is dropped here is memory that a peer would choose. */
static size_t on_header(char *bytes, size_t size, size_t n, void *arg)
{
    struct fetch *fetch = arg;

    (void)bytes;
    fetch->head_size += size * n;
    return fetch->head_size > FETCH_HEAD_MAX ? 0 : size * n;
}

static bool may_dial(const struct fetch *fetch, const struct in6_addr *address)
{
    return fetch->is_internal || address_is_public(address) ||
           (fetch->allow_address != NULL && fetch->allow_address(fetch->allow_arg, address));
}

static bool note_dial(struct fetch_dials *dials, const struct in6_addr *address)
{
    for (size_t i = 0; i < dials->n; i++) {
        if (memcmp(&dials->list[i], address, sizeof *address) == 0) {
            return false;
        }
    }
    if (dials->n == FETCH_DIALS_MAX) {
        return false;
    }
    dials->list[dials->n++] = *address;
    return true;
}

/* A name may resolve to anything, so the address is judged when it is dialled. */
static curl_socket_t on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct fetch *fetch = arg;
    struct in6_addr in6 = address_of(&address->addr);

    (void)purpose;
    if (!may_dial(fetch, &in6)) {
        fetch->has_refused = true;
        fetch->refused = in6;
        return CURL_SOCKET_BAD;
    }
    fetch->has_dialled = true; /* if not now, then before */
    if (!fetch->is_internal && !note_dial(fetch->dials, &in6)) {
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

static void set_limits(struct fetch *fetch, uint32_t timeout_ms)
{
    CURL *easy = fetch->easy;
    long connect_ms = timeout_ms < CONNECT_MS_MAX ? (long)timeout_ms : (long)CONNECT_MS_MAX;

    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, connect_ms);
    curl_easy_setopt(easy, CURLOPT_MAXFILESIZE, (long)fetch->body.max);
    curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, (long)ADDRESS_CACHE_S);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, fetch);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, fetch);
}

static void set_options(struct fetch *fetch)
{
    CURL *easy = fetch->easy;

    curl_easy_setopt(easy, CURLOPT_PRIVATE, fetch);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, fetch->detail);
    curl_easy_setopt(easy, CURLOPT_URL, fetch->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, fetch->is_internal ? "https,http" : "https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L); /* each hop is looked up here */
    curl_easy_setopt(easy, CURLOPT_PROXY, "");          /* nor what the environment says */
    curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* The system's resolver may take longer than the request may: its thread is left to end alone,
     * where libcurl would wait for it, and the loop with it. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    /* A connection kept from another fetch might lead where this one may not go. */
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, fetch);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, fetch->headers);
    if (fetch->ca_file != NULL) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, fetch->ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
}

static void run_task(struct loop_task *task)
{
    struct fetch *fetch = LIST_ENTRY(task, struct fetch, task);

    finish(fetch, fetch->failure, (struct fetch_answer){0});
}

static void fail_later(struct fetch *fetch, enum fetch_failure failure)
{
    fetch->failure = failure;
    loop_defer(fetch->fetcher->loop, &fetch->task);
}

static void write_addresses(struct writer *out, const struct dns_addresses *addresses)
{
    char text[INET6_ADDRSTRLEN];

    for (size_t i = 0; i < addresses->n; i++) {
        const struct in6_addr *address = &addresses->list[i];
        if (i > 0) {
            writer_char(out, ',');
        }
        bool is_ipv4 = IN6_IS_ADDR_V4MAPPED(address);
        writer_bytes(out, is_ipv4 ? SPAN_LIT("") : SPAN_LIT("["));
        writer_bytes(out, address_text(text, address));
        writer_bytes(out, is_ipv4 ? SPAN_LIT("") : SPAN_LIT("]"));
    }
}

/* libcurl is told to connect to a name of ours that nobody else uses, and what its addresses are:
 * so it looks nothing up, however it reads the URL. */
static void set_addresses(struct fetch *fetch, const struct dns_addresses *addresses)
{
    char name[DIAL_NAME_SIZE], connect_to[DIAL_NAME_SIZE + 16];
    struct writer resolve;

    snprintf(name, sizeof name, "%llu.dial", (unsigned long long)++fetch->fetcher->n_dials);
    snprintf(connect_to, sizeof connect_to, "::%s:%u", name, fetch->dial_port);
    writer_init(&resolve, sizeof name + 16 + (size_t)DNS_ADDRESSES_MAX * (INET6_ADDRSTRLEN + 3));
    writer_char(&resolve, '+');
    writer_bytes(&resolve, span_str(name));
    writer_char(&resolve, ':');
    writer_u64(&resolve, fetch->dial_port);
    writer_char(&resolve, ':');
    write_addresses(&resolve, addresses);
    writer_char(&resolve, '\0');
    CHECK(!resolve.failed);
    curl_slist_free_all(fetch->connect_to);
    fetch->connect_to = curl_slist_append(NULL, connect_to);
    fetch->resolve = curl_slist_append(NULL, resolve.data);
    CHECK(fetch->connect_to != NULL && fetch->resolve != NULL);
    writer_fini(&resolve);
    curl_easy_setopt(fetch->easy, CURLOPT_RESOLVE, fetch->resolve);
}

/* NULL: libcurl knows where to go. */
static void dial(struct fetch *fetch, const struct dns_addresses *addresses)
{
    uint32_t left = ms_left(fetch);

    if (left == 0) { /* which libcurl takes for no limit */
        fail_later(fetch, FETCH_FAILURE_TIMEOUT);
        return;
    }
    fetch->has_dialled = fetch->has_refused = false;
    fetch->easy = curl_easy_init();
    CHECK(fetch->easy != NULL);
    set_options(fetch);
    set_limits(fetch, left);
    if (addresses != NULL) {
        set_addresses(fetch, addresses);
    }
    if (fetch->connect_to != NULL) {
        curl_easy_setopt(fetch->easy, CURLOPT_CONNECT_TO, fetch->connect_to);
    }
    if (curl_multi_add_handle(fetch->fetcher->multi, fetch->easy) != CURLM_OK) {
        fail_later(fetch, FETCH_FAILURE_UNREACHABLE);
    }
}

static void on_addresses(void *arg, const struct dns_addresses *addresses)
{
    struct fetch *fetch = arg;

    fetch->query = NULL;
    if (addresses->n == 0) {
        fail_later(fetch, FETCH_FAILURE_NO_ADDRESS);
    } else {
        dial(fetch, addresses);
    }
}

/* The host of an https URL, without brackets, and its port. */
static bool read_url(char host[URL_HOST_MAX], uint16_t *port, const char *url)
{
    CURLU *parts = curl_url();
    char *scheme = NULL, *name = NULL, *number = NULL;
    bool is_read = false;

    CHECK(parts != NULL);
    if (curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_HOST, &name, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_PORT, &number, CURLU_DEFAULT_PORT) == CURLUE_OK) {
        size_t brackets = name[0] == '[' ? 1 : 0;
        size_t size = strlen(name) - 2 * brackets;
        is_read = strcmp(scheme, "https") == 0 && size < URL_HOST_MAX &&
                  server_name_is_valid(span_str(name));
        if (is_read) {
            memcpy(host, name + brackets, size);
            host[size] = '\0';
            *port = (uint16_t)strtoul(number, NULL, 10);
        }
    }
    curl_free(scheme);
    curl_free(name);
    curl_free(number);
    curl_url_cleanup(parts);
    return is_read;
}

static void look_up(struct fetch *fetch, const char *host)
{
    struct dns_addresses literal = {.n = 1};

    CHECK(fetch->fetcher->dns != NULL);
    if (address_parse(&literal.list[0], host)) {
        dial(fetch, &literal);
    } else {
        dns_find_addresses(&fetch->query, fetch->fetcher->dns, host, ms_left(fetch), on_addresses,
                           fetch);
    }
}

static void begin(struct fetch *fetch)
{
    char host[URL_HOST_MAX];

    if (fetch->is_internal || fetch->has_fixed_place) {
        dial(fetch, NULL);
    } else if (fetch->dial_host != NULL) {
        look_up(fetch, fetch->dial_host);
    } else if (read_url(host, &fetch->dial_port, fetch->url)) {
        look_up(fetch, host);
    } else {
        fail_later(fetch, FETCH_FAILURE_REDIRECT);
    }
}

static char *copy_text(const char *text)
{
    char *copy = text == NULL ? NULL : strdup(text);

    CHECK(text == NULL || copy != NULL);
    return copy;
}

static bool take_request(struct fetch *fetch, const struct fetch_request *request)
{
    char connect_to[300];

    for (size_t i = 0; i < request->n_headers; i++) {
        if (!add_header(fetch, &request->headers[i])) {
            return false;
        }
    }
    fetch->url = copy_text(request->url);
    fetch->ca_file = copy_text(request->ca_file);
    if (request->connect_to != NULL) {
        snprintf(connect_to, sizeof connect_to, "::%s", request->connect_to);
        fetch->connect_to = curl_slist_append(NULL, connect_to);
        CHECK(fetch->connect_to != NULL);
        fetch->has_fixed_place = true;
    } else if (request->dial_host != NULL) {
        fetch->dial_host = copy_text(request->dial_host);
        fetch->dial_port = request->dial_port;
    }
    return true;
}

enum err fetch_start(struct fetch **out, struct fetcher *fetcher,
                     const struct fetch_request *request,
                     void (*done)(void *arg, const struct fetch_answer *answer), void *arg)
{
    struct fetch *fetch = calloc(1, sizeof *fetch);

    CHECK(fetch != NULL);
    *fetch = (struct fetch){
        .fetcher = fetcher,
        .task = {.run = run_task},
        .end_us = clock_monotonic_us() + (uint64_t)request->timeout_ms * 1000,
        .redirects_left = request->max_redirects,
        .is_internal = request->is_internal,
        .allow_address = request->allow_address,
        .allow_arg = request->allow_arg,
        .done = done,
        .arg = arg,
    };
    fetch->dials = request->dials != NULL ? request->dials : &fetch->own_dials;
    fetcher->n_fetches++;
    writer_init(&fetch->body, request->max_bytes);
    if (!take_request(fetch, request)) {
        fetch_free(fetch);
        return err_raise(ERR_CONFIG, "a fetch cannot be made as it is asked for");
    }
    begin(fetch);
    *out = fetch;
    return ERR_OK;
}

void fetch_cancel(struct fetch *fetch)
{
    if (fetch != NULL) {
        fetch_free(fetch);
    }
}
