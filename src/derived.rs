//! Layers that packages' own scripts make: Debian's maintainer scripts (`configure = true`) and conda's link scripts
//! (`link-scripts = "run"`).
//!
//! A script runs in the sandbox over the layers that are below, and what it changes becomes one further layer: without logs,
//! caches and times, so that two runs come to the same bytes. The layer is remembered by what is below it, and it is
//! made of its content: on two root filesystems where the scripts do the same, it is one layer.

use std::collections::BTreeMap;
use std::sync::Arc;

use imgforge_layer::{Codec, Tree, write_layer};
use imgforge_oci::{DiffId, Digest, json};
use imgforge_sandbox::{Command, Outputs, Sandbox, User};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::bases::{self, BaseImage};
use crate::config::{Base, LinkScripts};
use crate::error::Error;
use crate::images_lock::{Outcome, OutcomeLayer};
use crate::limits;
use crate::plan::Rank;
use crate::project::{PreparedImage, Project, Tools, codec};
use crate::rootfs::{Stacked, join};
use crate::unit::{CondaUnit, LayerSpec, Unit};
use crate::workshop::{Made, Progress, Workshop};

/// The bucket of what came out, by what it was made from.
const DERIVED: &str = "derived/1";

/// A script, and what of its doing counts.
pub(crate) struct Script<'a> {
    /// Whose it is, for messages: `[env.science]`.
    pub(crate) place: &'a str,
    /// What the layer is called.
    pub(crate) title: &'a str,
    /// Run by `/bin/sh -eu`, as root.
    pub(crate) text: String,
    /// Variables of its environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// Whether a path that it changed is kept.
    pub(crate) keeps: &'a dyn Fn(&str) -> bool,
    /// Where the layer belongs.
    pub(crate) rank: Rank,
    /// Whether it gives files to several owners.
    pub(crate) needs_owners: bool,
}

/// The files that came out; nothing where nothing changed.
#[derive(Serialize, Deserialize)]
struct Derived {
    tar: Option<(Digest, u64)>,
}

/// A user has but one id.
#[derive(Debug, thiserror::Error)]
#[error(
    "the scripts give files to several owners, and this user has one id: add a line for it to /etc/subuid and /etc/subgid, such as `NAME:100000:65536`, and install uidmap"
)]
struct NoOwners;

/// Where scripts run.
pub(crate) struct Ground<'a> {
    pub(crate) tools: &'a Tools<'a>,
    /// The image that is below all layers.
    pub(crate) base: Option<&'a BaseImage>,
    /// Of the file's settings: how layers are compressed, and their time.
    pub(crate) settings: &'a crate::config::Settings,
}

/// Runs a script over layers, and makes a layer of what it changed. `None`: nothing changed.
///
/// # Errors
/// [`Error::Scripts`] when it can't be run or fails; whatever stands in the way of a layer.
pub(crate) fn derive(
    ground: &Ground<'_>,
    workshop: &Workshop<'_>,
    below: &[(LayerSpec, Made)],
    script: &Script<'_>,
) -> Result<Option<(LayerSpec, Made)>, Error> {
    let base = ground.base.iter().flat_map(|base| base.image.layers()).map(|layer| layer.diff_id);
    let own = below.iter().map(|(_, made)| made.record.diff_id);
    let layers: Vec<DiffId> = base.chain(own).collect();
    let identity = json!({
        "epoch": ground.settings.source_date_epoch,
        "script": script.text,
        "environment": script.environment,
        "layers": layers,
    });
    let key = Digest::of(&json::canonical(&identity)?).hex();
    let store = workshop.store;
    if store.record::<Derived>(DERIVED, &key)?.is_none()
        && let Some((digest, size)) = promised(ground, &key)?
    {
        match layer(ground, workshop, script, &key, digest, size) {
            // What the cache can't give is made, as if there were none.
            Err(error @ Error::Cache { .. }) => (ground.tools.on_progress)(Progress::CacheTrouble(&error)),
            made => return made.map(Some),
        }
    }
    let derived: Derived = match store.record(DERIVED, &key)? {
        Some(derived) => derived,
        None => {
            // Two processes run it once.
            let _lock = store.work_lock(&format!("derived {key}"), |_| {})?;
            let derived = match store.record(DERIVED, &key)? {
                Some(derived) => derived,
                None => run(ground, workshop, below, script)?,
            };
            let blobs: Vec<Digest> = derived.tar.iter().map(|(digest, _)| *digest).collect();
            store.put_record(DERIVED, &key, &derived, &blobs)?;
            derived
        }
    };
    let Some((digest, size)) = derived.tar else { return Ok(None) };
    layer(ground, workshop, script, &key, digest, size).map(Some)
}

/// What the cache says the scripts have left on another host.
fn promised(ground: &Ground<'_>, key: &str) -> Result<Option<(Digest, u64)>, Error> {
    let Some(cache) = ground.tools.cache else { return Ok(None) };
    match cache.derived(key) {
        Err(error @ Error::Cache { .. }) => {
            (ground.tools.on_progress)(Progress::CacheTrouble(&error));
            Ok(None)
        }
        found => found,
    }
}

/// The layer of what scripts have left.
fn layer(
    ground: &Ground<'_>,
    workshop: &Workshop<'_>,
    script: &Script<'_>,
    key: &str,
    digest: Digest,
    size: u64,
) -> Result<(LayerSpec, Made), Error> {
    let unit = Unit::derived(script.rank, script.title, key, digest, size);
    let codec = codec(ground.settings.compression, script.rank);
    let spec = LayerSpec::new(vec![Arc::new(unit)], codec, ground.settings.source_date_epoch);
    let made = workshop.make(std::slice::from_ref(&spec))?;
    let made = made.into_iter().next();
    made.map(|made| (spec, made)).ok_or_else(|| Error::Scripts {
        place: script.place.to_owned(),
        title: script.title.to_owned(),
        source: "their layer was not made".into(),
    })
}

fn run(
    ground: &Ground<'_>,
    workshop: &Workshop<'_>,
    below: &[(LayerSpec, Made)],
    script: &Script<'_>,
) -> Result<Derived, Error> {
    let tools = ground.tools;
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Scripts {
        place: script.place.to_owned(),
        title: script.title.to_owned(),
        source,
    };
    // All bytes are needed here, whoever vouches for them.
    let whole = Workshop { vouched: None, ..*workshop };
    let absent: Vec<LayerSpec> =
        below.iter().filter(|(_, made)| !made.is_here).map(|(spec, _)| spec.clone()).collect();
    whole.make(&absent)?;
    let mut stack = Vec::new();
    if let Some(base) = ground.base {
        bases::fetch_layers(base, tools, &|_| true)?;
        stack.extend(base.image.layers().iter().map(|layer| Stacked {
            diff_id: layer.diff_id,
            digest: layer.digest,
            media_type: layer.media_type.to_string(),
        }));
    }
    stack.extend(below.iter().map(|(_, made)| Stacked {
        diff_id: made.record.diff_id,
        digest: made.record.digest,
        media_type: made.record.media_type.clone(),
    }));
    (tools.on_progress)(Progress::Building(script.title));
    let sandbox = Sandbox::new(tools.store).map_err(|error| failed(error.into()))?.until(tools.stop);
    if script.needs_owners && !sandbox.has_owners() {
        return Err(failed(Box::new(NoOwners)));
    }
    let root = join(&sandbox, tools.store, stack).map_err(|error| failed(error.into()))?;
    let command = Command {
        user: User::Root,
        environment: script.environment.clone(),
        limits: limits::of(&sandbox, &ground.settings.limits, limits::BUILD),
        outputs: Outputs::Difference,
        ..Command::new(["/bin/sh", "-e", "-u", "-c", script.text.as_str()])
    };
    let mut on_line = |text: &[u8]| (tools.on_progress)(Progress::BuildLine(script.title, text));
    let ended = sandbox.run(&root, &command, &mut on_line).map_err(|error| failed(error.into()))?;
    if !ended.is_success() {
        let how = limits::failure(tools.store, &ended, &command.limits, None);
        return Err(failed(format!("the run of the scripts {how}").into()));
    }
    let kept = kept(&ended.outputs, script).map_err(|error| failed(error.into()))?;
    if kept.is_empty() {
        return Ok(Derived { tar: None });
    }
    let mut writer = tools.store.hashing_writer()?;
    let written = write_layer(&kept, Codec::None, ground.settings.source_date_epoch, &mut writer)
        .map_err(|error| failed(error.into()))?;
    Ok(Derived { tar: Some((writer.commit()?, written.size)) })
}

/// What counts of a difference, with the folders that lead to it.
fn kept(outputs: &Tree, script: &Script<'_>) -> Result<Tree, imgforge_layer::TreeError> {
    let mut kept = Tree::new();
    for (path, entry) in outputs.iter() {
        let name = path.as_str().trim_start_matches('/');
        if (script.keeps)(name) && kept.get(path).is_none() {
            for folder in path.ancestors() {
                if let Some(entry) = outputs.get(&folder)
                    && kept.get(&folder).is_none()
                {
                    kept.insert(folder, entry.clone())?;
                }
            }
            kept.insert(path.clone(), entry.clone())?;
        }
    }
    Ok(kept)
}

impl Project {
    /// Layers that packages' own scripts leave in an image, from the bottom, by their titles. What they are is known where
    /// images.lock has the image over the same layers; what it has no layer of left none. `specs` are the image's.
    pub fn scripts(
        &self,
        image: &PreparedImage,
        specs: &[&LayerSpec],
    ) -> Vec<(String, Option<&OutcomeLayer>)> {
        let Some(table) = self.config.images.get(&image.name) else { return Vec::new() };
        let mut scripts = Vec::new();
        if matches!(self.config.bases.get(&table.base), Some(Base::Debian(base)) if base.configure) {
            scripts.push((CONFIGURED.to_owned(), Rank::SystemGlue));
        }
        for environment in table.environments.iter().filter_map(|name| self.config.environments.get(name)) {
            if environment.link_scripts == Some(LinkScripts::Run) {
                scripts.push((linked(environment.prefix.trim_end_matches('/')), Rank::CondaPackages));
            }
        }
        let before = self.lock.images.get(&(image.name.clone(), image.platform.to_string()));
        let over_the_same = |rank: Rank| {
            let has = |outcome: &Outcome, key: &str| outcome.layers.iter().any(|layer| layer.key == key);
            let mut below = specs.iter().filter(|spec| spec.rank() <= rank);
            before.filter(|outcome| below.all(|spec| has(outcome, &spec.key)))
        };
        let found = scripts.into_iter().filter_map(|(title, rank)| match over_the_same(rank) {
            Some(outcome) => {
                let layer = outcome.layers.iter().find(|layer| layer.title == title)?;
                Some((title, Some(layer)))
            }
            None => Some((title, None)),
        });
        found.collect()
    }
}

/// The title of the layer that configuring leaves.
const CONFIGURED: &str = "configured Debian packages";

/// The title of the layer that an environment's link scripts leave.
fn linked(prefix: &str) -> String {
    format!("link scripts of {prefix}")
}

/// A path of a difference without what marks it as removed.
pub(crate) fn removed(path: &str) -> Option<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    name.strip_prefix(".wh.").map(|name| format!("{folder}/{name}"))
}

/// The script that configures Debian packages, as `dpkg` does after unpacking them. Nothing is started: `policy-rc.d` says so,
/// as in every image that is made by other tools. Packages without scripts are installed already; see `imgforge_layer::deb`.
const CONFIGURE: &str = r#"
mkdir -p /var/lib/dpkg/updates /var/lib/dpkg/triggers /var/log /var/cache /run
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
dpkg --force-confold --configure --pending
dpkg --triggers-only --pending
if command -v ldconfig >/dev/null; then ldconfig; fi
rm -f /usr/sbin/policy-rc.d /var/lib/dpkg/status-old
"#;

/// Configures the packages of a Debian root filesystem, whose layers are the lowest ones of `layers`: the layer that
/// comes of it goes right above them.
///
/// # Errors
/// As for [`derive`].
pub(crate) fn configure(
    ground: &Ground<'_>,
    workshop: &Workshop<'_>,
    place: &str,
    layers: &mut Vec<(LayerSpec, Made)>,
) -> Result<(), Error> {
    let above = layers.iter().rposition(|(spec, _)| spec.rank() <= Rank::SystemGlue).map_or(0, |at| at + 1);
    let environment = [
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        ("DEBCONF_NOWARNINGS", "yes"),
    ];
    let script = Script {
        place,
        title: CONFIGURED,
        text: CONFIGURE.to_owned(),
        environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        keeps: &is_configuration,
        rank: Rank::SystemGlue,
        needs_owners: true,
    };
    let below = layers.get(..above).unwrap_or_default();
    let made = derive(ground, workshop, below, &script)?;
    layers.splice(above..above, made);
    Ok(())
}

/// Whether a path has what configuring is for, and not its traces: logs, caches, locks, what is one machine's own.
fn is_configuration(path: &str) -> bool {
    const TRACES: [&str; 12] = [
        "var/log/",
        "var/cache/",
        "var/tmp/",
        "tmp/",
        "run/",
        "root/",
        "dev/",
        "proc/",
        "sys/",
        "build/",
        "var/lib/systemd/",
        "var/lib/dpkg/updates/",
    ];
    const FILES: [&str; 8] = [
        "etc/machine-id",
        "etc/resolv.conf",
        "etc/hostname",
        "etc/hosts",
        "etc/.pwd.lock",
        "var/lib/dpkg/lock",
        "var/lib/dpkg/lock-frontend",
        "var/lib/dpkg/triggers/Lock",
    ];
    let is_below = |folder: &&str| path.starts_with(*folder) || path == folder.trim_end_matches('/');
    let is_trace = TRACES.iter().any(is_below)
        || FILES.contains(&path)
        || path.contains("__pycache__")
        // What programs keep of a file that they change.
        || path.ends_with("-old")
        || (path.starts_with("etc/") && path.ends_with('-'));
    !is_trace
}

/// Runs the post-link scripts of conda packages of an environment, in the order in which the packages are linked. Each has
/// the variables that conda gives it. The layer that comes of it goes above those of conda packages.
///
/// Source: conda-build's documentation, "Adding pre-link, post-link, and pre-unlink scripts".
///
/// # Errors
/// As for [`derive`].
pub(crate) fn link_scripts(
    ground: &Ground<'_>,
    workshop: &Workshop<'_>,
    environment: &str,
    packages: &[&CondaUnit],
    layers: &mut Vec<(LayerSpec, Made)>,
) -> Result<(), Error> {
    let Some(first) = packages.first() else { return Ok(()) };
    let prefix = first.prefix.to_string();
    let mut text =
        format!("export PATH={}:$PATH\ncd {}\n", quoted(&format!("{prefix}/bin")), quoted(&prefix));
    for unit in packages {
        let package = &unit.package;
        let number = package.build.rsplit('_').next().unwrap_or_default();
        let variables = [
            ("PREFIX", prefix.as_str()),
            ("CONDA_PREFIX", prefix.as_str()),
            ("PKG_NAME", package.name.as_str()),
            ("PKG_VERSION", package.version.as_str()),
            ("PKG_BUILDNUM", number),
        ];
        for (name, value) in variables {
            text.push_str(&format!("{name}={} ", quoted(value)));
        }
        text.push_str(&format!("sh {}\n", quoted(&format!("{prefix}/bin/.{}-post-link.sh", package.name))));
    }
    let below_prefix = format!("{}/", prefix.trim_start_matches('/'));
    let script = Script {
        place: &format!("[env.{environment}]"),
        title: &linked(&prefix),
        text,
        environment: BTreeMap::new(),
        keeps: &|path| {
            path.starts_with(&below_prefix) && !path.contains("__pycache__") && !path.ends_with(".pyc")
        },
        rank: Rank::CondaPackages,
        needs_owners: false,
    };
    let above =
        layers.iter().rposition(|(spec, _)| spec.rank() <= Rank::CondaPackages).map_or(0, |at| at + 1);
    let made = derive(ground, workshop, layers.get(..above).unwrap_or_default(), &script)?;
    layers.splice(above..above, made);
    Ok(())
}

/// A word of the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: bool) {
        assert_eq!(is_configuration(path), expected, "{path}");
    }

    #[test]
    fn traces_of_configuring_are_left_out() {
        check("etc/ssl/certs/ca-certificates.crt", true);
        check("etc/alternatives/cc", true);
        check("etc/ld.so.cache", true);
        check("var/lib/dpkg/status", true);
        check("var/lib/dpkg/status-old", false);
        check("etc/passwd-", false);
        check("var/log/dpkg.log", false);
        check("var/log", false);
        check("var/lib/something", true);
        check("var/cache/ldconfig/aux-cache", false);
        check("var/cache/debconf/config.dat", false);
        check("etc/machine-id", false);
    }

    #[test]
    fn words_of_the_shell() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("a'b"), r"'a'\''b'");
    }

    #[test]
    fn what_is_removed() {
        assert_eq!(removed("/a/.wh.b").as_deref(), Some("/a/b"));
        assert_eq!(removed(".wh.b").as_deref(), Some("/b"));
        assert_eq!(removed("/a/b"), None);
    }
}
