/* DNS answers, after libunbound has matched and validated them. Whoever runs a domain chooses what
 * stands in them: every name and address is checked here before a delivery gets to see it. */
#include "daemon/resolver/answers.h"

#include <arpa/nameser.h>
#include <resolv.h>
#include <string.h>
#include <strings.h>

#define MAX_ALIASES 16
#define LABEL_MAX   63
#define MX_FIXED    2 /* the preference */

bool answers_name_ok(const char *name, size_t len)
{
    size_t label = 0;
    bool number = true; /* the label so far is digits alone */
    if (len == 0 || len > ANSWERS_NAME)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool digit = c >= '0' && c <= '9';
        if (c == '.') {
            if (label == 0 || name[i - 1] == '-')
                return false;
            label = 0;
            number = true;
            continue;
        }
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if ((!digit && !letter && !(c == '-' && label > 0)) || ++label > LABEL_MAX)
            return false;
        number = number && digit;
    }
    return label > 0 && name[len - 1] != '-' && !number;
}

/* --- walking a packet --- */

struct walk {
    ns_msg msg;
    char
        owner[NS_MAXDNAME]; /* whose records count: the name asked for, or what it is an alias of */
    enum answer_type type;
    int aliases;
};

/* What to do with one record of the wanted type. */
typedef void (*take_fn)(const struct walk *walk, const ns_rr *rr, void *out);

/* The name at `at`, in text; special bytes come escaped, which answers_name_ok() refuses. "" is the
 * root. Returns its length in the packet, or -1. */
static int name_at(const struct walk *walk, const uint8_t *at, char out[NS_MAXDNAME])
{
    return dn_expand(ns_msg_base(walk->msg), ns_msg_end(walk->msg), at, out, NS_MAXDNAME);
}

/* ns_parserr() writes the root as ".". */
static bool same_name(const char *a, const char *b)
{
    return strcasecmp(a, b) == 0 || (strcmp(a, ".") == 0 && *b == '\0');
}

static enum answer_result begin(struct walk *walk, const uint8_t *packet, size_t len,
                                const char *name)
{
    ns_rr question;
    if (len > NS_MAXMSG || ns_initparse(packet, (int)len, &walk->msg) != 0 ||
        ns_msg_getflag(walk->msg, ns_f_qr) == 0 || ns_msg_count(walk->msg, ns_s_qd) != 1 ||
        ns_parserr(&walk->msg, ns_s_qd, 0, &question) != 0)
        return ANSWER_LATER;
    if (!same_name(ns_rr_name(question), name) || (int)ns_rr_type(question) != (int)walk->type ||
        ns_rr_class(question) != ns_c_in || strlen(name) >= sizeof(walk->owner))
        return ANSWER_LATER;
    memcpy(walk->owner, name, strlen(name) + 1);
    switch (ns_msg_getflag(walk->msg, ns_f_rcode)) {
    case ns_r_noerror:
        return ANSWER_FOUND;
    case ns_r_nxdomain:
        return ANSWER_NO_NAME;
    default:
        return ANSWER_LATER;
    }
}

/* Each alias stands before what it leads to: so libunbound puts them together. */
static enum answer_result follow(struct walk *walk, const ns_rr *rr)
{
    char to[NS_MAXDNAME];
    if (name_at(walk, ns_rr_rdata(*rr), to) != ns_rr_rdlen(*rr) || ++walk->aliases > MAX_ALIASES)
        return ANSWER_LATER;
    memcpy(walk->owner, to, strlen(to) + 1);
    return ANSWER_FOUND;
}

static enum answer_result read_all(struct walk *walk, const uint8_t *packet, size_t len,
                                   const char *name, take_fn take, void *out)
{
    enum answer_result result = begin(walk, packet, len, name);
    bool any = false;
    if (result != ANSWER_FOUND)
        return result;
    for (int i = 0; i < ns_msg_count(walk->msg, ns_s_an); i++) {
        ns_rr rr;
        if (ns_parserr(&walk->msg, ns_s_an, i, &rr) != 0)
            return ANSWER_LATER;
        if (ns_rr_class(rr) != ns_c_in || !same_name(ns_rr_name(rr), walk->owner))
            continue;
        if (ns_rr_type(rr) == ns_t_cname && !any && follow(walk, &rr) != ANSWER_FOUND)
            return ANSWER_LATER;
        if ((int)ns_rr_type(rr) == (int)walk->type) {
            any = true;
            take(walk, &rr, out);
        }
    }
    return any ? ANSWER_FOUND : ANSWER_NO_DATA;
}

/* --- MX --- */

/* In order of preference; when all places are taken, the least wanted goes. */
static void insert_mx(struct answer_mx *out, uint16_t preference, const char *host)
{
    size_t at = out->n;
    while (at > 0 && out->at[at - 1].preference > preference)
        at--;
    if (at == ANSWERS_MX)
        return;
    if (out->n < ANSWERS_MX)
        out->n++;
    memmove(&out->at[at + 1], &out->at[at], (out->n - 1 - at) * sizeof(out->at[0]));
    out->at[at].preference = preference;
    for (size_t i = 0; i == 0 || host[i - 1] != '\0'; i++)
        out->at[at].host[i] = (char)(host[i] >= 'A' && host[i] <= 'Z' ? host[i] | 0x20 : host[i]);
}

struct mx_taken {
    struct answer_mx *out;
    bool null;
};

static void take_mx(const struct walk *walk, const ns_rr *rr, void *arg)
{
    struct mx_taken *taken = arg;
    char host[NS_MAXDNAME];
    const uint8_t *data = ns_rr_rdata(*rr);
    if (ns_rr_rdlen(*rr) <= MX_FIXED ||
        name_at(walk, data + MX_FIXED, host) != ns_rr_rdlen(*rr) - MX_FIXED)
        return;
    if (*host == '\0')
        taken->null = true;
    else if (answers_name_ok(host, strlen(host)))
        insert_mx(taken->out, (uint16_t)ns_get16(data), host);
}

/* A null MX beside others means nothing: RFC 7505 section 3 wants it alone. */
enum answer_result answers_read_mx(const uint8_t *packet, size_t len, const char *name,
                                   struct answer_mx *out)
{
    struct walk walk = {.type = ANSWER_MX};
    struct mx_taken taken = {.out = out};
    out->n = 0;
    enum answer_result result = read_all(&walk, packet, len, name, take_mx, &taken);
    if (result != ANSWER_FOUND)
        out->n = 0;
    else if (taken.null && out->n == 0)
        insert_mx(out, 0, "");
    return result;
}

/* --- addresses --- */

/* Could one host be meant at all? Not: "this network", multicast, reserved, broadcast (RFC 6890);
 * and not IPv4 dressed up as IPv6 (::/96, ::ffff:0:0/96, RFC 4291 2.5.5), which would get around
 * whatever is said about IPv4 addresses. */
static bool is_usable(const uint8_t *address, size_t len)
{
    static const uint8_t zero[12], mapped[12] = {[10] = 0xff, [11] = 0xff}, one[16] = {[15] = 1};
    if (len == 4)
        return address[0] != 0 && address[0] < 224;
    if (memcmp(address, one, sizeof(one)) == 0)
        return true;
    return address[0] != 0xff && memcmp(address, zero, sizeof(zero)) != 0 &&
           memcmp(address, mapped, sizeof(mapped)) != 0;
}

struct addresses_taken {
    struct answer_addresses *out;
    size_t n; /* of this type */
};

static void take_address(const struct walk *walk, const ns_rr *rr, void *arg)
{
    struct addresses_taken *taken = arg;
    struct answer_addresses *out = taken->out;
    uint8_t len = walk->type == ANSWER_A ? 4 : 16;
    if (ns_rr_rdlen(*rr) != len || !is_usable(ns_rr_rdata(*rr), len) ||
        taken->n == ANSWERS_PER_TYPE || out->n == ANSWERS_ADDRESSES)
        return;
    out->at[out->n].len = len;
    memcpy(out->at[out->n].bytes, ns_rr_rdata(*rr), len);
    out->n++;
    taken->n++;
}

enum answer_result answers_read_addresses(const uint8_t *packet, size_t len, const char *name,
                                          enum answer_type type, struct answer_addresses *out)
{
    struct walk walk = {.type = type};
    struct addresses_taken taken = {.out = out};
    size_t before = out->n;
    enum answer_result result = read_all(&walk, packet, len, name, take_address, &taken);
    if (result != ANSWER_FOUND)
        out->n = before;
    return result == ANSWER_FOUND && taken.n == 0 ? ANSWER_NO_DATA : result;
}

/* One with addresses will do. Else the doubt wins: it is no proof that nothing is there. */
enum answer_result answers_join(enum answer_result a, enum answer_result b)
{
    static const int weight[] = {[ANSWER_FOUND] = 4,
                                 [ANSWER_BOGUS] = 3,
                                 [ANSWER_LATER] = 2,
                                 [ANSWER_NO_DATA] = 1,
                                 [ANSWER_NO_NAME] = 0};
    return weight[a] >= weight[b] ? a : b;
}
