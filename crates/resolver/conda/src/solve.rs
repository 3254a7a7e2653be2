//! Requirements → packages: rattler's gateway asks the channels, resolvo chooses.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use imgforge_resolver_core::CondaEnvironment;
use jiff::Timestamp;
use rattler_conda_types::package::BuildString;
use rattler_conda_types::{
    GenericVirtualPackage, MatchSpec, PackageName, PackageNameMatcher, ParseStrictness, RepoDataRecord,
    Subdir, Version,
};
use rattler_networking::{LazyClient, OfflineMiddleware};
use rattler_repodata_gateway::fetch::CacheAction;
use rattler_repodata_gateway::{ChannelConfig, ChannelRelationsMode, Gateway, RepoData, SourceConfig};
use rattler_solve::resolvo::Solver;
use rattler_solve::{ChannelRepoData, ExcludeNewer, SolveError, SolverImpl as _, SolverTask};
use url::Url;

use crate::channel::{self, Asked, rename};
use crate::error::{Error, plain, plain_text};
use crate::guard::{guarded, read};
use crate::location::{Place, folder};
use crate::package::{Gathered, Noarch};

/// Requests at a time.
const REQUESTS: usize = 16;

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// What an environment is resolved for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CondaTarget {
    /// The platform: `linux-64`, `linux-aarch64`.
    pub subdir: String,
    /// What the system is said to have, as names and versions: `("__glibc", "2.36")`, `("__cuda", "12.8")`. A version may be
    /// followed by `=` and a build string: `("__archspec", "1=zen4")`.
    ///
    /// On Linux, `__unix`, `__linux` and `__archspec` are there unless they are given. `__glibc` and `__cuda` are not: what
    /// an image and its host have is for the caller to say.
    pub virtual_packages: Vec<(String, String)>,
}

/// Where packages are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Channels by priority: names on conda.anaconda.org, `https` and `file` URLs, paths (relative ones begin with `./` or
    /// `../`). For an environment.yml, these stand in for the file's own if there are any.
    pub names: Vec<String>,
    /// What a channel's place in the list means.
    pub priority: ChannelPriority,
    /// The moment after which nothing may have been published, as RFC 3339: `2025-06-01T00:00:00Z`. Packages without a time
    /// are left out then.
    pub exclude_newer: Option<String>,
    /// The folder in which answers are kept, in rattler's own layout.
    pub cache: PathBuf,
    /// Whether only what is in the cache may be used. Channels of this machine are read all the same.
    pub offline: bool,
}

/// What a channel's place in the list means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelPriority {
    /// A package is taken from the first channel that has any version of it.
    #[default]
    Strict,
    /// An earlier channel is preferred, and a later one asked when that has nothing that fits.
    Flexible,
    /// The highest version wins, wherever it is.
    Disabled,
}

/// Resolves requirements (`numpy >=1.26`, `conda-forge::python=3.11`) for `target`.
///
/// `file` is where they come from: messages name it, and relative paths of channels are relative to its folder.
///
/// # Errors
///
/// [`Error::Subdir`], [`Error::VirtualPackage`], [`Error::Date`], [`Error::Channel`] and [`Error::Spec`] for what can't be meant,
/// [`Error::Repodata`] when a channel can't be asked, [`Error::Unsolvable`] with resolvo's explanation when nothing fits, and
/// [`Error::Unusable`] for packages that were found and can't be installed.
pub fn solve(
    specs: &[String],
    file: &Path,
    target: &CondaTarget,
    channels: &Channels,
) -> Result<CondaEnvironment, Error> {
    guarded(file, || {
        let base = folder(file).map_err(|message| Error::Unsupported { file: file.to_owned(), message })?;
        let request = Request::new(specs, file, &base, target, channels)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Error::Internal { file: file.to_owned(), message: error.to_string() })?;
        let found = runtime.block_on(ask(&request, file, channels))?;
        let records = choose(&request, &found, file, channels.priority)?;

        let mut gathered = Gathered::new(
            &target.subdir,
            Noarch::Known,
            "the channel publishes none; index it again, with `rattler-index` or `conda index`",
        );
        let renamed: Vec<(Url, Url)> =
            request.channels.iter().flat_map(|channel| channel.renamed.iter().cloned()).collect();
        for record in records {
            let channel = record.channel.as_deref().and_then(|channel| Url::parse(channel).ok());
            let is_local = channel.as_ref().is_some_and(|channel| channel.scheme() == "file");
            let place = match record.url.scheme() {
                "file" if !is_local => Err("its channel says that it is a file of this machine".to_owned()),
                _ => Place::of_url(&record.url),
            };
            let place = place.map(|place| Place { origin: rename(&place.origin, &renamed), ..place });
            let channel = channel.map(|channel| rename(&channel, &renamed));
            gathered.conda(record.package_record, place, channel);
        }
        gathered.finish(file)
    })
}

/// What is asked for, understood.
struct Request {
    subdir: Subdir,
    specs: Vec<MatchSpec>,
    channels: Vec<Asked>,
    virtual_packages: Vec<GenericVirtualPackage>,
    exclude_newer: Option<ExcludeNewer>,
}

impl Request {
    fn new(
        specs: &[String],
        file: &Path,
        base: &Path,
        target: &CondaTarget,
        channels: &Channels,
    ) -> Result<Self, Error> {
        let subdir = Subdir::from_str(&target.subdir)
            .ok()
            .filter(|subdir| *subdir != Subdir::NoArch)
            .ok_or_else(|| Error::Subdir { subdir: plain_text(&target.subdir) })?;
        let ask = |text: &str| {
            channel::channel(text, base).map_err(|message| Error::Channel {
                file: file.to_owned(),
                channel: channel::shown(text),
                message,
            })
        };
        let mut asked: Vec<Asked> = Vec::new();
        let add = |asked: &mut Vec<Asked>, channel: Asked| {
            if !asked.iter().any(|other| other.channel == channel.channel) {
                asked.push(channel);
            }
        };
        for name in &channels.names {
            add(&mut asked, ask(name)?);
        }
        let mut parsed = Vec::new();
        for text in specs {
            let (spec, channel) = spec(text, file)?;
            let mut spec = spec;
            if let Some(channel) = channel {
                // As with conda, a channel that only a requirement names is asked last.
                let channel = ask(channel)?;
                spec.channel = Some(channel.channel.clone().into());
                add(&mut asked, channel);
            }
            parsed.push(spec);
        }
        if asked.is_empty() {
            let message =
                "there are no channels: name them, such as `channels = [\"conda-forge\"]`".to_owned();
            return Err(Error::Unsupported { file: file.to_owned(), message });
        }
        Ok(Self {
            subdir,
            specs: parsed,
            channels: asked,
            virtual_packages: virtual_packages(subdir, &target.virtual_packages)?,
            exclude_newer: channels.exclude_newer.as_deref().map(exclude_newer).transpose()?,
        })
    }
}

/// A requirement, and the channel that is written before `::`.
fn spec<'a>(text: &'a str, file: &Path) -> Result<(MatchSpec, Option<&'a str>), Error> {
    let wrong = |message: String| Error::Spec {
        file: file.to_owned(),
        spec: plain_text(text),
        message: plain_text(&message),
    };
    let (channel, rest) = match text.split_once("::") {
        Some((channel, rest)) if !channel.contains('[') => (Some(channel.trim()), rest),
        _ => (None, text),
    };
    let spec =
        read(|| MatchSpec::from_str(rest, ParseStrictness::Lenient), |error| plain(&error)).map_err(wrong)?;
    let unsupported = [
        ("a channel in brackets; write `CHANNEL::NAME`", spec.channel.is_some()),
        ("a subdir, which the environment's platform decides", spec.subdir.is_some()),
        ("a file's name", spec.file_name.is_some()),
        ("a URL; write the packages' URLs into an @EXPLICIT file", spec.url.is_some()),
        ("a namespace", spec.namespace.is_some()),
    ];
    if let Some((what, _)) = unsupported.iter().find(|(_, is_there)| *is_there) {
        return Err(wrong(format!("a requirement can't have {what}")));
    }
    match &spec.name {
        PackageNameMatcher::Exact(name) if name.as_normalized().starts_with("__") => {
            Err(wrong("a virtual package is no requirement: say what the system has".to_owned()))
        }
        PackageNameMatcher::Exact(_) => Ok((spec, channel)),
        _ => Err(wrong("a requirement names one package".to_owned())),
    }
}

/// What the system is said to have, by name. What is given wins over what is taken for granted.
fn virtual_packages(subdir: Subdir, given: &[(String, String)]) -> Result<Vec<GenericVirtualPackage>, Error> {
    // A kernel is the host's; packages ask for ones that are long gone. pixi takes this one for granted too.
    let mut granted: Vec<(&str, String)> = Vec::new();
    if subdir.is_unix() {
        granted.push(("__unix", "0".to_owned()));
    }
    if subdir.is_linux() {
        granted.push(("__linux", "4.18".to_owned()));
        let architecture = match subdir {
            Subdir::Linux64 => "x86_64",
            subdir => subdir.as_str().trim_start_matches("linux-"),
        };
        granted.push(("__archspec", format!("1={architecture}")));
    }
    granted.retain(|(name, _)| !given.iter().any(|(other, _)| other == name));
    let given = given.iter().map(|(name, version)| (name.as_str(), version.clone()));
    let mut packages = Vec::new();
    for (name, text) in given.chain(granted) {
        let wrong = |message: String| Error::VirtualPackage {
            name: plain_text(name),
            version: plain_text(&text),
            message: plain_text(&message),
        };
        if !name.starts_with("__") {
            return Err(wrong("names of virtual packages begin with `__`, such as `__glibc`".to_owned()));
        }
        let (version, build) = text.split_once('=').unwrap_or((&text, "0"));
        packages.push(GenericVirtualPackage {
            name: PackageName::from_str(name).map_err(|error| wrong(error.to_string()))?,
            version: Version::from_str(version)
                .map_err(|_| wrong("that is no version, such as \"2.36\"".to_owned()))?,
            build_string: BuildString::from_str(build).map_err(|error| wrong(plain(&error)))?,
        });
    }
    packages.sort();
    if let Some([first, _]) = packages.array_windows().find(|[a, b]| a.name == b.name) {
        return Err(Error::VirtualPackage {
            name: first.name.as_normalized().to_owned(),
            version: first.version.to_string(),
            message: "it is given twice".to_owned(),
        });
    }
    Ok(packages)
}

fn exclude_newer(text: &str) -> Result<ExcludeNewer, Error> {
    Timestamp::from_str(text).map(ExcludeNewer::from_datetime).map_err(|_| Error::Date {
        text: plain_text(text),
        message: "write a moment with its time zone, such as 2025-06-01T00:00:00Z".to_owned(),
    })
}

/// Asks the channels for all that the requirements could lead to.
async fn ask(request: &Request, file: &Path, channels: &Channels) -> Result<Vec<RepoData>, Error> {
    let failed = |message: String| Error::Repodata { file: file.to_owned(), message };
    let cache_action = if channels.offline { CacheAction::ForceCacheOnly } else { CacheAction::CacheOrFetch };
    let default = SourceConfig { cache_action, ..SourceConfig::default() };
    let mut gateway = Gateway::builder()
        .with_cache_dir(&channels.cache)
        .with_channel_config(ChannelConfig { default, ..ChannelConfig::default() })
        .with_max_concurrent_requests(REQUESTS);
    if request.channels.iter().any(|channel| channel.remote) {
        std::fs::create_dir_all(&channels.cache)
            .map_err(|error| failed(format!("{}: {error}", channels.cache.display())))?;
        gateway.set_client(client(channels.offline).map_err(failed)?);
    }
    let sources = request.channels.iter().map(|channel| channel.source.clone());
    // By name, and not by what is required of it: a channel that has other versions than the required ones is still the first
    // that has the package, and what it has is part of the explanation when nothing fits.
    let names = request.specs.iter().filter_map(|spec| spec.name.as_exact().cloned());
    let answer = gateway
        .finish()
        .query(sources, [request.subdir, Subdir::NoArch], names)
        .recursive(true)
        // The channels are those that are named, and no others that these would like to bring along.
        .channel_relations(ChannelRelationsMode::Disabled)
        .await
        .map_err(|error| {
            let mut message = plain(&error);
            if channels.offline {
                message.push_str("; the network was not to be used: run once without --offline");
            }
            failed(message)
        })?;
    Ok(answer.repodata)
}

/// A client that knows no credentials but those of the channel's own URL.
fn client(offline: bool) -> Result<LazyClient, String> {
    let client = reqwest::Client::builder()
        .user_agent(concat!("imgforge/", env!("CARGO_PKG_VERSION")))
        // A token in a channel's path must not be told to whom it redirects to.
        .referer(false)
        .connect_timeout(SILENCE)
        .read_timeout(SILENCE)
        .build()
        .map_err(|error| plain(&error))?;
    let mut client = reqwest_middleware::ClientBuilder::new(client);
    if offline {
        client = client.with(OfflineMiddleware);
    }
    Ok(client.build().into())
}

fn choose(
    request: &Request,
    found: &[RepoData],
    file: &Path,
    priority: ChannelPriority,
) -> Result<Vec<RepoDataRecord>, Error> {
    // What is chosen must not depend on which answer came first.
    let available: Vec<ChannelRepoData<'_, Vec<&RepoDataRecord>>> = found
        .iter()
        .map(|data| {
            let mut records: Vec<&RepoDataRecord> = data.iter().collect();
            records.sort_by(|a, b| a.identifier.cmp(&b.identifier));
            ChannelRepoData { records, multi_channel: data.multi_channel() }
        })
        .collect();
    let task = SolverTask {
        specs: request.specs.clone(),
        virtual_packages: request.virtual_packages.clone(),
        channel_priority: match priority {
            ChannelPriority::Strict => rattler_solve::ChannelPriority::Strict,
            ChannelPriority::Flexible => rattler_solve::ChannelPriority::Flexible,
            ChannelPriority::Disabled => rattler_solve::ChannelPriority::Disabled,
        },
        exclude_newer: request.exclude_newer.clone(),
        ..available.into_iter().collect::<SolverTask<'_, _>>()
    };
    match Solver.solve(task) {
        Ok(solution) => Ok(solution.records),
        Err(SolveError::Unsolvable(reasons)) => Err(Error::Unsolvable {
            file: file.to_owned(),
            subdir: request.subdir.to_string(),
            explanation: plain_text(&reasons.join("\n")),
            virtual_packages: request.virtual_packages.iter().map(virtual_package).collect(),
        }),
        Err(error) => Err(Error::Repodata { file: file.to_owned(), message: plain(&error) }),
    }
}

/// `NAME=VERSION`, with the build string where there is one.
fn virtual_package(package: &GenericVirtualPackage) -> String {
    let name = package.name.as_normalized();
    match package.build_string.as_str() {
        "0" => format!("{name}={}", package.version),
        build => format!("{name}={}={build}", package.version),
    }
}
