//! The numbers behind the picture: thinning, smoothing, ranges, and where there is room.

use std::ops::Range;

/// Bounds of what is drawn. A diverged loss beyond them counts as not finite; within them the
/// arithmetic of the axes cannot overflow.
const LARGEST: f64 = f32::MAX as f64;
/// Half the width of the moving mean, as a share of the points: wide enough to read the trend of
/// a noisy curve, narrow enough to keep its first drop.
const SMOOTHING_SHARE: usize = 50;

/// A name, and the shares of the width and of the height of the picture that it stands for.
pub(super) type Place<T> = (T, Range<f64>, Range<f64>);

/// Whether a value is finite and within the bounds of what is drawn.
pub(super) fn is_drawable(value: f64) -> bool {
    value.abs() <= LARGEST
}

/// The points whose coordinates are drawable.
pub(super) fn drawable(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite = |point: &&(f64, f64)| is_drawable(point.0) && is_drawable(point.1);
    points.iter().filter(finite).copied().collect()
}

/// At most `max_points` points: means of runs of neighbours, each of the same length but the
/// last.
pub(super) fn bucket_means(points: &[(f64, f64)], max_points: usize) -> Vec<(f64, f64)> {
    let bucket_size = points.len().div_ceil(max_points).max(1);
    points.chunks(bucket_size).map(mean).collect()
}

/// The mean of each point and its neighbours, for curves that are long enough to have a trend.
/// Near the start it takes as many on both sides as there are, so that the first drop of a loss
/// stays where it was; near the end it takes all that are left, so that the last point is as
/// steady as the rest.
pub(super) fn moving_mean(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let half_width = points.len() / SMOOTHING_SHARE;
    let loss_around = |idx: usize| {
        let reach = half_width.min(idx);
        let end = (idx + reach + 1).min(points.len());
        mean(&points[idx - reach..end]).1
    };
    (0..points.len())
        .map(|idx| (points[idx].0, loss_around(idx)))
        .collect()
}

/// The range of `values` with `share` of it added at both ends; never empty.
pub(super) fn padded(values: impl Iterator<Item = f64>, share: f64) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high {
        return 0.0..1.0;
    }
    // Ticks need a step that is wide beside the rounding of the values.
    let magnitude = low.abs().max(high.abs());
    let padding = if high - low > magnitude * 1e-6 {
        (high - low) * share
    } else {
        magnitude.mul_add(0.05, 0.5)
    };
    low - padding..high + padding
}

/// The name of the first of `places` that the fewest of the `curves` run through, in a picture
/// of these ranges.
pub(super) fn freest<T: Clone>(
    places: &[Place<T>; 5],
    curves: &[&[(f64, f64)]],
    x_range: &Range<f64>,
    y_range: &Range<f64>,
) -> T {
    let share = |value: f64, range: &Range<f64>| (value - range.start) / (range.end - range.start);
    let crossings = |(_, x_shares, y_shares): &&Place<T>| {
        let inside = |point: &(f64, f64)| {
            x_shares.contains(&share(point.0, x_range))
                && y_shares.contains(&share(point.1, y_range))
        };
        curves
            .iter()
            .flat_map(|curve| along(curve))
            .filter(inside)
            .count()
    };
    let best = places.iter().min_by_key(crossings);
    best.unwrap_or(&places[0]).0.clone()
}

/// Points along the lines of a curve, close enough to tell what the lines run through.
fn along(curve: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
    let between = |ends: &[(f64, f64)]| {
        let (from, to) = (ends[0], ends[1]);
        (0..16).map(move |step| {
            let share = f64::from(step) / 16.0;
            let mix = |from: f64, to: f64| from * (1.0 - share) + to * share;
            (mix(from.0, to.0), mix(from.1, to.1))
        })
    };
    curve
        .windows(2)
        .flat_map(between)
        .chain(curve.last().copied())
}

fn mean(points: &[(f64, f64)]) -> (f64, f64) {
    let sum = points
        .iter()
        .fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
    let count = points.len() as f64;
    (sum.0 / count, sum.1 / count)
}
