#pragma once
// What the phases of one run share: the record being written, the observer, the leases, and the one
// loop that waits for samples, lease events, signals and time. Engine's thread only.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "engine/interruption.h"
#include "engine/progress.h"
#include "engine/workspace.h"
#include "evidence/recorder.h"
#include "inject/client.h"
#include "judge/abort_monitor.h"
#include "judge/judgement.h"
#include "judge/live_view.h"
#include "model/plan.h"
#include "observe/observer.h"

namespace squall::engine {

// Why waiting ended.
enum class Wake {
  kDeadline,   // the time was reached
  kSatisfied,  // the condition that was waited for came true
  kEnded,      // the run is to end: see Session::ending()
};

// Why a run ends before its plan does.
struct Ending {
  model::Outcome outcome = model::Outcome::kErrored;
  std::string reason;
};

// One fault of the plan on its way.
struct FaultProgress {
  std::string name;
  base::LeaseId lease;
  inject::LeaseState state = inject::LeaseState::kArming;
  bool started = false;
  bool still_active = false;  // reverting failed: may be there still
  // Armed, and not yet called back.
  bool active() const {
    return started &&
           (state == inject::LeaseState::kArming || state == inject::LeaseState::kArmed ||
            state == inject::LeaseState::kEffective);
  }
  // Nothing more will come of it.
  bool over() const {
    return !started || state == inject::LeaseState::kVerified ||
           state == inject::LeaseState::kFailed;
  }
  // By what the holder said; a fault that failed to arm left nothing.
  bool is_gone() const { return over() && !still_active; }
};

class Session {
 public:
  struct Parts {
    base::RunId run;
    const LoadedMap& map;
    const LoadedExperiment& experiment;
    const model::Plan& plan;
    Progress& progress;
    const base::Clock& clock;
    Interruption interruption;
    std::unique_ptr<evidence::RecordWriter> writer;
    std::unique_ptr<evidence::LiveFeed> feed;
    std::string inject_state_directory;
  };
  explicit Session(Parts parts);
  ~Session();

  // ---- What happened, told to the record and to whoever watches --------------------------------
  void record(std::string type, std::string subject, std::string text, std::string details = {});
  void document(std::string_view name, const base::Json& content);
  void begin_phase(std::string_view phase, base::Duration limit);

  // ---- The loop ---------------------------------------------------------------------------------
  // Serves everything until `deadline`, until `satisfied` is true (asked after every event), or
  // until the run must end. While it ends (ending() is set) only the first two apply.
  Wake wait_until(base::Instant deadline, const std::function<bool()>& satisfied = {});
  // Set by abort rules, signals, a failed fault, a failed record; the first one stays.
  const std::optional<Ending>& ending() const { return ending_; }
  void end(model::Outcome outcome, std::string reason);

  // ---- Faults -----------------------------------------------------------------------------------
  base::Status arm(const model::FaultBinding& binding, base::Duration duration);
  void revert_all(std::string_view cause);
  const std::vector<FaultProgress>& faults() const { return faults_; }
  bool any_active() const;
  bool all_over() const;
  bool all_reverts_verified() const;
  // From now on a breach of an abort rule ends the run.
  void watch_abort_rules();
  void unwatch_abort_rules() { monitor_.reset(); }

  // ---- Parts that phases use --------------------------------------------------------------------
  const Parts& parts() const { return parts_; }
  const model::Experiment& experiment() const { return parts_.experiment.experiment; }
  const model::SystemMap& map() const { return parts_.map.map; }
  base::Instant now() const { return parts_.clock.now(); }
  evidence::Recorder& recorder() { return recorder_; }
  observe::Observer& observer() { return *observer_; }
  void set_observer(std::unique_ptr<observe::Observer> observer) {
    observer_ = std::move(observer);
  }
  inject::HolderClient* holder() { return holder_.get(); }
  void set_holder(std::unique_ptr<inject::HolderClient> holder) { holder_ = std::move(holder); }
  // The display follows the predictions from when the observer has declared its series.
  void watch_predictions();
  // What the judge needs of the record as it stands; a failed flush is told by serve_time().
  base::Result<evidence::Record> read_so_far();
  // Judges it.
  judge::Judgement judge_now();

 private:
  void serve_samples();
  void serve_holder();
  void serve_signals();
  void serve_time();
  void on_breach(const judge::Breach& breach);
  void on_lease_event(const inject::LeaseEvent& event);
  void on_holder_gone(const base::Error& error);
  FaultProgress* find_fault(base::LeaseId lease);

  Parts parts_;
  evidence::Recorder recorder_;
  std::unique_ptr<observe::Observer> observer_;
  std::unique_ptr<inject::HolderClient> holder_;
  std::unique_ptr<judge::AbortMonitor> monitor_;
  std::unique_ptr<judge::LiveView> live_view_;
  std::vector<evidence::LiveSample> samples_;
  std::vector<FaultProgress> faults_;
  std::optional<Ending> ending_;
  std::string phase_;
  base::Instant phase_start_{};
  base::Duration phase_limit_{};
  base::Instant next_trim_{};
  base::Instant next_tick_{};
  base::Instant next_renewal_{};
  int signals_taken_ = 0;
};

}  // namespace squall::engine
