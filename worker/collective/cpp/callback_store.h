// A c10d store whose requests are answered by Rust (src/store).
#pragma once
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

extern "C" {
struct accord_bytes {
  const uint8_t* data;
  size_t length;
};

// The numbers of Rust's Verb.
enum accord_verb { ACCORD_GET = 0, ACCORD_SET = 1, ACCORD_WAIT = 2, ACCORD_ADD = 3, ACCORD_DELETE = 4 };

// 1 answered, 0 the keys were not there in time, negative failed. The answer, or why it failed, is in `out`, made by
// malloc and to be freed by the caller.
typedef int (*accord_ask)(
    const void* client, int verb, int64_t wait_ms, const accord_bytes* keys, size_t count, accord_bytes value,
    accord_bytes* out);
typedef void (*accord_release)(void* client);
}

class CallbackStore final : public c10d::Store {
  using milliseconds = std::chrono::milliseconds;

 public:
  CallbackStore(void* client, accord_ask ask, accord_release release, milliseconds timeout)
      : Store(timeout), client_(client), ask_(ask), release_(release) {}

  ~CallbackStore() override {
    release_(client_);
  }

  // Requests do not disturb each other.
  c10::intrusive_ptr<Store> clone() override {
    return c10::intrusive_ptr<Store>::reclaim_copy(this);
  }

  void set(const std::string& key, const std::vector<uint8_t>& value) override {
    request(ACCORD_SET, {key}, {value.data(), value.size()});
  }

  std::vector<uint8_t> get(const std::string& key) override {
    return request(ACCORD_GET, {key}, {}, timeout_);
  }

  int64_t add(const std::string& key, int64_t value) override {
    const std::string text = std::to_string(value);
    const auto sum = request(ACCORD_ADD, {key}, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
    return std::stoll(std::string(sum.begin(), sum.end()));
  }

  bool deleteKey(const std::string& key) override {
    return request(ACCORD_DELETE, {key}) == std::vector<uint8_t>{'1'};
  }

  bool check(const std::vector<std::string>& keys) override {
    std::vector<uint8_t> nothing;
    return ask(ACCORD_WAIT, keys, {}, milliseconds(0), nothing);
  }

  void wait(const std::vector<std::string>& keys) override {
    wait(keys, timeout_);
  }

  void wait(const std::vector<std::string>& keys, const milliseconds& timeout) override {
    request(ACCORD_WAIT, keys, {}, timeout);
  }

  int64_t getNumKeys() override {
    throw std::runtime_error("the store does not count its keys");
  }

 private:
  std::vector<uint8_t> request(
      accord_verb verb, const std::vector<std::string>& keys, accord_bytes value = {},
      milliseconds wait = milliseconds(0)) {
    std::vector<uint8_t> answer;
    if (!ask(verb, keys, value, wait, answer)) {
      throw std::runtime_error(
          "not in the store after " + std::to_string(wait.count()) + " ms: " + (keys.empty() ? "" : keys.front()));
    }
    return answer;
  }

  // False when the keys were not there in time.
  bool ask(
      accord_verb verb, const std::vector<std::string>& keys, accord_bytes value, milliseconds wait,
      std::vector<uint8_t>& answer) {
    std::vector<accord_bytes> names;
    for (const auto& key : keys) {
      names.push_back({reinterpret_cast<const uint8_t*>(key.data()), key.size()});
    }
    accord_bytes out = {};
    const int code = ask_(client_, verb, wait.count(), names.data(), names.size(), value, &out);
    answer.assign(out.data, out.data + out.length);
    free(const_cast<uint8_t*>(out.data));
    if (code < 0) {
      throw std::runtime_error(std::string(answer.begin(), answer.end()));
    }
    return code == 1;
  }

  void* client_;
  accord_ask ask_;
  accord_release release_;
};
