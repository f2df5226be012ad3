/* The form's decoder: what it takes, and that every other byte is refused. */
#include "daemon/messages.h"
#include "envelope/wire.h"
#include "storage/form.h"
#include "storage/forms.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sodium.h>
#include <cmocka.h>

#define CAP 65536u

static uint8_t buf[CAP];

static void put_box(struct wire_out *out, uint8_t kind, uint8_t mark)
{
    uint8_t sealed[256] = {0}, bytes[BOX_MAX];
    size_t len;
    struct box b = {.kind = kind, .sealed = sealed, .sealed_len = 136};
    if (kind == BOX_USER)
        b.puk_generation = 1;
    if (kind == BOX_PASSWORD) {
        b.expiry = 4000000000u;
        b.sealed_len = (size_t)cake_sealed_length(96);
    } else {
        memset(b.recipient_pk, 9, KEY_SIZE);
    }
    memset(b.recipient_id, mark, ID_SIZE);
    assert_int_equal(box_encode(&b, bytes, sizeof(bytes), &len), SP_OK);
    wire_put_b32(out, bytes, len);
}

static void put_head(struct wire_out *out, bool from_user)
{
    uint8_t bytes[1024], manifest[200] = {0}, copy[100] = {0};
    size_t len;
    struct envelope e = {.suite = ENVELOPE_SUITE_X25519,
                         .from_user = from_user,
                         .n_pieces = 1,
                         .piece_length = {cake_sealed_length(10)},
                         .manifest = manifest,
                         .manifest_len = (size_t)cake_sealed_length(100)};
    memset(e.message_id, 3, ID_SIZE);
    e.message_id[6] = 0x70;
    e.message_id[8] = 0x80;
    memset(e.ephemeral_pk, 9, KEY_SIZE);
    assert_int_equal(envelope_encode(&e, bytes, sizeof(bytes), &len), SP_OK);
    wire_put_bytes(out, "SPSB\x01", 5);
    wire_put_b32(out, bytes, len);
    wire_put_b32(out, copy, sizeof(copy));
    wire_put_str(out, "Ann@Example.org");
}

static void put_order(struct wire_out *out, uint8_t mark, size_t len)
{
    uint8_t order[SIGN_SIZE] = {mark};
    wire_put_bytes(out, order, len);
}

static void put_secret(struct wire_out *out, size_t len)
{
    uint8_t secret[KEYS_SECRET_BOX + 1] = {0};
    wire_put_b16(out, secret, len);
}

/* One of each kind, and the outside addresses. */
static size_t make(const char *const *address, uint16_t n)
{
    uint8_t gate[HASH_SIZE] = {0};
    struct wire_out out = wire_out(buf, sizeof(buf));
    put_head(&out, true);
    wire_put_u16(&out, 3);
    put_box(&out, BOX_USER, 1);
    put_box(&out, BOX_RELAY, 2);
    put_secret(&out, KEYS_SECRET_BOX);
    wire_put_u16(&out, n);
    for (uint16_t i = 0; i < n; i++) {
        wire_put_str(&out, address[i]);
        put_order(&out, (uint8_t)i, SIGN_SIZE);
    }
    put_box(&out, BOX_PASSWORD, 3);
    put_secret(&out, KEYS_SECRET_BOX);
    wire_put_str(&out, "eve@elsewhere.example");
    wire_put_bytes(&out, gate, sizeof(gate));
    wire_put_str(&out, "Gr\xc3\xbc\xc3\x9f"
                       "e");
    put_order(&out, 77, HASH_SIZE);
    put_order(&out, 88, SIGN_SIZE); /* the form's signature */
    assert_true(wire_out_ok(&out));
    return out.len;
}

static enum sp_err decode(size_t len, size_t max)
{
    struct form *f;
    /* A copy of its very size, so that the sanitizer sees a read beyond. */
    uint8_t *copy = malloc(len + 1);
    memcpy(copy, buf, len);
    copy = realloc(copy, len > 0 ? len : 1);
    enum sp_err err = form_decode(copy, len, max, &f);
    assert_true((err == SP_OK) == (f != NULL));
    form_free(f);
    free(copy);
    return err;
}

static void test_good(void **state)
{
    static const char *const address[] = {"b@z.example", "Zoe@A.example", "zoe@a.EXAMPLE",
                                          "a@z.Example"};
    struct form *f;
    (void)state;
    size_t len = make(address, 4);
    assert_int_equal(form_decode(buf, len, 100, &f), SP_OK);
    assert_string_equal(f->mail_from, "ann@example.org");
    assert_string_equal(f->mail_from_text, "Ann@Example.org");
    assert_ptr_equal(f->signed_bytes, buf);
    assert_int_equal(f->signed_len, len - SIGN_SIZE);
    assert_int_equal(f->signature[0], 88);
    assert_int_equal(f->link[0].order[0], 77);
    assert_int_equal(f->n_users, 1);
    assert_int_equal(f->n_links, 1);
    assert_int_equal(f->n_outside, 4);
    static const char *const sorted[] = {"Zoe@A.example", "zoe@a.EXAMPLE", "a@z.Example",
                                         "b@z.example"};
    static const uint8_t order[] = {1, 2, 3, 0}; /* each goes with its address */
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(f->outside[i].order[0], order[i]);
        assert_int_equal(f->outside[i].address.len, strlen(sorted[i]));
        assert_memory_equal(f->outside[i].address.bytes, sorted[i], f->outside[i].address.len);
    }
    assert_int_equal(f->link[0].subject.len, 7);
    assert_int_equal(f->relay_box.recipient_id[0], 2);
    form_free(f);
    assert_int_equal(decode(len, 5), SP_OK); /* the sender's own box does not count */
    assert_int_equal(decode(len, 4), SP_ERR_LIMIT);
    assert_int_equal(decode(len, 3), SP_ERR_LIMIT);
}

static void test_every_cut(void **state)
{
    static const char *const address[] = {"b@z.example"};
    (void)state;
    size_t len = make(address, 1);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(decode(i, 100), SP_ERR_FORMAT);
    assert_int_equal(decode(len + 1, 100), SP_ERR_FORMAT);
}

static void test_addresses(void **state)
{
    static const char *const good[] = {"a@b", "first.last+tag@sub.example.org",
                                       "o'neil@x-y.example",
                                       "gr\xc3\xbc\xc3\x9f@b\xc3\xbc"
                                       "cher.example",
                                       "#!$%&@x"};
    static const char *const bad[] = {
        "",
        "a",
        "@b",
        "a@",
        "a@b@c",
        "a b@c",
        "a@b c",
        "a@b>",
        "<a@b",
        "a@b\r\nRCPT TO:<x@y",
        "a@[127.0.0.1]",
        "\"a\"@b",
        "a..b@c",
        ".a@b",
        "a.@b",
        "a@.b",
        "a@b.",
        "a@b..c",
        "a@-b",
        "a@b-",
        "a@b_c",
        "a@b,c@d",
        "a@b\xff",
        "a@\xc2\x85"
        "b",
        "a:b@c",
        "a\\b@c",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@b",
        "a@bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.example"};
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        if (!form_address((const uint8_t *)good[i], strlen(good[i])))
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (form_address((const uint8_t *)bad[i], strlen(bad[i])))
            fail_msg("taken: %s", bad[i]);
        assert_int_equal(decode(make(&bad[i], 1), 100), SP_ERR_FORMAT);
    }
    static const char *const twice[] = {"a@b.example", "c@b.example", "a@B.example"};
    assert_int_equal(decode(make(twice, 3), 100), SP_ERR_FORMAT);
    assert_int_equal(decode(make(NULL, 0), 100), SP_ERR_FORMAT);
}

static void test_boxes(void **state)
{
    (void)state;
    struct wire_out head = wire_out(buf, sizeof(buf));
    put_head(&head, true);
    struct wire_out out = head; /* one user twice */
    wire_put_u16(&out, 2);
    put_box(&out, BOX_USER, 1);
    put_box(&out, BOX_USER, 1);
    put_order(&out, 0, SIGN_SIZE);
    assert_int_equal(decode(out.len, 100), SP_ERR_FORMAT);
    out = head; /* two relay boxes */
    wire_put_u16(&out, 2);
    for (uint8_t i = 0; i < 2; i++) {
        put_box(&out, BOX_RELAY, i);
        put_secret(&out, KEYS_SECRET_BOX);
        wire_put_u16(&out, 1);
        wire_put_str(&out, i == 0 ? "a@b.example" : "c@d.example");
        put_order(&out, i, SIGN_SIZE);
    }
    assert_int_equal(decode(out.len, 100), SP_ERR_FORMAT);
    for (int by = -1; by <= 1; by += 2) { /* a secret of another length */
        out = head;
        wire_put_u16(&out, 1);
        put_box(&out, BOX_RELAY, 1);
        put_secret(&out, (size_t)((int)KEYS_SECRET_BOX + by));
        wire_put_u16(&out, 1);
        wire_put_str(&out, "a@b.example");
        put_order(&out, 0, SIGN_SIZE);
        put_order(&out, 0, SIGN_SIZE);
        assert_int_equal(decode(out.len, 100), SP_ERR_FORMAT);
    }
    out = head; /* none at all, and more than there may be */
    wire_put_u16(&out, 0);
    assert_int_equal(decode(out.len, 100), SP_ERR_FORMAT);
    out = head;
    wire_put_u16(&out, FORM_BOXES + 1);
    assert_int_equal(decode(out.len, 100), SP_ERR_LIMIT);
    struct wire_out sealed_here = wire_out(buf, sizeof(buf)); /* the appliance is no sender */
    put_head(&sealed_here, false);
    wire_put_u16(&sealed_here, 1);
    put_box(&sealed_here, BOX_USER, 1);
    put_order(&sealed_here, 0, SIGN_SIZE);
    assert_int_equal(decode(sealed_here.len, 100), SP_ERR_FORMAT);
}

/* --- forms under way --- */

static void test_forms(void **state)
{
    static uint8_t part[1u << 20];
    uint8_t a[ID_SIZE] = {1}, b[ID_SIZE] = {2}, c[ID_SIZE] = {3};
    const uint8_t *bytes;
    size_t len;
    struct forms *f = forms_new();
    (void)state;
    for (size_t i = 0; i < sizeof(part); i++)
        part[i] = (uint8_t)(i * 7);
    assert_int_equal(forms_put(f, 1, a, 1, part, 1), SP_ERR_STATE);
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(forms_put(f, 1, a, i << 20, part, sizeof(part)), SP_OK);
    assert_int_equal(forms_put(f, 1, a, 4 << 20, part, 1), SP_ERR_LIMIT);
    assert_int_equal(forms_put(f, 1, b, 0, part, 10), SP_OK);
    assert_int_equal(forms_length(f, 2, a), 0); /* another user's */
    assert_int_equal(forms_hold(f, 1, a, &bytes, &len), SP_OK);
    assert_int_equal(len, 4 << 20);
    assert_memory_equal(bytes + (3 << 20), part, sizeof(part));
    assert_int_equal(forms_hold(f, 1, a, &bytes, &len), SP_ERR_STATE);
    assert_int_equal(forms_put(f, 1, a, 0, part, 1), SP_ERR_STATE);
    forms_drop(f, 1, a); /* while it is held */
    assert_int_equal(bytes[7], 49);
    assert_int_equal(forms_hold(f, 1, a, &bytes, &len), SP_ERR_NOT_FOUND);
    forms_release(f, 1, a);
    assert_int_equal(forms_put(f, 1, b, 0, part, 5), SP_OK); /* anew */
    assert_int_equal(forms_length(f, 1, b), 5);
    /* One user has so much; all of them so much, and who was idle longest makes room. */
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(forms_put(f, 1, a, i << 20, part, sizeof(part)), SP_OK);
    assert_int_equal(forms_put(f, 1, c, 0, part, sizeof(part)), SP_OK);
    assert_int_equal(forms_put(f, 1, c, 1 << 20, part, sizeof(part)), SP_OK);
    assert_int_equal(forms_put(f, 1, c, 2 << 20, part, sizeof(part)), SP_ERR_LIMIT);
    assert_int_equal(forms_hold(f, 1, c, &bytes, &len), SP_OK);
    for (uint64_t user = 2; user < 40; user++)
        for (uint64_t i = 0; i < 4; i++)
            assert_int_equal(forms_put(f, user, a, i << 20, part, sizeof(part)), SP_OK);
    assert_int_equal(forms_length(f, 1, a), 0);
    assert_int_equal(forms_length(f, 39, a), 4 << 20);
    assert_int_equal(forms_length(f, 1, c), 2 << 20); /* held */
    for (unsigned i = 0; i <= FORMS_TICKS;
         i++) { /* what nobody touches goes, but for what is held */
        forms_tick(f);
        assert_int_equal(forms_put(f, 39, a, 0, part, 10), SP_OK);
    }
    assert_int_equal(forms_length(f, 38, a), 0);
    assert_int_equal(forms_length(f, 39, a), 10);
    assert_int_equal(forms_length(f, 1, c), 2 << 20);
    forms_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),      cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_addresses), cmocka_unit_test(test_boxes),
        cmocka_unit_test(test_forms),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
