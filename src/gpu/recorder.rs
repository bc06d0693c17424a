//! Records replays of a plan, and submits them in pieces that no driver's watchdog minds.

use super::memory::{Buffers, PersistentId};
use super::plan::SectionId;
use super::profile::Profile;
use super::step::{Step, record_steps};
use super::{Device, Executable};

/// Records replays and copies, and submits them in pieces that fit the device's budget.
pub struct Recorder<'a> {
    executable: &'a Executable,
    device: &'a Device,
    pub(super) encoder: wgpu::CommandEncoder,
    /// Work recorded since the last submission.
    recorded: u64,
    pub(super) profile: Option<Profile>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(
        executable: &'a Executable,
        device: &'a Device,
        profile: Option<Profile>,
    ) -> Self {
        Self {
            executable,
            device,
            encoder: new_encoder(device),
            recorded: 0,
            profile,
        }
    }

    /// Records every dispatch of a section.
    pub fn replay(&mut self, section: SectionId) {
        let budget = self.device.work_per_submission();
        let steps = &self.executable.steps[self.executable.sections[section.0].clone()];
        let mut rest = steps;
        while !rest.is_empty() {
            let work = rest.iter().map(|step| step.work);
            let fitting = fitting(work, budget, &mut self.recorded);
            let (now, later) = rest.split_at(fitting);
            self.record(now);
            if !later.is_empty() {
                self.flush();
            }
            rest = later;
        }
    }

    fn record(&mut self, steps: &[Step]) {
        if let Some(profile) = &mut self.profile {
            for step in steps {
                profile.record(self.device, &mut self.encoder, step);
            }
            return;
        }
        let steps: Vec<&Step> = steps.iter().collect();
        record_steps(&mut self.encoder, "section", &steps, None);
    }

    pub(super) fn flush(&mut self) -> wgpu::SubmissionIndex {
        let full = std::mem::replace(&mut self.encoder, new_encoder(self.device));
        self.recorded = 0;
        self.device.submit(full.finish())
    }

    /// Records a copy of `words` words between persistent buffers.
    pub fn copy(
        &mut self,
        buffers: &Buffers,
        from: (PersistentId, usize),
        to: (PersistentId, usize),
        words: usize,
    ) {
        self.encoder.copy_buffer_to_buffer(
            buffers.get(from.0),
            from.1 as u64 * 4,
            buffers.get(to.0),
            to.1 as u64 * 4,
            words as u64 * 4,
        );
    }
}

fn new_encoder(device: &Device) -> wgpu::CommandEncoder {
    let descriptor = wgpu::CommandEncoderDescriptor {
        label: Some("plan"),
    };
    device.raw.create_command_encoder(&descriptor)
}

/// How many of the next dispatches go into a submission that already holds `recorded` work; a
/// dispatch over the whole budget goes alone.
fn fitting(work: impl Iterator<Item = u64>, budget: u64, recorded: &mut u64) -> usize {
    let mut count = 0;
    for work in work {
        let after = recorded.saturating_add(work);
        if *recorded > 0 && after > budget {
            break;
        }
        *recorded = after.max(1);
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::fitting;

    #[test]
    fn submissions_keep_to_their_budget_and_take_every_dispatch() {
        let work = [3, 4, 5, 100, 0, 9];
        let (mut at, mut recorded, mut pieces) = (0, 0, Vec::new());
        while at < work.len() {
            let count = fitting(work[at..].iter().copied(), 10, &mut recorded);
            pieces.push(work[at..at + count].to_vec());
            at += count;
            recorded = 0;
        }
        assert_eq!(pieces, [vec![3, 4], vec![5], vec![100], vec![0, 9]]);
    }

    #[test]
    fn a_full_submission_takes_nothing_more() {
        assert_eq!(fitting([1].into_iter(), 10, &mut 10), 0);
    }
}
