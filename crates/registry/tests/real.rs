//! Against docker's registry, as Debian has it: in the clear, with TLS, with passwords, and when the line breaks.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails should stop where it does"
)]

use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use imgforge_oci::{Blob, Descriptor, Digest, MediaType};
use imgforge_registry::{
    Client, Event, FileContent, Keychain, Patience, Reference, Repository, Secret, Settings, TagOrDigest,
    Uploaded,
};
use imgforge_store::Store;
use tempfile::TempDir;

const USER: &str = "ada";
const PASSWORD: &str = "s3cret:with:colons";

/// A registry of our own, until the test ends.
struct Registry {
    dir: TempDir,
    address: SocketAddr,
    child: Child,
}

impl Registry {
    /// `http` and `auth` are parts of its configuration, where `DIR` stands for its folder.
    fn start(http: &str, auth: &str, prepare: impl Fn(&Path)) -> Self {
        let dir = TempDir::new().unwrap();
        prepare(dir.path());
        // Somebody else might take the port before the registry does, which only this test would notice.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: \
             {{rootdirectory: DIR/data}}}}\nhttp:\n  addr: {address}\n{http}{auth}"
        );
        fs::write(dir.path().join("config.yml"), config.replace("DIR", dir.path().to_str().unwrap()))
            .unwrap();
        let child = Self::serve(dir.path());
        let registry = Self { dir, address, child };
        registry.wait();
        registry
    }

    fn plain() -> Self {
        Self::start("", "", |_| {})
    }

    fn serve(dir: &Path) -> Child {
        Command::new("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this needs docker's registry: apt-get install docker-registry")
    }

    fn wait(&self) {
        let up = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            TcpStream::connect(self.address).is_ok()
        });
        assert!(up, "the registry does not listen");
    }

    fn reference(&self, name: &str) -> Reference {
        format!("docker://{}/{name}", self.address).parse().unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn patience() -> Patience {
    let (first_wait, silence) = (Duration::from_millis(50), Duration::from_secs(10));
    Patience { first_wait, silence, ..Patience::default() }
}

fn client() -> Client {
    Client::new(Settings { patience: patience(), ..Settings::default() })
}

/// Bytes without a pattern, others for each seed.
fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ seed;
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

fn layer(bytes: &[u8]) -> Descriptor {
    Descriptor::new(MediaType::ImageLayerGzip, Digest::of(bytes), bytes.len() as u64)
}

/// A manifest of one layer, and its config.
fn image(layer: &Descriptor) -> (Blob, Blob) {
    let config = Blob::new(
        MediaType::ImageConfig,
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec(),
    );
    let entry = |descriptor: &Descriptor| {
        let Descriptor { media_type, digest, size, .. } = descriptor;
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        MediaType::ImageManifest,
        entry(config.descriptor()),
        entry(layer)
    );
    (Blob::new(MediaType::ImageManifest, manifest.into_bytes()), config)
}

fn upload(repository: &Repository<'_>, bytes: &[u8], mount_from: &[&str]) -> Uploaded {
    let mount_from: Vec<_> = mount_from.iter().map(|name| (*name).to_owned()).collect();
    repository.upload_blob(&layer(bytes), &bytes, &mount_from, &|_| {}).unwrap()
}

/// Pushes an image, and reads all of it back.
fn check_there_and_back(client: &Client, reference: &Reference) {
    let repository = client.repository(reference);
    let bytes = noise(6_000_000, 1);
    let layer = layer(&bytes);
    let (manifest, config) = image(&layer);
    assert!(!repository.has_blob(&layer.digest).unwrap());
    assert_eq!(upload(&repository, &bytes, &[]), Uploaded::Sent { bytes: layer.size });
    assert_eq!(upload(&repository, &bytes, &[]), Uploaded::Skipped);
    let sent = repository.upload_blob(config.descriptor(), &config, &[], &|_| {}).unwrap();
    assert_eq!(sent, Uploaded::Sent { bytes: config.descriptor().size });

    let digest = manifest.descriptor().digest;
    let names = [TagOrDigest::Tag("one"), TagOrDigest::Digest(&digest)];
    for name in names {
        assert_eq!(repository.manifest(name).unwrap(), None);
        assert_eq!(repository.manifest_digest(name).unwrap(), None);
    }
    repository.put_manifest(&manifest, names[0]).unwrap();
    repository.put_manifest(&manifest, names[1]).unwrap();
    for name in names {
        assert_eq!(repository.manifest(name).unwrap().as_ref(), Some(&manifest));
        assert_eq!(repository.manifest_digest(name).unwrap().as_ref(), Some(manifest.descriptor()));
    }

    assert_eq!(repository.blob(config.descriptor(), 1 << 20).unwrap(), config);
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    repository.fetch_blob(&store, &layer, &|_| {}).unwrap();
    assert_eq!(fs::read(store.blob_path(&layer.digest)).unwrap(), bytes);

    let other = format!("{}-other", reference.to_string().split(':').take(2).collect::<Vec<_>>().join(":"));
    let other = client.repository(&other.parse().unwrap());
    let mounted = Uploaded::Mounted { from: reference.repository().to_owned() };
    assert_eq!(upload(&other, &bytes, &["no/such", reference.repository()]), mounted);
    assert!(other.has_blob(&layer.digest).unwrap());
}

#[test]
fn in_the_clear() {
    let registry = Registry::plain();
    check_there_and_back(&client(), &registry.reference("team/app"));
}

#[test]
fn what_is_missing_or_refused_is_said() {
    let registry = Registry::plain();
    let (client, bytes) = (client(), noise(100, 2));
    let repository = client.repository(&registry.reference("team/app"));
    let (manifest, _) = image(&layer(&bytes));
    let error = repository.put_manifest(&manifest, TagOrDigest::Tag("x")).unwrap_err().to_string();
    let start = format!("cannot push the manifest {}/team/app:x: 400", registry.address);
    assert!(error.starts_with(&start) && error.contains("BLOB_UNKNOWN"), "{error}");
    let error = repository.blob(&layer(&bytes), 1000).unwrap_err().to_string();
    assert!(error.contains("404 Not Found: BLOB_UNKNOWN"), "{error}");
    let error = repository.blob(&layer(&bytes), 99).unwrap_err().to_string();
    assert!(error.contains("more than the 99 bytes expected"), "{error}");
    // Other bytes than announced, of the same length.
    let wrong = noise(100, 3);
    let error =
        repository.upload_blob(&layer(&bytes), &wrong.as_slice(), &[], &|_| {}).unwrap_err().to_string();
    assert!(error.contains("DIGEST_INVALID"), "{error}");
    let error = repository.upload_blob(&layer(&bytes), &&wrong[1..], &[], &|_| {}).unwrap_err().to_string();
    assert!(error.contains("its descriptor says 100 bytes, there are 99"), "{error}");
    let none = client.repository(&"127.0.0.1:1/team/app".parse().unwrap());
    assert!(none.has_blob(&layer(&bytes).digest).unwrap_err().to_string().contains("127.0.0.1:1/team/app"));
}

#[test]
fn other_hosts_need_tls_unless_told_otherwise() {
    let registry = Registry::plain();
    // This address is this machine too, but does not look like it.
    let reference: Reference = format!("0.0.0.0:{}/team/app", registry.address.port()).parse().unwrap();
    let host = reference.host().to_owned();
    let error = client().repository(&reference).has_blob(&Digest::of(b"")).unwrap_err().to_string();
    let expected = format!(
        "{host} does not speak TLS; where {host} is meant to be spoken to without TLS, give `--plain-http {host}`"
    );
    assert!(error.ends_with(&expected), "{error}");
    let closed = "0.0.0.0:1/team/app".parse().unwrap();
    let error = client().repository(&closed).has_blob(&Digest::of(b"")).unwrap_err().to_string();
    assert!(error.contains("refused") && error.ends_with("give `--plain-http 0.0.0.0:1`"), "{error}");
    let settings = Settings { plain_http: vec![host], patience: patience(), ..Settings::default() };
    check_there_and_back(&Client::new(settings), &reference);
}

fn run(dir: &Path, program: &str, package: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).current_dir(dir).output();
    let output = output.unwrap_or_else(|_| panic!("this needs {program}: apt-get install {package}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// An authority, and a certificate that it gives to this machine.
fn certify(dir: &Path) {
    let openssl = |arguments: &str| {
        run(dir, "openssl", "openssl", &arguments.split(' ').collect::<Vec<_>>());
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority");
    openssl("req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=registry");
    fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out cert.pem",
    );
}

const TLS: &str = "  tls: {certificate: DIR/cert.pem, key: DIR/key.pem}\n";

#[test]
fn with_tls() {
    let registry = Registry::start(TLS, "", certify);
    let authority = fs::read(registry.dir.path().join("ca.pem")).unwrap();
    let settings = || Settings { patience: patience(), ..Settings::default() };
    let trusting = Settings { certificates: vec![authority.clone()], ..settings() };
    check_there_and_back(&Client::new(trusting), &registry.reference("team/app"));

    let folder = registry.dir.path().join(format!("certs.d/{}", registry.address));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("ca.crt"), &authority).unwrap();
    let for_the_host = Settings { certificate_dirs: vec![registry.dir.path().join("certs.d")], ..settings() };
    check_there_and_back(&Client::new(for_the_host), &registry.reference("team/second"));

    let client = Client::new(settings());
    let error = client.repository(&registry.reference("team/app")).has_blob(&Digest::of(b"")).unwrap_err();
    assert!(
        error.to_string().contains("certificate") && error.hint().unwrap().contains("certs.d"),
        "{error}"
    );
}

#[test]
fn with_a_certificate_of_the_client() {
    let http = "  tls: {certificate: DIR/cert.pem, key: DIR/key.pem, clientcas: [DIR/ca.pem]}\n";
    let registry = Registry::start(http, "", certify);
    let folder = registry.dir.path().join(format!("certs.d/{}", registry.address));
    fs::create_dir_all(&folder).unwrap();
    // What a server may be shown, a client may be.
    for (from, to) in [("ca.pem", "ca.crt"), ("cert.pem", "client.cert"), ("key.pem", "client.key")] {
        fs::copy(registry.dir.path().join(from), folder.join(to)).unwrap();
    }
    let certificate_dirs = vec![registry.dir.path().join("certs.d")];
    let settings = || Settings {
        certificate_dirs: certificate_dirs.clone(),
        patience: patience(),
        ..Settings::default()
    };
    check_there_and_back(&Client::new(settings()), &registry.reference("team/app"));
    fs::remove_file(folder.join("client.cert")).unwrap();
    let client = Client::new(settings());
    // What is said depends on whether the server's word comes before the end of the connection.
    assert!(client.repository(&registry.reference("team/app")).has_blob(&Digest::of(b"")).is_err());
}

#[test]
fn with_a_password() {
    let auth = "auth: {htpasswd: {realm: test, path: DIR/htpasswd}}\n";
    let registry = Registry::start("", auth, |dir| {
        let line = run(dir, "htpasswd", "apache2-utils", &["-Bbn", USER, PASSWORD]);
        fs::write(dir.join("htpasswd"), line).unwrap();
    });
    let reference = registry.reference("team/app");
    let with = |password: &str| {
        let secret = Secret::Basic { user: USER.to_owned(), password: password.to_owned() };
        let keychain = Keychain::default().with(reference.host(), secret);
        Client::new(Settings { keychain, patience: patience(), ..Settings::default() })
    };
    check_there_and_back(&with(PASSWORD), &reference);
    for (client, expected) in [
        (client(), "wants a user and a password, and there are none for it; log in with `podman login"),
        (with("wr0ng"), "does not accept the credentials for it (401); log in again"),
    ] {
        let error = client.repository(&reference).manifest(TagOrDigest::Tag("one")).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!format!("{error} {error:?} {client:?}").contains("wr0ng"), "{error:?}");
    }
}

#[test]
fn a_download_is_gone_on_with() {
    let registry = Registry::plain();
    let client = client();
    let repository = client.repository(&registry.reference("team/app"));
    let bytes = noise(8_000_000, 4);
    upload(&repository, &bytes, &[]);
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let digest = Digest::of(&bytes);
    store.partial(&digest, || {}).unwrap().unwrap().append(&bytes[..5_000_000]).unwrap();
    let (started, received) = (RefCell::new(0), RefCell::new(0));
    let on_event = |event: Event<'_>| match event {
        Event::Started { have } => *started.borrow_mut() = have,
        Event::Bytes(count) => *received.borrow_mut() += count,
        event => panic!("{event:?}"),
    };
    repository.fetch_blob(&store, &layer(&bytes), &on_event).unwrap();
    assert_eq!((*started.borrow(), *received.borrow()), (5_000_000, 3_000_000));
    assert!(store.contains(&digest).unwrap());
}

/// Passes bytes on to a registry, so many of them; then it cuts the line once, and passes on the rest.
fn cutting(registry: SocketAddr, after: i64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let left = Arc::new(AtomicI64::new(after));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, left) = (client.unwrap(), left.clone());
            let server = TcpStream::connect(registry).unwrap();
            let (mut back, mut forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut back, &mut forth));
            std::thread::spawn(move || pass_on(client, server, &left));
        }
    });
    address
}

fn pass_on(mut client: TcpStream, mut server: TcpStream, left: &AtomicI64) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        let before = left.fetch_sub(count as i64, Ordering::Relaxed);
        if server.write_all(&buffer[..count]).is_err() {
            break;
        }
        if before > 0 && before <= count as i64 {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

#[test]
fn an_upload_survives_a_cut_line() {
    let registry = Registry::plain();
    let bytes = noise(30_000_000, 5);
    for (name, after) in [("a", 100_000), ("b", 3_000_000), ("c", 29_000_000)] {
        let through: Reference = format!("{}/team/{name}", cutting(registry.address, after)).parse().unwrap();
        let client = client();
        let retries = RefCell::new(0);
        let on_event = |event: Event<'_>| {
            if let Event::Retry { .. } = event {
                *retries.borrow_mut() += 1;
            }
        };
        let repository = client.repository(&through);
        let result = repository.upload_blob(&layer(&bytes), &bytes.as_slice(), &[], &on_event).unwrap();
        assert!(matches!(result, Uploaded::Sent { bytes } if bytes >= 30_000_000), "{result:?}");
        assert!(*retries.borrow() > 0, "nothing was cut");
        assert!(repository.has_blob(&Digest::of(&bytes)).unwrap());
    }
}

#[test]
fn an_upload_survives_a_registry_that_is_killed() {
    let mut registry = Registry::plain();
    let dir = TempDir::new().unwrap();
    let bytes = noise(60_000_000, 6);
    fs::write(dir.path().join("blob"), &bytes).unwrap();
    let content = FileContent::new(dir.path().join("blob")).unwrap();
    let patience = Patience { retries: 10, ..patience() };
    let client = Client::new(Settings { patience, ..Settings::default() });
    let reference = registry.reference("team/app");
    let cell = RefCell::new((&mut registry, 0));
    let on_event = |event: Event<'_>| {
        let mut cell = cell.borrow_mut();
        if let Event::Bytes(count) = event {
            let before = cell.1;
            cell.1 += count;
            if before < 20_000_000 && cell.1 >= 20_000_000 {
                cell.0.child.kill().unwrap();
                cell.0.child.wait().unwrap();
                cell.0.child = Registry::serve(cell.0.dir.path());
            }
        }
    };
    let repository = client.repository(&reference);
    repository.upload_blob(&layer(&bytes), &content, &[], &on_event).unwrap();
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    repository.fetch_blob(&store, &layer(&bytes), &|_| {}).unwrap();
}
