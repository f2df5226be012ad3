/* Words about a message's origin. Its From field is its sender's to write: a user who signs under
 * another's name is shown as such, loudly. */
#include "client/trust.h"
#include "client/addrlist.h"
#include "client/report.h"
#include "client/secret.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define HEADER_MAX (256u * 1024u)

bool trust_end_to_end(const struct message *m)
{
    return m->signer.there && (m->manifest.flags & MANIFEST_SERVER_ACCESS) == 0;
}

void trust_words(const struct message *m, char out[TRUST_WORDS])
{
    const struct signer *s = &m->signer;
    if (!s->there)
        snprintf(out, TRUST_WORDS, "not end-to-end: sealed by the appliance");
    else
        snprintf(out, TRUST_WORDS, "%s, %s%s%s%s%s%s",
                 trust_end_to_end(m) ? "end-to-end" : "not end-to-end",
                 s->own ? "sent by you" : "from ", s->own ? "" : s->address, s->own ? "" : ", ",
                 s->own ? "" : s->fingerprint, s->revoked ? " (device revoked since)" : "",
                 s->moved ? " (FINGERPRINT CHANGED)" : "");
}

/* The message's header, as far as it is read: its first bytes, up to the blank line. */
struct head {
    char *text; /* HEADER_MAX bytes of locked memory */
    size_t len;
    bool whole;
};

/* SP_ERR_STATE ends the reading when enough is there. */
static enum sp_err take_head(void *ctx, const uint8_t *bytes, size_t len)
{
    struct head *h = ctx;
    size_t n = len < HEADER_MAX - h->len ? len : HEADER_MAX - h->len;
    size_t back = h->len < 3 ? h->len : 3;
    memcpy(h->text + h->len, bytes, n);
    const char *end = memmem(h->text + h->len - back, n + back, "\r\n\r\n", 4);
    h->len = end != NULL ? (size_t)(end - h->text) + 2 : h->len + n;
    h->whole = end != NULL;
    return h->whole || h->len == HEADER_MAX ? SP_ERR_STATE : SP_OK;
}

struct from {
    const char *signer;
    unsigned fields, addresses, others;
};

static enum sp_err compare(void *ctx, const char *address)
{
    struct from *f = ctx;
    f->addresses++;
    f->others += addrlist_same(address, f->signer) ? 0 : 1;
    return SP_OK;
}

static bool is_from(const char *line, size_t len)
{
    size_t name = 4;
    if (len < 5 || strncasecmp(line, "from", 4) != 0)
        return false;
    while (name < len && (line[name] == ' ' || line[name] == '\t'))
        name++;
    return name < len && line[name] == ':';
}

/* Bytes of a field with its folded lines, from at on. */
static size_t field_length(const char *at, size_t left)
{
    size_t n = 0;
    do {
        const char *end = memchr(at + n, '\n', left - n);
        n = end != NULL ? (size_t)(end - at) + 1 : left;
    } while (n < left && (at[n] == ' ' || at[n] == '\t'));
    return n;
}

/* True when there is one From field, and it names the signer and nobody else. */
static bool from_is_signer(const struct head *h, const char *signer)
{
    struct from f = {.signer = signer};
    enum sp_err err = SP_OK;
    for (size_t at = 0, n; at < h->len && err == SP_OK; at += n) {
        n = field_length(h->text + at, h->len - at);
        if (!is_from(h->text + at, n))
            continue;
        const char *colon = memchr(h->text + at, ':', n);
        size_t skip = (size_t)(colon - (h->text + at)) + 1;
        f.fields++;
        err = addrlist_each((const uint8_t *)colon + 1, n - skip, compare, &f);
    }
    return err == SP_OK && f.fields == 1 && f.addresses == 1 && f.others == 0;
}

static enum sp_err check_from(const struct message *m)
{
    struct head h = {.text = secret_alloc(HEADER_MAX)};
    if (h.text == NULL)
        return report_fail(SP_ERR_MEMORY, "message %s: its header", m->id);
    enum sp_err err = message_join(m, take_head, &h);
    if (err == SP_ERR_STATE)
        err = SP_OK;
    if (err != SP_OK)
        report_fail(err, "message %s: its header", m->id);
    else if (!from_is_signer(&h, m->signer.address))
        report_note("WARNING: message %s: its From field is not %s, who signed it: do not "
                    "believe it",
                    m->id, m->signer.address);
    secret_free(h.text);
    return err;
}

static void describe(const struct message *m)
{
    const struct signer *s = &m->signer;
    if (!s->there)
        report_note("message %s: not end-to-end encrypted: the appliance sealed it as it came in; "
                    "nobody signed it",
                    m->id);
    else
        report_note("message %s: %send-to-end encrypted%s; signed by %s%s, fingerprint %s", m->id,
                    trust_end_to_end(m) ? "" : "not ",
                    trust_end_to_end(m) ? ""
                                        : " (the server was given a key for recipients outside)",
                    s->own ? "you, " : "", s->address, s->fingerprint);
}

enum sp_err trust_report(const struct message *m, bool quiet)
{
    const struct signer *s = &m->signer;
    if (!quiet)
        describe(m);
    if (!s->there)
        return SP_OK;
    if (s->revoked)
        report_note("WARNING: message %s: signed by a device of %s that is revoked by now", m->id,
                    s->address);
    if (s->gone)
        report_note("message %s: the server has no user %s any more: the signature was checked "
                    "against what is remembered here",
                    m->id, s->address);
    if (s->moved)
        report_note("WARNING: message %s: the fingerprint of %s changed since you compared it: "
                    "compare it again ('sealpost fingerprint %s')",
                    m->id, s->address, s->address);
    return check_from(m);
}
