//! What a shader's hot loop consists of, read from the compiler's assembly.

use std::collections::HashMap;

/// Instructions of the hot loop: the one with the most multiply-adds among loops without a loop
/// inside, where a shader spends its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HotLoop {
    /// Multiply-adds.
    pub(crate) multiply_adds: u64,
    /// Accesses of workgroup memory.
    pub(crate) workgroup: u64,
    /// All other vector instructions, and accesses of global and scratch memory.
    pub(crate) others: u64,
}

impl HotLoop {
    /// Finds it in `assembly`, where a line is an instruction or, with a colon behind it, a label.
    pub(crate) fn find(assembly: &str) -> Self {
        let mut labels = HashMap::new();
        // Instructions so far, and where the last loop that was closed begins.
        let mut instructions: Vec<&str> = Vec::new();
        let mut inner_start = None;
        let mut hottest = Self::default();
        for line in assembly.lines().map(str::trim) {
            if let Some(label) = line.strip_suffix(':') {
                labels.insert(label, instructions.len());
                continue;
            }
            let mut words = line.split_whitespace();
            let Some(name) = words.next() else { continue };
            instructions.push(name);
            // A branch to where the reader has been closes a loop.
            let target = words.next().and_then(|target| labels.get(target)).copied();
            let Some(start) = target.filter(|_| name.contains("branch")) else {
                continue;
            };
            let holds_another = inner_start.is_some_and(|inner| inner >= start);
            inner_start = Some(start);
            let found = Self::count(&instructions[start..]);
            if !holds_another && found.multiply_adds > hottest.multiply_adds {
                hottest = found;
            }
        }
        hottest
    }

    fn count(instructions: &[&str]) -> Self {
        let mut counts = Self::default();
        for name in instructions {
            let starts = |prefixes: &[&str]| prefixes.iter().any(|p| name.starts_with(p));
            // The names of Polaris to RDNA3 for fused and unfused multiply-adds of floats.
            if starts(&[
                "v_fma",
                "v_mac",
                "v_mad_f",
                "v_mad_legacy",
                "v_pk_fma",
                "v_dual_fma",
            ]) {
                counts.multiply_adds += 1;
            } else if starts(&["ds_"]) {
                counts.workgroup += 1;
            } else if starts(&["v_", "buffer_", "global_", "flat_", "image_", "scratch_"]) {
                counts.others += 1;
            }
        }
        counts
    }

    /// Multiply-adds in a hundred vector and memory instructions, rounded down.
    pub(crate) fn share_percent(&self) -> u64 {
        let all = self.multiply_adds + self.workgroup + self.others;
        100 * self.multiply_adds / all.max(1)
    }

    /// Multiply-adds in ten accesses of workgroup memory, rounded down.
    pub(crate) fn per_ten_accesses(&self) -> u64 {
        10 * self.multiply_adds / self.workgroup.max(1)
    }
}
