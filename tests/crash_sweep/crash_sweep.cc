// The crash sweep: kills engine, keeper, holder or replay at each of their system calls through the
// whole life of a fault, or lets the call fail, for every kind, and compares the host with what it
// was before.

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <sstream>

#include "base/files.h"
#include "base/process.h"
#include "inject/client.h"
#include "inject/keeper.h"
#include "lease_driver.h"
#include "scenarios.h"
#include "sweep.h"

namespace squall::crash_sweep {
namespace {

constexpr const char* kUsage = R"(usage: crash_sweep [OPTIONS]
  --kinds A,B      only these kinds; default all
  --roles A,B      whose calls: engine, keeper, holder, replays (of a holder that was killed while
                   its fault was armed), pair (holder, and keeper at a call chosen by the seed);
                   default all
  --faults WHAT    kill: killed at each call. fail: each call fails with each of EINTR, ENOMEM, EIO,
                   ENOSPC, EPERM, EBUSY that it can fail with (not for pairs). all: the default
  --calls A,B      only these calls: pwrite64, or the third of them: pwrite64#3
  --sample N       N points for each kind, role and fault, chosen by the seed; default every point
  --seed N         default 1
  --shard I/N      the I-th of N parts, from 1
  --resume FILE    leave out the points that FILE names; add those that are done without residue
  --foreign        instead: one undisturbed life of each kind beside state of others, which they
                   change meanwhile; all of it must be there afterwards
  --alone          nobody else uses BPF meanwhile: its links must be the same afterwards, too
  --until-residue  stop at the first residue
  --verbose        name each point before it is tried
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
    } else if (name == "--resume") {
      options.resume = value;
    } else {
      return false;
    }
  }
  return options.shards > 0 && options.shard > 0;
}

int sweep_main(const std::vector<std::string>& words) {
  Options options;
  if (!read_options(words, options)) {
    std::cerr << kUsage;
    return 2;
  }
  if (::geteuid() != 0 || ::access("/usr/bin/strace", X_OK) != 0) {
    std::cout << "skipped: the crash sweep needs root and strace\n";
    return 77;
  }
  const auto self = base::own_executable();
  const auto folder = base::make_temporary_directory("squall-crash-sweep-");
  if (!self.ok() || !folder.ok()) return 1;
  auto stage = Stage::make(*folder);
  if (!stage.ok()) {
    std::cout << "skipped: " << stage.error().to_string() << "\n";
    return 77;
  }
  int status = 1;
  {
    Sweep sweep(std::move(options), std::move(*stage), *self);
    status = sweep.run();
  }
  std::error_code ignored;
  std::filesystem::remove_all(*folder, ignored);
  return status;
}

}  // namespace
}  // namespace squall::crash_sweep

int main(int argc, char** argv) {
  using namespace squall;  // NOLINT: a test program
  const std::string_view role = argc > 1 ? argv[1] : "";
  if (role == "holder") return inject::holder_main();
  if (role == "keeper") return inject::keeper_main({argv + 2, argv + argc});
  if (role == "once" && argc > 5) return crash_sweep::exec_once(argc, argv);
  if (role == "engine" && argc > 6) {
    const bool kill_holder = std::string_view(argv[5]) == "kill-holder";
    return crash_sweep::drive_lease(argv[2], argv[3], argv[4], kill_holder,
                                    {argv + 6, argv + argc});
  }
  return crash_sweep::sweep_main({argv + 1, argv + argc});
}
