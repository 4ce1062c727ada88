// The crash sweep: kills engine, keeper or holder at each of their system calls through the whole
// life of a fault, for every kind, and compares the host with what it was before. A process has no
// state between two system calls that others could see, so this is "killed at any instruction".

#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "base/files.h"
#include "base/process.h"
#include "host_snapshot.h"
#include "inject/client.h"
#include "inject/keeper.h"
#include "inject/registry.h"
#include "inject/state_directory.h"
#include "lease_driver.h"
#include "scenarios.h"

namespace squall::crash_sweep {
namespace {

constexpr const char* kUsage = R"(usage: crash_sweep [OPTIONS]
  --kinds A,B      only these kinds; default all
  --roles A,B      whom to kill: engine, keeper, holder, replays (every holder and every replay),
                   pair (keeper and holder); default all
  --sample N       N points for each kind and role, chosen by the seed; default every point
  --seed N         default 1
  --call N         only this call of each role, to look into a residue
  --shard I/N      the I-th of N parts, from 1
  --alone yes      nobody else uses BPF meanwhile: its links must be the same afterwards, too
  --resume FILE    leave out the points that FILE names; add what is done
Exit status: 0 without residues, 1 with, 2 for a wrong option, 77 when it cannot run here.
)";
constexpr const char* kStrace = "/usr/bin/strace";
constexpr int kNever = 60000;

struct Options {
  std::vector<std::string> kinds;
  std::vector<std::string> roles = {"engine", "keeper", "holder", "replays", "pair"};
  std::size_t sample = 0;
  std::uint64_t seed = 1;
  int call = 0;  // 0: all
  std::size_t shard = 1;
  std::size_t shards = 1;
  std::string resume;
  bool alone = false;
};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::stringstream in(text);
  for (std::string part; std::getline(in, part, separator);) parts.push_back(part);
  return parts;
}

bool read_options(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    if (i + 1 >= argc) return false;
    const std::string value = argv[i + 1];
    if (name == "--kinds") {
      options.kinds = split(value, ',');
    } else if (name == "--roles") {
      options.roles = split(value, ',');
    } else if (name == "--sample") {
      options.sample = std::stoul(value);
    } else if (name == "--call") {
      options.call = std::stoi(value);
    } else if (name == "--seed") {
      options.seed = std::stoull(value);
    } else if (name == "--shard" && split(value, '/').size() == 2) {
      options.shard = std::stoul(split(value, '/')[0]);
      options.shards = std::stoul(split(value, '/')[1]);
    } else if (name == "--alone") {
      options.alone = value == "yes";
    } else if (name == "--resume") {
      options.resume = value;
    } else {
      return false;
    }
  }
  return options.shards > 0 && options.shard > 0;
}

// A point: who is killed at which of its system calls; `second` for pairs.
struct Point {
  const Scenario* scenario = nullptr;
  std::string role;
  int call = kNever;
  int second = kNever;
  std::string name() const {
    std::string text = fmt::format("{} {} {}", scenario->name, role, call);
    if (second != kNever) text += fmt::format("+{}", second);
    return text;
  }
};

class Sweep {
 public:
  Sweep(Options options, Stage stage, std::string self)
      : options_(std::move(options)), stage_(std::move(stage)), self_(std::move(self)) {}
  ~Sweep() { stage_.tear_down(); }

  int run() {
    read_done();
    for (const Scenario& scenario : scenarios()) {
      const auto& wanted = options_.kinds;
      if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), scenario.name) == wanted.end())
        continue;
      if (const std::string missing = stage_.missing_for(scenario); !missing.empty()) {
        std::cout << fmt::format("{:<20} skipped: {}\n", scenario.name, missing);
        continue;
      }
      ++kinds_;
      for (const std::string& role : options_.roles) sweep(scenario, role);
    }
    std::cout << fmt::format("crash sweep: {} points, {} kinds, {} residues\n", points_, kinds_,
                             residues_);
    return residues_ == 0 && broken_ == 0 ? 0 : 1;
  }

 private:
  std::vector<std::string> traced(const char* who, int call) const {
    return {kStrace, "-D",
            "-o",    stage_.folder() + "/state-trace-" + who,
            "-e",    fmt::format("inject=all:signal=SIGKILL:when={}", call)};
  }

  // Argument arrays of engine and keeper with strace before whom it is to kill.
  std::vector<std::string> engine_argv(const Point& point) const {
    std::vector<std::string> argv;
    const auto add = [&](const std::vector<std::string>& words) {
      argv.insert(argv.end(), words.begin(), words.end());
    };
    const bool everybody = point.call == kNever;
    if (everybody || point.role == "engine") add(traced("engine", point.call));
    add({self_, "engine", fmt::format("sweep-{}", points_), stage_.folder(),
         stage_.folder() + "/state-binding.json"});
    if (everybody || point.role == "keeper") add(traced("keeper", point.call));
    if (point.role == "pair") add(traced("keeper", point.second));
    add({self_, "keeper"});
    // A replay is a holder, too: only where it shall die is it traced as the first one is.
    if (point.role == "holder" || point.role == "pair") add({self_, "once", once_mark()});
    if (everybody || point.role == "holder" || point.role == "pair" || point.role == "replays")
      add(traced("holder", point.call));
    add({self_, "holder"});
    return argv;
  }

  // How many system calls a role makes in an undisturbed life: the last point to try. Some more, as
  // another run may make more.
  int calls_of(const std::string& role) const {
    const std::string who = role == "engine" || role == "keeper" ? role : "holder";
    std::ifstream file(stage_.folder() + "/state-trace-" + who);
    int lines = 0;
    for (std::string line; std::getline(file, line);) ++lines;
    return lines + 3;
  }

  std::vector<Point> points_of(const Scenario& scenario, const std::string& role) {
    const int last = calls_of(role);
    const int keeper = calls_of("keeper");
    std::mt19937_64 random(options_.seed ^ std::hash<std::string>{}(scenario.name + role));
    std::vector<Point> points;
    for (int call = 1; call <= last; ++call) {
      Point point{.scenario = &scenario, .role = role, .call = call};
      if (role == "pair")
        point.second = 1 + static_cast<int>(random() % static_cast<unsigned>(keeper));
      points.push_back(point);
    }
    if (options_.call > 0) {
      std::erase_if(points, [&](const Point& point) { return point.call != options_.call; });
    }
    if (options_.sample > 0 && points.size() > options_.sample) {
      std::shuffle(points.begin(), points.end(), random);
      points.resize(options_.sample);
    }
    return points;
  }

  void sweep(const Scenario& scenario, const std::string& role) {
    // Once undisturbed: it must work, and it says how many calls there are.
    Point undisturbed{.scenario = &scenario, .role = "nobody"};
    if (!try_point(undisturbed)) {
      ++broken_;
      std::cout << fmt::format("BROKEN  {}: does not even work undisturbed\n", scenario.name);
      return;
    }
    int done = 0;
    std::size_t number = 0;
    for (const Point& point : points_of(scenario, role)) {
      if (number++ % options_.shards != options_.shard - 1 || done_.contains(point.name()))
        continue;
      ++points_;
      ++done;
      if (!try_point(point)) ++residues_;
      if (!options_.resume.empty())
        std::ofstream(options_.resume, std::ios::app) << point.name() << "\n";
    }
    std::cout << fmt::format("{:<20} {:<8} {} points\n", scenario.name, role, done) << std::flush;
  }

  // True when the host is as it was before.
  bool try_point(const Point& point) {
    if (const auto ready = stage_.set_up(*point.scenario); !ready.ok())
      return say(point, ready.error().to_string());
    wait_until([&] {
      return take_snapshot(stage_.target_of(*point.scenario), stage_.folder())
          .at("target")
          .starts_with("1 ");
    });
    const auto binding = bind(stage_, *point.scenario);
    if (!binding.ok()) return say(point, "cannot be bound: " + binding.error().to_string());
    const std::string file = stage_.folder() + "/state-binding.json";
    if (!base::write_file_atomically(file, model::to_json(*binding).dump()).ok())
      return say(point, "cannot write the binding");
    const Snapshot before = snapshot(point);
    ::unlink(once_mark().c_str());

    base::SpawnOptions options;
    options.argv = engine_argv(point);
    const auto output = base::run_command(options, std::chrono::seconds(40));
    if (!output.ok()) return say(point, "the engine does not end: " + output.error().to_string());
    if (point.call == kNever && output->exit_status != 0)
      return say(point,
                 fmt::format("the engine ended with {}: {}", output->exit_status, output->error));
    // Whoever was killed alone, the others undo it without being told. Where every replay is killed
    // as well, somebody must say so.
    const bool by_itself = wait_until([&] { return nothing_is_left(); });
    if (!by_itself && point.role != "replays") {
      const bool undone = inject::cleanup(state()).ok();
      return say(point, fmt::format("not undone by itself ({}); {}",
                                    undone ? "cleanup did" : "nor by cleanup", output->error));
    }
    if (const auto cleaned = inject::cleanup(state()); !cleaned.ok())
      return say(point, "cleanup: " + cleaned.error().to_string());
    std::vector<std::string> residue;
    wait_until([&] {
      residue = differences(before, snapshot(point));
      return residue.empty();
    });
    for (const std::string& line : residue) say(point, line);
    return residue.empty();
  }

  Snapshot snapshot(const Point& point) const {
    Snapshot all = take_snapshot(stage_.target_of(*point.scenario), stage_.folder());
    if (options_.alone) add_bpf_links(all);
    return all;
  }

  bool say(const Point& point, const std::string& text) const {
    std::cout << fmt::format("RESIDUE {}: {}\n", point.name(), text) << std::flush;
    return false;
  }

  std::string state() const { return stage_.folder() + "/state"; }
  std::string once_mark() const { return stage_.folder() + "/state-once"; }

  bool nothing_is_left() const {
    const inject::StateDirectory directory{state()};
    if (!directory.lease_files().empty()) return false;
    const auto runs = inject::run_files(directory);
    return std::none_of(runs.begin(), runs.end(), [](const inject::RunFile& run) {
      return inject::alive(run.holder, run.boot_id);
    });
  }

  template <typename Condition>
  static bool wait_until(const Condition& condition) {
    const base::Instant end = base::BootClock::now() + std::chrono::seconds(6);
    while (!condition()) {
      if (base::BootClock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return true;
  }

  void read_done() {
    std::ifstream file(options_.resume);
    for (std::string line; std::getline(file, line);) done_.insert(line);
  }

  Options options_;
  Stage stage_;
  std::string self_;
  std::set<std::string> done_;
  int points_ = 0;
  int kinds_ = 0;
  int residues_ = 0;
  int broken_ = 0;
};

// `once MARK TRACER... SELF holder`: under the tracer the first time, without it from then on.
int exec_once(int argc, char** argv) {
  const bool first = ::access(argv[2], F_OK) != 0;
  if (first && !base::write_file_atomically(argv[2], "").ok()) return 2;
  char** command = first ? argv + 3 : argv + argc - 2;
  ::execv(command[0], command);
  return 2;
}

int sweep_main(int argc, char** argv) {
  Options options;
  if (!read_options(argc, argv, options)) {
    std::cerr << kUsage;
    return 2;
  }
  if (::geteuid() != 0 || ::access(kStrace, X_OK) != 0) {
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
  ::umount2((*folder + "/disk").c_str(), MNT_DETACH);
  ::umount2("/usr/bin/systemctl", MNT_DETACH);
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
  if (role == "engine" && argc > 5)
    return crash_sweep::drive_lease(argv[2], argv[3], argv[4], {argv + 5, argv + argc});
  return crash_sweep::sweep_main(argc, argv);
}
