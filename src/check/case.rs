//! One run of a row: inputs from a fixed seed, the plan, and what the reference expects.

use std::collections::BTreeSet;

use half::f16;
use serde_json::{Value, json};

use super::Outcome;
use crate::gpu::dispatch::Bound;
use crate::gpu::tensor::BLOCK_LEN;
use crate::gpu::{Device, Elements, Executable, GpuError, Plan, Tensor, Texture};
use crate::random::{Philox, Stream};
use crate::reference;

/// A tensor on the device and the same numbers for the reference.
#[derive(Clone, Debug)]
pub struct Data {
    /// Its place in the plan.
    pub tensor: Tensor,
    /// Its values, exactly representable in f32.
    pub values: Vec<f64>,
}

/// Builds the plan of a row and keeps what it should give.
pub struct Case {
    /// The plan that typed kernel functions push to.
    pub plan: Plan,
    inputs: Vec<(Tensor, Vec<u32>)>,
    expected: Vec<Expected>,
    random: Philox,
    drawn: u64,
}

struct Expected {
    name: &'static str,
    bound: Bound,
    want: Want,
    tolerance: f64,
    /// What each element may be off beside that; nothing where there is none.
    slack: Vec<f64>,
}

enum Want {
    Floats(Vec<f64>),
    Words(Vec<u32>),
}

/// Relative error that f32 kernels are held to where a row gives no other, with a reason.
pub(in crate::check) const TOLERANCE: f64 = 1e-5;

impl Case {
    pub(crate) fn new(plan: Plan) -> Self {
        let random = Philox::new(0x6b65_726e, Stream::Init);
        Self {
            plan,
            inputs: Vec::new(),
            expected: Vec::new(),
            random,
            drawn: 0,
        }
    }

    /// An input of normally distributed values times `scale`.
    #[allow(clippy::cast_possible_truncation, reason = "inputs are f32")]
    pub fn random(&mut self, rows: usize, cols: usize, scale: f64) -> Data {
        let values = (0..rows * cols)
            .map(|_| {
                self.drawn += 1;
                f64::from((self.random.truncated_normal(self.drawn, 4.0) * scale) as f32)
            })
            .collect();
        self.floats(rows, cols, values)
    }

    /// An input of such values: f32, or halves where `elements` says so.
    pub fn random_of(&mut self, elements: Elements, rows: usize, cols: usize, scale: f64) -> Data {
        match elements {
            Elements::Words => self.random(rows, cols, scale),
            Elements::Halves => self.random_halves(rows, cols, scale),
        }
    }

    /// An input of such values, rounded to halves.
    pub fn random_halves(&mut self, rows: usize, cols: usize, scale: f64) -> Data {
        let drawn = (0..rows * cols).map(|_| {
            self.drawn += 1;
            f16::from_f64(self.random.truncated_normal(self.drawn, 4.0) * scale)
        });
        let halves: Vec<f16> = drawn.collect();
        self.halves(rows, cols, &halves)
    }

    /// An input of given halves.
    pub fn halves(&mut self, rows: usize, cols: usize, halves: &[f16]) -> Data {
        let tensor = self.plan.scratch_halves("input", rows, cols);
        // What is in the gap behind a row has to stay out of every result.
        let mut packed = vec![0x7e00_7e00; tensor.span()];
        for (i, half) in halves.iter().enumerate() {
            let at = i / cols * tensor.row_stride + i % cols;
            let shift = 16 * (at % 2);
            packed[at / 2] &= !(0xffff << shift);
            packed[at / 2] |= u32::from(half.to_bits()) << shift;
        }
        self.inputs.push((tensor, packed));
        let values = halves.iter().map(|half| half.to_f64()).collect();
        Data { tensor, values }
    }

    /// An input `[rows, cols]` of random blocks of `q8_0`, whose values are below 128 times `scale`.
    pub fn random_q8_0(&mut self, rows: usize, cols: usize, scale: f64) -> Data {
        let blocks = rows * cols / BLOCK_LEN;
        let quants: Vec<u8> = (0..rows * cols)
            .map(|_| self.below(256).to_le_bytes()[0])
            .collect();
        let scales: Vec<f16> = (0..blocks)
            .map(|block| match block % 5 {
                // One that an adapter may read as zero where it unpacks halves, and one of a block of zeros.
                3 => f16::from_bits(0x155),
                4 => f16::ZERO,
                _ => f16::from_f64(f64::from(self.below(1 << 16)) / 65536.0 * scale),
            })
            .collect();
        let signed: Vec<i8> = quants.iter().map(|&q| i8::from_le_bytes([q])).collect();
        let wide: Vec<f64> = scales.iter().map(|scale| scale.to_f64()).collect();
        let values = reference::dequantize::dequantize(&signed, &wide);
        let mut bytes = quants;
        bytes.extend(scales.iter().flat_map(|scale| scale.to_le_bytes()));
        bytes.resize(bytes.len().next_multiple_of(4), 0xff);
        let words = bytes.as_chunks::<4>().0.iter();
        let words: Vec<u32> = words.map(|four| u32::from_le_bytes(*four)).collect();
        let tensor = self.words(&words);
        let tensor = tensor.as_q8_0(rows, cols);
        if let Some((input, _)) = self.inputs.last_mut() {
            *input = tensor;
        }
        Data { tensor, values }
    }

    /// An input of given values, rounded to f32 on the device.
    #[allow(clippy::cast_possible_truncation, reason = "inputs are f32")]
    pub fn floats(&mut self, rows: usize, cols: usize, values: Vec<f64>) -> Data {
        let tensor = self.plan.scratch("input", rows, cols);
        let bits = values.iter().map(|&v| (v as f32).to_bits()).collect();
        self.inputs.push((tensor, bits));
        Data { tensor, values }
    }

    /// An input of words, as a vector.
    pub fn words(&mut self, words: &[u32]) -> Tensor {
        let tensor = self.plan.scratch("input", 1, words.len());
        self.inputs.push((tensor, words.to_vec()));
        tensor
    }

    /// A uniform number in `0..n`.
    ///
    /// # Panics
    /// If `n` is zero or over `u32`.
    pub fn below(&mut self, n: usize) -> u32 {
        self.drawn += 1;
        let drawn = self.random.below(self.drawn, n as u64);
        u32::try_from(drawn).expect("n is small")
    }

    /// A number of a standard normal distribution, cut at 4.
    pub fn normal(&mut self) -> f64 {
        self.drawn += 1;
        self.random.truncated_normal(self.drawn, 4.0)
    }

    /// Expects `want` in `tensor`, within the usual tolerance of f32 kernels.
    pub fn expect(&mut self, name: &'static str, tensor: Tensor, want: Vec<f64>) {
        self.expect_within(name, tensor, want, TOLERANCE);
    }

    /// Expects `want` in `tensor` with `|err| <= tolerance * (|want| + rms(want))`.
    ///
    /// # Panics
    /// If the reference has another number of elements.
    pub fn expect_within(
        &mut self,
        name: &'static str,
        tensor: Tensor,
        want: Vec<f64>,
        tolerance: f64,
    ) {
        self.expect_with_slack(name, tensor, (want, Vec::new()), tolerance);
    }

    /// Expects `want` as [`Case::expect_within`] does, with so much more of an error for each element, if there is
    /// any for them.
    ///
    /// # Panics
    /// If the reference has another number of elements.
    pub fn expect_with_slack(
        &mut self,
        name: &'static str,
        tensor: Tensor,
        (want, slack): (Vec<f64>, Vec<f64>),
        tolerance: f64,
    ) {
        assert_eq!(
            tensor.len(),
            want.len(),
            "{name}: the reference has another shape"
        );
        assert!(slack.is_empty() || slack.len() == want.len(), "{name}");
        self.expected.push(Expected {
            name,
            bound: tensor.into(),
            want: Want::Floats(want),
            tolerance,
            slack,
        });
    }

    /// Expects `want` without any error.
    pub fn expect_exactly(&mut self, name: &'static str, tensor: Tensor, want: &[f64]) {
        self.expect_within(name, tensor, want.to_vec(), 0.0);
    }

    /// Expects `want` rounded to halves in a tensor of them, within half of the spacing of halves, 2^-11 of
    /// a value, beside the usual tolerance before it is rounded.
    pub fn expect_halves(&mut self, name: &'static str, tensor: Tensor, want: Vec<f64>) {
        self.expect_within(name, tensor, want, 1.0 / 2048.0 + TOLERANCE);
    }

    /// Expects `want` in all of a texture, padding included.
    ///
    /// # Panics
    /// If the sizes differ: a bug of the row.
    pub fn expect_texture(&mut self, name: &'static str, texture: Texture, want: Vec<f64>) {
        assert_eq!(
            texture.rows * texture.cols,
            want.len(),
            "{name}: the reference has another shape"
        );
        let want = Want::Floats(want);
        self.expected.push(Expected {
            name,
            bound: texture.into(),
            want,
            tolerance: TOLERANCE,
            slack: Vec::new(),
        });
    }

    /// Expects exactly these words.
    ///
    /// # Panics
    /// If the reference has another number of elements.
    pub fn expect_words(&mut self, name: &'static str, tensor: Tensor, want: Vec<u32>) {
        assert_eq!(
            tensor.len(),
            want.len(),
            "{name}: the reference has another shape"
        );
        self.expected.push(Expected {
            name,
            bound: tensor.into(),
            want: Want::Words(want),
            tolerance: 0.0,
            slack: Vec::new(),
        });
    }

    /// Fills the tensors that the reference knows with NaN, so that a missing write shows.
    pub(crate) fn poison_outputs(&self, device: &Device, executable: &Executable) {
        for expected in &self.expected {
            if let Bound::Tensor(tensor) = expected.bound {
                let len = tensor.len().max(tensor.span());
                executable.write_scratch(device, tensor, &vec![f32::NAN; len]);
            }
        }
    }

    pub(crate) fn upload(&self, device: &Device, executable: &Executable) {
        // A shape that takes another way may leave an input aside.
        for (tensor, words) in self.inputs.iter().filter(|(t, _)| executable.binds(*t)) {
            executable.write_scratch(device, *tensor, words);
        }
    }

    pub(crate) fn download(
        &self,
        device: &Device,
        executable: &Executable,
    ) -> Result<Vec<Vec<u32>>, GpuError> {
        let read = |expected: &Expected| {
            let words = executable.read_bound(device, expected.bound)?;
            Ok(match expected.bound {
                Bound::Tensor(tensor) if tensor.is_halves() => widened(tensor, &words),
                _ => words,
            })
        };
        self.expected.iter().map(read).collect()
    }

    /// Whether the reference says what it should give.
    pub(crate) fn has_reference(&self) -> bool {
        !self.expected.is_empty()
    }

    /// The words that each input holds before the run.
    pub(super) fn inputs_to_json(&self) -> Value {
        let input = |(tensor, words): &(Tensor, Vec<u32>)| json!({ "bound": Bound::Tensor(*tensor).to_json(), "words": words });
        self.inputs.iter().map(input).collect()
    }

    /// What the reference expects, for the comparison that `compare` makes.
    pub(super) fn expected_to_json(&self) -> Value {
        let expected = |e: &Expected| {
            let (kind, want) = match &e.want {
                Want::Floats(want) => ("floats", want.iter().map(|&v| to_json(v)).collect()),
                Want::Words(want) => ("words", json!(want)),
            };
            json!({
                "name": e.name,
                "bound": e.bound.to_json(),
                kind: want,
                "tolerance": e.tolerance,
            })
        };
        self.expected.iter().map(expected).collect()
    }

    pub(crate) fn compare(&self, got: &[Vec<u32>]) -> Outcome {
        assert!(!self.expected.is_empty(), "a row expects something");
        let mut outcome = Outcome {
            worst: 0.0,
            tolerance: TOLERANCE,
            failure: None,
            kernels: BTreeSet::new(),
        };
        for (expected, got) in self.expected.iter().zip(got) {
            match &expected.want {
                Want::Floats(want) => compare_floats(expected, want, got, &mut outcome),
                Want::Words(want) => {
                    let wrong = (0..want.len()).find(|&i| want[i] != got[i]);
                    if let Some(i) = wrong {
                        outcome.failure.get_or_insert(format!(
                            "{}[{i}] is {} where the reference has {}",
                            expected.name, got[i], want[i]
                        ));
                    }
                }
            }
        }
        outcome
    }
}

/// A number, or the name that JavaScript has for an infinity: JSON has none.
fn to_json(value: f64) -> Value {
    match value {
        f64::INFINITY => json!("Infinity"),
        f64::NEG_INFINITY => json!("-Infinity"),
        value => json!(value),
    }
}

/// The elements of a tensor of halves as the bits of f32, from its words.
fn widened(tensor: Tensor, words: &[u32]) -> Vec<u32> {
    let element = |i: usize| {
        let at = i / tensor.cols * tensor.row_stride + i % tensor.cols;
        let bits = words[at / 2] >> (16 * (at % 2)) & 0xffff;
        let half = f16::from_bits(u16::try_from(bits).unwrap_or_default());
        half.to_f32().to_bits()
    };
    (0..tensor.len()).map(element).collect()
}

fn compare_floats(expected: &Expected, want: &[f64], got: &[u32], outcome: &mut Outcome) {
    // What a filter masks is the most negative float and no scale for the rest.
    let counted: Vec<f64> = want
        .iter()
        .copied()
        .filter(|&w| w > f64::from(f32::MIN))
        .collect();
    let squares = counted.iter().map(|w| w * w).sum::<f64>();
    let rms = (squares / counted.len().max(1) as f64).sqrt();
    for (i, (&want, &bits)) in want.iter().zip(got).enumerate() {
        let got = f64::from(f32::from_bits(bits));
        let error = (got - want).abs();
        let scale = want.abs() + rms;
        // Exact zeros and infinities have no scale; a NaN fails every comparison.
        let slack = expected.slack.get(i).copied().unwrap_or(0.0);
        let within = got == want || error <= expected.tolerance * scale + slack;
        let relative = if got == want {
            0.0
        } else {
            (error - slack) / scale
        };
        if relative > outcome.worst {
            outcome.worst = relative;
            outcome.tolerance = expected.tolerance;
        }
        if !within {
            outcome.failure.get_or_insert(format!(
                "{}[{i}] is {got:e} where the reference has {want:e} (tolerance {:e}, and {slack:e} beside it)",
                expected.name, expected.tolerance
            ));
        }
    }
}
