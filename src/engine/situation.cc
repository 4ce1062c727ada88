#include "engine/situation.h"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <algorithm>

#include "base/files.h"
#include "base/random.h"

namespace squall::engine {

namespace {

std::vector<safety::OtherLease> other_leases_of(const std::vector<inject::ActiveLease>& leases) {
  std::vector<safety::OtherLease> others;
  for (const inject::ActiveLease& lease : leases) {
    safety::OtherLease other;
    other.run = lease.run;
    other.experiment = lease.experiment;
    other.fault = lease.fault;
    other.targets = lease.targets;
    other.processes = lease.processes;
    other.overlap = lease.overlap;
    others.push_back(std::move(other));
  }
  return others;
}

// One answer a probe; the error's context names its probe.
std::vector<safety::ProbeAnswer> ask_probes(observe::Observer& observer) {
  std::vector<safety::ProbeAnswer> answers;
  for (const std::string& name : observer.probe_names()) answers.push_back({name, std::nullopt});
  for (base::Error& error : observer.check()) {
    const std::string context = error.context.empty() ? std::string() : error.context.back();
    const auto answer = std::find_if(answers.begin(), answers.end(), [&](const auto& each) {
      return context == "checking probe " + each.probe;
    });
    if (answer != answers.end()) {
      answer->error = std::move(error);
    } else {
      answers.push_back({context, std::move(error)});
    }
  }
  return answers;
}

std::vector<safety::Rehearsal> rehearse(const SituationSources& sources) {
  std::vector<safety::Rehearsal> rehearsals;
  for (const model::FaultBinding& fault : sources.bound.binding.faults) {
    safety::Rehearsal rehearsal;
    rehearsal.fault = fault.fault;
    if (sources.holder == nullptr) {
      rehearsal.error = sources.holder_error;
    } else {
      auto rehearsed = sources.holder->rehearse(fault);
      if (rehearsed.ok()) {
        rehearsal.text = std::move(rehearsed).value();
      } else {
        rehearsal.error = std::move(rehearsed).error();
      }
    }
    rehearsals.push_back(std::move(rehearsal));
  }
  return rehearsals;
}

}  // namespace

BoundPlan bind_plan(const model::Plan& plan, const model::SystemMap& map,
                    const model::Experiment& experiment, const host::Host& host,
                    const std::string& inject_state_directory) {
  BoundPlan bound;
  const std::string records = Workspace(map.directory).runs_directory();
  if (auto hostname = host.hostname(); hostname.ok()) bound.binding.hostname = *hostname;
  utsname names{};
  if (uname(&names) == 0) bound.binding.kernel = names.release;
  // Each fault draws from its own stream, so that adding one does not change the others' targets.
  base::Random seeds(plan.seed);
  for (std::size_t i = 0; i < experiment.faults.size(); ++i) {
    const inject::BindRequest request{map,          experiment.faults[i],   plan.faults[i], host,
                                      seeds.next(), inject_state_directory, records};
    auto binding = inject::bind(request);
    if (binding.ok()) {
      bound.binding.faults.push_back(std::move(binding).value());
    } else {
      bound.errors.push_back(std::move(binding).error().within(
          fmt::format("binding fault `{}`", experiment.faults[i].name)));
    }
  }
  return bound;
}

std::uint64_t record_size_estimate(const model::SystemMap& map,
                                   const model::Experiment& experiment) {
  const double seconds =
      base::to_seconds(experiment.phases.baseline * 2 + experiment.blast_radius.duration +
                       experiment.phases.recovery) +
      60;
  // A bucket of 100 ms with three histograms takes about 600 bytes, a gauge sample about 12; each
  // service has seven gauges four times a second and may log.
  const double per_second = static_cast<double>(map.probes.size()) * 3 * 10 * 600 +
                            static_cast<double>(map.services.size()) * (7 * 4 * 12 + 20 * 300);
  return (std::uint64_t{4} << 20) + static_cast<std::uint64_t>(seconds * per_second);
}

safety::Situation gather_situation(const SituationSources& sources) {
  safety::Situation situation;
  situation.plan = &sources.plan;
  situation.binding_errors = sources.bound.errors;
  if (sources.holder_error) situation.binding_errors.push_back(*sources.holder_error);
  if (situation.binding_errors.empty()) situation.binding = &sources.bound.binding;

  auto leases = inject::active_leases(sources.inject_state_directory);
  if (leases.ok()) {
    situation.other_leases = other_leases_of(leases.value());
  } else {
    situation.other_leases = std::move(leases).error();
  }
  auto engaged = inject::kill_switch(sources.inject_state_directory);
  if (!engaged.ok()) {
    situation.kill_switch = std::move(engaged).error();
  } else if (engaged->engaged) {
    situation.kill_switch =
        std::optional<safety::Engaged>(safety::Engaged{engaged->who, engaged->why, engaged->since});
  } else {
    situation.kill_switch = std::optional<safety::Engaged>{};
  }
  situation.probes = ask_probes(sources.observer);
  situation.rehearsals = rehearse(sources);
  situation.free_bytes = base::free_space(sources.record_directory);
  situation.needed_bytes = sources.record_size;
  return situation;
}

}  // namespace squall::engine
