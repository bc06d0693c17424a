//! Sums over a leading axis: the last stage of split reductions.

use super::{FLAT_LANES, binding, by_width};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::{PORTABLE, QUADS};
use crate::gpu::{AdapterClass, Dispatch, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(SumParams {
    partials: u32,
    len: u32
});

/// Adds partial results in a fixed order.
pub static PARTIALS: Kernel = Kernel {
    name: "sum_partials",
    variant: PORTABLE,
    source: shader!("sum_partials.wgsl"),
    bindings: &[
        binding("partials", Role::In),
        binding("output", Role::OutOrAccumulate),
    ],
    params: SumParams::LAYOUT,
    requires: &[],
};

/// [`PARTIALS`] for rows of whole quads.
pub static PARTIALS_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..PARTIALS
};

params!(SeveralParams {
    end0: u32,
    end1: u32,
    end2: u32,
    end3: u32,
    end4: u32,
    end5: u32,
    count0: u32,
    count1: u32,
    count2: u32,
    count3: u32,
    count4: u32,
    count5: u32,
    first0: u32,
    first1: u32,
    first2: u32,
    first3: u32,
    first4: u32,
    first5: u32,
});

/// Matrices that one launch of [`SEVERAL`] takes.
const MOST: usize = 6;

/// [`PARTIALS_QUADS`] for several matrices, whose sums go to places of one buffer.
pub static SEVERAL: Kernel = Kernel {
    name: "sum_several",
    variant: PORTABLE,
    source: shader!("sum_several.wgsl"),
    bindings: &[
        binding("partials0", Role::In),
        binding("partials1", Role::In),
        binding("partials2", Role::In),
        binding("partials3", Role::In),
        binding("partials4", Role::In),
        binding("partials5", Role::In),
        binding("output", Role::OutOrAccumulate),
    ],
    params: SeveralParams::LAYOUT,
    requires: &[],
};

/// Sums of partial results that nothing waits for: a GPU gets several of them as one launch.
#[derive(Debug, Default)]
pub struct Sums {
    pending: Vec<Partials>,
}

/// Partial results and where their sum goes.
#[derive(Clone, Copy, Debug)]
pub struct Partials {
    /// `[count, len]`.
    pub partials: Tensor,
    /// Of `len` elements.
    pub output: Tensor,
    /// Whether the sum is added to what is there.
    pub accumulate: bool,
}

impl Sums {
    /// [`sum_partials`], now or by the next [`Sums::flush`].
    ///
    /// # Panics
    /// If the shapes do not fit: a bug of the caller.
    pub fn add(&mut self, plan: &mut Plan, partials: Tensor, output: Tensor, accumulate: bool) {
        assert_eq!(
            partials.cols,
            output.len(),
            "a partial result fills the output"
        );
        // Drivers that run shaders on the CPU take all six ways of each lane, and wait for nothing.
        let is_alone = plan.class() == AdapterClass::Software || !output.len().is_multiple_of(4);
        if is_alone {
            return sum_partials(plan, partials, output, accumulate);
        }
        let goes_along = self
            .pending
            .iter()
            .all(|other| other.accumulate == accumulate && other.output.storage == output.storage);
        let [first, end] = range(&self.pending, output);
        let fits = end - first <= plan.target().max_binding_words;
        if self.pending.len() == MOST || !goes_along || !fits {
            self.flush(plan);
        }
        self.pending.push(Partials {
            partials,
            output,
            accumulate,
        });
    }

    /// Pushes what is left to add up.
    pub fn flush(&mut self, plan: &mut Plan) {
        let pending = std::mem::take(&mut self.pending);
        match pending[..] {
            [] => {}
            [
                Partials {
                    partials,
                    output,
                    accumulate,
                },
            ] => sum_partials(plan, partials, output, accumulate),
            _ => sum_several(plan, &pending),
        }
    }
}

/// First word and end of all outputs and another one.
fn range(sums: &[Partials], output: Tensor) -> [usize; 2] {
    let outputs = sums.iter().map(|sum| sum.output);
    outputs.fold([output.offset, output.offset + output.len()], |range, o| {
        [range[0].min(o.offset), range[1].max(o.offset + o.len())]
    })
}

/// [`sum_partials`] of up to six matrices in one launch. Outputs are of whole quads in one buffer, and all or
/// none are added to.
///
/// # Panics
/// If they are not, or there is none: a bug of the caller.
pub fn sum_several(plan: &mut Plan, sums: &[Partials]) {
    let Partials {
        output, accumulate, ..
    } = sums[0];
    for sum in sums {
        let is_alike = (sum.accumulate, sum.output.storage) == (accumulate, output.storage);
        assert!(is_alike && sum.output.len().is_multiple_of(4), "{sums:?}");
    }
    assert!(sums.len() <= MOST, "{sums:?}");
    let [start, end] = range(sums, output);
    let output = Tensor {
        offset: start,
        ..Tensor::dense(output.storage, 1, end - start)
    };
    let mut ends = [0; MOST];
    let mut counts = [0; MOST];
    let mut firsts = [0; MOST];
    let mut partials = [sums[0].partials; MOST];
    let mut quads = 0;
    for place in 0..MOST {
        if let Some(own) = sums.get(place) {
            quads += own.output.len() / 4;
            counts[place] = word(own.partials.rows);
            firsts[place] = word((own.output.offset - start) / 4);
            partials[place] = own.partials;
        }
        ends[place] = word(quads);
    }
    let params = SeveralParams {
        end0: ends[0],
        end1: ends[1],
        end2: ends[2],
        end3: ends[3],
        end4: ends[4],
        end5: ends[5],
        count0: counts[0],
        count1: counts[1],
        count2: counts[2],
        count3: counts[3],
        count4: counts[4],
        count5: counts[5],
        first0: firsts[0],
        first1: firsts[1],
        first2: firsts[2],
        first3: firsts[3],
        first4: firsts[4],
        first5: firsts[5],
    };
    let [p0, p1, p2, p3, p4, p5] = partials;
    let bindings = [p0, p1, p2, p3, p4, p5, output].map(Tensor::into);
    plan.push(
        Dispatch::new(&SEVERAL, params, bindings)
            .constant("ACCUMULATE", accumulate.into())
            .workgroups(flat_workgroups(quads, FLAT_LANES))
            .flops(sums.iter().map(|own| own.partials.len()).sum()),
    );
}

/// Sums `partials` `[count, len]` over its rows into `output`, of `len` elements; overwrites it
/// unless `accumulate`.
///
/// # Panics
/// If the shapes do not fit: a bug of the caller.
pub fn sum_partials(plan: &mut Plan, partials: Tensor, output: Tensor, accumulate: bool) {
    assert_eq!(
        partials.cols,
        output.len(),
        "one partial result fills the output"
    );
    let (kernel, width) = by_width(output.len(), &PARTIALS, &PARTIALS_QUADS);
    let params = SumParams {
        partials: word(partials.rows),
        len: word(output.len() / width),
    };
    plan.push(
        Dispatch::new(kernel, params, [partials.into(), output.into()])
            .constant("ACCUMULATE", accumulate.into())
            .workgroups(flat_workgroups(output.len() / width, FLAT_LANES))
            .flops(partials.len()),
    );
}
