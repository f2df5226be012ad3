/* Kinds of swap (swap.h): /proc/swaps names them, /sys says what they are made of. */
#include "daemon/control/swap.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define DEPTH 8 /* of devices that lie on devices */

/* The beginning of a file's first line; "": there is none. */
static void read_line(const char *block, const char *device, const char *name, char out[64])
{
    char path[PATH_MAX];
    out[0] = '\0';
    if (snprintf(path, sizeof(path), "%s/%s/%s", block, device, name) >= (int)sizeof(path))
        return;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    if (fgets(out, 64, file) == NULL)
        out[0] = '\0';
    fclose(file);
    out[strcspn(out, "\n")] = '\0';
}

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* Device mapper says by whom a device was made. cryptsetup makes some that encrypt nothing. */
static bool is_crypt(const char *uuid)
{
    static const char *const clear[] = {"CRYPT-VERITY", "CRYPT-INTEGRITY", "CRYPT-SUBDEV"};
    for (size_t i = 0; i < sizeof(clear) / sizeof(clear[0]); i++)
        if (begins(uuid, clear[i]))
            return false;
    return begins(uuid, "CRYPT-");
}

/* A device of device mapper that is dm-crypt, or has nothing but such devices below it. */
static bool is_encrypted(const char *block, const char *device, int depth)
{
    char uuid[64], path[PATH_MAX];
    read_line(block, device, "dm/uuid", uuid);
    if (is_crypt(uuid))
        return true;
    if (uuid[0] == '\0' || depth == 0 ||
        snprintf(path, sizeof(path), "%s/%s/slaves", block, device) >= (int)sizeof(path))
        return false;
    DIR *list = opendir(path);
    bool all = list != NULL;
    unsigned n = 0;
    for (const struct dirent *e; all && (e = readdir(list)) != NULL;)
        if (e->d_name[0] != '.') {
            all = is_encrypted(block, e->d_name, depth - 1);
            n++;
        }
    if (list != NULL)
        closedir(list);
    return all && n > 0;
}

static enum swap_kind device_kind(const char *block, const char *device)
{
    char text[64];
    if (begins(device, "zram")) {
        read_line(block, device, "disksize", text);
        if (text[0] == '\0')
            return SWAP_PLAIN;
        read_line(block, device, "backing_dev", text);
        return text[0] == '\0' || strcmp(text, "none") == 0 ? SWAP_ZRAM : SWAP_ZRAM_DISK;
    }
    return is_encrypted(block, device, DEPTH) ? SWAP_CRYPT : SWAP_PLAIN;
}

bool swap_next(const char **at, const char *block, struct swap *out)
{
    static const char heading[] = "Filename";
    char row[2 * SWAP_NAME], name[SWAP_NAME], type[16];
    while (**at != '\0') {
        const char *line = *at, *end = strchr(line, '\n');
        *at = end != NULL ? end + 1 : line + strlen(line);
        snprintf(row, sizeof(row), "%.*s", (int)strcspn(line, "\n"), line);
        if (begins(row, heading) || sscanf(row, "%255s %15s", name, type) != 2)
            continue;
        const char *slash = strrchr(name, '/');
        snprintf(out->name, sizeof(out->name), "%s", name);
        out->kind = SWAP_FILE;
        if (strcmp(type, "partition") == 0)
            out->kind = device_kind(block, slash != NULL ? slash + 1 : name);
        return true;
    }
    return false;
}
