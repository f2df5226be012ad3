#ifndef SEALPOST_WEB_PAGE_H
#define SEALPOST_WEB_PAGE_H
/*
 * The page on which a link mail is opened (page/, docs/page.md), as page/bundle.mjs lays it out in
 * C: documents and assets, with their types and strong entity tags (RFC 9110 8.8.3). Public data.
 */
#include <stddef.h>

struct exchange;

struct page_asset {
    const char *name; /* the last segment of its path; NULL ends a list */
    const char *type;
    const char *etag; /* with its quotes */
    const unsigned char *bytes;
    size_t len;
};

/* In hex: SHA-256 of page_document, which names the SHA-256 of all scripts and styles; and that of
 * what `sha256sum *` prints of the assets, in the order of their names. page/served.sh computes
 * both from what is served. */
extern const char page_sha256[], page_files_sha256[];
extern const char page_build[];   /* the segment before a name: 20 digits of page_files_sha256 */
extern const char page_imports[]; /* the document's import map, as a policy names it */
extern const struct page_asset page_assets[];
extern const struct page_asset page_document, page_gone, page_busy;

/* Ends x with what GET of a link gives, as a page for people: 200, the page, the same for every
 * link; 404, which does not tell whether it is expired, revoked or unknown; any other code, that it
 * cannot be given now. */
void page_answer(struct exchange *x, int code);

#endif
