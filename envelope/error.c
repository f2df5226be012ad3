/* Words for the project's results. Trusted by all, knows nothing. */
#include "envelope/error.h"

static const char *const texts[SP_ERR_COUNT] = {
    [SP_OK] = "done",
    [SP_ERR_FORMAT] = "malformed",
    [SP_ERR_LIMIT] = "over a limit",
    [SP_ERR_AUTH] = "does not verify",
    [SP_ERR_DENIED] = "not allowed",
    [SP_ERR_NOT_FOUND] = "not found",
    [SP_ERR_EXISTS] = "exists already",
    [SP_ERR_EXPIRED] = "expired",
    [SP_ERR_NO_KEY] = "user has no key",
    [SP_ERR_NO_SPACE] = "no space",
    [SP_ERR_MEMORY] = "no memory, or it cannot be locked",
    [SP_ERR_CRYPTO] = "cryptographic library failed",
    [SP_ERR_SYSTEM] = "system call failed",
    [SP_ERR_PEER] = "peer is gone or broke the protocol",
    [SP_ERR_STATE] = "called out of order",
    [SP_ERR_CONFIG] = "setting missing or wrong",
};

const char *sp_err_text(enum sp_err err)
{
    return (unsigned)err < SP_ERR_COUNT ? texts[err] : "unknown error";
}
