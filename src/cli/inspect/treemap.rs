//! Treemaps: a rectangle divided among sizes, each part with its share of the area and as square as can be.
//!
//! Source: Bruls, Huizing and van Wijk, "Squarified Treemaps", 2000. Only sums, products and quotients of sizes are used,
//! which are the same on every machine.

/// A rectangle, in whatever unit the whole has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Area {
    pub(super) fn size(&self) -> f64 {
        self.width * self.height
    }
}

/// The part of each size, in the same order. Sizes should descend; those that are zero get no area.
pub(super) fn squarify(sizes: &[u64], whole: Area) -> Vec<Area> {
    let total: u64 = sizes.iter().fold(0, |sum, size| sum.saturating_add(*size));
    let scale = whole.size() / (total.max(1) as f64);
    let mut parts = Vec::with_capacity(sizes.len());
    let mut free = whole;
    let mut rest = sizes;
    while !rest.is_empty() {
        let side = free.width.min(free.height);
        let count = row(rest, side, scale);
        let (own, others) = rest.split_at(count.min(rest.len()));
        free = lay(own, free, scale, &mut parts);
        rest = others;
    }
    parts
}

/// How many of the sizes share a row along a side: as long as the least square of them becomes no worse.
fn row(sizes: &[u64], side: f64, scale: f64) -> usize {
    let (mut sum, mut least, mut most) = (0.0, f64::INFINITY, 0.0_f64);
    let mut worst = f64::INFINITY;
    for (count, size) in sizes.iter().enumerate() {
        let area = *size as f64 * scale;
        (sum, least, most) = (sum + area, least.min(area), most.max(area));
        let (sums, sides) = (sum * sum, side * side);
        let ratio = (sides * most / sums).max(sums / (sides * least));
        if count > 0 && (ratio > worst || ratio.is_nan()) {
            return count;
        }
        worst = ratio;
    }
    sizes.len()
}

/// Lays a row along the shorter side, and returns what is left.
fn lay(sizes: &[u64], free: Area, scale: f64, parts: &mut Vec<Area>) -> Area {
    let sum: f64 = sizes.iter().map(|size| *size as f64 * scale).sum();
    let is_column = free.width >= free.height;
    let side = if is_column { free.height } else { free.width };
    let thickness = if side > 0.0 { sum / side } else { 0.0 };
    let mut at = 0.0;
    for size in sizes {
        let length = if thickness > 0.0 { *size as f64 * scale / thickness } else { 0.0 };
        parts.push(match is_column {
            true => Area { x: free.x, y: free.y + at, width: thickness, height: length },
            false => Area { x: free.x + at, y: free.y, width: length, height: thickness },
        });
        at += length;
    }
    match is_column {
        true => Area { x: free.x + thickness, width: (free.width - thickness).max(0.0), ..free },
        false => Area { y: free.y + thickness, height: (free.height - thickness).max(0.0), ..free },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: Area = Area { x: 10.0, y: 20.0, width: 1000.0, height: 560.0 };

    /// Six sizes of the paper's example, in its rectangle: 6 by 4.
    #[test]
    fn the_papers_example() {
        let whole = Area { x: 0.0, y: 0.0, width: 6.0, height: 4.0 };
        let parts = squarify(&[6, 6, 4, 3, 2, 2, 1], whole);
        assert_eq!((parts[0].width, parts[0].height), (3.0, 2.0));
        assert_eq!((parts[1].x, parts[1].y), (0.0, 2.0));
        assert_eq!((parts[2].x, parts[3].x), (3.0, 3.0 + 12.0 / 7.0));
        assert!(parts.iter().all(|part| part.width.max(part.height) / part.width.min(part.height) < 3.0));
    }

    #[test]
    fn nothing_has_no_area() {
        assert!(squarify(&[], WHOLE).is_empty());
        assert!(squarify(&[0, 0], WHOLE).iter().all(|part| part.size() == 0.0));
        assert_eq!(squarify(&[5, 0], WHOLE)[0], WHOLE);
    }

    proptest! {
        #[test]
        fn areas_are_proportional_and_apart(mut sizes in prop::collection::vec(0..1_u64 << 33, 1..120)) {
            sizes.sort_by_key(|size| std::cmp::Reverse(*size));
            let total: u64 = sizes.iter().sum();
            let parts = squarify(&sizes, WHOLE);
            prop_assert_eq!(parts.len(), sizes.len());
            let slack = 1e-6;
            for (part, size) in parts.iter().zip(&sizes) {
                let share = *size as f64 / total.max(1) as f64;
                prop_assert!((part.size() / WHOLE.size() - share).abs() < slack, "{part:?} of {size}");
                prop_assert!(part.x >= WHOLE.x - slack && part.x + part.width <= WHOLE.x + WHOLE.width + slack);
                prop_assert!(part.y >= WHOLE.y - slack && part.y + part.height <= WHOLE.y + WHOLE.height + slack);
            }
            for (number, a) in parts.iter().enumerate() {
                for b in parts.iter().skip(number + 1) {
                    let width = (a.x + a.width).min(b.x + b.width) - a.x.max(b.x);
                    let height = (a.y + a.height).min(b.y + b.height) - a.y.max(b.y);
                    prop_assert!(width.max(0.0) * height.max(0.0) < slack, "{a:?} {b:?}");
                }
            }
        }
    }
}
