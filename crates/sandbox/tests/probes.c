/* Attempts to get out of a sandbox, one function each. Run in a sandbox, none may succeed; run outside of one, all of
 * them have to, which shows that they can tell.
 *
 *   probes HOST_FILE HOST_PID TCP_PORT UDP_ADDRESS SOCKET ABSTRACT_SOCKET SHM_KEY MARK
 *
 * What is named is the host's: a file with a secret, a process, a listener on 127.0.0.1 and ::1, an address that is not
 * the loopback's, a socket in the file system, an abstract one, a segment of shared memory, and a text that stands in paths
 * and variables of the host. Prints `NAME contained` or `NAME escaped: HOW` for each.
 *
 *   probes socket PATH
 *
 * makes a socket, and is for another test. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/acct.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static const char *host_file, *udp_address, *socket_path, *abstract_name, *mark;
static pid_t host_pid;
static int tcp_port, shm_key;
extern char **environ;

static char how[512];
static int escaped(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(how, sizeof how, format, arguments);
    va_end(arguments);
    return 1;
}
static int contained(void) { return 0; }

/* Whether a call got past the question for permission, whatever it said then. */
static int refused(void) { return errno == EPERM || errno == EACCES || errno == ENOSYS || errno == EAFNOSUPPORT; }
static int past(const char *name, long result) {
    if (result >= 0) return escaped("%s succeeded", name);
    return refused() ? contained() : escaped("%s: %s", name, strerror(errno));
}

static int readable(const char *path) {
    char buffer[64];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return contained();
    ssize_t count = read(fd, buffer, sizeof buffer);
    close(fd);
    return count > 0 ? escaped("read %s", path) : contained();
}
static int writable(const char *path) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return contained();
    close(fd);
    return escaped("opened %s for writing", path);
}
static int mentions(const char *path) {
    static char text[1 << 20];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return contained();
    size_t len = 0;
    for (ssize_t count; (count = read(fd, text + len, sizeof text - 1 - len)) > 0;) len += count;
    close(fd);
    for (size_t at = 0; at < len; at++) if (!text[at]) text[at] = '\n';
    text[len] = 0;
    return strstr(text, mark) ? escaped("%s has %s", path, mark) : contained();
}

/* ---- files */

static int a_file_of_the_host(void) { return readable(host_file); }
static int a_file_by_dots(void) {
    char path[8192] = "";
    for (int i = 0; i < 40; i++) strcat(path, "../");
    strcat(path, host_file + 1);
    return readable(path);
}
static int a_file_by_the_first_process_root(void) {
    char path[4096];
    snprintf(path, sizeof path, "/proc/1/root%s", host_file);
    return readable(path);
}
static int a_file_by_the_parents_root(void) {
    char path[4096];
    snprintf(path, sizeof path, "/proc/%d/root%s", getppid(), host_file);
    return readable(path);
}
static int a_file_by_a_handle(void) {
    struct { struct file_handle handle; char bytes[128]; } file = {.handle.handle_bytes = 128};
    int mount;
    if (syscall(SYS_name_to_handle_at, AT_FDCWD, "/", &file, &mount, 0) < 0) return past("name_to_handle_at", -1);
    int root = open("/", O_RDONLY | O_DIRECTORY);
    return past("open_by_handle_at", syscall(SYS_open_by_handle_at, root, &file, O_RDONLY));
}
static int out_of_a_chroot(void) {
    char folder[] = "/tmp/chroot-XXXXXX";
    if (!mkdtemp(folder)) return contained();
    int result = chroot(folder);
    rmdir(folder);
    return past("chroot", result);
}
static int another_root(void) { return past("pivot_root", syscall(SYS_pivot_root, "/nowhere", "/nowhere")); }
static int the_first_process_program(void) {
    char target[4096];
    return readlink("/proc/1/exe", target, sizeof target) > 0 ? escaped("read the link /proc/1/exe") : contained();
}
static int the_first_process_memory(void) { return readable("/proc/1/maps"); }
static int the_first_process_environment(void) { return readable("/proc/1/environ"); }
static int the_first_process_descriptors(void) {
    DIR *folder = opendir("/proc/1/fd");
    return folder ? escaped("listed /proc/1/fd") : contained();
}
static int the_first_process_folder(void) {
    return open("/proc/1/cwd", O_RDONLY | O_DIRECTORY) >= 0 ? escaped("opened /proc/1/cwd") : contained();
}
static int mounts_of_the_host(void) { return mentions("/proc/self/mountinfo"); }
static int the_control_group_of_the_host(void) {
    char text[4096] = "";
    int fd = open("/proc/self/cgroup", O_RDONLY);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0) return contained();
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        char *path = strrchr(line, ':');
        if (path && strcmp(path, ":/") != 0) return escaped("%s", line);
    }
    return access("/sys/fs/cgroup", F_OK) == 0 ? escaped("/sys/fs/cgroup is there") : contained();
}
static int a_device_of_a_disk(void) {
    int result = mknod("/tmp/disk", S_IFBLK | 0600, makedev(254, 0));
    if (result == 0) unlink("/tmp/disk");
    return past("mknod", result);
}
static int a_device_of_memory(void) {
    int result = mknod("/tmp/memory", S_IFCHR | 0600, makedev(1, 1));
    if (result == 0) unlink("/tmp/memory");
    return past("mknod", result);
}
static int devices_of_the_host(void) {
    static const char *known[] = {".", "..", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
                                  "stdout", "tty", "urandom", "zero"};
    DIR *folder = opendir("/dev");
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        size_t number = 0, count = sizeof known / sizeof *known;
        while (number < count && strcmp(known[number], entry->d_name) != 0) number++;
        if (number == count) return escaped("/dev/%s", entry->d_name);
    }
    return contained();
}
static int the_kernels_log(void) { return open("/dev/kmsg", O_RDONLY) >= 0 ? escaped("opened /dev/kmsg") : contained(); }
static int the_systems_folder(void) {
    DIR *folder = opendir("/sys");
    int count = 0;
    while (folder && readdir(folder)) count++;
    return count > 2 ? escaped("/sys has %d entries", count - 2) : contained();
}

/* ---- what is inherited */

static int inherited_descriptors(void) {
    for (int fd = 3; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0) return escaped("descriptor %d is open", fd);
    return contained();
}
static int variables_of_the_host(void) {
    for (char **variable = environ; *variable; variable++)
        if (strstr(*variable, mark)) return escaped("%s", *variable);
    return contained();
}
static int the_name_of_the_host(void) {
    char name[256] = "";
    gethostname(name, sizeof name);
    return strcmp(name, "build") != 0 ? escaped("its name is %s", name) : contained();
}
static int renaming_the_host(void) {
    char name[256] = "";
    gethostname(name, sizeof name);
    return past("sethostname", sethostname(name, strlen(name)));
}
static int the_terminal(void) {
    /* One of our own stands for it: what is pushed into it would be typed. */
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || unlockpt(master) < 0) return contained();
    int number = -1;
    ioctl(master, TIOCGPTN, &number);
    char path[64];
    snprintf(path, sizeof path, "/dev/pts/%d", number);
    setsid();
    int terminal = open(path, O_RDWR);
    if (terminal < 0) return contained();
    ioctl(terminal, TIOCSCTTY, 0);
    return past("TIOCSTI", ioctl(terminal, TIOCSTI, "x"));
}

/* ---- processes */

static int a_process_of_the_host(void) {
    return kill(host_pid, 0) == 0 || errno == EPERM ? escaped("process %d is there", host_pid) : contained();
}
static int processes_of_the_host(void) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/cmdline", host_pid);
    return mentions(path);
}
static int tracing_the_first_process(void) { return past("ptrace", ptrace(PTRACE_SEIZE, 1, 0, 0)); }
static int tracing_a_process(void) {
    pid_t child = fork();
    if (child == 0) { pause(); _exit(0); }
    int result = past("ptrace", ptrace(PTRACE_SEIZE, child, 0, 0));
    kill(child, SIGKILL);
    return result;
}
static int memory_of_a_process(void) {
    char from = 'x', to = 0;
    struct iovec ours = {&to, 1}, theirs = {&from, 1};
    return past("process_vm_readv", process_vm_readv(getppid(), &ours, 1, &theirs, 1, 0));
}
static int a_descriptor_of_a_process(void) {
    int pidfd = syscall(SYS_pidfd_open, getppid(), 0);
    if (pidfd < 0) return contained();
    return past("pidfd_getfd", syscall(SYS_pidfd_getfd, pidfd, 1, 0));
}

/* ---- namespaces and mounts */

static int a_user_namespace_by_unshare(void) { return past("unshare", unshare(CLONE_NEWUSER)); }
static int a_user_namespace_by_clone(void) {
    long child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (child == 0) _exit(0);
    return past("clone", child);
}
static int a_user_namespace_by_clone3(void) {
    uint64_t arguments[11] = {CLONE_NEWUSER, [4] = SIGCHLD};
    long child = syscall(SYS_clone3, arguments, sizeof arguments);
    if (child == 0) _exit(0);
    return past("clone3", child);
}
static int a_mount_namespace(void) { return past("unshare", unshare(CLONE_NEWNS)); }
static int a_time_namespace(void) { return past("unshare", unshare(0x80)); }
static int the_first_process_namespaces(void) {
    int fd = open("/proc/1/ns/net", O_RDONLY);
    if (fd < 0) return past("open", -1);
    return past("setns", setns(fd, CLONE_NEWNET));
}
static int a_mount(void) {
    int result = mount("tmpfs", "/tmp", "tmpfs", 0, "size=4k");
    if (result == 0) umount("/tmp");
    return past("mount", result);
}
static int a_mount_by_the_new_calls(void) { return past("fsopen", syscall(SYS_fsopen, "tmpfs", 0)); }
static int a_copy_of_a_mount(void) { return past("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1)); }
static int a_writable_proc_sys(void) {
    return past("mount", mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL));
}
static int what_a_mount_covers(void) { return past("umount2", umount2("/nowhere", MNT_DETACH)); }

/* ---- the kernel */

static int the_core_pattern(void) { return writable("/proc/sys/kernel/core_pattern"); }
static int the_magic_keys(void) { return writable("/proc/sysrq-trigger"); }
static int caches_of_the_kernel(void) { return writable("/proc/sys/vm/drop_caches"); }
static int limits_on_namespaces(void) { return writable("/proc/sys/user/max_user_namespaces"); }
static int the_kernels_arguments(void) { return readable("/proc/cmdline"); }
static int the_boots_number(void) { return readable("/proc/sys/kernel/random/boot_id"); }
static int disks_of_the_host(void) { return readable("/proc/diskstats"); }
static int a_kernel_module(void) { return past("init_module", syscall(SYS_init_module, "x", 1, "")); }
static int another_kernel(void) { return past("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0x7fff)); }
static int a_reboot(void) { return past("reboot", syscall(SYS_reboot, 0, 0, 0, NULL)); }
static int swapping(void) { return past("swapon", swapon("/nowhere", 0)); }
static int accounting(void) { return past("acct", acct("/nowhere")); }
static int the_kernels_messages(void) { return past("syslog", syscall(SYS_syslog, 10, NULL, 0)); }
static int a_program_in_the_kernel(void) {
    union bpf_attr attributes = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    return past("bpf", syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes));
}
static int performance_counters(void) {
    struct perf_event_attr attributes = {.type = PERF_TYPE_SOFTWARE, .size = sizeof attributes};
    return past("perf_event_open", syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0));
}
static int page_faults(void) { return past("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC)); }
static int rings(void) {
    char parameters[120] = {0};
    return past("io_uring_setup", syscall(SYS_io_uring_setup, 1, parameters));
}
static int a_key(void) { return past("add_key", syscall(SYS_add_key, "user", "imgforge-probe", "x", 1, -2)); }
static int a_keyring(void) { return past("keyctl", syscall(SYS_keyctl, 0, -3, 0)); }
static int keys_of_the_host(void) { return readable("/proc/key-users"); }
static int calls_of_32_bits(void) {
#ifdef __x86_64__
    pid_t child = fork();
    if (child == 0) {
        long result;
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
        _exit(result > 0);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) ? escaped("getpid by int 0x80") : contained();
#else
    return contained();
#endif
}
static int capabilities(void) {
    static const int none[] = {CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_NET_ADMIN, CAP_SYS_CHROOT, CAP_MKNOD, CAP_SYS_MODULE};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        if (prctl(PR_CAPBSET_READ, none[i]) == 1) return escaped("capability %d can be had", none[i]);
    return contained();
}
static int privileges(void) {
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? contained() : escaped("set-uid programs work");
}
static int more_processes_than_allowed(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NPROC, &limit);
    if (limit.rlim_max == RLIM_INFINITY) return escaped("there is no limit");
    limit.rlim_max++;
    return past("setrlimit", setrlimit(RLIMIT_NPROC, &limit));
}
static int a_core(void) {
    if (chdir("/tmp") < 0) return contained();
    struct rlimit limit;
    getrlimit(RLIMIT_CORE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_CORE, &limit);
    pid_t child = fork();
    if (child == 0) { prctl(PR_SET_DUMPABLE, 1); raise(SIGSEGV); _exit(0); }
    int status;
    waitpid(child, &status, 0);
    return WCOREDUMP(status) ? escaped("the kernel wrote one") : contained();
}

/* ---- network and communication */

static int connected(int family, int type, const void *address, socklen_t len, const char *name) {
    int fd = socket(family, type, 0);
    if (fd < 0) return contained();
    int result = connect(fd, address, len);
    close(fd);
    return result == 0 ? escaped("reached %s", name) : contained();
}
static int the_hosts_loopback(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(tcp_port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connected(AF_INET, SOCK_STREAM, &address, sizeof address, "127.0.0.1");
}
static int the_hosts_loopback_by_ipv6(void) {
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(tcp_port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    return connected(AF_INET6, SOCK_STREAM, &address, sizeof address, "::1");
}
static int a_name_server(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(53)};
    inet_pton(AF_INET, udp_address, &address.sin_addr);
    return connected(AF_INET, SOCK_DGRAM, &address, sizeof address, udp_address);
}
static int a_socket_in_the_file_system(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, socket_path, sizeof address.sun_path - 1);
    return connected(AF_UNIX, SOCK_STREAM, &address, sizeof address, socket_path);
}
static int an_abstract_socket(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path + 1, abstract_name, sizeof address.sun_path - 2);
    socklen_t len = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(abstract_name);
    return connected(AF_UNIX, SOCK_STREAM, &address, len, abstract_name);
}
static int interfaces(void) { return past("socket", socket(AF_NETLINK, SOCK_RAW, 0)); }
static int frames(void) { return past("socket", socket(AF_PACKET, SOCK_RAW, 0)); }
static int packets(void) { return past("socket", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)); }
static int the_hypervisor(void) { return past("socket", socket(AF_VSOCK, SOCK_STREAM, 0)); }
static int ciphers_of_the_kernel(void) { return past("socket", socket(AF_ALG, SOCK_SEQPACKET, 0)); }
static int shared_memory(void) { return shmget(shm_key, 0, 0) >= 0 ? escaped("found the segment") : contained(); }

#define PROBE(name) {#name, name}
static const struct { const char *name; int (*probe)(void); } probes[] = {
    PROBE(a_file_of_the_host), PROBE(a_file_by_dots), PROBE(a_file_by_the_first_process_root),
    PROBE(a_file_by_the_parents_root), PROBE(a_file_by_a_handle), PROBE(out_of_a_chroot), PROBE(another_root),
    PROBE(the_first_process_program), PROBE(the_first_process_memory), PROBE(the_first_process_environment),
    PROBE(the_first_process_descriptors), PROBE(the_first_process_folder), PROBE(mounts_of_the_host),
    PROBE(the_control_group_of_the_host), PROBE(a_device_of_a_disk), PROBE(a_device_of_memory),
    PROBE(devices_of_the_host), PROBE(the_kernels_log), PROBE(the_systems_folder), PROBE(inherited_descriptors),
    PROBE(variables_of_the_host), PROBE(the_name_of_the_host), PROBE(renaming_the_host), PROBE(the_terminal),
    PROBE(a_process_of_the_host), PROBE(processes_of_the_host), PROBE(tracing_the_first_process),
    PROBE(tracing_a_process), PROBE(memory_of_a_process), PROBE(a_descriptor_of_a_process),
    PROBE(a_user_namespace_by_unshare), PROBE(a_user_namespace_by_clone), PROBE(a_user_namespace_by_clone3),
    PROBE(a_mount_namespace), PROBE(a_time_namespace), PROBE(the_first_process_namespaces), PROBE(a_mount),
    PROBE(a_mount_by_the_new_calls), PROBE(a_copy_of_a_mount), PROBE(a_writable_proc_sys), PROBE(what_a_mount_covers),
    PROBE(the_core_pattern), PROBE(the_magic_keys), PROBE(caches_of_the_kernel), PROBE(limits_on_namespaces),
    PROBE(the_kernels_arguments), PROBE(the_boots_number), PROBE(disks_of_the_host), PROBE(a_kernel_module),
    PROBE(another_kernel), PROBE(a_reboot), PROBE(swapping), PROBE(accounting), PROBE(the_kernels_messages),
    PROBE(a_program_in_the_kernel), PROBE(performance_counters), PROBE(page_faults), PROBE(rings), PROBE(a_key),
    PROBE(a_keyring), PROBE(keys_of_the_host), PROBE(calls_of_32_bits), PROBE(capabilities), PROBE(privileges),
    PROBE(more_processes_than_allowed), PROBE(a_core), PROBE(the_hosts_loopback), PROBE(the_hosts_loopback_by_ipv6),
    PROBE(a_name_server), PROBE(a_socket_in_the_file_system), PROBE(an_abstract_socket), PROBE(interfaces),
    PROBE(frames), PROBE(packets), PROBE(the_hypervisor), PROBE(ciphers_of_the_kernel), PROBE(shared_memory),
};

/* Leaves a socket in the file system. */
static int leave_a_socket(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    return bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address) == 0 ? 0 : 1;
}

int main(int count, char **arguments) {
    if (count == 3 && strcmp(arguments[1], "socket") == 0) return leave_a_socket(arguments[2]);
    if (count != 9) return 2;
    host_file = arguments[1];
    host_pid = atoi(arguments[2]);
    tcp_port = atoi(arguments[3]);
    udp_address = arguments[4];
    socket_path = arguments[5];
    abstract_name = arguments[6];
    shm_key = atoi(arguments[7]);
    mark = arguments[8];
    setvbuf(stdout, NULL, _IONBF, 0);
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            int result = probes[i].probe();
            printf("%s %s%s\n", probes[i].name, result ? "escaped: " : "contained", how);
            _exit(0);
        }
        int status;
        if (child < 0 || waitpid(child, &status, 0) < 0 || !WIFEXITED(status))
            printf("%s died\n", probes[i].name);
    }
    return 0;
}
