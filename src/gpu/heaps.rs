//! How much memory an adapter has, where its backend says so.
#![allow(
    unsafe_code,
    reason = "wgpu does not give an adapter's memory, and Vulkan's own call is unsafe"
)]

use super::Device;

impl Device {
    /// Bytes of the adapter's own memory: the sum of Vulkan's heaps that are local to the device, which
    /// for adapters without memory of their own is a part of the host's. `None` on other backends.
    #[cfg(not(target_vendor = "apple"))]
    pub fn memory_bytes(&self) -> Option<u64> {
        use wgpu::hal::api::Vulkan;

        // DEVICE_LOCAL of VkMemoryHeapFlagBits.
        const DEVICE_LOCAL: u32 = 1;
        // SAFETY: the guard lives to the end of the function, and nothing is destroyed through it.
        let raw = unsafe { self.raw.as_hal::<Vulkan>() }?;
        let instance = raw.shared_instance().raw_instance();
        // SAFETY: the physical device is one of this instance, both being the device's own.
        let properties =
            unsafe { instance.get_physical_device_memory_properties(raw.raw_physical_device()) };
        let heaps = properties.memory_heaps_as_slice().iter();
        let local = heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0);
        Some(local.map(|heap| heap.size).sum())
    }

    /// Bytes of the adapter's own memory, which Metal does not tell.
    #[cfg(target_vendor = "apple")]
    pub fn memory_bytes(&self) -> Option<u64> {
        None
    }
}
