use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

use imgforge::Error;
use imgforge::diff::{self, ConfigChange, Difference, LayerLine, PackageChange, Side, Which};
use imgforge::survey;
use imgforge::transport::{ImageSource, Transport};
use imgforge_oci::{Image, Layer, Medium, Platform, Ref, archive, layout, read};
use imgforge_registry::Client;
use imgforge_store::Store;
use serde_json::{Value, json};

use super::args::{Diff, Global};
use super::format;
use super::progress::Progress;
use super::session::{Failure, print, print_json, registries, store, threads};

/// Layers of so many bytes take so long to read that it is said.
const LARGE: u64 = 64 << 20;

/// The characters of a layer's content that a line has place for.
const CONTENT: usize = 100;

/// One of the two, opened.
struct Opened<'a> {
    name: String,
    source: ImageSource<'a>,
    images: Vec<Image>,
}

pub(crate) fn run(global: &Global, args: Diff) -> Result<(), Failure> {
    threads(global);
    let store = store(global)?;
    let _lease = store.lease()?;
    let client = registries(global, &[])?;
    let progress = Progress::new(global.quiet);
    let open = |text: &str| open(text, &args.output, args.platform.as_ref(), &client, global.offline);
    let (a, b) = (open(&args.a)?, open(&args.b)?);
    let pairs = pairs(&a, &b)?;
    let mut differences = Vec::new();
    for (image_a, image_b) in pairs {
        let found = compare(&store, &progress, (&a.source, image_a), (&b.source, image_b));
        progress.clear();
        differences.push(found?);
    }
    let only = |one: &Opened<'_>, other: &Opened<'_>| {
        let is_alone =
            |image: &&Image| !other.images.iter().any(|it| it.platform().matches(image.platform()));
        let alone = one.images.iter().filter(is_alone).map(|image| image.platform().to_string());
        if one.images.len() > 1 || other.images.len() > 1 { alone.collect() } else { Vec::new() }
    };
    let (only_a, only_b): (Vec<String>, Vec<String>) = (only(&a, &b), only(&b, &a));
    if global.json {
        return print_json(&json!({
            "version": 1,
            "a": a.name,
            "b": b.name,
            "images": differences,
            "platforms_only_in_a": only_a,
            "platforms_only_in_b": only_b,
        }));
    }
    let mut page: Vec<String> = differences.iter().map(|found| text(&a.name, &b.name, found)).collect();
    for (side, platforms) in [("a", only_a), ("b", only_b)] {
        if !platforms.is_empty() {
            page.push(format!("only {side} is there for {}\n", platforms.join(", ")));
        }
    }
    print(&page.join("\n"))
}

/// Opens what a user means: a place, the name of an image in the output, or a path.
fn open<'a>(
    text: &str,
    output: &Path,
    platform: Option<&Platform>,
    client: &'a Client,
    offline: bool,
) -> Result<Opened<'a>, Failure> {
    let transport = match Transport::is_named_in(text) {
        true => text.parse().map_err(Error::Transport)?,
        false => in_output(text, output)?,
    };
    let source = ImageSource::open(&transport, client, offline).map_err(Error::Transport)?;
    let descriptor = source.resolve().map_err(Error::Transport)?;
    let images = match platform {
        Some(_) => vec![read::image_for(&source, &descriptor, platform)?],
        None => source.images(&descriptor).map_err(Error::Transport)?,
    };
    Ok(Opened { name: transport.to_string(), source, images })
}

/// The image of this name in the layout or archive that `build` writes to, as `inspect` knows it; else a path.
fn in_output(text: &str, output: &Path) -> Result<Transport, Failure> {
    let path = Path::new(text);
    let mut known = Vec::new();
    match medium(output) {
        Ok(None) => {}
        // Somebody else's `dist`.
        Err(_) if path.exists() => {}
        Err(error) => return Err(error),
        Ok(Some((medium, place))) => {
            known = read::refs(&medium)?;
            let mut meant: Vec<&Ref> = known.iter().filter(|reference| reference.name() == text).collect();
            if meant.is_empty() {
                let is_image = |name: &str| name.rsplit_once(':').is_some_and(|(image, _)| image == text);
                meant = known.iter().filter(|reference| is_image(reference.name())).collect();
            }
            match meant.as_slice() {
                [] => {}
                [one] => return Ok(place(Some(one.name().to_owned()))),
                [first, second, ..] => {
                    let (first, second) = (first.name(), second.name());
                    let output = output.display();
                    return Err(Failure::Check(format!("`{text}` may be {first} or {second} of {output}")));
                }
            }
        }
    }
    if let Some((_, place)) = medium(path)? {
        return Ok(place(None));
    }
    Err(Failure::NoImage {
        text: text.to_owned(),
        output: output.to_owned(),
        known: known.iter().map(|reference| reference.name().to_owned()).collect(),
    })
}

/// Makes a place of a name in it.
type Place = Box<dyn Fn(Option<String>) -> Transport>;

/// What a path holds, if it is there.
fn medium(path: &Path) -> Result<Option<(Medium, Place)>, Failure> {
    let owned = path.to_owned();
    if path.is_dir() {
        let place: Place = Box::new(move |name| Transport::Layout { path: owned.clone(), name });
        return Ok(Some((layout::open(path)?, place)));
    }
    if !path.exists() {
        return Ok(None);
    }
    match archive::open(path) {
        Err(imgforge_oci::Error::NotAnImage { .. }) => {
            let place: Place = Box::new(move |name| Transport::DockerArchive { path: owned.clone(), name });
            Ok(Some((imgforge_oci::docker_archive::open(path)?, place)))
        }
        medium => {
            let place: Place = Box::new(move |name| Transport::Archive { path: owned.clone(), name });
            Ok(Some((medium?, place)))
        }
    }
}

/// The images to be compared with each other: those for one platform, or the only ones.
fn pairs<'a>(a: &'a Opened<'_>, b: &'a Opened<'_>) -> Result<Vec<(&'a Image, &'a Image)>, Failure> {
    if let ([a], [b]) = (a.images.as_slice(), b.images.as_slice()) {
        return Ok(vec![(a, b)]);
    }
    let of_b = |image: &Image| b.images.iter().find(|it| it.platform().matches(image.platform()));
    let pairs: Vec<_> = a.images.iter().filter_map(|image| Some((image, of_b(image)?))).collect();
    if pairs.is_empty() {
        let platforms = |images: &[Image]| {
            images.iter().map(|image| image.platform().to_string()).collect::<Vec<_>>().join(", ")
        };
        let (of_a, of_b) = (platforms(&a.images), platforms(&b.images));
        return Err(Failure::Check(format!(
            "{} and {} have no platform in common: one is for {of_a}, the other for {of_b}",
            a.name, b.name
        )));
    }
    Ok(pairs)
}

fn compare(
    store: &Store,
    progress: &Progress,
    a: (&ImageSource<'_>, &Image),
    b: (&ImageSource<'_>, &Image),
) -> Result<Difference, Error> {
    let survey = |which: Which, layer: &Layer| {
        let (source, _) = if which == Which::A { a } else { b };
        // What the image's maker says is believed here: it only tells people what changes.
        if let Some(claimed) = survey::claimed(layer) {
            return Ok(claimed);
        }
        survey::of_layer(layer, store, &|layer| open_layer(store, progress, source, layer))
    };
    let (survey_a, survey_b) = diff::surveys(a.1, b.1, &survey)?;
    Ok(diff::difference((a.1, &survey_a), (b.1, &survey_b)))
}

fn open_layer(
    store: &Store,
    progress: &Progress,
    source: &ImageSource<'_>,
    layer: &Layer,
) -> Result<Box<dyn Read + Send>, Error> {
    let title = format!("layer {}", layer.digest.hex().chars().take(12).collect::<String>());
    let content = source.open_layer(store, layer, &|event| progress.transfer(&title, layer.size, &event))?;
    progress.finish(&title);
    if layer.size >= LARGE {
        progress.line(&format!("reading {title} ({})", format::bytes(layer.size)));
    }
    Ok(content)
}

fn text(a: &str, b: &str, difference: &Difference) -> String {
    let mut text = String::new();
    side(&mut text, "a", a, &difference.a);
    side(&mut text, "b", b, &difference.b);
    if difference.is_none() {
        text.push_str("they are the same image\n");
        return text;
    }
    layers(&mut text, difference);
    packages(&mut text, &difference.packages);
    if !difference.runtimes.is_empty() {
        text.push_str("runtimes:\n");
    }
    for runtime in &difference.runtimes {
        change(&mut text, 2, &runtime.name, runtime.from.as_deref(), runtime.to.as_deref());
    }
    match difference.config.as_slice() {
        [] => text.push_str("configuration: the same\n"),
        _ => text.push_str("configuration:\n"),
    }
    for ConfigChange { setting, name, from, to } in &difference.config {
        let title = name.as_ref().map_or_else(|| (*setting).to_owned(), |name| format!("{setting} {name}"));
        change(&mut text, 2, &title, from.as_ref().map(value).as_deref(), to.as_ref().map(value).as_deref());
    }
    let ship = difference.ship;
    line(
        &mut text,
        &format!(
            "to ship: {} in {} to a host that has a",
            format::bytes(ship.bytes),
            counted(ship.blobs, "blob")
        ),
    );
    text
}

/// `1 layer`, `2 layers`.
fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn side(text: &mut String, letter: &str, name: &str, side: &Side) {
    let Side { manifest, platform, size, layers } = side;
    let size = format::bytes(*size);
    line(text, &format!("{letter}: {name} {platform} {manifest}, {size} in {}", counted(*layers, "layer")));
}

fn layers(text: &mut String, difference: &Difference) {
    let Difference { base, layers, .. } = difference;
    let size = |lines: &[LayerLine]| format::bytes(lines.iter().map(|line| line.size).sum());
    line(
        text,
        &format!(
            "base: {} in common ({})",
            counted(base.common_layers, "layer"),
            format::bytes(base.common_bytes)
        ),
    );
    let name = |base: &Option<diff::BaseName>| {
        let base = base.as_ref()?;
        let parts = [base.name.as_deref(), base.digest.as_deref()];
        Some(parts.into_iter().flatten().collect::<Vec<_>>().join("@"))
    };
    let (from, to) = (name(&base.a), name(&base.b));
    if from != to {
        change(text, 2, "said to be", from.as_deref(), to.as_deref());
    } else if let Some(name) = from {
        line(text, &format!("  said to be {name}"));
    }
    line(
        text,
        &format!(
            "layers: {} in both ({}), {} only in a ({}), {} only in b ({})",
            layers.common.len(),
            size(&layers.common),
            layers.only_a.len(),
            size(&layers.only_a),
            layers.only_b.len(),
            size(&layers.only_b)
        ),
    );
    let marked = [('-', &layers.only_a), ('+', &layers.only_b)];
    for (mark, layer) in marked.into_iter().flat_map(|(mark, layers)| layers.iter().map(move |it| (mark, it)))
    {
        let digest: String = layer.digest.hex().chars().take(12).collect();
        let mut content: String = layer.content.chars().take(CONTENT).collect();
        if content.len() < layer.content.len() {
            content.push('…');
        }
        let note = if layer.recompressed { "(recompressed) " } else { "" };
        line(text, &format!("  {mark} {digest} {:>10}  {note}{content}", format::bytes(layer.size)));
    }
}

fn packages(text: &mut String, packages: &[PackageChange]) {
    if packages.is_empty() {
        text.push_str("packages: the same\n");
        return;
    }
    let count = |is_such: fn(&PackageChange) -> bool| packages.iter().filter(|it| is_such(it)).count();
    let (added, removed) = (count(|it| it.from.is_none()), count(|it| it.to.is_none()));
    let changed = packages.len() - added - removed;
    line(text, &format!("packages: {added} added, {removed} removed, {changed} changed"));
    let mut place = None;
    for PackageChange { kind, prefix, name, from, to } in packages {
        if place != Some((kind, prefix)) {
            place = Some((kind, prefix));
            line(text, &format!("  {kind} {prefix}"));
        }
        change(text, 4, name, from.as_deref(), to.as_deref());
    }
}

/// `+ NAME NEW`, `- NAME OLD` or `~ NAME OLD → NEW`.
fn change(text: &mut String, indent: usize, name: &str, from: Option<&str>, to: Option<&str>) {
    let (mark, values) = match (from, to) {
        (None, Some(to)) => ('+', to.to_owned()),
        (Some(from), None) => ('-', from.to_owned()),
        (from, to) => ('~', format!("{} → {}", from.unwrap_or_default(), to.unwrap_or_default())),
    };
    line(text, format!("{:indent$}{mark} {name} {values}", "").trim_end());
}

fn value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => String::new(),
        other => other.to_string(),
    }
}

/// Adds a line. Images are other people's: what would move a terminal's cursor is shown, not done.
fn line(text: &mut String, line: &str) {
    for c in line.chars() {
        match c.is_control() {
            // Writing to a string can't fail.
            true => drop(write!(text, "{}", c.escape_default())),
            false => text.push(c),
        }
    }
    text.push('\n');
}
