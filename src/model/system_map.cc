#include "model/system_map.h"

#include <fmt/format.h>

#include <algorithm>

namespace squall::model {

std::string ListenAddress::text() const {
  if (!unix_path.empty()) return "unix:" + unix_path;
  bool is_version_6 = address.find(':') != std::string::npos;
  return is_version_6 ? fmt::format("[{}]:{}", address, port) : fmt::format("{}:{}", address, port);
}

const Service* SystemMap::service(std::string_view wanted) const {
  auto found = std::find_if(services.begin(), services.end(),
                            [wanted](const Service& entry) { return entry.name == wanted; });
  return found == services.end() ? nullptr : &*found;
}

const ProbeSpecification* SystemMap::probe(std::string_view wanted) const {
  auto found =
      std::find_if(probes.begin(), probes.end(),
                   [wanted](const ProbeSpecification& entry) { return entry.name == wanted; });
  return found == probes.end() ? nullptr : &*found;
}

std::vector<std::string> SystemMap::dependents_of(std::string_view wanted) const {
  std::vector<std::string> result;
  std::vector<std::string> open{std::string(wanted)};
  while (!open.empty()) {
    std::string current = std::move(open.back());
    open.pop_back();
    for (const Service& candidate : services) {
      bool depends = std::find(candidate.depends_on.begin(), candidate.depends_on.end(), current) !=
                     candidate.depends_on.end();
      bool known = candidate.name == wanted ||
                   std::find(result.begin(), result.end(), candidate.name) != result.end();
      if (!depends || known) continue;
      result.push_back(candidate.name);
      open.push_back(candidate.name);
    }
  }
  return result;
}

}  // namespace squall::model
