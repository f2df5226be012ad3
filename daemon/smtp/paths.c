/* MAIL and RCPT: who a message is from, who it is for, and which of that we take. Arguments come
 * from anybody; what goes on to the sealer obeys the grammar and names a domain of ours. */
#include "daemon/domain.h"
#include "daemon/smtp/session.h"

#include <string.h>
#include <strings.h>

#define BEYOND 10u /* so many times max_recipients may be tried in vain */

static const char bad_sender[] = "501 5.1.7 Malformed address";
static const char bad_recipient[] = "501 5.1.3 Malformed address";
static const char not_ours[] = "550 5.7.1 Not ours to deliver";

static void count_here(struct session *x, enum session_refusal what)
{
    if (upstream_refused(&x->upstream, what) != SP_OK)
        x->quit = true;
}

/* --- MAIL --- */

static const char *on_size(struct session *x, const struct address_param *p)
{
    unsigned long long size;
    if (address_param_number(p, &size) != SP_OK)
        return "501 5.5.4 SIZE needs a number";
    if (size <= x->config->max_message)
        return NULL;
    count_here(x, REFUSED_SIZE);
    return "552 5.3.4 Message too big";
}

static const char *on_body(struct session *x, const struct address_param *p)
{
    (void)x;
    return address_param_is(p, "7BIT") || address_param_is(p, "8BITMIME")
               ? NULL
               : "501 5.5.4 BODY is 7BIT or 8BITMIME";
}

static const char *on_smtputf8(struct session *x, const struct address_param *p)
{
    x->smtputf8 = true;
    return p->value != NULL ? "501 5.5.4 SMTPUTF8 takes no value" : NULL;
}

/* What EHLO offers. RET and ENVID (DSN) are not there: the one success that this appliance could
 * report, that a mail was stored, is what 250 says already. */
static const struct {
    const char *key;
    const char *(*check)(struct session *x, const struct address_param *p);
} mail_params[] = {{"SIZE", on_size}, {"BODY", on_body}, {"SMTPUTF8", on_smtputf8}};
#define MAIL_PARAMS (sizeof(mail_params) / sizeof(mail_params[0]))

static const char *check_mail_param(struct session *x, const struct address_param *p,
                                    unsigned *seen)
{
    if (!x->extended)
        return "555 5.5.4 Say EHLO first";
    for (unsigned i = 0; i < MAIL_PARAMS; i++) {
        if (strcmp(mail_params[i].key, p->key) != 0)
            continue;
        if (*seen >> i & 1)
            return "501 5.5.4 Given twice";
        *seen |= 1u << i;
        return mail_params[i].check(x, p);
    }
    return "555 5.5.4 Unknown parameter";
}

/* NULL, or why this sender is refused. */
static const char *read_sender(struct session *x, const char *at)
{
    char ascii[DOMAIN_MAX + 1];
    struct address_param p;
    unsigned seen = 0;
    const char *wrong = NULL;
    if (!address_keyword(&at, "FROM:"))
        return "501 5.5.4 MAIL FROM:<address>";
    enum sp_err err = address_parse(at, ADDRESS_NULL_PATH | ADDRESS_UTF8, &x->from, &at);
    if (err != SP_OK)
        return bad_sender;
    while (wrong == NULL && (err = address_param_next(&at, &p)) == SP_OK)
        wrong = check_mail_param(x, &p, &seen);
    if (wrong != NULL)
        return wrong;
    if (err != SP_ERR_NOT_FOUND)
        return "501 5.5.4 Malformed parameter";
    if (x->from.utf8 && !x->smtputf8)
        return "550 5.6.7 Not without SMTPUTF8";
    return domain_to_ascii(x->from.domain, ascii) == SP_OK ? NULL : bad_sender;
}

void paths_mail(struct session *x, const struct command *c)
{
    if (x->mail) {
        session_error(x, "503 5.5.1 One MAIL at a time");
        return;
    }
    if (!x->lmtp && x->transactions >= x->config->smtp_max_transactions) {
        session_cut(x, END_TRANSACTIONS, "421 4.7.0", "Enough for one session; connect again");
        return;
    }
    x->smtputf8 = false;
    const char *wrong = read_sender(x, c->arg);
    if (wrong != NULL) {
        session_error(x, wrong);
        return;
    }
    x->transactions++;
    x->mail = true;
    x->chunks = CHUNKS_NONE;
    session_reply(x, "250 2.1.0 Sender ok");
}

/* --- RCPT --- */

static bool has_users(const struct session *x, const char *domain)
{
    for (size_t i = 0; i < x->config->domain.count; i++)
        if (strcasecmp(x->config->domain.item[i], domain) == 0)
            return true;
    return false;
}

/* A domain of ours, or our own name, or none at all (<Postmaster>). */
static bool is_ours(const struct session *x, const struct address *to)
{
    return to->domain[0] == '\0' || strcasecmp(to->domain, x->config->hostname) == 0 ||
           has_users(x, to->domain);
}

/* This machine's own (RFC 5321 4.5.1), though its name need not be a domain of ours. */
static bool is_postmaster_here(const struct session *x, const struct address *to)
{
    return strcasecmp(to->domain, x->config->hostname) == 0 && !has_users(x, to->domain) &&
           strcasecmp(to->local, "postmaster") == 0;
}

/* RFC 7505 4.2 leaves it open when a sender is refused for its null MX: at RCPT, so that who tries
 * addresses that are not ours costs no question. Our own names are not asked about. */
static bool is_answerable(struct session *x)
{
    struct address from = x->from;
    char ascii[DOMAIN_MAX + 1];
    if (x->lmtp || from.null || from.literal || domain_to_ascii(from.domain, ascii) != SP_OK)
        return true;
    memcpy(from.domain, ascii, strlen(ascii) + 1);
    return is_ours(x, &from) || !sender_has_null_mx(&x->sender, ascii);
}

/* NULL, or why this recipient is refused without asking the sealer. */
static const char *read_recipient(const struct session *x, const char *at, struct address *to)
{
    char ascii[DOMAIN_MAX + 1];
    struct address_param p;
    _Static_assert(sizeof(ascii) <= sizeof(to->domain), "its ASCII form takes its place");
    if (!address_keyword(&at, "TO:"))
        return "501 5.5.4 RCPT TO:<address>";
    unsigned allow = ADDRESS_POSTMASTER | (x->smtputf8 ? ADDRESS_UTF8 : 0);
    enum sp_err err = address_parse(at, allow, to, &at);
    if (err == SP_ERR_DENIED)
        return "553 5.6.7 Not without SMTPUTF8";
    if (err != SP_OK)
        return bad_recipient;
    err = address_param_next(&at, &p);
    if (err != SP_ERR_NOT_FOUND)
        return err == SP_OK ? "555 5.5.4 Unknown parameter" : "501 5.5.4 Malformed parameter";
    if (domain_to_ascii(to->domain, ascii) != SP_OK)
        return bad_recipient;
    memcpy(to->domain, ascii, strlen(ascii) + 1);
    if (is_postmaster_here(x, to))
        to->domain[0] = '\0'; /* as if it had been said without */
    /* No open relay, in no spelling: what an older mail system would route on is refused too. */
    if (!is_ours(x, to) || strpbrk(to->local, "@%!") != NULL)
        return not_ours;
    return NULL;
}

/* Guessing who is there is ended at some point (not by LMTP: its client hands on what others
 * guess); what is beyond the limit of a transaction may be the sender's next one, and is given
 * more. */
static void count_refusal(struct session *x, const char *text)
{
    if (!x->lmtp && text[0] == '5' && ++x->refused >= x->config->smtp_max_refused)
        session_cut(x, END_RECIPIENTS, "421 4.7.0", "Too many recipients were refused");
}

static void refuse_beyond(struct session *x)
{
    count_here(x, REFUSED_BEYOND);
    session_reply(x, "452 4.5.3 Too many recipients");
    if (++x->beyond >= BEYOND * x->config->max_recipients)
        session_cut(x, END_RECIPIENTS, "421 4.7.0", "Far too many recipients");
}

static const char *reply_to_recipient(enum sp_err verdict)
{
    static const struct {
        enum sp_err verdict;
        const char *text;
    } replies[] = {
        {SP_OK, "250 2.1.5 Recipient ok"},
        {SP_ERR_NOT_FOUND, "550 5.1.1 No such user here"},
        {SP_ERR_NO_KEY, "450 4.2.1 This user has no key yet; try again later"},
        {SP_ERR_NO_SPACE, "452 4.3.1 No room at the moment"},
        {SP_ERR_LIMIT, "452 4.5.3 Too many recipients"},
    };
    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++)
        if (replies[i].verdict == verdict)
            return replies[i].text;
    return "451 4.3.0 Cannot tell; try again later";
}

/* No user has an address that long (storage/store.h). */
#define LONGEST 255u

static const char *ask(struct session *x, const struct address *to)
{
    char text[ADDRESS_MAX_TEXT];
    enum sp_err verdict = address_write(to, text, sizeof(text));
    if (verdict == SP_OK)
        verdict =
            strlen(text) <= LONGEST ? upstream_recipient(&x->upstream, text) : SP_ERR_NOT_FOUND;
    if (verdict == SP_OK && x->recipients++ == 0)
        memcpy(x->first_rcpt, text, sizeof(text));
    return reply_to_recipient(verdict);
}

static void answer_recipient(struct session *x, const struct address *to)
{
    const char *reply =
        is_answerable(x) ? ask(x, to) : "550 5.7.27 Your domain takes no mail (null MX)";
    session_reply(x, "%s", reply);
    count_refusal(x, reply);
    if (x->upstream.failed != SP_OK)
        x->quit = true;
}

void paths_rcpt(struct session *x, const struct command *c)
{
    struct address to;
    const char *wrong = NULL;
    if (!x->mail || x->chunks != CHUNKS_NONE)
        wrong = x->mail ? "503 5.5.1 Not among chunks" : "503 5.5.1 MAIL first";
    else
        wrong = read_recipient(x, c->arg, &to);
    if (wrong == not_ours)
        count_here(x, REFUSED_NOT_OURS);
    if (wrong != NULL)
        session_error(x, wrong);
    else if (x->recipients >= x->config->max_recipients)
        refuse_beyond(x);
    else
        answer_recipient(x, &to);
}
