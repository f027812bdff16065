/* Records what a process and its children do to the files below one directory, in order: see disk.py.
 *
 * Preloaded (LD_PRELOAD). POWER_ROOT is the directory, POWER_LOG the file that gets the records. An operation and
 * its record are one step under a lock, so the log has the order in which the kernel saw the operations. Only what
 * goes through the C library's entry points is seen; disk.py compares the replayed log with the real directory, so
 * whatever is missed here fails the test.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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

enum { CREATE = 1, WRITE, TRUNCATE, SYNC, RENAME, LINK, UNLINK, MKDIR, SAY };

struct header {
    uint32_t op, first, second, size;
    uint64_t offset;
};

static pthread_mutex_t step = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX], log_path[PATH_MAX];
static int log_fd = -1;

__attribute__((constructor)) static void begin(void) {
    const char *place = getenv("POWER_ROOT"), *file = getenv("POWER_LOG");
    if (!place || !file || !realpath(place, root)) return;
    snprintf(log_path, sizeof log_path, "%s", file);
    int fd = syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 900); /* out of the way of descriptors that programs choose */
    syscall(SYS_close, fd);
    if (log_fd < 0) abort();
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int below(const char *path) {
    size_t length = strlen(root);
    return log_fd >= 0 && strncmp(path, root, length) == 0 && path[length] == '/';
}

/* The path of an open file now; whether it is one to record. */
static int place_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int kept = errno;
    ssize_t length = log_fd < 0 ? -1 : readlink(link, path, PATH_MAX - 1);
    errno = kept;
    if (length <= 0) return 0;
    path[length] = 0;
    return below(path) || strcmp(path, root) == 0;
}

/* The absolute path that a name means, its last part not followed; whether it is one to record. */
static int resolve(int folder, const char *name, char *path) {
    char joined[2 * PATH_MAX] = "", parent[PATH_MAX];
    int kept = errno;
    if (log_fd < 0 || !name) return 0;
    if (name[0] != '/') {
        char link[64];
        snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, joined, PATH_MAX - 1);
        joined[length < 0 ? 0 : length] = 0;
        strcat(joined, "/");
    }
    strncat(joined, name, PATH_MAX - 1);
    for (size_t end = strlen(joined); end > 1 && joined[end - 1] == '/'; end--) joined[end - 1] = 0;
    char *last = strrchr(joined, '/');
    if (!last) return 0;
    *last = 0;
    char *found = realpath(*joined ? joined : "/", parent);
    errno = kept;
    return found && snprintf(path, PATH_MAX, "%s/%s", parent, last + 1) < PATH_MAX && below(path);
}

static void put(uint32_t op, const char *first, const char *second, uint64_t offset, const void *data, size_t size) {
    int kept = errno;
    struct header head = {op, strlen(first), strlen(second), size, offset};
    struct iovec parts[] = {
        {&head, sizeof head}, {(void *)first, head.first}, {(void *)second, head.second}, {(void *)data, size}};
    ssize_t whole = sizeof head + head.first + head.second + size;
    if (syscall(SYS_writev, log_fd, parts, 4) != whole) abort(); /* a log with a hole would prove nothing */
    errno = kept;
}

static int opened(int fd, int flags) {
    char path[PATH_MAX];
    if (fd >= 0 && (flags & (O_CREAT | O_TRUNC)) && place_of(fd, path)) put(CREATE, path, "", flags & O_TRUNC, "", 0);
    return fd;
}

#define OPEN(name, ...)                                                                       \
    va_list more;                                                                             \
    va_start(more, flags);                                                                    \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                   \
    va_end(more);                                                                             \
    if (!(flags & (O_CREAT | O_TRUNC))) return REAL(name)(__VA_ARGS__, flags, mode);          \
    pthread_mutex_lock(&step);                                                                \
    int fd = opened(REAL(name)(__VA_ARGS__, flags, mode), flags);                             \
    pthread_mutex_unlock(&step);                                                              \
    return fd;

int open(const char *path, int flags, ...) { OPEN(open, path) }
int open64(const char *path, int flags, ...) { OPEN(open64, path) }
int openat(int folder, const char *path, int flags, ...) { OPEN(openat, folder, path) }
int openat64(int folder, const char *path, int flags, ...) { OPEN(openat64, folder, path) }
int creat(const char *path, mode_t mode) { return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* What a process prints is recorded as well: it is what it acknowledges. */
ssize_t write(int fd, const void *data, size_t size) {
    char path[PATH_MAX];
    int ours = place_of(fd, path), said = fd == 1 && !ours && log_fd >= 0;
    if (!ours && !said) return REAL(write)(fd, data, size);
    pthread_mutex_lock(&step);
    ssize_t done = REAL(write)(fd, data, size);
    if (done > 0) put(said ? SAY : WRITE, said ? "" : path, "", said ? 0 : lseek(fd, 0, SEEK_CUR) - done, data, done);
    pthread_mutex_unlock(&step);
    return done;
}

#define PWRITE(name, type)                                               \
    ssize_t name(int fd, const void *data, size_t size, type offset) {   \
        char path[PATH_MAX];                                             \
        if (!place_of(fd, path)) return REAL(name)(fd, data, size, offset); \
        pthread_mutex_lock(&step);                                       \
        ssize_t done = REAL(name)(fd, data, size, offset);               \
        if (done > 0) put(WRITE, path, "", offset, data, done);          \
        pthread_mutex_unlock(&step);                                     \
        return done;                                                     \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

/* One operation with its record, if it succeeds and concerns the directory. */
#define STEP(ours, call, ...)                                            \
    if (!(ours)) return call;                                            \
    pthread_mutex_lock(&step);                                           \
    int done = call;                                                     \
    if (done == 0) put(__VA_ARGS__);                                     \
    pthread_mutex_unlock(&step);                                         \
    return done;

#define FTRUNCATE(name, type) \
    int name(int fd, type size) { char path[PATH_MAX]; \
        STEP(place_of(fd, path), REAL(name)(fd, size), TRUNCATE, path, "", size, "", 0) }
FTRUNCATE(ftruncate, off_t)
FTRUNCATE(ftruncate64, off64_t)

#define FLUSH(name) \
    int name(int fd) { char path[PATH_MAX]; STEP(place_of(fd, path), REAL(name)(fd), SYNC, path, "", 0, "", 0) }
FLUSH(fsync)
FLUSH(fdatasync)

#define TWO(from_folder, from, to_folder, to, call, op)                                   \
    char first[PATH_MAX], second[PATH_MAX];                                               \
    int ours = resolve(from_folder, from, first) & resolve(to_folder, to, second);        \
    STEP(ours, call, op, first, second, 0, "", 0)

int rename(const char *from, const char *to) { TWO(AT_FDCWD, from, AT_FDCWD, to, REAL(rename)(from, to), RENAME) }
int renameat(int a, const char *from, int b, const char *to) { TWO(a, from, b, to, REAL(renameat)(a, from, b, to), RENAME) }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    TWO(a, from, b, to, REAL(renameat2)(a, from, b, to, flags), RENAME)
}
int link(const char *from, const char *to) { TWO(AT_FDCWD, from, AT_FDCWD, to, REAL(link)(from, to), LINK) }
int linkat(int a, const char *from, int b, const char *to, int flags) {
    TWO(a, from, b, to, REAL(linkat)(a, from, b, to, flags), LINK)
}

#define ONE(folder, name, call, op) char path[PATH_MAX]; STEP(resolve(folder, name, path), call, op, path, "", 0, "", 0)

int unlink(const char *name) { ONE(AT_FDCWD, name, REAL(unlink)(name), UNLINK) }
int rmdir(const char *name) { ONE(AT_FDCWD, name, REAL(rmdir)(name), UNLINK) }
int unlinkat(int folder, const char *name, int flags) { ONE(folder, name, REAL(unlinkat)(folder, name, flags), UNLINK) }
int mkdir(const char *name, mode_t mode) { ONE(AT_FDCWD, name, REAL(mkdir)(name, mode), MKDIR) }
int mkdirat(int folder, const char *name, mode_t mode) { ONE(folder, name, REAL(mkdirat)(folder, name, mode), MKDIR) }

/* Children that are started with an environment of their own are recorded too. Runs between vfork and exec. */
int execve(const char *program, char *const argv[], char *const envp[]) {
    char preload[PATH_MAX + 16], place[PATH_MAX + 16], file[PATH_MAX + 16];
    Dl_info self;
    size_t count = 0, used = 0;
    while (envp && envp[count]) count++;
    char *env[count + 4];
    if (log_fd < 0 || !dladdr((void *)begin, &self)) return REAL(execve)(program, argv, envp);
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", self.dli_fname);
    snprintf(place, sizeof place, "POWER_ROOT=%s", root);
    snprintf(file, sizeof file, "POWER_LOG=%s", log_path);
    for (size_t i = 0; i < count; i++)
        if (strncmp(envp[i], "LD_PRELOAD=", 11) && strncmp(envp[i], "POWER_", 6)) env[used++] = envp[i];
    env[used++] = preload;
    env[used++] = place;
    env[used++] = file;
    env[used] = NULL;
    return REAL(execve)(program, argv, env);
}
