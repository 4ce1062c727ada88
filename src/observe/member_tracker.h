#pragma once
// The processes of one service over time: which there are, what they use, and which were replaced.

#include <map>
#include <string>
#include <vector>

#include "host/host.h"

namespace squall::observe {

// Summed over the members and their descendants (PostgreSQL's backends belong to its server), but
// `processes` counts the members alone. Names and order are those of model::service_signals().
struct ServiceUsage {
  double processes = 0;
  double cpu = 0;  // cores, since the sample before
  double memory = 0;
  double descriptors = 0;
  double sockets = 0;
  double threads = 0;
  double restarts = 0;  // since the first look
};

struct MemberChange {
  enum class Kind { kGone, kJoined, kRestarted } kind = Kind::kGone;
  std::string member;
  pid_t pid = 0;      // of the new process; of the old one for kGone
  pid_t old_pid = 0;  // kRestarted
};

// Not thread-safe.
class MemberTracker {
 public:
  explicit MemberTracker(const model::Service& service) : service_(service) {}

  // Finds the members anew; dear (see host::find_members). The first call only takes stock.
  base::Status look(const host::Host& host, base::Instant now, std::vector<MemberChange>& changes);
  // Asks the known processes alone; some reads a process.
  ServiceUsage sample(const host::Host& host, base::Instant now,
                      std::vector<MemberChange>& changes);
  // A member is gone and has not come back yet: worth looking more often.
  bool incomplete() const;
  bool looked() const { return looked_; }

 private:
  struct Known {
    base::ProcessIdentity identity;
    std::string member;             // empty for descendants
    double processor_seconds = -1;  // at the last sample; -1: not sampled yet
  };
  struct Missing {
    std::string member;
    pid_t pid = 0;
    base::Instant since;
  };
  void take_members(const std::vector<host::Member>& found, base::Instant now,
                    std::vector<MemberChange>& changes);
  void take_descendants(const std::vector<host::Process>& all);
  void lose(std::size_t index, base::Instant now, std::vector<MemberChange>& changes);
  void join(const host::Member& member, base::Instant now, std::vector<MemberChange>& changes);
  bool knows(const base::ProcessIdentity& identity) const;

  const model::Service& service_;
  std::vector<Known> members_;
  std::vector<Known> descendants_;
  std::vector<Missing> missing_;
  bool looked_ = false;
  int restarts_ = 0;
  double sockets_ = 0;
  base::Instant last_sample_{};
};

// A host that is asked at most once for each thing, so that several services share one walk through
// /proc. For one look; then throw it away.
class WalkCache final : public host::Host {
 public:
  explicit WalkCache(const host::Host& host) : host_(host) {}
  base::Result<std::vector<host::Process>> processes() const override;
  base::Result<host::Process> process(pid_t pid) const override { return host_.process(pid); }
  base::Result<host::ProcessUsage> usage(const base::ProcessIdentity& identity) const override {
    return host_.usage(identity);
  }
  base::Result<std::vector<host::Socket>> sockets(Owners owners) const override;
  base::Result<std::string> hostname() const override { return host_.hostname(); }
  base::Result<std::vector<host::Container>> containers() const override;
  pid_t self() const override { return host_.self(); }

 private:
  const host::Host& host_;
  mutable std::optional<base::Result<std::vector<host::Process>>> processes_;
  mutable std::map<Owners, base::Result<std::vector<host::Socket>>> sockets_;
  mutable std::optional<base::Result<std::vector<host::Container>>> containers_;
};

}  // namespace squall::observe
