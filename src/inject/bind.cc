#include "inject/faults/kinds.h"
#include "inject/faults/network/place.h"

namespace squall::inject {

namespace {

const FaultKind& kind_of(const model::FaultSpecification& fault) {
  SQUALL_CHECK(fault.kind != nullptr);
  const FaultKind* kind = find_kind(fault.kind->name);
  SQUALL_CHECK(kind != nullptr);  // the parser takes kinds from our table only
  return *kind;
}

}  // namespace

model::PlannedFault describe(const model::SystemMap& map, const model::FaultSpecification& fault) {
  const FaultKind& kind = kind_of(fault);
  model::PlannedFault planned;
  planned.name = fault.name;
  planned.kind = kind.descriptor->name;
  planned.parameters = fault.parameters;
  planned.at = fault.at;
  planned.duration = fault.duration;
  planned.overlap = fault.overlap;
  for (const std::string_view mechanism : kind.descriptor->mechanisms)
    planned.mechanisms.emplace_back(mechanism);
  planned.lifetime = kind.descriptor->weakest;
  kind.describe(map, fault, planned);
  return planned;
}

base::Result<model::FaultBinding> bind(const BindRequest& request) {
  const FaultKind& kind = kind_of(request.fault);
  const bool network = kind.descriptor->name.starts_with("network.");
  auto binding = network ? bind_in_place(kind, request) : kind.bind(request);
  if (binding.ok()) {
    binding->overlap = request.planned.overlap;
    return binding;
  }
  return std::move(binding).error().within("binding " + request.fault.name);
}

}  // namespace squall::inject
