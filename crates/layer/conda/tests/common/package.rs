//! Conda packages written for a test: right in everything that the test does not change.

use std::io::{Cursor, Write};

use imgforge_oci::Digest;
use serde_json::{Value, json};
use tar::{EntryType, Header};
use zip::CompressionMethod::Stored;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// As long as conda-build's.
pub const PLACEHOLDER: &str = "/home/conda/feedstock_root/build_artifacts/demo_1700000000000/_h_env_placehold_placehold_\
                               placehold_placehold_placehold_placehold_placehold_placehold_placehold_placehold_placehold";

/// A package in the making.
#[derive(Clone)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub build: String,
    /// `info/index.json`.
    pub index: Value,
    /// The entries of `info/paths.json`.
    pub paths: Vec<Value>,
    /// The entries of the tar, `info/` aside.
    pub members: Vec<Member>,
    /// Further files below `info/`; those of the same name as one that is made replace it.
    pub info: Vec<(String, Vec<u8>)>,
}

/// An entry of a tar, which may be as wrong as one likes.
#[derive(Clone)]
pub struct Member {
    pub name: Vec<u8>,
    pub kind: EntryType,
    pub link: Vec<u8>,
    pub mode: u32,
    pub content: Vec<u8>,
}

impl Package {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: "1.0".to_owned(),
            build: "h0_0".to_owned(),
            index: json!({
                "name": name, "version": "1.0", "build": "h0_0", "build_number": 0, "depends": [],
                "subdir": "linux-64", "arch": "x86_64", "platform": "linux", "timestamp": 1_700_000_000_000_u64,
            }),
            paths: Vec::new(),
            members: Vec::new(),
            info: Vec::new(),
        }
    }

    pub fn depends(mut self, on: &[&str]) -> Self {
        self.index["depends"] = json!(on);
        self
    }

    pub fn noarch_python(mut self, entry_points: &[&str]) -> Self {
        self.index["noarch"] = json!("python");
        self.index["subdir"] = json!("noarch");
        let link = json!({"noarch": {"type": "python", "entry_points": entry_points}, "package_metadata_version": 1});
        self.with_info("info/link.json", link.to_string())
    }

    pub fn noarch_generic(mut self) -> Self {
        self.index["noarch"] = json!("generic");
        self.index["subdir"] = json!("noarch");
        self
    }

    pub fn with_info(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.info.push((name.to_owned(), content.into()));
        self
    }

    /// A file that is listed, with its hash and size.
    pub fn file(self, path: &str, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.listed(path, content.into(), mode, &json!({}))
    }

    /// A text with the placeholder.
    pub fn text(self, path: &str, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        let fields = json!({"file_mode": "text", "prefix_placeholder": PLACEHOLDER});
        self.listed(path, content.into(), mode, &fields)
    }

    /// A binary with the placeholder.
    pub fn binary(self, path: &str, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        let fields = json!({"file_mode": "binary", "prefix_placeholder": PLACEHOLDER});
        self.listed(path, content.into(), mode, &fields)
    }

    pub fn listed(mut self, path: &str, content: Vec<u8>, mode: u32, fields: &Value) -> Self {
        let digest = Digest::of(&content).hex();
        let mut entry =
            json!({"_path": path, "path_type": "hardlink", "sha256": digest, "size_in_bytes": content.len()});
        merge(&mut entry, fields);
        self.paths.push(entry);
        self.member(path, EntryType::Regular, "", mode, content)
    }

    pub fn link(self, path: &str, target: &str) -> Self {
        self.listed_link(path, target, &json!({}))
    }

    pub fn listed_link(mut self, path: &str, target: &str, fields: &Value) -> Self {
        let mut entry = json!({"_path": path, "path_type": "softlink"});
        merge(&mut entry, fields);
        self.paths.push(entry);
        self.member(path, EntryType::Symlink, target, 0o777, Vec::new())
    }

    /// Another name of a file that is there.
    pub fn hard_link(mut self, path: &str, target: &str, fields: &Value) -> Self {
        let is_target = |entry: &&Value| entry["_path"] == target;
        let mut entry = self.paths.iter().find(is_target).unwrap().clone();
        entry["_path"] = json!(path);
        merge(&mut entry, fields);
        self.paths.push(entry);
        self.member(path, EntryType::Link, target, 0o644, Vec::new())
    }

    pub fn folder(mut self, path: &str) -> Self {
        self.paths.push(json!({"_path": path, "path_type": "directory"}));
        self.member(path, EntryType::Directory, "", 0o755, Vec::new())
    }

    /// An entry of the tar that is not listed.
    pub fn member(
        mut self,
        name: impl AsRef<[u8]>,
        kind: EntryType,
        link: impl AsRef<[u8]>,
        mode: u32,
        content: impl Into<Vec<u8>>,
    ) -> Self {
        let (name, link) = (name.as_ref().to_vec(), link.as_ref().to_vec());
        self.members.push(Member { name, kind, link, mode, content: content.into() });
        self
    }

    /// Changes what paths.json says about the last path.
    pub fn claim(mut self, fields: Value) -> Self {
        merge(self.paths.last_mut().unwrap(), &fields);
        self
    }

    pub fn stem(&self) -> String {
        format!("{}-{}-{}", self.name, self.version, self.build)
    }

    fn info_files(&self) -> Vec<(String, Vec<u8>)> {
        let paths = json!({"paths": self.paths, "paths_version": 1});
        let mut files = vec![
            ("info/index.json".to_owned(), self.index.to_string().into_bytes()),
            ("info/about.json".to_owned(), b"{}".to_vec()),
            ("info/paths.json".to_owned(), paths.to_string().into_bytes()),
        ];
        files.retain(|(name, _)| !self.info.iter().any(|(other, _)| other == name));
        files.extend(self.info.iter().filter(|(_, content)| content != REMOVED).cloned());
        files
    }

    pub fn info_members(&self) -> Vec<Member> {
        let member = |(name, content): (String, Vec<u8>)| Member {
            name: name.into_bytes(),
            kind: EntryType::Regular,
            link: Vec::new(),
            mode: 0o644,
            content,
        };
        self.info_files().into_iter().map(member).collect()
    }

    /// File name and bytes of the package as a `.tar.bz2`.
    pub fn tar_bz2(&self) -> (String, Vec<u8>) {
        let members: Vec<_> = self.info_members().into_iter().chain(self.members.clone()).collect();
        (format!("{}.tar.bz2", self.stem()), bz2(&tar(&members)))
    }

    /// File name and bytes of the package as a `.conda`.
    pub fn conda(&self) -> (String, Vec<u8>) {
        let stem = self.stem();
        let bytes = conda(&[
            ("metadata.json", br#"{"conda_pkg_format_version": 2}"#.to_vec()),
            (&format!("pkg-{stem}.tar.zst"), zst(&tar(&self.members))),
            (&format!("info-{stem}.tar.zst"), zst(&tar(&self.info_members()))),
        ]);
        (format!("{stem}.conda"), bytes)
    }
}

/// Content that leaves a file of `info/` away.
pub const REMOVED: &[u8] = b"\0removed";

fn merge(entry: &mut Value, fields: &Value) {
    for (key, value) in fields.as_object().unwrap() {
        match value {
            Value::Null => drop(entry.as_object_mut().unwrap().remove(key)),
            value => entry[key] = value.clone(),
        }
    }
}

pub fn conda(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(Stored)).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

pub fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub fn bz2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::new(1));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn tar(members: &[Member]) -> Vec<u8> {
    let mut out = Vec::new();
    for Member { name, kind, link, mode, content } in members {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_mtime(1_600_000_000);
        header.set_size(content.len() as u64);
        // By hand, because a test wants names that no writer of tars takes.
        let fields = [(EntryType::GNULongName, name, 0..100), (EntryType::GNULongLink, link, 157..257)];
        for (long, text, range) in fields {
            if text.len() > 100 {
                let mut header = Header::new_gnu();
                header.as_mut_bytes()[..13].copy_from_slice(b"././@LongLink");
                header.set_entry_type(long);
                header.set_mode(0o644);
                header.set_size(text.len() as u64 + 1);
                header.set_cksum();
                out.extend_from_slice(header.as_bytes());
                padded(&mut out, &[text.as_slice(), b"\0"].concat());
            }
            let cut = &text[..text.len().min(100)];
            header.as_mut_bytes()[range][..cut.len()].copy_from_slice(cut);
        }
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        padded(&mut out, content);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(512), 0);
}
