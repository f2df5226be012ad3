#ifndef SEALPOST_RELAY_DKIM_H
#define SEALPOST_RELAY_DKIM_H
/*
 * Signing with DKIM (RFC 6376; Ed25519: RFC 8463): the message streams through once, what the
 * signature is over is collected, the keeper signs a hash, the field is written. And what else must
 * be known of a message before it goes out, found on the same way.
 *
 *     dkim_begin, dkim_push ..., dkim_end, then facts, dkim_from, and for each key
 *     dkim_hash (for either algorithm, if it is the signer who knows which) and dkim_field
 *
 * Signed: From (and once more, so that none can be added), Sender, To, Cc, Subject, Date,
 * Message-ID, In-Reply-To, References, MIME-Version, Content-Type, Content-Transfer-Encoding,
 * Reply-To, List-*. All instances, from the last up. They may take DKIM_FIELDS bytes as they stand
 * and be DKIM_COUNT. A message with more goes unsigned (SP_ERR_LIMIT): to sign a part would let the
 * rest be exchanged.
 */
#include "daemon/relay/canon.h"
#include "daemon/relay/from.h"
#include "daemon/relay/octets.h"
#include "envelope/error.h"

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DKIM_FIELDS (32u * 1024u)
#define DKIM_COUNT  64u
#define DKIM_MAX    4096u /* bytes of a finished field */
#define DKIM_HASH   32u
#define DKIM_NAME   64u /* octets of a field name that is looked at: no longer one is signed */

/* As KD_DKIM_REPLY has it. */
enum dkim_algorithm { DKIM_RSA_SHA256 = 1, DKIM_ED25519_SHA256 = 2 };

struct dkim_facts {
    uint64_t size;        /* bytes of the message */
    uint64_t header_size; /* with the blank line */
    bool eight_bit;       /* octets above 127 anywhere */
    bool header_utf8;     /* ... in the header: needs SMTPUTF8 */
    bool bare;            /* a CR or LF that stands alone: must not be sent (SMTP smuggling) */
    bool nul;             /* likewise */
    bool malformed;       /* the header has a line that is no field; it is taken to end there */
    bool unfinished;      /* the last line lacks its CRLF (the dialog adds it) */
    bool too_large;       /* the fields to be signed do not fit */
    unsigned from;        /* From fields; 1 is right */
    unsigned sender;      /* Sender fields; 1 at most */
};

struct dkim {
    struct dkim_facts facts;

    /* inner state */
    struct canon_body body;
    EVP_MD_CTX *sha;
    bool failed, ended;
    uint8_t body_hash[DKIM_HASH];
    struct octets octets;
    bool unsigned_body;
    int state;                    /* enum of dkim.c: where in the header, or the body */
    bool keep;                    /* the field that is being read is one to be signed */
    size_t name_len, used, field; /* used: of fields; field: where the one being read begins */
    size_t most;                  /* used, at most */
    size_t count;
    struct {
        uint16_t at, len; /* in fields: canonical, without CRLF */
    } kept[DKIM_COUNT];
    char name[DKIM_NAME];
    char from[FROM_MAX]; /* empty: not understood */
    char sender[FROM_MAX];
    char fields[DKIM_FIELDS]; /* last; of the mail: the struct belongs into locked memory */
};

/* SP_ERR_CRYPTO, SP_ERR_MEMORY. dkim_free wipes; safe on a zeroed struct, and twice. */
enum sp_err dkim_begin(struct dkim *k);
void dkim_free(struct dkim *k);
/* Behind dkim_begin: there will be no signature, so that the body need not be hashed. Then
 * dkim_hash returns SP_ERR_STATE. */
void dkim_skip_body(struct dkim *k);
/* The message as it goes out, less Received: and DKIM-Signature: that are put in front; any cut. */
enum sp_err dkim_push(struct dkim *k, const void *bytes, size_t len);
enum sp_err dkim_end(struct dkim *k);

/* The one address of the one From field (from.h). SP_ERR_FORMAT: there is no From field or more
 * than one, it is not understood, or the header is malformed. */
enum sp_err dkim_from(const struct dkim *k, char out[FROM_MAX]);
/* The same of Sender, which some show beside From, or instead; SP_ERR_NOT_FOUND: there is none. */
enum sp_err dkim_sender(const struct dkim *k, char out[FROM_MAX]);

struct dkim_key {
    enum dkim_algorithm algorithm;
    const char *selector; /* s= */
    const char *domain;   /* d=: that of From, ASCII */
    uint64_t time_s;      /* t=: seconds since 1970 */
};

/* The hash that is to be signed: rsa-sha256 is PKCS#1 v1.5 over this SHA-256 hash, ed25519-sha256
 * is Ed25519 over the 32 bytes. SP_ERR_LIMIT: too_large; SP_ERR_FORMAT: not one From, a malformed
 * header, or selector or domain are not ASCII names; SP_ERR_STATE: not ended. */
enum sp_err dkim_hash(const struct dkim *k, const struct dkim_key *key, uint8_t hash[DKIM_HASH]);
/* "DKIM-Signature: ...\r\n" with the signature in it, folded; *out_len bytes without NUL. key as
 * for dkim_hash. */
enum sp_err dkim_field(const struct dkim *k, const struct dkim_key *key, const uint8_t *signature,
                       size_t signature_len, char *out, size_t cap, size_t *out_len);

#endif
