#pragma once
// Parameters of a fault or a probe, checked against their descriptors.

#include <span>
#include <string>
#include <string_view>

#include "model/file_reader.h"
#include "model/parameters.h"
#include "model/system_map.h"
#include "model/vocabulary.h"

namespace squall::model {

struct ParameterContext {
  const FileContext& file;
  const SystemMap& map;  // services and directory are read already
};

// Reports every mistake; what could not be read is missing from the result, which is usable only
// when there are no errors. `what` names the owner in messages: "fault `outage`".
Parameters read_parameters(const ParameterContext& context, const YamlNode& node,
                           std::span<const ParameterDescriptor> descriptors,
                           const std::string& what);

// Reports an unknown service, with the nearest name. Null then.
const Service* check_service(const FileContext& file, const SystemMap& map, const YamlNode& node,
                             std::string_view name, std::string_view what);

// The signals that a fault may send, by name.
std::span<const std::string_view> signal_names();

}  // namespace squall::model
