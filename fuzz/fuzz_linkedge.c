/* libs: -lcrypto -lsodium */
/* What web may ask about links, from a web process that was taken over: any frames in any order.
 * The store behind it is a model of one live link. Whatever is handed out is in the log, or goes on
 * where something that is in the log stopped (P12); nothing in the log looks like the log's own. */
#include "envelope/wire.c"
#include "envelope/error.c"
#include "envelope/keys.c"
#include "storage/edge_link.c"
#include "storage/visits.c"

#include <stdarg.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TOTAL  150000u /* bytes of a piece, and of the envelope */
#define STOPS  4096u
#define PIECES 2u

static struct store_role fuzz_role;
static struct opening *opening;
static bool logged, gate_right, revoked;
static uint64_t clock_now, strange;

/* Where reads have stopped, which may go on: piece or VISIT_ENVELOPE, and the place. */
static struct stop {
    uint32_t what;
    uint64_t offset;
} stop[STOPS];
static size_t n_stops;

static void insist(bool good)
{
    if (!good)
        abort();
}

static void may_go_on(uint32_t what, uint64_t offset)
{
    if (n_stops < STOPS)
        stop[n_stops++] = (struct stop){what, offset};
}

static bool goes_on(uint32_t what, uint64_t offset)
{
    size_t found = n_stops;
    for (size_t i = 0; i < n_stops; i++) {
        if (stop[i].what != what)
            continue;
        if (stop[i].offset == offset) {
            found = i;
            break;
        }
        if (stop[i].offset == VISIT_ANYWHERE)
            found = i;
    }
    if (found == n_stops)
        return n_stops == STOPS; /* too much to remember */
    stop[found] = stop[--n_stops];
    return true;
}

/* --- the log --- */

static void check_text(const char *text, size_t max)
{
    insist(strlen(text) <= max);
    for (; *text != '\0'; text++)
        insist(*text >= 0x20 && *text < 0x7f);
}

void audit_emit(enum audit_event event, ...)
{
    va_list args;
    va_start(args, event);
    if (event == AUDIT_LINK_LEFT_OUT) {
        uint64_t n = va_arg(args, uint64_t);
        insist(n > 0 && n <= strange);
        strange -= n;
    } else {
        insist(event == AUDIT_LINK_PAGE || event == AUDIT_LINK_OPENED ||
               event == AUDIT_LINK_EXPOSED);
        (void)va_arg(args, const uint8_t *);
        check_text(va_arg(args, const char *), LINK_CLIENT - 1);
        check_text(va_arg(args, const char *), AGENT_FULL);
        check_text(va_arg(args, const char *), 10);
        logged = true;
    }
    va_end(args);
}

/* --- the model of what is behind the edge: links whose id begins with 'L' --- */

enum sp_err store_link_get(struct store *s, const uint8_t id[ID_SIZE], struct store_link *out)
{
    static const uint8_t gate[HASH_SIZE] = {'g'};
    (void)s;
    *out = (struct store_link){.no = 11, .user = 5, .secret = 1, .expires_ms = 2000};
    memcpy(out->id, id, ID_SIZE);
    out->ended = revoked ? DELIVERY_REVOKED : DELIVERY_QUEUED;
    insist(keys_sha256(gate, HASH_SIZE, out->gate_hash) == SP_OK);
    return id[0] == 'L' ? SP_OK : SP_ERR_NOT_FOUND;
}

enum sp_err store_user_by_no(struct store *s, uint64_t no, struct store_user *out)
{
    (void)s;
    insist(no == 5);
    *out = (struct store_user){.no = 5, .state = USER_ENROLLED, .address = "ann@x"};
    return SP_OK;
}

enum sp_err store_address(const void *text, size_t len, bool bare, char out[STORE_MAX_ADDRESS])
{
    (void)text, (void)len, (void)bare;
    out[0] = '\0';
    return SP_ERR_FORMAT;
}

enum sp_err store_resolve(struct store *s, const char *address, struct store_user *out, size_t max,
                          size_t *n)
{
    (void)s, (void)address, (void)out, (void)max;
    *n = 0;
    return SP_ERR_NOT_FOUND;
}

bool own_domain(const struct store_role *r, const char *address)
{
    (void)r, (void)address;
    return false;
}

enum sp_err store_secret_get(struct store *s, uint64_t no, uint16_t n, struct store_secret *out,
                             bool *needed)
{
    (void)s;
    insist(no == 11 && n == 2);
    *out = (struct store_secret){.n = n};
    *needed = true;
    return SP_OK;
}

enum sp_err store_queued_envelope(struct store *s, uint64_t no, const uint8_t **envelope,
                                  size_t *len)
{
    static const uint8_t bytes[TOTAL];
    (void)s;
    insist(no == 11);
    *envelope = bytes;
    *len = TOTAL - 8 - 3;
    return SP_OK;
}

enum sp_err put_sealed(struct wire_out *out, const uint8_t *envelope, size_t envelope_len,
                       const uint8_t *box, size_t box_len, size_t offset)
{
    (void)envelope, (void)box;
    insist(envelope_len + box_len + 8 == TOTAL && gate_right && !revoked);
    if (offset > TOTAL)
        return SP_ERR_LIMIT;
    wire_put_u32(out, TOTAL);
    return SP_OK;
}

enum sp_err store_queued_read(struct store *s, uint64_t no, uint16_t piece, uint64_t offset,
                              uint8_t *out, size_t len, size_t *got, uint64_t *total)
{
    (void)s;
    insist(no == 11 && gate_right && !revoked);
    *got = 0;
    *total = TOTAL;
    if (piece >= PIECES || offset > TOTAL)
        return piece >= PIECES ? SP_ERR_NOT_FOUND : SP_ERR_LIMIT;
    *got = len < TOTAL - offset ? len : (size_t)(TOTAL - offset);
    memset(out, 7, *got);
    return SP_OK;
}

enum sp_err store_link_visit(struct store *s, const struct store_link *link, uint64_t now)
{
    (void)s, (void)now;
    insist(link->no == 11 && logged);
    return SP_OK;
}

/* --- the rest of the role --- */

uint64_t clock_us(void)
{
    return clock_now += 1000;
}

uint64_t now_ms(void)
{
    return 1000;
}

uint64_t link_now(struct store_role *r)
{
    (void)r;
    return 1000;
}

void links_schedule(struct store_role *r)
{
    (void)r;
    insist(false); /* its time is never over */
}

void link_lost(struct store_role *r, const uint8_t id[ID_SIZE])
{
    (void)r, (void)id;
}

void commit_soon(struct store_role *r)
{
    (void)r;
}

enum sp_err keeper_unwrap(struct store_role *r, struct opening *o,
                          const struct store_secret *secret)
{
    (void)r, (void)secret;
    insist(opening == NULL);
    opening = o;
    return SP_OK;
}

enum sp_err answer(struct ipc_peer *peer, uint16_t type, uint32_t id, enum sp_err status)
{
    (void)peer, (void)id;
    insist(type >= SW_LINK_PAGE_REPLY && type <= SW_LINK_EXPOSED_REPLY && status < SP_ERR_COUNT);
    return SP_OK;
}

enum sp_err ipc_peer_send(struct ipc_peer *peer, uint16_t type, uint32_t id,
                          const struct wire_out *body, int fd)
{
    (void)peer, (void)id;
    insist(type == SW_LINK_ENVELOPE_REPLY || type == SW_LINK_PIECE_REPLY);
    insist(wire_out_ok(body) && body->len <= IPC_MAX_PAYLOAD && fd == -1);
    return SP_OK;
}

/* --- one frame --- */

static void check_read(struct wire_in body, bool envelope)
{
    size_t len;
    wire_get_bytes(&body, ID_SIZE + HASH_SIZE);
    wire_get_b16(&body, LINK_CLIENT, &len);
    uint32_t what = envelope ? VISIT_ENVELOPE : wire_get_u16(&body);
    uint64_t offset = envelope ? wire_get_u32(&body) : wire_get_u64(&body);
    uint32_t n = envelope ? PART_MAX : wire_get_u32(&body);
    if (body.bad || offset > TOTAL || (what != VISIT_ENVELOPE && what >= PIECES))
        return; /* nothing was handed out */
    insist(logged || goes_on(what, offset));
    may_go_on(what, n == 0 ? VISIT_ANYWHERE : offset + n);
}

static enum sp_err ask(uint8_t which, struct wire_in body)
{
    static enum sp_err (*const handler[])(void *, struct ipc_peer *, struct ipc_frame *) = {
        on_link_page, on_link_envelope, on_link_piece, on_link_exposed};
    struct ipc_frame frame = {.body = body, .fd = -1};
    bool gated = which == 1 || which == 2, known = body.left > 0 && body.at[0] == 'L';
    gate_right = gated && body.left >= ID_SIZE + HASH_SIZE && body.at[ID_SIZE] == 'g' &&
                 sodium_is_zero(body.at + ID_SIZE + 1, HASH_SIZE - 1);
    logged = false;
    enum sp_err err = handler[which](&fuzz_role, NULL, &frame);
    if (opening != NULL) {
        struct opening *o = opening;
        opening = NULL;
        link_go_on(&fuzz_role, o, SP_OK, (const uint8_t *)"box", 3);
    }
    if (err != SP_OK)
        return err;
    if (!known) /* logged, or counted */
        strange += !logged;
    else if (gated && gate_right && !revoked)
        check_read(body, which == 1);
    else
        insist(logged);
    return wire_in_done(&frame.body) ? SP_OK : SP_ERR_FORMAT;
}

/* u8: which, or something else; u16 length; so many bytes; and so on. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config config;
    static struct role role = {.config = &config};
    struct wire_in in = wire_in(data, size);
    fuzz_role = (struct store_role){.role = &role};
    config.audit_agent = wire_get_u8(&in) % 3;
    clock_now = strange = n_stops = 0;
    revoked = false;
    enum sp_err err = SP_OK;
    while (in.left > 0 && err == SP_OK) {
        size_t len;
        uint8_t which = wire_get_u8(&in);
        const uint8_t *body = wire_get_b16(&in, 2048, &len);
        if (body == NULL)
            break;
        if (which == 4)
            revoked = !revoked;
        else if (which == 5)
            clock_now += (uint64_t)len * 1000000; /* seconds pass */
        else
            err = ask(which % 4, wire_in(body, len));
    }
    return 0;
}
