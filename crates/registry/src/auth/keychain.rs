use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::file::{File, Found, canonical};
use super::helper::{self, Helper};
use super::{AuthError, Secret};

/// What there is to tell registries that want to know who asks. Shows nothing of it when printed.
#[derive(Clone, Default)]
pub struct Keychain {
    explicit: Vec<(String, Secret)>,
    files: Arc<Vec<File>>,
    search_path: Option<OsString>,
    answers: Arc<Mutex<Answers>>,
}

/// What helpers said, by program and server: some ask a person, and all take long.
type Answers = BTreeMap<(String, String), Option<Secret>>;

impl Keychain {
    /// Reads the texts of containers-auth.json(5) or docker's config.json files, with their paths for messages, the
    /// most important file first.
    ///
    /// # Errors
    /// [`AuthError::File`].
    pub fn new(files: Vec<(PathBuf, String)>) -> Result<Self, AuthError> {
        let files = files.into_iter().map(|(path, text)| File::parse(path, &text));
        Ok(Self { files: Arc::new(files.collect::<Result<_, _>>()?), ..Self::default() })
    }

    /// Puts a host's credentials before those of the files. A host is written as in a
    /// [`Reference`](crate::Reference).
    #[must_use]
    pub fn with(mut self, host: &str, secret: Secret) -> Self {
        self.explicit.push((canonical(host), secret));
        self
    }

    /// Names the folders that helpers are looked for in, as `PATH` has them. Otherwise they are found as this process
    /// would find any program.
    #[must_use]
    pub fn with_search_path(mut self, folders: impl Into<OsString>) -> Self {
        self.search_path = Some(folders.into());
        self
    }

    /// What there is for a repository: given explicitly, or from the first file that has anything for it.
    ///
    /// In a file, the most specific entry counts: for `host/team/name`, then `host/team`, then `host`. Where credential
    /// helpers come in, this runs programs and may take ten seconds; it does so once. With an empty `repository`, only
    /// what is for the whole host.
    ///
    /// # Errors
    /// [`AuthError::Entry`] and [`AuthError::Helper`], rather than a request without credentials, which would fail for
    /// reasons hard to guess.
    pub fn lookup(&self, host: &str, repository: &str) -> Result<Option<Secret>, AuthError> {
        let host = canonical(host);
        if let Some((_, secret)) = self.explicit.iter().rev().find(|(of, _)| *of == host) {
            return Ok(Some(secret.clone()));
        }
        let places = places(&host, repository);
        for file in self.files.iter() {
            let secret = match file.find(&places)? {
                Some(Found::Secret(secret)) => Some(secret),
                Some(Found::Helper { name, servers }) => self.ask(file, name, servers)?,
                None => None,
            };
            if secret.is_some() {
                return Ok(secret);
            }
        }
        Ok(None)
    }

    /// The first of the servers that a helper has something for.
    fn ask(&self, file: &File, name: &str, servers: Vec<String>) -> Result<Option<Secret>, AuthError> {
        let helper = Helper { name, search_path: self.search_path.as_deref(), patience: helper::PATIENCE };
        // Held while the helper runs, so that two requests do not both make it ask.
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        for server in servers {
            let known = (name.to_owned(), server.clone());
            let answer = match answers.get(&known) {
                Some(answer) => answer.clone(),
                None => {
                    let answer = helper.get(&server).map_err(|problem| AuthError::Helper {
                        path: file.path.clone(),
                        helper: helper.program(),
                        server,
                        problem,
                    })?;
                    answers.entry(known).or_insert(answer).clone()
                }
            };
            if answer.is_some() {
                return Ok(answer);
            }
        }
        Ok(None)
    }
}

/// `host/a/b`, `host/a`, `host`.
fn places(host: &str, repository: &str) -> Vec<String> {
    let mut place = match repository {
        "" => host.to_owned(),
        _ => format!("{host}/{repository}"),
    };
    let mut places = vec![place.clone()];
    while let Some((shorter, _)) = place.rsplit_once('/') {
        place = shorter.to_owned();
        places.push(place.clone());
    }
    places
}

impl fmt::Debug for Keychain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.explicit.iter().map(|(host, _)| host).collect();
        let files: Vec<_> = self.files.iter().map(|file| &file.path).collect();
        f.debug_struct("Keychain").field("hosts", &hosts).field("files", &files).finish()
    }
}
