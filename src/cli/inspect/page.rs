//! One page of HTML that shows a family of images: what each is made of, by area, and what they share.
//!
//! It has everything in itself: no script, style, font or picture comes from elsewhere, and its policy forbids it to. The
//! pictures are drawn here, so that they are there without scripts, too; the script adds looking around by keyboard, looking
//! for a package, sorting, and the choice of light or dark. The same images give the same bytes.
//!
//! Names of packages and images are other people's text. All of it goes through [`escape`], and none of it into the script.

use std::collections::BTreeSet;

use data_encoding::BASE64;
use imgforge_oci::{DiffId, Digest};

use super::treemap::{Area, squarify};
use crate::cli::format;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The family that is shown.
pub(super) struct Page {
    /// Where the images are.
    pub(super) place: String,
    pub(super) images: Vec<PageImage>,
    /// Each layer once.
    pub(super) layers: Vec<PageLayer>,
    /// Images at the place, those that are not shown included.
    pub(super) family: usize,
}

/// An image for one platform.
pub(super) struct PageImage {
    pub(super) name: String,
    pub(super) digest: Digest,
    /// From the bottom, as indices into the page's layers.
    pub(super) layers: Vec<usize>,
}

/// A layer of one image or several.
pub(super) struct PageLayer {
    pub(super) digest: Digest,
    pub(super) diff_id: DiffId,
    /// Bytes, compressed.
    pub(super) size: u64,
    /// What is in it: titles of packages with their shares of the layer's bytes, or one entry where they are not known.
    pub(super) content: Vec<(String, u64)>,
    /// Images at the place that have it.
    pub(super) users: usize,
}

/// What is smaller than this share of an image can't be seen, and is drawn together.
const LEAST: f64 = 0.000_2;

/// So many images are drawn in all detail. Of more, what is small is drawn together in each, or a browser would have too much
/// of it.
const DETAILED: usize = 50;

/// The size of a picture, in its own units.
const WHOLE: Area = Area { x: 0.0, y: 0.0, width: 1000.0, height: 560.0 };

/// A matrix of more images than this can't be read.
const MATRIX: usize = 48;

impl Page {
    /// The page's text.
    pub(super) fn html(&self) -> String {
        let title = format!("Images of {}", self.place);
        // Only this style and this script apply, whatever else should get into the page.
        let policy = format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
            source_hash(STYLE),
            source_hash(SCRIPT)
        );
        let mut html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
            title = escape(&title),
        );
        self.header(&mut html, &title);
        html.push_str("<main>\n");
        if self.images.len() > 1 {
            self.matrix(&mut html);
        }
        self.maps(&mut html);
        self.table(&mut html);
        html.push_str(&format!("</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"));
        html
    }

    fn size(&self, layers: impl IntoIterator<Item = usize>) -> u64 {
        layers.into_iter().filter_map(|layer| self.layers.get(layer)).map(|layer| layer.size).sum()
    }

    fn header(&self, html: &mut String, title: &str) {
        let stored = self.size(0..self.layers.len());
        let apart: u64 = self.images.iter().map(|image| self.size(image.layers.iter().copied())).sum();
        let facts = [
            (count(self.images.len(), "image"), "one for each platform".to_owned()),
            (count(self.layers.len(), "layer"), "each counted once".to_owned()),
            (format::bytes(stored), "stored and sent, each layer once".to_owned()),
            (format::bytes(apart), "if each image had its layers for itself".to_owned()),
        ];
        html.push_str(&format!("<header>\n<h1>{}</h1>\n<ul class=\"facts\">\n", escape(title)));
        for (figure, meaning) in facts {
            html.push_str(&format!("<li><strong>{figure}</strong> {meaning}</li>\n"));
        }
        html.push_str(
            "</ul>\n<div class=\"tools\">\n\
             <label>Find a package <input type=\"search\" id=\"find\" autocomplete=\"off\"></label>\n\
             <output id=\"found\"></output>\n\
             <button type=\"button\" id=\"theme\">Light or dark</button>\n</div>\n</header>\n",
        );
    }

    fn matrix(&self, html: &mut String) {
        html.push_str("<section>\n<h2>What is shared</h2>\n");
        let shown = self.images.get(..MATRIX).unwrap_or(&self.images);
        if shown.len() < self.images.len() {
            html.push_str(&format!("<p>The first {MATRIX} of {} images.</p>\n", self.images.len()));
        }
        html.push_str(
            "<div class=\"scroll\"><table class=\"matrix\">\n<caption>Bytes of the image of a row that the image of a \
             column has, too; the stronger the colour, the larger a part of the row’s image.</caption>\n\
             <thead><tr><th scope=\"col\">Image</th>",
        );
        for (number, image) in shown.iter().enumerate() {
            let name = escape(&image.name);
            html.push_str(&format!("<th scope=\"col\" title=\"{name}\">{}</th>", number + 1));
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for (number, row) in shown.iter().enumerate() {
            let name = escape(&row.name);
            html.push_str(&format!(
                "<tr><th scope=\"row\"><a href=\"#image-{at}\">{at} {name}</a></th>",
                at = number + 1
            ));
            let own: BTreeSet<usize> = row.layers.iter().copied().collect();
            let size = self.size(own.iter().copied());
            for (column, other) in shown.iter().enumerate() {
                let theirs: BTreeSet<usize> = other.layers.iter().copied().collect();
                let both: Vec<usize> = own.intersection(&theirs).copied().collect();
                let layers = count(both.len(), "layer");
                let shared = self.size(both);
                let percent = percent(shared, size);
                let (class, title) = match column == number {
                    true => ("self".to_owned(), format!("all of {}", row.name)),
                    false => (
                        format!("heat{}", percent.div_ceil(10)),
                        format!("{percent} % of {}, in {layers}, are in {}", row.name, other.name),
                    ),
                };
                let title = escape(&title);
                html.push_str(&format!(
                    "<td class=\"{class}\" title=\"{title}\">{}</td>",
                    format::bytes(shared)
                ));
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody></table></div>\n</section>\n");
    }

    fn maps(&self, html: &mut String) {
        html.push_str(
            "<section>\n<h2>What they are made of</h2>\n\
             <p>An area is as large as its bytes are many, compressed. Thick lines are around layers, thin ones around \
             packages; a package’s share of its layer is that of its files before compression.</p>\n\
             <ul class=\"legend\"><li class=\"all\">in all images</li><li class=\"most\">in half of them and more</li>\
             <li class=\"some\">in some</li><li class=\"one\">in this one only</li></ul>\n<div class=\"maps\">\n",
        );
        for (number, image) in self.images.iter().enumerate() {
            self.map(html, number, image);
        }
        html.push_str("</div>\n</section>\n");
    }

    fn map(&self, html: &mut String, number: usize, image: &PageImage) {
        let size = self.size(image.layers.iter().copied());
        let name = escape(&image.name);
        html.push_str(&format!(
            "<figure id=\"image-{at}\">\n<figcaption><h3>{name}</h3> <span>{size} in {layers}</span> \
             <code>{digest}</code></figcaption>\n\
             <svg viewBox=\"0 0 1000 560\" role=\"group\" tabindex=\"0\" \
             aria-label=\"{name}: {size} in {layers}; arrow keys go through the packages\">\n",
            at = number + 1,
            layers = count(image.layers.len(), "layer"),
            size = format::bytes(size),
            digest = image.digest,
        ));
        for (area, cells) in self.cells(image) {
            let class = cells.first().map_or("rest", |cell| cell.class);
            html.push_str(&format!("<g class=\"{class}\">\n"));
            for cell in &cells {
                cell.draw(html);
            }
            html.push_str(&format!("<rect class=\"layer\" {}/>\n</g>\n", attributes(area)));
        }
        html.push_str("</svg>\n<output aria-live=\"polite\"></output>\n</figure>\n");
    }

    /// The layers of an image with their areas, and the cells that each is divided into.
    fn cells<'p>(&'p self, image: &PageImage) -> Vec<(Area, Vec<Cell<'p>>)> {
        let layers: Vec<(usize, &PageLayer)> =
            image.layers.iter().filter_map(|&layer| Some((layer, self.layers.get(layer)?))).collect();
        let total: u64 = layers.iter().map(|(_, layer)| layer.size).sum();
        let detail = self.images.len().div_ceil(DETAILED).max(1);
        let least = (total as f64 * LEAST * detail as f64) as u64;
        let (mut seen, mut unseen): (Vec<_>, Vec<_>) =
            layers.into_iter().enumerate().partition(|(_, (_, layer))| layer.size > least);
        if unseen.len() == 1 {
            seen.append(&mut unseen);
        }
        seen.sort_by_key(|(place, (_, layer))| (std::cmp::Reverse(layer.size), *place));
        let rest: u64 = unseen.iter().map(|(_, (_, layer))| layer.size).sum();
        let mut sizes: Vec<u64> = seen.iter().map(|(_, (_, layer))| layer.size).collect();
        sizes.push(rest);
        let mut areas = squarify(&sizes, WHOLE).into_iter();
        let mut found: Vec<(Area, Vec<Cell<'p>>)> = Vec::new();
        for ((place, (index, layer)), area) in seen.into_iter().zip(areas.by_ref()) {
            let class = match layer.users {
                users if users == self.family && users > 1 => "all",
                0 | 1 => "one",
                users if users * 2 >= self.family => "most",
                _ => "some",
            };
            let about = format!(
                "layer {} of {}, {}, in {}",
                place + 1,
                image.layers.len(),
                short(&layer.digest),
                count(layer.users, "image")
            );
            found.push((area, layer.cells(area, least, class, index, &about)));
        }
        if let Some(area) = areas.next().filter(|_| rest > 0) {
            let label = count(unseen.len(), "smaller layer");
            let names =
                unseen.iter().flat_map(|(_, (_, layer))| &layer.content).map(|(name, _)| name.as_str());
            let text = format!("{label}: {}\n{}", listed(names), format::bytes(rest));
            found.push((
                area,
                vec![Cell { area, class: "rest", layer: None, label, text, size: rest, name: "" }],
            ));
        }
        found
    }

    fn table(&self, html: &mut String) {
        html.push_str(
            "<section>\n<h2>Layers</h2>\n<div class=\"scroll\"><table id=\"layers\">\n<thead><tr>\
             <th scope=\"col\"><button type=\"button\">Size</button></th>\
             <th scope=\"col\"><button type=\"button\">Images</button></th>\
             <th scope=\"col\"><button type=\"button\">Content</button></th>\
             <th scope=\"col\">Digest, and diff ID</th></tr></thead>\n<tbody>\n",
        );
        let mut layers: Vec<&PageLayer> = self.layers.iter().collect();
        layers.sort_by_key(|layer| (std::cmp::Reverse(layer.size), layer.digest));
        for layer in layers {
            let content: Vec<String> = layer.content.iter().map(|(title, _)| escape(title)).collect();
            html.push_str(&format!(
                "<tr id=\"layer-{short}\"><td data-value=\"{bytes}\">{size}</td><td>{users}</td><td>{content}</td>\
                 <td><code>{digest}</code><br><code>{diff_id}</code></td></tr>\n",
                short = short(&layer.digest),
                bytes = layer.size,
                size = format::bytes(layer.size),
                users = layer.users,
                content = content.join(", "),
                digest = layer.digest,
                diff_id = layer.diff_id,
            ));
        }
        html.push_str("</tbody></table></div>\n</section>\n");
    }
}

impl PageLayer {
    fn cells<'p>(
        &'p self,
        area: Area,
        least: u64,
        class: &'static str,
        layer: usize,
        about: &str,
    ) -> Vec<Cell<'p>> {
        let mut packages: Vec<&(String, u64)> = self.content.iter().collect();
        packages.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        let mut seen = packages.iter().take_while(|(_, size)| *size > least).count();
        // One that stands alone is named, however small it is.
        if seen + 1 >= packages.len() {
            seen = packages.len();
        }
        let (seen, unseen) = packages.split_at(seen);
        let rest: u64 = unseen.iter().map(|(_, size)| size).sum();
        let sizes: Vec<u64> = seen.iter().map(|(_, size)| *size).chain([rest]).collect();
        let mut areas = squarify(&sizes, area).into_iter();
        let mut cells: Vec<Cell<'p>> = seen
            .iter()
            .zip(areas.by_ref())
            .map(|((name, size), area)| Cell {
                area,
                class,
                layer: Some(layer),
                label: name.clone(),
                text: format!("{name}\n{}, {about}", format::bytes(*size)),
                size: *size,
                name,
            })
            .collect();
        if let Some(area) = areas.next().filter(|_| !unseen.is_empty()) {
            let label = format!("{} smaller", unseen.len());
            let names = listed(unseen.iter().map(|(name, _)| name.as_str()));
            let text = format!("{label}: {names}\n{}, {about}", format::bytes(rest));
            cells.push(Cell { area, class, layer: Some(layer), label, text, size: rest, name: "" });
        }
        cells
    }
}

/// A rectangle that can be pointed at.
struct Cell<'p> {
    area: Area,
    class: &'static str,
    /// The layer that it is of: all cells of that layer light up together, in all pictures.
    layer: Option<usize>,
    label: String,
    /// What is said of it.
    text: String,
    size: u64,
    /// The package; empty for what stands for several.
    name: &'p str,
}

impl Cell<'_> {
    fn draw(&self, html: &mut String) {
        let layer = self.layer.map_or_else(String::new, |layer| format!(" data-layer=\"{layer}\""));
        html.push_str(&format!(
            "<g class=\"cell\"{layer} data-bytes=\"{}\"><title>{}</title><rect {}/>",
            self.size,
            escape(&self.text),
            attributes(self.area)
        ));
        let Area { x, y, width, height } = self.area;
        // About what a letter takes, so that no label goes over its rectangle's edge.
        let letters = ((width - 10.0) / 8.6).max(0.0) as usize;
        let label = match self.name {
            // What stands for several has no name that could do without the rest.
            "" => Some(self.label.clone()).filter(|label| label.chars().count() <= letters),
            _ => label(&self.label, letters),
        };
        let label = label.filter(|_| height >= 22.0);
        if let Some(label) = &label {
            let label = escape(label);
            html.push_str(&format!("<text x=\"{:.1}\" y=\"{:.1}\">{label}</text>", x + 6.0, y + 18.0));
        }
        let size = format::bytes(self.size);
        if label.is_some() && height >= 42.0 && letters >= size.len() {
            let (x, y) = (x + 6.0, y + 36.0);
            html.push_str(&format!("<text class=\"size\" x=\"{x:.1}\" y=\"{y:.1}\">{size}</text>"));
        }
        html.push_str("</g>\n");
    }
}

fn attributes(area: Area) -> String {
    let Area { x, y, width, height } = area;
    format!("x=\"{x:.3}\" y=\"{y:.3}\" width=\"{width:.3}\" height=\"{height:.3}\"")
}

/// Text as HTML has it, between tags and in quoted attributes. What can't be seen is shown as a mark.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in format::plain(text).chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Marks that turn the direction of text would show one name as another.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escaped.push('\u{fffd}'),
            char => escaped.push(char),
        }
    }
    escaped
}

/// What there is room for: all, the name without its version, or some of the name; nothing where that would say nothing.
fn label(text: &str, letters: usize) -> Option<String> {
    const LEAST: usize = 6;
    let name = text.split(' ').next().unwrap_or(text);
    for whole in [text, name] {
        if whole.chars().count() <= letters {
            return Some(whole.to_owned());
        }
    }
    (letters >= LEAST).then(|| name.chars().take(letters - 1).chain(['…']).collect())
}

/// Names, as many as somebody reads.
fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    const MOST: usize = 30;
    let names: Vec<&str> = names.collect();
    match names.get(..MOST) {
        Some(first) if names.len() > MOST => format!("{} and {} more", first.join(", "), names.len() - MOST),
        _ => names.join(", "),
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn percent(part: u64, whole: u64) -> u64 {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    u64::try_from(percent).unwrap_or(100)
}

fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}

/// What a policy calls a style or a script. Source: Content Security Policy Level 3, section 2.3.1.
fn source_hash(text: &str) -> String {
    format!("sha256-{}", BASE64.encode(Digest::of(text.as_bytes()).as_bytes()))
}

#[cfg(test)]
mod tests;
