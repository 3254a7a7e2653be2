#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use super::*;

fn layer(name: &str, content: &[(&str, u64)], users: usize) -> PageLayer {
    let digest = Digest::of(name.as_bytes());
    PageLayer {
        digest,
        diff_id: DiffId(Digest::of(digest.hex().as_bytes())),
        size: content.iter().map(|(_, size)| size).sum(),
        content: content.iter().map(|(title, size)| ((*title).to_owned(), *size)).collect(),
        users,
    }
}

fn image(name: &str, layers: &[usize]) -> PageImage {
    PageImage { name: name.to_owned(), digest: Digest::of(name.as_bytes()), layers: layers.to_vec() }
}

/// Two images: one layer in both, one of its own each.
fn family(package: &str) -> Page {
    Page {
        place: "dist".to_owned(),
        family: 2,
        images: vec![image("devel:1", &[0, 1, 2]), image("runtime:1", &[0, 3])],
        layers: vec![
            layer("a", &[("torch 2.9.0", 6_000_000), ("numpy 2.1.0", 2_000_000)], 2),
            layer("b", &[(package, 1_000_000)], 1),
            layer("c", &[("a 1", 4), ("b 1", 3), ("c 1", 2)], 1),
            layer("d", &[("files /app", 2_000_000)], 1),
        ],
    }
}

/// The values of an attribute, in their order.
fn values<'h>(html: &'h str, attribute: &str) -> Vec<&'h str> {
    let start = format!("{attribute}=\"");
    html.split(&start).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

fn figure<'h>(html: &'h str, id: &str) -> &'h str {
    html.split(&format!("<figure id=\"{id}\">")).nth(1).unwrap().split("</figure>").next().unwrap()
}

#[test]
fn every_image_has_a_picture_and_every_layer_a_row() {
    let html = family("click 8").html();
    assert_eq!(html.matches("<figure ").count(), 2);
    assert_eq!(html.matches("<tr id=\"layer-").count(), 4);
    for layer in &family("click 8").layers {
        assert!(html.contains(&format!("<code>{}</code><br><code>{}</code>", layer.digest, layer.diff_id)));
    }
    for known in ["2 images", "4 layers", "11.0 MB", "19.0 MB", "torch 2.9.0", "files /app"] {
        assert!(html.contains(known), "{known}");
    }
}

/// The part of a row that a column shares: 8 of 9 MB one way, 8 of 10 the other.
#[test]
fn the_matrix_says_what_is_shared() {
    let html = family("click 8").html();
    assert!(html.contains("title=\"88 % of devel:1, in 1 layer, are in runtime:1\">8.0 MB</td>"), "{html}");
    assert!(html.contains("title=\"80 % of runtime:1, in 1 layer, are in devel:1\">8.0 MB</td>"));
    assert_eq!(html.matches("<td class=\"self\"").count(), 2);
    let one = Page { images: vec![image("only:1", &[0])], ..family("click 8") };
    assert!(!one.html().contains("<table class=\"matrix\">"));
}

#[test]
fn cells_are_as_large_as_their_bytes() {
    let html = family("click 8").html();
    let picture = figure(&html, "image-2");
    let cells: Vec<&str> = picture.split("<g class=\"cell\"").skip(1).collect();
    let area = |cell: &str| {
        let number = |name: &str| values(cell, name)[0].parse::<f64>().unwrap();
        (number("data-bytes"), number(" width") * number(" height"))
    };
    let areas: Vec<(f64, f64)> = cells.iter().map(|cell| area(cell)).collect();
    assert_eq!(areas.iter().map(|(bytes, _)| *bytes).sum::<f64>(), 10_000_000.0);
    for (bytes, area) in areas {
        assert!((area / 560_000.0 - bytes / 10_000_000.0).abs() < 1e-5, "{bytes} bytes have {area}");
    }
}

/// What is too small to be seen is drawn together, and still named.
#[test]
fn small_ones_are_together() {
    let html = family("click 8").html();
    let picture = figure(&html, "image-1");
    assert!(picture.contains("<g class=\"all\">") && picture.contains("<g class=\"one\">"));
    assert!(!picture.contains("<g class=\"some\">"));
    let page = Page { images: vec![image("x:1", &[0, 1, 2, 2])], ..family("click 8") };
    let html = page.html();
    assert!(html.contains("<title>2 smaller layers: a 1, b 1, c 1, a 1, b 1, c 1\n18 B</title>"), "{html}");
}

/// A name that is HTML stays a name, wherever it is shown.
#[test]
fn names_are_not_obeyed() {
    let evil = "<script>alert(1)</script>\"' onload=x &amp; \u{1b}[2J\u{202e}gpj";
    let mut page = family(evil);
    page.images[0].name = format!("{evil}:1");
    page.place = evil.to_owned();
    let html = page.html();
    assert_eq!(html.matches("<script").count(), 1);
    assert!(html.contains(
        "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39; onload=x &amp;amp; \u{fffd}[2J\u{fffd}gpj"
    ));
    assert!(!html.contains("\"' onload") && !html.contains('\u{1b}') && !html.contains('\u{202e}'));
    assert_eq!(html.replace(SCRIPT, "").matches("</script>").count(), 1);
}

/// The page names nothing that would have to be fetched, and forbids what it does not have.
#[test]
fn nothing_comes_from_elsewhere() {
    let html = family("click 8").html();
    for word in ["http:", "https:", "src=", "@import", "url(", "<link", "<img", "style="] {
        assert!(!html.contains(word), "{word}");
    }
    let policy = format!("style-src '{}'; script-src '{}'", source_hash(STYLE), source_hash(SCRIPT));
    assert!(html.contains(&policy));
    assert_eq!(html, family("click 8").html());
}

#[test]
fn a_label_is_what_there_is_room_for() {
    let check = |letters, expected: Option<&str>| {
        assert_eq!(label("numpy-financial 2.1.0", letters).as_deref(), expected)
    };
    check(21, Some("numpy-financial 2.1.0"));
    check(20, Some("numpy-financial"));
    check(10, Some("numpy-fin…"));
    check(5, None);
    assert_eq!(label("jq 1.7", 3).as_deref(), Some("jq"));
}
