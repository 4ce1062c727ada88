#pragma once
// Signals that end a run, as a descriptor to poll.

#include <csignal>

#include "base/fd.h"
#include "base/result.h"

namespace squall::engine {

// Takes SIGINT, SIGTERM and SIGHUP from the whole process while it lives: create it before any
// thread starts, so that every thread inherits the mask. Restores the mask when destroyed.
class Interruption {
 public:
  static base::Result<Interruption> take();
  Interruption(Interruption&&) noexcept;
  Interruption& operator=(Interruption&&) = delete;
  ~Interruption();

  int fd() const { return fd_.get(); }
  // The next waiting signal's number; 0 when none waits.
  int next() const;

 private:
  Interruption() = default;
  base::UniqueFd fd_;
  sigset_t previous_{};
  bool owner_ = true;
};

}  // namespace squall::engine
