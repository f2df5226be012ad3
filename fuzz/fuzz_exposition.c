/* libs: -levent */
/* What roles say in their status, as web turns it into Prometheus' text: whatever they say, each
 * line is a comment of the table's or one sample with a number, and no sample comes twice. */
#include "daemon/web/exposition.c"
#undef take
#define take histogram_take
#include "daemon/histogram.c"
#include "envelope/wire.c"

#include <stdlib.h>

#define MAX_LINES 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(bool good)
{
    if (!good)
        abort();
}

static void check_number(const char *at)
{
    char *end;
    double value = strtod(at, &end);
    insist(end != at && *end == '\0' && value >= 0);
    insist(strspn(at, "0123456789.e+-") == strlen(at));
}

static uint64_t hash(const char *text, size_t len)
{
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (uint8_t)text[i]) * 1099511628211u;
    return h;
}

static void check_line(char *line, uint64_t *seen, size_t *n)
{
    if (strncmp(line, "# ", 2) == 0) {
        insist(strncmp(line + 2, "HELP sealpost_", 14) == 0 ||
               strncmp(line + 2, "TYPE sealpost_", 14) == 0);
        return;
    }
    char *space = strrchr(line, ' ');
    insist(space != NULL && strncmp(line, "sealpost_", 9) == 0);
    insist(strspn(line, "abcdefghijklmnopqrstuvwxyz_0123456789{}=\",.+-I") ==
           (size_t)(space - line));
    check_number(space + 1);
    uint64_t h = hash(line, (size_t)(space - line));
    for (size_t i = 0; i < *n; i++)
        insist(seen[i] != h);
    insist(*n < MAX_LINES);
    seen[(*n)++] = h;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t seen[MAX_LINES];
    size_t n = 0;
    struct evbuffer *out = evbuffer_new();
    char *line;
    insist(out != NULL);
    exposition_write(wire_in(data, size), out);
    while ((line = evbuffer_readln(out, NULL, EVBUFFER_EOL_LF)) != NULL) {
        check_line(line, seen, &n);
        free(line);
    }
    insist(evbuffer_get_length(out) == 0);
    evbuffer_free(out);
    return 0;
}
