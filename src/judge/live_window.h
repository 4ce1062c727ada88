#pragma once
// The last few seconds of one live series. Slots of 100 ms slide over it; nothing is allocated once
// the rate has been seen. Engine's thread only.

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "evidence/sample.h"

namespace squall::judge {

// Requests that were done within the window. A request counts from when it was done: an abort rule
// acts on what is known now.
class RequestWindow {
 public:
  enum class Keep { kSums, kQuantiles };
  RequestWindow(base::Duration window, Keep keep);

  // Latencies above it are counted apart, so that a quantile can be compared without being
  // computed.
  void set_threshold(double seconds) { threshold_ = seconds; }
  void add(const evidence::RequestSample& sample, base::Instant now);
  void advance(base::Instant now);

  std::uint64_t count() const { return total_.count; }
  std::uint64_t ok() const { return total_.ok; }
  std::uint64_t above() const { return total_.above; }
  double mean() const { return total_.sum / static_cast<double>(total_.count); }
  double maximum() const { return total_.maximum; }
  double minimum() const { return total_.minimum; }
  // Within 1.6 %; count() > 0, Keep::kQuantiles.
  double quantile(double q) const;

 private:
  struct Slot {
    std::uint64_t count = 0;
    std::uint64_t ok = 0;
    std::uint64_t above = 0;
    double sum = 0;
    double maximum = -std::numeric_limits<double>::infinity();
    double minimum = std::numeric_limits<double>::infinity();
    void add(const Slot& other);
  };
  void forget_slot(Slot& slot);
  void remember(std::uint16_t cell);

  std::vector<Slot> slots_;
  std::int64_t newest_ = std::numeric_limits<std::int64_t>::min();
  Slot total_;
  double threshold_ = std::numeric_limits<double>::infinity();
  // For quantiles: cells of a log-linear histogram over the window, and the cell of each request in
  // order of arrival, so that it can be taken out again.
  std::vector<std::uint32_t> cells_;
  std::vector<std::uint16_t> ring_;
  std::size_t first_ = 0;
  std::size_t used_ = 0;
};

// Samples of a gauge or counter within the window, and the one that was in force when it began.
class NumberWindow {
 public:
  explicit NumberWindow(base::Duration window) : window_(window) {}
  void add(const evidence::GaugeSample& sample);
  void advance(base::Instant now);

  // Oldest first, of size(); those before the window are not among them.
  std::size_t size() const { return used_; }
  const evidence::GaugeSample& at(std::size_t index) const {
    return ring_[(first_ + index) % ring_.size()];
  }
  std::optional<evidence::GaugeSample> before() const { return before_; }
  std::optional<double> latest() const;

 private:
  base::Duration window_;
  std::vector<evidence::GaugeSample> ring_;
  std::size_t first_ = 0;
  std::size_t used_ = 0;
  std::optional<evidence::GaugeSample> before_;
};

}  // namespace squall::judge
