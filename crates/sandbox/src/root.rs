//! The root filesystem of a sandbox: layers joined, and what every program expects around them.
//!
//! Runs in the sandbox's namespaces, before the command is there. Names of the image are data of strangers: a folder
//! that something is mounted on is opened below the root without following a link, so that an image whose `/proc` leads
//! elsewhere gets no mount elsewhere.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::Joined;
use crate::attributes::{self, Identity};
use crate::extract::{self_path, split, stat};
use crate::message::{During as _, Failure, FailureKind, Join, Run, Wanted};
use crate::union::{Union, join, open_below};

/// What every sandbox is called.
const HOST: &[u8] = b"build";

/// Layers that overlayfs joins at most (OVL_MAX_STACK in Linux).
const MAX_LAYERS: usize = 500;

/// Devices, each as harmless as a file.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Files and folders of `/proc` that tell of the host or act on it: those are empty.
const MASKED: [&str; 27] = [
    "acpi",
    "asound",
    "buddyinfo",
    "bus",
    "cmdline",
    "config.gz",
    "consoles",
    "diskstats",
    "driver",
    "fs",
    "interrupts",
    "iomem",
    "ioports",
    "irq",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "latency_stats",
    "modules",
    "partitions",
    "scsi",
    "swaps",
    "sysrq-trigger",
    "timer_list",
    "sys/kernel/random/boot_id",
];

/// The folders of a run, opened.
pub(crate) struct Places {
    /// The folder of all the others, in which `root` is mounted on.
    scratch: OwnedFd,
    upper: OwnedFd,
    work: OwnedFd,
    /// The lowest first.
    layers: Vec<OwnedFd>,
    /// Takes the contents of outputs, if there are to be any.
    pub(crate) spool: Option<File>,
}

impl Places {
    /// Opens them, below the working folder. Who root is in the sandbox may have no way to them: on the host, that is
    /// nobody.
    pub(crate) fn open(run: &Run) -> Result<Self, Failure> {
        let folder = |path: &str| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(CWD, path, flags, Mode::empty()).during(&format!("open {path}"))
        };
        let scratch = folder(&run.scratch)?;
        let spool = match run.outputs {
            Wanted::Nothing => None,
            _ => {
                let path = format!("{}/outputs", run.scratch);
                let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let spool = rustix::fs::openat(CWD, path, flags, Mode::empty());
                Some(spool.during("open the outputs' file")?.into())
            }
        };
        Ok(Self {
            upper: folder(&format!("{}/upper", run.scratch))?,
            work: folder(&format!("{}/work", run.scratch))?,
            layers: run.layers.iter().map(|layer| folder(layer)).collect::<Result<_, _>>()?,
            scratch,
            spool,
        })
    }

    /// The layers as they were.
    pub(crate) fn before(&self) -> io::Result<Union> {
        Ok(Union::new(self.layers.iter().rev().map(OwnedFd::try_clone).collect::<Result<_, _>>()?))
    }

    /// Where changes are.
    pub(crate) const fn upper(&self) -> &OwnedFd {
        &self.upper
    }
}

/// A root filesystem that is mounted.
pub(crate) struct Root {
    pub(crate) fd: OwnedFd,
    pub(crate) joined: Joined,
}

impl Root {
    /// Joins the layers.
    pub(crate) fn join(places: &Places, run: &Run) -> Result<Self, Failure> {
        rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .allowed("keep mounts to itself")?;
        let joined = match run.join {
            Join::Any if !run.is_copied && places.layers.len() <= MAX_LAYERS && overlay(places).is_ok() => {
                Joined::Overlay
            }
            _ => {
                if !run.is_copied {
                    copy(places).during("copy the layers")?;
                }
                let root = self_path(&places.scratch).join("root");
                rustix::mount::mount_bind(self_path(&places.upper), root)
                    .allowed("mount the copied layers")?;
                Joined::Copy
            }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&places.scratch, "root", flags, Mode::empty());
        Ok(Self { fd: fd.during("open the root filesystem")?, joined })
    }

    /// Mounts what programs expect beside files: `/proc`, `/dev`, `/tmp`.
    pub(crate) fn furnish(&self, run: &Run) -> Result<(), Failure> {
        self.proc()?;
        self.dev(run)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        let options = format!("mode=1777,size={},nr_inodes=1m", run.limits.tmp);
        self.tmpfs("tmp", flags, &options)
    }

    fn proc(&self) -> Result<(), Failure> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let mounted = rustix::mount::mount("proc", self_path(&self.folder("proc")?), "proc", flags, None);
        mounted.allowed("mount /proc")?;
        let proc = self.folder("proc")?;
        // Nobody in there makes user namespaces, the seccomp filter aside. This is a limit of our own namespace, and to
        // raise it again takes a capability that the command has not.
        let limit = open_below(&proc, b"sys/user/max_user_namespaces", OFlags::WRONLY);
        let written = limit.and_then(|fd| File::from(fd).write_all(b"0\n"));
        written.during("forbid further user namespaces")?;
        let sys = open_below(&proc, b"sys", OFlags::PATH | OFlags::DIRECTORY).during("open /proc/sys")?;
        rustix::mount::mount_bind(self_path(&sys), self_path(&sys)).allowed("mount /proc/sys")?;
        let sys = open_below(&proc, b"sys", OFlags::PATH | OFlags::DIRECTORY).during("open /proc/sys")?;
        let read_only = flags | MountFlags::BIND | MountFlags::RDONLY;
        rustix::mount::mount_remount(self_path(&sys), read_only, "").allowed("make /proc/sys read-only")?;
        let mut empty: Option<OwnedFd> = None;
        for name in MASKED {
            let target = match open_below(&proc, name.as_bytes(), OFlags::PATH) {
                Ok(target) => target,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).during(&format!("open /proc/{name}")),
            };
            let is_folder = rustix::fs::fstat(&target).is_ok_and(|stat| is_folder(&stat));
            let masked = match (is_folder, &empty) {
                (false, _) => rustix::mount::mount_bind("/dev/null", self_path(&target)),
                (true, Some(empty)) => rustix::mount::mount_bind(self_path(empty), self_path(&target)),
                (true, None) => {
                    let flags = flags | MountFlags::RDONLY;
                    let options = c"mode=555,size=4k,nr_inodes=1";
                    rustix::mount::mount("tmpfs", self_path(&target), "tmpfs", flags, options)
                }
            };
            masked.allowed(&format!("hide /proc/{name}"))?;
            if is_folder && empty.is_none() {
                let opened = open_below(&proc, name.as_bytes(), OFlags::PATH | OFlags::DIRECTORY);
                empty = Some(opened.during(&format!("open /proc/{name}"))?);
            }
        }
        Ok(())
    }

    fn dev(&self, run: &Run) -> Result<(), Failure> {
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        self.tmpfs("dev", flags, "mode=755,size=64k,nr_inodes=64")?;
        let dev = self.folder("dev")?;
        for name in DEVICES {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&dev, name, flags, Mode::RUSR | Mode::WUSR);
            let bound =
                file.and_then(|file| rustix::mount::mount_bind(format!("/dev/{name}"), self_path(&file)));
            bound.allowed(&format!("mount /dev/{name}"))?;
        }
        let links = [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("ptmx", "pts/ptmx"),
        ];
        for (name, target) in links {
            rustix::fs::symlinkat(target, &dev, name).during("fill /dev")?;
        }
        for name in ["pts", "shm"] {
            rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755)).during("fill /dev")?;
        }
        let options = c"newinstance,ptmxmode=0666,mode=620";
        let pts = self.folder("dev/pts")?;
        rustix::mount::mount("devpts", self_path(&pts), "devpts", flags, options)
            .allowed("mount /dev/pts")?;
        let options = format!("mode=1777,size={},nr_inodes=64k", run.limits.shm);
        self.tmpfs("dev/shm", MountFlags::NOSUID | MountFlags::NODEV, &options)?;
        let read_only = flags | MountFlags::BIND | MountFlags::RDONLY;
        let dev = self.folder("dev")?;
        rustix::mount::mount_remount(self_path(&dev), read_only, "").allowed("make /dev read-only")
    }

    fn tmpfs(&self, path: &str, flags: MountFlags, options: &str) -> Result<(), Failure> {
        let options = CString::new(options).map_err(io::Error::from).during("read the limits")?;
        let folder = self.folder(path)?;
        rustix::mount::mount("tmpfs", self_path(&folder), "tmpfs", flags, options.as_c_str())
            .allowed(&format!("mount /{path}"))
    }

    /// A folder that is to be mounted on, or was. Layers below all others have them; an image may have removed one.
    fn folder(&self, path: &str) -> Result<OwnedFd, Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let opened = match open_below(&self.fd, path.as_bytes(), flags) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                rustix::fs::mkdirat(&self.fd, path, Mode::from_raw_mode(0o755))
                    .during(&format!("make /{path}"))?;
                open_below(&self.fd, path.as_bytes(), flags)
            }
            opened => opened,
        };
        opened.during(&format!("take /{path} of the image for a folder"))
    }

    /// Makes this the only root there is: afterwards no path leads anywhere else.
    pub(crate) fn enter(&self) -> Result<(), Failure> {
        rustix::process::fchdir(&self.fd).during("go to the root filesystem")?;
        rustix::process::pivot_root(".", ".").allowed("change the root")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH).allowed("leave the host's root")?;
        rustix::process::chdir("/").during("go to the root filesystem")
    }
}

/// Gives the sandbox its name, and its network: itself.
pub(crate) fn identify(run: &Run) -> Result<(), Failure> {
    rustix::system::sethostname(HOST).allowed("set the host's name")?;
    rustix::system::setdomainname(b"(none)").allowed("set the host's name")?;
    if run.has_network { Ok(()) } else { loopback_up().allowed("bring the loopback interface up") }
}

/// Mounts the layers with overlayfs.
///
/// Layers are named by their descriptors, from `/proc/self/fd` as the working folder: mount(2) takes 4 KiB of options,
/// which are 27 paths of a store, but 500 numbers; and the options can be read in `/proc/mounts` of the sandbox. Nothing
/// is written to the disk for a sync (`volatile`), since nobody needs the upper folder after a crash.
fn overlay(places: &Places) -> io::Result<()> {
    if !has_attributes(&places.upper)? {
        // Folders that are removed and made anew could not hide those below.
        return Err(Errno::OPNOTSUPP.into());
    }
    rustix::process::chdir("/proc/self/fd")?;
    let lower: Vec<_> = places.layers.iter().rev().map(|layer| layer.as_raw_fd().to_string()).collect();
    let (upper, work) = (places.upper.as_raw_fd(), places.work.as_raw_fd());
    let options = format!("lowerdir={},upperdir={upper},workdir={work},userxattr,volatile", lower.join(":"));
    let options = CString::new(options)?;
    let target = format!("{}/root", places.scratch.as_raw_fd());
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(rustix::mount::mount("overlay", target, "overlay", flags, options.as_c_str())?)
}

/// Whether files can have extended attributes that users set.
fn has_attributes(folder: &OwnedFd) -> io::Result<bool> {
    let name = "user.overlay.imgforge";
    match rustix::fs::fsetxattr(folder, name, b"y", rustix::fs::XattrFlags::empty()) {
        Ok(()) => Ok(rustix::fs::fremovexattr(folder, name).map(|()| true)?),
        Err(Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Copies what is to be seen of the layers into the upper folder.
fn copy(places: &Places) -> io::Result<()> {
    let layers = places.before()?;
    let root = &places.upper;
    let mut names: std::collections::HashMap<(usize, Identity), Vec<u8>> = std::collections::HashMap::new();
    let mut folders = vec![Vec::new()];
    while let Some(folder) = folders.pop() {
        for (name, found) in layers.list(&folder)? {
            let path = join(&folder, &name);
            let parent = open_below(root, &folder, OFlags::PATH | OFlags::DIRECTORY)?;
            let source = layers.layer(found.layer)?;
            let shared = attributes::shared(&found.stat).map(|identity| (found.layer, identity));
            if let Some(first) = shared.and_then(|shared| names.get(&shared)) {
                let flags = rustix::fs::AtFlags::empty();
                rustix::fs::linkat(root, first.as_slice(), &parent, name.as_slice(), flags)?;
                continue;
            }
            copy_one(source, &path, parent.as_fd(), &name, &found.stat)?;
            if let Some(shared) = shared {
                names.insert(shared, path.clone());
            }
            if found.is_folder() {
                folders.push(path);
            }
        }
    }
    let top = places.layers.last().map(rustix::fs::fstat).transpose()?;
    if let Some(top) = top {
        rustix::fs::fchmod(root, Mode::from_raw_mode(top.st_mode & 0o7777))?;
    }
    Ok(())
}

fn copy_one(
    source: BorrowedFd<'_>,
    path: &[u8],
    parent: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
) -> io::Result<()> {
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    let own = || {
        let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
    };
    let finish = |from: &OwnedFd, to: BorrowedFd<'_>| -> io::Result<()> {
        own()?;
        rustix::fs::fchmod(to, mode)?;
        for (name, value) in attributes::xattrs(from)? {
            rustix::fs::fsetxattr(to, name.as_slice(), &value, rustix::fs::XattrFlags::empty())?;
        }
        Ok(())
    };
    let create = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let to = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            finish(&open_below(source, path, OFlags::RDONLY | OFlags::DIRECTORY)?, to.as_fd())
        }
        FileType::RegularFile => {
            let from = open_below(source, path, OFlags::RDONLY | OFlags::NONBLOCK)?;
            let to = rustix::fs::openat(parent, name, OFlags::WRONLY | create, Mode::RUSR | Mode::WUSR)?;
            if rustix::fs::ioctl_ficlone(&to, &from).is_err() {
                io::copy(&mut File::from(from.try_clone()?), &mut File::from(to.try_clone()?))?;
            }
            finish(&from, to.as_fd())?;
            let modified = rustix::fs::Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: stat.st_mtime_nsec.try_into().unwrap_or_default(),
            };
            let times = rustix::fs::Timestamps { last_access: modified, last_modification: modified };
            Ok(rustix::fs::futimens(&to, &times)?)
        }
        FileType::Symlink => {
            let (folder, link) = split(path);
            let folder = open_below(source, folder, OFlags::PATH | OFlags::DIRECTORY)?;
            let target = rustix::fs::readlinkat(folder, link, Vec::new())?;
            rustix::fs::symlinkat(target, parent, name)?;
            Ok(own()?)
        }
        FileType::Fifo => {
            rustix::fs::mknodat(parent, name, FileType::Fifo, mode, 0)?;
            Ok(own()?)
        }
        _ => Ok(()),
    }
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Marks the loopback interface as up, which gives it its addresses.
fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: an interface request of zeros is a valid one, without a name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the call reads one interface request, which outlives it, and the descriptor is open.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the folder that the command starts in, with those above, and gives what it makes to the user.
pub(crate) fn make_folder(root: &OwnedFd, path: &str, uid: u32, gid: u32) -> Result<(), Failure> {
    let step = format!("make /{path}");
    let mut made = Vec::new();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        // Links are followed, as the command would: the root is entered, so they lead nowhere else.
        let full = join(&made, name.as_bytes());
        match rustix::fs::mkdirat(root, full.as_slice(), Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
                let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(root, full.as_slice(), Some(uid), Some(gid), flags).during(&step)?;
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error).during(&step),
        }
        made = full;
    }
    match stat(root, &made).during(&step)? {
        Some(_) => Ok(()),
        None if made.is_empty() => Ok(()),
        None => Err(Failure::new(FailureKind::Setup, step, &io::ErrorKind::NotFound.into())),
    }
}
