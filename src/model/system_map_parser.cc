#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <set>

#include "base/text.h"
#include "base/units.h"
#include "model/experiment.h"
#include "model/file_reader.h"
#include "model/parameter_reader.h"
#include "model/system_map.h"
#include "model/yaml_document.h"

namespace squall::model {
namespace {

constexpr std::int64_t kMembersLimit = 1000;
// Far above any system that is drawn by hand; they keep the work on hostile input bounded.
constexpr std::size_t kServicesLimit = 500;
constexpr std::size_t kEnvironmentsLimit = 20;
constexpr base::Duration kLongestFaultLimit = std::chrono::hours(24);

std::string absolute(const std::string& directory, const std::string& path) {
  return (std::filesystem::path(directory) / path).lexically_normal().string();
}

bool is_ip_address(const std::string& text) {
  std::array<unsigned char, sizeof(in6_addr)> address{};
  return inet_pton(AF_INET, text.c_str(), address.data()) == 1 ||
         inet_pton(AF_INET6, text.c_str(), address.data()) == 1;
}

// Reads one system map, the overrides of its environment already merged in.
class MapParser {
 public:
  MapParser(const FileContext& context, const Vocabulary& vocabulary, SystemMap& map)
      : context_(context), vocabulary_(vocabulary), map_(map) {}

  void read(const YamlNode& root) {
    MapReader reader(context_, root, "the system map");
    if (!reader.valid()) return;
    if (const YamlNode* name = reader.require("system", "name the system: `system: shop`")) {
      map_.name = read_name(context_, *name, "`system`").value_or("");
    }
    const YamlNode* services = reader.require("services", "list at least one service");
    if (services != nullptr) read_services(*services);
    if (const YamlNode* limits = reader.find("limits")) read_limits(*limits);
    if (const YamlNode* probes = reader.find("probes")) read_probes(*probes);
    SignalTable signals = signal_table(map_, {});
    if (const YamlNode* steady_state = reader.find("steady_state")) {
      map_.steady_state = read_predictions(context_, *steady_state, "`steady_state`", signals,
                                           ClauseRule::kSteadyState);
    }
    if (const YamlNode* rules = reader.find("abort_when")) {
      map_.abort_when = read_abort_rules(context_, *rules, "`abort_when`", "system-abort", signals);
    }
    reader.find_entry("environments");
    reader.finish();
  }

 private:
  void read_services(const YamlNode& node) {
    if (!node.is_map() || node.entries.empty()) {
      context_.error(node, "`services` is no map of services",
                     "write one service a line: `api: { listens: 127.0.0.1:8080 }`");
      return;
    }
    if (node.entries.size() > kServicesLimit) {
      context_.error(node, fmt::format("more than {} services", kServicesLimit),
                     "split the system into several maps");
      return;
    }
    for (const YamlNode::Entry& entry : node.entries) {
      if (check_word(context_, entry, "a service")) map_.services.push_back(read_service(entry));
    }
    for (const Service& service : map_.services) {
      const YamlNode::Entry* entry = node.find(service.name);
      check_dependencies(service, *entry->value);
    }
    report_cycles(node);
  }

  Service read_service(const YamlNode::Entry& entry) {
    Service service;
    service.name = entry.key;
    service.location = context_.document.location(entry);
    std::string what = fmt::format("service `{}`", entry.key);
    if (entry.value->is_null()) {
      context_.error(entry, what + " is empty", "write {} when nothing is known about it yet");
      return service;
    }
    MapReader reader(context_, *entry.value, what);
    if (!reader.valid()) return service;
    if (const YamlNode* external = reader.find("external")) {
      service.external = read_boolean(context_, *external, "`external`").value_or(false);
    }
    if (const YamlNode* process = reader.find("process")) {
      service.process = read_process(*process, what);
    }
    if (const YamlNode* container = reader.find("container")) {
      service.container = read_container(*container, what);
    }
    if (const YamlNode* kind = reader.find("kind")) {
      service.kind = read_name(context_, *kind, "`kind`").value_or("");
    }
    if (const YamlNode* listens = reader.find("listens")) service.listens = read_listens(*listens);
    if (const YamlNode* start = reader.find("start")) service.start = read_argv(*start);
    if (const YamlNode* depends_on = reader.find("depends_on")) {
      service.depends_on = read_texts(context_, *depends_on, "`depends_on`");
    }
    if (const YamlNode* logs = reader.find("logs")) {
      for (const std::string& path : read_texts(context_, *logs, "`logs`")) {
        service.logs.push_back(absolute(map_.directory, path));
      }
    }
    if (const YamlNode* owner = reader.find("owner")) {
      service.owner = read_text(context_, *owner, "`owner`").value_or("");
    }
    if (const YamlNode* members = reader.find("members")) read_members(*members, service);
    reader.finish();
    check_external(service, entry);
    return service;
  }

  void check_external(const Service& service, const YamlNode::Entry& entry) {
    bool local = !service.process.empty() || !service.container.empty() || service.listens ||
                 !service.start.empty() || !service.members.empty() ||
                 service.expected_members > 0 || !service.logs.empty();
    if (service.external && local) {
      context_.error(entry,
                     fmt::format("service `{}` is external, and yet is described as running here",
                                 service.name),
                     "remove `external`, or the keys that say where it runs");
    }
  }

  ProcessSelector read_process(const YamlNode& node, const std::string& owner) {
    ProcessSelector selector;
    MapReader reader(context_, node, fmt::format("`process` of {}", owner));
    if (!reader.valid()) return selector;
    read_text_into(reader, "exe", selector.exe);
    read_text_into(reader, "argv_contains", selector.argv_contains);
    read_text_into(reader, "user", selector.user);
    read_text_into(reader, "cgroup", selector.cgroup);
    reader.finish();
    if (node.entries.empty()) {
      context_.error(node, fmt::format("`process` of {} selects nothing", owner),
                     "write at least one of exe, argv_contains, user and cgroup");
    }
    return selector;
  }

  ContainerSelector read_container(const YamlNode& node, const std::string& owner) {
    ContainerSelector selector;
    MapReader reader(context_, node, fmt::format("`container` of {}", owner));
    if (!reader.valid()) return selector;
    read_text_into(reader, "name", selector.name);
    read_text_into(reader, "image", selector.image);
    if (const YamlNode* label = reader.find("label")) {
      selector.label = read_text(context_, *label, "`label`").value_or("");
      std::size_t equals = selector.label.find('=');
      if (!selector.label.empty() && (equals == std::string::npos || equals == 0)) {
        context_.error(*label, "`label` is not of the form key=value", "write app=queue");
      }
    }
    reader.finish();
    if (node.entries.empty()) {
      context_.error(node, fmt::format("`container` of {} selects nothing", owner),
                     "write at least one of name, label and image");
    }
    return selector;
  }

  void read_text_into(MapReader& reader, std::string_view key, std::string& target) {
    const YamlNode* node = reader.find(key);
    if (node == nullptr) return;
    auto text = read_text(context_, *node, fmt::format("`{}`", key));
    if (text && text->empty()) {
      context_.error(*node, fmt::format("`{}` is an empty text, which everything contains", key),
                     "remove the key, or write what to look for");
      return;
    }
    if (text) target = *text;
  }

  std::vector<std::string> read_argv(const YamlNode& node) {
    if (node.is_scalar()) {
      context_.error(node, "`start` is one text; a list is wanted",
                     "nothing is run by a shell: write the program and each argument as an entry, "
                     "[./up, api]");
      return {};
    }
    std::vector<std::string> argv = read_texts(context_, node, "`start`");
    if (node.is_sequence() && (argv.empty() || argv[0].empty())) {
      context_.error(node, "`start` names no program", "the first entry is the program");
    }
    return argv;
  }

  std::optional<ListenAddress> read_listens(const YamlNode& node) {
    auto text = read_text(context_, node, "`listens`");
    if (!text) return std::nullopt;
    auto address = parse_listen_address(*text);
    if (!address) {
      context_.error(node, fmt::format("`listens` is `{}`, which is no address with a port", *text),
                     "write 127.0.0.1:8080, [::1]:8080 or unix:/run/api.sock");
      return std::nullopt;
    }
    if (!address->unix_path.empty()) {
      address->unix_path = absolute(map_.directory, address->unix_path);
    }
    return address;
  }

  void read_members(const YamlNode& node, Service& service) {
    if (node.is_scalar()) {
      auto count = read_integer(context_, node, "`members`");
      if (count && (*count < 1 || *count > kMembersLimit)) {
        context_.error(node, fmt::format("`members` is {}", *count),
                       fmt::format("write a number from 1 to {}", kMembersLimit));
        return;
      }
      service.expected_members = static_cast<int>(count.value_or(0));
      return;
    }
    if (!node.is_map() || node.entries.empty()) {
      context_.error(node, fmt::format("`members` is {}", described(node)),
                     "write how many there are, or a map of name to member");
      return;
    }
    for (const YamlNode::Entry& entry : node.entries) {
      if (!check_word(context_, entry, "a member")) continue;
      service.members.push_back(read_member(entry));
    }
  }

  MemberSelector read_member(const YamlNode::Entry& entry) {
    MemberSelector member;
    member.name = entry.key;
    member.role = entry.key;
    std::string what = fmt::format("member `{}`", entry.key);
    MapReader reader(context_, *entry.value, what);
    if (!reader.valid()) return member;
    if (const YamlNode* role = reader.find("role")) {
      member.role = read_name(context_, *role, "`role`").value_or(entry.key);
    }
    if (const YamlNode* listens = reader.find("listens")) member.listens = read_listens(*listens);
    if (const YamlNode* process = reader.find("process")) {
      member.process = read_process(*process, what);
    }
    if (const YamlNode* container = reader.find("container")) {
      member.container = read_container(*container, what);
    }
    if (const YamlNode* start = reader.find("start")) member.start = read_argv(*start);
    reader.finish();
    return member;
  }

  void check_dependencies(const Service& service, const YamlNode& node) {
    const YamlNode::Entry* entry = node.is_map() ? node.find("depends_on") : nullptr;
    if (entry == nullptr || !entry->value->is_sequence()) return;
    for (const YamlNodePtr& item : entry->value->items) {
      if (!item->is_scalar()) continue;
      check_service(context_, map_, *item, item->text,
                    fmt::format("`depends_on` of service `{}`", service.name));
    }
  }

  // One message a circle: each service is entered once, and a service that is met again while it is
  // still on the path closes a circle.
  void report_cycles(const YamlNode& node) {
    std::set<std::string> finished;
    std::vector<std::string> path;
    for (const Service& service : map_.services) visit(node, service, finished, path);
  }

  void visit(const YamlNode& node, const Service& service, std::set<std::string>& finished,
             std::vector<std::string>& path) {
    if (finished.contains(service.name)) return;
    auto met = std::find(path.begin(), path.end(), service.name);
    if (met != path.end()) {
      std::vector<std::string> circle(met, path.end());
      circle.push_back(service.name);
      context_.error(*node.find(service.name),
                     fmt::format("`depends_on` goes in a circle: {}", base::join(circle, " -> ")),
                     "remove the dependency that does not exist at start-up");
      return;
    }
    path.push_back(service.name);
    for (const std::string& dependency : service.depends_on) {
      if (const Service* next = map_.service(dependency)) visit(node, *next, finished, path);
    }
    path.pop_back();
    finished.insert(service.name);
  }

  void read_limits(const YamlNode& node) {
    MapReader reader(context_, node, "`limits`");
    if (!reader.valid()) return;
    if (const YamlNode* longest = reader.find("longest_fault")) {
      map_.limits.longest_fault =
          read_positive_duration(context_, *longest, "`longest_fault`", kLongestFaultLimit)
              .value_or(map_.limits.longest_fault);
    }
    if (const YamlNode* processes = reader.find("processes")) {
      auto count = read_integer(context_, *processes, "`processes`");
      if (count && (*count < 1 || *count > kMembersLimit)) {
        context_.error(*processes, fmt::format("`processes` is {}", *count),
                       fmt::format("write a number from 1 to {}", kMembersLimit));
      } else {
        map_.limits.processes = static_cast<int>(count.value_or(0));
      }
    }
    reader.finish();
  }

  void read_probes(const YamlNode& node) {
    if (!node.is_map()) {
      context_.error(node, "`probes` is no map of probes",
                     "write one probe a line: `reads: { http: { url: ... } }`");
      return;
    }
    for (const YamlNode::Entry& entry : node.entries) {
      if (!check_word(context_, entry, "a probe")) continue;
      if (map_.service(entry.key) != nullptr) {
        context_.error(entry, fmt::format("`{}` is a service and a probe", entry.key),
                       "predictions name both, so rename one of them");
        continue;
      }
      read_probe(entry);
    }
  }

  void read_probe(const YamlNode::Entry& entry) {
    std::string what = fmt::format("probe `{}`", entry.key);
    ProbeSpecification probe;
    probe.name = entry.key;
    probe.location = context_.document.location(entry);
    const YamlNode& node = *entry.value;
    if (!node.is_map()) {
      context_.error(entry, fmt::format("{} is {}", what, described(node)),
                     "write its kind and parameters: { http: { url: ... } }");
      return;
    }
    probe.from = read_end(node, "from", what);
    probe.to = read_end(node, "to", what);
    const YamlNode::Entry* kind = find_kind(node, entry, what);
    if (kind == nullptr) return;
    probe.kind = vocabulary_.probe(kind->key);
    ParameterContext parameters{context_, map_};
    probe.parameters = read_parameters(parameters, *kind->value, probe.kind->parameters, what);
    map_.probes.push_back(std::move(probe));
  }

  std::string read_end(const YamlNode& node, std::string_view key, const std::string& what) {
    const YamlNode::Entry* entry = node.find(key);
    if (entry == nullptr) return {};
    auto name = read_text(context_, *entry->value, fmt::format("`{}` of {}", key, what));
    if (!name) return {};
    check_service(context_, map_, *entry->value, *name, fmt::format("`{}` of {}", key, what));
    return *name;
  }

  // The one key of a probe that is neither `from` nor `to`, and names a kind.
  const YamlNode::Entry* find_kind(const YamlNode& node, const YamlNode::Entry& probe,
                                   const std::string& what) {
    std::vector<std::string> kinds;
    for (const ProbeKindDescriptor* kind : vocabulary_.probes) kinds.emplace_back(kind->name);
    std::vector<std::string> known = kinds;
    known.insert(known.end(), {"from", "to"});
    const YamlNode::Entry* found = nullptr;
    bool mistake = false;
    for (const YamlNode::Entry& entry : node.entries) {
      if (entry.key == "from" || entry.key == "to") continue;
      if (vocabulary_.probe(entry.key) == nullptr) {
        std::string near = base::nearest(entry.key, known);
        context_.error(entry, fmt::format("unknown key or probe kind `{}` in {}", entry.key, what),
                       near.empty() ? fmt::format("kinds: {}", base::enumerate(kinds))
                                    : fmt::format("did you mean `{}`?", near));
        mistake = true;
      } else if (found != nullptr) {
        context_.error(entry,
                       fmt::format("{} has two kinds, `{}` and `{}`", what, found->key, entry.key),
                       "keep one; an environment removes the other with `kind: null`");
        mistake = true;
      } else {
        found = &entry;
      }
    }
    if (found == nullptr && !mistake) {
      context_.error(probe, what + " has no kind",
                     fmt::format("write one of {}", base::enumerate(kinds)));
    }
    return mistake ? nullptr : found;
  }

  const FileContext& context_;
  const Vocabulary& vocabulary_;
  SystemMap& map_;
};

// What may stand in an environment beside `production`; all are keys of the system map.
constexpr std::array<std::string_view, 5> kOverridable = {"services", "probes", "steady_state",
                                                          "abort_when", "limits"};

struct EnvironmentOverrides {
  Environment environment;
  YamlNodePtr changes;  // a map of overridable keys; null: no changes
};

// The environments of the file, with mistakes in their own keys reported.
std::vector<EnvironmentOverrides> read_environments(const FileContext& context,
                                                    const YamlNode& root) {
  std::vector<EnvironmentOverrides> result;
  const YamlNode::Entry* section = root.find("environments");
  if (section == nullptr || section->value->is_null()) return result;
  if (!section->value->is_map()) {
    context.error(*section->value, "`environments` is no map of environments",
                  "write one environment a line: `staging: {}`");
    return result;
  }
  if (section->value->entries.size() > kEnvironmentsLimit) {
    context.error(*section, fmt::format("more than {} environments", kEnvironmentsLimit),
                  "keep the ones in which experiments run");
    return result;
  }
  for (const YamlNode::Entry& entry : section->value->entries) {
    if (!check_name(context, entry, "an environment")) continue;
    EnvironmentOverrides overrides;
    overrides.environment = {entry.key, entry.key == "production"};
    if (!entry.value->is_null()) {
      MapReader reader(context, *entry.value, fmt::format("environment `{}`", entry.key));
      if (!reader.valid()) continue;
      if (const YamlNode* production = reader.find("production")) {
        bool value = read_boolean(context, *production, "`production`").value_or(true);
        if (entry.key == "production" && !value) {
          context.error(*production, "the environment `production` is production",
                        "give another name to one that is not");
        } else {
          overrides.environment.production = value;
        }
      }
      auto changes = std::make_shared<YamlNode>(*entry.value);
      std::erase_if(changes->entries, [](const YamlNode::Entry& key) {
        return std::find(kOverridable.begin(), kOverridable.end(), key.key) == kOverridable.end();
      });
      for (std::string_view key : kOverridable) reader.find_entry(key);
      reader.finish();
      overrides.changes = std::move(changes);
    }
    result.push_back(std::move(overrides));
  }
  return result;
}

// The map in one environment; its mistakes are added to `found` unless they are there already.
SystemMap parse_merged(const YamlDocument& document, const EnvironmentOverrides& overrides,
                       const std::string& file, std::string_view text, const Vocabulary& vocabulary,
                       Diagnostics& found) {
  SystemMap map;
  map.file = file;
  map.directory = std::filesystem::absolute(file).parent_path().lexically_normal().string();
  map.environment = overrides.environment;
  Diagnostics own;
  own.set_source(file, text);
  FileContext context{document, own};
  YamlNodePtr tree = document.root();
  if (overrides.changes) tree = merged(tree, overrides.changes);
  MapParser(context, vocabulary, map).read(*tree);
  found.append(own);
  return map;
}

// The name of the environment that is meant; one that the file does not have is reported.
std::string choose(const std::vector<EnvironmentOverrides>& environments, const std::string& wanted,
                   const std::string& file, Diagnostics& diagnostics) {
  if (wanted.empty() || wanted == "production") return "production";
  std::vector<std::string> known;
  for (const EnvironmentOverrides& candidate : environments) {
    known.push_back(candidate.environment.name);
  }
  if (std::find(known.begin(), known.end(), wanted) != known.end()) return wanted;
  std::string near = base::nearest(wanted, known);
  std::string hint = "the system map defines none; without --env it is production";
  if (!known.empty()) hint = fmt::format("the system map has {}", base::enumerate(known));
  if (!near.empty()) hint = fmt::format("did you mean `{}`? {}", near, hint);
  diagnostics.error({file, 0, 0}, fmt::format("there is no environment `{}`", wanted),
                    std::move(hint));
  return "production";
}

}  // namespace

std::optional<ListenAddress> parse_listen_address(std::string_view text) {
  ListenAddress result;
  if (text.starts_with("unix:")) {
    result.unix_path = std::string(text.substr(5));
    if (result.unix_path.empty()) return std::nullopt;
    return result;
  }
  std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  std::string_view port = text.substr(colon + 1);
  bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (!bracketed && host.find(':') != std::string_view::npos) return std::nullopt;
  result.address = host == "localhost" ? "127.0.0.1" : std::string(host);
  auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), result.port);
  bool port_read = error == std::errc{} && end == port.data() + port.size() && result.port > 0;
  if (!port_read || !is_ip_address(result.address)) return std::nullopt;
  return result;
}

SystemMap parse_system_map(std::string_view text, const std::string& file,
                           const std::string& environment, const Vocabulary& vocabulary,
                           Diagnostics& diagnostics) {
  YamlDocument document = YamlDocument::parse(text, file, diagnostics);
  if (!document.root()) return {};
  FileContext context{document, diagnostics};
  if (!document.root()->is_map()) {
    context.error(*document.root(),
                  fmt::format("the system map is {}", described(*document.root())),
                  "it starts with `system: NAME`");
    return {};
  }
  auto environments = read_environments(context, *document.root());
  std::string chosen = choose(environments, environment, file, diagnostics);

  // The map must be right by itself and in every environment, not only in the one asked for: a
  // mistake in another environment must not wait for the day on which somebody needs that one.
  const EnvironmentOverrides plain{{"production", true}, nullptr};
  Diagnostics found;
  SystemMap result = parse_merged(document, plain, file, text, vocabulary, found);
  for (const EnvironmentOverrides& candidate : environments) {
    if (found.full()) break;
    SystemMap map = parse_merged(document, candidate, file, text, vocabulary, found);
    if (candidate.environment.name == chosen) result = std::move(map);
  }
  diagnostics.append(found);
  for (const EnvironmentOverrides& candidate : environments) {
    result.environments.push_back(candidate.environment.name);
  }
  return result;
}

}  // namespace squall::model
