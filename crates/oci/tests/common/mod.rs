//! A store made for one test, and small images in it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use imgforge_oci::{
    Blob, Compression, Descriptor, DiffId, Digest, Image, ImageConfig, Index, Kind, Layer, Ref, kind,
};
use serde_json::{Value, json};

/// Blobs by digest in a temporary folder; `dist` and archives may lie beside them.
pub struct Store {
    pub dir: tempfile::TempDir,
}

#[allow(dead_code, reason = "each test binary uses its part of this")]
impl Store {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("store")).unwrap();
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn path_of(&self, digest: &Digest) -> PathBuf {
        self.path("store").join(digest.hex())
    }

    pub fn put(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        std::fs::write(self.path_of(&digest), bytes).unwrap();
        digest
    }

    pub fn put_blob(&self, blob: &Blob) {
        self.put(blob.bytes());
    }

    /// A layer of these files, stored in this way, in as many members or frames as there are files and one.
    pub fn layer(&self, compression: Compression, files: &[(&str, &str)]) -> Layer {
        let (tar, cuts) = tar_of(files);
        self.layer_of(compression, &tar, &cuts)
    }

    /// A layer of any bytes, compressed in pieces that end at `cuts`.
    pub fn layer_of(&self, compression: Compression, tar: &[u8], cuts: &[usize]) -> Layer {
        let mut stored = Vec::new();
        let mut start = 0;
        for end in cuts.iter().copied().chain([tar.len()]) {
            stored.extend(compress(compression, &tar[start..end]));
            start = end;
        }
        Layer {
            digest: self.put(&stored),
            diff_id: DiffId(Digest::of(tar)),
            size: stored.len() as u64,
            media_type: compression.media_type(),
            history: format!("{} bytes of tar", tar.len()),
            annotations: BTreeMap::new(),
        }
    }

    /// An image with every property that a config can have.
    pub fn image(&self, platform: &str, layers: &[Layer]) -> Image {
        let image = Image::assemble(&config(platform), layers, &[("k".into(), "v".into())].into()).unwrap();
        self.put_blob(image.manifest());
        self.put_blob(image.config());
        image
    }

    /// An image as Docker's tools leave it in a registry: its media types, and whatever its configs hold.
    pub fn docker_image(&self, mut config: Value, layers: &[Layer]) -> Image {
        let docker = |layer: &Layer| match kind(&layer.media_type) {
            Kind::Layer(Compression::None) => "application/vnd.docker.image.rootfs.diff.tar".to_owned(),
            Kind::Layer(Compression::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip".to_owned(),
            _ => layer.media_type.to_string(),
        };
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
        config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        let config = Blob::new(
            "application/vnd.docker.container.image.v1+json".into(),
            serde_json::to_vec_pretty(&config).unwrap(),
        );
        let entry = |media_type: String, digest, size| json!({"mediaType": media_type, "digest": digest, "size": size});
        let described = config.descriptor();
        let manifest_type = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": entry(described.media_type.to_string(), described.digest, described.size),
            "layers": layers.iter().map(|it| entry(docker(it), it.digest, it.size)).collect::<Vec<_>>(),
        });
        let manifest = Blob::new(manifest_type.into(), manifest.to_string().into_bytes());
        self.put_blob(&manifest);
        self.put_blob(&config);
        Image::from_blobs(manifest, config).unwrap()
    }

    /// A small image for one platform.
    pub fn small(&self, platform: &str, text: &str) -> Image {
        let layers = [
            self.layer(
                Compression::Gzip,
                &[("srv/", ""), ("srv/hello", "hello\n"), ("srv/world", "world\n")],
            ),
            self.layer(Compression::Gzip, &[("srv/text", text)]),
        ];
        self.image(platform, &layers)
    }

    pub fn index(&self, images: &[Image]) -> Index {
        let index = Index::assemble(images, &BTreeMap::new()).unwrap();
        self.put_blob(index.blob());
        index
    }

    pub fn write(&self, refs: &[Ref]) -> imgforge_oci::layout::Written {
        imgforge_oci::layout::write(&self.path("dist"), refs, &|digest| self.path_of(digest)).unwrap()
    }

    pub fn write_archive(&self, refs: &[Ref]) -> PathBuf {
        let mut bytes = Vec::new();
        imgforge_oci::archive::write(&mut bytes, refs, &|digest| self.path_of(digest)).unwrap();
        let path = self.path("images.tar");
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

#[allow(dead_code, reason = "each test binary uses its part of this")]
pub fn config(platform: &str) -> ImageConfig {
    ImageConfig {
        env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("A".into(), "1".into())],
        entrypoint: Some(vec!["/srv/hello".into()]),
        cmd: Some(vec!["world".into()]),
        user: Some("65532:65532".into()),
        workdir: Some("/srv".into()),
        labels: [("org.opencontainers.image.title".into(), "hello".into())].into(),
        exposed_ports: ["8080".into(), "53/udp".into()].into(),
        volumes: ["/data".into()].into(),
        stop_signal: Some("SIGINT".into()),
        ..ImageConfig::new(platform.parse().unwrap())
    }
}

#[allow(dead_code, reason = "each test binary uses its part of this")]
pub fn reference(name: &str, descriptor: Descriptor) -> Ref {
    Ref::new(name, descriptor).unwrap()
}

/// A tar of files (folders end with a slash), and the places between its entries.
#[allow(dead_code, reason = "each test binary uses its part of this")]
pub fn tar_of(files: &[(&str, &str)]) -> (Vec<u8>, Vec<usize>) {
    let mut builder = tar::Builder::new(Vec::new());
    let mut cuts = Vec::new();
    for (path, text) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o755);
        header.set_size(text.len() as u64);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        if path.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        builder.append_data(&mut header, path, text.as_bytes()).unwrap();
        cuts.push(builder.get_ref().len());
    }
    (builder.into_inner().unwrap(), cuts)
}

#[allow(dead_code, reason = "each test binary uses its part of this")]
pub fn compress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(bytes, 3).unwrap(),
    }
}

/// Every file below `dir` with its content, sorted.
#[allow(dead_code, reason = "each test binary uses its part of this")]
pub fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_owned();
                files.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    files
}
