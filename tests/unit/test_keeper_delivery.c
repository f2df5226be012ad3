/* The keeper between a store, a relay and its deliveries, each of which may have been taken over: a
 * delivery gets what was leased to it, once, and nothing of any other mail. */
#include "tests/unit/keeper_store.h"

#include "daemon/keeper/dkimkey.h"
#include "storage/slots.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

static struct tree tree;
static uint8_t keeper_pk[KEY_SIZE];

/* A mail that a user sent outside, as client and store have it. */
struct mail {
    struct filed secret;
    struct envelope e;
    uint8_t manifest_hash[HASH_SIZE], shared_key[KEY_SIZE], sealed[BOX_MAX_SEALED];
    struct box box;
};

static void new_mail(struct mail *m)
{
    uint8_t sign_pk[32], sign_sk[64], relay_sk[KEY_SIZE], ephemeral_sk[KEY_SIZE];
    crypto_sign_keypair(sign_pk, sign_sk);
    randombytes_buf(relay_sk, KEY_SIZE);
    randombytes_buf(ephemeral_sk, KEY_SIZE);
    randombytes_buf(m->shared_key, KEY_SIZE);
    randombytes_buf(m->manifest_hash, HASH_SIZE);
    file_secret(&tree, keeper_pk, BOX_RELAY, relay_sk, &m->secret);
    expect_received(&tree, &m->secret, "relay");
    m->e = (struct envelope){.suite = ENVELOPE_SUITE_X25519, .from_user = true};
    memcpy(m->e.message_id, m->secret.id.message_id, ID_SIZE);
    randombytes_buf(m->e.sender_user_id, ID_SIZE);
    memcpy(m->e.sender_sign_pk, sign_pk, KEY_SIZE);
    randombytes_buf(m->e.bcc_commitment, HASH_SIZE);
    assert_int_equal(keys_x25519_public(ephemeral_sk, m->e.ephemeral_pk), SP_OK);
    m->box = (struct box){.kind = BOX_RELAY};
    memcpy(m->box.recipient_id, m->secret.id.recipient_id, ID_SIZE);
    assert_int_equal(keys_x25519_public(relay_sk, m->box.recipient_pk), SP_OK);
    assert_int_equal(box_seal(&m->e, m->manifest_hash, &m->box, ephemeral_sk, m->shared_key,
                              sign_sk, NULL, m->sealed),
                     SP_OK);
}

static void lease_as(uint64_t no, const struct filed *f, uint8_t kind, size_t len)
{
    uint8_t buf[256];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct vault_id id = f->id;
    id.kind = kind;
    wire_put_u64(&out, no);
    put_id(&out, &id, true);
    wire_put_u32(&out, f->slot);
    wire_put_b16(&out, f->wrapped, len);
    store_send(&tree, VT_LEASE, 0, &out);
}

static void lease(uint64_t no, const struct filed *f)
{
    lease_as(no, f, f->id.kind, f->len);
}

static void lease_end(uint64_t no)
{
    uint8_t buf[8];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u64(&out, no);
    store_send(&tree, VT_LEASE_END, 0, &out);
}

/* Relay's announcement; the delivery's end of its channel. */
static int deliver(uint32_t id, uint64_t lease_no)
{
    uint8_t buf[12];
    int pair[2];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u32(&out, id);
    wire_put_u64(&out, lease_no);
    assert_int_equal(ipc_pair(pair), SP_OK);
    assert_int_equal(ipc_send_fd(tree.relay, RP_DELIVERY, 0, buf, out.len, pair[1]), SP_OK);
    close(pair[1]);
    return pair[0];
}

static enum sp_err ask(int fd, uint16_t type, const void *body, size_t len, struct wire_in *in)
{
    static uint8_t buf[IPC_HEADER + 2048];
    struct ipc_frame f;
    enum sp_err err = ipc_send_fd(fd, type, 9, body, len, -1);
    if (err == SP_OK)
        err = ipc_recv(fd, buf, sizeof(buf), &f);
    if (err != SP_OK)
        return SP_ERR_PEER;
    assert_int_equal(f.type, type | 0x80);
    assert_int_equal(f.id, 9);
    err = wire_get_u8(&f.body);
    *in = f.body;
    assert_true(err == SP_OK || in->left == 0);
    return err;
}

static uint8_t wants_login; /* what came with the last mail that was opened */

static enum sp_err open_mail(int fd, const struct mail *m)
{
    uint8_t body[1024], box[BOX_MAX];
    struct wire_out out = wire_out(body, sizeof(body));
    struct wire_in in;
    size_t box_len;
    assert_int_equal(box_encode(&m->box, box, sizeof(box), &box_len), SP_OK);
    wire_put_u8(&out, m->e.suite);
    wire_put_bytes(&out, m->e.message_id, ID_SIZE);
    wire_put_b16(&out, m->e.sender_user_id, m->e.from_user ? ID_SIZE : 0);
    wire_put_b16(&out, m->e.sender_sign_pk, m->e.from_user ? KEY_SIZE : 0);
    wire_put_bytes(&out, m->e.ephemeral_pk, KEY_SIZE);
    wire_put_bytes(&out, m->e.bcc_commitment, HASH_SIZE);
    wire_put_bytes(&out, m->manifest_hash, HASH_SIZE);
    wire_put_b32(&out, box, box_len);
    enum sp_err err = ask(fd, KD_OPEN, body, out.len, &in);
    if (err == SP_OK) {
        assert_int_equal(in.left, KEY_SIZE + 1);
        assert_memory_equal(in.at, m->shared_key, KEY_SIZE);
        wants_login = in.at[KEY_SIZE];
    }
    return err;
}

static enum sp_err sign(int fd, uint8_t key, const uint8_t hashes[64], struct wire_in *in)
{
    uint8_t body[65] = {key};
    memcpy(body + 1, hashes, 64);
    return ask(fd, KD_DKIM, body, sizeof(body), in);
}

static void give_key(const char *name, enum dkimkey_algorithm algorithm, EVP_PKEY **key)
{
    uint8_t buf[64];
    struct wire_out out = wire_out(buf, sizeof(buf));
    int fd = tree_file();
    assert_int_equal(dkimkey_make(algorithm, fd), SP_OK);
    lseek(fd, 0, SEEK_SET);
    FILE *file = fdopen(dup(fd), "r");
    *key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    fclose(file);
    wire_put_str(&out, name);
    assert_int_equal(ipc_send_fd(tree.control, CT_DKIM, 0, buf, out.len, fd), SP_OK);
    close(fd);
}

static void give_auth(const char *text)
{
    int fd = tree_file();
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(ipc_send_fd(tree.control, CT_AUTH, 0, NULL, 0, fd), SP_OK);
    close(fd);
}

static int start_with(enum config_relay mode)
{
    tree_new(&tree);
    tree_kill(&tree);
    tree.config.relay_mode = mode;
    tree.config.dkim_selector = (struct config_list){.count = 2};
    tree_start(&tree);
    tree_give_key(&tree);
    return store_begin(&tree, NULL, 0, keeper_pk) == SP_OK ? 0 : -1;
}

static int set_up(void **state)
{
    (void)state;
    return start_with(RELAY_MX);
}

static int set_up_smarthost(void **state)
{
    (void)state;
    return start_with(RELAY_SMARTHOST);
}

static int tear_down(void **state)
{
    (void)state;
    tree_end(&tree);
    return 0;
}

/* --- what it is for --- */

static void test_relay(void **state)
{
    uint8_t hashes[64];
    struct mail m;
    struct wire_in in;
    EVP_PKEY *rsa, *ed;
    size_t len;
    (void)state;
    give_key("one", DKIMKEY_RSA_SHA256, &rsa);
    give_key("two", DKIMKEY_ED25519_SHA256, &ed);
    tree_count(&tree, "leases"); /* and the keys are there */
    new_mail(&m);
    lease(1, &m.secret);
    int fd = deliver(1, 1);
    assert_int_equal(open_mail(fd, &m), SP_OK);
    randombytes_buf(hashes, sizeof(hashes));
    assert_int_equal(sign(fd, 0, hashes, &in), SP_OK);
    assert_int_equal(wire_get_u8(&in), 1);
    const uint8_t *signature = wire_get_b16(&in, 512, &len);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(rsa, NULL);
    EVP_PKEY_verify_init(ctx);
    EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING);
    EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256());
    assert_int_equal(EVP_PKEY_verify(ctx, signature, len, hashes, 32), 1);
    EVP_PKEY_CTX_free(ctx);
    assert_int_equal(sign(fd, 1, hashes, &in), SP_OK);
    assert_int_equal(wire_get_u8(&in), 2);
    signature = wire_get_b16(&in, 512, &len);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_DigestVerifyInit(md, NULL, NULL, NULL, ed);
    assert_int_equal(EVP_DigestVerify(md, signature, len, hashes + 32, 32), 1);
    EVP_MD_CTX_free(md);
    assert_int_equal(tree_count(&tree, "secrets_opened"), 1);
    assert_int_equal(tree_count(&tree, "secrets_refused"), 0);
    assert_int_equal(sign(fd, 1, hashes, &in), SP_ERR_PEER); /* once a key */
    close(fd);
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ed);
}

static void test_password(void **state)
{
    uint8_t password[KEY_SIZE];
    struct filed f;
    struct wire_in in;
    (void)state;
    randombytes_buf(password, sizeof(password));
    file_secret(&tree, keeper_pk, BOX_PASSWORD, password, &f);
    lease(7, &f);
    int fd = deliver(1, 7);
    assert_int_equal(ask(fd, KD_PASSWORD, NULL, 0, &in), SP_OK);
    assert_int_equal(in.left, KEY_SIZE + 1);
    assert_memory_equal(in.at, password, KEY_SIZE);
    assert_int_equal(ask(fd, KD_PASSWORD, NULL, 0, &in), SP_ERR_PEER);
    close(fd);
}

static void test_smarthost(void **state)
{
    struct mail m;
    struct wire_in in;
    (void)state;
    new_mail(&m);
    lease(1, &m.secret);
    int fd = deliver(1, 1);
    assert_int_equal(open_mail(fd, &m), SP_OK);
    assert_int_equal(wants_login, 0);
    assert_int_equal(ask(fd, KD_AUTH, NULL, 0, &in), SP_ERR_NOT_FOUND);
    close(fd);
    give_auth("kate:pass:word \xc3\xa9\n");
    give_auth("broken"); /* leaves the old ones */
    lease(2, &m.secret);
    tree_count(&tree, "leases");
    fd = deliver(2, 2);
    assert_int_equal(open_mail(fd, &m), SP_OK);
    assert_int_equal(wants_login, 1);
    assert_int_equal(ask(fd, KD_AUTH, NULL, 0, &in), SP_OK);
    expect_text(&in, "kate");
    expect_text(&in, "pass:word \xc3\xa9");
    assert_int_equal(ask(fd, KD_AUTH, NULL, 0, &in), SP_ERR_PEER);
    close(fd);
}

/* Not yet loaded, or not to be had: a status, since the delivery did nothing wrong. */
static void test_no_key(void **state)
{
    uint8_t hashes[64] = {0};
    struct mail m;
    struct wire_in in;
    (void)state;
    new_mail(&m);
    lease(1, &m.secret);
    int fd = deliver(1, 1);
    assert_int_equal(open_mail(fd, &m), SP_OK);
    assert_int_equal(sign(fd, 0, hashes, &in), SP_ERR_NO_KEY);
    assert_int_equal(sign(fd, 2, hashes, &in), SP_ERR_PEER); /* there is no third */
    close(fd);
}

static void test_erased_meanwhile(void **state)
{
    struct mail m;
    (void)state;
    new_mail(&m);
    lease(1, &m.secret);
    int fd = deliver(1, 1);
    assert_int_equal(store_erase(&tree, &m.secret, 0, "revoked"), SP_OK);
    assert_int_equal(open_mail(fd, &m), SP_ERR_NOT_FOUND);
    assert_int_equal(tree_count(&tree, "secrets_refused"), 1);
    close(fd);
}

/* A box that a client made badly is its own fault; the channel stays, for the report. */
static void test_bad_box(void **state)
{
    uint8_t hashes[64] = {0};
    struct mail m;
    struct wire_in in;
    (void)state;
    new_mail(&m);
    m.sealed[40] ^= 1;
    lease(1, &m.secret);
    int fd = deliver(1, 1);
    assert_int_equal(open_mail(fd, &m), SP_ERR_AUTH);
    assert_int_equal(sign(fd, 0, hashes, &in),
                     SP_ERR_PEER); /* nothing was opened: nothing is signed */
    close(fd);
}

/* --- deliveries that were taken over --- */

static enum sp_err open_changed(const struct mail *m, uint64_t no)
{
    lease(no, &m->secret);
    int fd = deliver((uint32_t)no, no);
    enum sp_err err = open_mail(fd, m);
    close(fd);
    return err;
}

/* Every field is under the digest, or belongs to the lease. */
static void test_every_field(void **state)
{
    struct mail m, bad;
    uint64_t no = 0;
    (void)state;
    new_mail(&m);
    m.box.sealed = m.sealed;
    bad = m;
    bad.manifest_hash[0] ^= 1;
    assert_int_equal(open_changed(&bad, ++no), SP_ERR_AUTH);
    bad = m;
    bad.e.sender_user_id[0] ^= 1;
    assert_int_equal(open_changed(&bad, ++no), SP_ERR_AUTH);
    bad = m;
    bad.e.sender_sign_pk[0] ^= 1;
    assert_int_equal(open_changed(&bad, ++no), SP_ERR_AUTH);
    bad = m;
    bad.e.ephemeral_pk[0] ^= 1;
    assert_int_equal(open_changed(&bad, ++no), SP_ERR_AUTH);
    bad = m;
    bad.e.bcc_commitment[0] ^= 1;
    assert_int_equal(open_changed(&bad, ++no), SP_ERR_AUTH);
    bad = m;
    bad.box.recipient_pk[0] ^= 1;
    assert_int_equal(open_changed(&bad, ++no), SP_ERR_AUTH);
    bad = m;
    bad.e.message_id[0] ^= 1; /* another mail's */
    assert_int_equal(open_changed(&bad, ++no), SP_ERR_PEER);
    bad = m;
    bad.box.recipient_id[0] ^= 1;
    assert_int_equal(open_changed(&bad, ++no), SP_ERR_PEER);
    bad = m;
    bad.e.from_user = false;
    assert_int_equal(open_changed(&bad, ++no), SP_ERR_PEER);
    bad = m;
    bad.e.suite = 2;
    assert_int_equal(open_changed(&bad, ++no), SP_ERR_PEER);
    assert_int_equal(open_changed(&m, ++no), SP_OK);
    assert_int_equal(tree_count(&tree, "secrets_refused"), 10);
}

/* Frames that are not permitted now, one channel each. */
static void test_out_of_order(void **state)
{
    static const struct {
        uint16_t type;
        size_t len;
    } frames[] = {{KD_PASSWORD, 0}, {KD_DKIM, 65},      {KD_AUTH, 0},      {KD_OPEN, 20},
                  {KD_OPEN, 141},   {KD_OPEN_REPLY, 1}, {RP_DELIVERY, 12}, {VT_UNWRAP, 60},
                  {SK_SIGN, 60},    {SD_JOB, 0}};
    uint8_t zeros[256] = {0};
    struct mail m;
    struct wire_in in;
    (void)state;
    new_mail(&m);
    for (uint32_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        lease(i, &m.secret);
        int fd = deliver(i, i);
        assert_int_equal(ask(fd, frames[i].type, zeros, frames[i].len, &in), SP_ERR_PEER);
        close(fd);
    }
    lease(100, &m.secret);
    int fd = deliver(100, 100);
    assert_int_equal(open_mail(fd, &m), SP_OK);
    assert_int_equal(open_mail(fd, &m), SP_ERR_PEER); /* once */
    close(fd);
    assert_int_equal(tree_count(&tree, "secrets_refused"), 11);
    assert_int_equal(tree_count(&tree, "leases"), 0);
}

/* --- a relay that was taken over --- */

static void expect_closed(int fd)
{
    uint8_t buf[64];
    struct ipc_frame f;
    assert_int_equal(ipc_recv(fd, buf, sizeof(buf), &f), SP_ERR_PEER);
    close(fd);
}

static void test_wrong_lease(void **state)
{
    struct mail m;
    (void)state;
    new_mail(&m);
    expect_closed(deliver(1, 4711)); /* never announced */
    lease(5, &m.secret);
    int fd = deliver(2, 5);
    tree_count(&tree, "leases");  /* it has its lease: of two that come at once either may get it */
    expect_closed(deliver(3, 5)); /* bound twice */
    assert_int_equal(open_mail(fd, &m), SP_OK);
    close(fd);
    tree_count(&tree, "leases");
    expect_closed(deliver(4, 5)); /* its holder is gone, and the lease with it */
    assert_int_equal(tree_count(&tree, "secrets_refused"), 3);
    lease(6, &m.secret);
    lease_end(6);
    expect_closed(deliver(5, 6));
    lease(7, &m.secret);
    fd = deliver(6, 7);
    assert_int_equal(open_mail(fd, &m), SP_OK);
    lease_end(7);
    expect_closed(fd);
    assert_int_equal(tree_count(&tree, "leases"), 0);
}

static void test_delivery_gone(void **state)
{
    struct mail m;
    (void)state;
    new_mail(&m);
    lease(1, &m.secret);
    int fd = deliver(9, 1);
    tree_count(&tree, "leases"); /* it has its lease, which goes with it */
    close(fd);
    for (int tries = 0; tree_count(&tree, "leases") > 0; tries++) { /* once its end is read */
        assert_in_range(tries, 0, 1000);
        usleep(1000);
    }
    lease(2, &m.secret);
    fd = deliver(9, 2); /* the number may come again */
    assert_int_equal(open_mail(fd, &m), SP_OK);
    int twice = deliver(9, 2); /* not while it lives */
    uint8_t buf[64];
    struct ipc_frame f;
    assert_int_equal(ipc_recv(tree.relay, buf, sizeof(buf), &f), SP_ERR_PEER);
    assert_int_equal(tree_wait(&tree), 1);
    tree_start(&tree);
    close(twice);
    close(fd);
}

/* Of more than there may be, the surplus is sent away, and nobody else. */
static void test_too_many(void **state)
{
    enum { MOST = TREE_DELIVERIES + 16 };
    int fd[MOST + 3];
    struct mail m;
    (void)state;
    new_mail(&m);
    for (uint32_t i = 0; i < MOST + 3; i++)
        lease(i, &m.secret);
    for (uint32_t i = 0; i < MOST + 3; i++)
        fd[i] = deliver(i, i);
    for (uint32_t i = 0; i < MOST + 3; i++) {
        assert_int_equal(open_mail(fd[i], &m), i < MOST ? SP_OK : SP_ERR_PEER);
    }
    assert_int_equal(tree_count(&tree, "leases"), MOST);
    for (uint32_t i = 0; i < MOST + 3; i++)
        close(fd[i]);
}

/* --- a store that was taken over --- */

/* It leases out what was wrapped for another mail, or as another kind. */
static void test_moved(void **state)
{
    struct mail m, other;
    struct filed bad;
    struct wire_in in;
    int fd;
    (void)state;
    new_mail(&m);
    new_mail(&other);
    bad = m.secret;
    bad.id = other.secret.id; /* m's relay key for a channel that says it delivers the other */
    lease(1, &bad);
    fd = deliver(1, 1);
    assert_int_equal(open_mail(fd, &other), SP_ERR_AUTH);
    close(fd);
    bad = m.secret;
    bad.slot = other.secret.slot;
    lease(2, &bad);
    fd = deliver(2, 2);
    assert_int_equal(open_mail(fd, &m), SP_ERR_AUTH);
    close(fd);
    lease_as(3, &m.secret, BOX_PASSWORD,
             m.secret.len); /* a relay key as a password: it would leave */
    fd = deliver(3, 3);
    assert_int_equal(ask(fd, KD_PASSWORD, NULL, 0, &in), SP_ERR_AUTH);
    close(fd);
    lease_as(4, &m.secret, 0, 0); /* nothing to be opened */
    fd = deliver(4, 4);
    assert_int_equal(open_mail(fd, &m), SP_ERR_PEER);
    close(fd);
    lease_as(5, &m.secret, BOX_RELAY, m.secret.len - 1);
    fd = deliver(5, 5);
    assert_int_equal(open_mail(fd, &m), SP_ERR_AUTH);
    close(fd);
    lease(6, &m.secret);
    lease(6, &other.secret); /* the same number twice */
    uint8_t buf[64];
    struct ipc_frame f;
    assert_int_equal(ipc_recv(tree.store, buf, sizeof(buf), &f), SP_ERR_PEER);
    assert_int_equal(tree_wait(&tree), 1);
    tree_start(&tree);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(int argc, char **argv)
{
    tree_main(argc, argv);
    const struct CMUnitTest tests[] = {
        T(test_relay),
        T(test_password),
        cmocka_unit_test_setup_teardown(test_smarthost, set_up_smarthost, tear_down),
        T(test_no_key),
        T(test_erased_meanwhile),
        T(test_bad_box),
        T(test_every_field),
        T(test_out_of_order),
        T(test_wrong_lease),
        T(test_delivery_gone),
        T(test_too_many),
        T(test_moved),
    };
    if (sodium_init() < 0)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
