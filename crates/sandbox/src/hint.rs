//! What to enable on a host that has no sandbox for us.

use std::{fs, io};

/// Settings that take user namespaces away, by the file in `/proc/sys` and the value that does; and what gives them back.
const SETTINGS: [(&str, &str, &str); 4] = [
    ("user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
    ("user/max_mnt_namespaces", "0", "user.max_mnt_namespaces=15000"),
    ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
];

/// Lines that say what may help, each behind `hint: ` but the first.
pub(crate) fn hint(step: &str, source: &io::Error) -> String {
    let setting = |file: &str| fs::read_to_string(format!("/proc/sys/{file}")).unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    hints(step, source, &setting, &status).join("\nhint: ")
}

fn hints(step: &str, source: &io::Error, setting: &dyn Fn(&str) -> String, status: &str) -> Vec<String> {
    let mut hints: Vec<String> = SETTINGS
        .iter()
        .filter(|(file, off, _)| setting(file).trim() == *off)
        .map(|(_, _, on)| format!("user namespaces are turned off here; as root: sysctl -w {on}"))
        .collect();
    if step.contains("newuidmap") || step.contains("newgidmap") {
        hints.push(
            "newuidmap and newgidmap have to be set-uid root (Debian: apt-get install --reinstall uidmap); without this \
             user's lines in /etc/subuid and /etc/subgid they are not needed, and the sandbox has one user"
                .to_owned(),
        );
    }
    let is_filtered = status.lines().any(|line| line.starts_with("Seccomp:") && line.ends_with('2'));
    if is_filtered {
        hints.push(
            "this process is in a container that filters system calls; start that with `--security-opt seccomp=unconfined \
             --security-opt systempaths=unconfined`, or with `--privileged`"
                .to_owned(),
        );
    } else if step.contains("/proc") {
        hints.push(
            "parts of /proc are hidden here, as in a container; start that with `--security-opt systempaths=unconfined`"
                .to_owned(),
        );
    }
    if hints.is_empty() {
        hints.push(match source.raw_os_error() {
            Some(libc::ENOSYS | libc::EINVAL) => {
                "the sandbox takes Linux 5.14 or newer with CONFIG_USER_NS, CONFIG_PID_NS, CONFIG_NET_NS and \
                 CONFIG_SECCOMP_FILTER"
                    .to_owned()
            }
            _ => "the sandbox needs user namespaces: `unshare --user --map-root-user --mount --pid --fork true` has to work \
                  for this user"
                .to_owned(),
        });
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "Name:\timgforge\nSeccomp:\t0\n";

    fn check(step: &str, errno: i32, off: &str, status: &str, expected: &str) {
        let setting = |file: &str| {
            let value =
                SETTINGS.iter().find(|(name, ..)| *name == file && *name == off).map(|(_, off, _)| *off);
            value.unwrap_or("7").to_owned() + "\n"
        };
        let hints = hints(step, &io::Error::from_raw_os_error(errno), &setting, status);
        assert!(hints.iter().any(|hint| hint.contains(expected)), "{hints:?}");
    }

    #[test]
    fn what_is_turned_off_is_named() {
        let step = "make the sandbox's namespaces";
        check(
            step,
            libc::ENOSPC,
            "user/max_user_namespaces",
            PLAIN,
            "sysctl -w user.max_user_namespaces=15000",
        );
        check(step, libc::EPERM, "kernel/unprivileged_userns_clone", PLAIN, "unprivileged_userns_clone=1");
        let apparmor = "kernel/apparmor_restrict_unprivileged_userns";
        check("mount /tmp", libc::EPERM, apparmor, PLAIN, "apparmor_restrict_unprivileged_userns=0");
    }

    #[test]
    fn what_may_be_the_reason_is_named() {
        check("make the sandbox's namespaces", libc::EPERM, "", "Seccomp:\t2\n", "seccomp=unconfined");
        check("make the sandbox's namespaces", libc::EINVAL, "", PLAIN, "Linux 5.14");
        check("make the sandbox's namespaces", libc::EPERM, "", PLAIN, "unshare --user");
        check("mount /proc", libc::EPERM, "", PLAIN, "systempaths=unconfined");
        check("run newuidmap", libc::EPERM, "", PLAIN, "/etc/subuid");
    }
}
