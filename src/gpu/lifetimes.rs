//! Decides which scratch tensors share memory: those whose lifetimes do not overlap.

use super::dispatch::word;
use super::plan::{Plan, StorageKind};

/// Where each storage of a plan lies.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// For each storage its buffer or texture; `None` where it is persistent or never bound.
    pub(super) slots: Vec<Option<usize>>,
    /// Label and words of each buffer.
    pub(super) buffers: Vec<(String, usize)>,
    /// Label, width and height of each texture.
    pub(super) textures: Vec<(String, u32, u32)>,
}

impl Layout {
    pub(super) fn total_bytes(&self) -> u64 {
        let buffers: u64 = self
            .buffers
            .iter()
            .map(|(_, words)| *words as u64 * 4)
            .sum();
        let textures: u64 = self
            .textures
            .iter()
            .map(|(_, w, h)| u64::from(*w) * u64::from(*h) * 16)
            .sum();
        buffers + textures
    }
}

/// First and last dispatch that binds each storage.
fn lifetimes(plan: &Plan) -> Vec<Option<(usize, usize)>> {
    let mut spans: Vec<Option<(usize, usize)>> = vec![None; plan.storages.len()];
    for (index, dispatch) in plan.dispatches.iter().enumerate() {
        for bound in &dispatch.bindings {
            let span = &mut spans[bound.storage().0 as usize];
            *span = Some((span.map_or(index, |(first, _)| first), index));
        }
    }
    spans
}

/// A buffer (of a height of one) or texture in the making.
struct Slot {
    label: String,
    width: usize,
    height: usize,
    busy_until: usize,
}

impl Slot {
    fn area(&self) -> usize {
        self.width * self.height
    }

    /// By how much it becomes larger if it has to hold `other` too.
    fn growth(&self, other: &Self) -> usize {
        self.width.max(other.width) * self.height.max(other.height) - self.area()
    }
}

/// Puts a storage that is used from `first` on into the smallest free slot that holds it, or else
/// into the free one that has to grow least, unless a slot of its own takes less.
fn place(slots: &mut Vec<Slot>, wanted: Slot, first: usize, reuse: bool) -> usize {
    let free = (0..slots.len())
        .filter(|&at| reuse && slots[at].busy_until < first)
        .filter(|&at| slots[at].growth(&wanted) < wanted.area())
        .min_by_key(|&at| (slots[at].growth(&wanted), slots[at].area()));
    let Some(at) = free else {
        slots.push(wanted);
        return slots.len() - 1;
    };
    let slot = &mut slots[at];
    slot.width = slot.width.max(wanted.width);
    slot.height = slot.height.max(wanted.height);
    slot.busy_until = wanted.busy_until;
    at
}

/// Lays out the scratch storages of `plan`, in the order of their first use.
///
/// # Panics
/// If a scratch storage is used in two sections, which may be replayed in any order.
pub(super) fn layout(plan: &Plan) -> Layout {
    let spans = lifetimes(plan);
    let mut slots = vec![None; plan.storages.len()];
    let (mut buffers, mut textures) = (Vec::new(), Vec::new());
    let mut order: Vec<usize> = (0..spans.len()).filter(|&i| spans[i].is_some()).collect();
    order.sort_by_key(|&i| spans[i]);
    for index in order {
        let storage = &plan.storages[index];
        let Some((first, last)) = spans[index] else {
            continue;
        };
        let (kind, width, height) = match storage.kind {
            StorageKind::Persistent(_) => continue,
            StorageKind::Scratch { words } => (&mut buffers, words, 1),
            // Kernels read no texel but of the matrix that was staged and of its padding.
            StorageKind::Texture { width, height } => {
                (&mut textures, width as usize, height as usize)
            }
        };
        let wanted = Slot {
            label: storage.label.clone(),
            width,
            height,
            busy_until: last,
        };
        slots[index] = Some(place(kind, wanted, first, plan.reuse));
        let crosses = plan
            .sections
            .iter()
            .any(|s| s.dispatches.contains(&first) != s.dispatches.contains(&last));
        assert!(
            !crosses,
            "scratch '{}' is used in two sections",
            storage.label
        );
    }
    let buffer = |slot: Slot| (slot.label, slot.width);
    let texture = |slot: Slot| (slot.label, word(slot.width), word(slot.height));
    Layout {
        slots,
        buffers: buffers.into_iter().map(buffer).collect(),
        textures: textures.into_iter().map(texture).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(width: usize, height: usize, busy_until: usize) -> Slot {
        Slot {
            label: String::new(),
            width,
            height,
            busy_until,
        }
    }

    /// Where a texture of `[width, height]` goes that is used from dispatch 5 on, and all sizes then.
    fn placed(known: &[(usize, usize, usize)], (width, height): (usize, usize)) -> (usize, usize) {
        let mut slots = known
            .iter()
            .map(|&(w, h, until)| slot(w, h, until))
            .collect();
        let at = place(&mut slots, slot(width, height, 9), 5, true);
        (at, slots.iter().map(Slot::area).sum())
    }

    #[test]
    fn a_storage_takes_the_smallest_free_slot_or_enlarges_the_one_that_grows_least() {
        for (known, wanted, at_and_area) in [
            (&[][..], (4, 4), (0, 16)),
            // One that is large enough, and not the larger one.
            (&[(9, 9, 1), (5, 5, 2)], (4, 4), (1, 106)),
            // One that is still in use when the storage is first written.
            (&[(4, 4, 5), (6, 6, 4)], (4, 4), (1, 52)),
            // Growing by 8 and by 12 words.
            (&[(2, 4, 1), (1, 4, 1)], (4, 4), (0, 20)),
            // Growing would take 56 texels in width and height, and a slot of its own 16.
            (&[(2, 8, 1)], (8, 2), (1, 32)),
        ] {
            assert_eq!(
                placed(known, wanted),
                at_and_area,
                "{wanted:?} in {known:?}"
            );
        }
    }

    #[test]
    fn without_reuse_every_storage_has_a_slot_of_its_own() {
        let mut slots = vec![slot(9, 9, 1)];
        assert_eq!(place(&mut slots, slot(4, 4, 9), 5, false), 1);
    }
}
