/* Preloaded into a node (LD_PRELOAD), it writes down what the process asks of the files below KV_SHIM_ROOT, and can make syncs slow
 * or fail. One line per event, in one write(2), to the file KV_SHIM_LOG:
 *
 *   begin ns \t end ns \t pid \t call \t result, or -errno \t offset \t length \t path \t other path
 *
 * Times are CLOCK_MONOTONIC, which every process of a machine shares. The line is written before the call returns to its caller, so
 * what the caller does next, an acknowledgement for instance, comes after it even if the process is killed in between.
 *
 *   KV_SHIM_DELAY_MS   each sync takes so much longer
 *   KV_SHIM_FAIL_AT    the so-many-th sync of a path that contains KV_SHIM_FAIL_PATH fails with EIO and syncs nothing; later ones work
 *   KV_SHIM_KEEP       a folder, on the same file system, in which a .log file that is unlinked gets a second name first
 *
 * Calls go to the kernel by number: no symbol of the C library behind us has to be found.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(long) == 8, "file offsets travel to the kernel in one register");

#define FDS 65536
#define LOG_FD_MIN 900 /* out of the way of programs that expect low numbers */

static _Atomic(const char *) paths[FDS]; /* of open files below the root; never freed, another thread may be reading */
static atomic_long matching_syncs;
static const char *root, *keep, *fail_path;
static size_t root_length;
static long delay_ms, fail_at;
static int log_fd = -1;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static long number_from(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

__attribute__((constructor)) static void set_up(void) {
    const char *log = getenv("KV_SHIM_LOG"), *where = getenv("KV_SHIM_ROOT");
    if (!log || !where) return;
    delay_ms = number_from("KV_SHIM_DELAY_MS");
    fail_at = number_from("KV_SHIM_FAIL_AT");
    fail_path = getenv("KV_SHIM_FAIL_PATH");
    keep = getenv("KV_SHIM_KEEP");
    long fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    log_fd = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, LOG_FD_MIN);
    syscall(SYS_close, fd);
    if (log_fd < 0) abort(); /* a run without a record must not pass for one */
    root_length = strlen(where);
    root = where;
}

static int below_root(const char *path) {
    return root && strncmp(path, root, root_length) == 0;
}

static const char *path_of(int fd) {
    return fd >= 0 && fd < FDS ? atomic_load(&paths[fd]) : NULL;
}

/* Writes the event down and leaves errno as the call left it. */
static void note(int64_t begin, const char *call, long result, long offset, long length, const char *path, const char *other) {
    int error = errno;
    char line[2 * PATH_MAX + 256];
    int size = snprintf(line, sizeof line, "%lld\t%lld\t%d\t%s\t%ld\t%ld\t%ld\t%s\t%s\n", (long long)begin, (long long)now_ns(),
                        (int)getpid(), call, result < 0 ? -(long)error : result, offset, length, path, other);
    if (syscall(SYS_write, log_fd, line, (size_t)size) != size) abort();
    errno = error;
}

static int opened(const char *call, int64_t begin, long fd, int flags) {
    int error = errno;
    if (root && fd >= 0 && fd < FDS) {
        char link[64], path[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%ld", fd);
        long size = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
        path[size > 0 ? size : 0] = 0;
        if (below_root(path)) {
            atomic_store(&paths[fd], strdup(path));
            note(begin, call, fd, 0, flags, path, "");
        }
    }
    errno = error;
    return (int)fd;
}

static ssize_t wrote(const char *call, int64_t begin, int fd, long offset, ssize_t result) {
    const char *path = path_of(fd);
    if (path) {
        int error = errno;
        if (offset < 0) offset = syscall(SYS_lseek, fd, 0L, SEEK_CUR) - (result > 0 ? result : 0);
        errno = error;
        note(begin, call, result, offset, result > 0 ? result : 0, path, "");
    }
    return result;
}

static int truncated(int64_t begin, int fd, long length, long result) {
    const char *path = path_of(fd);
    if (path) note(begin, "ftruncate", result, 0, length, path, "");
    return (int)result;
}

static int synced(const char *call, int fd, long number) {
    const char *path = path_of(fd);
    if (!path) return (int)syscall(number, fd);
    int64_t begin = now_ns();
    struct timespec left = {delay_ms / 1000, delay_ms % 1000 * 1000000};
    while (delay_ms && nanosleep(&left, &left) != 0 && errno == EINTR) {}
    long result = -1;
    int fails = fail_at && fail_path && strstr(path, fail_path) && atomic_fetch_add(&matching_syncs, 1) + 1 == fail_at;
    if (fails)
        errno = EIO;
    else
        result = syscall(number, fd);
    note(begin, call, result, 0, 0, path, "");
    return (int)result;
}

static int renamed(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    int64_t begin = now_ns();
    long result = syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    if (below_root(from) || below_root(to)) note(begin, "rename", result, 0, 0, from, to);
    return (int)result;
}

static int unlinked(int dir, const char *path, int flags) {
    int64_t begin = now_ns();
    size_t length = strlen(path);
    if (keep && below_root(path) && length > 4 && strcmp(path + length - 4, ".log") == 0) {
        char kept[PATH_MAX];
        snprintf(kept, sizeof kept, "%s/%s", keep, strrchr(path, '/') + 1);
        syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, kept, 0);
    }
    long result = syscall(SYS_unlinkat, dir, path, flags);
    if (below_root(path)) note(begin, "unlink", result, 0, 0, path, "");
    return (int)result;
}

#define MODE(flags, last) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, last); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        MODE(flags, flags) \
        int64_t begin = now_ns(); \
        return opened("open", begin, syscall(SYS_openat, AT_FDCWD, path, flags, mode), flags); \
    }
#define OPENAT(name) \
    int name(int dir, const char *path, int flags, ...) { \
        MODE(flags, flags) \
        int64_t begin = now_ns(); \
        return opened("open", begin, syscall(SYS_openat, dir, path, flags, mode), flags); \
    }
#define PWRITE(name) \
    ssize_t name(int fd, const void *data, size_t size, off_t offset) { \
        int64_t begin = now_ns(); \
        return wrote("pwrite", begin, fd, offset, syscall(SYS_pwrite64, fd, data, size, offset)); \
    }
#define FTRUNCATE(name) \
    int name(int fd, off_t length) { \
        int64_t begin = now_ns(); \
        return truncated(begin, fd, length, syscall(SYS_ftruncate, fd, length)); \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
PWRITE(pwrite)
PWRITE(pwrite64)
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)

int __open_2(const char *path, int flags) { return open(path, flags, 0); }
int __open64_2(const char *path, int flags) { return open(path, flags, 0); }

int creat(const char *path, mode_t mode) { return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

ssize_t write(int fd, const void *data, size_t size) {
    int64_t begin = now_ns();
    return wrote("write", begin, fd, -1, syscall(SYS_write, fd, data, size));
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    int64_t begin = now_ns();
    return wrote("writev", begin, fd, -1, syscall(SYS_writev, fd, parts, count));
}

int fsync(int fd) { return synced("fsync", fd, SYS_fsync); }
int fdatasync(int fd) { return synced("fdatasync", fd, SYS_fdatasync); }

/* Written down, and counted for nothing: it neither flushes the disk's cache nor makes a new length durable. */
int sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags) {
    int64_t begin = now_ns();
    long result = syscall(SYS_sync_file_range, fd, offset, length, flags);
    if (path_of(fd)) note(begin, "sync_file_range", result, offset, length, path_of(fd), "");
    return (int)result;
}

int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int from_dir, const char *from, int to_dir, const char *to) { return renamed(from_dir, from, to_dir, to, 0); }
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    return renamed(from_dir, from, to_dir, to, flags);
}

int unlink(const char *path) { return unlinked(AT_FDCWD, path, 0); }
int unlinkat(int dir, const char *path, int flags) { return unlinked(dir, path, flags); }

int close(int fd) {
    /* Forgotten first: once the kernel has closed it, another thread may get the same number. */
    const char *path = fd >= 0 && fd < FDS ? atomic_exchange(&paths[fd], NULL) : NULL;
    int64_t begin = now_ns();
    long result = syscall(SYS_close, fd);
    if (path) note(begin, "close", result, 0, 0, path, "");
    return (int)result;
}
