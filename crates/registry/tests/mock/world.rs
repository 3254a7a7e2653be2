use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use imgforge_oci::{Descriptor, Digest, MediaType};
use imgforge_registry::{Client, Error, Keychain, Patience, Reference, Repository, Secret, Settings};
use imgforge_store::Store;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;

use super::{Auth, IDENTITY, PASSWORD, Registry, Rule, Seen, Server, USER};

/// What a test has the client do. Says in a word what came of it.
pub type Task = fn(&World, &Repository<'_>) -> Result<String, Error>;

/// Two origins, what they do wrong, and who asks.
pub struct World {
    pub registry: Arc<Registry>,
    pub store: Store,
    home: Vec<Rule>,
    other: Vec<Rule>,
    auth: Auth,
    patience: Patience,
    is_tls: bool,
    /// For the registry, and for the other origin.
    secrets: [Option<Secret>; 2],
    _folder: TempDir,
}

/// What came of it.
pub struct Ran {
    pub world: World,
    pub log: Vec<Seen>,
    pub elapsed: Duration,
}

/// Has a task done by a client of a registry that breaks these rules, and compares: the word that it returns, or words
/// that its error must have. Whatever comes of it, no credential may have gone to another origin than the registry,
/// and none may be in the error.
pub fn check<const N: usize>(task: Task, auth: Auth, rules: [Rule; N], expected: Result<&str, &str>) -> Ran {
    World::new(auth, rules).run(task, expected)
}

impl World {
    pub fn new<const N: usize>(auth: Auth, rules: [Rule; N]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = Secret::Basic { user: USER.to_owned(), password: PASSWORD.to_owned() };
        let patience = Patience {
            retries: 4,
            first_wait: Duration::from_millis(2),
            longest_wait: Duration::from_millis(1500),
            connect: Duration::from_secs(5),
            silence: Duration::from_secs(5),
        };
        Self {
            registry: Arc::default(),
            store: Store::open(folder.path()).unwrap(),
            home: rules.into(),
            other: Vec::new(),
            auth,
            patience,
            is_tls: false,
            secrets: [Some(secret), None],
            _folder: folder,
        }
    }

    /// Has the other origin break rules too.
    pub fn other<const N: usize>(mut self, rules: [Rule; N]) -> Self {
        self.other = rules.into();
        self
    }

    /// Has the client know something else to tell the registry, or nothing.
    pub fn secret(mut self, secret: Option<Secret>) -> Self {
        self.secrets[0] = secret;
        self
    }

    /// Has it know something to tell the other origin.
    pub fn other_secret(mut self, secret: Secret) -> Self {
        self.secrets[1] = Some(secret);
        self
    }

    /// Has the registry speak TLS.
    pub fn tls(mut self) -> Self {
        self.is_tls = true;
        self
    }

    /// Has the client bear only so many failures, and little silence.
    pub fn retries(mut self, retries: u32) -> Self {
        self.patience = Patience { retries, silence: Duration::from_millis(300), ..self.patience };
        self
    }

    pub fn run(mut self, task: Task, expected: Result<&str, &str>) -> Ran {
        let log = Arc::default();
        let (certificates, tls) = self.is_tls.then(certificate).unzip();
        let (home, other) = (std::mem::take(&mut self.home), std::mem::take(&mut self.other));
        let home = Server::new("home", &self.registry, self.auth, home, tls, &log);
        let other = Server::new("other", &self.registry, Auth::Open, other, None, &log);
        let named = |name: &str, url: String| (name.to_owned(), url);
        let names = [
            named("home", home.url()),
            named("other", other.url()),
            named("localhost", format!("http://localhost:{}", other.address.port())),
            named("with-user", format!("http://{USER}:{PASSWORD}@{}", other.address)),
        ];
        home.introduce(&names);
        other.introduce(&names);

        let mut keychain = Keychain::default();
        for (server, secret) in [&home, &other].into_iter().zip(self.secrets.clone()) {
            if let Some(secret) = secret {
                keychain = keychain.with(&server.address.to_string(), secret);
            }
        }
        let client = Client::new(Settings {
            keychain,
            patience: self.patience,
            certificates: certificates.into_iter().collect(),
            certificate_dirs: Vec::new(),
            plain_http: Vec::new(),
        });
        let reference: Reference = format!("{}/team/app:1", home.address).parse().unwrap();
        let before = Instant::now();
        let result = task(&self, &client.repository(&reference));
        let elapsed = before.elapsed();
        let ran = Ran { log: log.lock().unwrap().clone(), world: self, elapsed };
        ran.compare(result, expected, &names);
        ran
    }
}

impl Ran {
    fn compare(
        &self,
        result: Result<String, Error>,
        expected: Result<&str, &str>,
        names: &[(String, String)],
    ) {
        let mut texts = Vec::new();
        if let Err(error) = &result {
            texts.extend([error.to_string(), format!("{error:?}"), chain(error)]);
        }
        for text in &texts {
            let secret = self.secret_in(text).or_else(|| text.contains("53cret").then(String::new));
            assert_eq!(secret, None, "a credential in {text}");
        }
        for seen in self.log.iter().filter(|seen| seen.origin != "home") {
            let text = format!("{:?} {}", seen.head, String::from_utf8_lossy(&seen.body));
            assert_eq!(self.secret_in(&text), None, "a credential at the other origin: {text}");
            let is_known = self.world.secrets[1].is_some();
            assert!(is_known || seen.head.header("authorization").is_none(), "at the other origin: {text}");
        }
        // Where nobody was asked for credentials, there was nothing to give away.
        let is_proof = |seen: &Seen| seen.origin == "home" && seen.head.header("authorization").is_some();
        assert!(
            self.world.auth == Auth::Open || result.is_err() || self.count(is_proof) > 0,
            "{}",
            self.story()
        );
        let mut shown = result.map_err(|error| error.to_string());
        for (name, url) in names {
            shown = shown.map_err(|text| text.replace(url, &format!("{{{name}}}")));
            let (_, address) = url.split_once("://").unwrap();
            shown = shown.map_err(|text| text.replace(address, &format!("{{{name}}}")));
        }
        let is_as_expected = match (&shown, expected) {
            (Ok(word), Ok(expected)) => word == expected,
            (Err(text), Err(words)) => text.contains(words),
            _ => false,
        };
        assert!(is_as_expected, "{shown:#?}\n  instead of {expected:?}, after\n{}", self.story());
    }

    /// Any of the user, the password, both in base64, and the tokens that were given out.
    fn secret_in(&self, text: &str) -> Option<String> {
        let both = BASE64.encode(format!("{USER}:{PASSWORD}").as_bytes());
        let known = [USER, PASSWORD, IDENTITY, both.trim_end_matches('=')].map(str::to_owned);
        let mut secrets = known.into_iter().chain(self.world.registry.tokens());
        secrets.find(|secret| text.contains(secret.as_str()))
    }

    /// The requests, a line for each.
    pub fn story(&self) -> String {
        let line = |seen: &Seen| {
            let Seen { origin, head, received, sent, .. } = seen;
            format!("  {origin}: {} {} ({received} in, {sent} out)\n", head.method, head.target)
        };
        self.log.iter().map(line).collect()
    }

    /// Bytes of blobs that went either way.
    pub fn moved(&self) -> usize {
        let of_blobs = self.log.iter().filter(|seen| seen.head.path().contains("/blobs/"));
        of_blobs.map(|seen| seen.sent + seen.received).sum()
    }

    pub fn count(&self, what: impl Fn(&Seen) -> bool) -> usize {
        self.log.iter().filter(|seen| what(seen)).count()
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.map(|cause| format!(": {cause} {cause:?}")).collect()
}

/// A certificate for loopback, as PEM, and what a server needs of it.
fn certificate() -> (Vec<u8>, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (made.cert.pem().into_bytes(), Arc::new(config))
}

/// A layer of so many bytes, always the same ones.
pub fn layer(size: usize) -> Arc<Layer> {
    static KNOWN: Mutex<BTreeMap<usize, Arc<Layer>>> = Mutex::new(BTreeMap::new());
    let make = || {
        let bytes = noise(size);
        let descriptor = Descriptor::new(MediaType::ImageLayerGzip, Digest::of(&bytes), size as u64);
        Arc::new(Layer { bytes, descriptor })
    };
    KNOWN.lock().unwrap().entry(size).or_insert_with(make).clone()
}

/// Content, and what names it.
pub struct Layer {
    pub bytes: Vec<u8>,
    pub descriptor: Descriptor,
}

/// Bytes without a pattern. What is shorter is a beginning of what is longer.
pub fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}
