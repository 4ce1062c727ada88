#pragma once
// The holder's side of one worker: starts it, reads what it reports, and notices when it is gone.

#include <memory>
#include <optional>
#include <string>

#include "base/json.h"
#include "inject/programs.h"

namespace squall::inject {

struct WorkerReport {
  std::optional<base::ProcessIdentity> process;
  std::string state;                       // empty: nothing was heard yet; "failed": it cannot work
  std::shared_ptr<const base::Json> json;  // the whole report, never null

  std::uint64_t count(const char* name) const;
  base::Duration duration(const char* name) const;  // of a field in nanoseconds
  // Set when the worker has ended, cannot work, or has been silent for too long.
  std::optional<base::Error> trouble;
  bool ended = false;
};

class WorkerWatch {
 public:
  // `what`: "the packet scheduler", for texts. Workers report at least every 500 ms.
  // One that says nothing for `silence_limit` counts as hanging.
  WorkerWatch(Programs& programs, std::string what, base::Duration silence_limit)
      : programs_(programs), what_(std::move(what)), silence_limit_(silence_limit) {}
  WorkerWatch(WorkerWatch&& other) noexcept;
  WorkerWatch& operator=(WorkerWatch&&) = delete;
  ~WorkerWatch();  // ends it

  void start(const std::string& name, const base::Json& configuration);
  bool started() const { return id_.has_value(); }
  WorkerReport look();  // only when started
  void tell(const std::string& text);
  void end();
  // For steps that wait for it.
  int fd() const { return programs_.fd(); }

 private:
  Programs& programs_;
  std::string what_;
  base::Duration silence_limit_;
  std::optional<std::uint64_t> id_;
  std::string last_;
  base::Instant heard_;
};

}  // namespace squall::inject
