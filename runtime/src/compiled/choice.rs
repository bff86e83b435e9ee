//! Which plans the processor runs.

use crate::device::cpu::CpuDevice;
use crate::model::CompiledPlan;

/// Those for any device, and those for a profile of a processor.
pub(super) fn usable(plans: &'static [CompiledPlan<CpuDevice>]) -> Vec<&'static CompiledPlan<CpuDevice>> {
    plans.iter().filter(|plan| runs_here(plan.device)).collect()
}

/// The names of processors' profiles begin with `cpu`.
fn runs_here(device: Option<&str>) -> bool {
    device.is_none_or(|profile| profile.starts_with(CpuDevice::KIND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_of_processors_begin_with_cpu() {
        assert_eq!([None, Some("cpu"), Some("cpu-local")].map(runs_here), [true; 3]);
        assert_eq!([Some("h200-141g"), Some("gaudi2"), Some("")].map(runs_here), [false; 3]);
    }
}
