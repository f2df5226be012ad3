/* One question over the control socket, one answer. The appliance is trusted; its frames are
 * checked all the same, by the same rules as everywhere. */
#include "daemon/control/ctl.h"
#include "daemon/ipc.h"
#include "daemon/messages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_SECONDS 120 /* removing a large mailbox takes its time */
#define MAX_COLUMNS    64u
#define MAX_CELLS      10000000u

void answer_free(struct answer *a)
{
    for (size_t i = 0; i < a->table.rows * a->table.columns; i++)
        free(a->table.cell[i]);
    free(a->table.cell);
    free(a->message);
    *a = (struct answer){0};
}

static int connect_to(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = ANSWER_SECONDS};
    if (strlen(path) >= sizeof(to.sun_path)) {
        fprintf(stderr, "sealpostctl: %s: too long for a socket's path\n", path);
        return -1;
    }
    memcpy(to.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0 &&
        connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
        return fd;
    fprintf(stderr, "sealpostctl: %s: %s; is sealpostd running, and is this its owner?\n", path,
            strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

static enum sp_err send_request(int fd, char **args, size_t n)
{
    static uint8_t buf[IPC_MAX_PAYLOAD];
    struct wire_out body = wire_out(buf, sizeof(buf));
    wire_put_u16(&body, (uint16_t)n);
    for (size_t i = 0; i < n; i++)
        wire_put_str(&body, args[i]);
    if (!wire_out_ok(&body))
        return SP_ERR_LIMIT;
    return ipc_send_fd(fd, CC_REQUEST, 0, body.at, body.len, -1);
}

static char *take_text(struct wire_in *in)
{
    size_t len;
    const uint8_t *text = wire_get_b16(in, UINT16_MAX, &len);
    return text != NULL ? strndup((const char *)text, len) : NULL;
}

static enum sp_err take_rows(struct table *t, struct wire_in *in, size_t columns, size_t rows)
{
    if (columns > MAX_COLUMNS || (t->rows > 0 && columns != t->columns) ||
        rows * columns > MAX_CELLS || (t->rows + rows) * columns > MAX_CELLS)
        return SP_ERR_LIMIT;
    size_t have = t->rows * t->columns, want = have + rows * columns;
    char **cells = realloc(t->cell, (want + 1) * sizeof(*cells));
    if (cells == NULL)
        return SP_ERR_MEMORY;
    t->cell = cells;
    for (size_t i = have; i < want; i++)
        if ((cells[i] = take_text(in)) == NULL) {
            while (i-- > have)
                free(cells[i]);
            return SP_ERR_FORMAT;
        }
    t->columns = columns;
    t->rows += rows;
    return SP_OK;
}

/* *last: no frame follows. */
static enum sp_err take_frame(struct answer *a, struct ipc_frame *f, bool *last)
{
    *last = f->flags & CC_LAST;
    if (f->type != CC_TABLE || f->fd >= 0)
        return SP_ERR_FORMAT;
    a->status = (enum sp_err)wire_get_u8(&f->body);
    free(a->message);
    a->message = take_text(&f->body);
    if (a->message == NULL)
        return SP_ERR_FORMAT;
    if (f->body.left == 0)
        return SP_OK; /* a refusal has no table */
    size_t columns = wire_get_u16(&f->body), rows = wire_get_u32(&f->body);
    enum sp_err err = take_rows(&a->table, &f->body, columns, rows);
    return err == SP_OK && !wire_in_done(&f->body) ? SP_ERR_FORMAT : err;
}

enum sp_err ctl_ask(const char *socket_path, uint16_t service, char **args, size_t n_args,
                    struct answer *out)
{
    static uint8_t buf[IPC_HEADER + IPC_MAX_PAYLOAD];
    bool last = false;
    *out = (struct answer){0};
    int fd = connect_to(socket_path);
    if (fd < 0)
        return SP_ERR_PEER;
    enum sp_err err = ipc_send_fd(fd, service, 0, NULL, 0, -1);
    if (err == SP_OK && service == CC_STORE)
        err = send_request(fd, args, n_args);
    while (err == SP_OK && !last) {
        struct ipc_frame frame;
        err = ipc_recv(fd, buf, sizeof(buf), &frame);
        if (err == SP_OK)
            err = take_frame(out, &frame, &last);
        if (frame.fd >= 0)
            close(frame.fd);
    }
    close(fd);
    if (err != SP_OK) {
        fprintf(stderr, "sealpostctl: no good answer: %s\n",
                err == SP_ERR_STATE ? "none came in time" : sp_err_text(err));
        answer_free(out);
    }
    return err;
}
