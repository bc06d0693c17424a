//! Whether a part still fits the time budget.

/// Parts whose estimates are wrong in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The probes of the adapter's ceilings.
    Ceilings,
    /// Training steps.
    Training,
    /// Generation.
    Generation,
    /// Matrix products.
    Products,
}

/// A time budget, and how the parts so far kept to their estimates.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    total_s: f64,
    past: Vec<Past>,
}

#[derive(Clone, Copy, Debug)]
struct Past {
    kind: Kind,
    estimate_s: f64,
    took_s: f64,
}

/// How far earlier parts may correct an estimate: one of them that was looked up in a cache says
/// little of the next.
const CORRECTION: std::ops::RangeInclusive<f64> = 0.5..=10.0;

impl Budget {
    /// A budget of `total_s` seconds.
    pub(super) fn new(total_s: f64) -> Self {
        Self {
            total_s,
            past: Vec::new(),
        }
    }

    /// Its seconds.
    pub(super) fn total_s(&self) -> f64 {
        self.total_s
    }

    /// Notes that a part took `took_s` where `estimate_s` was foreseen.
    pub(super) fn note(&mut self, kind: Kind, estimate_s: f64, took_s: f64) {
        self.past.push(Past {
            kind,
            estimate_s,
            took_s,
        });
    }

    /// Why a part that is estimated at `estimate_s` is left out `elapsed_s` after the start; `None`
    /// where it fits.
    pub(super) fn refusal(&self, kind: Kind, estimate_s: f64, elapsed_s: f64) -> Option<String> {
        let left_s = self.total_s - elapsed_s;
        let needed_s = estimate_s * self.correction(kind);
        if left_s <= 0.0 {
            Some("the time budget is used up".to_owned())
        } else if needed_s > left_s {
            Some(format!(
                "it would take about {}, and {} are left of the time budget",
                span(needed_s),
                span(left_s)
            ))
        } else {
            None
        }
    }

    /// How many times as long as estimated the parts of one kind took so far.
    fn correction(&self, kind: Kind) -> f64 {
        let past = self.past.iter().filter(|past| past.kind == kind);
        let (estimate_s, took_s) =
            past.fold((0.0, 0.0), |(e, t), p| (e + p.estimate_s, t + p.took_s));
        if estimate_s > 0.0 {
            (took_s / estimate_s).clamp(*CORRECTION.start(), *CORRECTION.end())
        } else {
            1.0
        }
    }
}

/// `35 s`, or `12 min` from two minutes on.
pub(super) fn span(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{:.0} s", seconds.max(1.0))
    } else {
        format!("{:.0} min", seconds / 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_runs_where_its_estimate_fits_what_is_left() {
        let budget = Budget::new(60.0);
        let refusal = |estimate_s, elapsed_s| budget.refusal(Kind::Training, estimate_s, elapsed_s);
        assert_eq!(refusal(60.0, 0.0), None);
        assert_eq!(refusal(10.0, 50.0), None);
        assert_eq!(
            refusal(1200.0, 50.0).unwrap(),
            "it would take about 20 min, and 10 s are left of the time budget"
        );
        for elapsed_s in [60.0, 61.0] {
            let reason = refusal(0.0, elapsed_s).unwrap();
            assert_eq!(reason, "the time budget is used up");
        }
    }

    #[test]
    fn estimates_are_corrected_by_parts_of_their_own_kind_and_within_bounds() {
        let mut budget = Budget::new(100.0);
        budget.note(Kind::Products, 4.0, 10.0);
        budget.note(Kind::Products, 6.0, 10.0);
        let fits =
            |budget: &Budget, kind, estimate_s| budget.refusal(kind, estimate_s, 0.0).is_none();
        assert!(fits(&budget, Kind::Products, 50.0));
        assert!(!fits(&budget, Kind::Products, 51.0));
        assert!(fits(&budget, Kind::Training, 100.0));
        budget.note(Kind::Training, 20.0, 1.0);
        assert!(fits(&budget, Kind::Training, 200.0));
        assert!(!fits(&budget, Kind::Training, 201.0));
        budget.note(Kind::Generation, 1.0, 1e9);
        assert!(fits(&budget, Kind::Generation, 10.0));
    }
}
