/* libcurl, set up once for safety. The server is trusted for nothing: its answers are bytes for a
 * bounded sink; its words are cleaned before anyone sees them. */
#include "client/http.h"
#include "client/report.h"
#include "sandbox/lockmem.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_SECONDS 30L
#define STALL_SECONDS   60L /* fewer than STALL_BYTES a second for so long: given up */
#define STALL_BYTES     16L
#define MAX_HEADERS     (64u * 1024u)

struct http {
    CURL *curl;
    char *url;
    char *ca;
};

/* What one request carries through curl's callbacks. */
struct exchange {
    CURL *curl;
    http_sink sink;
    void *ctx;
    long wanted; /* 206 if a range was asked for, else 200: bytes of another are not the asked ones
                  */
    enum sp_err err;
    size_t header_bytes;
    size_t refusal_len;
    char refusal[1024]; /* body of an answer that is not 2xx */
    char words[CURL_ERROR_SIZE];
};

enum sp_err http_open(const char *url, const char *ca, struct http **out)
{
    *out = NULL;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return SP_ERR_CRYPTO;
    struct http *h = calloc(1, sizeof *h);
    if (h == NULL)
        return SP_ERR_MEMORY;
    h->curl = curl_easy_init();
    h->url = strdup(url);
    h->ca = ca != NULL ? strdup(ca) : NULL;
    if (h->curl == NULL || h->url == NULL || (ca != NULL && h->ca == NULL)) {
        http_close(h);
        return SP_ERR_MEMORY;
    }
    *out = h;
    return SP_OK;
}

void http_close(struct http *h)
{
    if (h == NULL)
        return;
    if (h->curl != NULL)
        curl_easy_cleanup(h->curl);
    free(h->url);
    free(h->ca);
    free(h);
}

static size_t on_body(char *bytes, size_t one, size_t len, void *ctx)
{
    struct exchange *x = ctx;
    long status = 0;
    (void)one; /* always 1 */
    curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200 || status > 299) {
        size_t room = sizeof x->refusal - x->refusal_len;
        size_t n = len < room ? len : room;
        memcpy(x->refusal + x->refusal_len, bytes, n);
        x->refusal_len += n;
        return len;
    }
    if (x->sink == NULL || status != x->wanted)
        x->err = SP_ERR_PEER;
    else
        x->err = x->sink(x->ctx, (const uint8_t *)bytes, len);
    return x->err == SP_OK ? len : 0;
}

static size_t on_header(char *bytes, size_t one, size_t len, void *ctx)
{
    struct exchange *x = ctx;
    (void)bytes;
    (void)one;
    x->header_bytes += len;
    if (x->header_bytes > MAX_HEADERS)
        x->err = SP_ERR_LIMIT;
    return x->err == SP_OK ? len : 0;
}

static bool set_safety(struct http *h, struct exchange *x)
{
    CURL *c = h->curl;
    CURLcode bad = curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "https");
    bad |= curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    bad |= curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    bad |= curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    bad |= curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L);
    bad |= curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L);
    if (h->ca != NULL)
        bad |= curl_easy_setopt(c, CURLOPT_CAINFO, h->ca);
    bad |= curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    bad |= curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
    bad |= curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES);
    bad |= curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, STALL_SECONDS);
    bad |= curl_easy_setopt(c, CURLOPT_USERAGENT, "sealpost");
    bad |= curl_easy_setopt(c, CURLOPT_ERRORBUFFER, x->words);
    bad |= curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    bad |= curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
    bad |= curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    bad |= curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
    return bad == CURLE_OK;
}

static bool add_header(struct curl_slist **list, const char *text)
{
    struct curl_slist *more = curl_slist_append(*list, text);
    if (more == NULL)
        return false;
    *list = more;
    return true;
}

static bool set_request(struct http *h, const struct http_request *rq, struct curl_slist **headers)
{
    char url[2048], text[256];
    int n = snprintf(url, sizeof url, "%s%s", h->url, rq->path);
    bool ok = n > 0 && (size_t)n < sizeof url && add_header(headers, "Expect:");
    CURLcode bad = curl_easy_setopt(h->curl, CURLOPT_URL, url);
    if (rq->session != NULL || rq->gate != NULL) {
        n = snprintf(text, sizeof text, "Authorization: Sealpost-%s %s",
                     rq->session != NULL ? "Session" : "Gate",
                     rq->session != NULL ? rq->session : rq->gate);
        ok = ok && n > 0 && (size_t)n < sizeof text && add_header(headers, text);
        lockmem_wipe(text, sizeof text);
    }
    bool put = strcmp(rq->method, "PUT") == 0;
    if (put || strcmp(rq->method, "POST") == 0) {
        ok = ok && add_header(headers, "Content-Type: application/octet-stream");
        bad |= curl_easy_setopt(h->curl, CURLOPT_POST, 1L);
        bad |= curl_easy_setopt(h->curl, CURLOPT_POSTFIELDS, rq->body_len > 0 ? rq->body : "");
        bad |= curl_easy_setopt(h->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->body_len);
        if (put)
            bad |= curl_easy_setopt(h->curl, CURLOPT_CUSTOMREQUEST, rq->method);
    } else if (strcmp(rq->method, "GET") != 0) {
        bad |= curl_easy_setopt(h->curl, CURLOPT_CUSTOMREQUEST, rq->method);
    }
    if (rq->from > 0) {
        snprintf(text, sizeof text, "%llu-", (unsigned long long)rq->from);
        bad |= curl_easy_setopt(h->curl, CURLOPT_RANGE, text);
    }
    bad |= curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, *headers);
    return ok && bad == CURLE_OK;
}

/* The token stood in these. */
static void wipe_headers(struct curl_slist *list)
{
    for (struct curl_slist *i = list; i != NULL; i = i->next)
        lockmem_wipe(i->data, strlen(i->data));
    curl_slist_free_all(list);
}

static void read_refusal(const struct exchange *x, struct http_reply *reply)
{
    json_t *j = json_loadb(x->refusal, x->refusal_len, JSON_REJECT_DUPLICATES, NULL);
    const char *text = json_string_value(json_object_get(j, "error"));
    snprintf(reply->error, sizeof reply->error, "%s", text != NULL ? text : "");
    json_decref(j);
    report_clean(reply->error);
}

static enum sp_err judge(CURLcode code, const struct exchange *x, struct http_reply *reply)
{
    if (code == CURLE_OK) {
        read_refusal(x, reply);
        return SP_OK;
    }
    if (x->err != SP_OK)
        return x->err;
    snprintf(reply->error, sizeof reply->error, "%s",
             x->words[0] != '\0' ? x->words : curl_easy_strerror(code));
    report_clean(reply->error);
    if (code == CURLE_SSL_CACERT_BADFILE) /* the file of --ca */
        return SP_ERR_CONFIG;
    return code == CURLE_PEER_FAILED_VERIFICATION ? SP_ERR_AUTH : SP_ERR_PEER;
}

enum sp_err http_do(struct http *h, const struct http_request *rq, http_sink sink, void *ctx,
                    struct http_reply *reply)
{
    struct exchange x = {
        .curl = h->curl, .sink = sink, .ctx = ctx, .wanted = rq->from > 0 ? 206 : 200};
    struct curl_slist *headers = NULL;
    enum sp_err err = SP_ERR_CRYPTO;
    memset(reply, 0, sizeof *reply);
    curl_easy_reset(h->curl); /* options only: the connection stays */
    if (set_safety(h, &x) && set_request(h, rq, &headers)) {
        CURLcode code = curl_easy_perform(h->curl);
        curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &reply->status);
        err = judge(code, &x, reply);
    }
    curl_easy_reset(h->curl);
    wipe_headers(headers);
    return err;
}

char *http_escape(const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~@";
    char *out = malloc(3 * strlen(text) + 1);
    char *to = out;
    for (; out != NULL && *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (strchr(plain, c) != NULL) {
            *to++ = (char)c;
            continue;
        }
        *to++ = '%';
        *to++ = hex[c >> 4];
        *to++ = hex[c & 15];
    }
    if (out != NULL)
        *to = '\0';
    return out;
}
