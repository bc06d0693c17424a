//! The loss picture, read back from its SVG.
#![allow(clippy::unwrap_used, reason = "a failing unwrap fails its test")]

use std::fs;
use std::path::Path;

use gpu_tlm::train::loss_plot::{self, Curve, Floor, LossPlot};

fn curve(name: &str, points: impl IntoIterator<Item = (f64, f64)>) -> Curve {
    Curve {
        name: name.to_owned(),
        points: points.into_iter().collect(),
    }
}

fn draw(plot: &LossPlot) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("loss.svg");
    loss_plot::write(&path, plot).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let svg = fs::read_to_string(path).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    for bad in ["NaN", "inf"] {
        assert!(!svg.contains(bad), "{bad} in {svg}");
    }
    svg
}

/// The points of each line of `color`.
fn lines(svg: &str, color: &str) -> Vec<Vec<(f64, f64)>> {
    let stroke = format!("stroke=\"{color}\"");
    svg.lines()
        .filter(|line| line.starts_with("<polyline") && line.contains(&stroke))
        .map(|line| {
            let points = line.split("points=\"").nth(1).unwrap();
            let points = points.split('"').next().unwrap();
            let numbers = |pair: &str| {
                let (x, y) = pair.split_once(',').unwrap();
                (x.parse().unwrap(), y.parse().unwrap())
            };
            points.split_whitespace().map(numbers).collect()
        })
        .collect()
}

const TRAIN: &str = "#0072B2";
const TRAIN_RAW: &str = "#99C2DF";
const VALIDATION: &str = "#D55E00";
const FLOOR: &str = "#6B7280";

#[test]
fn loss_plot_names_its_axes_and_curves() {
    let svg = draw(&LossPlot {
        title: "tiny & <new>".to_owned(),
        train: curve(
            "train",
            (0..300).map(|i| (f64::from(i), 9.0 - f64::from(i) / 50.0)),
        ),
        validation: curve("validation", [(0.0, 9.0), (299.0, 3.5)]),
        floor: Some(Floor {
            label: "entropy of the corpus".to_owned(),
            loss: 2.0,
        }),
    });
    for text in [
        "tiny &amp; &lt;new&gt;",
        "iteration",
        "loss (nats)",
        "train",
        "train, moving mean",
        "validation",
        "entropy of the corpus",
    ] {
        assert!(svg.lines().any(|line| line == text), "{text} in {svg}");
    }
    assert!(svg.contains(FLOOR));
    assert_eq!(
        svg.matches("<circle").count(),
        2 + 1,
        "and one in the legend"
    );
}

#[test]
fn loss_plot_thins_long_curves_and_keeps_their_ends() {
    let falling = |i: i32| (f64::from(i), 10.0 - f64::from(i) / 5000.0);
    let svg = draw(&LossPlot {
        train: curve("train", (0..25_000).map(falling)),
        ..LossPlot::default()
    });
    for color in [TRAIN, TRAIN_RAW] {
        let line = lines(&svg, color).into_iter().find(|line| line.len() > 2);
        let line = line.unwrap_or_else(|| panic!("no line of {color}"));
        assert!(line.len() <= 1000, "{color}: {}", line.len());
        // A straight line stays one: its first point is the highest and leftmost.
        assert!(
            line.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1),
            "{line:?}"
        );
        assert!(
            line[0].0 < 130.0 && line[line.len() - 1].0 > 900.0,
            "{line:?}"
        );
    }
}

#[test]
fn loss_plot_skips_values_that_are_not_finite() {
    let rows = [
        4.0,
        f64::NAN,
        3.0,
        f64::INFINITY,
        f64::MAX,
        f64::NEG_INFINITY,
        2.0,
    ];
    let points = (0..).map(f64::from).zip(rows);
    let finite = points.clone().filter(|p| [4.0, 3.0, 2.0].contains(&p.1));
    let with_floor = |train, loss| LossPlot {
        train,
        floor: Some(Floor {
            label: "floor".to_owned(),
            loss,
        }),
        ..LossPlot::default()
    };
    let got = draw(&with_floor(curve("train", points), f64::NAN));
    let want = draw(&LossPlot {
        train: curve("train", finite),
        ..LossPlot::default()
    });
    assert_eq!(got, want);
}

#[test]
fn loss_plot_draws_small_and_flat_curves() {
    let cases: [(&str, &[(f64, f64)]); 7] = [
        ("none", &[]),
        ("one", &[(0.0, 9.0)]),
        ("one far away", &[(1e9, 1e-9)]),
        ("flat", &[(0.0, 2.0), (10.0, 2.0)]),
        ("nearly flat", &[(0.0, 1e6), (10.0, 1e6 + 1e-9)]),
        ("all zero", &[(0.0, 0.0), (1.0, 0.0)]),
        ("diverged", &[(0.0, 9.0), (1.0, 3.4e38)]),
    ];
    for (case, points) in cases {
        let svg = draw(&LossPlot {
            train: curve("train", points.iter().copied()),
            validation: curve("validation", points.iter().copied()),
            ..LossPlot::default()
        });
        assert!(svg.contains("loss (nats)"), "{case}");
        assert_eq!(svg.contains(TRAIN), !points.is_empty(), "{case}");
        assert_eq!(svg.contains(VALIDATION), !points.is_empty(), "{case}");
    }
}

#[test]
fn loss_plot_replaces_a_file_and_fails_without_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("loss.svg");
    fs::write(&path, "old").unwrap();
    loss_plot::write(&path, &LossPlot::default()).unwrap();
    assert!(fs::read_to_string(&path).unwrap().starts_with("<svg"));
    let missing = Path::new("no such directory").join("loss.svg");
    assert!(loss_plot::write(&missing, &LossPlot::default()).is_err());
}

#[test]
fn loss_plot_keeps_its_legend_off_the_curve() {
    let left_of_legend = |end_loss: f64| {
        let svg = draw(&LossPlot {
            train: curve("train", [(0.0, 5.0), (10.0, end_loss)]),
            ..LossPlot::default()
        });
        let lines: Vec<_> = svg.lines().collect();
        let name = lines.iter().position(|line| *line == "train").unwrap();
        let x = lines[name - 1].split('"').nth(1).unwrap();
        x.parse::<u32>().unwrap()
    };
    let (falling, rising) = (left_of_legend(1.0), left_of_legend(9.0));
    assert!(falling > 700 && rising < 600, "{falling} and {rising}");
}

#[test]
fn loss_plot_writes_zero_without_a_sign() {
    for top in (1..30).map(|step| f64::from(step) / 37.0) {
        let svg = draw(&LossPlot {
            train: curve("train", [(0.0, -top / 3.0), (1.0, top)]),
            ..LossPlot::default()
        });
        let is_negative_zero = |text: &&str| text.starts_with('-') && text.parse() == Ok(0.0);
        let found = svg.lines().find(is_negative_zero);
        assert_eq!(found, None, "on an axis up to {top}");
    }
}
