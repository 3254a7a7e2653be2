//! Hosts: how each is spoken to, and over which connections.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use imgforge_http::{Http, Patience, Reason, Request, SetupError, Trouble, chain};
use reqwest::{Certificate, ClientBuilder, Identity, Method, StatusCode, Url};

use crate::session::Grant;
use crate::{Keychain, Reference};

/// How long a host on loopback may take to show whether it speaks TLS.
const PROBE: Duration = Duration::from_secs(3);

/// Never set.
static NEVER: AtomicBool = AtomicBool::new(false);

/// How registries are spoken to.
#[derive(Clone, Default)]
pub struct Settings {
    /// What proves who we are.
    pub keychain: Keychain,
    /// When to give up.
    pub patience: Patience,
    /// PEM files of certificates that are trusted beside the system's, for every host.
    pub certificates: Vec<Vec<u8>>,
    /// Folders like /etc/containers/certs.d and /etc/docker/certs.d. A folder `HOST:PORT` (`HOST` alone where the port
    /// is the usual one) in one of them is for that host: authorities to trust in files `*.crt`, and what proves who
    /// we are to it in `*.cert` and `*.key`. Source: containers-certs.d(5).
    pub certificate_dirs: Vec<PathBuf>,
    /// Hosts, as in a [`Reference`], that are spoken to without TLS. Those on loopback may be anyway, where they don't
    /// speak it.
    pub plain_http: Vec<String>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("patience", &self.patience)
            .field("certificate_dirs", &self.certificate_dirs)
            .field("plain_http", &self.plain_http)
            .finish_non_exhaustive()
    }
}

/// Speaks to registries, with one pool of connections. Threads may share it.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    /// By the host's name in a [`Reference`].
    hosts: Mutex<BTreeMap<String, Arc<Host>>>,
    /// By what is special about the connections.
    connections: Mutex<BTreeMap<Kind, Http>>,
}

/// What is special about connections: certificates and proxies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Nothing.
    Far,
    /// Nobody's proxy leads to this machine.
    Loopback,
    /// A host has certificates of its own.
    Of(String),
}

/// A registry's host, and what is known about it by now.
pub(crate) struct Host {
    /// As in a reference.
    pub(crate) name: String,
    /// Who answers for it.
    api: String,
    /// Its root, once it is known whether it speaks TLS.
    base: Mutex<Option<Url>>,
    /// Whom it knows us as.
    pub(crate) grants: Mutex<Vec<Grant>>,
    /// Held while somebody asks for a grant.
    pub(crate) asking: Mutex<()>,
    /// Whether it refused a part of a blob.
    pub(crate) takes_no_chunks: AtomicBool,
}

/// One repository of a registry.
#[derive(Clone)]
pub struct Repository<'a> {
    pub(crate) client: &'a Client,
    pub(crate) host: Arc<Host>,
    pub(crate) name: String,
    pub(crate) stop: &'a AtomicBool,
}

impl Client {
    /// Takes the settings; opens no connection and reads no file.
    pub fn new(settings: Settings) -> Self {
        Self { settings, hosts: Mutex::default(), connections: Mutex::default() }
    }

    /// The repository that a reference is to. Its tag and digest don't matter.
    pub fn repository(&self, reference: &Reference) -> Repository<'_> {
        let host = lock(&self.hosts)
            .entry(reference.host().to_owned())
            .or_insert_with(|| {
                Arc::new(Host {
                    name: reference.host().to_owned(),
                    api: reference.api_host().to_owned(),
                    base: Mutex::default(),
                    grants: Mutex::default(),
                    asking: Mutex::default(),
                    takes_no_chunks: AtomicBool::new(false),
                })
            })
            .clone();
        Repository { client: self, host, name: reference.repository().to_owned(), stop: &NEVER }
    }

    pub(crate) fn patience(&self) -> Patience {
        self.settings.patience
    }

    pub(crate) fn keychain(&self) -> &Keychain {
        &self.settings.keychain
    }

    /// The root of a registry: `https://HOST/`.
    pub(crate) fn base(&self, host: &Host) -> Result<Url, Trouble> {
        let parse = |scheme: &str| {
            let url = Url::parse(&format!("{scheme}://{}/", host.api));
            url.map_err(|error| Trouble::Final(Reason::Url(error.to_string())))
        };
        // Held while the host is asked, so that it is asked once.
        let mut base = lock(&host.base);
        if let Some(base) = &*base {
            return Ok(base.clone());
        }
        let is_plain = self.settings.plain_http.iter().any(|plain| plain.eq_ignore_ascii_case(&host.name));
        let url = match parse("https")? {
            _ if is_plain => parse("http")?,
            url if is_loopback(&url) => self.probe(url, parse("http")?)?,
            url => url,
        };
        *base = Some(url.clone());
        Ok(url)
    }

    /// Finds out whether a host on loopback speaks TLS.
    fn probe(&self, https: Url, http: Url) -> Result<Url, Trouble> {
        let ask = |base: &Url| {
            let mut url = base.clone();
            url.set_path("v2/");
            let request = Request { answer_within: Some(PROBE), ..Request::new(Method::GET, url) };
            self.http(base)?.send(&request)
        };
        match ask(&https) {
            // The next request will say what is wrong with its certificate.
            Ok(_) | Err(Trouble::Final(_)) => Ok(https),
            Err(trouble) => match ask(&http) {
                // What a server for TLS says to those who speak in the clear, unless it is merely slow.
                Ok(answer) if answer.status() == StatusCode::BAD_REQUEST => Ok(https),
                Ok(_) => Ok(http),
                Err(_) => Err(trouble),
            },
        }
    }

    /// The connections to a URL's host.
    pub(crate) fn http(&self, url: &Url) -> Result<Http, Trouble> {
        let failed = |error: SetupError| Trouble::Final(Reason::Setup(error));
        let place = place(url);
        let mut connections = lock(&self.connections);
        let of_host = Kind::Of(place.clone());
        if let Some(http) = connections.get(&of_host) {
            return Ok(http.clone());
        }
        let usual = if is_loopback(url) { Kind::Loopback } else { Kind::Far };
        let folders: Vec<_> = self.settings.certificate_dirs.iter().map(|dir| dir.join(&place)).collect();
        let kind = if folders.iter().any(|folder| folder.is_dir()) { of_host } else { usual };
        if let Some(http) = connections.get(&kind) {
            return Ok(http.clone());
        }
        // Uploads of large blobs side by side are worth a connection each.
        let mut builder = ClientBuilder::new().http1_only();
        if is_loopback(url) {
            builder = builder.no_proxy();
        }
        for (number, pem) in (1..).zip(&self.settings.certificates) {
            let place = || format!("certificates that are to be trusted, number {number}");
            builder = trust(builder, pem, &place).map_err(failed)?;
        }
        if matches!(kind, Kind::Of(_)) {
            for folder in folders.iter().filter(|folder| folder.is_dir()) {
                builder = read_folder(builder, folder).map_err(failed)?;
            }
        }
        let http = Http::new(builder, self.settings.patience).map_err(failed)?;
        connections.insert(kind, http.clone());
        Ok(http)
    }
}

impl<'a> Repository<'a> {
    /// The same, but stopped when somebody sets the flag: between two requests, and between two pieces of a large one.
    /// What has come is kept in the store.
    #[must_use]
    pub fn until(self, stop: &'a AtomicBool) -> Self {
        Self { stop, ..self }
    }
}

/// `HOST/NAME`.
impl fmt::Display for Repository<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host.name, self.name)
    }
}

impl fmt::Debug for Repository<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repository({self})")
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({})", self.name)
    }
}

/// A URL's host as its folder of certificates is called, and as auth files have it.
pub(crate) fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    // The host is parsed once more, because the type that the library has for it is not its own.
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    match address {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn trust(
    builder: ClientBuilder,
    pem: &[u8],
    place: &dyn Fn() -> String,
) -> Result<ClientBuilder, SetupError> {
    let wrong = |reason: String| SetupError::Certificates { place: place(), reason };
    let certificates = Certificate::from_pem_bundle(pem).map_err(|error| wrong(chain(&error)))?;
    if certificates.is_empty() {
        return Err(wrong("there is no certificate in it, in PEM".to_owned()));
    }
    Ok(builder.tls_certs_merge(certificates))
}

/// Takes a host's certificates from its folder.
fn read_folder(mut builder: ClientBuilder, folder: &Path) -> Result<ClientBuilder, SetupError> {
    let wrong = |path: &Path, reason: String| {
        let place = path.display().to_string();
        SetupError::Certificates { place, reason }
    };
    let read = |path: &Path| std::fs::read(path).map_err(|error| wrong(path, error.to_string()));
    let entries = std::fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>()
    });
    let mut paths = entries.map_err(|error| wrong(folder, error.to_string()))?;
    paths.sort();
    let of_kind = |kind: &str, path: &Path| path.extension().is_some_and(|extension| extension == kind);
    for path in paths.iter().filter(|path| of_kind("crt", path)) {
        builder = trust(builder, &read(path)?, &|| path.display().to_string())?;
    }
    // More than one would be a choice that nobody has told us how to make.
    let Some(path) = paths.iter().find(|path| of_kind("cert", path)) else { return Ok(builder) };
    let key = path.with_extension("key");
    let pem = [read(path)?, b"\n".to_vec(), read(&key)?].concat();
    // The library's words may quote what it read.
    let identity = Identity::from_pem(&pem)
        .map_err(|_| wrong(path, format!("this and {} are no certificate and key, in PEM", key.display())))?;
    Ok(builder.identity(identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_loopback(url: &str, expected: bool) {
        assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
    }

    #[test]
    fn what_is_on_this_machine() {
        for url in ["http://localhost:5000", "https://127.0.0.1", "http://127.8.8.8:1", "http://[::1]:5000"] {
            check_loopback(url, true);
        }
        check_loopback("http://a.localhost/", true);
        for url in ["http://localhost.example.org", "http://128.0.0.1", "http://[::2]", "http://10.0.0.1"] {
            check_loopback(url, false);
        }
    }

    #[test]
    fn places_are_written_as_in_references() {
        for (url, expected) in [
            ("https://a.example.org/v2/", "a.example.org"),
            ("https://a.example.org:443/v2/", "a.example.org"),
            ("https://a.example.org:5000/v2/", "a.example.org:5000"),
            ("http://[::1]:5000/v2/", "[::1]:5000"),
        ] {
            assert_eq!(place(&Url::parse(url).unwrap()), expected);
        }
    }

    fn check_folder(files: &[(&str, &str)], expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("127.0.0.1:5000");
        std::fs::create_dir(&folder).unwrap();
        for (name, text) in files {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let certificate_dirs = vec![dir.path().to_owned()];
        let client = Client::new(Settings { certificate_dirs, ..Settings::default() });
        let error = match client.http(&Url::parse("https://127.0.0.1:5000/").unwrap()) {
            Ok(_) => String::new(),
            Err(Trouble::Final(reason)) => reason.to_string(),
            Err(trouble) => panic!("{trouble:?}"),
        };
        assert_eq!(error.replace(folder.to_str().unwrap(), "FOLDER"), expected);
        assert!(client.http(&Url::parse("https://127.0.0.1:5001/").unwrap()).is_ok());
    }

    #[test]
    fn folders_of_certificates() {
        check_folder(&[], "");
        check_folder(&[("README", "nothing")], "");
        check_folder(&[("ca.crt", "nothing")], "FOLDER/ca.crt: there is no certificate in it, in PEM");
        let missing = "FOLDER/client.key: No such file or directory (os error 2)";
        check_folder(&[("client.cert", "nothing")], missing);
        check_folder(
            &[("client.cert", "nothing"), ("client.key", "secret")],
            "FOLDER/client.cert: this and FOLDER/client.key are no certificate and key, in PEM",
        );
    }
}
