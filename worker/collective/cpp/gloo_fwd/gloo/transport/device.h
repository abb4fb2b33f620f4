#pragma once
#include <memory>
#include <string>

namespace gloo::transport {
class Device;

class UnboundBuffer {
 public:
  virtual ~UnboundBuffer();
};
} // namespace gloo::transport
