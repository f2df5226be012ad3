/* Everything that this server answers, and with which codes it refuses: docs/api.md as a table. */
#include "daemon/web/web.h"

#include "envelope/sigchain.h"

/* What follows fits the store's side of the edge (storage/edge_web.c): it ends the edge, and with
 * it the tree, when web sends it what it need not read. */

/* Without the right code there is one answer, 403, so that addresses cannot be tried; its holder
 * hears what became of it. */
static const struct outcome enroll[] = {
    {SP_ERR_AUTH, 403, "wrong address or code"},
    {SP_ERR_NOT_FOUND, 403, "wrong address or code"},
    {SP_ERR_EXPIRED, 410, "the code is over"},
    {SP_ERR_EXISTS, 409, "enrolled already"},
    {SP_ERR_FORMAT, 422, "the sigchain is refused"},
    {SP_ERR_STATE, 422, "the sigchain is refused"},
    {0, 0, NULL},
};

static const struct outcome login[] = {
    {SP_ERR_AUTH, 403, "login refused"},
    {SP_ERR_DENIED, 403, "login refused"},
    {0, 0, NULL},
};

static const struct outcome chain_add[] = {
    {SP_ERR_STATE, 409, "does not follow the newest link"},
    {SP_ERR_AUTH, 422, "the link is refused"},
    {SP_ERR_FORMAT, 422, "the link is refused"},
    {0, 0, NULL},
};

/* For people, thus in HTML (text NULL). Expired, revoked and unknown are not told apart. */
static const struct outcome link_page[] = {
    {SP_ERR_NOT_FOUND, 404, NULL}, {SP_ERR_NO_SPACE, 503, NULL}, {SP_ERR_MEMORY, 503, NULL},
    {SP_ERR_PEER, 503, NULL},      {SP_ERR_SYSTEM, 500, NULL},   {0, 0, NULL},
};

static const struct outcome link_gate[] = {
    {SP_ERR_AUTH, 403, "not this link's gate"},
    {0, 0, NULL},
};

/* No room is not a matter of waiting a moment. */
static const struct outcome upload[] = {
    {SP_ERR_STATE, 409, "not what is there"},
    {SP_ERR_LIMIT, 429, "more than one user may have under way"},
    {SP_ERR_NO_SPACE, 507, "no space is left"},
    {0, 0, NULL},
};

static const struct outcome put[] = {
    {SP_ERR_STATE, 409, "the offset is not what is there"},
    {SP_ERR_LIMIT, 413, "more than was announced, or than a form may hold"},
    {SP_ERR_NO_SPACE, 507, "no space is left"},
    {0, 0, NULL},
};

/* Like a login, by these words: 401 alone means that there is no session. */
static const struct outcome sending[] = {
    {SP_ERR_FORMAT, 422, "the form, or the mail, is refused"},
    {SP_ERR_NO_KEY, 422, "a secret is not sealed for this appliance"},
    {SP_ERR_AUTH, 403, "the sender is not this device"},
    {SP_ERR_DENIED, 403, "this sender's address is not yours"},
    {SP_ERR_STATE, 409, "a recipient has a newer key"},
    {SP_ERR_EXISTS, 409, "sent already"},
    {SP_ERR_NOT_FOUND, 404, "no such upload, or a recipient is gone"},
    {SP_ERR_LIMIT, 429, "more than one user may send a day"},
    {SP_ERR_CONFIG, 503, "this appliance sends no mail to the outside"},
    {0, 0, NULL},
};

static const struct outcome resolve[] = {
    {SP_ERR_NOT_FOUND, 404, "nobody has this address"},
    {SP_ERR_NO_KEY, 404, "this user has not enrolled yet"},
    {0, 0, NULL},
};

#define GET    EVHTTP_REQ_GET
#define PUT    EVHTTP_REQ_PUT
#define POST   EVHTTP_REQ_POST
#define DELETE EVHTTP_REQ_DELETE
#define TOKEN  NEEDS_TOKEN
#define GATE   NEEDS_GATE
#define PROOF  NEEDS_PROOF
#define PUBLIC NEEDS_NOTHING

#define LOGIN_BODY  (16u + 16u + 32u + 64u)
#define UPLOAD_BODY (2u + 256u * 8u)
#define REVOKE_BODY (2u + PARSE_MAX_ADDRESS)
#define ENROLL_BODY (2u + PARSE_MAX_ADDRESS + 2u + WEB_MAX_CODE + 4u + SIGCHAIN_MAX_WIRE)

static const struct route table[] = {
    {GET, "/healthz", PUBLIC, 0, 0, 0, start_health, NULL, NULL},
    {GET, "/m/{link}", PUBLIC, QUERY_MARKED, 0, SW_LINK_EXPOSED, start_link_page, finish_link_page,
     link_page},
    {GET, "/m/{link}", PUBLIC, QUERY_ANY, 0, SW_LINK_PAGE, start_link_page, finish_link_page,
     link_page},
    {GET, "/m/{exposed}", PUBLIC, QUERY_ANY, 0, SW_LINK_EXPOSED, start_link_page, finish_link_page,
     link_page},
    {GET, "/m/{other}", PUBLIC, QUERY_ANY, 0, 0, start_link_none, NULL, NULL},
    {GET, "/m/{link}/envelope", GATE, QUERY_ANY, 0, SW_LINK_ENVELOPE, start_parts,
     finish_link_envelope, link_gate},
    {GET, "/m/{link}/piece/{piece}", GATE, QUERY_ANY, 0, SW_LINK_PIECE, start_piece, finish_piece,
     link_gate},
    {GET, "/page/{build}/{asset}", PUBLIC, 0, 0, 0, start_asset, NULL, NULL},
    {GET, "/v1/info", PUBLIC, 0, 0, 0, start_info, NULL, NULL},
    {POST, "/v1/enroll", PROOF, 0, ENROLL_BODY, SW_ENROLL, start_enroll, finish_octets, enroll},
    {POST, "/v1/challenge", PUBLIC, 0, 0, SW_CHALLENGE, start_nothing, finish_octets, NULL},
    {POST, "/v1/session", PROOF, 0, LOGIN_BODY, SW_LOGIN, start_login, finish_octets, login},
    {DELETE, "/v1/session", TOKEN, 0, 0, SW_LOGOUT, start_nothing, finish_nothing, NULL},
    {GET, "/v1/sigchain/{address}", TOKEN, QUERY_AFTER, 0, SW_CHAIN_GET, start_chain_get,
     finish_chain_get, NULL},
    {GET, "/v1/sigchain/by-id/{id}", TOKEN, QUERY_AFTER, 0, SW_CHAIN_GET, start_chain_get,
     finish_chain_get, NULL},
    {POST, "/v1/sigchain", TOKEN, 0, SIGCHAIN_MAX_WIRE, SW_CHAIN_ADD, start_chain_add,
     finish_nothing, chain_add},
    {GET, "/v1/mailbox", TOKEN, QUERY_AFTER | QUERY_LIMIT, 0, SW_LIST, start_list, finish_list,
     NULL},
    {GET, "/v1/message/{id}", TOKEN, 0, 0, SW_MESSAGE, start_parts, finish_parts, NULL},
    {DELETE, "/v1/message/{id}", TOKEN, 0, 0, SW_DELETE, start_id, finish_nothing, NULL},
    {GET, "/v1/message/{id}/piece/{piece}", TOKEN, 0, 0, SW_PIECE, start_piece, finish_piece, NULL},
    {GET, "/v1/message/{id}/sent", TOKEN, 0, 0, SW_SENT, start_parts, finish_parts, NULL},
    {GET, "/v1/message/{id}/status", TOKEN, 0, 0, SW_DELIVERY_STATUS, start_id, finish_status,
     NULL},
    {POST, "/v1/message/{id}/revoke", TOKEN, 0, REVOKE_BODY, SW_REVOKE, start_revoke, finish_revoke,
     NULL},
    {GET, "/v1/keeper", PUBLIC, 0, 0, SW_KEEPER_KEY, start_nothing, finish_octets, NULL},
    {GET, "/v1/resolve/{address}", TOKEN, 0, 0, SW_RESOLVE, start_resolve, finish_resolve, resolve},
    {POST, "/v1/upload", TOKEN, 0, UPLOAD_BODY, SW_UPLOAD, start_upload, finish_octets, upload},
    {GET, "/v1/upload/{id}", TOKEN, 0, 0, SW_UPLOAD_STATE, start_id, finish_upload_state, NULL},
    {PUT, "/v1/upload/{id}/piece/{piece}", TOKEN, QUERY_OFFSET, WEB_MAX_PUT, SW_UPLOAD_PUT,
     start_put_piece, finish_put, put},
    {PUT, "/v1/upload/{id}/form", TOKEN, QUERY_OFFSET, WEB_MAX_PUT, SW_UPLOAD_PUT, start_put_form,
     finish_put, put},
    {DELETE, "/v1/upload/{id}", TOKEN, 0, 0, SW_UPLOAD_DROP, start_id, finish_nothing, NULL},
    {POST, "/v1/upload/{id}/send", TOKEN, 0, 0, SW_SEND, start_id, finish_octets, sending},
};

const struct route *route_at(size_t i)
{
    return i < sizeof(table) / sizeof(table[0]) ? &table[i] : NULL;
}
