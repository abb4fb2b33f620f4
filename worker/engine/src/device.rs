//! Which device a run computes on, and with which kernels.

use crate::error::EngineError;
use crate::graph::Graph;
use crate::kernels::Kernels;
use crate::kernels::cpu::{CpuKernels, Level};
use crate::kernels::torch::TorchKernels;
use std::sync::Arc;
use tch::Kind;

/// CUDA is there when its libraries load beside libtorch and a device answers.
pub fn cuda_available() -> bool {
    // libtorch must be told of CUDA before its first question about it: the other order answers no for good
    accord_collective::cuda::load().is_ok() && tch::Cuda::is_available()
}

/// The device that `wanted` means for a rank on this machine: one after the other, where there are several.
pub fn pick(wanted: accord_spec::Device, rank: usize) -> Result<tch::Device, EngineError> {
    let own = || tch::Device::Cuda(rank % (tch::Cuda::device_count().max(1) as usize));
    match wanted {
        accord_spec::Device::Cpu => Ok(tch::Device::Cpu),
        accord_spec::Device::Auto if cuda_available() => Ok(own()),
        accord_spec::Device::Auto => Ok(tch::Device::Cpu),
        accord_spec::Device::Cuda => match accord_collective::cuda::load() {
            Err(why) => Err(EngineError::Device(format!("cluster.device = \"cuda\", but {why}"))),
            Ok(()) if tch::Cuda::is_available() => Ok(own()),
            Ok(()) => Err(EngineError::Device("cluster.device = \"cuda\", but libtorch sees no CUDA device".into())),
        },
    }
}

/// Hand-written kernels on the CPU, libtorch's on CUDA; f32.
pub fn kernels(device: tch::Device, graph: Arc<Graph>, threads: usize) -> Result<Box<dyn Kernels>, EngineError> {
    Ok(match device {
        tch::Device::Cpu => Box::new(CpuKernels::new(graph, Level::detect(), threads)?),
        device => Box::new(TorchKernels::new(graph, device, Kind::Float)),
    })
}
