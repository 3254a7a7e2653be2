//! System calls that no build needs.
//!
//! A list of what is refused, not of what is allowed: compilers and interpreters of other people run here, and a call that
//! this program forgot would break them, while the namespaces hold without any of this. The list takes away what reaches
//! beyond files and processes: mounts, other namespaces, kernel modules, tracing, keyrings, and the parts of the kernel that
//! had most of its flaws. Calls newer than this program are refused as if the kernel did not know them, and so are those of
//! x32, which have numbers of their own; programs of another architecture (32 bits) are killed at their first call.
//!
//! Refused calls fail: a program that tries something and goes on without it should be able to.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter, sock_filter,
};

/// The newest call that this program has considered: `file_setattr` of Linux 6.17. From 424 on, calls have the same
/// numbers on all architectures.
const NEWEST: u32 = 469;

/// Flags of clone and unshare that make namespaces.
const NAMESPACES: [libc::c_int; 8] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    0x80, // CLONE_NEWTIME, of unshare alone
];

/// Sockets that reach no further than the sandbox's own network.
const FAMILIES: [libc::c_int; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// What a terminal can be asked to do to the session that it belongs to: type (TIOCSTI), select and paste (TIOCLINUX),
/// take the console's output (TIOCCONS), load a line discipline (TIOCSETD).
const TERMINAL: [u64; 4] = [0x5412, 0x541c, 0x541d, 0x5423];

/// Execution domains: Linux, that of 32 bits, the question for the present one; each with or without addresses that are
/// not random, which compilers turn off for repeatable results.
const PERSONALITIES: [u64; 5] = [0, 8, 0x4_0000, 0x4_0008, 0xffff_ffff];

/// The filters, ready to be [applied](apply).
pub(crate) struct Filters(Vec<BpfProgram>);

/// Compiles the filters. With a single id, a change of owner is answered as done, and nothing is: what root does without a
/// thought, such as unpacking an archive, should not depend on who runs imgforge.
pub(crate) fn filters(has_single_id: bool) -> io::Result<Filters> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let compile = |rules: Rules, errno: libc::c_int| -> Result<BpfProgram, seccompiler::BackendError> {
        let refuse = SeccompAction::Errno(errno.unsigned_abs());
        SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture)?.try_into()
    };
    let filters = || -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
        let mut denied = compile(denied()?, libc::EPERM)?;
        denied.splice(0..0, refuse_unknown());
        let mut all =
            vec![denied, compile(absent()?, libc::ENOSYS)?, compile(families()?, libc::EAFNOSUPPORT)?];
        if has_single_id {
            // An error of zero is success.
            all.push(compile(owners(), 0)?);
        }
        Ok(all)
    };
    filters().map(Filters).map_err(io::Error::other)
}

/// Puts the filters on this process and all that come from it, for good. Takes no_new_privs.
pub(crate) fn apply(filters: &Filters) -> io::Result<()> {
    filters.0.iter().try_for_each(|filter| apply_filter(filter).map_err(io::Error::other))
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Result<T, E = seccompiler::BackendError> = std::result::Result<T, E>;

/// What is not permitted.
fn denied() -> Result<Rules> {
    let mut rules: Rules = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend(DENIED_X86_64.iter().map(|call| (*call, Vec::new())));
    let bits = |argument| {
        NAMESPACES.iter().map(move |flag| {
            let flag = u64::from(flag.unsigned_abs());
            rule(&[(argument, SeccompCmpOp::MaskedEq(flag), flag)])
        })
    };
    // In clone, the lowest byte is the signal that ends it.
    rules.insert(libc::SYS_clone, bits(0).take(7).collect::<Result<_>>()?);
    rules.insert(libc::SYS_unshare, bits(0).collect::<Result<_>>()?);
    let terminal = TERMINAL.map(|request| rule(&[(1, SeccompCmpOp::Eq, request)]));
    rules.insert(libc::SYS_ioctl, terminal.into_iter().collect::<Result<_>>()?);
    let others: Vec<_> = PERSONALITIES.iter().map(|known| (0, SeccompCmpOp::Ne, *known)).collect();
    rules.insert(libc::SYS_personality, vec![rule(&others)?]);
    Ok(rules)
}

/// What is answered as an older kernel would, so that programs take the older way.
fn absent() -> Result<Rules> {
    // Its flags are in memory, where no filter can look.
    let calls =
        [libc::SYS_clone3, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    Ok(calls.into_iter().map(|call| (call, Vec::new())).collect())
}

/// What changes owners.
fn owners() -> Rules {
    let mut calls = vec![libc::SYS_fchown, libc::SYS_fchownat];
    #[cfg(target_arch = "x86_64")]
    calls.extend([libc::SYS_chown, libc::SYS_lchown]);
    calls.into_iter().map(|call| (call, Vec::new())).collect()
}

/// Sockets of other families, answered as by a kernel that was built without them.
fn families() -> Result<Rules> {
    let others: Vec<_> =
        FAMILIES.iter().map(|family| (0, SeccompCmpOp::Ne, u64::from(family.unsigned_abs()))).collect();
    let calls = [libc::SYS_socket, libc::SYS_socketpair];
    calls.into_iter().map(|call| Ok((call, vec![rule(&others)?]))).collect()
}

/// A rule that holds when all its conditions do; of 32 bits of an argument each, as flags, requests and families are.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule> {
    let conditions = conditions.iter().map(|(argument, operator, value)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), *value)
    });
    SeccompRule::new(conditions.collect::<Result<_>>()?)
}

/// Three instructions before all others: load the call's number; if it is greater than [`NEWEST`], ENOSYS.
fn refuse_unknown() -> [sock_filter; 3] {
    let instruction = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 0, 1, NEWEST),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, refuse),
    ]
}

const DENIED: &[i64] = &[
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    457, // statmount
    458, // listmount
    467, // open_tree_attr
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    // Files by something other than a path.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // Namespaces.
    libc::SYS_setns,
    // The kernel itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_lookup_dcookie,
    libc::SYS_vhangup,
    libc::SYS_nfsservctl,
    // Other processes' memory and descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    libc::SYS_memfd_secret,
    // Keyrings, which are not of any namespace.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
];

#[cfg(target_arch = "x86_64")]
const DENIED_X86_64: &[i64] = &[
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_programs_that_the_kernel_takes() {
        let Filters(programs) = filters(false).unwrap();
        assert_eq!(programs.len(), 3);
        for program in programs {
            // The kernel's limit, and one that keeps the list from growing without notice.
            assert!(program.len() < 1024, "{}", program.len());
        }
    }

    /// Runs the filters' first program by hand on a call, as the kernel would.
    fn check(call: u32, arguments: [u64; 2], expected: Option<libc::c_int>) {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => 0xc000_003e,
            _ => 0xc000_00b7,
        };
        let mut data = [call, architecture, 0, 0].map(u32::to_le_bytes).concat();
        data.extend(arguments.map(u64::to_le_bytes).concat());
        data.extend([0; 32]);
        let Filters(programs) = filters(false).unwrap();
        let refusals = programs.iter().map(|program| run(program, &data));
        let refusal = refusals.max_by_key(|action| u8::from(*action != libc::SECCOMP_RET_ALLOW)).unwrap();
        let expected =
            expected.map_or(libc::SECCOMP_RET_ALLOW, |errno| libc::SECCOMP_RET_ERRNO | errno.unsigned_abs());
        assert_eq!(refusal, expected, "{call} {arguments:x?}");
    }

    fn run(program: &[sock_filter], data: &[u8]) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at].clone();
            let code = u32::from(code);
            at += 1;
            let jump = |taken: bool| usize::from(if taken { jt } else { jf });
            match code {
                0x20 => accumulator = u32::from_le_bytes(data[k as usize..][..4].try_into().unwrap()),
                0x54 => accumulator &= k,
                0x05 => at += k as usize,
                0x06 => return k,
                0x15 => at += jump(accumulator == k),
                0x25 => at += jump(accumulator > k),
                0x35 => at += jump(accumulator >= k),
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn number(call: i64) -> u32 {
        u32::try_from(call).unwrap()
    }

    #[test]
    fn builds_may_do_what_they_need() {
        for call in [libc::SYS_openat, libc::SYS_execve, libc::SYS_memfd_create, libc::SYS_seccomp] {
            check(number(call), [0, 0], None);
        }
        check(number(libc::SYS_clone), [u64::from((libc::CLONE_VM | libc::SIGCHLD).unsigned_abs()), 0], None);
        check(number(libc::SYS_unshare), [u64::from(libc::CLONE_FILES.unsigned_abs()), 0], None);
        check(number(libc::SYS_ioctl), [0, 0x5413], None);
        check(number(libc::SYS_personality), [0x4_0000, 0], None);
        check(number(libc::SYS_socket), [1, 0], None);
        check(NEWEST, [0, 0], None);
    }

    #[test]
    fn what_is_refused() {
        check(number(libc::SYS_mount), [0, 0], Some(libc::EPERM));
        for flag in NAMESPACES {
            check(number(libc::SYS_unshare), [u64::from(flag.unsigned_abs()), 0], Some(libc::EPERM));
        }
        let flags = u64::from((libc::CLONE_NEWUSER | libc::SIGCHLD).unsigned_abs());
        check(number(libc::SYS_clone), [flags, 0], Some(libc::EPERM));
        check(number(libc::SYS_clone), [flags | 1 << 40, 0], Some(libc::EPERM));
        check(number(libc::SYS_clone3), [0, 0], Some(libc::ENOSYS));
        check(number(libc::SYS_ioctl), [0, 0x5412], Some(libc::EPERM));
        check(number(libc::SYS_ioctl), [0, 0x5412 | 7 << 32], Some(libc::EPERM));
        check(number(libc::SYS_personality), [0x40_0000, 0], Some(libc::EPERM));
        check(number(libc::SYS_socket), [16, 0], Some(libc::EAFNOSUPPORT));
        check(number(libc::SYS_socketpair), [40, 0], Some(libc::EAFNOSUPPORT));
    }

    #[test]
    fn calls_that_nobody_considered_are_refused() {
        check(NEWEST + 1, [0, 0], Some(libc::ENOSYS));
        // The same call by x32's number.
        check(0x4000_0000 | number(libc::SYS_mount), [0, 0], Some(libc::ENOSYS));
    }
}
