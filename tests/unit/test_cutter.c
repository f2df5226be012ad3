/* The cutter: what becomes an attachment and what does not, and that every message is whole again
 * when its pieces are rejoined, however it was cut on its way in (FORMAT.md section 4). */
#include "envelope/cutter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define MAX_MESSAGE (512u * 1024u)

struct piece {
    uint64_t splice_at;
    char type[1025];
    char name[1025];
    size_t from; /* into pieces.bytes */
    size_t len;
};

struct pieces {
    uint8_t *body;
    size_t body_len;
    uint8_t *bytes;
    size_t bytes_len;
    struct piece list[CUTTER_MAX_ATTACHMENTS];
    size_t count;
    bool open;
    enum sp_err fail_bytes; /* what on_bytes returns */
};

static enum sp_err on_body(void *ctx, const uint8_t *bytes, size_t len)
{
    struct pieces *p = ctx;

    assert_false(p->open);
    assert_true(len > 0 && p->body_len + len <= MAX_MESSAGE);
    memcpy(p->body + p->body_len, bytes, len);
    p->body_len += len;
    return SP_OK;
}

static enum sp_err on_attachment(void *ctx, uint64_t splice_at, const char *media_type,
                                 size_t media_len, const char *file_name, size_t name_len)
{
    struct pieces *p = ctx;

    assert_false(p->open);
    assert_true(p->count < CUTTER_MAX_ATTACHMENTS);
    assert_int_equal(splice_at, p->body_len);
    assert_true(media_len <= CUTTER_MAX_NAME && name_len <= CUTTER_MAX_NAME);
    struct piece *piece = &p->list[p->count++];
    memset(piece, 0, sizeof *piece);
    piece->splice_at = splice_at;
    memcpy(piece->type, media_type, media_len);
    memcpy(piece->name, file_name, name_len);
    piece->from = p->bytes_len;
    p->open = true;
    return SP_OK;
}

static enum sp_err on_bytes(void *ctx, const uint8_t *bytes, size_t len)
{
    struct pieces *p = ctx;

    assert_true(p->open);
    assert_true(len > 0 && p->bytes_len + len <= MAX_MESSAGE);
    memcpy(p->bytes + p->bytes_len, bytes, len);
    p->bytes_len += len;
    p->list[p->count - 1].len += len;
    return p->fail_bytes;
}

static enum sp_err on_end(void *ctx)
{
    struct pieces *p = ctx;

    assert_true(p->open);
    p->open = false;
    return SP_OK;
}

static const struct cutter_sink sink = {on_body, on_attachment, on_bytes, on_end};

static void pieces_init(struct pieces *p)
{
    memset(p, 0, sizeof *p);
    p->body = malloc(MAX_MESSAGE);
    p->bytes = malloc(MAX_MESSAGE);
    assert_true(p->body != NULL && p->bytes != NULL);
}

static void pieces_free(struct pieces *p)
{
    free(p->body);
    free(p->bytes);
}

/* How much to push next: all, one byte, a first part, or at random. */
enum cut { CUT_WHOLE, CUT_BYTES, CUT_AT, CUT_RANDOM };

static size_t next_len(enum cut cut, size_t at, size_t len, size_t where)
{
    size_t n = len - at;

    if (cut == CUT_BYTES)
        n = 1;
    else if (cut == CUT_AT && at < where)
        n = where - at;
    else if (cut == CUT_RANDOM)
        n = 1 + (size_t)rand() % (1 + where);
    return n > len - at ? len - at : n;
}

static void cut_up(const char *message, size_t len, enum cut cut, size_t where, struct pieces *p)
{
    struct cutter *c = malloc(cutter_size());

    assert_non_null(c);
    cutter_init(c, &sink, p);
    for (size_t at = 0, n = 0; at < len; at += n) {
        n = next_len(cut, at, len, where);
        uint8_t *own = malloc(n); /* its own allocation, so that reading beyond it is seen */
        assert_non_null(own);
        memcpy(own, message + at, n);
        assert_int_equal(cutter_push(c, own, n), SP_OK);
        free(own);
    }
    assert_int_equal(cutter_finish(c), SP_OK);
    assert_int_equal(cutter_push(c, (const uint8_t *)"x", 1), SP_ERR_STATE);
    assert_int_equal(cutter_finish(c), SP_ERR_STATE);
    assert_false(p->open);
    free(c);
}

static void assert_rejoined(const struct pieces *p, const char *message, size_t len)
{
    size_t body = 0;
    size_t at = 0;

    assert_int_equal(p->body_len + p->bytes_len, len);
    for (size_t i = 0; i < p->count; i++) {
        const size_t n = (size_t)p->list[i].splice_at - body;
        assert_memory_equal(p->body + body, message + at, n);
        body += n;
        at += n;
        assert_memory_equal(p->bytes + p->list[i].from, message + at, p->list[i].len);
        at += p->list[i].len;
    }
    assert_memory_equal(p->body + body, message + at, len - at);
}

static void assert_same(const struct pieces *a, const struct pieces *b)
{
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->body_len, b->body_len);
    assert_memory_equal(a->body, b->body, a->body_len);
    assert_int_equal(a->bytes_len, b->bytes_len);
    assert_memory_equal(a->bytes, b->bytes, a->bytes_len);
    for (size_t i = 0; i < a->count; i++) {
        assert_int_equal(a->list[i].splice_at, b->list[i].splice_at);
        assert_int_equal(a->list[i].len, b->list[i].len);
        assert_string_equal(a->list[i].type, b->list[i].type);
        assert_string_equal(a->list[i].name, b->list[i].name);
    }
}

/* Cuts the message whole into p, then in many other ways, and compares. */
static void cut_every_way(const char *message, size_t len, struct pieces *p)
{
    struct pieces other;

    cut_up(message, len, CUT_WHOLE, 0, p);
    assert_rejoined(p, message, len);
    pieces_init(&other);
    const size_t splits = len < 3000 ? len : 16;
    for (size_t i = 0; i < splits + 32; i++) {
        other.body_len = other.bytes_len = other.count = 0;
        if (i == 0)
            cut_up(message, len, CUT_BYTES, 0, &other);
        else if (i < splits)
            cut_up(message, len, CUT_AT, i, &other);
        else
            cut_up(message, len, CUT_RANDOM, 1 + (i - splits) * 5, &other);
        assert_same(p, &other);
    }
    pieces_free(&other);
}

/* ---- what becomes of messages ---- */

#define MIXED "From: a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
#define PDF   "Content-Type: application/pdf\r\n\r\n"

static const struct {
    const char *what;
    const char *message;
    const char *expect; /* "type|name|bytes\n" for each attachment */
} cases[] = {
    {"nothing", "", ""},
    {"no header end", "Subject: x\r\n", ""},
    {"text alone", "Subject: x\r\n\r\nhello\r\n--b\r\n", ""},
    {"a root leaf is the body",
     "Content-Type: application/pdf\r\nContent-Disposition: attachment\r\n\r\nPDF\r\n", ""},
    {"one",
     MIXED "pre\r\n--b\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b\r\n" PDF
           "P1\r\nP2\r\n--b--\r\nepilogue\r\n",
     "application/pdf||P1\r\nP2\n"},
    {"no preamble", MIXED "--b\r\n" PDF "P\r\n--b--\r\n", "application/pdf||P\n"},
    {"two in a row",
     MIXED "--b\r\n" PDF "P\r\n--b\r\nContent-Type: image/PNG\r\n\r\nI\r\n--b--\r\n",
     "application/pdf||P\nimage/png||I\n"},
    {"blanks behind the boundary", MIXED "--b \t \r\n" PDF "P\r\n--b-- \t\r\nx\r\n",
     "application/pdf||P\n"},
    {"not quite the boundary",
     MIXED "--b\r\n" PDF "P\r\n--bb\r\n--b-\r\n--b--x\r\n--b\n--b \r \r\n -b\r\n--\r\n--b--\r\n",
     "application/pdf||P\r\n--bb\r\n--b-\r\n--b--x\r\n--b\n--b \r \r\n -b\r\n--\n"},
    {"bare ends of lines",
     MIXED "--b\r\n" PDF "P\n--b--\n\r--b--\r\r\n--b\r\r\n\n--b--\r\n\r\n--b--\r\n",
     "application/pdf||P\n--b--\n\r--b--\r\r\n--b\r\r\n\n--b--\r\n\n"},
    {"CR before the delimiter's CRLF", MIXED "--b\r\n" PDF "P\r\r\n--b--\r\n",
     "application/pdf||P\r\n"},
    {"empty content", MIXED "--b\r\n" PDF "--b\r\n" PDF "\r\n--b--\r\n",
     "application/pdf||\napplication/pdf||\n"},
    {"blank lines", MIXED "--b\r\n" PDF "\r\n\r\n\r\n--b--\r\n", "application/pdf||\r\n\r\n\n"},
    {"no header", MIXED "--b\r\n\r\nplain\r\n--b\r\n" PDF "P\r\n--b--\r\n", "application/pdf||P\n"},
    {"no blank line", MIXED "--b\r\nContent-Type: application/pdf\r\n--b\r\n" PDF "P\r\n--b--\r\n",
     "application/pdf||P\n"},
    {"delimiter behind delimiter",
     MIXED "--b\r\n--b\r\n--b\r\n" PDF "P\r\n--b--\r\n--b\r\n" PDF "Q\r\n", "application/pdf||P\n"},
    {"never closed", MIXED "--b\r\n" PDF "P\r\nQ\r\n", "application/pdf||P\r\nQ\r\n\n"},
    {"ends in a delimiter", MIXED "--b\r\n" PDF "P\r\n--b--", "application/pdf||P\n"},
    {"ends in an open delimiter", MIXED "--b\r\n" PDF "P\r\n--b", "application/pdf||P\n"},
    {"ends in half a one", MIXED "--b\r\n" PDF "P\r\n--b-", "application/pdf||P\r\n--b-\n"},
    {"ends in less", MIXED "--b\r\n" PDF "P\r\n-", "application/pdf||P\r\n-\n"},
    {"ends in CR", MIXED "--b\r\n" PDF "P\r\n--b\r", "application/pdf||P\r\n--b\r\n"},
    {"ends in a header", MIXED "--b\r\n" PDF "P\r\n--b\r\nContent-Type: image/png",
     "application/pdf||P\n"},
    {"nothing behind the header", MIXED "--b\r\n" PDF, "application/pdf||\n"},
    {"nested",
     MIXED "--b\r\nContent-Type: multipart/mixed; boundary=\"c d\"\r\n\r\n--c d\r\n" PDF
           "P\r\n--c d--\r\n--b\r\nContent-Type: image/png\r\n\r\nI\r\n--b--\r\n",
     "application/pdf||P\nimage/png||I\n"},
    {"inner never closed",
     MIXED "--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n" PDF "P\r\n--b\r\n" PDF
           "Q\r\n--c\r\n" PDF "R\r\n--b--\r\n",
     "application/pdf||P\napplication/pdf||Q\r\n--c\r\nContent-Type: application/pdf\r\n\r\nR\n"},
    {"inner begins the outer",
     "Content-Type: multipart/mixed; boundary=bcd\r\n\r\n--bcd\r\n"
     "Content-Type: multipart/mixed; boundary=bc\r\n\r\n--bc\r\n" PDF "P\r\n--bcd\r\n" PDF
     "Q\r\n--bcd--\r\n",
     "application/pdf||P\napplication/pdf||Q\n"},
    {"outer begins the inner",
     "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
     "Content-Type: multipart/mixed; boundary=b--\r\n\r\n--b--\r\n" PDF "P\r\n--b\r\n" PDF
     "Q\r\n--b--\r\n",
     "application/pdf||P\napplication/pdf||Q\n"},
    {"text as an attachment", MIXED "--b\r\nContent-Disposition: attachment\r\n\r\nT\r\n--b--\r\n",
     "text/plain||T\n"},
    {"text inline",
     MIXED "--b\r\nContent-Type: text/html\r\nContent-Disposition: inline; "
           "filename=a\r\n\r\nT\r\n--b--\r\n",
     ""},
    {"image inline",
     MIXED "--b\r\nContent-Type: image/gif\r\nContent-Disposition: inline; "
           "filename=a.gif\r\n\r\nG\r\n--b--\r\n",
     "image/gif|a.gif|G\n"},
    {"a message is not looked into",
     MIXED "--b\r\nContent-Type: message/rfc822\r\n\r\n" MIXED "--b\r\n" PDF "P\r\n--b--\r\n",
     "application/pdf||P\n"},
    {"a message is opaque",
     MIXED "--b\r\nContent-Type: message/rfc822\r\n\r\n"
           "Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n" PDF "P\r\n--c--\r\n--b--\r\n",
     ""},
    {"a message as an attachment",
     MIXED "--b\r\nContent-Type: message/rfc822\r\nContent-Disposition: ATTACHMENT\r\n\r\nS: "
           "x\r\n\r\n--b--\r\n",
     "message/rfc822||S: x\r\n\n"},
    {"digest",
     "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nS: "
     "x\r\n\r\n--b\r\nContent-Disposition: attachment\r\n\r\nS: y\r\n--b--\r\n",
     "message/rfc822||S: y\n"},
    {"a multipart's disposition",
     MIXED "--b\r\nContent-Type: multipart/mixed; boundary=c\r\nContent-Disposition: "
           "attachment\r\n\r\n--c\r\n" PDF "P\r\n--c--\r\n--b--\r\n",
     "application/pdf||P\n"},
    {"closed by halves", MIXED "--b\r\n" PDF "P\r\n--b-x\r\n--b-\t\r\n--b--\r\n",
     "application/pdf||P\r\n--b-x\r\n--b-\t\n"},
    {"bare LF in a header",
     MIXED "--b\r\nX: a\nContent-Type: application/pdf\r\n\r\nP\r\n--b--\r\n", ""},
    {"bare LF in a field", MIXED "--b\r\nContent-Type: application/pdf\n\r\n\r\nP\r\n--b--\r\n",
     ""},
    {"bare LF for a blank line", MIXED "--b\r\nContent-Type: application/pdf\r\n\nP\r\n--b--\r\n",
     ""},
    {"folded blank line", MIXED "--b\r\nContent-Type: application/pdf\r\n \r\n\r\nP\r\n--b--\r\n",
     "application/pdf||P\n"},
    {"first line folded", MIXED "--b\r\n Content-Type: application/pdf\r\n\r\nP\r\n--b--\r\n", ""},
    {"delimiter folded into a header",
     MIXED "--b\r\nContent-Type: application/pdf\r\n --b\r\n\r\nP\r\n--b--\r\n", ""},
    {"type twice",
     MIXED
     "--b\r\nContent-Type: application/pdf\r\nCONTENT-TYPE: application/pdf\r\n\r\nP\r\n--b--\r\n",
     ""},
    {"disposition twice",
     MIXED "--b\r\nContent-Disposition: attachment\r\nContent-Disposition: "
           "attachment\r\n\r\nP\r\n--b--\r\n",
     ""},
    {"root type twice", "Content-Type: text/plain\r\n" MIXED "--b\r\n" PDF "P\r\n--b--\r\n", ""},
    {"malformed type",
     MIXED "--b\r\nContent-Type: pdf\r\nContent-Disposition: attachment\r\n\r\nP\r\n--b--\r\n", ""},
    {"not a field", MIXED "--b\r\nhello\r\nContent-Type: application/pdf\r\n\r\nP\r\n--b--\r\n",
     ""},
    {"blank before the colon", MIXED "--b\r\nContent-Type : application/pdf\r\n\r\nP\r\n--b--\r\n",
     ""},
    {"no boundary", "Content-Type: multipart/mixed\r\n\r\n--\r\n" PDF "P\r\n----\r\n", ""},
    {"empty boundary",
     "Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n" PDF "P\r\n----\r\n", ""},
    {"two boundaries",
     "Content-Type: multipart/mixed; boundary=b; boundary=b\r\n\r\n--b\r\n" PDF "P\r\n--b--\r\n",
     ""},
    {"boundary ends in a blank",
     "Content-Type: multipart/mixed; boundary=\"b \"\r\n\r\n--b \r\n" PDF "P\r\n--b --\r\n", ""},
    {"boundary or comment",
     "Content-Type: multipart/mixed; boundary=b(c)\r\n\r\n--b(c)\r\n" PDF "P\r\n--b(c)--\r\n", ""},
    {"boundary, then a mess",
     "Content-Type: multipart/mixed; boundary=b; x y\r\n\r\n--b\r\n" PDF "P\r\n--b--\r\n", ""},
    {"boundary in RFC 2231",
     "Content-Type: multipart/mixed; boundary*0=b\r\n\r\n--b\r\n" PDF "P\r\n--b--\r\n", ""},
    {"folds and comments",
     "content-type: (a (b) \\) c) Multipart/Mixed;\r\n\tcharset=x ;\r\n boundary = \"b\\c\" "
     "(d);\r\n\r\n--bc\r\n" PDF "P\r\n--bc--\r\n",
     "application/pdf||P\n"},
    {"bare boundary with =",
     "Content-Type: multipart/mixed; boundary=----=_P.1\r\n\r\n------=_P.1\r\n" PDF
     "P\r\n------=_P.1--\r\n",
     "application/pdf||P\n"},
    {"70 characters",
     "Content-Type: multipart/mixed; "
     "boundary=1234567890123456789012345678901234567890123456789012345678901234567890\r\n\r\n"
     "--1234567890123456789012345678901234567890123456789012345678901234567890\r\n" PDF "P\r\n"
     "--1234567890123456789012345678901234567890123456789012345678901234567890--\r\n",
     "application/pdf||P\n"},
    {"71 characters",
     "Content-Type: multipart/mixed; "
     "boundary=12345678901234567890123456789012345678901234567890123456789012345678901\r\n\r\n"
     "--12345678901234567890123456789012345678901234567890123456789012345678901\r\n" PDF "P\r\n",
     ""},
    {"name", MIXED "--b\r\nContent-Type: application/pdf; name=t.pdf\r\n\r\nP\r\n--b--\r\n",
     "application/pdf|t.pdf|P\n"},
    {"file name wins",
     MIXED "--b\r\nContent-Disposition: attachment; filename=d.pdf\r\nContent-Type: "
           "application/pdf; name=t.pdf\r\n\r\nP\r\n--b--\r\n",
     "application/pdf|d.pdf|P\n"},
    {"unquoted blanks in a name",
     MIXED "--b\r\nContent-Type: application/pdf; name=my file.pdf\r\n\r\nP\r\n--b--\r\n",
     "application/pdf||P\n"},
    {"padding without end",
     MIXED
     "--b\r\n" PDF
     "P\r\n--b                                                                          "
     "                                                                                            "
     "                                                                                            "
     "x\r\n--b--\r\n",
     "application/pdf||P\r\n--b                                                                    "
     "      "
     "                                                                                            "
     "                                                                                            "
     "x\n"},
};

static void list(const struct pieces *p, char *out, size_t cap)
{
    size_t at = 0;

    out[0] = '\0';
    for (size_t i = 0; i < p->count; i++) {
        const struct piece *a = &p->list[i];
        const int n = snprintf(out + at, cap - at, "%s|%s|%.*s\n", a->type, a->name, (int)a->len,
                               (const char *)p->bytes + a->from);
        assert_true(n > 0 && (size_t)n < cap - at);
        at += (size_t)n;
    }
}

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pieces p;
        char got[4096];
        pieces_init(&p);
        cut_every_way(cases[i].message, strlen(cases[i].message), &p);
        list(&p, got, sizeof got);
        if (strcmp(got, cases[i].expect) != 0)
            fail_msg("%s: got \"%s\", not \"%s\"", cases[i].what, got, cases[i].expect);
        pieces_free(&p);
    }
}

/* ---- file names ---- */

static const struct {
    const char *field;
    const char *name;
} names[] = {
    {"attachment; filename=\"a b.txt\"", "a b.txt"},
    {"attachment; FileName=a.txt;", "a.txt"},
    {"attachment; filename=\"a\\\"b\"", "a\"b"},
    {"attachment; filename=foo(1).pdf", "foo(1).pdf"},
    {"attachment; filename=\"../../etc/passwd\"", "passwd"},
    {"attachment; filename=\"C:\\\\temp\\\\x.doc\"", "x.doc"},
    {"attachment; filename=\"..\"", ""},
    {"attachment; filename=\"/\"", ""},
    {"attachment; filename=\" a\r\n\tb \"", "a b"},
    {"attachment; filename=\"a\x01\"", NULL},
    {"attachment; filename=a; filename=b", ""},
    {"attachment; filename=\"gr\xc3\xbc\xc3\x9f\"", "gr\xc3\xbc\xc3\x9f"},
    {"attachment; filename=\"gr\xfc\xdf\"", ""},
    {"attachment; filename=\"\xe2\x80\xae"
     "fdp.exe\"",
     ""},
    {"attachment; filename*=UTF-8''%e2%82%ac%20rates", "\xe2\x82\xac rates"},
    {"attachment; filename=x; filename*=utf-8'en'%C3%BC", "\xc3\xbc"},
    {"attachment; filename=x; filename*=koi8-r''%C3", "x"},
    {"attachment; filename*=iso-8859-1''%fc%E9", "\xc3\xbc\xc3\xa9"},
    {"attachment; filename*=windows-1252''%80%99", "\xe2\x82\xac\xe2\x84\xa2"},
    {"attachment; filename*=windows-1252''%81", ""},
    {"attachment; filename*=iso-8859-1''%85", ""},
    {"attachment; filename*=us-ascii''%e9", ""},
    {"attachment; filename*=''abc", "abc"},
    {"attachment; filename*=UTF-8''%2e%2e%2fx", "x"},
    {"attachment; filename*=UTF-8''a%00b", ""},
    {"attachment; filename*=UTF-8''%c3", ""},
    {"attachment; filename*=UTF-8''%", ""},
    {"attachment; filename*=UTF-8''%4", ""},
    {"attachment; filename*=UTF-8''%zz", ""},
    {"attachment; filename*=UTF-8", ""},
    {"attachment; filename*=UTF-8''%ed%a0%80", ""},
    {"attachment; filename*0=\"long \"; filename*1=name", "long name"},
    {"attachment; filename*1=b; filename*0=a; filename*2=c", "abc"},
    {"attachment; filename*0*=utf-8''%e2%82; filename*1*=%ac; filename*2=\"%ac\"",
     "\xe2\x82\xac%ac"},
    {"attachment; filename*0=a; filename*2=c", ""},
    {"attachment; filename*1=a", ""},
    {"attachment; filename*00=a", ""},
    {"attachment; filename*0=a; filename*0=b", ""},
    {"attachment; filename*64=a", ""},
    {"attachment; filename*99999999999999999999=a", ""},
    {"attachment; filename*0x=a", ""},
    {"attachment; filename=\"=?UTF-8?B?4oKsLnR4dA==?=\"", "\xe2\x82\xac.txt"},
    {"attachment; filename=\"=?utf-8*en?q?a_=E2=82=AC?=\"", "a \xe2\x82\xac"},
    {"attachment; filename==?iso-8859-1?Q?=FC?=", "\xc3\xbc"},
    {"attachment; filename=\"=?utf-8?q?a?= \r\n =?utf-8?q?b?= c\"", "ab c"},
    {"attachment; filename=\"=?utf-8?B?4oI=?= =?utf-8?B?rA==?=\"", "\xe2\x82\xac"},
    {"attachment; filename=\"=?shift_jis?B?4oI=?=\"", ""},
    {"attachment; filename=\"=?utf-8?B?4*I=?=\"", ""},
    {"attachment; filename=\"=?utf-8?B?A?=\"", ""},
    {"attachment; filename=\"=?utf-8?q?=0?=\"", ""},
    {"attachment; filename=\"=?utf-8?x?a?=\"", "=?utf-8?x?a?="},
    {"attachment; filename=\"=?utf-8?q?a\"", "=?utf-8?q?a"},
    {"attachment; filename=\"=?utf-8?q?a/b?=\"", "b"},
    {"attachment; filename=\"open", ""},
    {"attachment; filename", ""},
    {"attachment; filename=", ""},
    {"attachment; =x", ""},
    {"attachment; filename=a (open", ""},
    {"attachment; filenames=x; filename*x", ""},
};

static void test_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct pieces p;
        char message[1024];
        pieces_init(&p);
        const int n =
            snprintf(message, sizeof message,
                     MIXED "--b\r\nContent-Disposition: %s\r\n\r\nA\r\n--b--\r\n", names[i].field);
        cut_every_way(message, (size_t)n, &p);
        assert_int_equal(p.count, names[i].name != NULL);
        if (p.count == 1 && strcmp(p.list[0].name, names[i].name) != 0)
            fail_msg("%s: got \"%s\", not \"%s\"", names[i].field, p.list[0].name, names[i].name);
        pieces_free(&p);
    }
}

/* ---- limits ---- */

struct text {
    char *at;
    size_t len;
};

static void add(struct text *t, const char *s)
{
    const size_t n = strlen(s);

    assert_true(t->len + n < MAX_MESSAGE);
    memcpy(t->at + t->len, s, n + 1);
    t->len += n;
}

static void add_many(struct text *t, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        add(t, s);
}

static struct text text_new(void)
{
    const struct text t = {malloc(MAX_MESSAGE), 0};

    assert_non_null(t.at);
    return t;
}

static void expect_count(struct text *t, size_t count)
{
    struct pieces p;

    pieces_init(&p);
    cut_every_way(t->at, t->len, &p);
    assert_int_equal(p.count, count);
    pieces_free(&p);
    free(t->at);
}

static void test_many_attachments(void **state)
{
    struct text t = text_new();

    (void)state;
    add(&t, MIXED);
    add_many(&t, "--b\r\nContent-Type: a/b\r\n\r\nP\r\n", CUTTER_MAX_ATTACHMENTS + 10);
    expect_count(&t, CUTTER_MAX_ATTACHMENTS);
}

static void test_names_in_all(void **state)
{
    struct text t = text_new();

    (void)state;
    add(&t, MIXED);
    for (size_t i = 0; i < 10; i++) { /* 1,003 bytes each: eight fit into 8 KiB */
        add(&t, "--b\r\nContent-Type: a/b; name=\"");
        add_many(&t, "x", 1000);
        add(&t, "\"\r\n\r\nP\r\n");
    }
    expect_count(&t, 8);
    t = text_new();
    add(&t, MIXED "--b\r\nContent-Type: a/b; name=\""); /* a name over 1,024 bytes is left out */
    add_many(&t, "x", 1025);
    add(&t, "\"\r\n\r\nP\r\n");
    struct pieces p;
    pieces_init(&p);
    cut_every_way(t.at, t.len, &p);
    assert_int_equal(p.count, 1);
    assert_string_equal(p.list[0].name, "");
    pieces_free(&p);
    free(t.at);
}

static void test_depth(void **state)
{
    (void)state;
    for (size_t depth = CUTTER_MAX_DEPTH; depth <= CUTTER_MAX_DEPTH + 1; depth++) {
        struct text t = text_new();
        for (size_t i = 0; i < depth; i++) {
            char header[96];
            snprintf(header, sizeof header,
                     "Content-Type: multipart/mixed; boundary=b%zu\r\n\r\n--b%zu\r\n", i, i);
            add(&t, header);
        }
        add(&t, PDF "P\r\n--b3\r\n" PDF "Q\r\n--b0--\r\n");
        /* One too deep, and what it holds is body, while its elders go on. */
        expect_count(&t, depth == CUTTER_MAX_DEPTH ? 2 : 1);
    }
}

static void test_long_fields(void **state)
{
    struct text t = text_new();

    (void)state;
    add(&t, MIXED "--b\r\nContent-Type: application/pdf;");
    add_many(&t, "\r\n x=y;", 1000); /* over 4 KiB of it: in doubt */
    add(&t, "\r\n\r\nP\r\n--b\r\nX-Long: ");
    add_many(&t, "\r\n x=y;", 1000); /* not of interest: as long as it likes */
    add(&t, "\r\n" PDF "P\r\n--b\r\nX-Longer: ");
    add_many(&t, "--b\r", 2000); /* one line, no delimiter */
    add(&t, "\r\n" PDF "P\r\n--b--\r\n");
    expect_count(&t, 2);
}

static void test_binary(void **state)
{
    struct text t = text_new();
    struct pieces p;

    (void)state;
    add(&t, MIXED "--b\r\n" PDF);
    const size_t from = t.len;
    add_many(&t, "0123456789\r\n--b -\r\n\n-\r\r\n--", 3000);
    for (size_t i = from; i < t.len; i += 7)
        t.at[i] = (char)rand();
    add(&t, "\r\n--b--\r\n");
    pieces_init(&p);
    cut_every_way(t.at, t.len, &p);
    assert_int_equal(p.count, 1);
    pieces_free(&p);
    free(t.at);
}

/* Bytes that cannot be a delimiter are handed on at once, in one piece, and not copied. */
struct direct {
    const uint8_t *at;
    size_t len;
    size_t calls;
};

static enum sp_err direct_body(void *ctx, const uint8_t *bytes, size_t len)
{
    (void)ctx;
    (void)bytes;
    (void)len;
    return SP_OK;
}

static enum sp_err direct_attachment(void *ctx, uint64_t splice_at, const char *media_type,
                                     size_t media_len, const char *file_name, size_t name_len)
{
    (void)ctx;
    (void)splice_at;
    (void)media_type;
    (void)media_len;
    (void)file_name;
    (void)name_len;
    return SP_OK;
}

static enum sp_err direct_bytes(void *ctx, const uint8_t *bytes, size_t len)
{
    struct direct *d = ctx;

    if (len > d->len) {
        d->at = bytes;
        d->len = len;
    }
    d->calls++;
    return SP_OK;
}

static enum sp_err direct_end(void *ctx)
{
    (void)ctx;
    return SP_OK;
}

static void test_zero_copy(void **state)
{
    static const struct cutter_sink direct_sink = {direct_body, direct_attachment, direct_bytes,
                                                   direct_end};
    static uint8_t block[16384];
    struct direct d = {0};
    struct cutter *c = malloc(cutter_size());

    (void)state;
    assert_non_null(c);
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = i % 78 == 76 ? '\r' : i % 78 == 77 ? '\n' : 'A';
    cutter_init(c, &direct_sink, &d);
    const char *head = MIXED "--b\r\n" PDF;
    assert_int_equal(cutter_push(c, (const uint8_t *)head, strlen(head)), SP_OK);
    assert_int_equal(cutter_push(c, block, sizeof block), SP_OK);
    assert_true(d.at >= block && d.at < block + 8);
    assert_true(d.len >= sizeof block - 8);
    assert_true(d.calls <= 2);
    assert_true(cutter_size() <= 12u * 1024u);
    free(c);
}

static void test_sink_fails(void **state)
{
    const char *message = MIXED "--b\r\n" PDF "P\r\n--b--\r\n";
    struct pieces p;
    struct cutter *c = malloc(cutter_size());

    (void)state;
    assert_non_null(c);
    pieces_init(&p);
    p.fail_bytes = SP_ERR_NO_SPACE;
    cutter_init(c, &sink, &p);
    assert_int_equal(cutter_push(c, (const uint8_t *)message, strlen(message)), SP_ERR_NO_SPACE);
    assert_int_equal(cutter_push(c, (const uint8_t *)"x", 1), SP_ERR_NO_SPACE);
    assert_int_equal(cutter_finish(c), SP_ERR_NO_SPACE);
    assert_true(p.open); /* nothing was called after the error */
    pieces_free(&p);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_many_attachments),
        cmocka_unit_test(test_names_in_all),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_long_fields),
        cmocka_unit_test(test_binary),
        cmocka_unit_test(test_zero_copy),
        cmocka_unit_test(test_sink_fails),
    };

    srand(1);
    return cmocka_run_group_tests_name("cutter", tests, NULL, NULL);
}
