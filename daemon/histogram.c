/* Histograms: counted by the role that measures, read by web, which has not the least reason to
 * believe that a role writes them well. */
#include "daemon/histogram.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define MOST UINT64_C(1000000000000)

uint64_t histogram_limit(unsigned bucket)
{
    uint64_t limit = bucket % 2 == 0 ? 1 : 3;
    for (unsigned i = 0; i < bucket / 2; i++)
        limit *= 10;
    return limit;
}

void histogram_add(struct histogram *h, uint64_t value)
{
    unsigned i = 0;
    value = value < MOST ? value : MOST;
    h->count++;
    h->sum += value;
    while (i < HISTOGRAM_BUCKETS && value > histogram_limit(i))
        i++;
    if (i < HISTOGRAM_BUCKETS)
        h->bucket[i]++;
}

void histogram_text(const struct histogram *h, char out[HISTOGRAM_TEXT])
{
    int n = snprintf(out, HISTOGRAM_TEXT, "count:%" PRIu64 " sum:%" PRIu64, h->count, h->sum);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        if (h->bucket[i] > 0)
            n += snprintf(out + n, HISTOGRAM_TEXT - (size_t)n, " %" PRIu64 ":%" PRIu64,
                          histogram_limit(i), h->bucket[i]);
}

enum sp_err histogram_number(const char **at, const char *end, uint64_t *out)
{
    const char *p = *at;
    uint64_t n = 0;
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (n > (UINT64_MAX - digit) / 10)
            return SP_ERR_LIMIT;
        n = n * 10 + digit;
    }
    if (p == *at || p - *at > 20)
        return SP_ERR_FORMAT;
    *at = p;
    *out = n;
    return SP_OK;
}

static bool take(const char **at, const char *end, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(end - *at) < len || memcmp(*at, word, len) != 0)
        return false;
    *at += len;
    return true;
}

enum sp_err histogram_parse(const char *text, size_t len, struct histogram *out)
{
    const char *at = text, *end = text + len;
    struct histogram h = {0};
    uint64_t limit, counted = 0;
    if (!take(&at, end, "count:") || histogram_number(&at, end, &h.count) != SP_OK ||
        !take(&at, end, " sum:") || histogram_number(&at, end, &h.sum) != SP_OK)
        return SP_ERR_FORMAT;
    for (unsigned i = 0; at < end; i++) {
        if (!take(&at, end, " ") || histogram_number(&at, end, &limit) != SP_OK)
            return SP_ERR_FORMAT;
        while (i < HISTOGRAM_BUCKETS && histogram_limit(i) != limit)
            i++;
        if (i >= HISTOGRAM_BUCKETS || !take(&at, end, ":") ||
            histogram_number(&at, end, &h.bucket[i]) != SP_OK || h.bucket[i] > h.count - counted)
            return SP_ERR_FORMAT;
        counted += h.bucket[i];
    }
    *out = h;
    return SP_OK;
}
