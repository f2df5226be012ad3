#ifndef SEALPOST_MIMEPART_H
#define SEALPOST_MIMEPART_H
/*
 * What the header of one MIME part says about it, as far as cutting needs it (FORMAT.md section 4).
 * Whatever is in doubt makes a part of the body. Plain struct; it holds plaintext.
 */
#include "envelope/mimeparam.h"

#define MIMEPART_MAX_TYPE     255u
#define MIMEPART_MAX_NAME     1024u
#define MIMEPART_MAX_BOUNDARY 70u /* RFC 2046 5.1.1 */

enum mimepart_kind {
    MIMEPART_BODY,       /* stays in the body: text, message, or in doubt */
    MIMEPART_ATTACHMENT, /* becomes an attachment, if the limits allow it */
    MIMEPART_MULTIPART,  /* is looked into: boundary is good */
};

struct mimepart {
    bool doubt; /* malformed, or two of a field: nothing of it is believed */
    bool has_type;
    bool has_disposition;
    bool attachment;              /* Content-Disposition: attachment */
    char type[MIMEPART_MAX_TYPE]; /* lower case */
    size_t type_len;
    uint8_t boundary[MIMEPART_MAX_BOUNDARY];
    size_t boundary_len;               /* 0: none, or in doubt */
    char type_name[MIMEPART_MAX_NAME]; /* name= of Content-Type */
    size_t type_name_len;
    char disposition_name[MIMEPART_MAX_NAME]; /* filename= of Content-Disposition */
    size_t disposition_name_len;
};

/* digest: the part stands in a multipart/digest, where message/rfc822 is the default (RFC
 * 2046 5.1.5). */
void mimepart_init(struct mimepart *part, bool digest);

/* One header field with its CRLFs, the last included; it is written to. whole: all of it is there
 * (a field of interest that is not makes doubt). */
void mimepart_field(struct mimepart *part, uint8_t *field, size_t len, bool whole);

enum mimepart_kind mimepart_kind(const struct mimepart *part);
bool mimepart_is_digest(const struct mimepart *part);
/* Its file name, UTF-8, possibly empty. */
const char *mimepart_name(const struct mimepart *part, size_t *len);

#endif
