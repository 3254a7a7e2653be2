use std::collections::BTreeSet;

use imgforge::Error;
use imgforge::unit::LayerSpec;
use imgforge::workshop::LayerRecord;
use imgforge_oci::Digest;
use serde_json::json;

use super::args::{Global, Plan};
use super::format;
use super::session::{Failure, Session, print, print_json};

/// What becomes of a layer.
struct Fate<'a> {
    spec: &'a LayerSpec,
    record: Option<LayerRecord>,
    /// The size that is known: of the layer itself, or from an earlier build that images.lock tells of.
    size: Option<u64>,
    /// Inputs that are neither in the store nor on this host.
    fetch: ToFetch,
}

/// What would come over the network.
#[derive(Clone, Copy, Default)]
struct ToFetch {
    files: usize,
    /// Bytes of those whose size is known.
    bytes: u64,
    /// Files whose size no lock tells.
    unsized_files: usize,
}

impl ToFetch {
    fn sum(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::default(), |a, b| Self {
            files: a.files + b.files,
            bytes: a.bytes + b.bytes,
            unsized_files: a.unsized_files + b.unsized_files,
        })
    }

    fn text(&self) -> String {
        match self.unsized_files {
            0 => format!("{} files to fetch ({})", self.files, format::bytes(self.bytes)),
            some => format!(
                "{} files to fetch ({}, without the {some} whose size the lock does not tell)",
                self.files,
                format::bytes(self.bytes)
            ),
        }
    }
}

impl Fate<'_> {
    fn word(&self) -> &'static str {
        match (&self.record, self.fetch.files) {
            (Some(_), _) => "reuse",
            (None, 0) => "make",
            (None, _) => "fetch and make",
        }
    }
}

pub(crate) fn run(global: &Global, args: Plan) -> Result<(), Failure> {
    let session = Session::open(global, &args.images.file())?;
    let selected = session.project.select(&args.images.patterns(), args.images.values())?;
    let mut lock = session.project.lock.clone();
    let prepared = session.with_tools(|tools| session.project.prepare(tools, &mut lock))?;
    let planned = prepared.plan(&session.project.config)?;
    let records =
        session.with_tools(|tools| session.project.workshop(tools, &prepared).look_up(&planned.specs))?;
    let fates = planned
        .specs
        .iter()
        .zip(records)
        .map(|(spec, record)| {
            let locked = session.project.lock.layer(&spec.key).map(|layer| layer.size);
            let size = record.as_ref().map(|record| record.size).or(locked);
            let fetch = match record {
                Some(_) => ToFetch::default(),
                None => to_fetch(&session, spec)?,
            };
            Ok(Fate { spec, record, size, fetch })
        })
        .collect::<Result<Vec<_>, Failure>>()?;

    let mut text = String::new();
    let mut images = Vec::new();
    let mut used = BTreeSet::new();
    for (image, layers) in prepared.images.iter().zip(&planned.images) {
        if !selected.contains(&image.name) {
            continue;
        }
        used.extend(layers);
        text.push_str(&format!("{} {}\n", session.project.reference(&image.name), image.platform));
        let fates: Vec<&Fate<'_>> = layers.iter().filter_map(|&layer| fates.get(layer)).collect();
        for fate in &fates {
            let size = fate.size.map_or_else(|| "?".to_owned(), format::bytes);
            text.push_str(&format!("  {:<14} {size:>10}  {}\n", fate.word(), fate.spec.title()));
        }
        images.push(json!({
            "name": image.name,
            "platform": image.platform,
            "layers": fates.iter().map(|fate| layer_json(fate)).collect::<Vec<_>>(),
        }));
    }
    let all: Vec<&Fate<'_>> = used.into_iter().filter_map(|&layer| fates.get(layer)).collect();
    let reused: Vec<_> = all.iter().filter(|fate| fate.record.is_some()).collect();
    let fetch = ToFetch::sum(all.iter().map(|fate| fate.fetch));
    let totals = json!({
        "layers": all.len(),
        "reused": reused.len(),
        "reused_bytes": reused.iter().filter_map(|fate| fate.size).sum::<u64>(),
        "made": all.len() - reused.len(),
        "fetched_files": fetch.files,
        "fetched_bytes": fetch.bytes,
        "fetched_files_of_unknown_size": fetch.unsized_files,
    });
    if global.json {
        return print_json(&json!({"version": 1, "images": images, "totals": totals}));
    }
    text.push_str(&format!(
        "{} layers: {} reused ({}), {} to make; {}\n",
        all.len(),
        reused.len(),
        format::bytes(reused.iter().filter_map(|fate| fate.size).sum()),
        all.len() - reused.len(),
        fetch.text(),
    ));
    print(&text)
}

/// The inputs of a layer that would come over the network.
fn to_fetch(session: &Session, spec: &LayerSpec) -> Result<ToFetch, Failure> {
    let vendor = session.project.folder.join(&session.project.config.settings.vendor);
    let mut fetch = ToFetch::default();
    let mut seen = BTreeSet::new();
    for input in spec.units.iter().flat_map(|unit| unit.inputs()) {
        let digest = Digest::from_hex(&input.sha256).map_err(Error::Digest)?;
        let here = !seen.insert(digest)
            || vendor.join(&input.file).is_file()
            || matches!(&input.place, imgforge::unit::Place::Path(path) if path.is_file())
            || session.store.contains(&digest)?;
        if !here {
            fetch.files += 1;
            fetch.bytes += input.size.unwrap_or(0);
            fetch.unsized_files += usize::from(input.size.is_none());
        }
    }
    Ok(fetch)
}

fn layer_json(fate: &Fate<'_>) -> serde_json::Value {
    json!({
        "title": fate.spec.title(),
        "content": fate.spec.units.iter().map(|unit| unit.title.as_str()).collect::<Vec<_>>(),
        "key": fate.spec.key,
        "fate": fate.word(),
        "size": fate.size,
        "fetch_files": fate.fetch.files,
        "fetch_bytes": fate.fetch.bytes,
        "digest": fate.record.as_ref().map(|record| record.digest),
    })
}
