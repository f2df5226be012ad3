/* Making links and showing them. Whoever has a link has the mail: its text is made in locked memory
 * and goes to the sender's standard output alone, past stdio's buffer. The server says how long
 * links may last, and is believed: a lie makes them shorter, or has them refused. */
#include "client/links.h"
#include "client/report.h"
#include "client/secret.h"
#include "envelope/link.h"
#include "envelope/utf8.h"

#include <inttypes.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIFETIME (7u * 86400u) /* seconds, unless --expires says otherwise */

static const struct {
    char unit;
    uint64_t seconds;
    const char *name;
} units[] = {{'d', 86400, "day"}, {'h', 3600, "hour"}, {'m', 60, "minute"}, {'s', 1, "second"}};
#define N_UNITS (sizeof units / sizeof *units)

uint64_t links_lifetime(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 8 || text[digits] == '\0' || text[digits + 1] != '\0')
        return 0;
    for (size_t i = 0; i < N_UNITS; i++) {
        if (units[i].unit == text[digits])
            return strtoull(text, NULL, 10) * units[i].seconds;
    }
    return 0;
}

/* In the largest unit that says it exactly. */
static enum sp_err too_long(uint64_t most)
{
    size_t i = 0;
    while (i + 1 < N_UNITS && most % units[i].seconds != 0)
        i++;
    uint64_t n = most / units[i].seconds;
    return report_plain(SP_ERR_LIMIT,
                        "--expires: links of this appliance last %" PRIu64 " %s%s at most", n,
                        units[i].name, n == 1 ? "" : "s");
}

static enum sp_err find_lifetime(struct client *c, uint64_t *lifetime)
{
    uint64_t most;
    bool given = (c->args->given & OPT_EXPIRES) != 0;
    *lifetime = given ? links_lifetime(c->args->expires) : LIFETIME;
    enum sp_err err = server_max_expiry(c->server, &most);
    if (err != SP_OK || most == 0 || *lifetime <= most)
        return err;
    *lifetime = most;
    return given ? too_long(most) : SP_OK;
}

static enum sp_err take_subject(const struct client *c, struct letter *l)
{
    const char *text = (c->args->given & OPT_SUBJECT) != 0 ? c->args->subject : "";
    size_t len = strlen(text);
    if (len > LETTER_SUBJECT_MAX || !utf8_is_text((const uint8_t *)text, len))
        return report_plain(SP_ERR_FORMAT, "--subject: a line of UTF-8, of %u bytes at most",
                            LETTER_SUBJECT_MAX);
    memcpy(l->subject, text, len + 1);
    return SP_OK;
}

static void say(const struct letter *l)
{
    char until[REPORT_TIME];
    report_time(l->expiry, until);
    fprintf(stderr, "sealpost: not end-to-end encrypted: a link until %s for:", until);
    for (uint32_t i = 0; i < l->n_links; i++)
        fprintf(stderr, "%s %s", i > 0 ? "," : "", l->recipient[l->link[i].of].address);
    fputs(" (the appliance holds each link's password until it has sent the link)\n", stderr);
    if (l->subject[0] != '\0')
        report_note("all servers on the way of the notification read its subject");
}

enum sp_err links_make(struct client *c, struct letter *l)
{
    uint64_t lifetime = 0;
    enum sp_err err = take_subject(c, l);
    if (err == SP_OK)
        err = find_lifetime(c, &lifetime);
    if (err != SP_OK)
        return err;
    err = letter_links(l, c->account.keeper, lifetime);
    if (err == SP_ERR_LIMIT)
        return report_plain(err, "a mail may have links for %u recipients at most",
                            LETTER_MAX_LINKS);
    if (err != SP_OK)
        return report_fail(err, "sealing for the appliance");
    say(l);
    return SP_OK;
}

/* --- printing --- */

#define LINE (LINK_TEXT_MAX + 2 * ADDRLIST_MAX + 64)

/* All of it in locked memory. */
struct printing {
    struct link link;
    char text[LINK_TEXT_MAX], line[LINE];
};

/* Addresses and links have nothing in them that JSON would have to escape but the address's UTF-8,
 * which may stand as it is, and a quote or backslash, which neither may hold; jansson is asked all
 * the same for what is no secret. */
static int put_json(struct printing *p, const char *address, uint64_t expiry, bool first, bool last)
{
    json_t *j = json_string(address);
    char *quoted = j != NULL ? json_dumps(j, JSON_ENCODE_ANY) : NULL;
    int n = -1;
    if (quoted != NULL)
        n = snprintf(p->line, LINE,
                     "%s{\"address\": %s, \"expires\": %" PRIu64 ", \"link\": \"%s\"}%s",
                     first ? "" : ", ", quoted, expiry, p->text, last ? "]}\n" : "");
    free(quoted);
    json_decref(j);
    return n;
}

static enum sp_err print_link(struct client *c, const struct letter *l, uint32_t i,
                              struct printing *p)
{
    const struct letter_link *from = &l->link[i];
    const char *address = l->recipient[from->of].address;
    bool json = (c->args->given & OPT_JSON) != 0;
    memcpy(p->link.id, from->id, ID_SIZE);
    memcpy(p->link.password, l->secret->password[i], KEY_SIZE);
    memcpy(p->link.digest, from->digest, HASH_SIZE);
    enum sp_err err = link_format(c->account.url, &p->link, p->text, sizeof p->text);
    if (err != SP_OK)
        return err;
    int n = json ? put_json(p, address, l->expiry, i == 0, i + 1 == l->n_links)
                 : snprintf(p->line, LINE, "%s %s\n", address, p->text);
    if (n < 0 || n >= (int)LINE)
        return SP_ERR_LIMIT;
    return file_write(STDOUT_FILENO, p->line, (size_t)n);
}

enum sp_err links_print(struct client *c, const struct letter *l)
{
    struct printing *p = secret_alloc(sizeof *p);
    enum sp_err err = p != NULL ? SP_OK : SP_ERR_MEMORY;
    if ((c->args->given & OPT_JSON) != 0)
        printf("{\"id\": \"%s\", \"links\": [%s", l->hex, l->n_links == 0 ? "]}\n" : "");
    if (fflush(stdout) != 0)
        err = SP_ERR_SYSTEM;
    for (uint32_t i = 0; err == SP_OK && i < l->n_links; i++)
        err = print_link(c, l, i, p);
    secret_free(p);
    return err == SP_OK ? err : report_fail(err, "message %s was sent; printing its links", l->hex);
}
