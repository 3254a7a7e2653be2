//! Unpacked layers in the store.

use std::fs::{self, File};
use std::io::{self, Seek as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use imgforge_layer::{Codec, Entry, TreePath, write_layer};
use imgforge_oci::{Compression, DiffId};
use imgforge_store::{Folder, Lease, Store};

use crate::Error;
use crate::ids::Ids;
use crate::launch::Supervisor;
use crate::message::{Job, Report, Task, Tree, Unpacked};

/// The version of what unpacked layers look like. Others than the present one are removed.
const FORMAT: &str = "1";

/// Layers that are unpacked at a time: more would wait for the disk.
const AT_ONCE: usize = 4;

/// Makes root filesystems and runs commands in them. Clones share nothing but the store.
#[derive(Clone, Debug)]
pub struct Sandbox {
    pub(crate) store: Store,
    pub(crate) ids: Ids,
    pub(crate) program: Option<PathBuf>,
    pub(crate) copies: bool,
    /// Set by somebody who wants no more of what runs.
    pub(crate) stop: Option<Arc<AtomicBool>>,
}

/// A layer of a root filesystem.
pub struct Layer<'a> {
    /// What it is.
    pub diff_id: DiffId,
    /// How its bytes are stored.
    pub compression: Compression,
    /// Opens the stored bytes. Only called when the layer is not unpacked yet.
    pub open: Box<dyn Fn() -> io::Result<File> + Send + Sync + 'a>,
}

/// Unpacked layers, on each other. The collector leaves them alone for as long as this lives.
#[derive(Debug)]
pub struct Root {
    /// The lowest first.
    pub(crate) layers: Vec<Placed>,
    _lease: Lease,
}

/// An unpacked layer.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// Of its root, relative to the store.
    pub(crate) path: String,
    tree: Tree,
}

impl Sandbox {
    /// Looks at what this process may do, and removes what sandboxes left in the store whose program was killed, as far
    /// as it can.
    ///
    /// # Errors
    /// As for any reading of the store.
    pub fn new(store: &Store) -> Result<Self, Error> {
        let ids = Ids::of_this_process().map_err(|source| Error::io("/proc/self", source))?;
        let sandbox = Self { store: store.clone(), ids, program: None, copies: false, stop: None };
        // Whatever is in the way of that is no reason to build nothing.
        let _ = sandbox.remove_abandoned();
        Ok(sandbox)
    }

    /// Executes this program as the sandbox's own processes, instead of the one that runs: for one in which
    /// [`init_if_asked`](crate::init_if_asked) can't be called, such as a Python interpreter.
    #[must_use]
    pub fn with_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Ends what runs when somebody sets the flag: with [`Error::Died`], which whoever set it expects.
    #[must_use]
    pub fn until(mut self, stop: &Arc<AtomicBool>) -> Self {
        self.stop = Some(Arc::clone(stop));
        self
    }

    /// Copies layers for each run, also where overlayfs could join them.
    #[must_use]
    pub fn with_copies(mut self) -> Self {
        self.copies = true;
        self
    }

    /// Whether files can have several owners in it: whether the user has ids of its own, as root has, or whoever is in
    /// `/etc/subuid` and `/etc/subgid`. Without, every file is root's, and a change of owner does nothing.
    pub fn has_owners(&self) -> bool {
        !self.ids.is_single()
    }

    /// Unpacks layers, the lowest first, those that are not unpacked yet; `on_wait` is called once for each layer that
    /// another process is unpacking.
    ///
    /// Below them lies a layer of our own, with the folders that a sandbox mounts on, and the least of `/etc` that
    /// programs expect: what the layers have of these covers it.
    ///
    /// # Errors
    /// [`Error::Layer`], [`Error::DiffId`], or whatever keeps a sandbox from being made.
    pub fn root(&self, layers: &[Layer<'_>], on_wait: &(dyn Fn(&DiffId) + Sync)) -> Result<Root, Error> {
        let lease = self.store.lease()?;
        let mut placed = vec![self.tree_layer(&skeleton()?)?];
        placed.extend(self.unpack(layers, on_wait)?);
        Ok(Root { layers: placed, _lease: lease })
    }

    /// Puts files on top of a root filesystem, as one more layer: the inputs of a command.
    ///
    /// # Errors
    /// [`Error::Files`], or whatever keeps a sandbox from being made.
    pub fn add(&self, root: &mut Root, files: &imgforge_layer::Tree) -> Result<(), Error> {
        root.layers.push(self.tree_layer(files)?);
        Ok(())
    }

    /// Removes unpacked layers whose records are gone, and what killed runs left. To be called after
    /// [`Store::gc`], which decides on the records. Says how many folders were removed.
    ///
    /// # Errors
    /// As for any writing to the store, and as for making a sandbox where that is needed to remove its files.
    pub fn sweep(&self) -> Result<usize, Error> {
        let mut removed = self.remove_abandoned()?;
        let top = self.store.root().join("rootfs");
        for format in names(&top)? {
            for ids in names(&top.join(&format))? {
                for layer in names(&top.join(&format).join(&ids))? {
                    removed += usize::from(self.sweep_layer(&format, &ids, &layer)?);
                }
            }
        }
        Ok(removed)
    }

    fn sweep_layer(&self, format: &str, ids: &str, layer: &str) -> Result<bool, Error> {
        let path = format!("rootfs/{format}/{ids}/{layer}");
        // Held by whoever is between moving a layer there and recording it.
        let Some(_lock) = self.store.try_work_lock(&path)? else { return Ok(false) };
        let has_record = || self.store.root().join("unpacked").join(format).join(ids).join(layer).exists();
        if format == FORMAT && has_record() {
            return Ok(false);
        }
        self.remove(&path)?;
        Ok(true)
    }

    fn remove_abandoned(&self) -> Result<usize, Error> {
        let folders = self.store.abandoned_folders()?;
        for folder in &folders {
            self.remove_folder(folder)?;
        }
        Ok(folders.len())
    }

    /// Removes a folder in `tmp/`.
    pub(crate) fn remove_folder(&self, folder: &Folder) -> Result<(), Error> {
        self.remove(&relative(&self.store, folder.path())?)
    }

    /// Removes a folder, the path relative to the store. Files of the sandbox's other users, and folders closed to
    /// everybody, take somebody who is the sandbox's root.
    pub(crate) fn remove(&self, path: &str) -> Result<(), Error> {
        let full = self.store.root().join(path);
        match fs::remove_dir_all(&full) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => return result.map_err(|source| Error::io(full, source)),
        }
        let null = File::open("/dev/null").map_err(|source| Error::io("/dev/null", source))?;
        let job = Job { ids: self.ids.clone(), task: Task::Remove { folder: path.to_owned() } };
        let supervisor = Supervisor::start(self.program.as_deref(), &self.store, &job, null.into())?;
        match supervisor.next()? {
            Some(Report::Removed) => Ok(()),
            Some(Report::Failed(failure)) => Err(Error::from_failure(failure, None)),
            _ => Err(supervisor.died()),
        }
    }

    fn unpack(&self, layers: &[Layer<'_>], on_wait: &(dyn Fn(&DiffId) + Sync)) -> Result<Vec<Placed>, Error> {
        let mut placed: Vec<Option<Placed>> = Vec::new();
        for layer in layers {
            placed.push(self.placed(&layer.diff_id)?);
        }
        let missing: Vec<usize> = placed
            .iter()
            .enumerate()
            .filter(|(_, placed)| placed.is_none())
            .map(|(number, _)| number)
            .collect();
        let (next, made) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some(layer) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                let outcome = layers.get(*layer).map_or(Ok(None), |layer| self.try_unpack(layer));
                let is_over = outcome.is_err();
                if let Ok(mut made) = made.lock() {
                    made.push((*layer, outcome));
                }
                if is_over {
                    // Nobody begins another one.
                    next.store(missing.len(), Ordering::Relaxed);
                }
            }
        };
        match missing.len() {
            0 => {}
            1 => work(),
            several => std::thread::scope(|scope| {
                for _ in 0..several.min(AT_ONCE) {
                    scope.spawn(work);
                }
            }),
        }
        for (number, outcome) in made.into_inner().unwrap_or_default() {
            let outcome = outcome?;
            if let Some(place) = placed.get_mut(number) {
                *place = outcome;
            }
        }
        // Those that somebody else was at: one after the other, with no lock held while waiting.
        let finished = placed.into_iter().zip(layers);
        finished
            .map(|(placed, layer)| match placed {
                Some(placed) => Ok(placed),
                None => self.wait_and_unpack(layer, on_wait),
            })
            .collect()
    }

    /// Unpacks a layer unless somebody else is at it.
    fn try_unpack(&self, layer: &Layer<'_>) -> Result<Option<Placed>, Error> {
        let Some(_lock) = self.store.try_work_lock(&self.place(&layer.diff_id))? else { return Ok(None) };
        self.unpack_locked(layer).map(Some)
    }

    fn wait_and_unpack(
        &self,
        layer: &Layer<'_>,
        on_wait: &(dyn Fn(&DiffId) + Sync),
    ) -> Result<Placed, Error> {
        let _lock = self.store.work_lock(&self.place(&layer.diff_id), |_| on_wait(&layer.diff_id))?;
        self.unpack_locked(layer)
    }

    fn unpack_locked(&self, layer: &Layer<'_>) -> Result<Placed, Error> {
        if let Some(placed) = self.placed(&layer.diff_id)? {
            return Ok(placed);
        }
        let folder = self.store.folder()?;
        let unpacked = self.unpack_into(&folder, layer);
        let Unpacked { tree, size, .. } = match unpacked {
            Ok(unpacked) => unpacked,
            Err(error) => {
                let _ = self.remove_folder(&folder);
                return Err(error);
            }
        };
        let place = self.place(&layer.diff_id);
        let full = self.store.root().join(&place);
        // Left by somebody who was killed before recording it.
        if full.exists() {
            self.remove(&place)?;
        }
        folder.persist(&full)?;
        let (bucket, key) = self.record_of(&layer.diff_id);
        self.store.put_record_of_size(&bucket, &key, &tree, size)?;
        Ok(Placed { path: format!("{place}/root"), tree })
    }

    fn unpack_into(&self, folder: &Folder, layer: &Layer<'_>) -> Result<Unpacked, Error> {
        let diff_id = layer.diff_id;
        let content = (layer.open)();
        let content =
            content.map_err(|source| Error::Layer { diff_id, step: "open it".to_owned(), source })?;
        let folder = relative(&self.store, folder.path())?;
        let task = Task::Unpack { folder, compression: layer.compression };
        let job = Job { ids: self.ids.clone(), task };
        let supervisor =
            Supervisor::start(self.program.as_deref(), &self.store, &job, OwnedFd::from(content))?;
        match supervisor.next()? {
            Some(Report::Unpacked(unpacked)) if unpacked.diff_id == diff_id => Ok(unpacked),
            Some(Report::Unpacked(unpacked)) => {
                Err(Error::DiffId { expected: diff_id, received: unpacked.diff_id })
            }
            Some(Report::Failed(failure)) => Err(Error::from_failure(failure, Some(diff_id))),
            _ => Err(supervisor.died()),
        }
    }

    /// Unpacks files as a layer: written to a file first, because what it is called follows from its bytes.
    pub(crate) fn tree_layer(&self, files: &imgforge_layer::Tree) -> Result<Placed, Error> {
        let mut spool = tempfile::tempfile_in(self.store.root().join("tmp"))
            .map_err(|source| Error::io(self.store.root().join("tmp"), source))?;
        let written = write_layer(files, Codec::None, 0, &mut spool)?;
        let open = || {
            let mut spool = spool.try_clone()?;
            spool.rewind()?;
            Ok(spool)
        };
        let layer = Layer { diff_id: written.diff_id, compression: Compression::None, open: Box::new(open) };
        let mut placed = self.unpack(&[layer], &|_| {})?;
        placed.pop().ok_or_else(|| Error::io("rootfs", io::ErrorKind::NotFound.into()))
    }

    /// The layer, if it is unpacked; counts as a use.
    fn placed(&self, diff_id: &DiffId) -> Result<Option<Placed>, Error> {
        let (bucket, key) = self.record_of(diff_id);
        let Some(tree) = self.store.record::<Tree>(&bucket, &key)? else { return Ok(None) };
        let path = format!("{}/root", self.place(diff_id));
        Ok(self.store.root().join(&path).is_dir().then_some(Placed { path, tree }))
    }

    fn record_of(&self, diff_id: &DiffId) -> (String, String) {
        (format!("unpacked/{FORMAT}/{}", self.ids.name()), diff_id.0.hex())
    }

    /// Where a layer is unpacked, relative to the store; also the name of its work lock.
    fn place(&self, diff_id: &DiffId) -> String {
        format!("rootfs/{FORMAT}/{}/{}", self.ids.name(), diff_id.0.hex())
    }
}

impl Root {
    /// The layers that can be seen, the lowest first, relative to the store.
    pub(crate) fn visible(&self) -> Vec<String> {
        let opaque = self.layers.iter().rposition(|layer| layer.tree.is_opaque).unwrap_or(0);
        let seen = |(number, layer): &(usize, &Placed)| {
            // One that is there again above shows nothing here, and overlayfs takes none twice.
            let is_repeated = self.layers.iter().skip(number + 1).any(|above| above.path == layer.path);
            // What the lowest has is not of any image, and stays.
            !is_repeated && (*number == 0 || *number >= opaque)
        };
        self.layers.iter().enumerate().filter(seen).map(|(_, layer)| layer.path.clone()).collect()
    }
}

/// A path in the store, from there.
pub(crate) fn relative(store: &Store, path: &Path) -> Result<String, Error> {
    let relative = path.strip_prefix(store.root()).ok().and_then(Path::to_str);
    relative.map(str::to_owned).ok_or_else(|| Error::io(path, io::ErrorKind::InvalidInput.into()))
}

/// The names in a folder; none when it is not there.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| Error::io(folder, source))?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
    let names: io::Result<Vec<_>> = names.collect();
    Ok(names.map_err(|source| Error::io(folder, source))?.into_iter().flatten().collect())
}

/// What lies below all layers.
fn skeleton() -> Result<imgforge_layer::Tree, Error> {
    let mut tree = imgforge_layer::Tree::new();
    for (path, mode) in [
        ("dev", 0o755),
        ("etc", 0o755),
        ("proc", 0o555),
        ("root", 0o700),
        ("run", 0o755),
        ("sys", 0o555),
        ("tmp", 0o1777),
    ] {
        tree.insert(TreePath::new(path)?, Entry::directory(mode))?;
    }
    for (path, text) in [
        ("etc/group", "root:x:0:\nbuild:x:1000:\nnogroup:x:65534:\n"),
        ("etc/hosts", "127.0.0.1 localhost build\n::1 localhost\n"),
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nbuild:x:1000:1000:build:/build:/bin/sh\n\
             nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        ),
    ] {
        tree.insert(TreePath::new(path)?, Entry::bytes(text.as_bytes(), false))?;
    }
    Ok(tree)
}
