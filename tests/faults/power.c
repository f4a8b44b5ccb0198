/* A disk that forgets, for one process: LD_PRELOAD.
 *
 * Every change below the folder POWER_FOLDER is first written to POWER_JOURNAL with what was there before, until the
 * program has asked for it to be made durable. power.py then turns the power off: it kills the process and undoes
 * what was never synced, in random pages. What is durable:
 *
 *   fsync        this file's content and size, and all changes of names before it (one journal of the file system)
 *   fdatasync    this file's content and size, and that the file exists
 *   msync, sync_file_range    nothing: a disk may hold what it was sent in a cache of its own
 *
 * Without POWER_JOURNAL nothing is noted. While the file POWER_FAULT exists, changes and syncs fail with the errno in it. A sync takes POWER_SYNC_US
 * microseconds more, so that the power often goes off in the middle of one. With POWER_DEAF set, fsync and fdatasync
 * say that they have done it, and do nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { WRITTEN = 1, CUT = 2, MADE = 3, RENAMED = 4, REMOVED = 5, SYNCED = 6, DATA_SYNCED = 7 };

/* As power.py reads it; behind it `path_length` bytes of path and `old_length` bytes of old content. */
struct entry {
    uint64_t kind, inode, offset, length, old_size, path_length, old_length;
};

static char folder[4096], graveyard[4096], fault_file[4096];
static size_t folder_length;
static int journal = -1, deaf, sync_us;
static uint64_t entries, graves;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static void give_up(const char *what) {
    dprintf(2, "power.c: %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("POWER_FOLDER"), *file = getenv("POWER_JOURNAL"), *fault = getenv("POWER_FAULT");
    if (!path) return;
    if (!realpath(path, folder)) give_up(path);
    folder_length = strlen(folder);
    snprintf(fault_file, sizeof fault_file, "%s", fault ? fault : "");
    deaf = getenv("POWER_DEAF") != NULL;
    sync_us = getenv("POWER_SYNC_US") ? atoi(getenv("POWER_SYNC_US")) : 0;
    if (!file) return;
    snprintf(graveyard, sizeof graveyard, "%s.removed", file);
    journal = REAL(open)(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (journal < 0 || (mkdir(graveyard, 0700) && errno != EEXIST)) give_up(file);
}

static int is_inside(const char *path) {
    return folder_length > 0 && !strncmp(path, folder, folder_length) && path[folder_length] == '/';
}

/* The path of an open file, if it is below the folder. */
static int of_open(int fd, char *path, size_t size) {
    if (folder_length == 0 || fd == journal) return 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return is_inside(path);
}

static int is_failing(void) {
    if (!*fault_file) return 0;
    int fd = REAL(open)(fault_file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    char text[16] = "";
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    errno = length > 0 ? atoi(text) : EIO;
    return 1;
}

static void put(const void *bytes, size_t length) {
    const char *at = bytes;
    while (length > 0) {
        ssize_t done = syscall(SYS_write, journal, at, length);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) give_up("the journal");
        at += done;
        length -= (size_t)done;
    }
}

/* To be called with the lock, before the change is made. */
static void note(struct entry entry, const char *path, const void *old) {
    if (journal < 0) return;
    int before = errno;
    entry.path_length = strlen(path);
    put(&entry, sizeof entry);
    put(path, entry.path_length);
    put(old, entry.old_length);
    entries++;
    errno = before;
}

/* Notes what a change of [from, to) would overwrite or cut off. */
static void note_change(enum kind kind, int fd, const char *path, uint64_t from, uint64_t to) {
    if (journal < 0) return;
    struct stat now;
    if (fstat(fd, &now)) give_up(path);
    uint64_t size = (uint64_t)now.st_size, end = to < size ? to : size;
    uint64_t length = from < end ? end - from : 0;
    char *old = malloc(length + 1), name[64];
    /* The file may be open for writing only. */
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    int again = REAL(open)(name, O_RDONLY | O_CLOEXEC);
    if (again < 0 || !old) give_up(path);
    for (uint64_t at = 0; at < length;) {
        ssize_t done = pread(again, old + at, length - at, (off_t)(from + at));
        if (done <= 0) give_up(path);
        at += (uint64_t)done;
    }
    close(again);
    struct entry entry = {kind, now.st_ino, from, to - from, size, 0, length};
    note(entry, path, old);
    free(old);
}

static ssize_t position(int fd) {
    if (fcntl(fd, F_GETFL) & O_APPEND) return lseek(fd, 0, SEEK_END);
    return lseek(fd, 0, SEEK_CUR);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    char path[4096];
    if (!of_open(fd, path, sizeof path)) return REAL(pwrite64)(fd, bytes, length, offset);
    if (is_failing()) return -1;
    pthread_mutex_lock(&lock);
    note_change(WRITTEN, fd, path, (uint64_t)offset, (uint64_t)offset + length);
    ssize_t done = REAL(pwrite64)(fd, bytes, length, offset);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return pwrite64(fd, bytes, length, offset); }

ssize_t write(int fd, const void *bytes, size_t length) {
    char path[4096];
    if (!of_open(fd, path, sizeof path)) return REAL(write)(fd, bytes, length);
    if (is_failing()) return -1;
    pthread_mutex_lock(&lock);
    uint64_t from = (uint64_t)position(fd);
    note_change(WRITTEN, fd, path, from, from + length);
    ssize_t done = REAL(write)(fd, bytes, length);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char path[4096];
    if (!of_open(fd, path, sizeof path)) return REAL(writev)(fd, parts, count);
    ssize_t written = 0;
    for (int part = 0; part < count; part++) {
        ssize_t done = write(fd, parts[part].iov_base, parts[part].iov_len);
        if (done < 0) return written ? written : -1;
        written += done;
        if ((size_t)done < parts[part].iov_len) break;
    }
    return written;
}

int ftruncate64(int fd, off64_t size) {
    char path[4096];
    if (!of_open(fd, path, sizeof path)) return REAL(ftruncate64)(fd, size);
    if (is_failing()) return -1;
    pthread_mutex_lock(&lock);
    note_change(CUT, fd, path, (uint64_t)size, UINT64_MAX);
    int done = REAL(ftruncate64)(fd, size);
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int opened(int at, const char *path, int flags, mode_t mode) {
    struct stat found;
    int inside = at == AT_FDCWD && is_inside(path), is_new = inside && (flags & O_CREAT) && stat(path, &found);
    if (inside && (flags & (O_CREAT | O_TRUNC)) && (is_new || (flags & O_TRUNC)) && is_failing()) return -1;
    if (!is_new && !(inside && (flags & O_TRUNC))) return REAL(openat)(at, path, flags, mode);
    pthread_mutex_lock(&lock);
    int fd = REAL(openat)(at, path, flags & ~O_TRUNC, mode);
    if (fd >= 0 && is_new && !fstat(fd, &found)) {
        struct entry entry = {MADE, found.st_ino, 0, 0, 0, 0, 0};
        note(entry, path, "");
    }
    pthread_mutex_unlock(&lock);
    if (fd >= 0 && (flags & O_TRUNC) && ftruncate64(fd, 0)) give_up(path);
    return fd;
}

#define MODE_OF(flags, mode)                                                                                           \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                             \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode = va_arg(more, mode_t);                                                                                   \
        va_end(more);                                                                                                  \
    }

int open(const char *path, int flags, ...) { MODE_OF(flags, mode) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags, mode) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE_OF(flags, mode) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE_OF(flags, mode) return opened(at, path, flags, mode); }

/* Keeps what loses its name, so that it can be given back. */
static uint64_t bury(const char *path) {
    if (journal < 0) return 0;
    char grave[4200];
    snprintf(grave, sizeof grave, "%s/%lu", graveyard, graves);
    if (link(path, grave)) give_up(path);
    return graves++;
}

int rename(const char *from, const char *to) {
    if (!is_inside(from) || !is_inside(to)) return REAL(rename)(from, to);
    if (is_failing()) return -1;
    pthread_mutex_lock(&lock);
    struct stat moved, replaced;
    char both[8200];
    if (stat(from, &moved)) give_up(from);
    snprintf(both, sizeof both, "%s\n%s", from, to);
    int replaces = !stat(to, &replaced);
    struct entry entry = {RENAMED, moved.st_ino, replaces ? bury(to) + 1 : 0, 0, 0, 0, 0};
    note(entry, both, "");
    int done = REAL(rename)(from, to);
    pthread_mutex_unlock(&lock);
    return done;
}

int unlink(const char *path) {
    if (!is_inside(path)) return REAL(unlink)(path);
    if (is_failing()) return -1;
    pthread_mutex_lock(&lock);
    struct stat removed;
    if (!stat(path, &removed)) {
        struct entry entry = {REMOVED, removed.st_ino, bury(path), 0, 0, 0, 0};
        note(entry, path, "");
    }
    int done = REAL(unlink)(path);
    pthread_mutex_unlock(&lock);
    return done;
}

static int synced(enum kind kind, int fd, int (*sync)(int)) {
    char path[4096];
    int is_folder = folder_length > 0 && fd != journal;
    if (!of_open(fd, path, sizeof path)) {
        /* The folder itself, and its parents: names only. */
        struct stat found;
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = is_folder ? readlink(link, path, sizeof path - 1) : -1;
        if (length <= 0 || fstat(fd, &found) || !S_ISDIR(found.st_mode)) return sync(fd);
        path[length] = 0;
        if (strncmp(path, folder, (size_t)length)) return sync(fd);
    }
    if (is_failing()) return -1;
    if (deaf) return 0;
    struct stat now;
    if (fstat(fd, &now)) return -1;
    pthread_mutex_lock(&lock);
    uint64_t before = entries;
    pthread_mutex_unlock(&lock);
    usleep((useconds_t)sync_us);
    int done = sync(fd);
    if (done) return done;
    pthread_mutex_lock(&lock);
    /* What was changed while it synced may be missing from it. */
    struct entry entry = {kind, now.st_ino, before, 0, 0, 0, 0};
    note(entry, path, "");
    pthread_mutex_unlock(&lock);
    return 0;
}

int fsync(int fd) { return synced(SYNCED, fd, REAL(fsync)); }

int fdatasync(int fd) { return synced(DATA_SYNCED, fd, REAL(fdatasync)); }

int sync_file_range(int fd, off64_t offset, off64_t length, unsigned int flags) {
    char path[4096];
    if (of_open(fd, path, sizeof path) && is_failing()) return -1;
    return REAL(sync_file_range)(fd, offset, length, flags);
}
