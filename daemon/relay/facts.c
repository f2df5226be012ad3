/* Looks at a header on its way by. The message is its sender's own, who may write anything. */
#include "daemon/relay/facts.h"

#include <string.h>

static const char id_name[] = "message-id:", received_name[] = "received:";

void facts_init(struct facts *f)
{
    memset(f, 0, sizeof(*f));
}

static bool named(const struct facts *f, const char *name)
{
    return f->at == strlen(name) && memcmp(f->name, name, f->at) == 0;
}

/* A value of a References field must be one word: what could end it or the field is none. */
static void finish_id(struct facts *f)
{
    char *id = f->message_id;
    size_t len = f->id_len;
    bool ok = !f->id_done && len <= FACTS_ID && len > 4 && id[0] == '<' && id[len - 1] == '>' &&
              memchr(id, '@', len) != NULL;
    f->in_id = false;
    f->id_done = true; /* the first field counts */
    memset(id + (ok ? len : 0), 0, sizeof(f->message_id) - (ok ? len : 0));
}

static void take_id_byte(struct facts *f, uint8_t c)
{
    if (c == ' ' || c == '\t' || c == '\r')
        return;
    if (c <= 0x20 || c >= 0x7f || f->id_len >= FACTS_ID)
        f->id_len = FACTS_ID + 1; /* for good: not a name that can be quoted */
    else
        f->message_id[f->id_len++] = (char)c;
}

/* The first byte of a line: is it a field, more of the last one, or the end? */
static void begin_line(struct facts *f, uint8_t c)
{
    if (c == ' ' || c == '\t')
        return;
    if (f->in_id)
        finish_id(f);
    if (c == '\r' || c == '\n')
        f->over = true;
}

static void take(struct facts *f, uint8_t c)
{
    if (f->at == 0)
        begin_line(f, c);
    if (f->over)
        return;
    if (c == '\n') {
        f->at = 0;
        return;
    }
    if (f->in_id)
        take_id_byte(f, c);
    if (f->at < sizeof(f->name))
        f->name[f->at] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    f->at++;
    if (c != ':' || f->in_id)
        return;
    if (named(f, received_name))
        f->received++;
    else if (named(f, id_name))
        f->in_id = !f->id_done;
}

void facts_push(struct facts *f, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len && !f->over; i++)
        take(f, bytes[i]);
}

void facts_end(struct facts *f)
{
    if (f->in_id)
        finish_id(f);
    f->over = true;
}
