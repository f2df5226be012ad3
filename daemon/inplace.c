/* Looking at a file system (inplace.h). The kernel is asked, by the supervisor, once at start. */
#include "daemon/inplace.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define TEXT_MAX (1u << 20)

static const char elsewhere[] = "new bytes are written elsewhere and the old ones stay";
static const char unknown[] = "nothing is known of where it writes";

static const struct {
    uint32_t magic;
    const char *name, *why; /* why NULL: it holds */
} known[] = {
    {0xef53, "ext4", NULL}, /* and ext2, ext3: see journals_data() */
    {0x58465342, "xfs", NULL},
    {0x01021994, "tmpfs", NULL},
    {0x9123683e, "btrfs", elsewhere},
    {0x2fc12fc1, "zfs", elsewhere},
    {0x794c7630, "overlay", elsewhere},
    {0xf2f52010, "f2fs", elsewhere},
    {0xca451a4e, "bcachefs", elsewhere},
    {0x3434, "nilfs2", elsewhere},
};

/* All of a file of /proc, or NULL. The caller frees. */
static char *read_text(const char *path)
{
    size_t len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = fd >= 0 ? malloc(TEXT_MAX + 1) : NULL;
    ssize_t n = 0;
    while (text != NULL && len < TEXT_MAX && (n = read(fd, text + len, TEXT_MAX - len)) > 0)
        len += (size_t)n;
    if (fd >= 0)
        close(fd);
    if (text == NULL || n < 0) {
        free(text);
        return NULL;
    }
    text[len] = '\0';
    return text;
}

/* The next word of a line, cut to fit; false at the line's end. */
static bool next_word(const char **at, char *out, size_t cap)
{
    const char *start = *at + strspn(*at, " ");
    size_t len = strcspn(start, " \n"), n = len < cap - 1 ? len : cap - 1;
    memcpy(out, start, n);
    out[n] = '\0';
    *at = start + len;
    return len > 0;
}

/* proc_pid_mountinfo(5): "36 35 98:0 /root /mnt options [more ...] - type source super-options". */
static bool read_mount(const char *line, unsigned major, unsigned minor, struct inplace_mount *out)
{
    char word[64], want[32];
    snprintf(want, sizeof(want), "%u:%u", major, minor);
    for (int i = 0; i < 3; i++)
        if (!next_word(&line, word, sizeof(word)))
            return false;
    if (strcmp(word, want) != 0)
        return false;
    while (next_word(&line, word, sizeof(word)) && strcmp(word, "-") != 0)
        ;
    return next_word(&line, out->type, sizeof(out->type)) &&
           next_word(&line, out->source, sizeof(out->source)) &&
           next_word(&line, out->options, sizeof(out->options));
}

bool inplace_find_mount(const char *mountinfo, unsigned major, unsigned minor,
                        struct inplace_mount *out)
{
    for (const char *line = mountinfo; *line != '\0'; line += strcspn(line, "\n")) {
        line += *line == '\n';
        *out = (struct inplace_mount){0};
        if (read_mount(line, major, minor, out))
            return true;
    }
    *out = (struct inplace_mount){0};
    return false;
}

bool inplace_has_option(const char *options, const char *option)
{
    size_t len = strlen(option);
    while (*options != '\0') {
        size_t n = strcspn(options, ",\n");
        if (n == len && memcmp(options, option, n) == 0)
            return true;
        options += n + (options[n] != '\0');
    }
    return false;
}

/* The name under which the kernel lists a block device: that of /sys, or of its node. */
static const char *device_name(dev_t dev, const struct inplace_mount *mount, char path[PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(dev), minor(dev));
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n > 0)
        path[n] = '\0';
    else
        snprintf(path, PATH_MAX, "%s", mount->source);
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* ext4 offers direct I/O on no file whose data it journals (Linux 6.1 says so, statx(2)). This
 * needs no /proc, of which systemd's ProcSubset=pid leaves little, and no mount that can be seen
 * from in here. False: it journals, or nothing is known. */
static bool takes_direct_writes(int fd)
{
    struct statx st;
    return statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) == 0 &&
           (st.stx_mask & STATX_DIOALIGN) != 0 && st.stx_dio_offset_align != 0;
}

/* ext4 tells in mountinfo only what differs from the defaults, which tune2fs may have set to
 * data=journal; its own file in /proc tells all. */
static const char *journals_data(int fd, dev_t dev, const struct inplace_mount *mount)
{
    static const char why[] = "data=journal leaves old bytes in the journal";
    char link[PATH_MAX], path[PATH_MAX];
    int flags = 0;
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & FS_JOURNAL_DATA_FL))
        return "chattr +j leaves old bytes in the journal";
    if (inplace_has_option(mount->options, "data=journal"))
        return why;
    if (takes_direct_writes(fd))
        return NULL;
    if (strcmp(mount->type, "ext2") == 0 || inplace_has_option(mount->options, "data=ordered") ||
        inplace_has_option(mount->options, "data=writeback"))
        return NULL;
    int n = snprintf(path, sizeof(path), "/proc/fs/ext4/%s/options", device_name(dev, mount, link));
    char *options = n > 0 && (size_t)n < sizeof(path) ? read_text(path) : NULL;
    if (options == NULL)
        return "whether it journals data cannot be seen (/proc/fs/ext4)";
    bool journal = inplace_has_option(options, "data=journal");
    free(options);
    return journal ? why : NULL;
}

void inplace_look(int fd, struct inplace *out)
{
    struct statfs fs;
    struct stat st;
    struct inplace_mount mount = {0};
    *out = (struct inplace){.name = "unknown", .why = unknown};
    if (fstatfs(fd, &fs) != 0 || fstat(fd, &st) != 0)
        return;
    char *mounts = read_text("/proc/self/mountinfo");
    if (mounts != NULL && inplace_find_mount(mounts, major(st.st_dev), minor(st.st_dev), &mount))
        snprintf(out->name, sizeof(out->name), "%s", mount.type);
    free(mounts);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if ((uint32_t)fs.f_type != known[i].magic)
            continue;
        if (mount.type[0] == '\0')
            snprintf(out->name, sizeof(out->name), "%s", known[i].name);
        out->why = known[i].why;
    }
    if ((uint32_t)fs.f_type == known[0].magic)
        out->why = journals_data(fd, st.st_dev, &mount);
    out->holds = out->why == NULL;
}
