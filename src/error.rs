mod kind;

use std::io;
use std::path::PathBuf;

use imgforge_layer::{FilesError, TreeError, TreePath, WriteError};
use imgforge_oci::{Digest, ParseDigestError};
use imgforge_registry::AuthError;
use imgforge_store::StoreError;

use crate::config::ConfigError;
use crate::fetch::{CredentialsError, FetchError, MirrorError};
use crate::images_lock::ImagesLockError;
use crate::plan::OverBudget;
use crate::push::DestinationError;
use crate::survey::SurveyError;
use crate::transport::TransportError;

pub use kind::{Kind, story};

/// Why a request failed.
///
/// The chain of sources tells the story from what was wanted to what went wrong; [`Error::hint`] says what mends it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `images.toml` can't be used.
    #[error("{file}")]
    Config {
        /// Its path.
        file: PathBuf,
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// `images.lock` can't be used.
    #[error(transparent)]
    ImagesLock(#[from] ImagesLockError),
    /// A file can't be read or written; the system's error names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A lock can't be used for an environment.
    #[error("[env.{environment}] for {platform}")]
    Environment {
        /// Its name in images.toml.
        environment: String,
        /// The platform it was selected for.
        platform: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something about an environment is neither set nor found.
    #[error("[env.{environment}] for {platform}: {problem}")]
    EnvironmentUnclear {
        /// Its name in images.toml.
        environment: String,
        /// The platform.
        platform: String,
        /// What is not known.
        problem: String,
        /// What to set.
        hint: String,
    },
    /// A Debian base can't be resolved.
    #[error("[base.{base}] for {architecture}")]
    Debian {
        /// Its name in images.toml.
        base: String,
        /// `amd64`, `arm64`.
        architecture: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A Debian base's mirror or keyring is neither set nor found on the host.
    #[error("[base.{base}]: {problem}")]
    DebianUnclear {
        /// Its name in images.toml.
        base: String,
        /// What is not known.
        problem: String,
        /// What to set.
        hint: String,
    },
    /// The image of a base can't be used.
    #[error("[base.{base}] for {platform}")]
    Base {
        /// Its name in images.toml.
        base: String,
        /// The platform.
        platform: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// An image is not where it was when it was pinned.
    #[error("{transport} has {digest} no more, which images.lock pins")]
    NotPinned {
        /// Where it was.
        transport: String,
        /// What it stood for.
        digest: Digest,
    },
    /// An image is for other platforms.
    #[error("{image} is for {there}")]
    NoPlatform {
        /// As it is written.
        image: String,
        /// What it is for.
        there: String,
    },
    /// An entry of the cache of layers can't be had or can't be used.
    #[error("cache {cache}, layer {key}")]
    Cache {
        /// The repository.
        cache: String,
        /// The layer's key.
        key: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An image can't be sent.
    #[error("{to}")]
    Push {
        /// Where it was to go.
        to: String,
        /// Why.
        #[source]
        source: Box<imgforge_registry::Error>,
    },
    /// A destination that images can't go to.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// A pattern of `strip` that is none.
    #[error("strip")]
    Pattern(#[from] imgforge_layer::PatternError),
    /// More ways to leave things out of a package than it can be divided for.
    #[error(
        "{package}: images strip {ways} different lists from it, and it is divided for at most {} of them",
        crate::unit::sift::WAYS
    )]
    Strips {
        /// What a reader calls it.
        package: String,
        /// How many there are.
        ways: usize,
    },
    /// A platform that nothing can be built for.
    #[error("platform {platform}: images are built for linux/amd64 and linux/arm64")]
    Platform {
        /// As it is written.
        platform: String,
    },
    /// A pattern on the command line that no image matches.
    #[error("no image is called `{pattern}`; there are {images}")]
    NoImage {
        /// As it is written.
        pattern: String,
        /// The names of all images.
        images: String,
    },
    /// Nothing that can be compared with.
    #[error("--against {against}: {problem}")]
    Against {
        /// As it is written.
        against: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A value of `--set` that no image has.
    #[error("--set {axis}={value}: {}", Self::of_axis(axis, known))]
    NoValue {
        /// The axis, as it is written.
        axis: String,
        /// The value, as it is written.
        value: String,
        /// The values that images have, if any has the axis.
        known: Vec<String>,
    },
    /// An artifact can't be made into files of an image.
    #[error("{unit}")]
    Unit {
        /// The artifact.
        unit: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Application files can't be taken.
    #[error("[image.{image}], files from {src}")]
    Files {
        /// The image's name.
        image: String,
        /// `src`.
        src: PathBuf,
        /// Why.
        #[source]
        source: Box<FilesError>,
    },
    /// A layer can't be written.
    #[error("layer of {layer}")]
    Layer {
        /// What is in it.
        layer: String,
        /// Why.
        #[source]
        source: WriteError,
    },
    /// Two artifacts can't be in one layer or one image.
    #[error("{what}")]
    Tree {
        /// What was being put together.
        what: String,
        /// Why.
        #[source]
        source: TreeError,
    },
    /// Two packages of an environment bring one path, and the environment says that this is an error.
    #[error("[env.{environment}]: {path} is in {first} and, with other content, in {second}")]
    Conflict {
        /// Its name in images.toml.
        environment: String,
        /// The path.
        path: TreePath,
        /// The package with the earlier name.
        first: String,
        /// The package with the later name.
        second: String,
    },
    /// Two versions of a distribution would go into one place.
    #[error("[image.{image}]: {first} and {second} both go into {prefix}")]
    Twice {
        /// The image's name.
        image: String,
        /// The environment's.
        prefix: String,
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// A conda package wants to run something when it is linked, and images.toml does not say what that means.
    #[error("[env.{environment}]: {package} has a link script, {script}")]
    LinkScript {
        /// Its name in images.toml.
        environment: String,
        /// The package.
        package: String,
        /// The script's path in the image.
        script: TreePath,
    },
    /// Packages' own scripts can't be run, or fail.
    #[error("{place}: {title}")]
    Scripts {
        /// The table of images.toml.
        place: String,
        /// What the scripts are for.
        title: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A smoke command can't be run.
    #[error("image {image}: its smoke commands can't be run")]
    Smoke {
        /// Its name in images.toml.
        image: String,
        /// Why.
        #[source]
        source: imgforge_sandbox::Error,
    },
    /// An artifact can't be resolved or built.
    #[error("[artifact.{artifact}]")]
    Artifact {
        /// Its name in images.toml, or the package.
        artifact: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Application files lie where they would hide what is below them.
    #[error("{second}: {path} is in {first}")]
    Covered {
        /// The path.
        path: TreePath,
        /// What has it, or a file where a folder is needed.
        first: String,
        /// The files of images.toml.
        second: String,
    },
    /// A link of images.toml leads to nothing.
    #[error("{owner}: {link} leads to {target}, and nothing is there")]
    Dangling {
        /// Its table's links.
        owner: String,
        /// The link.
        link: TreePath,
        /// Where it leads, from the root.
        target: TreePath,
    },
    /// A path that leads through a link of a Debian root filesystem.
    #[error("[image.{image}]: {path} lies behind a link: in a Debian root filesystem it is {behind}")]
    BehindLink {
        /// The image's name.
        image: String,
        /// An environment's prefix or a user's home.
        path: String,
        /// Where it leads.
        behind: String,
    },
    /// An image has too many layers.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// The image, its index or an output can't be made.
    #[error(transparent)]
    Oci(#[from] imgforge_oci::Error),
    /// An image can't be had from where it is.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// What is in a layer can't be told.
    #[error(transparent)]
    Survey(#[from] SurveyError),
    /// A digest in a lock is none.
    #[error(transparent)]
    Digest(ParseDigestError),
    /// A layer came out otherwise than images.lock says.
    #[error(
        "the layer of {layer} came out with another digest than before\n  images.lock: {locked}\n  now:         {made}"
    )]
    NotReproduced {
        /// What is in it.
        layer: String,
        /// The lock's.
        locked: Digest,
        /// The one just made.
        made: Digest,
    },
    /// `--locked`, and images.lock would change.
    #[error("images.lock is out of date: {difference}")]
    Locked {
        /// What would change.
        difference: String,
    },
    /// There is no images.toml.
    #[error("there is no {}", file.display())]
    NoProject {
        /// Where it was looked for.
        file: PathBuf,
    },
    /// Neither HOME nor another place for the store is known.
    #[error("there is no place for the store: neither IMGFORGE_STORE nor XDG_CACHE_HOME nor HOME is set")]
    NoStore,
    /// netrc or a variable of the environment.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A file with credentials for registries.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// A variable of the environment that is not text; its value is a secret.
    #[error("the variable {name} is not UTF-8")]
    NotText {
        /// Its name.
        name: String,
    },
    /// A mirror of images.toml.
    #[error("[settings], mirrors")]
    Mirror(#[from] MirrorError),
    /// The cache of layers names no repository.
    #[error("the cache of layers: {problem}")]
    CacheName {
        /// What is wrong with it.
        problem: String,
    },
    /// The folder that an output is to be put into is missing.
    #[error("there is no folder {} for {}", folder.display(), file.display())]
    NoFolder {
        /// The folder.
        folder: PathBuf,
        /// The output.
        file: PathBuf,
    },
    /// images.lock is going to change, and can't.
    #[error("images.lock changes, and can't be written in {}; no output was written", folder.display())]
    NoLock {
        /// The project's folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// One output can't be written, after others were.
    #[error("can't write {what}; already written: {}", written.join(", "))]
    HalfDone {
        /// What failed.
        what: String,
        /// What is there.
        written: Vec<String>,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// Docker's archives have no place for an image for several platforms.
    #[error("{image} is for several platforms, and an archive for `docker load` holds one under a name")]
    Platforms {
        /// The image's name.
        image: String,
    },
    /// Something is to be sent, and the network is out of bounds.
    #[error("--offline leaves no way to a registry")]
    OfflinePush,
    /// It is asked what would be sent of images that images.lock does not know.
    #[error("images.lock does not say what would come out")]
    NotRecorded,
    /// Somebody wanted no more of it.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    fn of_axis(axis: &str, known: &[String]) -> String {
        match known.is_empty() {
            true => format!("[matrix] has no axis `{axis}` that an image depends on"),
            false => format!("the axis `{axis}` has {}", known.join(", ")),
        }
    }

    /// What mends it, where that can be said.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Config { source, .. } => source.hint(),
            Self::ImagesLock(_) => {
                Some("restore the file from version control, or remove it and run `imgforge lock`".to_owned())
            }
            Self::Fetch(error) => error.hint(),
            Self::Smoke { source, .. } => source.hint().map(str::to_owned),
            Self::Artifact { source, .. } | Self::Scripts { source, .. } => source
                .downcast_ref::<imgforge_sandbox::Error>()
                .and_then(imgforge_sandbox::Error::hint)
                .map(str::to_owned),
            Self::Base { source, .. } => source.hint(),
            Self::NotPinned { .. } => {
                Some("bring it back, or follow what is there now with `imgforge lock --upgrade`".to_owned())
            }
            Self::NoPlatform { .. } => {
                Some("choose an image for the `platforms` of [settings], or leave the platform out".to_owned())
            }
            Self::Push { source, .. } => source.hint(),
            Self::Destination(error) => error.hint(),
            Self::Transport(error) => error.hint(),
            Self::EnvironmentUnclear { hint, .. } | Self::DebianUnclear { hint, .. } => Some(hint.clone()),
            Self::Conflict { environment, .. } => Some(format!(
                "drop one of the packages from the lock, or remove `on-conflict = \"error\"` from [env.{environment}]"
            )),
            Self::Twice { .. } => Some(
                "lock them together, or leave one out with `no-install-package` in its environment".to_owned(),
            ),
            Self::LinkScript { environment, .. } => Some(format!(
                "set `link-scripts = \"run\"` in [env.{environment}] to have it run in the sandbox, or \"ignore\" if the package works \
                 without it"
            )),
            Self::Covered { .. } => {
                Some(
                    "choose another `dest` or path, or leave the file out with `exclude`; see `files` and `links` of images.toml"
                        .to_owned(),
                )
            }
            Self::Dangling { .. } => Some(
                "a link's target is relative to the folder that the link is in; `imgforge inspect` shows packages".to_owned(),
            ),
            Self::BehindLink { behind, .. } => Some(format!("write {behind} in images.toml")),
            Self::Against { .. } => Some(
                "give the path of an images.lock, or a commit of this repository that has one, such as HEAD"
                    .to_owned(),
            ),
            Self::Strips { .. } => Some("use the same `strip` in more images".to_owned()),
            Self::OverBudget(_) => Some("raise `layer-budget` in [settings] (127 at most)".to_owned()),
            Self::NotReproduced { .. } => Some(
                "this is a bug of imgforge, or the store was tampered with: run `imgforge verify --store-blobs`, and report it"
                    .to_owned(),
            ),
            Self::Locked { .. } => {
                Some("run `imgforge build` without `--locked` and commit images.lock".to_owned())
            }
            Self::NoProject { .. } => {
                Some("run it in the project's folder or give the path of images.toml".to_owned())
            }
            Self::NoStore => Some("say where with `--store DIR`".to_owned()),
            Self::NoFolder { folder, .. } => Some(format!("make it: `mkdir -p {}`", folder.display())),
            Self::NoLock { .. } => Some(
                "let the folder be written to, or, where images.lock must not change, build with `--locked`"
                    .to_owned(),
            ),
            Self::HalfDone { what, source, .. } => {
                source.hint().or_else(|| Some(format!("let {what} be written, and build again")))
            }
            Self::Platforms { .. } => {
                Some("name one of the `platforms` in [settings], or write `--archive`".to_owned())
            }
            Self::NotRecorded => {
                Some("run `imgforge build` first, and push what it made".to_owned())
            }
            _ => None,
        }
    }
}
