/* libs: */
/* Lines and commands: against a model that looks for CRLF alone, whole and in parts; every line
 * that comes out is split, and its argument read as BDAT's. */
#include "daemon/smtp/lines.c"
#include "daemon/smtp/command.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void split(char *line, size_t len)
{
    struct command c;
    uint64_t size = 0;
    bool last = false;

    must(command_split(line, len, &c) == SP_OK);
    must(c.verb < CMD_COUNT && strlen(c.arg) == c.arg_len);
    must(c.arg >= line && c.arg + c.arg_len <= line + len);
    must(command_name(c.verb) != NULL);
    if (command_bdat(c.arg, &size, &last) == SP_OK)
        must(size <= INT64_MAX && c.arg_len > 0);
    else
        must(size == 0 && !last);
}

/* What the line in[0..len), its CRLF included, must be. */
static enum lines_event model(const uint8_t *in, size_t len)
{
    if (len > LINES_MAX)
        return LINES_LONG;
    if (memchr(in, '\r', len - 2) != NULL || memchr(in, '\n', len - 2) != NULL)
        return LINES_BARE;
    return memchr(in, 0, len - 2) != NULL ? LINES_NUL : LINES_LINE;
}

/* One line with the reader in steps; returns the bytes used, 0 when it is not complete. */
static size_t read_line(struct lines *l, const uint8_t *in, size_t len, size_t step,
                        enum lines_event *event, char **line, size_t *line_len)
{
    size_t at = 0;

    *event = LINES_MORE;
    while (at < len && *event == LINES_MORE) {
        const size_t n = step < len - at ? step : len - at;
        size_t used = 0;
        uint8_t *own = malloc(n);
        must(own != NULL);
        memcpy(own, in + at, n);
        *event = lines_push(l, own, n, &used, line, line_len);
        free(own);
        must(*event == LINES_MORE ? used == n : used <= n);
        at += used;
    }
    return *event == LINES_MORE ? 0 : at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct lines l;

    if (size < 1)
        return 0;
    const size_t step = 1 + data[0];
    data++;
    size--;
    lines_init(&l);
    while (size > 0) {
        enum lines_event event;
        char *line = NULL;
        size_t line_len = 0;
        const uint8_t *end = memmem(data, size, "\r\n", 2);
        const size_t used = read_line(&l, data, size, step, &event, &line, &line_len);
        must((end == NULL) == (used == 0));
        must(lines_pending(&l) == (used == 0));
        if (end == NULL)
            break;
        must(used == (size_t)(end - data) + 2 && event == model(data, used));
        if (event == LINES_LINE) {
            must(line_len == used - 2 && memcmp(line, data, line_len) == 0 && line[line_len] == 0);
            split(line, line_len);
        }
        data += used;
        size -= used;
    }
    return 0;
}
