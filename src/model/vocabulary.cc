#include "model/vocabulary.h"

#include <algorithm>

#include "base/check.h"

namespace squall::model {
namespace {

template <typename Descriptor>
const Descriptor* find(std::span<const Descriptor* const> table, std::string_view name) {
  auto found = std::find_if(table.begin(), table.end(),
                            [name](const Descriptor* entry) { return entry->name == name; });
  return found == table.end() ? nullptr : *found;
}

}  // namespace

std::string_view to_string(LifetimeClass lifetime) {
  switch (lifetime) {
    case LifetimeClass::kKernelHeld:
      return "kernel-held";
    case LifetimeClass::kJournaled:
      return "journaled";
    case LifetimeClass::kOneWay:
      return "one-way";
  }
  SQUALL_CHECK(false);
}

const FaultKindDescriptor* Vocabulary::fault(std::string_view name) const {
  return find(faults, name);
}

const ProbeKindDescriptor* Vocabulary::probe(std::string_view name) const {
  return find(probes, name);
}

}  // namespace squall::model
