use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use imgforge::config::Compression;
use imgforge_oci::Platform;

/// Builds container images from lock files, without a Docker daemon
#[derive(Debug, Parser)]
#[command(name = "imgforge", version, propagate_version = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, ClapArgs)]
pub(crate) struct Global {
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print no progress
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Use no network: only the store, vendor folders and local paths
    #[arg(long, global = true)]
    pub(crate) offline: bool,
    /// Keep artifacts and layers in this folder [default: $IMGFORGE_STORE, or imgforge in $XDG_CACHE_HOME]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// Use this many threads to make layers [default: the number of cores]; connections are not counted
    #[arg(long, short, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// Credentials for registries [default: $REGISTRY_AUTH_FILE, or where podman and docker keep theirs]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Registries")]
    pub(crate) authfile: Option<PathBuf>,
    /// Trust the certificates in this PEM file beside the system's, for registries
    #[arg(long, global = true, value_name = "FILE", help_heading = "Registries")]
    pub(crate) ca_file: Vec<PathBuf>,
    /// Speak to this registry without TLS
    #[arg(long, global = true, value_name = "HOST[:PORT]", help_heading = "Registries")]
    pub(crate) plain_http: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Build(Build),
    Lock(Lock),
    Plan(Plan),
    Push(Push),
    Inspect(Inspect),
    Diff(Diff),
    Test(Test),
    Vendor(Vendor),
    Gc(Gc),
    Verify(Verify),
    /// Print the JSON schema of images.toml, for editors
    ///
    /// Example: imgforge schema > images.schema.json
    Schema,
    Completions(Completions),
}

/// Make images and write them to a layout or an archive
///
/// Example: imgforge build images.toml runtime --archive runtime.tar
#[derive(Debug, ClapArgs)]
pub(crate) struct Build {
    #[command(flatten)]
    pub(crate) images: Images,
    /// Write an OCI layout into this folder [default: dist, unless --archive is given]
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Write one OCI archive with all the images
    #[arg(long, value_name = "FILE")]
    pub(crate) archive: Option<PathBuf>,
    /// Fail if images.lock would change
    #[arg(long)]
    pub(crate) locked: bool,
    /// Compress layers this way, whatever images.toml says; images.lock is left as it is
    #[arg(long, value_enum, value_name = "HOW", conflicts_with = "locked")]
    pub(crate) compression: Option<CompressionArg>,
    /// Write one archive for `docker load`
    #[arg(long, value_name = "FILE")]
    pub(crate) docker_archive: Option<PathBuf>,
    /// Where building an artifact fails, open a shell in what it left
    #[arg(long)]
    pub(crate) shell_on_failure: bool,
    #[command(flatten)]
    pub(crate) cache: Cache,
}

/// Send images to a registry, and of them only what it lacks
///
/// `{image}` and `{tag}` in DEST stand for each image's own; without a tag, the image's is used. What is missing is made
/// first. Example: imgforge push docker://registry.example.org/team/{image} images.toml 'runtime*'
#[derive(Debug, ClapArgs)]
pub(crate) struct Push {
    /// Where to: docker://HOST/NAME[:TAG]
    #[arg(value_name = "DEST")]
    pub(crate) dest: String,
    #[command(flatten)]
    pub(crate) images: Images,
    /// Only say what would be sent
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Fail if images.lock would change
    #[arg(long)]
    pub(crate) locked: bool,
    #[command(flatten)]
    pub(crate) cache: Cache,
}

/// Where layers are shared with other hosts.
#[derive(Debug, ClapArgs)]
pub(crate) struct Cache {
    /// Take layers from this repository that others have made, and put there what is made here: docker://HOST/NAME
    #[arg(long = "cache", value_name = "REPOSITORY", help_heading = "Registries")]
    pub(crate) repository: Option<String>,
    /// Put nothing into the cache
    #[arg(long = "cache-read-only", help_heading = "Registries")]
    pub(crate) read_only: bool,
}

/// Pin what images.toml leaves open, in images.lock
///
/// Pins that are up to date stay as they are. Example: imgforge lock --upgrade
#[derive(Debug, ClapArgs)]
pub(crate) struct Lock {
    /// The description of the images
    #[arg(default_value = "images.toml", value_name = "IMAGES.TOML")]
    pub(crate) file: PathBuf,
    /// Pin everything anew
    #[arg(long)]
    pub(crate) upgrade: bool,
    /// Write nothing; fail if images.lock would change
    #[arg(long, conflicts_with = "upgrade")]
    pub(crate) check: bool,
}

/// Show which layers would be made, reused and fetched
///
/// Example: imgforge plan images.toml 'runtime*' --against origin/main
#[derive(Debug, ClapArgs)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) images: Images,
    /// Show what is to be shipped beside what an earlier images.lock records: a file, or a commit of git's
    ///
    /// Without it, what is said at the end compares with images.lock as it is.
    #[arg(long, value_name = "FILE|COMMIT")]
    pub(crate) against: Option<String>,
    /// Look for layers in this repository: docker://HOST/NAME
    #[arg(long, value_name = "REPOSITORY", help_heading = "Registries")]
    pub(crate) cache: Option<String>,
}

/// Run the images' smoke commands, in a sandbox over their own layers
///
/// Images are made first, and written nowhere. Example: imgforge test images.toml 'runtime*'
#[derive(Debug, ClapArgs)]
pub(crate) struct Test {
    #[command(flatten)]
    pub(crate) images: Images,
    /// Take layers from this repository: docker://HOST/NAME
    #[arg(long, value_name = "REPOSITORY", help_heading = "Registries")]
    pub(crate) cache: Option<String>,
}

/// Show what is in an image: layers, packages, and who shares them
///
/// Example: imgforge inspect runtime:latest
#[derive(Debug, ClapArgs)]
pub(crate) struct Inspect {
    /// The image's name in the layout, as `build` wrote it; all images without
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) image: Option<String>,
    /// The layout folder or archive that it is in
    #[arg(long, short, value_name = "PATH", default_value = "dist")]
    pub(crate) output: PathBuf,
    /// Write one page instead that shows the images as areas, what they share, and their layers; it needs no other file and
    /// no network
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// Compare two images: base, layers, packages, configuration, and the bytes to ship
///
/// Each of the two is docker://HOST/NAME[:TAG][@DIGEST], oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:REF],
/// the name of an image that `build` wrote, or the path of a layout or an archive. Packages are Debian's, Alpine's,
/// conda's and Python's; rpm's are not known. What was found in a layer is kept in the store. Example: imgforge diff
/// docker://registry.example.org/team/app:1 runtime
#[derive(Debug, ClapArgs)]
pub(crate) struct Diff {
    /// The image that a host has
    #[arg(value_name = "A")]
    pub(crate) a: String,
    /// The image that it is to have
    #[arg(value_name = "B")]
    pub(crate) b: String,
    /// The layout folder or archive that names are looked up in
    #[arg(long, short, value_name = "PATH", default_value = "dist")]
    pub(crate) output: PathBuf,
    /// Compare the images for this platform: linux/arm64 [default: all platforms that both have]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
}

/// Copy every locked artifact into the vendor folder, for builds without network
///
/// Example: imgforge vendor images.toml
#[derive(Debug, ClapArgs)]
pub(crate) struct Vendor {
    /// The description of the images
    #[arg(default_value = "images.toml", value_name = "IMAGES.TOML")]
    pub(crate) file: PathBuf,
    /// Remove files from the folder that no lock names
    #[arg(long)]
    pub(crate) prune: bool,
}

/// Free the store's space
///
/// Never removes what a running build needs, nor what the images.lock beside images.toml names. Example: imgforge gc
/// --max-age 30d --max-size 50G
#[derive(Debug, ClapArgs)]
pub(crate) struct Gc {
    /// Remove what was not used for this long: 12h, 30d, 8w
    #[arg(long, value_name = "AGE", value_parser = super::format::parse_age)]
    pub(crate) max_age: Option<std::time::Duration>,
    /// Then remove what was used least recently, until the store has this size: 500M, 50G
    #[arg(long, value_name = "SIZE", value_parser = super::format::parse_size)]
    pub(crate) max_size: Option<u64>,
    /// Only say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Keep what the images.lock beside this file names
    #[arg(default_value = "images.toml", value_name = "IMAGES.TOML")]
    pub(crate) file: PathBuf,
}

/// Check the store, an output, or that a second build gives the same bytes
///
/// Without --store-blobs, --layout and --archive, the images are built again in an empty store and compared with
/// images.lock. Example: imgforge verify --store-blobs
#[derive(Debug, ClapArgs)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) images: Images,
    /// Hash every blob of the store; fetch or make anew what is damaged
    #[arg(long)]
    pub(crate) store_blobs: bool,
    /// Recompute every digest, size and diff ID of this layout
    #[arg(long, value_name = "DIR", conflicts_with = "store_blobs")]
    pub(crate) layout: Option<PathBuf>,
    /// Recompute every digest, size and diff ID of this archive
    #[arg(long, value_name = "FILE", conflicts_with_all = ["store_blobs", "layout"])]
    pub(crate) archive: Option<PathBuf>,
    /// Build this artifact a second time, and say which files differ
    #[arg(long, value_name = "ARTIFACT", conflicts_with_all = ["store_blobs", "layout", "archive"])]
    pub(crate) rebuild: Option<String>,
}

/// Print a completion script for a shell
///
/// Example: imgforge completions bash > /etc/bash_completion.d/imgforge
#[derive(Debug, ClapArgs)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Which images: a file and patterns.
#[derive(Debug, ClapArgs)]
pub(crate) struct Images {
    /// The description of the images [default: images.toml], then names or patterns of images [default: all]
    #[arg(value_name = "[IMAGES.TOML] [IMAGE]")]
    words: Vec<String>,

    /// Only images with this value of the matrix, or without that axis: python=3.12
    #[arg(long = "set", value_name = "AXIS=VALUE", value_parser = axis_and_value)]
    values: Vec<(String, String)>,
}

fn axis_and_value(text: &str) -> Result<(String, String), String> {
    let (axis, value) = text.split_once('=').ok_or("expected AXIS=VALUE, as in python=3.12")?;
    Ok((axis.to_owned(), value.to_owned()))
}

impl Images {
    /// Values of the matrix.
    pub(crate) fn values(&self) -> &[(String, String)] {
        &self.values
    }

    /// The file: the first word, if it ends in `.toml`.
    pub(crate) fn file(&self) -> PathBuf {
        match self.words.first() {
            Some(first) if first.ends_with(".toml") => first.into(),
            _ => "images.toml".into(),
        }
    }

    /// The patterns.
    pub(crate) fn patterns(&self) -> Vec<String> {
        let skip = usize::from(self.words.first().is_some_and(|first| first.ends_with(".toml")));
        self.words.iter().skip(skip).cloned().collect()
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CompressionArg {
    Auto,
    Gzip,
    Zstd,
    None,
}

impl From<CompressionArg> for Compression {
    fn from(argument: CompressionArg) -> Self {
        match argument {
            CompressionArg::Auto => Self::Auto,
            CompressionArg::Gzip => Self::Gzip,
            CompressionArg::Zstd => Self::Zstd,
            CompressionArg::None => Self::None,
        }
    }
}
