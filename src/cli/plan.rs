use std::collections::BTreeSet;

use imgforge::against::{Before, Shipment};
use imgforge::artifacts::Resolved;
use imgforge::bases::BaseImage;
use imgforge::forecast::{self, Fate, ToFetch};
use imgforge::images_lock::OutcomeLayer;
use imgforge::project::{Prepared, PreparedImage};
use imgforge::unit::LayerSpec;
use imgforge_oci::Descriptor;
use serde_json::json;

use super::against;
use super::args::{Global, Plan};
use super::format;
use super::session::{Failure, Session, print, print_json};

/// The layers of a base that is an image.
struct Below<'a> {
    base: &'a BaseImage,
    /// Each with whether it is in the store.
    layers: Vec<(Descriptor, bool)>,
}

impl<'a> Below<'a> {
    fn new(base: &'a BaseImage, session: &Session) -> Result<Self, Failure> {
        let mut layers = Vec::new();
        for layer in base.layers() {
            let is_here = session.store.contains(&layer.digest)?;
            layers.push((layer, is_here));
        }
        Ok(Self { base, layers })
    }

    fn text(&self) -> String {
        let size = format::bytes(self.layers.iter().map(|(layer, _)| layer.size).sum());
        let away = self.layers.iter().filter(|(_, is_here)| !is_here).count();
        let note = if away > 0 { format!(", {away} of them not here") } else { String::new() };
        let (count, image) = (self.layers.len(), &self.base.transport);
        format!("  {:<14} {size:>10}  {count} layers of {image}{note}\n", "base")
    }

    fn json(&self) -> serde_json::Value {
        let layer = |(layer, is_here): &(Descriptor, bool)| {
            let Descriptor { digest, size, .. } = layer;
            json!({"digest": digest, "size": size, "stored": is_here})
        };
        json!({
            "name": self.base.base,
            "image": self.base.transport.to_string(),
            "layers": self.layers.iter().map(layer).collect::<Vec<_>>(),
        })
    }
}

pub(crate) fn run(global: &Global, args: Plan) -> Result<(), Failure> {
    let session = Session::open(global, &args.images.file())?.with_cache(args.cache.as_deref())?;
    let selected = session.project.select(&args.images.patterns(), args.images.values())?;
    let earlier = match &args.against {
        Some(against) => imgforge::against::read(against, &session.project.folder)?,
        None => session.project.lock.clone(),
    };
    let before = Before::new(&earlier);
    let mut lock = session.project.lock.clone();
    let prepared = session.with_tools(|tools| session.project.prepare(tools, &mut lock))?;
    let planned = prepared.plan(&session.project.config)?;
    let fates =
        session.observed(|session, observer| forecast::forecast(session, observer, &prepared, &planned))?;

    let mut text = String::new();
    let mut images = Vec::new();
    let mut used = BTreeSet::new();
    let mut comparisons = Vec::new();
    for (image, layers) in prepared.images.iter().zip(&planned.images) {
        if !selected.contains(&image.name) {
            continue;
        }
        used.extend(layers);
        text.push_str(&format!("{} {}\n", session.project.reference(&image.name), image.platform));
        let below = image.base.as_deref().map(|base| Below::new(base, &session)).transpose()?;
        text.extend(below.iter().map(Below::text));
        let fates: Vec<&Fate<'_>> = layers.iter().filter_map(|&layer| fates.get(layer)).collect();
        let comparison = before.planned(&session.project, image, &fates)?;
        if args.against.is_some() {
            text.push_str(&against::text(&comparison));
        }
        for fate in fates.iter().filter(|_| args.against.is_none()) {
            let size = fate.size.map_or_else(|| "?".to_owned(), format::bytes);
            text.push_str(&format!("  {:<14} {size:>10}  {}\n", fate.word(), fate.spec.title()));
        }
        let scripts = scripts(&session, &prepared, image, &fates)?;
        text.extend(scripts.iter().filter(|_| args.against.is_none()).map(Scripted::text));
        images.push(json!({
            "name": image.name,
            "platform": image.platform,
            "base": below.as_ref().map(Below::json),
            "layers": fates.iter().map(|fate| layer_json(fate)).collect::<Vec<_>>(),
            "against": against::json(&comparison),
            "scripts": scripts.iter().map(Scripted::json).collect::<Vec<_>>(),
        }));
        comparisons.push(comparison);
    }
    let shipment = Shipment::of(&comparisons);
    let artifacts: Vec<&Resolved> = prepared.artifacts.iter().collect();
    if !artifacts.is_empty() {
        text.push_str("artifacts\n");
    }
    for artifact in &artifacts {
        let word = match artifact.why {
            _ if artifact.is_in_cache => "take",
            None => "reuse",
            Some(_) => "build",
        };
        let size = artifact.built.as_ref().map_or_else(|| "?".to_owned(), |built| format::bytes(built.size));
        text.push_str(&format!("  {word:<14} {size:>10}  {}\n", artifact.line()));
        if let Some(why) = &artifact.why {
            let why = why.to_string();
            text.extend(why.lines().map(|line| format!("  {:<26}{line}\n", "")));
        }
    }
    let all: Vec<&Fate<'_>> = used.into_iter().filter_map(|&layer| fates.get(layer)).collect();
    let reused: Vec<_> = all.iter().filter(|fate| fate.record.is_some()).collect();
    let taken: Vec<_> = all.iter().filter(|fate| fate.is_taken).collect();
    let bytes = |fates: &[&&Fate<'_>]| fates.iter().filter_map(|fate| fate.size).sum::<u64>();
    let made = all.len() - reused.len() - taken.len();
    // A file that several layers are made from is fetched once.
    let mut seen = BTreeSet::new();
    let made_here = all.iter().filter(|fate| fate.record.is_none() && !fate.is_taken);
    let fetched = made_here.map(|fate| forecast::to_fetch(&session, fate.spec, &mut seen));
    let fetch = ToFetch::sum(fetched.collect::<Result<Vec<_>, _>>()?.into_iter());
    let totals = json!({
        "layers": all.len(),
        "reused": reused.len(),
        "reused_bytes": bytes(&reused),
        "taken": taken.len(),
        "taken_bytes": bytes(&taken),
        "made": made,
        "fetched_files": fetch.files,
        "fetched_bytes": fetch.bytes,
        "fetched_files_of_unknown_size": fetch.unsized_files,
        "ships": against::shipment_json(&shipment),
    });
    if global.json {
        return print_json(&json!({
            "version": 1,
            "images": images,
            "artifacts": artifacts.iter().map(|artifact| artifact_json(artifact)).collect::<Vec<_>>(),
            "totals": totals,
        }));
    }
    let from_cache = match session.cache() {
        Some(_) => format!(" {} in the cache ({}),", taken.len(), format::bytes(bytes(&taken))),
        None => String::new(),
    };
    text.push_str(&format!(
        "{} layers: {} reused ({}),{from_cache} {made} to make; {}\n",
        all.len(),
        reused.len(),
        format::bytes(bytes(&reused)),
        fetch_text(&fetch),
    ));
    text.push_str(&against::total(args.against.as_deref().unwrap_or("images.lock"), &shipment));
    print(&text)
}

/// A layer that packages' own scripts leave.
struct Scripted {
    title: String,
    word: &'static str,
    size: Option<u64>,
}

impl Scripted {
    fn text(&self) -> String {
        let size = self.size.map_or_else(|| "?".to_owned(), format::bytes);
        format!("  {:<14} {size:>10}  {}\n", self.word, self.title)
    }

    fn json(&self) -> serde_json::Value {
        json!({"title": self.title, "fate": self.word, "size": self.size})
    }
}

/// What becomes of packages' own scripts: over the same layers as before, they need not run where their layer is.
fn scripts(
    session: &Session,
    prepared: &Prepared,
    image: &PreparedImage,
    fates: &[&Fate<'_>],
) -> Result<Vec<Scripted>, Failure> {
    let specs: Vec<&LayerSpec> = fates.iter().map(|fate| fate.spec).collect();
    let scripts = session.project.scripts(image, &specs).into_iter();
    let fate = |(title, before): (String, Option<&OutcomeLayer>)| {
        let word = session.with_tools(|tools| {
            let Some(layer) = before else { return Ok("run scripts") };
            if session.project.workshop(tools, prepared).known(&layer.key)?.is_some() {
                return Ok("reuse");
            }
            // What is wrong with the cache was told of other layers.
            let taken = tools.cache.and_then(|cache| cache.size(&layer.key).ok().flatten());
            Ok(if taken.is_some() { "take" } else { "run scripts" })
        })?;
        Ok(Scripted { title, word, size: before.map(|layer| layer.size) })
    };
    scripts.map(fate).collect()
}

/// An artifact: whether it is there, and if not, what is another than when it was built last.
fn artifact_json(artifact: &Resolved) -> serde_json::Value {
    json!({
        "name": artifact.inputs.name,
        "title": artifact.line(),
        "key": artifact.key,
        "built": artifact.why.is_none(),
        "from_cache": artifact.is_in_cache,
        "why": artifact.why,
        "sha256": artifact.built.as_ref().map(|built| &built.sha256),
        "size": artifact.built.as_ref().map(|built| built.size),
    })
}

fn fetch_text(fetch: &ToFetch) -> String {
    match fetch.unsized_files {
        0 => format!("{} files to fetch ({})", fetch.files, format::bytes(fetch.bytes)),
        some => format!(
            "{} files to fetch ({}, without the {some} whose size the lock does not tell)",
            fetch.files,
            format::bytes(fetch.bytes)
        ),
    }
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
