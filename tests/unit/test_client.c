/* The client's parts that need no server: rejoining, the key file, remembered sigchains, state
 * files, the Maildir. The Makefile's library has no client: its sources are included here. */
#include "client/addrlist.c"
#include "client/chain.c"
#include "client/contacts.c"
#include "client/file.c"
#include "client/join.c"
#include "client/keyfile.c"
#include "client/keyring.c"
#include "client/maildir.c"
#include "client/mailpage.c"
#include "client/mend.c"
#include "client/progress.c"
#include "client/report.c"
#include "client/secret.c"
#include "client/state.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* What the server shows of a chain, for chain_update. */
static struct {
    enum sp_err err;
    uint8_t user_id[ID_SIZE];
    uint8_t wires[8 * SIGCHAIN_MAX_WIRE];
    size_t len;
    uint32_t after; /* as asked */
} shown;

enum sp_err server_sigchain(struct server *s, const char *address, uint32_t after,
                            uint8_t user_id[ID_SIZE], uint8_t **wires, size_t *len)
{
    (void)s;
    (void)address;
    shown.after = after;
    *len = 0;
    *wires = NULL;
    if (shown.err != SP_OK)
        return shown.err;
    memcpy(user_id, shown.user_id, ID_SIZE);
    const uint8_t *at = shown.wires;
    size_t left = shown.len, n;
    for (uint32_t i = 0; i < after && left > 0; i++, at += n, left -= n)
        if (sigchain_next(at, left, &n) != SP_OK)
            n = left; /* half a link */
    *wires = malloc(left + 1);
    memcpy(*wires, at, left);
    *len = left;
    return SP_OK;
}

/* By id: of the chain that is shown, or of `kept`, another user's. */
enum sp_err server_sigchain_of(struct server *s, const uint8_t user_id[ID_SIZE], uint32_t after,
                               uint8_t **wires, size_t *len)
{
    uint8_t shown_id[ID_SIZE];
    (void)user_id; /* a server that lies answers with whatever it likes */
    return server_sigchain(s, NULL, after, shown_id, wires, len);
}

/* What a device gives back, taken by a server that checks nothing. */
static unsigned given;

enum sp_err server_append(struct server *s, const uint8_t *wire, size_t len)
{
    (void)s;
    given++;
    memcpy(shown.wires + shown.len, wire, len);
    shown.len += len;
    return SP_OK;
}

/* A home for each test. */
static char home[64];

static int make_home(void **state)
{
    (void)state;
    snprintf(home, sizeof home, "/tmp/sealpost-test.XXXXXX");
    assert_non_null(mkdtemp(home));
    setenv("SEALPOST_HOME", home, 1);
    unsetenv("SEALPOST_PASSPHRASE_FILE");
    memset(&shown, 0, sizeof shown);
    return 0;
}

static void remove_tree(const char *path)
{
    char child[PATH_MAX];
    DIR *dir = opendir(path);
    const struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
        remove_tree(child);
    }
    if (dir != NULL)
        closedir(dir);
    remove(path);
}

static int drop_home(void **state)
{
    (void)state;
    remove_tree(home);
    return 0;
}

/* Rejoining against a plain model: pieces in memory, read in random portions. */

#define MODEL_MAX 4096u

struct model {
    struct piece pieces[8];
    struct manifest m;
    uint8_t message[MODEL_MAX], body[MODEL_MAX];
    size_t start[8]; /* of an attachment in the message */
    uint64_t pos[8];
    uint8_t out[MODEL_MAX];
    size_t out_len;
    uint32_t short_piece; /* ends one byte early; 0: none */
};

static enum sp_err model_read(void *ctx, uint32_t piece, size_t max, const uint8_t **at,
                              size_t *got)
{
    struct model *m = ctx;
    uint64_t left = m->pieces[piece].length - m->pos[piece];
    if (m->short_piece != 0 && piece == m->short_piece && left > 0)
        left--;
    size_t n = left == 0 ? 0 : 1 + randombytes_uniform((uint32_t)left);
    n = n > max ? max : n;
    *at = (piece == 0 ? m->body : m->message + m->start[piece]) + m->pos[piece];
    *got = n;
    m->pos[piece] += n;
    return SP_OK;
}

static enum sp_err model_write(void *ctx, const uint8_t *bytes, size_t len)
{
    struct model *m = ctx;
    assert_true(len <= sizeof m->out - m->out_len);
    memcpy(m->out + m->out_len, bytes, len);
    m->out_len += len;
    return SP_OK;
}

/* Cuts a random message: stretches of body and attachments take turns, each perhaps empty. */
static size_t cut_model(struct model *m, uint32_t n_attachments)
{
    size_t len = 0, body = 0;
    memset(m, 0, sizeof *m);
    randombytes_buf(m->message, sizeof m->message);
    m->m.n_pieces = 1 + n_attachments;
    m->m.pieces = m->pieces;
    for (uint32_t i = 0; i <= n_attachments; i++) {
        size_t stretch = randombytes_uniform(3) == 0 ? 0 : randombytes_uniform(200);
        memcpy(m->body + body, m->message + len, stretch);
        len += stretch;
        body += stretch;
        if (i == n_attachments)
            break;
        struct piece *p = &m->pieces[i + 1];
        p->kind = PIECE_ATTACHMENT;
        p->splice_at = body;
        p->length = randombytes_uniform(4) == 0 ? 0 : randombytes_uniform(200);
        m->start[i + 1] = len;
        len += p->length;
    }
    m->pieces[0].length = body;
    return len;
}

static enum sp_err join_model(struct model *m)
{
    const struct join_ends ends = {.read = model_read, .write = model_write, .ctx = m};
    return join_message(&m->m, &ends);
}

static void join_gives_the_message_back(void **state)
{
    static const uint8_t added[] = "Return-Path: <a@b.example>\r\n";
    struct model m;
    (void)state;
    for (int round = 0; round < 3000; round++) {
        size_t len = cut_model(&m, randombytes_uniform(8));
        m.m.added = added;
        m.m.added_len = round % 2 == 0 ? sizeof added - 1 : 0;
        assert_int_equal(join_model(&m), SP_OK);
        assert_int_equal(m.out_len, m.m.added_len + len);
        assert_memory_equal(m.out, added, m.m.added_len);
        assert_memory_equal(m.out + m.m.added_len, m.message, len);
    }
}

/* Two attachments at one offset, an empty one, one at the very end, one before the first byte. */
static void join_knows_the_edges(void **state)
{
    static const struct {
        const char *body;
        uint64_t at[3], len[3];
        const char *want;
    } cases[] = {
        {"abcd",
         {2, 2, 2},
         {1, 0, 2},
         "ab1"
         "33"
         "cd"},
        {"abcd",
         {0, 4, 4},
         {2, 1, 1},
         "11"
         "abcd"
         "2"
         "3"},
        {"", {0, 0, 0}, {1, 1, 1}, "123"},
        {"abcd", {4, 4, 4}, {0, 0, 0}, "abcd"},
    };
    static const char *const digits[] = {"", "1111", "2222", "3333"};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model m = {.m = {.n_pieces = 4}};
        m.m.pieces = m.pieces;
        m.pieces[0].length = strlen(cases[i].body);
        memcpy(m.body, cases[i].body, strlen(cases[i].body));
        for (uint32_t k = 1; k < 4; k++) {
            m.pieces[k].kind = PIECE_ATTACHMENT;
            m.pieces[k].splice_at = cases[i].at[k - 1];
            m.pieces[k].length = cases[i].len[k - 1];
            m.start[k] = 8 * k;
            memcpy(m.message + m.start[k], digits[k], 4);
        }
        assert_int_equal(join_model(&m), SP_OK);
        assert_int_equal(m.out_len, strlen(cases[i].want));
        assert_memory_equal(m.out, cases[i].want, m.out_len);
    }
}

static void join_refuses_before_writing(void **state)
{
    struct model m;
    (void)state;
    cut_model(&m, 2);
    m.pieces[2].splice_at = m.pieces[0].length + 1;
    assert_int_equal(join_model(&m), SP_ERR_FORMAT);
    cut_model(&m, 2);
    m.pieces[0].length += 10;
    m.pieces[1].splice_at = m.pieces[2].splice_at + 1;
    assert_int_equal(join_model(&m), SP_ERR_FORMAT);
    cut_model(&m, 1);
    m.pieces[1].kind = PIECE_BODY;
    assert_int_equal(join_model(&m), SP_ERR_FORMAT);
    m.m.n_pieces = 0;
    assert_int_equal(join_model(&m), SP_ERR_FORMAT);
    assert_int_equal(m.out_len, 0);
}

static void join_notices_a_short_piece(void **state)
{
    struct model m;
    (void)state;
    do
        cut_model(&m, 2);
    while (m.pieces[2].length == 0);
    m.short_piece = 2;
    assert_int_equal(join_model(&m), SP_ERR_FORMAT);
}

/* The key file */

static struct passphrase *phrase(const char *text)
{
    struct passphrase *p = secret_alloc(sizeof *p);
    p->len = strlen(text);
    memcpy(p->text, text, p->len + 1);
    return p;
}

static void key_file_round_trip(void **state)
{
    static const char *const phrases[] = {"", "correct horse"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct passphrase *good = phrase(phrases[i]), *bad = phrase("wrong");
        struct keyring *made, *read = NULL;
        const struct puk_seed *seed;
        uint8_t *bytes;
        size_t len;
        bool protected;
        assert_int_equal(keyring_create(good, &made), SP_OK);
        assert_int_equal(keyring_pending(made, 2, &seed), SP_OK);
        assert_int_equal(keyfile_seal(made, &bytes, &len), SP_OK);
        assert_int_equal(keyfile_protected(bytes, len, &protected), SP_OK);
        assert_int_equal(protected, i == 1);
        assert_int_equal(keyfile_open(bytes, len, bad, &read), SP_ERR_AUTH);
        assert_null(read);
        assert_int_equal(keyfile_open(bytes, len, good, &read), SP_OK);
        assert_memory_equal(made, read, sizeof *made);
        keyring_free(made);
        keyring_free(read);
        secret_free(good);
        secret_free(bad);
        free(bytes);
    }
}

/* Any bit, any cut: refused, and never a crash or an hour of Argon2id. */
static void key_file_changes_are_refused(void **state)
{
    struct passphrase *p = phrase("");
    struct keyring *made, *read;
    uint8_t *bytes;
    size_t len;
    (void)state;
    assert_int_equal(keyring_create(p, &made), SP_OK);
    assert_int_equal(keyfile_seal(made, &bytes, &len), SP_OK);
    for (size_t i = 0; i < len; i++) {
        if (i >= 14 && i < 22)
            continue; /* memlimit: every value is slow, and authenticated like the rest */
        bytes[i] ^= 1;
        assert_int_not_equal(keyfile_open(bytes, len, p, &read), SP_OK);
        assert_null(read);
        bytes[i] ^= 1;
    }
    for (size_t cut = 0; cut < len; cut++)
        assert_int_not_equal(keyfile_open(bytes, cut, p, &read), SP_OK);
    memset(bytes + 6, 0xff, 16);
    assert_int_equal(keyfile_open(bytes, len, p, &read), SP_ERR_LIMIT);
    keyring_free(made);
    secret_free(p);
    free(bytes);
}

static void pending_seeds_are_settled_by_the_chain(void **state)
{
    struct passphrase *p = phrase("");
    struct keyring *k;
    const struct puk_seed *seed, *same;
    uint8_t pk[KEY_SIZE], other[KEY_SIZE] = {9}, sk[KEY_SIZE];
    bool changed = false;
    (void)state;
    assert_int_equal(keyring_create(p, &k), SP_OK);
    assert_int_equal(keys_puk(k->seeds[0].seed, NULL, pk, NULL), SP_OK);
    assert_int_equal(keyring_settle(k, 1, pk, &changed), SP_OK);
    assert_true(changed && !k->seeds[0].pending);
    assert_int_equal(keyring_pending(k, 2, &seed), SP_OK);
    assert_int_equal(keyring_pending(k, 2, &same), SP_OK);
    assert_ptr_equal(seed, same);
    assert_int_equal(keyring_find(k, 1, other, sk), SP_ERR_AUTH);
    assert_int_equal(keyring_find(k, 3, other, sk), SP_ERR_NO_KEY);
    /* Another device was faster with generation 2: ours was never used. */
    assert_int_equal(keyring_settle(k, 2, other, &changed), SP_OK);
    assert_false(keyring_has(k, 2));
    assert_int_equal(keyring_find(k, 1, pk, sk), SP_OK);
    keyring_free(k);
    secret_free(p);
}

/* Sigchains */

struct signer {
    uint8_t user_id[ID_SIZE];
    struct chain_device device;
    uint8_t sk[SIGN_SK_SIZE];
};

static void append_shown(struct sigchain *c, const uint8_t *wire, size_t len)
{
    assert_int_equal(sigchain_apply(c, wire, len), SP_OK);
    memcpy(shown.wires + shown.len, wire, len);
    shown.len += len;
}

/* Shows a root and `rotations` links behind it, of fresh keys unless s is filled already. */
static void show_chain(struct signer *s, const char *address, unsigned rotations)
{
    uint8_t wire[SIGCHAIN_MAX_WIRE], puk[KEY_SIZE] = {1};
    size_t len;
    struct sigchain c;
    sigchain_init(&c);
    if (s->user_id[0] == 0) {
        randombytes_buf(s->user_id, ID_SIZE);
        s->user_id[0] |= 1;
        randombytes_buf(s->device.id, ID_SIZE);
        crypto_sign_keypair(s->device.sign_pk, s->sk);
        randombytes_buf(s->device.box_pk, KEY_SIZE);
    }
    const struct chain_signer by = {.device_id = s->device.id, .sign_sk = s->sk, .time_ms = 1000};
    shown.len = 0;
    memcpy(shown.user_id, s->user_id, ID_SIZE);
    assert_int_equal(sigchain_make_root(s->user_id, &by, &s->device, puk, address, wire, &len),
                     SP_OK);
    append_shown(&c, wire, len);
    for (unsigned i = 0; i < rotations; i++) {
        puk[0] = (uint8_t)(2 + i);
        assert_int_equal(sigchain_make_rotate(&c, &by, puk, wire, &len), SP_OK);
        append_shown(&c, wire, len);
    }
}

static enum sp_err update(struct state *s, const char *address, uint32_t *seq)
{
    struct chain *c;
    assert_int_equal(chain_load(s, address, &c), SP_OK);
    enum sp_err err = chain_update(c, s, NULL);
    *seq = c->now.seq;
    chain_free(c);
    return err;
}

static enum sp_err count(void *ctx, uint32_t generation, const uint8_t puk_pk[KEY_SIZE])
{
    uint32_t *n = ctx;
    assert_int_equal(generation, ++*n);
    assert_int_equal(puk_pk[0], generation);
    return SP_OK;
}

static void chains_are_remembered(void **state)
{
    struct state *s;
    struct signer who = {.user_id = {0}};
    struct chain *found;
    uint32_t seq, n = 0;
    (void)state;
    assert_int_equal(state_open(false, &s), SP_OK);
    show_chain(&who, "Some.One@example.org", 0);
    assert_int_equal(update(s, "some.one@example.org", &seq), SP_OK);
    assert_int_equal(seq, 1);
    show_chain(&who, "Some.One@example.org", 2);
    assert_int_equal(update(s, "some.one@EXAMPLE.org", &seq), SP_OK);
    assert_int_equal(shown.after, 0);
    assert_int_equal(update(s, "some.one@example.org", &seq), SP_OK);
    assert_int_equal(shown.after, 2);
    assert_int_equal(seq, 3);
    assert_int_equal(chain_by_user(s, who.user_id, &found), SP_OK);
    assert_int_equal(chain_puks(found, count, &n), SP_OK);
    assert_int_equal(n, 3);
    chain_free(found);
    who.user_id[3] ^= 1;
    assert_int_equal(chain_by_user(s, who.user_id, &found), SP_ERR_NOT_FOUND);
    state_close(s);
}

static void chains_must_continue_what_was_seen(void **state)
{
    struct state *s;
    struct signer who = {.user_id = {0}}, other = {.user_id = {0}};
    uint32_t seq;
    (void)state;
    assert_int_equal(state_open(false, &s), SP_OK);
    show_chain(&who, "a@example.org", 2);
    assert_int_equal(update(s, "a@example.org", &seq), SP_OK);
    /* backwards, by one and to nothing */
    show_chain(&who, "a@example.org", 1);
    assert_int_equal(update(s, "a@example.org", &seq), SP_ERR_AUTH);
    shown.err = SP_ERR_NOT_FOUND;
    assert_int_equal(update(s, "a@example.org", &seq), SP_ERR_AUTH);
    shown.err = SP_OK;
    /* a fork: same length, other links */
    show_chain(&other, "a@example.org", 2);
    assert_int_equal(update(s, "a@example.org", &seq), SP_ERR_AUTH);
    /* a bad signature behind the known links */
    show_chain(&who, "a@example.org", 3);
    shown.wires[shown.len - 1] ^= 1;
    assert_int_equal(update(s, "a@example.org", &seq), SP_ERR_AUTH);
    assert_int_equal(seq, 3);
    /* somebody else's chain for an address that is new here */
    show_chain(&other, "b@example.org", 0);
    assert_int_equal(update(s, "c@example.org", &seq), SP_ERR_AUTH);
    shown.user_id[0] ^= 2;
    assert_int_equal(update(s, "b@example.org", &seq), SP_ERR_AUTH);
    shown.len = 0;
    assert_int_equal(update(s, "b@example.org", &seq), SP_ERR_FORMAT);
    assert_int_equal(seq, 0);
    state_close(s);
}

static enum sp_err update_own(struct state *s, const char *address)
{
    struct chain *c;
    assert_int_equal(chain_load(s, address, &c), SP_OK);
    enum sp_err err = chain_update_own(c, s, NULL);
    chain_free(c);
    return err;
}

/* Only a server that shows the beginning of what was seen is given the rest, and of the user's own
 * chain alone. */
static void lost_links_are_given_back(void **state)
{
    struct state *s;
    struct signer who = {.user_id = {0}}, other = {.user_id = {0}};
    uint8_t whole[sizeof shown.wires];
    uint32_t seq;
    (void)state;
    assert_int_equal(state_open(false, &s), SP_OK);
    show_chain(&who, "a@example.org", 3);
    size_t root = 0, len = shown.len;
    memcpy(whole, shown.wires, len);
    assert_int_equal(sigchain_next(whole, len, &root), SP_OK);
    given = 0;
    assert_int_equal(update_own(s, "a@example.org"), SP_OK);
    shown.len = root;
    assert_int_equal(update(s, "a@example.org", &seq), SP_ERR_AUTH);
    assert_int_equal(given, 0);
    assert_int_equal(update_own(s, "a@example.org"), SP_OK);
    assert_int_equal(given, 3);
    assert_int_equal(shown.len, len);
    assert_memory_equal(shown.wires, whole, len);
    /* nothing, not even a root; a root that is another, or changed; half a link */
    shown.len = 0;
    assert_int_equal(update_own(s, "a@example.org"), SP_ERR_AUTH);
    show_chain(&other, "a@example.org", 0);
    assert_int_equal(update_own(s, "a@example.org"), SP_ERR_AUTH);
    memcpy(shown.wires, whole, len);
    shown.len = root;
    shown.wires[root - 1] ^= 1;
    assert_int_equal(update_own(s, "a@example.org"), SP_ERR_AUTH);
    shown.wires[root - 1] ^= 1;
    shown.len = root - 1;
    assert_int_not_equal(update_own(s, "a@example.org"), SP_OK);
    shown.err = SP_ERR_NOT_FOUND;
    assert_int_equal(update_own(s, "a@example.org"), SP_ERR_AUTH);
    assert_int_equal(given, 3);
    state_close(s);
}

static enum sp_err fetch(struct state *s, const uint8_t *user_id, bool *gone, uint32_t *seq)
{
    struct contacts all = {.n = 0};
    const struct contact *who = NULL;
    enum sp_err err = contacts_get(&all, s, NULL, user_id, &who);
    *gone = err == SP_OK && who->gone;
    *seq = err == SP_OK && who->chain != NULL ? who->chain->now.seq : 0;
    contacts_free(&all);
    return err;
}

static void strangers_are_fetched_by_id(void **state)
{
    struct state *s;
    struct signer who = {.user_id = {0}}, again = {.user_id = {0}};
    uint32_t seq;
    bool gone;
    (void)state;
    assert_int_equal(state_open(false, &s), SP_OK);
    show_chain(&who, "new@example.org", 1);
    assert_int_equal(fetch(s, who.user_id, &gone, &seq), SP_OK);
    assert_int_equal(seq, 2);
    assert_false(gone);
    show_chain(&who, "new@example.org", 2);
    assert_int_equal(fetch(s, who.user_id, &gone, &seq), SP_OK);
    assert_int_equal(shown.after, 1); /* the newest one known has to come back */
    assert_int_equal(seq, 3);
    /* the address is remembered with the id: another user by that name is refused */
    assert_int_equal(update(s, "NEW@example.org", &seq), SP_OK);
    show_chain(&again, "new@example.org", 0);
    assert_int_equal(fetch(s, again.user_id, &gone, &seq), SP_ERR_AUTH);
    /* and so is somebody else's chain for an id that was asked for */
    show_chain(&again, "other@example.org", 0);
    who.user_id[5] ^= 1;
    assert_int_equal(fetch(s, who.user_id, &gone, &seq), SP_ERR_AUTH);
    who.user_id[5] ^= 1;
    assert_int_equal(fetch(s, who.user_id, &gone, &seq), SP_ERR_AUTH);
    /* backwards by id */
    show_chain(&who, "new@example.org", 1);
    assert_int_equal(fetch(s, who.user_id, &gone, &seq), SP_ERR_AUTH);
    /* gone: what was seen is still there; of a stranger there is nothing */
    shown.err = SP_ERR_NOT_FOUND;
    assert_int_equal(fetch(s, who.user_id, &gone, &seq), SP_OK);
    assert_true(gone);
    assert_int_equal(seq, 3);
    assert_int_equal(fetch(s, again.user_id, &gone, &seq), SP_OK);
    assert_true(gone);
    assert_int_equal(seq, 0);
    state_close(s);
}

static void names_that_a_terminal_would_obey_are_refused(void **state)
{
    struct state *s;
    struct signer who = {.user_id = {0}};
    uint32_t seq;
    bool gone;
    (void)state;
    assert_int_equal(state_open(false, &s), SP_OK);
    show_chain(&who,
               "a\xc2\x9b"
               "31m@example.org",
               0);
    assert_int_equal(fetch(s, who.user_id, &gone, &seq), SP_ERR_FORMAT);
    state_close(s);
}

static void tracking_is_remembered(void **state)
{
    struct state *s;
    struct signer who = {.user_id = {0}};
    struct chain *c;
    uint32_t seq;
    (void)state;
    assert_int_equal(state_open(false, &s), SP_OK);
    show_chain(&who, "t@example.org", 0);
    assert_int_equal(update(s, "t@example.org", &seq), SP_OK);
    assert_int_equal(chain_load(s, "t@example.org", &c), SP_OK);
    assert_false(c->tracked || chain_moved(c));
    c->tracked = true;
    memcpy(c->tracked_head, c->now.head, HASH_SIZE);
    assert_int_equal(chain_save(c, s), SP_OK);
    chain_free(c);
    assert_int_equal(chain_load(s, "t@example.org", &c), SP_OK);
    assert_true(c->tracked);
    assert_false(chain_moved(c));
    chain_free(c);
    show_chain(&who, "t@example.org", 1);
    assert_int_equal(update(s, "t@example.org", &seq), SP_OK);
    assert_int_equal(chain_load(s, "t@example.org", &c), SP_OK);
    assert_true(chain_moved(c));
    chain_free(c);
    state_close(s);
}

/* Address lists */

struct got {
    char text[512];
};

static enum sp_err gather_address(void *ctx, const char *address)
{
    struct got *g = ctx;
    size_t n = strlen(g->text);
    snprintf(g->text + n, sizeof g->text - n, "%s|", address);
    return SP_OK;
}

static void address_lists_are_read_strictly(void **state)
{
    static const struct {
        const char *list, *wanted; /* NULL: refused */
    } cases[] = {
        {"a@x.org", "a@x.org|"},
        {" a@x.org , <b@x.org>,\r\n\tC D <c@x.org>", "a@x.org|b@x.org|c@x.org|"},
        {"\"Doe, John <evil@x>\" <j@x.org>", "j@x.org|"},
        {"J. R. \"Bob\" Smith (a (nested \\) one) b@x) <j@x.org> (c)", "j@x.org|"},
        {"friends: a@x.org, B <b@x.org>; , c@x.org", "a@x.org|b@x.org|c@x.org|"},
        {"undisclosed-recipients:;", ""},
        {"", ""},
        {",, a@x.org,", "a@x.org|"},
        {"\"a.b\"@x.org", "a.b@x.org|"},
        {"j\xc3\xbcrgen@b\xc3\xbc"
         "cher.example",
         "j\xc3\xbcrgen@b\xc3\xbc"
         "cher.example|"},
        {"a . b @ x . org", "a.b@x.org|"},
        {"=?utf-8?q?a=2C?= <a@x.org>", "a@x.org|"},
        {"bob", NULL},
        {"a@x@y", NULL},
        {"a@x.org b@x.org", NULL},
        {"a b@x.org", NULL},
        {"<a@x.org", NULL},
        {"a@x.org>", NULL},
        {"<a@x.org> <b@x.org>", NULL},
        {"<a@x.org> b", NULL},
        {"<@r.org:a@x.org>", NULL},
        {"a..b@x.org", NULL},
        {".a@x.org", NULL},
        {"a.@x.org", NULL},
        {"a@x.", NULL},
        {"a@", NULL},
        {"@x.org", NULL},
        {"<>", NULL},
        {"\"a b\"@x.org", NULL},
        {"\"\"@x.org", NULL},
        {"a@[127.0.0.1]", NULL},
        {"(a@x.org", NULL},
        {"\"a@x.org", NULL},
        {"g: a@x.org", NULL},
        {"g: h: a@x.org;;", NULL},
        {"a\x01@x.org", NULL},
        {"a@x.org\xff", NULL},
        {"((((((((((((((((((a", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct got g = {.text = ""};
        enum sp_err err = addrlist_each((const uint8_t *)cases[i].list, strlen(cases[i].list),
                                        gather_address, &g);
        if ((err == SP_OK) != (cases[i].wanted != NULL))
            fail_msg("%s: %s", cases[i].list, sp_err_text(err));
        if (cases[i].wanted != NULL)
            assert_string_equal(g.text, cases[i].wanted);
    }
    char longest[ADDRLIST_MAX + 8];
    struct got g = {.text = ""};
    memset(longest, 'a', sizeof longest);
    memcpy(longest + ADDRLIST_MAX - 6, "@x.org", 6);
    assert_int_equal(addrlist_each((const uint8_t *)longest, ADDRLIST_MAX, gather_address, &g),
                     SP_OK);
    memset(longest, 'a', sizeof longest);
    memcpy(longest + ADDRLIST_MAX - 5, "@x.org", 6);
    assert_int_equal(addrlist_each((const uint8_t *)longest, ADDRLIST_MAX + 1, gather_address, &g),
                     SP_ERR_LIMIT);
}

/* State files */

static void state_files_are_closed_and_whole(void **state)
{
    struct state *s;
    struct stat st;
    uint8_t *bytes;
    size_t len;
    char path[PATH_MAX];
    int fd;
    (void)state;
    assert_int_equal(chmod(home, 0755), 0);
    assert_int_equal(state_open(false, &s), SP_OK);
    assert_int_equal(stat(home, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(state_read(s, "there/is-none", 10, &bytes, &len), SP_ERR_NOT_FOUND);
    assert_int_equal(state_write(s, "sub/file", "one", 3), SP_OK);
    assert_int_equal(state_write(s, "sub/file", "two and more", 12), SP_OK);
    assert_int_equal(state_read(s, "sub/file", 12, &bytes, &len), SP_OK);
    assert_string_equal((char *)bytes, "two and more");
    free(bytes);
    assert_int_equal(state_read(s, "sub/file", 11, &bytes, &len), SP_ERR_LIMIT);
    snprintf(path, sizeof path, "%s/sub/file", home);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(state_spool(s, &fd), SP_OK);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    close(fd);
    state_close(s);
}

/* The server's list */

#define ENTRY(seq, id)                                                                             \
    "{\"seq\":" seq ",\"id\":\"" id                                                                \
    "\",\"received_ms\":9,\"bytes\":8,\"pieces\":7,\"generation\":6}"
#define PAGE(list, more) "{\"messages\":[" list "],\"more\":" more "}"
#define ID_A             "0123456789abcdef0123456789abcdef"
#define ID_B             "0123456789abcdef0123456789abcdee"

static void mail_pages_are_strict(void **state)
{
    static const struct {
        const char *json;
        enum sp_err err;
        uint32_t n;
    } cases[] = {
        {PAGE(ENTRY("5", ID_A) "," ENTRY("6", ID_B), "true"), SP_OK, 2},
        {PAGE("", "false"), SP_OK, 0},
        {PAGE("", "true"), SP_ERR_FORMAT, 0},
        {PAGE(ENTRY("4", ID_A), "false"), SP_ERR_FORMAT, 0}, /* not above `after` */
        {PAGE(ENTRY("6", ID_A) "," ENTRY("6", ID_B), "false"), SP_ERR_FORMAT, 0},
        {PAGE(ENTRY("-6", ID_A), "false"), SP_ERR_FORMAT, 0},
        {PAGE(ENTRY("6.0", ID_A), "false"), SP_ERR_FORMAT, 0},
        {PAGE(ENTRY("6", "../../../../../../etc/passwd1234"), "false"), SP_ERR_FORMAT, 0},
        {PAGE(ENTRY("6", "0123456789ABCDEF0123456789ABCDEF"), "false"), SP_ERR_FORMAT, 0},
        {PAGE(ENTRY("6", ID_A "0"), "false"), SP_ERR_FORMAT, 0},
        {PAGE(ENTRY("6", ID_A), "1"), SP_ERR_FORMAT, 0},
        {PAGE("{}", "false"), SP_ERR_FORMAT, 0},
        {"{\"messages\":{},\"more\":false}", SP_ERR_FORMAT, 0},
        {"[]", SP_ERR_FORMAT, 0},
        {"", SP_ERR_FORMAT, 0},
    };
    static struct mail page[MAIL_PAGE];
    uint32_t n;
    bool more;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *json = cases[i].json;
        enum sp_err err = mailpage_read((const uint8_t *)json, strlen(json), 4, page, &n, &more);
        assert_int_equal(err, cases[i].err);
        assert_int_equal(n, cases[i].n);
    }
    assert_int_equal(mailpage_read(NULL, 0, 0, page, &n, &more), SP_ERR_FORMAT);
}

/* Maildir */

static void maildir_takes_each_message_once(void **state)
{
    struct maildir *d;
    char path[PATH_MAX];
    int fd;
    (void)state;
    snprintf(path, sizeof path, "%s/mail/dir", home);
    assert_int_equal(maildir_open(path, &d), SP_OK);
    assert_int_equal(maildir_begin(d, ID_A, 1000, &fd), SP_OK);
    assert_int_equal(file_write(fd, "x", 1), SP_OK);
    assert_int_equal(maildir_end(d, true), SP_OK);
    assert_int_equal(maildir_begin(d, ID_B, 1000, &fd), SP_OK);
    assert_int_equal(maildir_end(d, false), SP_OK);
    maildir_close(d);
    assert_int_equal(maildir_open(path, &d), SP_OK);
    assert_true(maildir_has(d, ID_A));
    assert_false(maildir_has(d, ID_B));
    maildir_close(d);
}

static void progress_is_kept_for_each_maildir(void **state)
{
    struct state *s;
    struct progress p;
    (void)state;
    assert_int_equal(state_open(false, &s), SP_OK);
    assert_int_equal(progress_load(s, "/one", &p), SP_OK);
    p.last = 7;
    assert_int_equal(progress_failed(&p, ID_A), SP_OK);
    assert_int_equal(progress_failed(&p, ID_B), SP_OK);
    assert_int_equal(progress_failed(&p, ID_B), SP_OK);
    progress_done(&p, ID_A);
    assert_int_equal(progress_save(s, "/one", &p), SP_OK);
    progress_free(&p);
    assert_int_equal(progress_load(s, "/two", &p), SP_OK);
    assert_int_equal(p.last + p.n, 0);
    assert_int_equal(progress_save(s, "/two", &p), SP_OK);
    progress_free(&p);
    assert_int_equal(progress_load(s, "/one", &p), SP_OK);
    assert_int_equal(p.last, 7);
    assert_int_equal(p.n, 1);
    assert_string_equal(p.retry[0], ID_B);
    progress_free(&p);
    state_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(join_gives_the_message_back),
        cmocka_unit_test(join_knows_the_edges),
        cmocka_unit_test(join_refuses_before_writing),
        cmocka_unit_test(join_notices_a_short_piece),
        cmocka_unit_test(key_file_round_trip),
        cmocka_unit_test(key_file_changes_are_refused),
        cmocka_unit_test(pending_seeds_are_settled_by_the_chain),
        cmocka_unit_test_setup_teardown(chains_are_remembered, make_home, drop_home),
        cmocka_unit_test_setup_teardown(chains_must_continue_what_was_seen, make_home, drop_home),
        cmocka_unit_test_setup_teardown(lost_links_are_given_back, make_home, drop_home),
        cmocka_unit_test_setup_teardown(strangers_are_fetched_by_id, make_home, drop_home),
        cmocka_unit_test_setup_teardown(names_that_a_terminal_would_obey_are_refused, make_home,
                                        drop_home),
        cmocka_unit_test_setup_teardown(tracking_is_remembered, make_home, drop_home),
        cmocka_unit_test(address_lists_are_read_strictly),
        cmocka_unit_test_setup_teardown(state_files_are_closed_and_whole, make_home, drop_home),
        cmocka_unit_test(mail_pages_are_strict),
        cmocka_unit_test_setup_teardown(maildir_takes_each_message_once, make_home, drop_home),
        cmocka_unit_test_setup_teardown(progress_is_kept_for_each_maildir, make_home, drop_home),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
