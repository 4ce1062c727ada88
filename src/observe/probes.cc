// The table of probe kinds. A new kind is one file under probes/, its test, and one line here.

#include <array>

#include "base/check.h"
#include "observe/probe.h"
#include "observe/probes/kinds.h"

namespace squall::observe {
namespace {

struct Kind {
  const model::ProbeKindDescriptor* descriptor;
  ProbeFactory make;
};

constexpr std::array<Kind, 8> kKinds = {{
    {&kHttpProbe, make_http_probe},
    {&kTcpProbe, make_tcp_probe},
    {&kPostgresProbe, make_postgres_probe},
    {&kRedisProbe, make_redis_probe},
    {&kCommandProbe, make_command_probe},
    {&kProcessProbe, make_process_probe},
    {&kPrometheusProbe, make_prometheus_probe},
    {&kLogProbe, make_log_probe},
}};

}  // namespace

std::span<const model::ProbeKindDescriptor* const> probe_kinds() {
  static const auto all = [] {
    std::array<const model::ProbeKindDescriptor*, kKinds.size()> descriptors{};
    for (std::size_t i = 0; i < kKinds.size(); ++i) descriptors[i] = kKinds[i].descriptor;
    return descriptors;
  }();
  return all;
}

base::Result<std::unique_ptr<Probe>> make_probe(const model::ProbeSpecification& specification,
                                                ProbeContext context) {
  for (const Kind& kind : kKinds) {
    if (kind.descriptor == specification.kind) return kind.make(specification, std::move(context));
  }
  SQUALL_CHECK(false);  // the parser takes kinds from the same table
}

}  // namespace squall::observe
