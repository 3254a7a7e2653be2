use std::collections::BTreeMap;
use std::path::PathBuf;

use imgforge_layer::{PatternError, Strip};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Environment, Limits, Links, Values, When};

/// An image, with what it extends already in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its name: `runtime`, also where the matrix has several of that name.
    pub name: String,
    /// The values of the matrix that it stands for.
    pub values: Values,
    /// The tag in an output, after `NAME:`. `None`: `latest`.
    pub tag: Option<String>,
    /// The base's name.
    pub base: String,
    /// The environments' names, in order.
    pub environments: Vec<String>,
    /// Names of artifacts whose files it has.
    pub artifacts: Vec<String>,
    /// Application files, in order.
    pub files: Vec<FileSpec>,
    /// Symbolic links, by their absolute paths.
    pub links: Links,
    /// Environment variables; `PATH` gets the environments' `bin` folders first unless it is set here.
    pub env: BTreeMap<String, String>,
    /// The command's fixed part; empty for none. `None`: the base's.
    pub entrypoint: Option<Vec<String>>,
    /// The command's default arguments; empty for none. `None`: the base's, unless there is an entrypoint.
    pub cmd: Option<Vec<String>>,
    /// Additions to `/etc/passwd` and `/etc/group`.
    pub users: Vec<User>,
    /// Who runs the command: a name or `UID[:GID]`.
    pub user: Option<String>,
    /// The folder that the command runs in.
    pub workdir: Option<String>,
    /// Labels of the image config.
    pub labels: BTreeMap<String, String>,
    /// Ports: `8080/tcp`.
    pub expose: Vec<String>,
    /// Volumes: absolute paths.
    pub volumes: Vec<String>,
    /// The signal that stops the command: `SIGTERM`.
    pub stop_signal: Option<String>,
    /// Commands that succeed in it.
    pub smoke: Vec<Vec<String>>,
    /// Whether those have the host's network.
    pub smoke_network: bool,
    /// What is left out of its packages, relative to the root.
    pub strip: Vec<String>,
    /// Where they are stopped.
    pub smoke_limits: Limits,
}

/// An image as it is written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ImageTable {
    /// The image whose table this one adds to. Its single values are taken over unless set here, its lists come first.
    pub(super) extends: Option<String>,
    /// The tag in an output, after `NAME:`. Default: `latest`.
    pub(super) tag: Option<String>,
    /// The root filesystem: a name of `[base]`.
    pub(super) base: Option<String>,
    /// Names of `[env]`. With `extends`, this list replaces the other's.
    pub(super) envs: Option<Vec<String>>,
    /// Names of `[artifact]`: scripts whose files it has.
    pub(super) artifacts: Vec<String>,
    /// Application files.
    pub(super) files: Vec<FileSpec>,
    /// Symbolic links, by their absolute paths: `{ "/usr/bin/python" = "python3.11" }`.
    pub(super) links: Links,
    /// Environment variables.
    pub(super) env: BTreeMap<String, String>,
    /// The command's fixed part.
    pub(super) entrypoint: Option<Vec<String>>,
    /// The command's default arguments.
    pub(super) cmd: Option<Vec<String>>,
    /// Additions to `/etc/passwd` and `/etc/group`.
    pub(super) users: Vec<User>,
    /// Who runs the command: a name or `UID[:GID]`.
    pub(super) user: Option<String>,
    /// The folder that the command runs in.
    pub(super) workdir: Option<String>,
    /// Labels of the image config.
    pub(super) labels: BTreeMap<String, String>,
    /// Ports: `8080/tcp`.
    pub(super) expose: Vec<String>,
    /// Volumes: absolute paths.
    pub(super) volumes: Vec<String>,
    /// The signal that stops the command: `SIGTERM`.
    pub(super) stop_signal: Option<String>,
    /// Commands that succeed in the image, for `imgforge test`: a program with its arguments each. They run as the image's
    /// command would, without its entrypoint.
    pub(super) smoke: Vec<Vec<String>>,
    /// Give those commands the host's network. Default: they have none.
    pub(super) smoke_network: Option<bool>,
    /// What is left out of its packages, Debian's too: gitignore's patterns, relative to the root: `["/usr/share/doc", "*.a"]`. With
    /// `extends`, this list replaces the other's. Layers of a base that is an image, and application files, stay as they are.
    pub(super) strip: Option<Vec<String>>,
    /// Where they are stopped; what is not said here is as in `[settings]`.
    pub(super) smoke_limits: Limits,
    /// For which values of the matrix it is there.
    pub(super) when: When,
}

/// Files of the host that go into the image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileSpec {
    /// A folder or a file, relative to images.toml.
    pub src: PathBuf,
    /// Where it goes; a folder's content lies right below.
    pub dest: String,
    /// What is left out: gitignore's patterns, relative to `src`.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// A user of the image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct User {
    /// The name, of the user and of its group.
    pub name: String,
    /// The user's number, and its group's unless `gid` says otherwise.
    pub uid: u32,
    /// The group's number.
    #[serde(default)]
    pub gid: Option<u32>,
    /// The home folder, made with mode 0700 when it is given. Default: `/nonexistent`, not made.
    #[serde(default)]
    pub home: Option<String>,
    /// The login shell. Default: `/usr/sbin/nologin`.
    #[serde(default)]
    pub shell: Option<String>,
}

impl Image {
    /// What it leaves out of an environment's packages, or of Debian's.
    ///
    /// # Errors
    /// [`PatternError`] for a pattern that is none, of which a checked configuration has none.
    pub fn strip_of(&self, environment: Option<&Environment>) -> Result<Strip, PatternError> {
        let own = environment.map(|environment| (environment.prefix.clone(), environment.strip.clone()));
        Strip::new(own.into_iter().chain([(String::new(), self.strip.clone())]))
    }
}

impl ImageTable {
    /// This table on top of the image that it extends, if any.
    pub(super) fn over(self, below: Option<&Image>) -> Option<Image> {
        let list = |below: Option<&Vec<FileSpec>>, own| [below.cloned().unwrap_or_default(), own].concat();
        let map = |below: Option<&BTreeMap<String, String>>, own: BTreeMap<_, _>| {
            let mut all = below.cloned().unwrap_or_default();
            all.extend(own);
            all
        };
        let texts = |below: Option<&Vec<String>>, own: Vec<String>| {
            let mut all = below.cloned().unwrap_or_default();
            all.extend(own);
            all
        };
        Some(Image {
            name: String::new(),
            values: Values::new(),
            tag: self.tag.or_else(|| below.and_then(|image| image.tag.clone())),
            base: self.base.or_else(|| below.map(|image| image.base.clone()))?,
            environments: self
                .envs
                .or_else(|| below.map(|image| image.environments.clone()))
                .unwrap_or_default(),
            artifacts: texts(below.map(|image| &image.artifacts), self.artifacts),
            files: list(below.map(|image| &image.files), self.files),
            links: map(below.map(|image| &image.links), self.links),
            env: map(below.map(|image| &image.env), self.env),
            entrypoint: self.entrypoint.or_else(|| below.and_then(|image| image.entrypoint.clone())),
            cmd: self.cmd.or_else(|| below.and_then(|image| image.cmd.clone())),
            users: [below.map(|image| image.users.clone()).unwrap_or_default(), self.users].concat(),
            user: self.user.or_else(|| below.and_then(|image| image.user.clone())),
            workdir: self.workdir.or_else(|| below.and_then(|image| image.workdir.clone())),
            labels: map(below.map(|image| &image.labels), self.labels),
            expose: texts(below.map(|image| &image.expose), self.expose),
            volumes: texts(below.map(|image| &image.volumes), self.volumes),
            stop_signal: self.stop_signal.or_else(|| below.and_then(|image| image.stop_signal.clone())),
            smoke: [below.map(|image| image.smoke.clone()).unwrap_or_default(), self.smoke].concat(),
            smoke_network: self
                .smoke_network
                .or_else(|| below.map(|image| image.smoke_network))
                .unwrap_or_default(),
            strip: self.strip.or_else(|| below.map(|image| image.strip.clone())).unwrap_or_default(),
            smoke_limits: match below {
                Some(below) => self.smoke_limits.over(&below.smoke_limits),
                None => self.smoke_limits,
            },
        })
    }
}
