#ifndef SEALPOST_TESTS_STORE_LINKS_H
#define SEALPOST_TESTS_STORE_LINKS_H
/* On top of store_sender.h: mails with links, put into the database while nobody runs, and what web
 * asks of links; audit events as they come. */
#include "storage/edges.h"
#include "tests/unit/store_sender.h"

#define PIECE_LEN    200000u
#define ENVELOPE_LEN 150000u
#define FAR          UINT64_C(4000000000000) /* ms: when none of this runs any more */
#define LINKS_MAX    100u

/* One mail of a user. */
struct mail {
    uint8_t mark; /* of its message_id and of its links' ids */
    size_t links;
    uint64_t expires_ms;
    size_t piece, envelope; /* bytes; 0: few */
    const char *from;       /* NULL: the user's own address */
};

static inline void link_id(uint8_t mark, size_t i, uint8_t id[ID_SIZE])
{
    memset(id, mark, ID_SIZE);
    id[0] = (uint8_t)i;
}

static inline uint32_t slot_of(const struct mail *m, size_t i)
{
    return 1 + 2 * ((uint32_t)m->mark * LINKS_MAX + (uint32_t)i); /* and the next, for its box */
}

static inline void add_draft(struct store *s, uint64_t user, const struct mail *m,
                             const uint8_t id[ID_SIZE])
{
    static uint8_t bytes[PART_MAX];
    static const struct store_draft_limits limits = {100, UINT64_C(1) << 40};
    const uint64_t length = m->piece > 0 ? m->piece : 100;
    assert_int_equal(store_draft_begin(s, user, id, &length, 1, FAR, &limits), SP_OK);
    for (uint64_t at = 0; at < length; at += sizeof(bytes)) {
        size_t n = length - at < sizeof(bytes) ? (size_t)(length - at) : sizeof(bytes);
        memset(bytes, (int)(at / sizeof(bytes)), sizeof(bytes));
        assert_int_equal(store_draft_append(s, user, id, 0, at, bytes, n), SP_OK);
    }
}

/* Its gate is 32 zero bytes. */
static inline void post(struct store *s, const struct client *c, const struct mail *m)
{
    static const uint8_t envelope[ENVELOPE_LEN];
    static struct store_secret secret[2 * LINKS_MAX];
    static struct store_link_new link[LINKS_MAX];
    static const uint8_t gate[HASH_SIZE];
    uint8_t hash[HASH_SIZE];
    const char *address = c->chain.address;
    struct store_user user;
    uint64_t no;
    struct store_box box = {
        .generation = 1, .bytes = (const uint8_t *)"box", .len = 3, .sent = true};
    assert_int_equal(store_user_by_address(s, address, &user), SP_OK);
    assert_int_equal(keys_sha256(gate, sizeof(gate), hash), SP_OK);
    struct store_outgoing o = {
        .user = user.no,
        .message = {.received_ms = (uint64_t)time(NULL) * 1000, /* its time is not over */
                    .pieces = 1,
                    .envelope = envelope,
                    .envelope_len = m->envelope > 0 ? m->envelope : 8,
                    .box = &box,
                    .boxes = 1},
        .copy = {(const uint8_t *)"copy", 4},
        .mail_from = m->from != NULL ? m->from : address,
        .user_address = &address,
        .link = link,
        .n_links = m->links};
    memcpy(box.user_id, c->user_id, ID_SIZE);
    memset(o.draft, m->mark, ID_SIZE);
    memset(o.message.message_id, m->mark, ID_SIZE);
    add_draft(s, user.no, m, o.draft);
    for (size_t i = 0; i < m->links; i++) {
        struct store_secret *two = &secret[2 * i];
        two[0] = (struct store_secret){.n = (uint16_t)(2 * i + 1),
                                       .kind = BOX_PASSWORD,
                                       .slot = slot_of(m, i),
                                       .wrapped_len = 7};
        two[1] = (struct store_secret){
            .n = (uint16_t)(2 * i + 2), .slot = slot_of(m, i) + 1, .wrapped_len = 9};
        link_id(m->mark, i, two[0].recipient_id);
        link_id(m->mark, i, two[1].recipient_id);
        link[i] = (struct store_link_new){.address = {(const uint8_t *)"eve@out.example", 15},
                                          .gate_hash = hash,
                                          .order = hash, /* the delivery's to judge */
                                          .expires_ms = m->expires_ms,
                                          .password = &two[0],
                                          .box = &two[1]};
    }
    assert_int_equal(store_send(s, &o, &no), SP_OK);
    assert_int_equal(store_commit(s), SP_OK);
}

/* ann, enrolled and not logged in, and mails of hers; the keeper is not ready yet. */
static inline void begin_with(struct tree *t, struct client *ann, const struct mail *m, size_t n)
{
    static uint32_t slots[1u << 15];
    struct store *s;
    new_client(t, ann, ADDRESS);
    end(t, SIGKILL);
    assert_int_equal(store_open(t->dir, 32u << 20, &s), SP_OK);
    for (size_t i = 0; i < n; i++)
        post(s, ann, &m[i]);
    store_close(s);
    start(t);
    keeper_hears(t, slots, sizeof(slots) / sizeof(slots[0]));
}

static inline bool becomes(struct tree *t, const char *name, uint64_t value)
{
    for (int i = 0; i < 2000; i++) {
        if (number(t, name) == value)
            return true;
        usleep(10000);
    }
    return false;
}

/* --- what web asks --- */

static inline void put_who(struct wire_out *out, const uint8_t id[ID_SIZE], bool gate)
{
    static const uint8_t zero[HASH_SIZE];
    wire_put_bytes(out, id, ID_SIZE);
    if (gate)
        wire_put_bytes(out, zero, sizeof(zero));
    wire_put_str(out, "192.0.2.1");
}

static inline enum sp_err ask_page(struct tree *t, const uint8_t id[ID_SIZE], const void *agent,
                                   size_t len)
{
    uint8_t buf[1024];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct wire_in in;
    put_who(&out, id, false);
    wire_put_b16(&out, len > 0 ? agent : "", len);
    return ask(t->web, SW_LINK_PAGE, &out, &in);
}

static inline enum sp_err ask_piece(struct tree *t, const uint8_t id[ID_SIZE], uint64_t offset,
                                    uint32_t n, uint8_t first)
{
    uint8_t buf[256];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct wire_in in;
    put_who(&out, id, true);
    wire_put_u16(&out, 0);
    wire_put_u64(&out, offset);
    wire_put_u32(&out, n);
    wire_put_u8(&out, first);
    return ask(t->web, SW_LINK_PIECE, &out, &in);
}

/* The keeper unwraps a box of three bytes; sender (may be NULL): whom the answer names. */
static inline enum sp_err ask_envelope(struct tree *t, const uint8_t id[ID_SIZE], uint32_t offset,
                                       char sender[256])
{
    uint8_t buf[256];
    struct wire_out out = wire_out(buf, sizeof(buf)), box = wire_out(buf, sizeof(buf));
    char ignored[256];
    put_who(&out, id, true);
    wire_put_u32(&out, offset);
    assert_int_equal(ipc_send_fd(t->web, SW_LINK_ENVELOPE, 7, buf, out.len, -1), SP_OK);
    struct ipc_frame f = next(t->keeper);
    assert_int_equal(f.type, VT_UNWRAP);
    wire_put_str(&box, "box");
    keeper_says(t, VT_UNWRAP_REPLY, f.id, buf, box.len);
    f = next(t->web);
    assert_int_equal(f.type, SW_LINK_ENVELOPE_REPLY);
    enum sp_err err = wire_get_u8(&f.body);
    wire_get_u64(&f.body);
    if (err == SP_OK)
        get_string(&f.body, sender != NULL ? sender : ignored);
    return err;
}

/* --- the log --- */

/* The next event; its fields are left in *in. */
static inline enum audit_event event(struct tree *t, struct wire_in *in)
{
    struct ipc_frame f = next(t->audit);
    assert_int_equal(f.type, AU_EVENT);
    enum audit_event what = wire_get_u16(&f.body);
    *in = f.body;
    return what;
}

/* A link.opened of this link with what it got, and nothing before it. */
static inline void expect_opened(struct tree *t, const uint8_t id[ID_SIZE], const char *what)
{
    struct wire_in in;
    char text[256];
    assert_int_equal(event(t, &in), AUDIT_LINK_OPENED);
    assert_memory_equal(wire_get_bytes(&in, ID_SIZE), id, ID_SIZE);
    get_string(&in, text);
    assert_string_equal(text, "192.0.2.1");
    get_string(&in, text);
    assert_string_equal(text, what);
    get_string(&in, text);
    assert_string_equal(text, "ok");
}

#endif
