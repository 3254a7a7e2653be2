use std::collections::BTreeMap;
use std::path::PathBuf;

use data_encoding::BASE64_NOPAD;
use serde::Deserialize;

use super::{AuthError, Secret};

/// One auth file.
pub(super) struct File {
    pub(super) path: PathBuf,
    entries: Vec<(Key, Entry)>,
    helpers: Vec<(Key, String)>,
    store: Option<String>,
}

/// Where a file says that the credentials are.
pub(super) enum Found<'a> {
    /// In the file itself.
    Secret(Secret),
    /// With a helper, under the first of these names that it knows.
    Helper { name: &'a str, servers: Vec<String> },
}

/// What an entry is for.
struct Key {
    /// A host, with its port where one is written, and names behind it: `quay.io/team`.
    place: String,
    /// Whether it stands in the file in just this form, and not as the URL that docker once wrote.
    is_plain: bool,
}

#[derive(Deserialize)]
struct Form {
    #[serde(default)]
    auths: Option<BTreeMap<String, Option<Entry>>>,
    #[serde(default, rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<String>,
    #[serde(rename = "registrytoken")]
    registry_token: Option<String>,
}

impl File {
    pub(super) fn parse(path: PathBuf, text: &str) -> Result<Self, AuthError> {
        // podman takes an empty file for one without entries; `touch` is a way to make the first one.
        let text = if text.trim().is_empty() { "{}" } else { text };
        let form: Form = match serde_json::from_str(text) {
            Ok(form) => form,
            // What it says may quote a password.
            Err(error) => return Err(AuthError::File { path, line: error.line(), column: error.column() }),
        };
        let entries = form.auths.unwrap_or_default().into_iter();
        let entries = entries.filter_map(|(key, entry)| Some((Key::parse(&key), entry?)));
        let helpers =
            form.helpers.unwrap_or_default().into_iter().map(|(key, name)| (Key::parse(&key), name));
        let store = form.store.filter(|name| !name.is_empty());
        Ok(Self { path, entries: entries.collect(), helpers: helpers.collect(), store })
    }

    /// What the file has for the first of these places that it has anything for.
    ///
    /// A host's own helper comes first, then what is in the file, then the helper for all hosts: docker leaves empty
    /// entries in the file for what it gave to a helper.
    pub(super) fn find(&self, places: &[String]) -> Result<Option<Found<'_>>, AuthError> {
        let helper = most_specific(places, &self.helpers, |name| Some(name.as_str()));
        // An empty name says that a host has no helper, not even the one for all.
        if let Some((place, name)) = helper.filter(|(_, name)| !name.is_empty()) {
            return Ok(Some(Found::Helper { name, servers: servers(place) }));
        }
        let entry = most_specific(places, &self.entries, |entry| entry.secret().transpose());
        if let Some((place, secret)) = entry {
            let error = |Undecodable| AuthError::Entry { path: self.path.clone(), host: place.to_owned() };
            return secret.map(|secret| Some(Found::Secret(secret))).map_err(error);
        }
        let (None, Some(name), Some(host)) = (helper, &self.store, places.last()) else { return Ok(None) };
        Ok(Some(Found::Helper { name, servers: servers(host) }))
    }
}

/// The first place with a value that is something; its plain key before the URL.
fn most_specific<'p, 'v, T, U>(
    places: &'p [String],
    values: &'v [(Key, T)],
    something: impl Fn(&'v T) -> Option<U>,
) -> Option<(&'p str, U)> {
    places.iter().find_map(|place| {
        let find = |is_plain| {
            let mut of_place =
                values.iter().filter(|(key, _)| key.is_plain == is_plain && key.place == *place);
            of_place.find_map(|(_, value)| something(value))
        };
        Some((place.as_str(), find(true).or_else(|| find(false))?))
    })
}

/// What helpers know a place by. docker gives them Docker Hub's URL, podman its name.
fn servers(place: &str) -> Vec<String> {
    match place {
        "docker.io" => vec!["https://index.docker.io/v1/".to_owned(), place.to_owned()],
        _ => vec![place.to_owned()],
    }
}

impl Key {
    /// docker wrote URLs, of which the host counts; podman writes hosts, and names behind them.
    fn parse(text: &str) -> Self {
        let (place, is_plain) = match text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) {
            Some(url) => (url.split('/').next().unwrap_or_default(), false),
            None => {
                let host = ["/v1/", "/v2/", "/v1", "/v2"].iter().find_map(|end| text.strip_suffix(end));
                (host.filter(|host| !host.contains('/')).unwrap_or(text), host.is_none())
            }
        };
        let place = place.trim_end_matches('/');
        let place = match place.split_once('/') {
            Some((host, names)) => format!("{}/{names}", canonical(host)),
            None => canonical(place),
        };
        Self { place, is_plain }
    }
}

/// A host by the one name that it has here: Docker Hub has three.
pub(super) fn canonical(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => host,
    }
}

/// An `auth` that is not what it should be.
struct Undecodable;

impl Entry {
    /// Nothing, where docker left an empty entry. Tokens come first: with them, `auth` has a user for show.
    fn secret(&self) -> Result<Option<Secret>, Undecodable> {
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = some(&self.registry_token) {
            return Ok(Some(Secret::RegistryToken(token)));
        }
        if let Some(token) = some(&self.identity_token) {
            return Ok(Some(Secret::IdentityToken(token)));
        }
        let (user, password) = match some(&self.auth) {
            Some(auth) => decode(&auth).ok_or(Undecodable)?,
            None => (some(&self.username).unwrap_or_default(), some(&self.password).unwrap_or_default()),
        };
        let is_empty = user.is_empty() && password.is_empty();
        Ok((!is_empty).then_some(Secret::Basic { user, password }))
    }
}

/// Base64 of `user:password`, with or without padding.
fn decode(auth: &str) -> Option<(String, String)> {
    let bytes = BASE64_NOPAD.decode(auth.trim().trim_end_matches('=').as_bytes()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    // docker pads with these.
    Some((user.to_owned(), password.trim_matches('\0').to_owned()))
}
