#pragma once
// Takes faults through their lives, disturbs each life at one system call of one process, and
// compares the host with what it was before. A process of one thread changes nothing that others
// can see between two system calls, so killing it at each of them is killing it anywhere.

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/process.h"
#include "calls.h"
#include "foreign.h"
#include "host_snapshot.h"
#include "scenarios.h"
#include "stage.h"

namespace squall::crash_sweep {

struct Options {
  std::vector<std::string> kinds;  // empty: all
  std::vector<std::string> roles = {"engine",  "keeper", "holder", "replays",
                                    "starter", "worker", "pair"};
  bool kills = true;
  bool failing_calls = true;
  std::vector<std::string> calls;  // only those of these names, or the one `name#3`; empty: all
  std::size_t sample = 0;          // 0: every point
  std::uint64_t seed = 1;
  std::size_t shard = 1;
  std::size_t shards = 1;
  std::size_t jobs = 1;
  std::string resume;
  // The recorded calls of each scenario, for all parts: one that records while others keep the
  // machine busy finds the more calls, the longer a fault waits for something.
  std::string records;
  bool recording = false;  // writes that file, and disturbs nobody
  bool until_residue = false;
  bool foreign = false;
  bool verbose = false;
  bool count = false;  // records and counts, and disturbs nobody
  bool alone = false;  // nobody else uses BPF: its links are compared, too
};

// What came of a sweep. In memory that all its processes share.
struct Totals {
  std::atomic<int> kills = 0;
  std::atomic<int> failing_calls = 0;
  std::atomic<int> kinds = 0;
  std::atomic<int> residues = 0;
  std::atomic<int> false_claims = 0;
  std::atomic<int> needed_cleanup = 0;
  std::atomic<int> foreign_lives = 0;
  std::atomic<int> broken = 0;
  bool clean() const { return residues + false_claims + broken == 0; }
};

// Whose calls are disturbed, which, and how.
struct Point {
  const Scenario* scenario = nullptr;
  std::string role;
  Call call;
  std::string error;  // empty: it is killed there
  Call second;        // pair: where the keeper is killed
  bool disturbs() const { return call.number > 0; }
  std::string name() const;
};

class Sweep {
 public:
  // Of the scenarios only those that can do with process numbers of their own, or only the others.
  Sweep(Options options, Stage stage, std::string self, bool isolated, Totals& totals);
  ~Sweep();
  Sweep(const Sweep&) = delete;
  Sweep& operator=(const Sweep&) = delete;

  void run();

 private:
  struct Life;  // what became of one

  void sweep(const Scenario& scenario);
  bool record_all(const Scenario& scenario);
  bool record(const Scenario& scenario, const std::string& role);
  bool read_records(const Scenario& scenario);
  void write_records(const Scenario& scenario) const;
  std::vector<Point> points_of(const Scenario& scenario, const std::string& role, bool failing);
  bool try_point(const Point& point);
  Life live(const Point& point);
  template <typename Condition>
  bool wait_for_engine(const base::ChildProcess& engine, const Condition& condition) const;
  void sweep_foreign(const Scenario& scenario);
  Snapshot look() const;
  void await_members() const;
  bool judge(const Point& point, const Life& life);
  std::vector<std::string> engine_argv(const Point& point) const;
  std::vector<std::string> tracer(const std::string& who, const Point& point,
                                  const Call& call) const;
  std::string trace_file(const std::string& who) const;
  bool is_mine(const std::string& name) const;
  bool nothing_is_left() const;
  std::vector<base::ProcessIdentity> who_lives() const;
  bool somebody_lives() const { return !who_lives().empty(); }
  void end_all() const;
  bool say(const Point& point, std::string_view what, const std::string& text);
  void read_done();
  void mark_done(const Point& point) const;

  std::string state() const { return stage_.folder() + "/state"; }
  std::string once_mark() const { return stage_.folder() + "/state-once"; }

  Options options_;
  Stage stage_;
  std::string self_;
  bool isolated_;
  Totals& totals_;
  base::UniqueFd marks_;  // readable when something was made in the stage's folder
  std::set<std::string> done_;
  const Scenario* scenario_ = nullptr;                 // at hand
  std::map<std::string, std::vector<Call>> recorded_;  // by whom, of the scenario at hand
  // --foreign: what others have, and how it must be after the life.
  std::unique_ptr<Foreign> foreign_;
  std::optional<Snapshot> expected_;
  std::string foreign_error_;
  int lives_ = 0;
  bool unclean_ = false;  // the last life left something
};

}  // namespace squall::crash_sweep
