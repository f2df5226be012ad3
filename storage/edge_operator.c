/* Operators: verbs of sealpostctl, over connections that the supervisor hands on. Whoever may open
 * the control socket owns the appliance; still, arguments are checked and refusals say what to do.
 */
#include "storage/operator.h"
#include "daemon/messages.h"
#include "daemon/smtp/address.h"

#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ARGS OPERATOR_ARGS
#define MAX_ARG  1024u
#define CELLS    (120u * 1024u)
#define TARGETS  4096u /* text of an alias's targets in the audit log */

/* --- answering --- */

void request_say(struct request *q, enum sp_err err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(q->text, sizeof(q->text), format, args);
    va_end(args);
    q->err = err;
}

/* Sends the rows so far; after an error the table is empty. */
static enum sp_err send_rows(struct request *q, uint16_t flags)
{
    static uint8_t buf[IPC_MAX_PAYLOAD];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u8(&out, (uint8_t)q->err);
    wire_put_str(&out, q->text);
    wire_put_u16(&out, q->err == SP_OK ? q->columns : 0);
    wire_put_u32(&out, q->err == SP_OK ? q->rows : 0);
    if (q->err == SP_OK)
        wire_put_bytes(&out, q->cells.at, q->cells.len);
    q->rows = 0;
    q->cells.len = 0;
    enum sp_err err = ipc_peer_send_flags(q->peer, CC_TABLE, flags, q->id, &out, -1);
    sodium_memzero(buf, out.len); /* the text may hold a code */
    return err;
}

enum sp_err request_row(struct request *q, const char *const *cell)
{
    size_t need = 0;
    for (uint16_t i = 0; i < q->columns; i++)
        need += 2 + strlen(cell[i]);
    if (need > q->cells.cap)
        return SP_ERR_LIMIT;
    if (need > q->cells.cap - q->cells.len) {
        enum sp_err err = send_rows(q, 0);
        if (err != SP_OK)
            return err;
    }
    for (uint16_t i = 0; i < q->columns; i++)
        wire_put_str(&q->cells, cell[i]);
    q->rows++;
    return SP_OK;
}

/* --- arguments --- */

/* What would need quotes in SMTP, or is refused there since it smells of routing, could never get
 * mail. */
static bool is_plain(const char *address)
{
    char path[STORE_MAX_ADDRESS + 2];
    struct address a;
    const char *end;
    int n = snprintf(path, sizeof(path), "<%s>", address);
    if (n < 0 || (size_t)n >= sizeof(path) || address_parse(path, ADDRESS_UTF8, &a, &end) != SP_OK)
        return false;
    return strpbrk(address, " \"%!<>()[]\\,;:") == NULL &&
           strchr(address, '@') == strrchr(address, '@');
}

static bool get_address(struct request *q, const char *text, bool own, char out[STORE_MAX_ADDRESS])
{
    if (store_address(text, strlen(text), false, out) != SP_OK || !is_plain(out)) {
        request_say(q, SP_ERR_FORMAT, "'%s' is not an address; write local@domain", text);
        return false;
    }
    if (own && !own_domain(q->role, out)) {
        request_say(
            q, SP_ERR_DENIED,
            "'%s' is not one of this appliance's domains; add it as [appliance] domain first",
            store_address_domain(out));
        return false;
    }
    return true;
}

bool request_kept(struct request *q, enum sp_err err)
{
    if (err == SP_OK)
        err = group_flush(q->role);
    if (err == SP_OK)
        return true;
    if (err == SP_ERR_NO_SPACE)
        request_say(
            q, err,
            "the disk or the database map is full; raise [storage] map_size, or free space");
    else
        request_say(q, err, "the database refused: %s", sp_err_text(err));
    return false;
}

/* --- users --- */

/* With a code that the caller makes, and wipes. */
static void invite(struct request *q, const char *address, const char *code)
{
    uint8_t hash[HASH_SIZE];
    struct store_user user;
    enum sp_err err = enrol_code_hash(code, strlen(code), hash);
    if (err == SP_OK)
        err = store_user_add(q->role->store, address, hash,
                             now_ms() + q->role->role->config->code_expiry * 1000u);
    if (err == SP_ERR_EXISTS) {
        request_say(q, err, "%s is enrolled already, or an alias", address);
        return;
    }
    if (!request_kept(q, err) || store_user_by_address(q->role->store, address, &user) != SP_OK)
        return;
    audit_emit(AUDIT_USER_ADDED, address);
    request_say(q, SP_OK, "%s", code);
}

static void user_add(struct request *q)
{
    char address[STORE_MAX_ADDRESS], code[ENROL_CODE_TEXT];
    if (!get_address(q, q->arg[2], true, address))
        return;
    enrol_code_make(code);
    invite(q, address, code);
    sodium_memzero(code, sizeof(code));
}

static void user_remove(struct request *q)
{
    char address[STORE_MAX_ADDRESS], alias[STORE_MAX_ADDRESS];
    struct store_user user;
    if (!get_address(q, q->arg[2], false, address))
        return;
    enum sp_err err = store_user_by_address(q->role->store, address, &user);
    if (err == SP_OK)
        err = store_user_remove(q->role->store, address, alias);
    if (err == SP_ERR_NOT_FOUND) {
        request_say(q, err, "there is no user %s", address);
    } else if (err == SP_ERR_DENIED) {
        request_say(q, err, "alias %s delivers to %s; remove the alias first", alias, address);
    } else if (request_kept(q, err)) {
        size_t revoked;
        sessions_revoke(q->role->sessions, user.no, NULL);
        while (revoke_open(q->role, user.no, 0, NULL, &revoked) == SP_OK && revoked > 0)
            ; /* so many in one commit */
        sweep_soon(q->role);
        audit_emit(AUDIT_USER_REMOVED, user.user_id, address);
        request_say(q, SP_OK, "removed %s", address);
    }
}

static const char *state_word(const struct store_user *user)
{
    if (user->state == USER_ENROLLED)
        return "enrolled";
    return now_ms() > user->code_expiry_ms ? "expired" : "invited";
}

static enum sp_err put_user(void *ctx, const struct store_user *user,
                            const struct store_mailbox *box)
{
    struct request *q = ctx;
    char devices[16] = "", generation[16] = "", messages[24], bytes[24];
    char fingerprint[SIGCHAIN_FINGERPRINT] = "";
    if (user->state == USER_ENROLLED) {
        struct sigchain chain;
        sigchain_init(&chain);
        chain.seq = user->chain_seq;
        memcpy(chain.head, user->head, HASH_SIZE);
        sigchain_fingerprint(&chain, fingerprint);
        snprintf(devices, sizeof(devices), "%u", user->devices);
        snprintf(generation, sizeof(generation), "%u", user->generation);
    }
    snprintf(messages, sizeof(messages), "%llu", (unsigned long long)box->messages);
    snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)box->bytes);
    return request_row(q, (const char *const[]){user->address, state_word(user), devices,
                                                generation, messages, bytes, fingerprint});
}

static void user_list(struct request *q)
{
    q->columns = 7;
    enum sp_err err =
        request_row(q, (const char *const[]){"address", "state", "devices", "generation",
                                             "messages", "bytes", "fingerprint"});
    if (err == SP_OK)
        err = store_users_each(q->role->store, put_user, q);
    if (err != SP_OK)
        request_say(q, err, "the list could not be read: %s", sp_err_text(err));
}

/* --- aliases --- */

/* "a, b" for the audit log, cut where it does not fit. */
static void join(char *const *item, size_t n, char text[TARGETS])
{
    struct wire_out out = wire_out(text, TARGETS - 1);
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            wire_put_bytes(&out, ", ", 2);
        wire_put_bytes(&out, item[i], strlen(item[i]));
    }
    text[out.len] = '\0';
}

static void alias_add_error(struct request *q, enum sp_err err, const char *alias, size_t bad)
{
    if (err == SP_ERR_EXISTS)
        request_say(q, err, "%s is a user or an alias already", alias);
    else if (err == SP_ERR_NOT_FOUND)
        request_say(q, err, "%s is no user or alias here; an alias delivers to those alone",
                    q->arg[3 + bad]);
    else if (bad == q->n - 3)
        request_say(q, err, "a user has %u addresses at most, and one whom %s would reach has them",
                    STORE_MAX_NAMES, alias);
    else
        request_say(q, err, "an alias may reach %u users at most", STORE_MAX_TARGETS);
}

static void alias_add(struct request *q)
{
    static char target[MAX_ARGS][STORE_MAX_ADDRESS];
    static char text[TARGETS];
    const char *targets[MAX_ARGS];
    char alias[STORE_MAX_ADDRESS];
    size_t n = q->n - 3, bad;
    if (!get_address(q, q->arg[2], true, alias))
        return;
    for (size_t i = 0; i < n; i++) {
        if (!get_address(q, q->arg[3 + i], false, target[i]))
            return;
        targets[i] = target[i];
    }
    enum sp_err err = store_alias_add(q->role->store, alias, targets, n, &bad);
    if (err == SP_ERR_EXISTS || err == SP_ERR_NOT_FOUND || err == SP_ERR_LIMIT) {
        alias_add_error(q, err, alias, bad);
    } else if (request_kept(q, err)) {
        join(q->arg + 3, n, text);
        audit_emit(AUDIT_ALIAS_CHANGED, alias, text);
        request_say(q, SP_OK, "%s delivers to %s", alias, text);
    }
}

static void alias_remove(struct request *q)
{
    char alias[STORE_MAX_ADDRESS], other[STORE_MAX_ADDRESS];
    if (!get_address(q, q->arg[2], false, alias))
        return;
    enum sp_err err = store_alias_remove(q->role->store, alias, other);
    if (err == SP_ERR_NOT_FOUND) {
        request_say(q, err, "there is no alias %s", alias);
    } else if (err == SP_ERR_DENIED) {
        request_say(q, err, "alias %s delivers to %s; remove that one first", other, alias);
    } else if (request_kept(q, err)) {
        audit_emit(AUDIT_ALIAS_CHANGED, alias, "");
        request_say(q, SP_OK, "removed %s", alias);
    }
}

static enum sp_err put_alias(void *ctx, const char *alias, const char *targets)
{
    return request_row(ctx, (const char *const[]){alias, targets});
}

static void alias_list(struct request *q)
{
    q->columns = 2;
    enum sp_err err = request_row(q, (const char *const[]){"alias", "delivers to"});
    if (err == SP_OK)
        err = store_aliases_each(q->role->store, put_alias, q);
    if (err != SP_OK)
        request_say(q, err, "the list could not be read: %s", sp_err_text(err));
}

/* --- verbs --- */

static const struct verb {
    const char *noun, *verb, *usage;
    size_t min, max; /* arguments behind the two words */
    void (*run)(struct request *q);
} verbs[] = {
    {"user", "add", "user add ADDRESS", 1, 1, user_add},
    {"user", "list", "user list", 0, 0, user_list},
    {"user", "remove", "user remove ADDRESS", 1, 1, user_remove},
    {"alias", "add", "alias add ALIAS ADDRESS...", 2, MAX_ARGS - 2, alias_add},
    {"alias", "list", "alias list", 0, 0, alias_list},
    {"alias", "remove", "alias remove ALIAS", 1, 1, alias_remove},
    {"queue", "list", "queue list", 0, 0, queue_verb_list},
    {"queue", "retry", "queue retry ID|all", 1, 1, queue_verb_retry},
    {"queue", "drop", "queue drop ID", 1, 1, queue_verb_drop},
    {"link", "list", "link list", 0, 0, link_verb_list},
    {"link", "revoke", "link revoke ID", 1, 1, link_verb_revoke},
};
#define N_VERBS (sizeof(verbs) / sizeof(verbs[0]))

static void say_usage(struct request *q)
{
    size_t len = 0;
    request_say(q, SP_ERR_CONFIG, "no such verb; there are:");
    for (size_t i = 0; i < N_VERBS; i++) {
        len = strlen(q->text);
        snprintf(q->text + len, sizeof(q->text) - len, "%s %s", i > 0 ? "," : "", verbs[i].usage);
    }
}

static void dispatch(struct request *q)
{
    for (size_t i = 0; q->n >= 2 && i < N_VERBS; i++) {
        const struct verb *v = &verbs[i];
        if (strcmp(q->arg[0], v->noun) != 0 || strcmp(q->arg[1], v->verb) != 0)
            continue;
        if (q->n - 2 < v->min || q->n - 2 > v->max)
            request_say(q, SP_ERR_CONFIG, "usage: %s", v->usage);
        else
            v->run(q);
        return;
    }
    say_usage(q);
}

/* Takes the arguments, as C strings; a NUL inside one is malformed. */
static enum sp_err parse_args(struct request *q, struct wire_in *in)
{
    size_t n = wire_get_u16(in);
    if (n > MAX_ARGS)
        return SP_ERR_LIMIT;
    for (; q->n < n; q->n++) {
        size_t len;
        const uint8_t *text = wire_get_b16(in, MAX_ARG, &len);
        if (text == NULL || memchr(text, '\0', len) != NULL)
            return SP_ERR_FORMAT;
        q->arg[q->n] = strndup((const char *)text, len);
        if (q->arg[q->n] == NULL)
            return SP_ERR_MEMORY;
    }
    return wire_in_done(in) ? SP_OK : SP_ERR_FORMAT;
}

static enum sp_err on_request(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    static uint8_t cells[CELLS];
    struct request q = {.role = ctx, .peer = peer, .id = frame->id};
    q.cells = wire_out(cells, sizeof(cells));
    enum sp_err err = parse_args(&q, &frame->body);
    if (err == SP_OK) {
        dispatch(&q);
        err = send_rows(&q, CC_LAST);
    }
    for (size_t i = 0; i < q.n; i++)
        free(q.arg[i]);
    sodium_memzero(q.text, sizeof(q.text)); /* may hold a code */
    return err;
}

static void operator_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    struct store_role *r = ctx;
    (void)why;
    r->operators--;
    ipc_peer_free(peer);
}

static const struct ipc_rule rules[] = {
    {CC_REQUEST, false, false, 2, IPC_MAX_PAYLOAD, on_request},
};
static const struct ipc_rules operator_rules = {rules, 1, UINT64_MAX, operator_gone};

enum sp_err operator_accept(struct store_role *r, struct ipc_frame *frame)
{
    if (r->operators == OPERATORS_MAX)
        return SP_OK; /* the caller closes it */
    struct ipc_peer *peer = ipc_peer_new(r->role->base, frame->fd, &operator_rules, r);
    frame->fd = -1;
    r->operators += peer != NULL;
    return SP_OK;
}
