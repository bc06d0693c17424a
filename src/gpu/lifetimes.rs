//! Decides which scratch tensors share memory: those whose lifetimes do not overlap.

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

/// Lays out the scratch storages of `plan`: at each first use the smallest free buffer that is
/// large enough is taken, or else a new one is made.
///
/// # Panics
/// If a scratch storage is used in two sections, which may be replayed in any order.
pub(super) fn layout(plan: &Plan) -> Layout {
    let spans = lifetimes(plan);
    let mut layout = Layout {
        slots: vec![None; plan.storages.len()],
        ..Layout::default()
    };
    let mut busy_until: Vec<usize> = Vec::new();
    let mut texture_busy_until: Vec<usize> = Vec::new();
    let mut order: Vec<usize> = (0..spans.len()).filter(|&i| spans[i].is_some()).collect();
    order.sort_by_key(|&i| spans[i]);
    for index in order {
        let storage = &plan.storages[index];
        let Some((first, last)) = spans[index] else {
            continue;
        };
        match storage.kind {
            StorageKind::Persistent(_) => continue,
            StorageKind::Scratch { words } => {
                let free = (0..busy_until.len())
                    .filter(|_| plan.reuse)
                    .filter(|&slot| busy_until[slot] < first && layout.buffers[slot].1 >= words)
                    .min_by_key(|&slot| layout.buffers[slot].1);
                let slot = free.unwrap_or_else(|| {
                    layout.buffers.push((storage.label.clone(), words));
                    busy_until.push(0);
                    busy_until.len() - 1
                });
                busy_until[slot] = last;
                layout.slots[index] = Some(slot);
            }
            StorageKind::Texture { width, height } => {
                // Kernels read no texel but of the matrix that was staged and of its padding.
                let area = |slot: usize| {
                    let (_, w, h) = layout.textures[slot];
                    u64::from(w) * u64::from(h)
                };
                let free = (0..texture_busy_until.len())
                    .filter(|_| plan.reuse)
                    .filter(|&slot| {
                        let (_, w, h) = layout.textures[slot];
                        texture_busy_until[slot] < first && w >= width && h >= height
                    })
                    .min_by_key(|&slot| area(slot));
                let slot = free.unwrap_or_else(|| {
                    layout.textures.push((storage.label.clone(), width, height));
                    texture_busy_until.push(0);
                    texture_busy_until.len() - 1
                });
                texture_busy_until[slot] = last;
                layout.slots[index] = Some(slot);
            }
        }
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
    layout
}
