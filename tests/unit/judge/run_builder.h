#pragma once
// Builds records in memory, as a run would have left them: phases, faults, requests, gauges.
// Times are seconds from the start of the run; defaults: baseline 0 to 10 s, fault 10 to 30 s,
// recovery 30 to 50 s, one fault named "outage" with a proven effect and a verified revert.

#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "evidence/record.h"
#include "judge/judge.h"
#include "model/prediction_language.h"

namespace squall::judge::testing {

inline base::Instant at(double seconds) {
  return base::instant_from_nanoseconds(1'000'000'000'000) +
         base::Duration(std::llround(seconds * 1e9));
}

inline model::SignalTable signals() {
  using base::Dimension;
  using model::SignalType;
  model::SignalTable table;
  table.entries = {
      {"reads", "latency", SignalType::kRequests, Dimension::kDuration},
      {"writes", "latency", SignalType::kRequests, Dimension::kDuration},
      {"stuck", "value", SignalType::kGauge, Dimension::kNumber},
      {"api", "memory", SignalType::kGauge, Dimension::kSize},
      {"log", "matches", SignalType::kCounter, Dimension::kNumber},
  };
  table.fault_names = {"outage", "second"};
  table.sequenced_probes = {"writes"};
  return table;
}

inline model::Prediction predict(std::string_view text,
                                 model::ClauseRule rule = model::ClauseRule::kHypothesis,
                                 std::string_view name = "p") {
  auto parsed = model::parse_prediction(name, text, signals(), rule);
  if (!parsed.prediction) {
    for (const auto& error : parsed.errors) std::fprintf(stderr, "%s\n", error.message.c_str());
    base::check_failed("the prediction parses", std::string(text).c_str(), 0);
  }
  return *parsed.prediction;
}

struct Request {
  evidence::Outcome outcome = evidence::Outcome::kOk;
  double latency = 0.02;  // seconds
  double lag = 0;
  bool dropped = false;
  std::vector<std::string> slices = {};  // of the probe, that it also belongs to
};

class RunBuilder {
 public:
  RunBuilder() {
    content_.header.boot_start = at(0);
    experiment_.phases = {std::chrono::seconds(10), std::chrono::seconds(20)};
    model::FaultSpecification& fault = experiment_.faults.emplace_back();
    fault.name = "outage";
    fault.duration = std::chrono::seconds(20);
    add_probe("reads", "api");
    add_probe("stuck", "db");
  }

  // Requests of a probe at a constant rate over [begin, end).
  RunBuilder& requests(const std::string& probe, double rate, double begin, double end,
                       const std::function<Request(double)>& request) {
    const auto count = static_cast<std::int64_t>(std::llround((end - begin) * rate));
    series(probe, evidence::SeriesKind::kRequests, probe);
    for (std::int64_t i = 0; i < count; ++i) {
      const double when = begin + (static_cast<double>(i) + 0.5) / rate;
      const Request made = request(when);
      add(probe, when, made);
      for (const std::string& slice : made.slices) add(slice, when, made);
    }
    return *this;
  }
  RunBuilder& slice(const std::string& id, const std::string& probe) {
    series(id, evidence::SeriesKind::kRequests, probe);
    return *this;
  }
  RunBuilder& gauge(const std::string& name, double every, double begin, double end,
                    const std::function<double(double)>& value,
                    evidence::SeriesKind kind = evidence::SeriesKind::kGauge) {
    auto& samples = series(name, kind, name.substr(0, name.find('.'))).samples;
    const auto count = static_cast<std::int64_t>(std::llround((end - begin) / every));
    for (std::int64_t i = 0; i < count; ++i) {
      const double when = begin + static_cast<double>(i) * every;
      samples.push_back({at(when), value(when)});
    }
    return *this;
  }
  RunBuilder& write(std::uint64_t sequence, double when, evidence::WriteFate fate) {
    series("writes", evidence::SeriesKind::kRequests, "writes")
        .writes.push_back({sequence, at(when), fate});
    return *this;
  }
  RunBuilder& read_back(std::uint64_t sequence, std::uint32_t found, bool known = true) {
    series("writes", evidence::SeriesKind::kRequests, "writes")
        .read_backs.push_back({sequence, known, found});
    return *this;
  }
  RunBuilder& event(double when, std::string type, std::string subject = {},
                    std::string details = {}) {
    events_.push_back({at(when), std::move(type), std::move(subject), {}, std::move(details)});
    return *this;
  }

  RunBuilder& hypothesis(std::string_view text, std::string_view name = "p") {
    experiment_.hypothesis.push_back(predict(text, model::ClauseRule::kHypothesis, name));
    return *this;
  }
  RunBuilder& steady_state(std::string_view text, std::string_view name = "steady") {
    map_.steady_state.push_back(predict(text, model::ClauseRule::kSteadyState, name));
    return *this;
  }

  // What the run looked like. Zero end: the engine died before the event.
  RunBuilder& damaged(double begin, double end) {
    content_.gaps.push_back({at(begin), at(end)});
    return *this;
  }
  RunBuilder& without_effect() { return effect_ = false, *this; }
  RunBuilder& without_verification() { return verified_ = false, *this; }
  RunBuilder& fault_ends(double when) { return fault_end_ = when, *this; }
  RunBuilder& run_ends(double when, std::string outcome = "completed") {
    return run_end_ = when, outcome_ = std::move(outcome), *this;
  }
  RunBuilder& dies() { return outcome_.clear(), *this; }

  model::Experiment& experiment() { return experiment_; }
  model::SystemMap& map() { return map_; }

  evidence::Record record() {
    evidence::Record::Content content = content_;
    for (auto& [name, series] : series_) {
      evidence::Series merged = series;
      for (auto& [start, bucket] : buckets_[name]) merged.buckets.push_back(bucket);
      content.series.push_back(std::move(merged));
    }
    const auto add_event = [&](double when, std::string type, std::string subject,
                               std::string details) {
      content.events.push_back(
          {at(when), std::move(type), std::move(subject), {}, std::move(details)});
    };
    add_event(0, "run.started", "", "");
    add_event(0, "phase.started", "baseline", "");
    if (run_end_ > 10) {
      add_event(10, "phase.started", "fault", "");
      add_event(10, "fault.arming", "outage", "");
      add_event(10, "fault.armed", "outage", "");
      if (effect_) add_event(10, "fault.effective", "outage", "");
    }
    if (fault_end_ <= run_end_) {
      add_event(fault_end_, "fault.reverting", "outage", "");
      add_event(fault_end_, "fault.reverted", "outage", "");
      if (verified_) add_event(fault_end_, "fault.verified", "outage", "");
      add_event(fault_end_, "phase.started", "recovery", "");
    }
    content.events.insert(content.events.end(), events_.begin(), events_.end());
    content.finished = !outcome_.empty();
    std::stable_sort(content.events.begin(), content.events.end(),
                     [](const auto& one, const auto& other) { return one.at < other.at; });
    if (!outcome_.empty()) {
      add_event(run_end_, "run.finished", outcome_,
                R"({"outcome":")" + outcome_ + R"(","reason":"because"})");
    }
    return evidence::Record::make(std::move(content));
  }

  Judgement judge() {
    const evidence::Record made = record();
    return judge::judge({made, map_, experiment_});
  }
  PredictionResult judge_one() { return judge().predictions.at(0); }

 private:
  void add_probe(const std::string& name, const std::string& service) {
    model::ProbeSpecification& probe = map_.probes.emplace_back();
    probe.name = name;
    probe.to = service;
  }
  evidence::Series& series(const std::string& name, evidence::SeriesKind kind,
                           const std::string& source) {
    const auto [entry, fresh] = series_.try_emplace(name);
    if (fresh) entry->second.declaration = {name, kind, "", source};
    return entry->second;
  }
  void add(const std::string& name, double when, const Request& made) {
    const auto start = static_cast<std::int64_t>(std::floor(when * 10 + 1e-9));
    evidence::RequestBucket& bucket = buckets_[name][start];
    bucket.start = at(static_cast<double>(start) / 10);
    if (made.dropped) {
      ++bucket.dropped;
      return;
    }
    ++bucket.outcomes[static_cast<std::size_t>(made.outcome)];
    const auto duration = [](double seconds) {
      return base::Duration(std::llround(seconds * 1e9));
    };
    bucket.response_time.add(duration(made.latency));
    bucket.service_time.add(duration(std::max(0.0, made.latency - made.lag)));
    bucket.lag.add(duration(made.lag));
  }

  evidence::Record::Content content_;
  std::map<std::string, evidence::Series> series_;
  std::map<std::string, std::map<std::int64_t, evidence::RequestBucket>> buckets_;
  std::vector<evidence::Event> events_;
  model::Experiment experiment_;
  model::SystemMap map_;
  bool effect_ = true;
  bool verified_ = true;
  double fault_end_ = 30;
  double run_end_ = 50;
  std::string outcome_ = "completed";
};

// Every request is good and takes 20 ms.
inline Request good(double) {
  return {};
}

}  // namespace squall::judge::testing
