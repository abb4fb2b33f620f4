// What the two libraries share: the objects behind the handles that Rust holds, the check of libtorch's version, and how
// a C++ exception becomes a message.
#pragma once
#include <ATen/ATen.h>
#include <ATen/Version.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <torch/headeronly/version.h>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>

struct accord_store {
  c10::intrusive_ptr<c10d::Store> store;
};

struct accord_group {
  c10::intrusive_ptr<c10d::Backend> backend;
};

// A work refers to its tensors and to the connections it uses: they live as long as it does.
struct accord_work {
  c10::intrusive_ptr<c10d::Work> work;
};

// "2.11.0" of "..., TORCH_VERSION=2.11.0, ..."; empty when it is not there.
inline std::string loaded_version() {
  const std::string config = at::show_config();
  const std::string key = "TORCH_VERSION=";
  const auto start = config.find(key);
  if (start == std::string::npos) {
    return "";
  }
  const auto from = start + key.size();
  return config.substr(from, config.find_first_of(",+ \n", from) - from);
}

// The classes used here are laid out as in the headers of one exact version, so any other would be memory corruption.
// The loaded library tells its version only in the text of its build settings. Must come before any object is made.
inline void require_version() {
  static const std::string loaded = loaded_version();
  if (loaded != TORCH_VERSION) {
    throw std::runtime_error(
        "built for libtorch " TORCH_VERSION " but " + (loaded.empty() ? "an unknown version" : loaded) +
        " is loaded: put libtorch " TORCH_VERSION " first on LD_LIBRARY_PATH");
  }
}

constexpr int kFailed = -1;

// Runs `body`; an exception becomes kFailed and a message that the caller frees.
template <typename Body>
int guarded(char** error, Body&& body) {
  try {
    return body();
  } catch (const c10::Error& e) {
    *error = strdup(e.what_without_backtrace());
  } catch (const std::exception& e) {
    *error = strdup(e.what());
  } catch (...) {
    *error = strdup("unknown C++ exception");
  }
  return kFailed;
}
