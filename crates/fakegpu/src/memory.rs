//! Who uses how much of a device.

use crate::{
    claims::Claim,
    state::{Gpu, MigInstance},
};

/// Bytes. What is reserved is neither used nor free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub total: u64,
    pub reserved: u64,
    pub used: u64,
    pub free: u64,
}

impl Usage {
    /// Of a MIG instance, or of the whole GPU with all its instances.
    pub fn of(gpu: &Gpu, instance: Option<&MigInstance>, claims: &[Claim]) -> Usage {
        let (total, reserved) = match instance {
            Some(instance) => (instance.total, instance.reserved),
            None => (gpu.total, gpu.reserved),
        };
        let unattributed = if instance.is_none() { gpu.unattributed } else { 0 };
        let external = gpu.processes.iter().filter(|process| match instance {
            Some(instance) => process.instance.as_ref() == Some(&instance.uuid),
            None => true,
        });
        let external: u64 = external.filter_map(|process| process.bytes).sum();
        let claimed: u64 = claims.iter().filter(|claim| is_on(claim, gpu, instance)).map(|claim| claim.bytes).sum();
        let capacity = total.saturating_sub(reserved);
        let used = (unattributed + external + claimed).min(capacity);
        Usage { total, reserved, used, free: capacity - used }
    }
}

/// A claim on an instance is one on its GPU too.
pub fn is_on(claim: &Claim, gpu: &Gpu, instance: Option<&MigInstance>) -> bool {
    match instance {
        Some(instance) => claim.device == instance.uuid,
        None => claim.device == gpu.uuid || gpu.instances().iter().any(|instance| instance.uuid == claim.device),
    }
}
