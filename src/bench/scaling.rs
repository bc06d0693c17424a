//! How the cost of a step grows with each of its sizes, as figures and as a picture.

use std::error::Error;
use std::io;
use std::path::Path;

use plotters::prelude::*;

use super::BenchError;
use super::train::{BATCH_SIZE, Model, run as run_steps};
use crate::config::ModelConfig;
use crate::files;
use crate::gpu::Device;

/// A size of a training step that is varied alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Sequences of a batch.
    Batch,
    /// Tokens of a sequence.
    Context,
    /// Width of the residual stream.
    Width,
    /// Tokens of the vocabulary.
    Vocabulary,
}

/// Each size with the values that it takes, model S having all the others.
pub const SWEEP: [(Size, &[usize]); 4] = [
    (Size::Batch, &[2, 4, 8, 16, 32]),
    (Size::Context, &[64, 128, 256, 512, 1024]),
    (Size::Width, &[64, 128, 256, 512]),
    (Size::Vocabulary, &[1024, 4096, 16_384]),
];

impl Size {
    /// Its key in the config file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch_size",
            Self::Context => "context_length",
            Self::Width => "d_model",
            Self::Vocabulary => "vocab_size",
        }
    }

    /// Model S and its batch with this size changed.
    pub fn apply(self, value: usize) -> (ModelConfig, usize) {
        let (mut model, mut batch_size) = (Model::Small.config(), BATCH_SIZE);
        match self {
            Self::Batch => batch_size = value,
            Self::Context => model.context_length = value,
            Self::Width => model.d_model = value,
            Self::Vocabulary => model.vocab_size = value,
        }
        (model, batch_size)
    }
}

/// One measured step.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Point {
    /// Which size was changed.
    pub size: &'static str,
    /// What it was.
    pub value: usize,
    /// Tokens of a step.
    pub tokens: usize,
    /// Median time of a step, in milliseconds.
    pub ms_per_step: f64,
    /// Tokens trained on in a second.
    pub tokens_per_s: f64,
    /// Billions of floating-point operations a second.
    pub gflops: f64,
    /// Bytes of device memory that the plan takes.
    pub planned_device_bytes: u64,
}

/// Measures a step at `value` of one size.
///
/// # Errors
/// When the device fails.
pub fn measure(device: &Device, size: Size, value: usize) -> Result<Point, BenchError> {
    let (model, batch_size) = size.apply(value);
    let report = run_steps(device, &model, batch_size)?;
    Ok(Point {
        size: size.name(),
        value,
        tokens: batch_size * model.context_length,
        ms_per_step: report.ms_per_step,
        tokens_per_s: report.tokens_per_s,
        gflops: report.gflops,
        planned_device_bytes: report.planned_device_bytes,
    })
}

const PANEL_PX: (u32, u32) = (480, 300);
const BACKGROUND: RGBColor = RGBColor(0xfd, 0xfd, 0xfd);
const INK: RGBColor = RGBColor(0x26, 0x2b, 0x33);
const GRID: RGBColor = RGBColor(0xe3, 0xe6, 0xea);
// Okabe and Ito's blue and vermilion, which differ for colour-blind readers too.
const TIME: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const MEMORY: RGBColor = RGBColor(0xd5, 0x5e, 0x00);

/// Draws time and memory of a step against each size, with logarithmic axes, as SVG, and replaces
/// the file at `path` once it is complete.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, points: &[Point]) -> io::Result<()> {
    let svg = render(points).map_err(|cause| io::Error::other(cause.to_string()))?;
    files::write(path, svg)
}

fn render(points: &[Point]) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let px = (2 * PANEL_PX.0, 2 * PANEL_PX.1);
        let root = SVGBackend::with_string(&mut svg, px).into_drawing_area();
        root.fill(&BACKGROUND)?;
        for (area, (size, _)) in root.split_evenly((2, 2)).iter().zip(SWEEP) {
            let own: Vec<&Point> = points.iter().filter(|p| p.size == size.name()).collect();
            panel(area, size, &own)?;
        }
        root.present()?;
    }
    Ok(svg)
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    size: Size,
    points: &[&Point],
) -> Result<(), Box<dyn Error>> {
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        low / 1.5..high * 1.5
    };
    if points.is_empty() {
        return Ok(());
    }
    let mib = |p: &Point| p.planned_device_bytes as f64 / f64::from(1 << 20);
    let x = range(&mut points.iter().map(|p| p.value as f64));
    let y = range(&mut points.iter().flat_map(|p| [p.ms_per_step, mib(p)]));
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .x_label_area_size(36)
        .y_label_area_size(58)
        .build_cartesian_2d(x.log_scale(), y.log_scale())?;
    let font = ("sans-serif", 13).into_font().color(&INK);
    chart
        .configure_mesh()
        .light_line_style(BACKGROUND)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .x_desc(size.name())
        .y_desc("ms a step, MiB planned")
        .label_style(font.clone())
        .axis_desc_style(font.clone())
        .x_label_formatter(&|v| label(*v))
        .y_label_formatter(&|v| label(*v))
        .draw()?;
    let line = |value: &dyn Fn(&Point) -> f64| -> Vec<(f64, f64)> {
        points.iter().map(|p| (p.value as f64, value(p))).collect()
    };
    let times = line(&|p| p.ms_per_step);
    let sizes = line(&mib);
    for (name, color, line) in [("ms a step", TIME, times), ("MiB planned", MEMORY, sizes)] {
        chart
            .draw_series(LineSeries::new(line.clone(), color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 1), (x + 14, y + 1)], color.filled()));
        chart.draw_series(line.iter().map(|&at| Circle::new(at, 3, color.filled())))?;
        // The line of proportional growth from the first point on, to compare with.
        let (first, last) = (line[0], line[line.len() - 1]);
        let proportional = (last.0, first.1 * last.0 / first.0);
        chart.draw_series(DashedLineSeries::new(
            [first, proportional],
            3,
            5,
            color.into(),
        ))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(font)
        .background_style(BACKGROUND)
        .border_style(GRID)
        .draw()?;
    Ok(())
}

/// Ones, twos and fives of each power of ten: the numbers between would run into each other.
fn label(value: f64) -> String {
    let leading = value / 10f64.powf((value * (1.0 + 1e-9)).log10().floor());
    let is_shown = [1.0, 2.0, 5.0].iter().any(|&d| (leading - d).abs() < 1e-6);
    if is_shown {
        format!("{value:.0}")
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_changes_alone_and_every_model_is_valid() {
        for (size, values) in SWEEP {
            for &value in values {
                let (model, batch_size) = size.apply(value);
                let own = Model::Small.config();
                let changed = [
                    batch_size != BATCH_SIZE,
                    model.context_length != own.context_length,
                    model.d_model != own.d_model,
                    model.vocab_size != own.vocab_size,
                ];
                assert!(
                    changed.iter().filter(|&&c| c).count() <= 1,
                    "{size:?} {value}"
                );
                assert!(model.d_model.is_multiple_of(2 * model.num_heads), "{value}");
            }
        }
    }

    #[test]
    fn axes_show_ones_twos_and_fives() {
        let shown: Vec<String> = (1..=20).map(|v| label(f64::from(v) * 100.0)).collect();
        let shown: Vec<&str> = shown
            .iter()
            .map(String::as_str)
            .filter(|s| !s.is_empty())
            .collect();
        assert_eq!(shown, ["100", "200", "500", "1000", "2000"]);
    }

    #[test]
    fn a_picture_has_a_panel_for_each_size() {
        let points: Vec<Point> = SWEEP
            .iter()
            .flat_map(|&(size, values)| values.iter().map(move |&v| (size, v)))
            .map(|(size, value)| Point {
                size: size.name(),
                value,
                tokens: 1024,
                ms_per_step: value as f64,
                tokens_per_s: 1.0,
                gflops: 1.0,
                planned_device_bytes: 1 << 26,
            })
            .collect();
        let svg = render(&points).unwrap();
        for (size, _) in SWEEP {
            assert!(svg.contains(size.name()), "{size:?}");
        }
        let lines = svg.matches("<polyline").count();
        assert!(lines >= 8, "{lines}");
    }
}
