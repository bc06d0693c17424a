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
    /// First and last dispatch that binds each of its tenants.
    busy: Vec<(usize, usize)>,
}

impl Slot {
    /// Whether none of its tenants is in use while `other` would be.
    fn is_free_for(&self, other: &Self) -> bool {
        let apart = |&(first, last): &(usize, usize)| {
            let clash = |&(a, b): &(usize, usize)| first <= b && a <= last;
            !other.busy.iter().any(clash)
        };
        self.busy.iter().all(apart)
    }

    fn area(&self) -> usize {
        self.width * self.height
    }

    /// By how much it becomes larger if it has to hold `other` too.
    fn growth(&self, other: &Self) -> usize {
        self.width.max(other.width) * self.height.max(other.height) - self.area()
    }
}

/// Puts a storage into the smallest slot that is free for it and holds it, or else into the free one
/// that has to grow least, unless a slot of its own takes less.
fn place(slots: &mut Vec<Slot>, wanted: Slot, reuse: bool) -> usize {
    let free = (0..slots.len())
        .filter(|&at| reuse && slots[at].is_free_for(&wanted))
        .filter(|&at| slots[at].growth(&wanted) < wanted.area())
        .min_by_key(|&at| (slots[at].growth(&wanted), slots[at].area()));
    let Some(at) = free else {
        slots.push(wanted);
        return slots.len() - 1;
    };
    let slot = &mut slots[at];
    slot.width = slot.width.max(wanted.width);
    slot.height = slot.height.max(wanted.height);
    slot.busy.extend(wanted.busy);
    at
}

/// Lays out the scratch storages of `plan`: in the order of their first use or from the largest to
/// the smallest, whichever takes less memory.
///
/// # Panics
/// If a scratch storage is used in two sections, which may be replayed in any order.
pub(super) fn layout(plan: &Plan) -> Layout {
    let spans = lifetimes(plan);
    let mut order: Vec<usize> = (0..spans.len()).filter(|&i| spans[i].is_some()).collect();
    order.sort_by_key(|&i| spans[i]);
    let by_first_use = layout_in_order(plan, &spans, &order);
    order.sort_by_key(|&i| {
        let area = size(&plan.storages[i].kind).map_or(0, |(width, height)| width * height);
        std::cmp::Reverse(area)
    });
    let by_size = layout_in_order(plan, &spans, &order);
    if by_size.total_bytes() < by_first_use.total_bytes() {
        by_size
    } else {
        by_first_use
    }
}

/// Width and height of what backs a scratch storage; a buffer has a height of one.
fn size(kind: &StorageKind) -> Option<(usize, usize)> {
    match *kind {
        StorageKind::Persistent(_) | StorageKind::PersistentTexture { .. } => None,
        StorageKind::Scratch { words } => Some((words, 1)),
        // Kernels read no texel but of the matrix that was staged and of its padding.
        StorageKind::Texture { width, height } => Some((width as usize, height as usize)),
    }
}

fn layout_in_order(plan: &Plan, spans: &[Option<(usize, usize)>], order: &[usize]) -> Layout {
    let mut slots = vec![None; plan.storages.len()];
    let (mut buffers, mut textures) = (Vec::new(), Vec::new());
    for &index in order {
        let storage = &plan.storages[index];
        let (Some(span), Some((width, height))) = (spans[index], size(&storage.kind)) else {
            continue;
        };
        let kind = match storage.kind {
            StorageKind::Texture { .. } => &mut textures,
            _ => &mut buffers,
        };
        let wanted = Slot {
            label: storage.label.clone(),
            width,
            height,
            busy: vec![span],
        };
        slots[index] = Some(place(kind, wanted, plan.reuse));
        let crosses = plan
            .sections
            .iter()
            .any(|s| s.dispatches.contains(&span.0) != s.dispatches.contains(&span.1));
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

    fn slot(width: usize, height: usize, busy: (usize, usize)) -> Slot {
        Slot {
            label: String::new(),
            width,
            height,
            busy: vec![busy],
        }
    }

    /// Where a texture of `[width, height]` goes that is used by dispatches 5 to 9, and all sizes then.
    fn placed(known: &[(usize, usize, usize)], (width, height): (usize, usize)) -> (usize, usize) {
        let mut slots = known
            .iter()
            .map(|&(w, h, until)| slot(w, h, (until.saturating_sub(1), until)))
            .collect();
        let at = place(&mut slots, slot(width, height, (5, 9)), true);
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
            // One whose first use comes after the storage's last.
            (&[(4, 4, 11)], (4, 4), (0, 16)),
            (&[(4, 4, 10)], (4, 4), (1, 32)),
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
        let mut slots = vec![slot(9, 9, (0, 1))];
        assert_eq!(place(&mut slots, slot(4, 4, (5, 9)), false), 1);
    }
}
