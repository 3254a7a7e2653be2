//! Who the users of a sandbox are on the host.
//!
//! A sandbox is always a user namespace, also when root starts it, so that nobody in it is anybody outside. Which ids it
//! has depends on who asks:
//!
//! | who | root of the sandbox is | its other ids |
//! | --- | --- | --- |
//! | a user with lines in `/etc/subuid` and `/etc/subgid`, where newuidmap is | that user | from those lines |
//! | any other user | that user | there are none: a change of owner does nothing |
//! | root with such lines | the first id of the line | the following ones |
//! | root | [`SHIFTED`], which is nobody | the following ones |
//! | root of a container that has 65,536 ids | itself: there is nobody else to be | its own |
//!
//! Unpacked layers belong to these ids, so they are part of where those lie in the store.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

/// Ids that a sandbox should have: Debian's own go up to 65,534, which is `nobody`.
const COUNT: u32 = 1 << 16;

/// Where root's sandboxes have theirs: the last two times 65,536 below 2^31, above which some programs see negative
/// numbers. systemd's containers end at 1,879,048,191, and nobody hands out what lies between.
const SHIFTED: u32 = (1 << 31) - (1 << 17);

/// Folders in which distributions have newuidmap and newgidmap. PATH belongs to whoever started the program; these are
/// run with its rights.
const PROGRAMS: [&str; 4] = ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"];

/// Ids from `inside` on are ids from `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extent {
    pub(crate) inside: u32,
    pub(crate) outside: u32,
    pub(crate) count: u32,
}

/// The ids of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ids {
    pub(crate) uids: Vec<Extent>,
    pub(crate) gids: Vec<Extent>,
    /// The folder of newuidmap and newgidmap where they are needed.
    pub(crate) programs: Option<PathBuf>,
}

impl Ids {
    /// The ids that a sandbox of this process has.
    ///
    /// # Errors
    /// The system's error for files of `/proc` that can't be read.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let programs = PROGRAMS
            .map(Path::new)
            .into_iter()
            .find(|folder| ["newuidmap", "newgidmap"].iter().all(|program| folder.join(program).exists()));
        Ok(choose(&Facts {
            uid,
            gid,
            passwd: &text("/etc/passwd"),
            uid_map: &fs::read_to_string("/proc/self/uid_map")?,
            gid_map: &fs::read_to_string("/proc/self/gid_map")?,
            subuid: &text("/etc/subuid"),
            subgid: &text("/etc/subgid"),
            programs,
            // Set-uid programs are of no use then, and both of these are.
            has_no_new_privileges: rustix::thread::no_new_privs()?,
        }))
    }

    /// Whether there is but one id, so that nothing in the sandbox can change hands.
    pub(crate) fn is_single(&self) -> bool {
        self.uids.iter().map(|extent| u64::from(extent.count)).sum::<u64>() == 1
    }

    /// The same where there are several ids; where there is one, that one is called so inside.
    pub(crate) fn with_single_as(&self, uid: u32, gid: u32) -> Self {
        let called = |extents: &[Extent], inside| match extents {
            [Extent { outside, count: 1, .. }] => vec![Extent { inside, outside: *outside, count: 1 }],
            several => several.to_vec(),
        };
        Self { uids: called(&self.uids, uid), gids: called(&self.gids, gid), programs: self.programs.clone() }
    }

    /// User and group that the sandbox's root is on the host.
    pub(crate) fn root(&self) -> (u32, u32) {
        let first = |extents: &[Extent]| extents.first().map_or(0, |extent| extent.outside);
        (first(&self.uids), first(&self.gids))
    }

    /// Whether files can belong to these.
    pub(crate) fn have(&self, uid: u64, gid: u64) -> bool {
        let has = |extents: &[Extent], id: u64| {
            extents.iter().any(|Extent { inside, count, .. }| {
                id >= u64::from(*inside) && id - u64::from(*inside) < u64::from(*count)
            })
        };
        has(&self.uids, uid) && has(&self.gids, gid)
    }

    /// A name of letters, digits, `-` and `_` that is the same for the same ids, and tells which.
    pub(crate) fn name(&self) -> String {
        let text = |extents: &[Extent]| {
            let extents = extents.iter().map(|extent| {
                let Extent { inside, outside, count } = extent;
                format!("{inside}-{outside}-{count}")
            });
            extents.collect::<Vec<_>>().join("_")
        };
        let (uids, gids) = (text(&self.uids), text(&self.gids));
        if uids == gids { uids } else { format!("{uids}.{gids}") }
    }

    /// The lines for `uid_map` or `gid_map`.
    pub(crate) fn lines(extents: &[Extent]) -> String {
        let line = |extent: &Extent| format!("{} {} {}\n", extent.inside, extent.outside, extent.count);
        extents.iter().map(line).collect()
    }
}

/// What the choice depends on.
struct Facts<'a> {
    uid: u32,
    gid: u32,
    passwd: &'a str,
    uid_map: &'a str,
    gid_map: &'a str,
    subuid: &'a str,
    subgid: &'a str,
    programs: Option<&'a Path>,
    has_no_new_privileges: bool,
}

fn choose(facts: &Facts<'_>) -> Ids {
    let Facts { uid, gid, .. } = *facts;
    let ids =
        |uids, gids, programs: Option<&Path>| Ids { uids, gids, programs: programs.map(Path::to_owned) };
    let single = |outside| vec![Extent { inside: 0, outside, count: 1 }];
    let range = |outside| vec![Extent { inside: 0, outside, count: COUNT }];
    let granted =
        subordinate(facts.subuid, facts, COUNT - 1).zip(subordinate(facts.subgid, facts, COUNT - 1));
    if uid == 0 {
        let both = |start| has_ids(facts.uid_map, start) && has_ids(facts.gid_map, start);
        let granted = subordinate(facts.subuid, facts, COUNT).zip(subordinate(facts.subgid, facts, COUNT));
        return match granted {
            Some((uids, gids)) if has_ids(facts.uid_map, uids) && has_ids(facts.gid_map, gids) => {
                ids(range(uids), range(gids), None)
            }
            _ if both(SHIFTED) => ids(range(SHIFTED), range(SHIFTED), None),
            _ if both(0) => ids(range(0), range(0), None),
            _ => ids(single(0), single(gid), None),
        };
    }
    match (granted, facts.programs) {
        (Some((uids, gids)), Some(programs)) if !facts.has_no_new_privileges => {
            let with = |own, outside| {
                vec![
                    Extent { inside: 0, outside: own, count: 1 },
                    Extent { inside: 1, outside, count: COUNT - 1 },
                ]
            };
            ids(with(uid, uids), with(gid, gids), Some(programs))
        }
        _ => ids(single(uid), single(gid), None),
    }
}

/// Where the ids begin that `/etc/subuid` or `/etc/subgid` gives to the user, who is there by name or by number; the
/// first line with enough of them counts. Source: subuid(5).
fn subordinate(text: &str, facts: &Facts<'_>, count: u32) -> Option<u32> {
    let number = facts.uid.to_string();
    let names = facts.passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then_some(name)
    });
    let names: Vec<&str> = names.chain([number.as_str()]).collect();
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, start, given) = (fields.next()?, fields.next()?, fields.next()?);
        let (start, given): (u32, u32) = (start.parse().ok()?, given.parse().ok()?);
        let is_enough = given >= count && start > 0 && start.checked_add(given).is_some();
        (names.contains(&name) && is_enough).then_some(start)
    })
}

/// Whether this process's own namespace has [`COUNT`] ids from `start` on, by the text of its map.
fn has_ids(map: &str, start: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u64>().ok());
        match (numbers.next().flatten(), numbers.nth(1).flatten()) {
            (Some(inside), Some(count)) => {
                let (start, end) = (u64::from(start), u64::from(start) + u64::from(COUNT));
                inside <= start && end <= inside + count
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "         0          0 4294967295\n";
    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";

    fn check(uid: u32, map: &str, subids: &str, programs: bool, expected: &str) {
        let facts = Facts {
            uid,
            gid: uid,
            passwd: PASSWD,
            uid_map: map,
            gid_map: map,
            subuid: subids,
            subgid: subids,
            programs: programs.then(|| Path::new("/usr/bin")),
            has_no_new_privileges: false,
        };
        let ids = choose(&facts);
        assert_eq!(ids.name(), expected);
        assert_eq!(ids.programs.is_some(), expected.contains('_'));
        assert_eq!(ids.is_single(), expected.ends_with("-1"));
        let restricted = choose(&Facts { has_no_new_privileges: true, ..facts });
        assert_eq!(restricted.programs, None, "set-uid programs do nothing there");
    }

    #[test]
    fn a_user_is_root_of_the_sandbox_itself() {
        check(1000, WHOLE, "", true, "0-1000-1");
        check(1000, WHOLE, "ann:100000:65536\n", false, "0-1000-1");
        check(1000, WHOLE, "bob:100000:65536\n", true, "0-1000-1");
        check(1000, WHOLE, "ann:100000:1000\n", true, "0-1000-1");
        check(1000, WHOLE, "ann:4294967000:65536\nann:x:y\n\n", true, "0-1000-1");
    }

    #[test]
    fn other_ids_come_from_the_lines_that_grant_them() {
        check(1000, WHOLE, "bob:1:65536\nann:100000:65536\n", true, "0-1000-1_1-100000-65535");
        check(1000, WHOLE, "ann:9:9\n1000:200000:65535\n", true, "0-1000-1_1-200000-65535");
    }

    #[test]
    fn root_of_the_host_is_nobody_in_the_sandbox() {
        check(0, WHOLE, "", true, "0-2147352576-65536");
        check(0, WHOLE, "root:300000:65536\n", false, "0-300000-65536");
        check(0, WHOLE, "root:300000:65535\n", false, "0-2147352576-65536");
    }

    #[test]
    fn root_of_a_container_has_what_the_container_has() {
        check(0, "0 100000 65536\n", "", true, "0-0-65536");
        check(0, "0 100000 65536\n", "root:300000:65536\n", true, "0-0-65536");
        check(0, "0 1000 1\n", "", true, "0-0-1");
        check(0, "0 1000 1\n1 100000 65535\n", "", true, "0-0-1");
    }

    #[test]
    fn groups_may_have_other_numbers() {
        let extent = |inside, outside, count| vec![Extent { inside, outside, count }];
        let ids = Ids { uids: extent(0, 1000, 1), gids: extent(0, 50, 1), programs: None };
        assert_eq!(ids.name(), "0-1000-1.0-50-1");
        assert_eq!(ids.root(), (1000, 50));
        let build = ids.with_single_as(7, 8);
        assert_eq!((build.uids.clone(), build.gids.clone()), (extent(7, 1000, 1), extent(8, 50, 1)));
        assert!(build.have(7, 8) && !build.have(0, 8) && !build.have(7, 9));
        assert_eq!(Ids::lines(&build.uids), "7 1000 1\n");
    }
}
