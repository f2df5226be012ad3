/*
 * What the load generator sends. Made once, in a memfd, from where sendfile() puts it on the wire
 * without copying. Nothing here is secret or trusted.
 */
#include "bench/load.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/types.h>
#include <unistd.h>

#define ATTACHMENT_FROM (16u * 1024u) /* larger messages carry one */
#define BASE64_LINE     57u           /* bytes in a line of 76 characters (RFC 2045 section 6.8) */

static const char text_header[] = "Content-Type: text/plain; charset=us-ascii\r\n"
                                  "\r\n";
static const char parts_header[] = "Content-Type: multipart/mixed; boundary=\"bench-0f3a\"\r\n"
                                   "\r\n"
                                   "--bench-0f3a\r\n"
                                   "Content-Type: text/plain; charset=us-ascii\r\n"
                                   "\r\n"
                                   "The figures of the quarter are attached.\r\n"
                                   "--bench-0f3a\r\n"
                                   "Content-Type: application/octet-stream\r\n"
                                   "Content-Disposition: attachment; filename=\"figures.bin\"\r\n"
                                   "Content-Transfer-Encoding: base64\r\n"
                                   "\r\n";
static const char parts_end[] = "--bench-0f3a--\r\n";
static const char common_header[] =
    "Received: from mx2.example.net (mx2.example.net [192.0.2.17])\r\n"
    "\tby relay.example.net (Postfix) with ESMTPS id 4Zq1Yt0kXpz9sWb\r\n"
    "\tfor <someone@bench.example>; Mon,  1 Jun 2026 09:12:44 +0000 (UTC)\r\n"
    "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net; s=s1;\r\n"
    "\tt=1780305164; h=from:to:subject:date:message-id; bh=47DEQpj8HBSa+/TImW\r\n"
    "\t+5JCeuQeRkm5NMpJWZG3hSuFU=; b=c2lnbmF0dXJlIG9mIG5vYm9keSwgZm9yIHRoZSBz\r\n"
    "\taXplIGFsb25lLCBhcyBhIHJlYWwgbWVzc2FnZSBoYXMgb25l\r\n"
    "From: Ada Example <ada@example.net>\r\n"
    "To: Someone <someone@bench.example>\r\n"
    "Subject: The figures of the quarter\r\n"
    "MIME-Version: 1.0\r\n"
    "User-Agent: bench\r\n";
static const char line[] =
    "It was agreed that the figures be sent round before the end of the week.\r\n";

size_t load_message_head(char head[LOAD_HEAD_MAX], unsigned serial)
{
    int n = snprintf(head, LOAD_HEAD_MAX,
                     "Message-ID: <%010u.%010u@example.net>\r\n"
                     "Date: Mon, 1 Jun 2026 09:12:%02u +0000\r\n",
                     serial, (unsigned)getpid(), serial % 60);
    return n < 0 ? 0 : (size_t)n;
}

static void encode_line(const uint8_t in[BASE64_LINE], char out[79])
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    for (size_t i = 0; i < BASE64_LINE; i += 3) {
        uint32_t v = (uint32_t)in[i] << 16 | (uint32_t)in[i + 1] << 8 | in[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6) {
            out[n++] = digit[v >> shift & 63];
        }
    }
    out[n++] = '\r';
    out[n++] = '\n';
    out[n] = '\0';
}

/* Lines of text, or of base64, until the stream has end bytes; the last one is cut to fit. */
static enum sp_err fill(FILE *stream, size_t end, bool random)
{
    uint8_t bytes[BASE64_LINE] = {0};
    char encoded[79];
    long at = ftell(stream);
    while (at >= 0 && (size_t)at + 2 < end) {
        const char *text = line;
        if (random) {
            if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) {
                return SP_ERR_SYSTEM;
            }
            encode_line(bytes, encoded);
            text = encoded;
        }
        size_t room = end - (size_t)at - 2;
        size_t n = strlen(text) - 2;
        if (n > room) {
            n = random ? room & ~(size_t)3 : room;
        }
        if (fwrite(text, 1, n, stream) != n || fwrite("\r\n", 1, 2, stream) != 2) {
            return SP_ERR_SYSTEM;
        }
        if (n == 0) {
            break; /* fewer than four characters are missing: near enough */
        }
        at = ftell(stream);
    }
    return at < 0 ? SP_ERR_SYSTEM : SP_OK;
}

static enum sp_err write_message(FILE *stream, size_t size)
{
    char head[LOAD_HEAD_MAX];
    size_t head_len = load_message_head(head, 0);
    bool parts = size > ATTACHMENT_FROM;
    size_t end = size - (size < head_len ? size : head_len);
    if (parts) {
        end -= sizeof parts_end - 1;
    }
    if (fputs(common_header, stream) == EOF ||
        fputs(parts ? parts_header : text_header, stream) == EOF) {
        return SP_ERR_SYSTEM;
    }
    enum sp_err err = fill(stream, end, parts);
    if (err != SP_OK) {
        return err;
    }
    if ((parts && fputs(parts_end, stream) == EOF) || fputs(".\r\n", stream) == EOF) {
        return SP_ERR_SYSTEM;
    }
    return fflush(stream) == 0 ? SP_OK : SP_ERR_SYSTEM;
}

enum sp_err load_message_make(size_t size, struct load_message *out)
{
    enum sp_err err = SP_ERR_SYSTEM;
    FILE *stream = NULL;
    *out = (struct load_message){.fd = memfd_create("message", MFD_CLOEXEC)};
    if (out->fd < 0) {
        return SP_ERR_SYSTEM;
    }
    int copy = dup(out->fd);
    if (copy < 0 || (stream = fdopen(copy, "w")) == NULL) {
        goto out;
    }
    err = write_message(stream, size);
    if (err == SP_OK) {
        out->length = (size_t)ftell(stream);
    }
out:
    if (stream != NULL) {
        (void)fclose(stream);
    } else if (copy >= 0) {
        (void)close(copy);
    }
    return err;
}
