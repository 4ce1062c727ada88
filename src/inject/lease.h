#pragma once
// One lease in the process that holds it (the holder) or undoes it (a replay): drives the fault
// through its life, journals, and tells every step. Never blocks.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "inject/caller.h"
#include "inject/client.h"
#include "inject/fault.h"
#include "inject/journal.h"

namespace squall::inject {

class Lease final : public FaultContext {
 public:
  struct Means {
    const host::Host& host;
    Programs& programs;
    std::function<void(const LeaseEvent&)> tell;
    // As inject::claim(); absent where nothing joins a fault (rehearsals, replays).
    std::function<base::Status(const LeaseRecord&, const base::ProcessIdentity&,
                               const std::function<base::Status()>& note)>
        claim = {};
  };

  // `journal` absent: a rehearsal or a replay, whose notes go nowhere.
  Lease(LeaseRecord record, const FaultKind& kind, std::optional<LeaseJournal> journal,
        Means means);
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  // Starts the fault's life. What goes wrong is undone and told as kFailed.
  void arm();
  // Instead of arm(): takes up a dead holder's journal, to be followed by revert().
  base::Status recall(const std::vector<std::string>& notes);
  // Idempotent; the first cause counts.
  void revert(std::string_view cause);

  // Calls the fault again if one of its descriptors is in `ready` (sorted) or its time has come.
  void advance(const std::vector<int>& ready);
  // When advance() has something to do without a descriptor.
  base::Instant due() const;
  const std::vector<int>& descriptors() const { return wait_.descriptors; }

  const LeaseRecord& record() const { return record_; }
  bool over() const { return stage_ == Stage::kOver; }
  // The revert was tried and did not succeed so far; it is tried again every second.
  const std::string& trouble() const { return trouble_; }
  bool reverting() const {
    return stage_ == Stage::kReverting || stage_ == Stage::kVerifying || stage_ == Stage::kClosing;
  }
  base::Instant reverting_since() const { return reverting_since_; }
  // After over(): whether the fault was in force and is now verified to be gone.
  const std::string& last_text() const { return last_text_; }

  // FaultContext
  base::Status note(const base::Json& found) override;
  const host::Host& host() override { return means_.host; }
  Programs& programs() override { return programs_; }
  base::LeaseId lease() const override { return record_.lease; }
  base::Duration duration() const override { return record_.duration; }
  base::Status check_process(const base::ProcessIdentity& process) const override {
    return inject::check_process(record_.grant, process);
  }
  base::Status claim(const base::ProcessIdentity& process) override;
  uid_t caller() const override { return record_.grant.caller.user; }

 private:
  enum class Stage {
    kArming,
    kAwaitingEffect,
    kHolding,
    kSteady,
    kReverting,
    kVerifying,
    kClosing,
    kOver
  };

  Step call();
  void handle(Step step);
  void handle_failure(Step step);
  void succeed(const Step& step);
  void finish(const Step& step);
  void close();
  void retry_later();
  void enter(Stage stage);
  void tell(LeaseState state, const Step& step, bool still_active = false);
  void tell_notice(const std::string& text);

  LeaseRecord record_;
  GrantedPrograms programs_;
  const FaultKind& kind_;
  std::optional<LeaseJournal> journal_;
  Means means_;
  std::unique_ptr<Fault> fault_;
  Stage stage_ = Stage::kArming;
  LeaseState told_ = LeaseState::kArming;
  base::Instant ends_;
  Step wait_;  // what the fault waits for
  base::Instant wait_until_ = base::Instant::max();
  base::Instant reverting_since_;
  base::Duration retry_pause_{};
  std::string cause_;
  std::optional<base::Error> arming_error_;  // set: arming failed, and the revert undoes its half
  std::string trouble_;
  std::string reverted_text_;
  std::string last_text_;
};

}  // namespace squall::inject
