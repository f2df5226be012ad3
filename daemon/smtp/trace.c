/* The trace header in front of each message (RFC 5321 4.4). What the client said is cleaned: it can
 * choose words, not structure. */
#include "daemon/date.h"
#include "daemon/smtp/session.h"

#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>

static void clean(const char *in, char *out, size_t cap)
{
    size_t n = 0;
    for (; *in != '\0' && n + 1 < cap; in++) {
        char c = *in;
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     strchr(".-_:[]", c) != NULL;
        out[n++] = plain ? c : '?';
    }
    out[n] = '\0';
}

/* RFC 3848, RFC 6531 4.3: how it came. */
static const char *protocol(const struct session *x)
{
    static const char *const words[2][2][2] = {{{"ESMTP", "ESMTPS"}, {"UTF8SMTP", "UTF8SMTPS"}},
                                               {{"LMTP", "LMTPS"}, {"UTF8LMTP", "UTF8LMTPS"}}};
    if (!x->lmtp && !x->extended)
        return x->stream.ssl != NULL ? "ESMTPS" : "SMTP";
    return words[x->lmtp][x->smtputf8][x->stream.ssl != NULL];
}

size_t trace_header(const struct session *x, char *out, size_t cap)
{
    char from[ADDRESS_MAX_TEXT], helo[256], date[DATE_MAX], tls[128] = "",
                                                            rcpt[ADDRESS_MAX_TEXT + 16] = "";
    if (address_write(&x->from, from, sizeof(from)) != SP_OK)
        from[0] = '\0';
    clean(x->helo, helo, sizeof(helo));
    date_mail(date_now_ms() / 1000, date, sizeof(date));
    if (x->stream.ssl != NULL)
        snprintf(tls, sizeof(tls), "\r\n\t(using %s with cipher %s)",
                 SSL_get_version(x->stream.ssl), SSL_get_cipher_name(x->stream.ssl));
    if (x->recipients == 1)
        snprintf(rcpt, sizeof(rcpt), "\r\n\tfor <%s>", x->first_rcpt);
    int n = snprintf(out, cap,
                     "Return-Path: <%s>\r\n"
                     "Received: from %s ([%s])%s\r\n\tby %s with %s id %x.%u%s;\r\n\t%s\r\n",
                     from, helo, x->client, tls, x->config->hostname, protocol(x), x->id,
                     x->messages + 1, rcpt, date);
    return n < 0 || (size_t)n >= cap ? 0 : (size_t)n;
}
