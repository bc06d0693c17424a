//! `loss.svg`: the training and validation loss of a run over its iterations, as one picture.

use std::error::Error;
use std::io;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::files;
use points::{Place, bucket_means, drawable, freest, is_drawable, moving_mean, padded};

mod points;

const SIZE_PX: (u32, u32) = (960, 540);
/// More points than this are drawn as means of neighbours: no viewer shows more, and the file
/// stays small.
const MAX_POINTS: usize = 1000;

// The picture brings its own background, so these read the same in a light and a dark viewer.
const BACKGROUND: RGBColor = RGBColor(0xfd, 0xfd, 0xfd);
const INK: RGBColor = RGBColor(0x26, 0x2b, 0x33);
const GRID: RGBColor = RGBColor(0xe3, 0xe6, 0xea);
// Okabe and Ito's blue and vermilion, which differ for colour-blind readers too.
const TRAIN: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const TRAIN_RAW: RGBColor = RGBColor(0x99, 0xc2, 0xdf);
const VALIDATION: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
const FLOOR: RGBColor = RGBColor(0x6b, 0x72, 0x80);

/// Where the legend may be, best first, with the shares of the width and of the height that it
/// covers there. A falling curve leaves the first free.
const LEGEND_PLACES: [Place<SeriesLabelPosition>; 5] = [
    (SeriesLabelPosition::UpperRight, 0.72..1.0, 0.72..1.0),
    (SeriesLabelPosition::UpperMiddle, 0.36..0.64, 0.72..1.0),
    (SeriesLabelPosition::UpperLeft, 0.0..0.28, 0.72..1.0),
    (SeriesLabelPosition::MiddleRight, 0.72..1.0, 0.36..0.64),
    (SeriesLabelPosition::MiddleMiddle, 0.36..0.64, 0.36..0.64),
];

type LossChart<'a, 'b> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), Box<dyn Error>>;

/// A loss over iterations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// What the legend calls it.
    pub name: String,
    /// (iteration, loss in nats), by iteration. Points that are not finite are not drawn.
    pub points: Vec<(f64, f64)>,
}

/// A loss that no model of the data can go below, such as the entropy of a synthetic corpus.
#[derive(Clone, Debug, PartialEq)]
pub struct Floor {
    /// What is written beside the line.
    pub label: String,
    /// Where the line is, in nats. Not drawn if it is not finite.
    pub loss: f64,
}

/// What [`write()`] draws.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossPlot {
    /// The heading; none if empty.
    pub title: String,
    /// Drawn as a line: its moving mean, with the curve itself lighter behind.
    pub train: Curve,
    /// Drawn as a line with a marker at each point.
    pub validation: Curve,
    /// Drawn as a dashed line.
    pub floor: Option<Floor>,
}

/// Draws `plot` as SVG, 960 by 540 pixels, and replaces the file at `path` once it is complete.
/// A plot without points has axes only.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, plot: &LossPlot) -> io::Result<()> {
    let svg = render(plot).map_err(|cause| io::Error::other(cause.to_string()))?;
    files::write(path, svg)
}

fn render(plot: &LossPlot) -> Result<String, Box<dyn Error>> {
    let train = bucket_means(&drawable(&plot.train.points), MAX_POINTS);
    let validation = bucket_means(&drawable(&plot.validation.points), MAX_POINTS);
    let floor = plot.floor.as_ref().filter(|floor| is_drawable(floor.loss));

    let all = || train.iter().chain(&validation);
    let x_range = padded(all().map(|point| point.0), 0.015);
    // A flat line keeps some room below for its label.
    let y_range = padded(
        all().map(|point| point.1).chain(floor.map(|f| f.loss)),
        0.06,
    );

    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE_PX).into_drawing_area();
        let curves = [train.as_slice(), &validation];
        let legend = freest(&LEGEND_PLACES, &curves, &x_range, &y_range);
        let mut chart = axes(&root, &plot.title, x_range.clone(), y_range)?;
        if let Some(floor) = floor {
            draw_floor(&mut chart, floor, &x_range)?;
        }
        draw_train(&mut chart, &plot.train.name, &train)?;
        draw_validation(&mut chart, &plot.validation.name, &validation)?;
        if !(train.is_empty() && validation.is_empty()) {
            chart
                .configure_series_labels()
                .position(legend)
                .margin(12)
                .label_font(font(17))
                .background_style(BACKGROUND.mix(0.9))
                .border_style(GRID)
                .draw()?;
        }
        root.present()?;
    }
    Ok(svg)
}

fn axes<'a, 'b>(
    root: &'a DrawingArea<SVGBackend<'b>, Shift>,
    title: &str,
    x_range: Range<f64>,
    y_range: Range<f64>,
) -> Result<LossChart<'a, 'b>, Box<dyn Error>> {
    root.fill(&BACKGROUND)?;
    let y_span = y_range.end - y_range.start;
    let mut builder = ChartBuilder::on(root);
    builder
        .margin(14)
        .margin_right(34)
        .x_label_area_size(52)
        .y_label_area_size(80);
    if !title.is_empty() {
        builder.caption(title, font(23));
    }
    let mut chart = builder.build_cartesian_2d(x_range, y_range)?;
    chart
        .configure_mesh()
        .x_desc("iteration")
        .y_desc("loss (nats)")
        .x_labels(10)
        .y_labels(8)
        .x_label_formatter(&|x| iteration(*x))
        .y_label_formatter(&|y| loss(*y, decimals(y_span)))
        .label_style(font(16))
        .axis_desc_style(font(18))
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()?;
    Ok(chart)
}

fn draw_floor(chart: &mut LossChart, floor: &Floor, x_range: &Range<f64>) -> Drawn {
    let line = [(x_range.start, floor.loss), (x_range.end, floor.loss)];
    chart.draw_series(DashedLineSeries::new(line, 8, 6, FLOOR.stroke_width(2)))?;
    // At the left end a loss curve is far above its floor, so the text is in nobody's way.
    let style = font(16).color(&FLOOR).pos(Pos::new(HPos::Left, VPos::Top));
    chart
        .draw_series([EmptyElement::at(line[0]) + Text::new(floor.label.clone(), (8, 5), style)])?;
    Ok(())
}

fn draw_train<'a, 'b: 'a>(
    chart: &mut LossChart<'a, 'b>,
    name: &str,
    points: &[(f64, f64)],
) -> Drawn {
    let mean = moving_mean(points);
    let mut name = name.to_owned();
    if mean != points {
        let raw = LineSeries::new(points.iter().copied(), TRAIN_RAW.stroke_width(1));
        chart
            .draw_series(raw)?
            .label(name.clone())
            .legend(|at| sample(at, TRAIN_RAW));
        name.push_str(", moving mean");
    }
    if points.is_empty() {
        return Ok(());
    }
    chart
        .draw_series(LineSeries::new(mean, TRAIN.stroke_width(2)))?
        .label(name)
        .legend(|at| sample(at, TRAIN));
    if let [point] = points {
        // A line of one point has no length.
        chart.draw_series([Circle::new(*point, 4, TRAIN.filled())])?;
    }
    Ok(())
}

fn draw_validation<'a, 'b: 'a>(
    chart: &mut LossChart<'a, 'b>,
    name: &str,
    points: &[(f64, f64)],
) -> Drawn {
    if points.is_empty() {
        return Ok(());
    }
    let line = LineSeries::new(points.iter().copied(), VALIDATION.stroke_width(2));
    chart.draw_series(line)?.label(name).legend(|at| {
        let marker = Circle::new((10, 0), 4, VALIDATION.filled());
        let line = PathElement::new([(0, 0), (20, 0)], VALIDATION.stroke_width(2));
        EmptyElement::at(at) + line + marker
    });
    let markers = points
        .iter()
        .map(|point| Circle::new(*point, 4, VALIDATION.filled()));
    chart.draw_series(markers)?;
    Ok(())
}

fn sample(at: (i32, i32), color: RGBColor) -> PathElement<(i32, i32)> {
    PathElement::new([at, (at.0 + 20, at.1)], color.stroke_width(2))
}

fn font(size_px: u32) -> TextStyle<'static> {
    ("sans-serif", size_px).into_font().color(&INK)
}

/// How many decimals tell the ticks of an axis of this span apart.
fn decimals(span: f64) -> usize {
    [50.0, 5.0, 0.5, 0.05]
        .iter()
        .filter(|limit| span < **limit)
        .count()
}

/// Ticks between whole iterations, or before the first, get no text.
fn iteration(x: f64) -> String {
    let nearest = x.round();
    if nearest < 0.0 || (x - nearest).abs() > 1e-3 {
        String::new()
    } else if nearest < 1e12 {
        format!("{:.0}", nearest.abs())
    } else {
        format!("{nearest:.2e}")
    }
}

fn loss(value: f64, decimals: usize) -> String {
    if value.abs() >= 1e7 {
        format!("{value:.2e}")
    } else {
        let text = format!("{value:.decimals$}");
        // A tick at zero may lie a rounding below it.
        let is_zero = text.chars().all(|c| matches!(c, '-' | '0' | '.'));
        text.trim_start_matches(if is_zero { "-" } else { "" })
            .to_owned()
    }
}
