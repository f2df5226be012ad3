/* Command lines off the network. The sender is hostile: a line is what stands before a CRLF, and no
 * part of a line that was refused is ever seen by anyone else. */
#include "daemon/smtp/lines.h"

static void restart(struct lines *l)
{
    l->len = 0;
    l->cr = false;
    l->bare = false;
    l->nul = false;
}

void lines_init(struct lines *l)
{
    restart(l);
    l->buf[0] = '\0';
}

/* The CRLF was read. */
static enum lines_event complete(struct lines *l, char **line, size_t *line_len)
{
    enum lines_event event = LINES_LINE;

    if (l->len > LINES_MAX) {
        event = LINES_LONG;
    } else if (l->bare) {
        event = LINES_BARE;
    } else if (l->nul) {
        event = LINES_NUL;
    } else {
        *line_len = l->len - 2;
        *line = l->buf;
        l->buf[*line_len] = '\0';
    }
    restart(l);
    return event;
}

enum lines_event lines_push(struct lines *l, const uint8_t *in, size_t len, size_t *used,
                            char **line, size_t *line_len)
{
    *used = 0;
    *line = NULL;
    *line_len = 0;
    for (size_t i = 0; i < len; i++) {
        const uint8_t b = in[i];
        const bool crlf = l->cr && b == '\n';

        l->bare |= l->cr ? !crlf : b == '\n';
        l->nul |= b == '\0';
        l->cr = b == '\r';
        if (l->len < LINES_MAX)
            l->buf[l->len] = (char)b;
        l->len++;
        if (crlf) {
            *used = i + 1;
            return complete(l, line, line_len);
        }
    }
    *used = len;
    return LINES_MORE;
}

bool lines_pending(const struct lines *l)
{
    return l->len > 0;
}
