#include "observe/observer.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>

#include "base/ids.h"
#include "base/units.h"
#include "observe/service_watch.h"
#include "observe/ticking_probe.h"

namespace squall::observe {
namespace {

// How long a probe's thread is waited for beyond its own patience before it is abandoned.
constexpr base::Duration kGrace = std::chrono::seconds(2);
constexpr base::Duration kCheckPatience = std::chrono::seconds(8);
// Time between start() and the first tick, so that all threads are there.
constexpr base::Duration kRunUp = std::chrono::milliseconds(20);

// FNV-1a: gives every probe a seed of its own that depends on nothing but the run's and its name.
std::uint64_t seed_for(std::uint64_t seed, std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u ^ seed;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

// Set by a thread when it is done; outlives both sides.
struct Completion {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  void finish() {
    const std::lock_guard lock(mutex);
    done = true;
    changed.notify_all();
  }
  // False when it is not done within `limit`.
  bool wait(base::Duration limit) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, limit, [this] { return done; });
  }
};

// A thread that may hang in a call nobody can interrupt. Joined when it ends in time, else left to
// itself with what it owns.
class AbandonableThread {
 public:
  template <typename Work>
  explicit AbandonableThread(Work work)
      : completion_(std::make_shared<Completion>()),
        thread_([work = std::move(work), completion = completion_](std::stop_token stop) mutable {
          work(stop);
          // What the work owns goes before anybody is told that it has ended.
          { [[maybe_unused]] const auto gone = std::move(work); }
          completion->finish();
        }) {}
  AbandonableThread(AbandonableThread&&) = default;
  AbandonableThread& operator=(AbandonableThread&&) = delete;
  ~AbandonableThread() {
    if (thread_.joinable()) end(base::Duration::zero());
  }
  void request_stop() { thread_.request_stop(); }
  bool wait(base::Duration limit) { return completion_->wait(limit); }
  // True when it has ended.
  bool end(base::Duration limit) {
    thread_.request_stop();
    if (completion_->wait(limit)) {
      thread_.join();
      return true;
    }
    thread_.detach();
    return false;
  }

 private:
  std::shared_ptr<Completion> completion_;
  std::jthread thread_;
};

struct RunningProbe {
  std::string name;
  std::shared_ptr<Probe> probe;
  std::optional<AbandonableThread> thread;
  base::Instant stuck_since{};  // the question for which probe.stuck was told
  bool prepared = false;
};

class RealObserver final : public Observer {
 public:
  explicit RealObserver(ObserverOptions options);
  ~RealObserver() override { stop(); }
  base::Status make_probes();

  std::vector<std::string> probe_names() const override;
  std::vector<base::Error> check() override;
  base::Status start() override;
  void expect_changes(const std::string& service) override { watch_->expect_changes(service); }
  void stop_load() override;
  base::Status read_back() override;
  void stop() override;
  std::vector<LoadHealth> load_health() const override;

 private:
  bool wanted(const model::ProbeSpecification& specification,
              const std::vector<std::string>& sources) const;
  std::vector<model::Slice> slices_for(const std::string& probe) const;
  void watch(const std::stop_token& stop);
  void tell_stuck_probes();

  ObserverOptions options_;
  std::vector<RunningProbe> probes_;
  std::unique_ptr<ServiceWatch> watch_;
  std::jthread watch_thread_;
};

RealObserver::RealObserver(ObserverOptions options) : options_(std::move(options)) {
  if (options_.run.empty()) {
    options_.run = base::RunId::generate(options_.clock.wall_now()).short_text();
  }
  std::vector<const model::Service*> services;
  for (const std::string& name : options_.watched_services) {
    const model::Service* service = options_.map.service(name);
    if (service != nullptr && !service->external) services.push_back(service);
  }
  watch_ = std::make_unique<ServiceWatch>(std::move(services), options_.host, options_.clock,
                                          options_.recorder);
}

bool RealObserver::wanted(const model::ProbeSpecification& specification,
                          const std::vector<std::string>& sources) const {
  if (specification.parameters.has("always") && specification.parameters.boolean("always")) {
    return true;
  }
  return std::find(sources.begin(), sources.end(), specification.name) != sources.end();
}

std::vector<model::Slice> RealObserver::slices_for(const std::string& probe) const {
  std::vector<model::Slice> slices = {
      {.id = model::slice_id(probe, nullptr), .probe = probe, .where = nullptr}};
  for (const model::Prediction* prediction : options_.predictions) {
    for (model::Slice& slice : model::slices_of(*prediction)) {
      const bool known = std::any_of(slices.begin(), slices.end(),
                                     [&](const auto& other) { return other.id == slice.id; });
      if (slice.probe == probe && !known) slices.push_back(std::move(slice));
    }
  }
  return slices;
}

base::Status RealObserver::make_probes() {
  std::vector<std::string> sources;
  for (const model::Prediction* prediction : options_.predictions) {
    for (std::string& source : model::sources_of(*prediction)) sources.push_back(std::move(source));
  }
  for (const model::ProbeSpecification& specification : options_.map.probes) {
    if (!wanted(specification, sources)) continue;
    auto probe = options_.make(specification,
                               ProbeContext{.clock = options_.clock,
                                            .recorder = options_.recorder,
                                            .host = options_.host,
                                            .map = options_.map,
                                            .slices = slices_for(specification.name),
                                            .seed = seed_for(options_.seed, specification.name),
                                            .run = options_.run});
    if (!probe.ok()) {
      return std::move(probe).error().within("setting up probe " + specification.name);
    }
    probes_.push_back(
        {.name = specification.name, .probe = std::move(probe).value(), .thread = std::nullopt});
  }
  return {};
}

std::vector<std::string> RealObserver::probe_names() const {
  std::vector<std::string> names;
  for (const RunningProbe& running : probes_) names.push_back(running.name);
  return names;
}

std::vector<base::Error> RealObserver::check() {
  struct Answer {
    std::mutex mutex;
    base::Status status;
  };
  std::vector<std::shared_ptr<Answer>> answers;
  std::vector<AbandonableThread> threads;
  threads.reserve(probes_.size());
  for (const RunningProbe& running : probes_) {
    auto answer = std::make_shared<Answer>();
    answers.push_back(answer);
    threads.emplace_back([probe = running.probe, answer](const std::stop_token&) {
      base::Status status = probe->check();
      const std::lock_guard lock(answer->mutex);
      answer->status = std::move(status);
    });
  }
  std::vector<base::Error> errors;
  const base::Instant deadline = base::BootClock::now() + kCheckPatience;
  for (std::size_t i = 0; i < probes_.size(); ++i) {
    const std::string what = "checking probe " + probes_[i].name;
    if (!threads[i].end(std::max(base::Duration::zero(), deadline - base::BootClock::now()))) {
      errors.push_back(base::Error{.code = base::ErrorCode::kTimeout,
                                   .message = "no answer within 8 s",
                                   .hint = "often a name that cannot be resolved: write the IP "
                                           "address, or check the resolver of this host"}
                           .within(what));
      continue;
    }
    const std::lock_guard lock(answers[i]->mutex);
    if (!answers[i]->status.ok()) {
      errors.push_back(std::move(answers[i]->status).error().within(what));
    }
  }
  return errors;
}

base::Status RealObserver::start() {
  for (RunningProbe& running : probes_) {
    if (base::Status prepared = running.probe->prepare(); !prepared.ok()) {
      return std::move(prepared).error().within("starting probe " + running.name);
    }
    running.prepared = true;
  }
  SQUALL_TRY(watch_->declare());
  const base::Instant first_tick = options_.clock.now() + kRunUp;
  try {
    for (RunningProbe& running : probes_) {
      running.thread.emplace([probe = running.probe, first_tick](std::stop_token stop) {
        probe->run(first_tick, std::move(stop));
      });
    }
    watch_thread_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
  } catch (const std::system_error& error) {
    stop();
    return base::Error{.code = base::ErrorCode::kExhausted,
                       .message = fmt::format("no thread for a probe: {}", error.what()),
                       .hint = "raise the limit of processes (ulimit -u, pids.max)"};
  }
  return {};
}

void RealObserver::watch(const std::stop_token& stop) {
  // Walking /proc takes some milliseconds now and then: never in the target's way.
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), 10);
  auto wake_up = base::WakeUp::create();
  if (!wake_up.ok()) return;
  const base::Instant first = base::BootClock::now();
  base::Instant at = first;
  while (!wait_until(at, stop, *wake_up)) {
    watch_->sample();
    tell_stuck_probes();
    at = next_tick(first, kWatchInterval, base::BootClock::now());
  }
  // What the services wrote in the last moments is often what explains the run.
  watch_->sample();
  watch_->finish();
}

void RealObserver::tell_stuck_probes() {
  const base::Instant now = base::BootClock::now();
  for (RunningProbe& running : probes_) {
    const auto since = running.probe->busy_since();
    if (!since || now - *since < running.probe->patience() || *since == running.stuck_since) {
      continue;
    }
    running.stuck_since = *since;
    const base::Json details = {{"probe", running.name}, {"since", base::to_nanoseconds(*since)}};
    options_.recorder.add(evidence::Event{
        .at = options_.clock.now(),
        .type = "probe.stuck",
        .subject = running.name,
        .text = fmt::format("probe {} has been waiting for its answer for {}; it gives no samples",
                            running.name, base::humanize(now - *since)),
        .details = details.dump()});
  }
}

void RealObserver::stop_load() {
  for (RunningProbe& running : probes_) {
    if (running.thread) running.thread->request_stop();
  }
  for (RunningProbe& running : probes_) {
    if (!running.thread) continue;
    // Requests in flight are awaited, each to its own timeout, which is within the patience.
    if (!running.thread->end(running.probe->patience() + kGrace)) {
      running.probe->abandon();
      options_.recorder.add(evidence::Event{
          .at = options_.clock.now(),
          .type = "probe.stuck",
          .subject = running.name,
          .text = fmt::format("probe {} did not end; it is left to itself", running.name),
          .details = {}});
      running.prepared = false;
    }
    running.thread.reset();
  }
}

base::Status RealObserver::read_back() {
  base::Status first;
  for (RunningProbe& running : probes_) {
    if (!running.prepared) continue;
    base::Status finished = running.probe->finish();
    if (!finished.ok() && first.ok()) {
      first = std::move(finished).error().within("reading back the writes of " + running.name);
    }
  }
  return first;
}

void RealObserver::stop() {
  stop_load();
  if (watch_thread_.joinable()) {
    watch_thread_.request_stop();
    watch_thread_.join();
  }
}

std::vector<LoadHealth> RealObserver::load_health() const {
  std::vector<LoadHealth> all;
  for (const RunningProbe& running : probes_) {
    if (auto health = running.probe->load_health()) all.push_back(std::move(*health));
  }
  return all;
}

}  // namespace

base::Result<std::unique_ptr<Observer>> Observer::create(ObserverOptions options) {
  auto observer = std::make_unique<RealObserver>(std::move(options));
  SQUALL_TRY(observer->make_probes());
  return std::unique_ptr<Observer>(std::move(observer));
}

}  // namespace squall::observe
