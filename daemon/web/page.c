/* Serves the page on which a link mail is opened. Clients are hostile; what is served is public,
 * the same for all, and was fixed when this program was built. docs/page.md explains the policies.
 */
#include "daemon/web/page.h"

#include "daemon/web/web.h"

#include <event2/buffer.h>
#include <stdio.h>
#include <string.h>

struct header {
    const char *name, *value;
};

/* The page itself: its own files and its own server, nothing else; of inline scripts the import map
 * alone, which runs nothing; no markup into the document by script (Trusted Types), no form, no
 * base, no frame around it. %s: page_imports. */
static const char policy[] =
    "default-src 'none'; script-src 'self' '%s'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; frame-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

static const struct header document_headers[] = {
    {"Permissions-Policy",
     "accelerometer=(), autoplay=(), camera=(), clipboard-read=(), display-capture=(), "
     "encrypted-media=(), fullscreen=(), geolocation=(), gyroscope=(), hid=(), "
     "identity-credentials-get=(), idle-detection=(), local-fonts=(), magnetometer=(), "
     "microphone=(), midi=(), payment=(), picture-in-picture=(), "
     "publickey-credentials-get=(), screen-wake-lock=(), serial=(), usb=(), "
     "xr-spatial-tracking=()"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Origin-Agent-Cluster", "?1"},
    {"X-DNS-Prefetch-Control", "off"},
    {"X-Robots-Tag", "noindex, nofollow"},
    {NULL, NULL},
};

static const struct header asset_headers[] = {
    {"Cache-Control", "public, max-age=31536000, immutable"}, /* its name is its content's */
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {NULL, NULL},
};

/* The frame in which a mail's HTML is shown: no script whatever it holds, styles within it,
 * pictures of the mail alone. Also where somebody opens it by itself (sandbox). */
static const struct header frame_headers[] = {
    {"Content-Security-Policy",
     "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; form-action 'none'; "
     "base-uri 'none'; frame-ancestors 'self'; "
     "sandbox allow-same-origin allow-popups allow-popups-to-escape-sandbox"},
    {"X-DNS-Prefetch-Control", "off"},
    {NULL, NULL},
};

static void add_headers(struct exchange *x, const struct header *list)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(x->req);
    for (; list->name != NULL; list++)
        evhttp_add_header(headers, list->name, list->value);
}

static void answer(struct exchange *x, int code, const struct page_asset *asset)
{
    struct evbuffer *body = evbuffer_new();
    if (body == NULL || evbuffer_add_reference(body, asset->bytes, asset->len, NULL, NULL) != 0) {
        if (body != NULL)
            evbuffer_free(body);
        conn_answer_error(exchange_end(x), 503, "busy, try again"); /* as long as there is room */
        return;
    }
    exchange_answer(x, code, asset->type, body);
}

void page_answer(struct exchange *x, int code)
{
    const struct page_asset *page = code == 200   ? &page_document
                                    : code == 404 ? &page_gone
                                                  : &page_busy;
    char csp[sizeof(policy) + 64];
    snprintf(csp, sizeof(csp), policy, page_imports);
    add_headers(x, document_headers);
    evhttp_add_header(evhttp_request_get_output_headers(x->req), "Content-Security-Policy", csp);
    answer(x, code, page);
}

enum sp_err start_asset(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    const struct page_asset *asset = page_assets;
    (void)body, (void)frame;
    while (asset->name != NULL && strcmp(asset->name, x->args.asset) != 0)
        asset++;
    if (asset->name == NULL || strcmp(x->args.build, page_build) != 0)
        return SP_ERR_NOT_FOUND;
    const char *known =
        evhttp_find_header(evhttp_request_get_input_headers(x->req), "If-None-Match");
    add_headers(x, asset_headers);
    if (strcmp(asset->name, "frame.html") == 0)
        add_headers(x, frame_headers);
    evhttp_add_header(evhttp_request_get_output_headers(x->req), "ETag", asset->etag);
    if (known != NULL && strcmp(known, asset->etag) == 0)
        exchange_answer(x, 304, NULL, NULL);
    else
        answer(x, 200, asset);
    return SP_OK;
}
