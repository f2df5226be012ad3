#ifndef SEALPOST_HISTOGRAM_H
#define SEALPOST_HISTOGRAM_H
/*
 * How often something took so long, or was so large: counts in fixed buckets. The role that
 * measures has one and says it as a text in its status; web, which serves metrics, reads that text
 * again.
 *
 * The text: "count:6 sum:1234 300:2 1000:4", numbers of values up to each limit and above the one
 * before it; empty buckets are left out, and what no bucket holds is what count has more.
 */
#include "envelope/error.h"

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BUCKETS 19u  /* their limits: 1, 3, 10, 30, ... 10^9 */
#define HISTOGRAM_TEXT    640u /* bytes of a text, with NUL */

struct histogram {
    uint64_t count, sum, bucket[HISTOGRAM_BUCKETS];
};

uint64_t histogram_limit(unsigned bucket);
/* A value above 10^12 is counted as that, so that no lie makes the sum go round. */
void histogram_add(struct histogram *h, uint64_t value);
void histogram_text(const struct histogram *h, char out[HISTOGRAM_TEXT]);
/* SP_ERR_FORMAT: not exactly such a text. */
enum sp_err histogram_parse(const char *text, size_t len, struct histogram *out);
/* A decimal number of 1 to 20 digits, at *at, which goes behind it. SP_ERR_FORMAT, _LIMIT. */
enum sp_err histogram_number(const char **at, const char *end, uint64_t *out);

#endif
