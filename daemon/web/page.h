#ifndef SEALPOST_WEB_PAGE_H
#define SEALPOST_WEB_PAGE_H
/*
 * The page on which a link mail is opened (page/, docs/page.md), as page/bundle.mjs lays it out in
 * C: documents and assets, with their types and strong entity tags (RFC 9110 8.8.3). Public data.
 */
#include <stdbool.h>
#include <stddef.h>

struct exchange;

struct page_asset {
    const char *name; /* the last segment of its path; NULL ends a list */
    const char *type;
    const char *etag; /* with its quotes */
    const unsigned char *bytes;
    size_t len;
};

extern const char page_build[]; /* the segment before: a hash of all assets */
extern const struct page_asset page_assets[];
extern const struct page_asset page_document, page_gone;

/* Ends x with what GET of a link gives: the page, the same for every link, or, where there is none,
 * a 404 that does not tell whether it is expired, revoked or unknown. */
void page_answer(struct exchange *x, bool there);

#endif
