// The crash sweep: kills engine, keeper, holder, starter, worker or replay at each of their system
// calls through the whole life of a fault, or lets the call fail, for every kind, and compares the
// host with what it was before.

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <new>
#include <sstream>

#include "base/files.h"
#include "base/process.h"
#include "base/text.h"
#include "base/units.h"
#include "inject/client.h"
#include "inject/keeper.h"
#include "isolation.h"
#include "lease_driver.h"
#include "scenarios.h"
#include "sweep.h"
#include "tracer.h"

namespace squall::crash_sweep {
namespace {

constexpr int kSkipped = 77;

constexpr const char* kUsage = R"(usage: crash_sweep [OPTIONS]
  --kinds A,B      only these kinds; default all
  --roles A,B      whose calls: engine, keeper, holder, replays (of a holder that was killed while
                   its fault was armed), starter, worker (or a program that the starter forks, until
                   it is executed), pair (holder, and keeper at a call chosen by the seed);
                   default all
  --faults WHAT    kill: killed at each call. fail: each call fails with each of EINTR, ENOMEM, EIO,
                   ENOSPC, EPERM, EBUSY that it can fail with (not for pairs). all: the default
  --calls A,B      only these calls: pwrite64, or the third of them: pwrite64#3
  --sample N       N points for each kind, role and fault, chosen by the seed; default every point
  --seed N         default 1
  --shard I/N      the I-th of N parts, from 1
  --jobs N         so many processes, each with a part and in namespaces of its own; default 1
  --resume FILE    leave out the points that FILE names; add those that are done without residue
  --count          instead: says how many points there are
  --foreign        instead: one undisturbed life of each kind beside state of others, which they
                   change meanwhile; all of it must be there afterwards
  --alone          nobody else uses BPF meanwhile: its links must be the same afterwards, too
  --until-residue  stop at the first residue
  --verbose        name each point before it is tried
Kinds of which a life takes seconds (containers, databases) are always sampled: 40 points for each
role and fault.
Exit status: 0 without residues, 1 with, 2 for a wrong option, 77 when it cannot run here.
)";

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::stringstream in(text);
  for (std::string part; std::getline(in, part, separator);) parts.push_back(part);
  return parts;
}

bool read_options(const std::vector<std::string>& words, Options& options) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& name = words[i];
    if (name == "--until-residue") {
      options.until_residue = true;
      continue;
    }
    if (name == "--foreign") {
      options.foreign = true;
      continue;
    }
    if (name == "--alone") {
      options.alone = true;
      continue;
    }
    if (name == "--count") {
      options.count = true;
      continue;
    }
    if (name == "--verbose") {
      options.verbose = true;
      continue;
    }
    if (i + 1 >= words.size()) return false;
    const std::string& value = words[++i];
    if (name == "--kinds") {
      options.kinds = split(value, ',');
    } else if (name == "--roles") {
      options.roles = split(value, ',');
    } else if (name == "--faults") {
      if (value != "kill" && value != "fail" && value != "all") return false;
      options.kills = value != "fail";
      options.failing_calls = value != "kill";
    } else if (name == "--calls") {
      options.calls = split(value, ',');
    } else if (name == "--sample") {
      options.sample = std::stoul(value);
    } else if (name == "--seed") {
      options.seed = std::stoull(value);
    } else if (name == "--shard" && split(value, '/').size() == 2) {
      options.shard = std::stoul(split(value, '/')[0]);
      options.shards = std::stoul(split(value, '/')[1]);
    } else if (name == "--jobs") {
      options.jobs = std::stoul(value);
    } else if (name == "--resume") {
      options.resume = value;
    } else {
      return false;
    }
  }
  return options.shards > 0 && options.shard > 0 && options.jobs > 0;
}

// One part, in a process of its own. Its folder was made outside, and is removed there.
int sweep_part(const Options& options, const std::string& folder, const std::string& self,
               bool isolated, Totals& totals) {
  auto stage = Stage::make(folder);
  if (!stage.ok()) {
    std::cout << "skipped: " << stage.error().to_string() << std::endl;
    return kSkipped;
  }
  Sweep sweep(options, std::move(*stage), self, isolated, totals);
  sweep.run();
  std::cout << std::flush;
  return totals.clean() ? 0 : 1;
}

volatile std::sig_atomic_t interrupted = 0;

// Returns the worst exit status of the parts.
int sweep_all(const Options& options, const std::string& self, bool isolated, Totals& totals) {
  struct Part {
    pid_t pid = -1;
    std::string folder;
  };
  std::vector<Part> parts;
  int worst = 0;
  for (std::size_t job = 0; job < options.jobs; ++job) {
    auto folder = base::make_temporary_directory("squall-crash-sweep-");
    if (!folder.ok()) return 1;
    Options part = options;
    part.shards = options.shards * options.jobs;
    part.shard = (options.shard - 1) * options.jobs + job + 1;
    const pid_t pid =
        fork_sweep(isolated, [&] { return sweep_part(part, *folder, self, isolated, totals); });
    parts.push_back({.pid = pid, .folder = *folder});
  }
  for (const Part& part : parts) {
    int status = 0;
    while (part.pid > 0 && ::waitpid(part.pid, &status, 0) < 0 && errno == EINTR) {
      // Whoever is in the namespaces ends with them.
      for (const Part& each : parts) {
        if (interrupted != 0) ::kill(each.pid, SIGKILL);
      }
    }
    const int ended = part.pid < 0 || !WIFEXITED(status) ? 1 : WEXITSTATUS(status);
    worst = std::max(worst, ended);
    remove_groups(part.folder);
    std::error_code ignored;
    std::filesystem::remove_all(part.folder, ignored);
  }
  return worst;
}

// A sample's parts have kinds of their own, and each records those.
bool shares_records(const Options& options) {
  return options.sample == 0 && !options.foreign;
}

// First what each kind calls, by one process on a quiet machine; then the parts.
int record_and_sweep(const Options& options, const std::string& self, bool isolated,
                     Totals& totals) {
  if (!shares_records(options)) return sweep_all(options, self, isolated, totals);
  const auto folder = base::make_temporary_directory("squall-sweep-records-");
  if (!folder.ok()) return 1;
  Options recorder = options;
  recorder.records = *folder + "/records";
  recorder.recording = true;
  recorder.jobs = recorder.shard = recorder.shards = 1;
  Options rest = options;
  rest.records = recorder.records;
  int worst = sweep_all(recorder, self, isolated, totals);
  if (worst != kSkipped && interrupted == 0)
    worst = std::max(worst, sweep_all(rest, self, isolated, totals));
  std::error_code ignored;
  std::filesystem::remove_all(*folder, ignored);
  return worst;
}

void say_untried(const Options& options) {
  for (const Untried& entry : untried()) {
    if (options.kinds.empty())
      std::cout << fmt::format("{:<20} not tried: {}\n", entry.kind, entry.missing);
  }
  if (!kCallsCanFail) std::cout << "failing calls: not tried on this processor\n";
}

bool wants(const Options& options, bool isolated) {
  return std::any_of(scenarios().begin(), scenarios().end(), [&](const Scenario& scenario) {
    const auto& kinds = options.kinds;
    return scenario.by_host_numbers != isolated &&
           (kinds.empty() || std::find(kinds.begin(), kinds.end(), scenario.name) != kinds.end());
  });
}

int sweep_main(const std::vector<std::string>& words) {
  Options options;
  if (!read_options(words, options)) {
    std::cerr << kUsage;
    return 2;
  }
  if (const auto forgotten = forgotten_kinds(); !forgotten.empty()) {
    std::cerr << fmt::format("neither staged nor named as untried in scenarios.cc: {}\n",
                             base::join(forgotten, ", "));
    return 2;
  }
  if (::geteuid() != 0) {
    std::cout << "skipped: the crash sweep needs root\n";
    return kSkipped;
  }
  const auto self = base::own_executable();
  void* shared =
      ::mmap(nullptr, sizeof(Totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (!self.ok() || shared == MAP_FAILED) return 1;
  auto& totals = *new (shared) Totals;
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
  const base::Instant start = base::BootClock::now();
  int worst = 0;
  for (const bool isolated : {true, false}) {
    if (wants(options, isolated) && interrupted == 0)
      worst = std::max(worst, record_and_sweep(options, *self, isolated, totals));
  }
  if (worst == kSkipped) return kSkipped;
  say_untried(options);
  std::cout << fmt::format(
      "crash sweep: {} points ({} kills, {} failing calls), {} scenarios, {} kinds not tried, {} "
      "residues, {} false reverts; {} left to cleanup; {} lives beside others; {}{}\n",
      totals.kills + totals.failing_calls, totals.kills.load(), totals.failing_calls.load(),
      totals.kinds.load(), untried().size(), totals.residues.load(), totals.false_claims.load(),
      totals.needed_cleanup.load(), totals.foreign_lives.load(),
      base::humanize(base::BootClock::now() - start), interrupted == 0 ? "" : "; interrupted");
  return totals.clean() && worst == 0 && interrupted == 0 ? 0 : 1;
}

}  // namespace
}  // namespace squall::crash_sweep

int main(int argc, char** argv) {
  using namespace squall;  // NOLINT: a test program
  std::vector<std::string> words{argv + 1, argv + argc};
  if (!crash_sweep::take_orders(words)) return 2;
  const std::string role = words.empty() ? "" : words[0];
  if (role == "holder") return inject::holder_main();
  if (role == "keeper") return inject::keeper_main({words.begin() + 1, words.end()});
  if (role == "engine" && words.size() > 5) {
    const crash_sweep::Course course{.kill_holder = words[4].ends_with("kill-holder"),
                                     .await_joined = words[4].starts_with("joined-")};
    return crash_sweep::drive_lease(words[1], words[2], words[3], course,
                                    {words.begin() + 5, words.end()});
  }
  return crash_sweep::sweep_main(words);
}
