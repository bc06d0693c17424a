//! Single ops over arrays in the host's memory: what is pushed to the plan runs once, and results come back.

use super::tensor::BLOCK_LEN;
use super::{Device, Executable, GpuError, Memory, Plan, SectionId, Tensor};

/// A plan of one section with inputs from the host.
///
/// Kernels are pushed to `plan` as to any other; every tensor has memory of its own, so any of them can be
/// read afterwards.
pub struct HostRun {
    /// What kernels are pushed to.
    pub plan: Plan,
    section: SectionId,
    inputs: Vec<(Tensor, Vec<u32>)>,
}

impl HostRun {
    /// A run without inputs, for adapters like `device`.
    pub fn new(device: &Device) -> Self {
        let mut plan = Plan::new(device.target());
        plan.isolate_scratch();
        let section = plan.section();
        Self {
            plan,
            section,
            inputs: Vec::new(),
        }
    }

    /// An input `[rows, cols]` of words: ids, or the bits of numbers.
    ///
    /// # Panics
    /// If there are more or fewer than that: a bug of the caller.
    pub fn words(&mut self, rows: usize, cols: usize, words: Vec<u32>) -> Tensor {
        assert_eq!(words.len(), rows * cols, "words of a {rows}x{cols} input");
        let tensor = self.plan.scratch("input", rows, cols);
        self.inputs.push((tensor, words));
        tensor
    }

    /// An input `[rows, cols]` of numbers.
    ///
    /// # Panics
    /// As [`HostRun::words`].
    pub fn floats(&mut self, rows: usize, cols: usize, values: &[f32]) -> Tensor {
        self.words(rows, cols, values.iter().map(|v| v.to_bits()).collect())
    }

    /// An input `[rows, cols]` of halves, given by their bits.
    ///
    /// # Panics
    /// As [`HostRun::words`].
    pub fn halves(&mut self, rows: usize, cols: usize, bits: &[u16]) -> Tensor {
        assert_eq!(bits.len(), rows * cols, "halves of a {rows}x{cols} input");
        let tensor = self.plan.scratch_halves("input", rows, cols);
        let mut words = vec![0; tensor.span()];
        for (i, &bits) in bits.iter().enumerate() {
            let (word, shift) = place_of_half(tensor, i);
            words[word] |= u32::from(bits) << shift;
        }
        self.inputs.push((tensor, words));
        tensor
    }

    /// An input `[rows, cols]` of blocks of `q8_0`: bytes, and the bits of a half a block, which scales them.
    ///
    /// # Panics
    /// As [`HostRun::words`], or if rows are no whole blocks.
    pub fn q8_0(&mut self, rows: usize, cols: usize, quants: &[i8], scales: &[u16]) -> Tensor {
        let blocks = rows * cols / BLOCK_LEN;
        let found = (quants.len(), scales.len());
        assert_eq!(
            found,
            (rows * cols, blocks),
            "blocks of a {rows}x{cols} input"
        );
        let mut bytes: Vec<u8> = quants.iter().map(|quant| quant.cast_unsigned()).collect();
        bytes.extend(scales.iter().flat_map(|scale| scale.to_le_bytes()));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let (words, _) = bytes.as_chunks::<4>();
        let words: Vec<u32> = words.iter().map(|&four| u32::from_le_bytes(four)).collect();
        let tensor = self.plan.scratch("input", 1, words.len());
        let tensor = tensor.as_q8_0(rows, cols);
        self.inputs.push((tensor, words));
        tensor
    }

    /// Runs everything that was pushed, and gives the elements of each of `outputs`: words, or the bits of halves.
    ///
    /// # Errors
    /// When a tensor is over a limit of the device, or the device fails.
    ///
    /// # Panics
    /// If nothing binds one of `outputs`: a bug of the caller.
    pub fn run(self, device: &Device, outputs: &[Tensor]) -> Result<Vec<Vec<u32>>, GpuError> {
        let buffers = Memory::default().allocate(device)?;
        let executable = Executable::compile(&self.plan, device, &buffers)?;
        // A kernel's variant may leave an input aside.
        for (tensor, words) in self.inputs.iter().filter(|(t, _)| executable.binds(*t)) {
            executable.write_scratch(device, *tensor, words);
        }
        executable.run(device, self.section)?;
        let read = |&tensor: &Tensor| -> Result<Vec<u32>, GpuError> {
            let words: Vec<u32> = executable.read_scratch(device, tensor)?;
            if !tensor.is_halves() {
                return Ok(words);
            }
            let half = |i| {
                let (word, shift) = place_of_half(tensor, i);
                words[word] >> shift & 0xffff
            };
            Ok((0..tensor.len()).map(half).collect())
        };
        outputs.iter().map(read).collect()
    }
}

/// The word of a tensor of halves that holds element `i`, and the element's first bit in it.
fn place_of_half(tensor: Tensor, i: usize) -> (usize, usize) {
    let at = i / tensor.cols * tensor.row_stride + i % tensor.cols;
    (at / 2, 16 * (at % 2))
}
