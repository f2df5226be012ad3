#ifndef SEALPOST_ERROR_H
#define SEALPOST_ERROR_H
/* The one set of results that every fallible function of the project returns. */

enum sp_err {
    SP_OK = 0,
    SP_ERR_FORMAT,    /* bytes that do not follow their format */
    SP_ERR_LIMIT,     /* well formed, but over a stated limit */
    SP_ERR_AUTH,      /* a tag, hash, signature, commitment or token does not verify */
    SP_ERR_DENIED,    /* not allowed to this caller, or not now */
    SP_ERR_NOT_FOUND, /* no such thing */
    SP_ERR_EXISTS,    /* it is there already */
    SP_ERR_EXPIRED,   /* it was there, its time is over */
    SP_ERR_NO_KEY,    /* the user has no PUK yet */
    SP_ERR_NO_SPACE,  /* disk, map or pool is full; trying later may help */
    SP_ERR_MEMORY,    /* memory could not be had, or not be locked */
    SP_ERR_CRYPTO,    /* a cryptographic library refused to work */
    SP_ERR_SYSTEM,    /* a system call failed; errno tells why */
    SP_ERR_PEER,      /* the other side is gone, or broke the protocol */
    SP_ERR_STATE,     /* called in the wrong order */
    SP_ERR_CONFIG,    /* a setting is missing or wrong */
    SP_ERR_COUNT
};

/* A few lower-case English words for err, never NULL. */
const char *sp_err_text(enum sp_err err);

#endif
