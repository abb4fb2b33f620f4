// NCCL's process group, in a library of its own (libaccord_nccl.so) that is loaded where there is a GPU. It refers to
// libtorch_cuda without linking it: whoever loads this has loaded that before.
#include "handles.h"

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <chrono>
#include <cstdlib>

namespace {

// c10d's watchdog ends the whole process on a time-out or an error unless told not to; here these become errors of
// the wait. What the user has set wins.
void keep_the_process_alive() {
  const int keep = 0;
  setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", keep);
  setenv("TORCH_NCCL_ENABLE_MONITORING", "0", keep);
  setenv("TORCH_NCCL_RETHROW_CUDA_ERRORS", "0", keep);
  setenv("TORCH_NCCL_DUMP_ON_TIMEOUT", "0", keep);
}

} // namespace

extern "C" {

int accord_nccl_connect(
    accord_store* store, int device, int rank, int size, int64_t timeout_ms, accord_group** out, char** error) {
  return guarded(error, [&] {
    require_version();
    keep_the_process_alive();
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = std::chrono::milliseconds(timeout_ms);
    auto group = c10::make_intrusive<c10d::ProcessGroupNCCL>(store->store, rank, size, options);
    const at::Device cuda(at::kCUDA, static_cast<c10::DeviceIndex>(device));
    group->setBoundDeviceId(cuda);
    // form the communicator now, not in the first operation
    group->eagerConnectSingleDevice(cuda);
    *out = new accord_group{std::move(group)};
    return 0;
  });
}
}
