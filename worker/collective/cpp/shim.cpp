// A C interface to c10d: a store where ranks meet, Gloo's point-to-point messages, and the collectives of any
// back end (NCCL's groups come from nccl_shim.cpp and are driven from here through the same class).
#include "callback_store.h"
#include "handles.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <chrono>

using std::chrono::milliseconds;

namespace {

// No message of ours uses it; see accord_gloo_close.
constexpr int kUnusedTag = 0x7fffffff;

// tch hands out its tensors as pointers to at::Tensor.
at::Tensor& tensor(void* handle) {
  return *static_cast<at::Tensor*>(handle);
}

std::vector<at::Tensor> one(void* handle) {
  return {tensor(handle)};
}

// The numbers of Rust's Reduce.
c10d::ReduceOp reduction(int op) {
  switch (op) {
    case 0:
      return c10d::ReduceOp::SUM;
    case 1:
      return c10d::ReduceOp::MAX;
    case 2:
      return c10d::ReduceOp::MIN;
  }
  throw std::invalid_argument("unknown reduction");
}

int hand_out(accord_work** out, c10::intrusive_ptr<c10d::Work> work) {
  *out = new accord_work{std::move(work)};
  return 0;
}

} // namespace

extern "C" {

int accord_check_version(char** error) {
  return guarded(error, [] {
    require_version();
    return 0;
  });
}

// A store under `prefix` that is asked through `ask`; `client` is released with it.
int accord_store_new(
    void* client, accord_ask ask, accord_release release, const char* prefix, int64_t timeout_ms, accord_store** out,
    char** error) {
  return guarded(error, [&] {
    auto store = c10::make_intrusive<CallbackStore>(client, ask, release, milliseconds(timeout_ms));
    *out = new accord_store{c10::make_intrusive<c10d::PrefixStore>(std::string(prefix), std::move(store))};
    return 0;
  });
}

void accord_store_free(accord_store* store) {
  delete store;
}

int accord_gloo_connect(
    accord_store* store, const char* host, int rank, int size, int64_t timeout_ms, accord_group** out, char** error) {
  return guarded(error, [&] {
    auto options = c10d::ProcessGroupGloo::Options::create(milliseconds(timeout_ms));
    // for Gloo's own collectives, which are not used: messages are moved by its device's thread
    options->threads = 1;
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(host));
    *out = new accord_group{c10::make_intrusive<c10d::ProcessGroupGloo>(store->store, rank, size, options)};
    return 0;
  });
}

// Closes every connection, so that the peers learn at once that this rank gave up. Gloo has no call for that, but
// closes them all when one receive times out.
int accord_gloo_close(accord_group* group, char** error) {
  return guarded(error, [&] {
    auto& backend = *group->backend;
    for (int peer = 0; peer < backend.getSize(); ++peer) {
      if (peer == backend.getRank()) {
        continue;
      }
      try {
        std::vector<at::Tensor> never = {at::zeros({1}, at::kByte)};
        backend.recv(never, peer, kUnusedTag)->wait(milliseconds(1));
      } catch (const std::exception&) {
        // it timed out as it should, or this connection was closed before
      }
    }
    return 0;
  });
}

int accord_group_send(accord_group* group, void* x, int to, int tag, accord_work** out, char** error) {
  return guarded(error, [&] {
    auto tensors = one(x);
    return hand_out(out, group->backend->send(tensors, to, tag));
  });
}

int accord_group_receive(accord_group* group, void* x, int from, int tag, accord_work** out, char** error) {
  return guarded(error, [&] {
    auto tensors = one(x);
    return hand_out(out, group->backend->recv(tensors, from, tag));
  });
}

int accord_group_all_reduce(accord_group* group, void* x, int op, accord_work** out, char** error) {
  return guarded(error, [&] {
    auto tensors = one(x);
    c10d::AllreduceOptions options;
    options.reduceOp = reduction(op);
    return hand_out(out, group->backend->allreduce(tensors, options));
  });
}

int accord_group_all_gather(accord_group* group, void* into, void* x, accord_work** out, char** error) {
  return guarded(error, [&] { return hand_out(out, group->backend->_allgather_base(tensor(into), tensor(x))); });
}

int accord_group_reduce_scatter(accord_group* group, void* into, void* x, int op, accord_work** out, char** error) {
  return guarded(error, [&] {
    c10d::ReduceScatterOptions options;
    options.reduceOp = reduction(op);
    return hand_out(out, group->backend->_reduce_scatter_base(tensor(into), tensor(x), options));
  });
}

// `received` and `sent` are rows per rank.
int accord_group_all_to_all(
    accord_group* group, void* into, const int64_t* received, void* x, const int64_t* sent, accord_work** out,
    char** error) {
  return guarded(error, [&] {
    const int size = group->backend->getSize();
    std::vector<int64_t> in(received, received + size);
    std::vector<int64_t> gone(sent, sent + size);
    return hand_out(out, group->backend->alltoall_base(tensor(into), tensor(x), in, gone));
  });
}

int accord_group_broadcast(accord_group* group, void* x, int root, accord_work** out, char** error) {
  return guarded(error, [&] {
    auto tensors = one(x);
    c10d::BroadcastOptions options;
    options.rootRank = root;
    return hand_out(out, group->backend->broadcast(tensors, options));
  });
}

int accord_group_abort(accord_group* group, char** error) {
  return guarded(error, [&] {
    group->backend->abort();
    return 0;
  });
}

int accord_group_shutdown(accord_group* group, char** error) {
  return guarded(error, [&] {
    group->backend->shutdown();
    return 0;
  });
}

void accord_group_free(accord_group* group) {
  delete group;
}

// Blocks: 1 complete, 0 interrupted. For a message of Gloo a time-out is an error that also closes every connection;
// 0 ms would mean no time-out to c10d.
int accord_work_wait(accord_work* work, int64_t timeout_ms, char** error) {
  return guarded(error, [&] { return work->work->wait(milliseconds(timeout_ms)) ? 1 : 0; });
}

// Does not block: 1 complete, 0 not yet. Never 1 for a message of Gloo before it was waited for.
int accord_work_is_complete(accord_work* work, char** error) {
  return guarded(error, [&] { return work->work->isCompleted() ? 1 : 0; });
}

// Ends the present or else the next wait for a message of Gloo.
int accord_work_interrupt(accord_work* work, char** error) {
  return guarded(error, [&] {
    work->work->abort();
    return 0;
  });
}

void accord_work_free(accord_work* work) {
  delete work;
}
}
