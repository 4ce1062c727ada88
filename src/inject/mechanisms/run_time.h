#pragma once
// A worker of ours that uses up a share of a processor, and what the kernel really gave it.

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "inject/programs.h"

namespace squall::inject {

class LoadWorker {
 public:
  // Ends with the object.
  static base::Result<LoadWorker> start(Programs& programs, double share);
  LoadWorker(LoadWorker&& other) noexcept;
  LoadWorker& operator=(LoadWorker&&) = delete;
  ~LoadWorker();

  const base::ProcessIdentity& process() const { return process_; }
  // Over the next half second; 1 is a whole processor.
  double measure_share() const;

 private:
  LoadWorker(Programs& programs, std::uint64_t id) : programs_(&programs), id_(id) {}
  Programs* programs_;
  std::uint64_t id_;
  base::ProcessIdentity process_;
};

}  // namespace squall::inject
