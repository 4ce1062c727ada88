#pragma once
// What a run tells whoever watches it. The command line draws it; tests record it.

#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "judge/live_view.h"
#include "model/plan.h"
#include "safety/check.h"

namespace squall::engine {

// All calls come from the engine's thread and must return quickly.
class Progress {
 public:
  virtual ~Progress() = default;
  virtual void planned(const model::Plan& /*plan*/, std::string_view /*run*/) {}
  virtual void bound(const model::Binding& /*binding*/) {}
  virtual void checked(const std::vector<safety::CheckResult>& /*results*/) {}
  // `limit` zero: open-ended.
  virtual void phase_started(std::string_view /*phase*/, base::Duration /*limit*/) {}
  // A step in words: "outage: armed: worker-2 (pid 4242) ended".
  virtual void step(std::string_view /*text*/) {}
  // Something went wrong or needs attention.
  virtual void warn(std::string_view /*text*/) {}
  // Several times a second while observing.
  virtual void tick(std::string_view /*phase*/, base::Duration /*elapsed*/,
                    base::Duration /*limit*/, const std::vector<judge::LiveRow>& /*rows*/) {}
};

}  // namespace squall::engine
