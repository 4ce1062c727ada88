#include "sweep.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "base/files.h"
#include "base/process.h"
#include "base/units.h"
#include "inject/client.h"
#include "inject/process_table.h"
#include "inject/registry.h"
#include "inject/state_directory.h"
#include "lease_driver.h"
#include "tracer.h"

namespace squall::crash_sweep {

namespace {

using namespace std::chrono_literals;

constexpr base::Duration kLifeLimit = 40s;
constexpr base::Duration kUndoneLimit = 6s;
constexpr base::Duration kLookedLimit = 2s;
// A run may make a few more calls than the one that was recorded.
constexpr int kMoreCalls = 1;
// For each kind: the holder at a call, and the keeper at one that the seed chooses.
constexpr std::size_t kPairs = 150;

template <typename Condition>
bool wait_until(base::Duration limit, const Condition& condition) {
  const base::Instant end = base::BootClock::now() + limit;
  for (base::Duration pause = 1ms; !condition(); pause = std::min<base::Duration>(2 * pause, 8ms)) {
    if (base::BootClock::now() > end) return false;
    std::this_thread::sleep_for(pause);
  }
  return true;
}

bool listed(const std::vector<std::string>& list, const std::string& word) {
  return list.empty() || std::find(list.begin(), list.end(), word) != list.end();
}

bool is_holder(const std::string& role) {
  return role == "holder" || role == "replays" || role == "pair";
}

// As many of each call as of any other, as far as there are so many.
std::vector<Point> stratified(std::vector<Point> points, std::size_t most,
                              std::mt19937_64& random) {
  if (points.size() <= most) return points;
  std::shuffle(points.begin(), points.end(), random);
  std::map<std::string, std::size_t> count;
  std::vector<std::pair<std::size_t, Point>> ranked;
  for (Point& point : points) {
    const std::size_t rank = count[point.call.name]++;
    ranked.emplace_back(rank, std::move(point));
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& one, const auto& other) { return one.first < other.first; });
  points.clear();
  for (std::size_t i = 0; i < most; ++i) points.push_back(std::move(ranked[i].second));
  return points;
}

// Forked by the holder, and not executed.
bool is_forked(const std::string& role) {
  return role == "starter" || role == "worker";
}

}  // namespace

std::string Point::name() const {
  std::string text = fmt::format("{} {}", scenario->name, role);
  if (disturbs()) text += fmt::format(" {} {}", error.empty() ? "SIGKILL" : error, call.text());
  if (second.number > 0) text += fmt::format("+{}", second.text());
  return text;
}

// What became of one life.
struct Sweep::Life {
  std::string broken;                      // not empty: it could not even begin
  int exit_status = -1;                    // the engine's
  std::string said;                        // on standard error
  std::vector<std::string> told_too_soon;  // differences when it was told that the fault is gone
  bool undone_by_itself = false;
  std::string cleanup_error;
  std::vector<std::string> residue;
  bool somebody_lives = false;
};

Sweep::Sweep(Options options, Stage stage, std::string self, bool isolated, Totals& totals)
    : options_(std::move(options)),
      stage_(std::move(stage)),
      self_(std::move(self)),
      isolated_(isolated),
      totals_(totals) {
  marks_ = base::UniqueFd{::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)};
  ::inotify_add_watch(marks_.get(), stage_.folder().c_str(), IN_CREATE);
}

Sweep::~Sweep() {
  end_all();
  stage_.tear_down();
}

void Sweep::run() {
  read_done();
  for (const Scenario& scenario : scenarios()) {
    if (scenario.by_host_numbers == isolated_ || !listed(options_.kinds, scenario.name)) continue;
    if (options_.until_residue && !totals_.clean()) break;
    // A sample is parted by kinds, for each shard has to record a kind anew; else by points.
    const bool whole = options_.sample > 0 || options_.foreign;
    if (whole && !is_mine(scenario.name)) continue;
    const bool counts =
        !options_.recording && (whole || options_.shard % options_.jobs == 1 % options_.jobs);
    if (const std::string missing = Stage::missing_for(scenario); !missing.empty()) {
      if (counts) std::cout << fmt::format("{:<20} skipped: {}\n", scenario.name, missing);
      continue;
    }
    scenario_ = &scenario;
    if (counts) ++totals_.kinds;
    if (!options_.foreign)
      sweep(scenario);
    else if (scenario.service == "target" || scenario.service == "grouped")
      sweep_foreign(scenario);
  }
}

bool Sweep::is_mine(const std::string& name) const {
  return std::hash<std::string>{}(name) % options_.shards == options_.shard - 1;
}

std::string Sweep::trace_file(const std::string& who) const {
  return fmt::format("{}/state-trace-{}", stage_.folder(), who);
}

// See tracer.h. A point without a number only records.
std::vector<std::string> Sweep::tracer(const std::string& who, const Point& point,
                                       const Call& call) const {
  const bool records = call.number == 0;
  return {"trace",
          who,
          records ? trace_file(who) : "-",
          records ? "-" : call.name,
          std::to_string(call.number),
          point.error.empty() ? "-" : point.error};
}

// Argument arrays of engine, keeper and holder, and who of them is to be traced.
std::vector<std::string> Sweep::engine_argv(const Point& point) const {
  std::vector<std::string> argv;
  const auto add = [&](const std::vector<std::string>& words) {
    argv.insert(argv.end(), words.begin(), words.end());
  };
  const bool everybody = !point.disturbs() && point.role != "replays" && !is_forked(point.role);
  add({self_});
  const std::string course = fmt::format("{}{}", point.scenario->joined ? "joined-" : "",
                                         point.role == "replays" ? "kill-holder" : "revert");
  if (everybody || point.role == "engine") add(tracer("engine", point, point.call));
  add({"engine", fmt::format("sweep-{}", lives_), stage_.folder(),
       stage_.folder() + "/state-binding.json", course, self_});
  if (everybody || point.role == "keeper") add(tracer("keeper", point, point.call));
  if (point.role == "pair") add(tracer("keeper", point, point.second));
  add({"keeper", self_});
  // A replay is a holder, too.
  if (everybody || is_holder(point.role) || is_forked(point.role)) {
    add({"once", point.role == "replays" ? "later" : "first", once_mark()});
    add(tracer(everybody ? "holder" : point.role, point, point.call));
  }
  add({"holder", stage_.folder()});  // so that processes of this sweep can be told
  return argv;
}

std::vector<Point> Sweep::points_of(const Scenario& scenario, const std::string& role,
                                    bool failing) {
  std::mt19937_64 random(options_.seed ^
                         std::hash<std::string>{}(scenario.name + role + (failing ? "f" : "")));
  std::vector<Call> calls = recorded_.at(role == "pair" ? "holder" : role);
  const std::vector<Call>& keeper = recorded_.at("keeper");
  std::map<std::string, int> last;
  for (const Call& call : calls) last[call.name] = std::max(last[call.name], call.number);
  for (const auto& [name, number] : last) {
    for (int i = 1; i <= kMoreCalls; ++i) calls.push_back({.name = name, .number = number + i});
  }
  std::vector<Point> points;
  for (const Call& call : calls) {
    const bool wanted = listed(options_.calls, call.name) || listed(options_.calls, call.text());
    if (!wanted) continue;
    Point point{.scenario = &scenario, .role = role, .call = call, .error = {}, .second = {}};
    if (role == "pair" && !keeper.empty()) point.second = keeper[random() % keeper.size()];
    if (!failing) {
      points.push_back(point);
      continue;
    }
    for (const std::string_view error : possible_errors(call)) {
      point.error = error;
      points.push_back(point);
    }
  }
  // By their names: each shard recorded on its own, and its list may differ in a call or two.
  const bool parted = options_.sample == 0;
  std::erase_if(points, [&](const Point& point) { return parted && !is_mine(point.name()); });
  std::size_t most = points.size();
  if (role == "pair") most = kPairs / options_.shards + 1;
  if (scenario.sample > 0) most = scenario.sample / options_.shards + 1;
  // Those of which a life takes seconds: half as many.
  if (!parted) most = scenario.sample > 0 ? (options_.sample + 1) / 2 : options_.sample;
  return stratified(std::move(points), most, random);
}

// Once undisturbed: it must work, and it leaves the lists of calls.
bool Sweep::record(const Scenario& scenario, const std::string& role) {
  Point undisturbed{.scenario = &scenario, .role = role, .call = {}, .error = {}, .second = {}};
  const Life life = live(undisturbed);
  bool works = life.broken.empty() && life.exit_status == 0 && judge(undisturbed, life);
  const bool alone = role != "everybody";
  const std::vector<std::string> traced =
      alone ? std::vector<std::string>{role}
            : std::vector<std::string>{"engine", "keeper", "holder"};
  for (const std::string& who : traced) {
    recorded_[who] = recorded_calls(trace_file(who));
    // Only workers are not always there.
    if (recorded_[who].empty() && who != "worker") works = false;
  }
  const std::string writer = alone ? role : "holder";
  for (const std::string& text : unsynced_notes(trace_file(writer))) {
    ++totals_.residues;
    say(undisturbed, "RESIDUE", text);
  }
  if (works) return true;
  ++totals_.broken;
  std::cout << fmt::format("BROKEN  {}: does not even work undisturbed ({}): {}{}\n",
                           undisturbed.name(), life.exit_status, life.broken, life.said)
            << std::flush;
  return false;
}

bool Sweep::record_all(const Scenario& scenario) {
  if (!record(scenario, "everybody")) return false;
  for (const char* role : {"replays", "starter", "worker"}) {
    if (listed(options_.roles, role) && !record(scenario, role)) return false;
  }
  return true;
}

void Sweep::write_records(const Scenario& scenario) const {
  std::ofstream file(options_.records, std::ios::app);
  for (const auto& [role, calls] : recorded_) {
    file << fmt::format("{} {} - 0 0\n", scenario.name, role);
    for (const Call& call : calls)
      file << fmt::format("{} {} {} {} {:d}\n", scenario.name, role, call.name, call.number,
                          call.creates);
  }
}

bool Sweep::read_records(const Scenario& scenario) {
  recorded_.clear();
  std::ifstream file(options_.records);
  std::string name;
  std::string role;
  for (Call call; file >> name >> role >> call.name >> call.number >> call.creates;) {
    if (name != scenario.name) continue;
    std::vector<Call>& calls = recorded_[role];
    if (call.number > 0) calls.push_back(call);
  }
  return !recorded_.empty();
}

void Sweep::sweep(const Scenario& scenario) {
  const bool known = !options_.recording && read_records(scenario);
  if (!known && !record_all(scenario)) return;
  if (options_.recording) return write_records(scenario);
  for (const std::string& role : options_.roles) {
    for (const bool failing : {false, true}) {
      if (!(failing ? options_.failing_calls && role != "pair" : options_.kills)) continue;
      if (failing && !kCallsCanFail) continue;
      int dirty = 0;
      int done = 0;
      for (const Point& point : points_of(scenario, role, failing)) {
        if (done_.contains(point.name())) continue;
        ++(failing ? totals_.failing_calls : totals_.kills);
        ++done;
        if (options_.count) continue;
        if (options_.verbose) std::cout << point.name() << std::endl;
        const bool clean = try_point(point);
        if (!clean && options_.until_residue) return;
        if (clean)
          mark_done(point);
        else
          ++dirty;
      }
      std::cout << fmt::format("{:<20} {:<8} {:<7} {:>5} points {:>3} residues\n", scenario.name,
                               role, failing ? "fails" : "killed", done, dirty)
                << std::flush;
    }
  }
}

bool Sweep::try_point(const Point& point) {
  const base::Instant start = base::BootClock::now();
  const Life life = live(point);
  if (options_.verbose) {
    std::cout << fmt::format("  engine ended with {}, {} in all; {}\n", life.exit_status,
                             base::humanize(base::BootClock::now() - start), life.said)
              << std::flush;
  }
  const bool clean = judge(point, life);
  unclean_ = !clean;
  return clean;
}

Sweep::Life Sweep::live(const Point& point) {
  Life life;
  if (std::exchange(unclean_, false)) stage_.tear_down();
  ++lives_;
  if (const auto ready = stage_.set_up(*point.scenario); !ready.ok()) {
    life.broken = ready.error().to_string();
    return life;
  }
  await_members();
  // Servers that were just started may want a moment until a fault can be bound.
  auto binding = bind(stage_, *point.scenario);
  wait_until(kUndoneLimit,
             [&] { return binding.ok() || (binding = bind(stage_, *point.scenario)).ok(); });
  const std::string file = stage_.folder() + "/state-binding.json";
  if (!binding.ok()) {
    life.broken = binding.error().to_string();
    return life;
  }
  std::ofstream(file) << model::to_json(*binding).dump();
  const Snapshot before = expected_ ? *expected_ : look();
  for (const std::string& mark :
       {once_mark(), stage_.folder() + kArmedMark, stage_.folder() + kGoneMark})
    ::unlink(mark.c_str());

  base::SpawnOptions options;
  options.argv = engine_argv(point);
  options.new_session = true;
  options.parent_death_signal = SIGKILL;
  const std::string errors = stage_.folder() + "/state-errors";
  const base::UniqueFd error_file{
      ::open(errors.c_str(), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600)};
  options.standard_error = error_file.get();
  auto engine = base::spawn(options);
  if (!engine.ok()) {
    life.broken = engine.error().to_string();
    return life;
  }
  const auto marked = [&](const char* mark) {
    return ::access((stage_.folder() + mark).c_str(), F_OK) == 0;
  };
  // It waits for that, unless it was killed or its call failed.
  const auto let_go_on = [&](const char* mark) {
    ::unlink((stage_.folder() + mark).c_str());
    wait_until(kLookedLimit, [&] {
      const base::UniqueFd pipe{
          ::open((stage_.folder() + kLookedPipe).c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC)};
      return pipe || engine->pidfd().ended() || marked(kGoneMark);
    });
  };
  const bool ended = wait_for_engine(*engine, [&] {
    if (marked(kGoneMark)) {
      life.told_too_soon = differences(before, look());
      let_go_on(kGoneMark);
    }
    if (marked(kArmedMark)) {
      if (foreign_ != nullptr) {
        if (auto changed = foreign_->change(*point.scenario); !changed.ok())
          foreign_error_ = changed.error().to_string();
      }
      if (point.scenario->joined) {
        if (auto replaced = stage_.replace_target(*point.scenario); !replaced.ok())
          life.broken = replaced.error().to_string();
      }
      let_go_on(kArmedMark);
    }
    return engine->pidfd().ended();
  });
  if (!ended) {
    life.said = "the engine does not end";
    if (auto killed = engine->pidfd().signal(SIGKILL); !killed.ok()) life.said += ", nor die";
  }
  const auto status = engine->wait(1s);
  life.exit_status = status.ok() && WIFEXITED(*status) ? WEXITSTATUS(*status) : -1;
  life.said += base::read_file(errors, 1u << 20).value_or("");
  // Whoever was disturbed alone, the others undo it without being told.
  wait_until(kUndoneLimit, [&] { return nothing_is_left() || !somebody_lives(); });
  life.undone_by_itself = nothing_is_left();
  if (const auto cleaned = inject::cleanup(state()); !cleaned.ok())
    life.cleanup_error = cleaned.error().to_string();
  wait_until(kUndoneLimit, [&] {
    life.residue = differences(before, look());
    return life.residue.empty();
  });
  life.somebody_lives = !wait_until(kUndoneLimit, [&] { return !somebody_lives(); });
  return life;
}

// Until `condition` holds, which changes when the engine makes a mark or ends.
template <typename Condition>
bool Sweep::wait_for_engine(const base::ChildProcess& engine, const Condition& condition) const {
  const base::Instant end = base::BootClock::now() + kLifeLimit;
  std::array<char, 4096> events{};
  while (!condition()) {
    if (base::BootClock::now() > end) return false;
    std::array<pollfd, 2> requests{{{.fd = marks_.get(), .events = POLLIN, .revents = 0},
                                    {.fd = engine.pidfd().get(), .events = POLLIN, .revents = 0}}};
    ::poll(requests.data(), requests.size(), 50);
    if (::read(marks_.get(), events.data(), events.size()) < 0) continue;
  }
  return true;
}

void Sweep::await_members() const {
  const model::Service& service = stage_.target_of(*scenario_);
  const std::string all = fmt::format("{} members", Stage::members_of(service));
  wait_until(kUndoneLimit, [&] { return members_text(service).starts_with(all); });
}

bool Sweep::judge(const Point& point, const Life& life) {
  if (!life.broken.empty()) {
    ++totals_.residues;
    return say(point, "BROKEN ", life.broken);
  }
  bool clean = true;
  for (const std::string& line : life.told_too_soon) clean = say(point, "FALSE  ", line);
  if (!clean) ++totals_.false_claims;
  const bool was_clean = clean;
  for (const std::string& line : life.residue) clean = say(point, "RESIDUE", line);
  if (life.somebody_lives) clean = say(point, "RESIDUE", "a process of ours does not end");
  if (!life.cleanup_error.empty()) clean = say(point, "RESIDUE", "cleanup: " + life.cleanup_error);
  // A killed replay needs another one, and a call that fails may be the one that undoes it. But
  // then somebody must have said so.
  const bool may_need_help = point.role == "replays" || !point.error.empty();
  const bool said_so = life.exit_status != static_cast<int>(DriverExit::kVerified);
  if (!life.undone_by_itself) {
    if (may_need_help && said_so)
      ++totals_.needed_cleanup;
    else
      clean =
          say(point, "RESIDUE",
              fmt::format("not undone by itself (engine: {}); {}", life.exit_status, life.said));
  }
  if (was_clean && !clean) ++totals_.residues;
  return clean;
}

bool Sweep::say(const Point& point, std::string_view what, const std::string& text) {
  std::cout << fmt::format("{} {}: {}\n", what, point.name(), text) << std::flush;
  return false;
}

bool Sweep::nothing_is_left() const {
  const inject::StateDirectory directory{state()};
  if (!directory.lease_files().empty()) return false;
  const auto runs = inject::run_files(directory);
  return std::none_of(runs.begin(), runs.end(), [](const inject::RunFile& run) {
    return inject::alive(run.holder, run.boot_id);
  });
}

Snapshot Sweep::look() const {
  stage_.accept_all();
  if (foreign_ != nullptr) return foreign_->look();
  Snapshot all = take_snapshot(stage_, stage_.target_of(*scenario_));
  if (options_.alone) add_bpf_links(all);
  return all;
}

// First without a fault: how it must be. Then with it.
void Sweep::sweep_foreign(const Scenario& scenario) {
  Point point{.scenario = &scenario, .role = "foreign", .call = {}, .error = {}, .second = {}};
  ++lives_;
  std::string failure;
  for (const bool with_fault : {false, true}) {
    stage_.tear_down();
    if (auto ready = stage_.set_up(scenario); !ready.ok()) failure = ready.error().to_string();
    foreign_ = std::make_unique<Foreign>(stage_);
    foreign_error_.clear();
    await_members();
    if (auto planted = foreign_->plant(); !planted.ok()) failure = planted.error().to_string();
    if (with_fault) {
      const Life life = live(point);
      judge(point, life);
      if (life.exit_status != 0)
        failure = fmt::format("it ended with {}: {}", life.exit_status, life.said);
    } else if (auto changed = foreign_->change(scenario); !changed.ok()) {
      failure = changed.error().to_string();
    } else {
      expected_ = look();
    }
    if (!foreign_error_.empty()) failure = foreign_error_;
    foreign_.reset();
  }
  expected_.reset();
  unclean_ = true;
  ++totals_.foreign_lives;
  if (!failure.empty()) {
    ++totals_.broken;
    say(point, "BROKEN ", failure);
  }
}

// Engines, keepers, holders, starters, workers and tracers of this sweep that still run.
std::vector<base::ProcessIdentity> Sweep::who_lives() const {
  std::vector<base::ProcessIdentity> living;
  const auto table = inject::read_process_table();
  for (const auto& entry : table.ok() ? *table : std::vector<inject::ProcessEntry>{}) {
    if (entry.state == 'Z' || entry.state == 'X' || entry.identity.pid == ::getpid()) continue;
    const std::string arguments =
        base::read_pseudo_file(fmt::format("/proc/{}/cmdline", entry.identity.pid)).value_or("");
    if (arguments.find(stage_.folder()) != std::string::npos && arguments.starts_with(self_))
      living.push_back(entry.identity);
  }
  return living;
}

// Whoever a bug kept alive, and who was started in their place meanwhile.
void Sweep::end_all() const {
  for (int tries = 0; tries < 3 && somebody_lives(); ++tries) {
    for (const base::ProcessIdentity& identity : who_lives()) {
      const auto process = base::PidFd::open(identity);
      if (!process.ok() || !process->signal(SIGKILL).ok()) continue;
    }
    wait_until(1s, [&] { return !somebody_lives(); });
  }
}

void Sweep::read_done() {
  std::ifstream file(options_.resume);
  for (std::string line; std::getline(file, line);) done_.insert(line);
}

void Sweep::mark_done(const Point& point) const {
  if (!options_.resume.empty())
    std::ofstream(options_.resume, std::ios::app) << point.name() << "\n";
}

}  // namespace squall::crash_sweep
