#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "base/units.h"
#include "model/experiment.h"
#include "model/file_reader.h"
#include "model/parameter_reader.h"
#include "model/yaml_document.h"

namespace squall::model {
namespace {

constexpr base::Duration kPhaseLimit = std::chrono::hours(24);
constexpr std::int64_t kProcessesLimit = 1000;
// Words of `during`, `within` and `from`: a fault of that name could not be told from the phase.
constexpr std::array<std::string_view, 6> kReservedFaultNames = {"baseline", "fault",  "recovery",
                                                                 "inject",   "revert", "from"};

// A service that a fault names in one of its parameters, and where.
struct NamedService {
  std::string name;
  std::string parameter;
  const YamlNode* node = nullptr;
};

void collect_services(std::span<const ParameterDescriptor> descriptors, const YamlNode& node,
                      std::vector<NamedService>& result) {
  if (!node.is_map()) return;
  for (const ParameterDescriptor& descriptor : descriptors) {
    const YamlNode::Entry* entry = node.find(descriptor.name);
    if (entry == nullptr) continue;
    if (descriptor.type == ValueType::kService && entry->value->is_scalar()) {
      result.push_back({entry->value->text, std::string(descriptor.name), entry->value.get()});
    }
    collect_services(descriptor.children, *entry->value, result);
  }
}

bool can_be_found(const Service& service) {
  bool by_member =
      std::any_of(service.members.begin(), service.members.end(), [](const MemberSelector& member) {
        return member.listens || !member.process.empty() || !member.container.empty();
      });
  return !service.process.empty() || !service.container.empty() || service.listens || by_member;
}

class ExperimentParser {
 public:
  ExperimentParser(const FileContext& context, const SystemMap& map, const Vocabulary& vocabulary,
                   Experiment& experiment)
      : context_(context), map_(map), vocabulary_(vocabulary), experiment_(experiment) {}

  void read(const YamlNode& root) {
    MapReader reader(context_, root, "the experiment");
    if (!reader.valid()) return;
    if (const YamlNode* name = reader.require("experiment", "name it: `experiment: worker-dies`")) {
      experiment_.name = read_name(context_, *name, "`experiment`").value_or("");
    }
    const YamlNode* scenario =
        reader.require("scenario", "say in a sentence what happens: `scenario: One worker dies.`");
    if (scenario != nullptr) read_scenario(*scenario);
    const YamlNode* hypothesis = reader.require(
        "hypothesis", "write at least one prediction: what you believe will hold meanwhile");
    const YamlNode* faults = reader.require("faults", "write at least one fault: what is broken");
    const YamlNode* blast_radius =
        reader.require("blast_radius",
                       "bound what may be hit: `{ services: [api], processes: 1, duration: 30s }`");
    const YamlNode* abort_when =
        reader.require("abort_when", "say when to stop at once: `[ reads.success < 90% over 2s ]`");
    if (const YamlNode* phases = reader.find("phases")) read_phases(*phases);
    if (const YamlNode* seed = reader.find("seed")) read_seed(*seed);
    if (const YamlNode* owner = reader.find("owner")) {
      experiment_.owner = read_text(context_, *owner, "`owner`").value_or("");
    }
    if (const YamlNode* tags = reader.find("tags")) {
      experiment_.tags = read_texts(context_, *tags, "`tags`");
    }
    if (const YamlNode* limits = reader.find("load_limits")) read_load_limits(*limits);
    reader.finish();

    if (blast_radius != nullptr) read_blast_radius(*blast_radius);
    if (faults != nullptr) read_faults(*faults);
    read_claims(hypothesis, abort_when);
    if (blast_radius != nullptr) check_timeline(*blast_radius);
  }

 private:
  void read_scenario(const YamlNode& node) {
    experiment_.scenario = base::trim(read_text(context_, node, "`scenario`").value_or("?"));
    if (experiment_.scenario.empty()) {
      context_.error(node, "`scenario` is an empty text", "say in a sentence what happens");
    }
  }

  void read_phases(const YamlNode& node) {
    MapReader reader(context_, node, "`phases`");
    if (!reader.valid()) return;
    Phases& phases = experiment_.phases;
    if (const YamlNode* baseline = reader.find("baseline")) {
      phases.baseline = read_positive_duration(context_, *baseline, "`baseline`", kPhaseLimit)
                            .value_or(phases.baseline);
    }
    if (const YamlNode* recovery = reader.find("recovery")) {
      phases.recovery = read_positive_duration(context_, *recovery, "`recovery`", kPhaseLimit)
                            .value_or(phases.recovery);
    }
    reader.finish();
  }

  void read_seed(const YamlNode& node) {
    auto seed = read_integer(context_, node, "`seed`");
    if (seed && *seed < 0) {
      context_.error(node, "`seed` is negative", "write a whole number from 0");
    } else {
      experiment_.seed = static_cast<std::uint64_t>(seed.value_or(0));
    }
  }

  void read_load_limits(const YamlNode& node) {
    MapReader reader(context_, node, "`load_limits`");
    if (!reader.valid()) return;
    if (const YamlNode* lag = reader.find("lag")) {
      experiment_.lag_limit = read_positive_duration(context_, *lag, "`lag`", kPhaseLimit)
                                  .value_or(experiment_.lag_limit);
    }
    if (const YamlNode* drops = reader.find("drops")) {
      experiment_.drop_limit =
          read_share(context_, *drops, "`drops`").value_or(experiment_.drop_limit);
    }
    reader.finish();
  }

  void read_blast_radius(const YamlNode& node) {
    MapReader reader(context_, node, "`blast_radius`");
    if (!reader.valid()) return;
    BlastRadius& radius = experiment_.blast_radius;
    const YamlNode* services =
        reader.require("services", "list the services that faults may touch");
    if (services != nullptr) {
      radius.services = read_texts(context_, *services, "`services`");
      if (services->is_sequence()) check_radius_services(*services);
    }
    if (const YamlNode* processes = reader.find("processes")) read_processes(*processes);
    const YamlNode* duration =
        reader.require("duration", "bound all faults together: `duration: 30s`");
    if (duration != nullptr) {
      radius.duration = read_positive_duration(context_, *duration, "`duration`", kPhaseLimit)
                            .value_or(base::Duration::zero());
    }
    reader.finish();
  }

  void check_radius_services(const YamlNode& node) {
    if (node.items.empty()) {
      context_.error(node, "`services` of `blast_radius` is an empty list",
                     "list the services that faults may touch");
    }
    for (const YamlNodePtr& item : node.items) {
      if (item->is_scalar()) check_service(context_, map_, *item, item->text, "`blast_radius`");
    }
  }

  void read_processes(const YamlNode& node) {
    auto count = read_integer(context_, node, "`processes`");
    if (!count) return;
    if (*count < 1 || *count > kProcessesLimit) {
      context_.error(node, fmt::format("`processes` is {}", *count),
                     fmt::format("write a number from 1 to {}", kProcessesLimit));
      return;
    }
    experiment_.blast_radius.processes = static_cast<int>(*count);
    if (map_.limits.processes > 0 && *count > map_.limits.processes) {
      context_.error(node,
                     fmt::format("`processes` is {}, and the system map allows {}", *count,
                                 map_.limits.processes),
                     "lower it, or raise `limits: { processes: ... }` in the system map");
    }
  }

  void read_faults(const YamlNode& node) {
    if (!node.is_sequence() || node.items.empty()) {
      context_.error(
          node,
          fmt::format("`faults` is {}", node.is_sequence() ? "an empty list" : described(node)),
          "write one fault a line: `- process.kill: { service: worker }`");
      return;
    }
    for (const YamlNodePtr& item : node.items) read_fault(*item);
  }

  void read_fault(const YamlNode& node) {
    if (!node.is_map()) {
      context_.error(node, fmt::format("a fault is {}", described(node)),
                     "write its kind, parameters and time: `- process.kill: { service: worker }`, "
                     "and below `for: 20s`");
      return;
    }
    const YamlNode::Entry* kind = find_kind(node);
    FaultSpecification fault;
    fault.location = context_.document.location(node);
    read_name_of(node, kind, fault);
    std::string what = fmt::format("fault `{}`", fault.name);
    if (const YamlNode::Entry* at = node.find("at")) {
      auto value = read_duration(context_, *at->value, fmt::format("`at` of {}", what));
      if (value && *value > kPhaseLimit) {
        context_.error(*at->value, fmt::format("`at` of {} is later than 24h", what),
                       "it counts from the end of the baseline");
      } else {
        fault.at = value.value_or(base::Duration::zero());
      }
    }
    read_length(node, fault, what);
    if (const YamlNode::Entry* overlap = node.find("overlap")) {
      fault.overlap = read_boolean(context_, *overlap->value, fmt::format("`overlap` of {}", what))
                          .value_or(false);
    }
    if (kind == nullptr) return;
    fault.kind = vocabulary_.fault(kind->key);
    ParameterContext parameters{context_, map_};
    fault.parameters = read_parameters(parameters, *kind->value, fault.kind->parameters, what);
    check_targets(*kind->value, fault, what);
    experiment_.faults.push_back(std::move(fault));
  }

  const YamlNode::Entry* find_kind(const YamlNode& node) {
    std::vector<std::string> kinds;
    for (const FaultKindDescriptor* kind : vocabulary_.faults) kinds.emplace_back(kind->name);
    std::vector<std::string> known = kinds;
    known.insert(known.end(), {"name", "at", "for", "overlap"});
    const YamlNode::Entry* found = nullptr;
    bool mistake = false;
    for (const YamlNode::Entry& entry : node.entries) {
      if (entry.key == "name" || entry.key == "at" || entry.key == "for" || entry.key == "overlap")
        continue;
      if (vocabulary_.fault(entry.key) == nullptr) {
        std::string near = base::nearest(entry.key, known);
        context_.error(entry, fmt::format("unknown key or fault kind `{}`", entry.key),
                       near.empty() ? fmt::format("kinds: {}", base::enumerate(kinds))
                                    : fmt::format("did you mean `{}`?", near));
        mistake = true;
      } else if (found != nullptr) {
        context_.error(entry,
                       fmt::format("a fault has two kinds, `{}` and `{}`", found->key, entry.key),
                       "make them two entries of the list");
        mistake = true;
      } else {
        found = &entry;
      }
    }
    if (found == nullptr && !mistake) {
      context_.error(node, "this fault has no kind",
                     fmt::format("write one of {}", base::enumerate(kinds)));
    }
    return mistake ? nullptr : found;
  }

  void read_name_of(const YamlNode& node, const YamlNode::Entry* kind, FaultSpecification& fault) {
    std::string stem = kind == nullptr ? "fault" : kind->key;
    std::replace(stem.begin(), stem.end(), '.', '-');
    fault.name = fmt::format("{}-{}", stem, experiment_.faults.size() + 1);
    const YamlNode::Entry* entry = node.find("name");
    if (entry != nullptr) {
      auto name = read_text(context_, *entry->value, "`name` of a fault");
      if (!name) return;
      bool reserved = std::find(kReservedFaultNames.begin(), kReservedFaultNames.end(), *name) !=
                      kReservedFaultNames.end();
      if (!is_word(*name) || reserved) {
        context_.error(*entry->value, fmt::format("a fault cannot be called `{}`", *name),
                       reserved ? "that word has a meaning in predictions; take another"
                                : "names start with a letter and have letters, digits, `_`, and "
                                  "`-` between them");
        return;
      }
      fault.name = *name;
    }
    bool taken =
        std::any_of(experiment_.faults.begin(), experiment_.faults.end(),
                    [&](const FaultSpecification& other) { return other.name == fault.name; });
    if (taken) {
      context_.error(entry != nullptr ? *entry->value : node,
                     fmt::format("two faults are called `{}`", fault.name),
                     "predictions name faults, so give each its own name");
    }
  }

  void read_length(const YamlNode& node, FaultSpecification& fault, const std::string& what) {
    const YamlNode::Entry* entry = node.find("for");
    if (entry == nullptr) {
      context_.error(node, what + " has no `for`", "say how long it lasts: `for: 20s`");
      return;
    }
    auto value = read_positive_duration(context_, *entry->value, fmt::format("`for` of {}", what),
                                        kPhaseLimit);
    if (!value) return;
    fault.duration = *value;
    if (*value > map_.limits.longest_fault) {
      context_.error(*entry->value,
                     fmt::format("{} lasts {}, and the longest allowed is {}", what,
                                 base::format_duration(*value),
                                 base::format_duration(map_.limits.longest_fault)),
                     "shorten it, or raise `limits: { longest_fault: ... }` in the system map");
    }
  }

  // Services that the fault names: here, findable, and within the blast radius. A `from` may be
  // external, as load probes stand for it.
  void check_targets(const YamlNode& node, const FaultSpecification& fault,
                     const std::string& what) {
    std::vector<NamedService> named;
    collect_services(fault.kind->parameters, node, named);
    const std::vector<std::string>& radius = experiment_.blast_radius.services;
    for (const NamedService& target : named) {
      const Service* service = map_.service(target.name);
      if (service == nullptr) continue;
      if (service->external) {
        if (target.parameter == "from") continue;
        context_.error(*target.node,
                       fmt::format("{} is aimed at `{}`, which is external", what, target.name),
                       "faults reach only what runs on this host");
        continue;
      }
      if (!can_be_found(*service)) {
        context_.error(
            *target.node,
            fmt::format("{} is aimed at `{}`, and the system map does not say how to "
                        "find it",
                        what, target.name),
            fmt::format("give service `{}` a `process`, a `container` or `listens`", target.name));
      }
      bool within = std::find(radius.begin(), radius.end(), target.name) != radius.end();
      if (!within && !radius.empty()) {
        context_.error(
            *target.node,
            fmt::format("{} touches `{}`, which is outside the blast radius", what, target.name),
            fmt::format("add `{}` to `services` of `blast_radius`, or aim elsewhere", target.name));
      }
    }
    check_count(node, fault, what);
  }

  void check_count(const YamlNode& node, const FaultSpecification& fault, const std::string& what) {
    const base::Json& values = fault.parameters.json();
    auto count = values.find("count");
    if (count == values.end() || !count->is_number_integer()) return;
    int allowed = std::max(1, experiment_.blast_radius.processes);
    if (count->get<std::int64_t>() <= allowed) return;
    const YamlNode::Entry* entry = node.is_map() ? node.find("count") : nullptr;
    context_.error(entry != nullptr ? *entry->value : node,
                   fmt::format("{} touches {} processes, and the blast radius allows {}", what,
                               count->get<std::int64_t>(), allowed),
                   "lower `count`, or raise `processes` of `blast_radius`");
  }

  void read_claims(const YamlNode* hypothesis, const YamlNode* abort_when) {
    std::vector<std::string> names;
    for (const FaultSpecification& fault : experiment_.faults) names.push_back(fault.name);
    SignalTable signals = signal_table(map_, names);
    if (hypothesis != nullptr) {
      if (hypothesis->is_map() && hypothesis->entries.empty()) {
        context_.error(*hypothesis, "`hypothesis` has no prediction",
                       "write what you believe will hold: `stays-up: reads.success >= 99% during "
                       "fault`");
      }
      experiment_.hypothesis =
          read_predictions(context_, *hypothesis, "`hypothesis`", signals, ClauseRule::kHypothesis);
      for (const Prediction& prediction : experiment_.hypothesis) check_phase(prediction);
    }
    if (abort_when != nullptr) {
      if (abort_when->is_sequence() && abort_when->items.empty()) {
        context_.error(*abort_when, "`abort_when` has no rule",
                       "say when to stop at once: `- reads.success < 90% over 2s`");
      }
      experiment_.abort_when =
          read_abort_rules(context_, *abort_when, "`abort_when`", "abort", signals);
    }
  }

  const FaultSpecification* fault_named(const std::string& name) const {
    for (const FaultSpecification& fault : experiment_.faults) {
      if (fault.name == name) return &fault;
    }
    return nullptr;
  }

  base::Duration timeline_end() const {
    base::Duration end{};
    for (const FaultSpecification& fault : experiment_.faults) {
      end = std::max(end, fault.at + fault.duration);
    }
    return end;
  }

  // A phase in which no sample can ever lie is a mistake, not a prediction without data.
  void check_phase(const Prediction& prediction) {
    if (experiment_.faults.empty()) return;
    if (const auto* during = std::get_if<DuringClause>(&prediction.when)) {
      base::Duration length = timeline_end();
      std::string phase = "the faults last";
      if (during->phase == PhaseKind::kBaseline) {
        length = experiment_.phases.baseline;
        phase = "the baseline lasts";
      } else if (during->phase == PhaseKind::kRecovery) {
        length = experiment_.phases.recovery;
        phase = "the recovery lasts at most";
      } else if (const FaultSpecification* fault = fault_named(during->fault_name)) {
        length = fault->duration;
        phase = fmt::format("fault `{}` lasts", fault->name);
      }
      if (during->from >= length && during->from > base::Duration::zero()) {
        context_.diagnostics.error(
            prediction.location,
            fmt::format("prediction `{}` starts at {} of a phase that is over then",
                        prediction.name, base::format_duration(during->from)),
            fmt::format("{} {}", phase, base::format_duration(length)));
      }
    }
    if (const auto* within = std::get_if<WithinClause>(&prediction.when)) {
      check_within(prediction, *within);
    }
  }

  void check_within(const Prediction& prediction, const WithinClause& clause) {
    const FaultSpecification* fault = fault_named(clause.fault_name);
    base::Duration anchor = timeline_end();
    if (clause.anchor == WithinClause::Anchor::kInject) {
      anchor = experiment_.faults.front().at;
      for (const auto& other : experiment_.faults) anchor = std::min(anchor, other.at);
      if (fault != nullptr) anchor = fault->at;
    } else if (fault != nullptr) {
      anchor = fault->at + fault->duration;
    }
    base::Duration available = timeline_end() - anchor + experiment_.phases.recovery;
    if (clause.within > available) {
      context_.diagnostics.error(
          prediction.location,
          fmt::format("prediction `{}` looks {} ahead, and observation ends {} after that moment",
                      prediction.name, base::format_duration(clause.within),
                      base::format_duration(available)),
          fmt::format("write `within {}`, or lengthen `phases: {{ recovery: ... }}`",
                      base::format_duration(available)));
    }
    if (clause.hold_for > clause.within) {
      context_.diagnostics.error(
          prediction.location,
          fmt::format("prediction `{}` must hold for {} within {}, which is shorter",
                      prediction.name, base::format_duration(clause.hold_for),
                      base::format_duration(clause.within)),
          "lengthen `within`, or shorten `for`");
    }
  }

  void check_timeline(const YamlNode& blast_radius) {
    if (experiment_.faults.empty()) return;
    base::Duration first = experiment_.faults.front().at;
    for (const auto& fault : experiment_.faults) first = std::min(first, fault.at);
    base::Duration length = timeline_end() - first;
    base::Duration allowed = experiment_.blast_radius.duration;
    if (allowed > base::Duration::zero() && length > allowed) {
      const YamlNode::Entry* entry = blast_radius.find("duration");
      context_.error(entry != nullptr ? *entry->value : blast_radius,
                     fmt::format("the faults last {} together, and the blast radius allows {}",
                                 base::format_duration(length), base::format_duration(allowed)),
                     "shorten the faults, or raise `duration` of `blast_radius`");
    }
    std::vector<const FaultSpecification*> by_time;
    for (const auto& fault : experiment_.faults) by_time.push_back(&fault);
    std::stable_sort(by_time.begin(), by_time.end(),
                     [](const auto* a, const auto* b) { return a->at < b->at; });
    const FaultSpecification* latest = by_time.front();
    for (std::size_t i = 1; i < by_time.size(); ++i) {
      if (by_time[i]->at < latest->at + latest->duration) {
        context_.diagnostics.warning(
            by_time[i]->location,
            fmt::format("faults `{}` and `{}` overlap in time", latest->name, by_time[i]->name),
            "one fault at a time says which of them caused what you see");
      }
      if (by_time[i]->at + by_time[i]->duration > latest->at + latest->duration) {
        latest = by_time[i];
      }
    }
  }

  const FileContext& context_;
  const SystemMap& map_;
  const Vocabulary& vocabulary_;
  Experiment& experiment_;
};

}  // namespace

Experiment parse_experiment(std::string_view text, const std::string& file, const SystemMap& map,
                            const Vocabulary& vocabulary, Diagnostics& diagnostics) {
  Experiment experiment;
  experiment.file = file;
  YamlDocument document = YamlDocument::parse(text, file, diagnostics);
  if (!document.root()) return experiment;
  FileContext context{document, diagnostics};
  ExperimentParser(context, map, vocabulary, experiment).read(*document.root());
  return experiment;
}

}  // namespace squall::model
